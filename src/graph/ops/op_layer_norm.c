/* Layer normalisation over the last axis.  rows = elements / C, statistics of each row:
 *
 *   y = xhat gamma + beta,  xhat = (x - mean) rstd,  rstd = 1/sqrt(var + eps)
 *   dx = rstd (g - mean(g) - xhat mean(g xhat)),  g = dy gamma     (Ba, Kiros and Hinton, 2016)
 *   dgamma = sum over rows of dy xhat,  dbeta = sum over rows of dy */
#include "graph/ops/norm.h"
#include "graph/ops/range.h"

enum {
    EPS /* attrs.f of layer_norm */
};
enum {
    BIAS /* attrs.i of layer_norm_bwd: there is a beta */
};

static bool has_bias(const mezzo_op_use *use) {
    return use->in_count > 2 && use->in[2].shape.rank >= 0;
}

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape;
    if (x.rank < 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "x has rank %d; layer norm takes [..., C]", x.rank);
    int64_t C = x.dim[x.rank - 1];
    for (int k = 1; k < (has_bias(use) ? 3 : 2); k++)
        if (use->in[k].shape.rank != 1 || use->in[k].shape.dim[0] != C)
            return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                                 "the %s has %lld elements for C = %lld",
                                 k == 1 ? "weight" : "bias",
                                 (long long)mezzo_shape_count(use->in[k].shape), (long long)C);
    use->out[0] = (mezzo_tensor){MEZZO_F32, x};
    use->out[1] = use->out[2] = (mezzo_tensor){MEZZO_F32, mezzo_shape1(mezzo_shape_count(x) / C)};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[1].shape};
    use->out[1] = use->out[2] = (mezzo_tensor){MEZZO_F32, use->in[4].shape};
    return MEZZO_OK;
}

/* in: x, gamma, beta or none; out: y, mean, rstd. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_call *call = mzi_emit_norm(lowering, MZK_ln, use->in[0].shape);
    for (int k = 0; k < 3; k++) {
        call->out[k] = mzi_out(lowering, k);
        call->in[k] = mzi_in(lowering, k);
    }
    call->p.norm.eps = (float)use->attrs->f[EPS];
    return MEZZO_OK;
}

/* in: dy, x, mean, rstd, gamma; out: dx, dgamma, dbeta, which is 0 if there is no beta. */
static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_call *call = mzi_emit_norm(lowering, MZK_ln_bwd, use->in[1].shape);
    int64_t C = call->p.norm.C, parts = mzi_chunks(call->rows, call->grain);
    bool bias = use->attrs->i[BIAS] != 0;
    mzi_operand dgamma = mzi_scratch(lowering, MEZZO_F32, parts * C), dbeta = {0};
    if (bias)
        dbeta = mzi_scratch(lowering, MEZZO_F32, parts * C);
    call->out[0] = mzi_out(lowering, 0);
    call->out[1] = dgamma;
    call->out[2] = dbeta;
    for (int k = 0; k < 5; k++)
        call->in[k] = mzi_in(lowering, k);
    mzi_emit_sum_parts(lowering, mzi_out(lowering, 1), dgamma, parts, C, 1.0f);
    if (bias) {
        mzi_emit_sum_parts(lowering, mzi_out(lowering, 2), dbeta, parts, C, 1.0f);
        return MEZZO_OK;
    }
    call = mzi_emit(lowering, MZK_fill, C, MZI_GRAIN);
    call->out[0] = mzi_out(lowering, 2);
    call->p.e.n = C;
    return MEZZO_OK;
}

/* A sum, a sum of squares, then a multiplication and an addition. */
static double flops(const mezzo_op_use *use) {
    return 7.0 * (double)mezzo_shape_count(use->out[0].shape);
}

static double flops_bwd(const mezzo_op_use *use) {
    return 14.0 * (double)mezzo_shape_count(use->out[0].shape);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[0], use->out[1], use->out[2], use->in[1]};
    bool bias = use->in_count > 2 && use->in[2].id;
    const mezzo_attrs attrs = {.i = {[BIAS] = bias}};
    mezzo_value more[2];
    use->din[0] = mezzo_apply(use->graph, &mzi_op_layer_norm_bwd, "dx", in, 5, &attrs, more);
    use->din[1] = more[0];
    if (bias)
        use->din[2] = more[1];
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {
    {.in = {{2, {4, 5}}, {1, {5}}, {1, {5}}}, .attrs.f = {1e-5}},
    {.in = {{3, {2, 3, 7}}, {1, {7}}, {-1, {0}}}, .attrs.f = {1e-3}},
    {.in = {{2, {300, 2}}, {1, {2}}, {1, {2}}}, .attrs.f = {0.1}}};

const mezzo_op_def mzi_op_layer_norm = {
    .name = "layer_norm",
    .help = "y = (x - mean) / sqrt(var + eps) gamma + beta, statistics of each row",
    .reals = "eps",
    .in_min = 2,
    .in_max = 3,
    .out_count = 3,
    .cast = MEZZO_CAST_REDUCE,
    .in_f32 = MEZZO_BIT(1) | MEZZO_BIT(2),
    .out_f32 = MEZZO_BIT(1) | MEZZO_BIT(2),
    .inplace = MEZZO_BIT(0),
    .real_roles = "epsilon:f32",
    .range = mzi_range_norm,
    .infer = infer,
    .gradient = gradient,
    .lower = lower,
    .flops = flops,
    .cases = cases,
    .case_count = 3};

const mezzo_op_def mzi_op_layer_norm_bwd = {.name = "layer_norm_bwd",
                                            .help = "gradients of layer_norm for x, gamma and beta",
                                            .ints = "bias",
                                            .in_min = 5,
                                            .in_max = 5,
                                            .out_count = 3,
                                            .cast = MEZZO_CAST_REDUCE,
                                            .in_f32 = MEZZO_BIT(2) | MEZZO_BIT(3) | MEZZO_BIT(4),
                                            .out_f32 = MEZZO_BIT(1) | MEZZO_BIT(2),
                                            .inplace = MEZZO_BIT(0),
                                            .not_differentiable = true,
                                            .infer = infer_bwd,
                                            .lower = lower_bwd,
                                            .flops = flops_bwd};

mezzo_value mezzo_layer_norm(mezzo_graph *graph, const char *name, mezzo_value x, float eps,
                             bool bias) {
    mezzo_shape C = mzi_norm_channels(mezzo_value_shape(graph, x));
    mezzo_value in[3] = {x};
    mezzo_scope_push(graph, name);
    in[1] = mezzo_param(graph, "weight", C, (mezzo_init){MEZZO_INIT_CONSTANT, 1.0f});
    if (bias)
        in[2] = mezzo_param(graph, "bias", C, (mezzo_init){MEZZO_INIT_CONSTANT, 0.0f});
    mezzo_scope_pop(graph);
    const mezzo_attrs attrs = {.f = {[EPS] = eps > 0.0f ? (double)eps : 1e-5}};
    return mezzo_apply(graph, &mzi_op_layer_norm, name, in, bias ? 3 : 2, &attrs, NULL);
}
