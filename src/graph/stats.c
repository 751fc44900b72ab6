#include "graph/stats.h"

#include <math.h>

#include "graph/lower.h"
#include "num/number.h"

static mezzo_status infer(const mezzo_op_use *use) {
    int64_t parts = mzi_chunks(mezzo_shape_count(use->in[0].shape), MZI_GRAIN);
    use->out[0] = (mezzo_tensor){MEZZO_F64, mezzo_shape2(parts, MZK_STATS)};
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t n = mezzo_shape_count(use->in[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_stats_part, n, MZI_GRAIN);
    call->out[0] = mzi_out(lowering, 0);
    call->in[0] = mzi_in(lowering, 0);
    call->p.e.n = n;
    call->p.e.grain = MZI_GRAIN;
    call->p.e.alpha = (float)mzi_smallest_normal(use->in[0].dtype);
    return MEZZO_OK;
}

/* The host adds the parts: 48 bytes for 32768 elements. */
const mezzo_op_def mzi_op_stats = {.name = "stats",
                                   .help = "sum of squares, largest, and how many are Inf, NaN, "
                                           "subnormal, zero",
                                   .in_min = 1,
                                   .in_max = 1,
                                   .out_count = 1,
                                   .cast = MEZZO_CAST_REDUCE,
                                   .not_differentiable = true,
                                   .infer = infer,
                                   .lower = lower};

bool mzi_is_stats(const mzi_node *node, int k) {
    return node->op == &mzi_op_stats || (node->op == &mzi_op_linear_dw_stats && k == 1);
}

void mzi_stats_add(mzi_stats *total, const double *parts, uint64_t bytes, int64_t count) {
    uint64_t slots = bytes / (MZK_STATS * sizeof *parts);
    for (uint64_t k = 0; k < slots; k++, parts += MZK_STATS) {
        total->squares += parts[MZK_STAT_SQUARES];
        total->max = fmax(total->max, parts[MZK_STAT_MAX]);
        total->inf += parts[MZK_STAT_INF];
        total->nan += parts[MZK_STAT_NAN];
        total->tiny += parts[MZK_STAT_TINY];
        total->zero += parts[MZK_STAT_ZERO];
    }
    total->count += (double)count;
}
