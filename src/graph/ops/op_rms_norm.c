/* Rows over the root of their mean square (Zhang and Sennrich, 2019).  rows = elements / C, of
 * each:
 *
 *   y = xhat gamma,  xhat = x rstd,  rstd = 1/sqrt(mean x^2 + eps)
 *   dx = rstd (g - xhat mean(g xhat)),  g = dy gamma
 *   dgamma = sum over rows of dy xhat */
#include "graph/ops/norm.h"
#include "graph/ops/range.h"

enum {
    EPS /* attrs.f */
};

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape;
    if (x.rank < 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "x has rank %d; RMS norm takes [..., C]",
                             x.rank);
    int64_t C = x.dim[x.rank - 1];
    if (use->in[1].shape.rank != 1 || use->in[1].shape.dim[0] != C)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "the weight has %lld elements for C = %lld",
                             (long long)mezzo_shape_count(use->in[1].shape), (long long)C);
    use->out[0] = (mezzo_tensor){MEZZO_F32, x};
    use->out[1] = (mezzo_tensor){MEZZO_F32, mezzo_shape1(mezzo_shape_count(x) / C)};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[1].shape};
    use->out[1] = (mezzo_tensor){MEZZO_F32, use->in[3].shape};
    return MEZZO_OK;
}

/* in: x, gamma; out: y, rstd. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_call *call = mzi_emit_norm(lowering, MZK_rms, use->in[0].shape);
    for (int k = 0; k < 2; k++) {
        call->out[k] = mzi_out(lowering, k);
        call->in[k] = mzi_in(lowering, k);
    }
    call->p.norm.eps = (float)use->attrs->f[EPS];
    return MEZZO_OK;
}

/* in: dy, x, rstd, gamma; out: dx, dgamma. */
static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_call *call = mzi_emit_norm(lowering, MZK_rms_bwd, use->in[1].shape);
    int64_t C = call->p.norm.C, parts = mzi_chunks(call->rows, call->grain);
    mzi_operand dgamma = mzi_scratch(lowering, MEZZO_F32, parts * C);
    call->out[0] = mzi_out(lowering, 0);
    call->out[1] = dgamma;
    for (int k = 0; k < 4; k++)
        call->in[k] = mzi_in(lowering, k);
    mzi_emit_sum_parts(lowering, mzi_out(lowering, 1), dgamma, parts, C, 1.0f);
    return MEZZO_OK;
}

/* A sum of squares, then two multiplications. */
static double flops(const mezzo_op_use *use) {
    return 4.0 * (double)mezzo_shape_count(use->out[0].shape);
}

static double flops_bwd(const mezzo_op_use *use) {
    return 10.0 * (double)mezzo_shape_count(use->out[0].shape);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[0], use->out[1], use->in[1]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_rms_norm_bwd, "dx", in, 4, NULL, &use->din[1]);
    return MEZZO_OK;
}

/* Rows of mean square 1, times gamma; a mean keeps its share. */
static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    (void)use;
    double share = in[0].rms > 0.0 ? in[0].mean / in[0].rms : 0.0;
    return (mezzo_range){.rms = in[1].rms, .mean = in[1].rms * share};
}

static const mezzo_op_case cases[] = {{.in = {{2, {4, 5}}, {1, {5}}}, .attrs.f = {1e-5}},
                                      {.in = {{3, {2, 3, 7}}, {1, {7}}}, .attrs.f = {1e-3}},
                                      {.in = {{2, {300, 2}}, {1, {2}}}, .attrs.f = {0.1}}};

const mezzo_op_def mzi_op_rms_norm = {.name = "rms_norm",
                                      .help = "y = x / sqrt(mean x^2 + eps) gamma, of each row",
                                      .reals = "eps",
                                      .real_roles = "epsilon:f32",
                                      .in_min = 2,
                                      .in_max = 2,
                                      .out_count = 2,
                                      .cast = MEZZO_CAST_REDUCE,
                                      .in_f32 = MEZZO_BIT(1),
                                      .out_f32 = MEZZO_BIT(1),
                                      .inplace = MEZZO_BIT(0),
                                      .range = range,
                                      .infer = infer,
                                      .gradient = gradient,
                                      .lower = lower,
                                      .flops = flops,
                                      .cases = cases,
                                      .case_count = 3};

const mezzo_op_def mzi_op_rms_norm_bwd = {.name = "rms_norm_bwd",
                                          .help = "gradients of rms_norm for x and gamma",
                                          .in_min = 4,
                                          .in_max = 4,
                                          .out_count = 2,
                                          .cast = MEZZO_CAST_REDUCE,
                                          .in_f32 = MEZZO_BIT(2) | MEZZO_BIT(3),
                                          .out_f32 = MEZZO_BIT(1),
                                          .inplace = MEZZO_BIT(0),
                                          .not_differentiable = true,
                                          .infer = infer_bwd,
                                          .lower = lower_bwd,
                                          .flops = flops_bwd};

mezzo_value mezzo_rms_norm(mezzo_graph *graph, const char *name, mezzo_value x, float eps) {
    mezzo_shape C = mzi_norm_channels(mezzo_value_shape(graph, x));
    const mezzo_attrs attrs = {.f = {[EPS] = eps > 0.0f ? (double)eps : 1e-5}};
    mezzo_scope_push(graph, name);
    const mezzo_value in[] = {
        x, mezzo_param(graph, "weight", C, (mezzo_init){MEZZO_INIT_CONSTANT, 1.0f})};
    mezzo_scope_pop(graph);
    return mezzo_apply(graph, &mzi_op_rms_norm, name, in, 2, &attrs, NULL);
}
