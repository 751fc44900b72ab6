/* y = x w^T + bias, and its two gradients: dx = dy w, dw = dy^T x.
 *
 *   x [...,K]   w [N,K]   bias [N]   y [...,N]      M: the product of the leading axes
 *
 * Rows of the result are cut into chunks; K is never split, so sums do not depend on workers. */
#include <math.h>

#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

static int64_t last(mezzo_shape shape) {
    return shape.dim[shape.rank - 1];
}

/* `shape` with `columns` in place of its last axis. */
static mezzo_tensor with_columns(mezzo_shape shape, int64_t columns) {
    shape.dim[shape.rank - 1] = columns;
    return (mezzo_tensor){MEZZO_F32, shape};
}

static mezzo_status infer_linear(const mezzo_op_use *use) {
    if (use->in[0].shape.rank < 2 || use->in[1].shape.rank != 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "x has rank %d and the weight %d; linear takes [...,K] with at least "
                             "one row, and [N,K]",
                             use->in[0].shape.rank, use->in[1].shape.rank);
    int64_t K = last(use->in[0].shape), N = use->in[1].shape.dim[0];
    if (use->in[1].shape.dim[1] != K)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "K is %lld in x and %lld in the weight",
                             (long long)K, (long long)use->in[1].shape.dim[1]);
    if (use->in_count > 2 && use->in[2].shape.rank >= 0 && mezzo_shape_count(use->in[2].shape) != N)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "the bias has %lld elements for N = %lld",
                             (long long)mezzo_shape_count(use->in[2].shape), (long long)N);
    use->out[0] = with_columns(use->in[0].shape, N);
    return MEZZO_OK;
}

static mezzo_status infer_dx(const mezzo_op_use *use) {
    use->out[0] = with_columns(use->in[0].shape, use->in[1].shape.dim[1]);
    return MEZZO_OK;
}

static mezzo_status infer_dw(const mezzo_op_use *use) {
    use->out[0] =
        (mezzo_tensor){MEZZO_F32, mezzo_shape2(last(use->in[0].shape), last(use->in[1].shape))};
    return MEZZO_OK;
}

static mzk_matmul_params params_dw(const mezzo_op_use *use) {
    const int64_t *dw = use->out[0].shape.dim;
    int64_t K = mezzo_shape_count(use->in[0].shape) / dw[0];
    return (mzk_matmul_params){.M = dw[0], .N = dw[1], .K = K, .transpose_a = 1};
}

static mezzo_status infer_dw_stats(const mezzo_op_use *use) {
    MZI_TRY(infer_dw(use));
    mzk_matmul_params params = params_dw(use);
    use->out[1] = (mezzo_tensor){MEZZO_F64, mezzo_shape2(mzk_matmul_cut(&params), MZK_STATS)};
    return MEZZO_OK;
}

static mzi_call *emit_matmul(mzi_lowering *lowering, mzk_matmul_params params) {
    mzi_call *call = mzi_emit(lowering, MZK_matmul, params.M, mzi_grain_matmul(params.M));
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 3; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.matmul = params;
    return call;
}

static mezzo_status lower_linear(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t K = last(use->in[0].shape), N = last(use->out[0].shape);
    int64_t M = mezzo_shape_count(use->out[0].shape) / N;
    emit_matmul(lowering, (mzk_matmul_params){.M = M, .N = N, .K = K, .transpose_b = 1});
    return MEZZO_OK;
}

static mezzo_status lower_dx(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t K = last(use->in[0].shape), N = last(use->out[0].shape);
    int64_t M = mezzo_shape_count(use->out[0].shape) / N;
    emit_matmul(lowering, (mzk_matmul_params){.M = M, .N = N, .K = K});
    return MEZZO_OK;
}

static mezzo_status lower_dw(const mezzo_op_use *use, mzi_lowering *lowering) {
    emit_matmul(lowering, params_dw(use));
    return MEZZO_OK;
}

static mezzo_status lower_dw_stats(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_call *call = emit_matmul(lowering, params_dw(use));
    call->out[1] = mzi_out(lowering, 1);
    return MEZZO_OK;
}

static double flops_linear(const mezzo_op_use *use) {
    return 2.0 * (double)mezzo_shape_count(use->out[0].shape) * (double)last(use->in[0].shape);
}

static double flops_dw(const mezzo_op_use *use) {
    return 2.0 * (double)mezzo_shape_count(use->in[0].shape) * (double)last(use->in[1].shape);
}

static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    mezzo_range sum = mzi_range_sum((double)last(use->in[0].shape), mzi_range_mul(in[0], in[1]));
    return mzi_range_add(sum, in[2]);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    mezzo_value dy = use->dout[0];
    const mezzo_value dy_w[] = {dy, use->in[1]}, dy_x[] = {dy, use->in[0]};
    if (use->wanted[1])
        use->din[1] = mezzo_apply(use->graph, &mzi_op_linear_dw, "dw", dy_x, 2, NULL, NULL);
    if (use->in_count > 2 && use->wanted[2])
        use->din[2] = mezzo_apply(use->graph, &mzi_op_column_sum, "db", &dy, 1, NULL, NULL);
    if (use->wanted[0])
        use->din[0] = mezzo_apply(use->graph, &mzi_op_linear_dx, "dx", dy_w, 2, NULL, NULL);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {{.in = {{2, {4, 3}}, {2, {5, 3}}, {1, {5}}}},
                                      {.in = {{2, {1, 7}}, {2, {2, 7}}, {1, {2}}}},
                                      {.in = {{2, {33, 4}}, {2, {3, 4}}, {1, {3}}}},
                                      {.in = {{3, {2, 3, 4}}, {2, {5, 4}}, {1, {5}}}}};

const mezzo_op_def mzi_op_linear = {.name = "linear",
                                    .help = "y = x w^T + bias",
                                    .in_min = 2,
                                    .in_max = 3,
                                    .out_count = 1,
                                    .cast = MEZZO_CAST_LOW,
                                    .in_f32 = MEZZO_BIT(2),
                                    .range = range,
                                    .infer = infer_linear,
                                    .gradient = gradient,
                                    .lower = lower_linear,
                                    .flops = flops_linear,
                                    .cases = cases,
                                    .case_count = 4};

const mezzo_op_def mzi_op_linear_dx = {.name = "linear_dx",
                                       .help = "dx = dy w",
                                       .in_min = 2,
                                       .in_max = 2,
                                       .out_count = 1,
                                       .cast = MEZZO_CAST_LOW,
                                       .not_differentiable = true,
                                       .infer = infer_dx,
                                       .lower = lower_dx,
                                       .flops = flops_linear};

const mezzo_op_def mzi_op_linear_dw = {.name = "linear_dw",
                                       .help = "dw = dy^T x",
                                       .in_min = 2,
                                       .in_max = 2,
                                       .out_count = 1,
                                       .cast = MEZZO_CAST_LOW,
                                       .out_f32 = MEZZO_BIT(0),
                                       .out_gradient = MEZZO_BIT(0),
                                       .not_differentiable = true,
                                       .infer = infer_dw,
                                       .lower = lower_dw,
                                       .flops = flops_dw};

const mezzo_op_def mzi_op_linear_dw_stats = {.name = "linear_dw_stats",
                                             .help = "dw = dy^T x, and its figures by stats",
                                             .in_min = 2,
                                             .in_max = 2,
                                             .out_count = 2,
                                             .cast = MEZZO_CAST_LOW,
                                             .out_f32 = MEZZO_BIT(0),
                                             .out_gradient = MEZZO_BIT(0),
                                             .not_differentiable = true,
                                             .infer = infer_dw_stats,
                                             .lower = lower_dw_stats,
                                             .flops = flops_dw};

mezzo_value mezzo_linear_with(mezzo_graph *graph, const char *name, mezzo_value x,
                              mezzo_value weight, mezzo_value bias) {
    const mezzo_value in[] = {x, weight, bias};
    return mezzo_apply(graph, &mzi_op_linear, name, in, bias.id ? 3 : 2, NULL, NULL);
}

mezzo_value mezzo_linear(mezzo_graph *graph, const char *name, mezzo_value x, int64_t features,
                         bool bias) {
    mezzo_shape shape = mezzo_value_shape(graph, x);
    int64_t K = shape.rank > 0 ? last(shape) : 1;
    mezzo_init init = {MEZZO_INIT_UNIFORM, 1.0f / sqrtf((float)K)};
    mezzo_value b = {0};
    mezzo_scope_push(graph, name);
    mezzo_value w = mezzo_param(graph, "weight", mezzo_shape2(features, K), init);
    if (bias)
        b = mezzo_param(graph, "bias", mezzo_shape1(features), init);
    mezzo_scope_pop(graph);
    return mezzo_linear_with(graph, name, x, w, b);
}
