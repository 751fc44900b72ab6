/* A shape among an operation's constants: attrs.i holds the rank, then the dimensions. */
#ifndef MZI_GRAPH_OPS_SHAPE_ATTRS_H
#define MZI_GRAPH_OPS_SHAPE_ATTRS_H

#include "mezzo/op.h"

#define MZI_SHAPE_INTS "rank dim0 dim1 dim2 dim3 dim4 dim5"

static inline mezzo_attrs mzi_attrs_of_shape(mezzo_shape shape) {
    mezzo_attrs attrs = {.i = {shape.rank}};
    for (int d = 0; d < shape.rank && d < MEZZO_RANK_MAX; d++)
        attrs.i[1 + d] = shape.dim[d];
    return attrs;
}

static inline mezzo_shape mzi_shape_of_attrs(const mezzo_attrs *attrs) {
    mezzo_shape shape = {.rank = (int32_t)attrs->i[0]};
    for (int d = 0; d < shape.rank && d < MEZZO_RANK_MAX; d++)
        shape.dim[d] = attrs->i[1 + d];
    return shape;
}

#endif
