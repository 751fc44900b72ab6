/* Expected sizes that several operations share; docs/lint.md derives them. */
#ifndef MZI_GRAPH_OPS_RANGE_H
#define MZI_GRAPH_OPS_RANGE_H

#include "mezzo/op.h"

/* `terms` elements added: their random parts by their squares, their means as they are. */
mezzo_range mzi_range_sum(double terms, mezzo_range x);
/* Two tensors that are independent of each other. */
mezzo_range mzi_range_add(mezzo_range a, mezzo_range b);
mezzo_range mzi_range_mul(mezzo_range a, mezzo_range b);
mezzo_range mzi_range_times(mezzo_range x, double factor);

/* The field `range` of an operation: that of in[0] (or less); half of a symmetric x (relu, gelu);
 * in[1] and in[2] as gain and shift of what has been normalised. */
mezzo_range mzi_range_same(const mezzo_op_use *use, const mezzo_range *in);
mezzo_range mzi_range_half(const mezzo_op_use *use, const mezzo_range *in);
mezzo_range mzi_range_norm(const mezzo_op_use *use, const mezzo_range *in);

#endif
