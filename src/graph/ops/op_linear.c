/* y = x w^T + bias, and its two gradients: dx = dy w, dw = dy^T x.
 *
 *   x [M,K]   w [N,K]   bias [N]   y [M,N]
 *
 * Rows of the result are cut into chunks; K is never split, so sums do not depend on workers. */
#include <math.h>

#include "graph/lower.h"
#include "mezzo/ops.h"

static bool is_matrix(const mezzo_op_use *use, int k) {
    return use->in[k].shape.rank == 2;
}

static mezzo_status infer_linear(const mezzo_op_use *use) {
    if (!is_matrix(use, 0) || !is_matrix(use, 1))
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "x has rank %d; linear takes [M,K]: flatten it first",
                             use->in[0].shape.rank);
    int64_t K = use->in[0].shape.dim[1], N = use->in[1].shape.dim[0];
    if (use->in[1].shape.dim[1] != K)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "K is %lld in x and %lld in the weight",
                             (long long)K, (long long)use->in[1].shape.dim[1]);
    if (use->in_count > 2 && use->in[2].shape.rank >= 0 && mezzo_shape_count(use->in[2].shape) != N)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "the bias has %lld elements for N = %lld",
                             (long long)mezzo_shape_count(use->in[2].shape), (long long)N);
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape2(use->in[0].shape.dim[0], N)};
    return MEZZO_OK;
}

static mezzo_status infer_dx(const mezzo_op_use *use) {
    use->out[0] =
        (mezzo_tensor){MEZZO_F32, mezzo_shape2(use->in[0].shape.dim[0], use->in[1].shape.dim[1])};
    return MEZZO_OK;
}

static mezzo_status infer_dw(const mezzo_op_use *use) {
    use->out[0] =
        (mezzo_tensor){MEZZO_F32, mezzo_shape2(use->in[0].shape.dim[1], use->in[1].shape.dim[1])};
    return MEZZO_OK;
}

static void emit_matmul(mzi_lowering *lowering, mzk_matmul_params params) {
    mzi_call *call = mzi_emit(lowering, MZK_matmul, params.M, mzi_grain_matmul(params.M));
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 3; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.matmul = params;
}

static mezzo_status lower_linear(const mezzo_op_use *use, mzi_lowering *lowering) {
    const int64_t *y = use->out[0].shape.dim;
    emit_matmul(lowering, (mzk_matmul_params){y[0], y[1], use->in[0].shape.dim[1], 0, 1});
    return MEZZO_OK;
}

static mezzo_status lower_dx(const mezzo_op_use *use, mzi_lowering *lowering) {
    const int64_t *dx = use->out[0].shape.dim;
    emit_matmul(lowering, (mzk_matmul_params){dx[0], dx[1], use->in[0].shape.dim[1], 0, 0});
    return MEZZO_OK;
}

static mezzo_status lower_dw(const mezzo_op_use *use, mzi_lowering *lowering) {
    const int64_t *dw = use->out[0].shape.dim;
    emit_matmul(lowering, (mzk_matmul_params){dw[0], dw[1], use->in[0].shape.dim[0], 1, 0});
    return MEZZO_OK;
}

static double flops_linear(const mezzo_op_use *use) {
    return 2.0 * (double)mezzo_shape_count(use->out[0].shape) * (double)use->in[0].shape.dim[1];
}

static double flops_dw(const mezzo_op_use *use) {
    return 2.0 * (double)mezzo_shape_count(use->out[0].shape) * (double)use->in[0].shape.dim[0];
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
                                      {.in = {{2, {33, 4}}, {2, {3, 4}}, {1, {3}}}}};

const mezzo_op_def mzi_op_linear = {.name = "linear",
                                    .help = "y = x w^T + bias",
                                    .in_min = 2,
                                    .in_max = 3,
                                    .out_count = 1,
                                    .cast = MEZZO_CAST_LOW,
                                    .in_f32 = MEZZO_BIT(2),
                                    .infer = infer_linear,
                                    .gradient = gradient,
                                    .lower = lower_linear,
                                    .flops = flops_linear,
                                    .cases = cases,
                                    .case_count = 3};

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
                                       .not_differentiable = true,
                                       .infer = infer_dw,
                                       .lower = lower_dw,
                                       .flops = flops_dw};

mezzo_value mezzo_linear(mezzo_graph *graph, const char *name, mezzo_value x, int64_t features,
                         bool bias) {
    mezzo_shape shape = mezzo_value_shape(graph, x);
    int64_t K = shape.rank == 2 ? shape.dim[1] : 1;
    mezzo_init init = {MEZZO_INIT_UNIFORM, 1.0f / sqrtf((float)K)};
    mezzo_value in[3] = {x};
    mezzo_scope_push(graph, name);
    in[1] = mezzo_param(graph, "weight", mezzo_shape2(features, K), init);
    if (bias)
        in[2] = mezzo_param(graph, "bias", mezzo_shape1(features), init);
    mezzo_scope_pop(graph);
    return mezzo_apply(graph, &mzi_op_linear, name, in, bias ? 3 : 2, NULL, NULL);
}
