/* What the normalisations of rows [..., C] share. */
#ifndef MZI_GRAPH_OPS_NORM_H
#define MZI_GRAPH_OPS_NORM_H

#include "graph/lower.h"
#include "mezzo/ops.h"

/* A vector of C for x [..., C]: the shape of a gain or a shift. */
static inline mezzo_shape mzi_norm_channels(mezzo_shape x) {
    return mezzo_shape1(x.rank > 0 ? x.dim[x.rank - 1] : 1);
}

/* A call over the rows of `x`.  Sums over a chunk's rows are FP32: few rows keep their error small
 * where rows are short. */
static inline mzi_call *mzi_emit_norm(mzi_lowering *lowering, mzk_family family, mezzo_shape x) {
    enum {
        ROWS_MAX = 256
    };
    int64_t C = x.dim[x.rank - 1], grain = mzi_grain_rows(C);
    mzi_call *call =
        mzi_emit(lowering, family, mezzo_shape_count(x) / C, grain < ROWS_MAX ? grain : ROWS_MAX);
    call->p.norm.rows = call->rows;
    call->p.norm.C = C;
    call->p.norm.grain = call->grain;
    return call;
}

#endif
