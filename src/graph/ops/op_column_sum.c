/* y[n] = sum over rows of x[rows,n]: the gradient of a bias. */
#include "graph/lower.h"

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape;
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape1(x.rank ? x.dim[x.rank - 1] : 1)};
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t n = use->out[0].shape.dim[0];
    int64_t rows = mezzo_shape_count(use->in[0].shape) / n, grain = mzi_grain_rows(n);
    int64_t parts = mzi_chunks(rows, grain);
    mzi_operand part = mzi_scratch(lowering, MEZZO_F32, parts * n);
    mzi_call *call = mzi_emit(lowering, MZK_colsum_part, rows, grain);
    call->out[0] = part;
    call->in[0] = mzi_in(lowering, 0);
    call->p.e.n = n;
    call->p.e.grain = grain;
    mzi_emit_sum_parts(lowering, mzi_out(lowering, 0), part, parts, n, 1.0f);
    return MEZZO_OK;
}

static double flops(const mezzo_op_use *use) {
    return (double)mezzo_shape_count(use->in[0].shape);
}

const mezzo_op_def mzi_op_column_sum = {.name = "column_sum",
                                        .help = "y = sum over rows of x",
                                        .in_min = 1,
                                        .in_max = 1,
                                        .out_count = 1,
                                        .cast = MEZZO_CAST_REDUCE,
                                        .out_f32 = MEZZO_BIT(0),
                                        .not_differentiable = true,
                                        .infer = infer,
                                        .lower = lower,
                                        .flops = flops};
