/* Batch normalisation over all axes but the last.  rows = elements / C.
 *
 *   y = xhat gamma + beta,  xhat = (x - mean) rstd,  rstd = 1/sqrt(var + eps)
 *   dx = gamma rstd (dy - mean(dy) - xhat mean(dy xhat))      (Ioffe and Szegedy, 2015)
 *
 * The running statistics are not written: their next values are outputs, which the step copies to
 * the state when it commits. */
#include "graph/ops/norm.h"
#include "graph/ops/range.h"

enum {
    EPS,
    MOMENTUM
}; /* attrs.f */

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape;
    if (x.rank < 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "x has rank %d; batch norm takes [..., C]", x.rank);
    int64_t C = x.dim[x.rank - 1];
    if (mezzo_shape_count(x) / C < 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "one value a channel has no variance: the batch is too small");
    use->out[0] = (mezzo_tensor){MEZZO_F32, x};
    for (int k = 1; k < 5; k++)
        use->out[k] = (mezzo_tensor){MEZZO_F32, mezzo_shape1(C)};
    return MEZZO_OK;
}

static mezzo_status infer_eval(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[0].shape};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[1].shape};
    use->out[1] = use->out[2] = (mezzo_tensor){MEZZO_F32, use->in[2].shape};
    return MEZZO_OK;
}

typedef struct norm_shape {
    int64_t rows, C, grain, parts;
} norm_shape;

static norm_shape shape_of(mezzo_shape x) {
    norm_shape s = {.C = x.dim[x.rank - 1]};
    s.rows = mezzo_shape_count(x) / s.C;
    s.grain = mzi_grain_rows(s.C);
    s.parts = mzi_chunks(s.rows, s.grain);
    return s;
}

static mzi_call *emit(mzi_lowering *lowering, mzk_family family, int64_t rows, norm_shape s,
                      const mezzo_attrs *attrs) {
    mzi_call *call = mzi_emit(lowering, family, rows, rows == 1 ? 1 : s.grain);
    call->p.norm.rows = s.rows;
    call->p.norm.C = s.C;
    call->p.norm.grain = s.grain;
    call->p.norm.parts = s.parts;
    call->p.norm.eps = (float)attrs->f[EPS];
    call->p.norm.momentum = (float)attrs->f[MOMENTUM];
    return call;
}

/* in: x, gamma, beta, running_mean, running_var; out: y, mean, rstd, next_mean, next_var. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    norm_shape s = shape_of(use->in[0].shape);
    mzi_operand part = mzi_scratch(lowering, MEZZO_F64, s.parts * 2 * s.C);
    mzi_call *call = emit(lowering, MZK_bn_part, s.rows, s, use->attrs);
    call->out[0] = part;
    call->in[0] = mzi_in(lowering, 0);
    call = emit(lowering, MZK_bn_stats, 1, s, use->attrs);
    for (int k = 0; k < 4; k++)
        call->out[k] = mzi_out(lowering, 1 + k);
    call->in[0] = part;
    call->in[1] = mzi_in(lowering, 3);
    call->in[2] = mzi_in(lowering, 4);
    call = emit(lowering, MZK_bn_apply, s.rows, s, use->attrs);
    call->out[0] = mzi_out(lowering, 0);
    call->in[0] = mzi_in(lowering, 0);
    call->in[1] = mzi_out(lowering, 1);
    call->in[2] = mzi_out(lowering, 2);
    call->in[3] = mzi_in(lowering, 1);
    call->in[4] = mzi_in(lowering, 2);
    return MEZZO_OK;
}

static mezzo_status lower_eval(const mezzo_op_use *use, mzi_lowering *lowering) {
    norm_shape s = shape_of(use->in[0].shape);
    mzi_operand rstd = mzi_scratch(lowering, MEZZO_F32, s.C);
    mzi_call *call = emit(lowering, MZK_bn_rstd, 1, s, use->attrs);
    call->out[0] = rstd;
    call->in[0] = mzi_in(lowering, 4);
    call = emit(lowering, MZK_bn_apply, s.rows, s, use->attrs);
    call->out[0] = mzi_out(lowering, 0);
    call->in[0] = mzi_in(lowering, 0);
    call->in[1] = mzi_in(lowering, 3);
    call->in[2] = rstd;
    call->in[3] = mzi_in(lowering, 1);
    call->in[4] = mzi_in(lowering, 2);
    return MEZZO_OK;
}

/* in: dy, x, mean, rstd, gamma; out: dx, dgamma, dbeta. */
static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    norm_shape s = shape_of(use->in[1].shape);
    mzi_operand part_dgamma = mzi_scratch(lowering, MEZZO_F32, s.parts * s.C);
    mzi_operand part_dbeta = mzi_scratch(lowering, MEZZO_F32, s.parts * s.C);
    mzi_operand dgamma = mzi_out(lowering, 1), dbeta = mzi_out(lowering, 2);
    mzi_call *call = emit(lowering, MZK_bn_bwd_part, s.rows, s, use->attrs);
    call->out[0] = part_dgamma;
    call->out[1] = part_dbeta;
    for (int k = 0; k < 4; k++)
        call->in[k] = mzi_in(lowering, k);
    mzi_emit_sum_parts(lowering, dgamma, part_dgamma, s.parts, s.C, 1.0f);
    mzi_emit_sum_parts(lowering, dbeta, part_dbeta, s.parts, s.C, 1.0f);
    call = emit(lowering, MZK_bn_bwd_apply, s.rows, s, use->attrs);
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 5; k++)
        call->in[k] = mzi_in(lowering, k);
    call->in[5] = dbeta;
    call->in[6] = dgamma;
    return MEZZO_OK;
}

/* Sums and sums of squares, then a multiplication and an addition. */
static double flops(const mezzo_op_use *use) {
    return 5.0 * (double)mezzo_shape_count(use->out[0].shape);
}

static double flops_bwd(const mezzo_op_use *use) {
    return 9.0 * (double)mezzo_shape_count(use->out[0].shape);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[0], use->out[1], use->out[2], use->in[1]};
    use->din[0] =
        mezzo_apply(use->graph, &mzi_op_batch_norm_bwd, "dx", in, 5, use->attrs, &use->din[1]);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {
    {.in = {{2, {6, 3}}, {1, {3}}, {1, {3}}, {1, {3}}, {1, {3}}}, .attrs = {.f = {1e-5, 0.1}}},
    {.in = {{4, {2, 3, 2, 5}}, {1, {5}}, {1, {5}}, {1, {5}}, {1, {5}}},
     .attrs = {.f = {1e-3, 0.1}}}};

const mezzo_op_def mzi_op_batch_norm = {
    .name = "batch_norm",
    .help = "y = (x - mean) / sqrt(var + eps) gamma + beta, statistics of the batch",
    .reals = "eps momentum",
    .in_min = 5,
    .in_max = 5,
    .out_count = 5,
    .cast = MEZZO_CAST_REDUCE,
    .in_f32 = MEZZO_BIT(1) | MEZZO_BIT(2) | MEZZO_BIT(3) | MEZZO_BIT(4),
    .out_f32 = MEZZO_BIT(1) | MEZZO_BIT(2) | MEZZO_BIT(3) | MEZZO_BIT(4),
    .constant_in = MEZZO_BIT(3) | MEZZO_BIT(4),
    .real_roles = "epsilon:f32 -",
    .range = mzi_range_norm,
    .infer = infer,
    .gradient = gradient,
    .lower = lower,
    .flops = flops,
    .cases = cases,
    .case_count = 2};

const mezzo_op_def mzi_op_batch_norm_eval = {
    .name = "batch_norm_eval",
    .help = "y = (x - mean) / sqrt(var + eps) gamma + beta, running statistics",
    .reals = "eps momentum",
    .in_min = 5,
    .in_max = 5,
    .out_count = 1,
    .cast = MEZZO_CAST_REDUCE,
    .in_f32 = MEZZO_BIT(1) | MEZZO_BIT(2) | MEZZO_BIT(3) | MEZZO_BIT(4),
    .constant_in = MEZZO_BIT(3) | MEZZO_BIT(4),
    .inplace = MEZZO_BIT(0),
    .not_differentiable = true,
    .real_roles = "epsilon:f32 -",
    .range = mzi_range_norm,
    .infer = infer_eval,
    .lower = lower_eval};

const mezzo_op_def mzi_op_batch_norm_bwd = {.name = "batch_norm_bwd",
                                            .help = "gradients of batch_norm for x, gamma and beta",
                                            .reals = "eps momentum",
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

mezzo_value mezzo_batch_norm(mezzo_graph *graph, const char *name, mezzo_value x, float eps,
                             float momentum) {
    mezzo_shape C = mzi_norm_channels(mezzo_value_shape(graph, x));
    mezzo_init zero = {MEZZO_INIT_CONSTANT, 0.0f}, one = {MEZZO_INIT_CONSTANT, 1.0f};
    mezzo_value more[4];
    mezzo_scope_push(graph, name);
    mezzo_value in[] = {x, mezzo_param(graph, "weight", C, one),
                        mezzo_param(graph, "bias", C, zero),
                        mzi_graph_state(graph, mzi_graph_name(graph, "running_mean", NULL),
                                        MZI_VALUE_STATE, C, zero),
                        mzi_graph_state(graph, mzi_graph_name(graph, "running_var", NULL),
                                        MZI_VALUE_STATE, C, one)};
    mezzo_scope_pop(graph);
    mezzo_attrs attrs = {
        .f = {eps > 0.0f ? (double)eps : 1e-5, momentum > 0.0f ? (double)momentum : 0.1}};
    if (mezzo_graph_entry(graph) != MEZZO_ENTRY_TRAIN)
        return mezzo_apply(graph, &mzi_op_batch_norm_eval, name, in, 5, &attrs, NULL);
    mezzo_value y = mezzo_apply(graph, &mzi_op_batch_norm, name, in, 5, &attrs, more);
    mzi_graph_add_commit(graph, in[3], more[2]);
    mzi_graph_add_commit(graph, in[4], more[3]);
    return y;
}
