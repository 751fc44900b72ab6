/* Causal attention with grouped heads, and one token of it over a cache.
 *
 *   qkv [B,T,(H + 2 G) D]   in each token H queries, G keys, G values; head h reads group h / (H/G)
 *   s_ij = q_i k_j / sqrt(D) for j <= i      p_ij = exp(s_ij) / sum_j exp(s_ij)      y_i = p_i v
 *
 * Neither scores nor weights are stored: forward keeps lse_i = log sum_j exp(s_ij), from which
 * backward makes the weights again.  A chunk is one head, backward one group, so that no sum spans
 * chunks. */
#include <math.h>

#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

enum {
    HEADS,
    KV_HEADS
}; /* attrs.i */

typedef struct heads {
    int64_t B, T, H, G, D;
} heads;

/* D is 0 if the shape is none of attention's. */
static heads heads_of(const mezzo_attrs *attrs, mezzo_shape qkv) {
    heads s = {.H = attrs->i[HEADS], .G = attrs->i[KV_HEADS]};
    int64_t parts = s.H + 2 * s.G;
    if (qkv.rank != 3 || s.H < 1 || s.G < 1 || s.H % s.G || qkv.dim[2] % parts)
        return s;
    s.B = qkv.dim[0];
    s.T = qkv.dim[1];
    s.D = qkv.dim[2] / parts;
    return s;
}

static mezzo_status check_heads(const mezzo_op_use *use, heads *out) {
    mezzo_shape qkv = use->in[0].shape;
    const int64_t *i = use->attrs->i;
    *out = heads_of(use->attrs, qkv);
    if (qkv.rank != 3)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "qkv has rank %d; attention takes [B,T,E]", qkv.rank);
    if (i[HEADS] < 1 || i[KV_HEADS] < 1 || i[HEADS] % i[KV_HEADS])
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "%lld heads for %lld key and value heads: the second must divide the "
                             "first",
                             (long long)i[HEADS], (long long)i[KV_HEADS]);
    if (!out->D)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "qkv has %lld elements a token, which %lld heads and 2 x %lld key and "
                             "value heads do not divide",
                             (long long)qkv.dim[2], (long long)i[HEADS], (long long)i[KV_HEADS]);
    return MEZZO_OK;
}

static mezzo_status infer(const mezzo_op_use *use) {
    heads s = {0};
    mezzo_status status = check_heads(use, &s);
    if (status != MEZZO_OK)
        return status;
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape3(s.B, s.T, s.H * s.D)};
    use->out[1] = (mezzo_tensor){MEZZO_F32, mezzo_shape3(s.B, s.H, s.T)};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[1].shape};
    return MEZZO_OK;
}

static mezzo_status infer_decode(const mezzo_op_use *use) {
    heads s = {0};
    mezzo_shape k = use->in[1].shape, v = use->in[2].shape;
    mezzo_status status = check_heads(use, &s);
    if (status != MEZZO_OK)
        return status;
    if (s.T != 1)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "%lld tokens; decoding takes one at a time", (long long)s.T);
    int64_t width = s.G * s.D;
    if (k.rank != 3 || k.dim[0] != s.B || k.dim[2] != width || !mezzo_shape_equal(k, v) ||
        mezzo_shape_count(use->in[3].shape) != 1)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "the caches must be [%lld,P,%lld], the position [1]", (long long)s.B,
                             (long long)width);
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape3(s.B, 1, s.H * s.D)};
    return MEZZO_OK;
}

static mzi_call *emit(mzi_lowering *lowering, mzk_family family, int64_t rows, heads s, int64_t P) {
    mzi_call *call = mzi_emit(lowering, family, rows, 1);
    call->p.attention.B = s.B;
    call->p.attention.T = s.T;
    call->p.attention.H = s.H;
    call->p.attention.G = s.G;
    call->p.attention.D = s.D;
    call->p.attention.P = P;
    call->p.attention.scale = (float)(1.0 / sqrt((double)s.D));
    return call;
}

/* in: qkv; out: y, lse. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    heads s = heads_of(use->attrs, use->in[0].shape);
    mzi_call *call = emit(lowering, MZK_attention, s.B * s.H, s, 0);
    call->out[0] = mzi_out(lowering, 0);
    call->out[1] = mzi_out(lowering, 1);
    call->in[0] = mzi_in(lowering, 0);
    return MEZZO_OK;
}

/* in: dy, qkv, y, lse. */
static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    heads s = heads_of(use->attrs, use->in[1].shape);
    mzi_call *call = emit(lowering, MZK_attention_bwd, s.B * s.G, s, 0);
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 4; k++)
        call->in[k] = mzi_in(lowering, k);
    return MEZZO_OK;
}

/* in: qkv, k, v, position; out: y.  The caches are written in place, then read. */
static mezzo_status lower_decode(const mezzo_op_use *use, mzi_lowering *lowering) {
    heads s = heads_of(use->attrs, use->in[0].shape);
    int64_t P = use->in[1].shape.dim[1];
    mzi_call *call = emit(lowering, MZK_kv_append, s.B, s, P);
    call->in[0] = mzi_in(lowering, 0);
    call->in[1] = mzi_in(lowering, 3);
    for (int k = 0; k < 2; k++)
        call->out[k] = call->in[2 + k] = mzi_in(lowering, 1 + k);
    call = emit(lowering, MZK_attention_decode, s.B * s.H, s, P);
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 4; k++)
        call->in[k] = mzi_in(lowering, k);
    return MEZZO_OK;
}

/* Two products of 2 D operations for each of the T (T + 1) / 2 pairs of a head. */
static double pair_flops(heads s) {
    return 4.0 * (double)s.D * (double)(s.B * s.H) * (double)s.T * (double)(s.T + 1) / 2.0;
}

static double flops(const mezzo_op_use *use) {
    return pair_flops(heads_of(use->attrs, use->in[0].shape));
}

/* Five products: scores, dp, dq, dk, dv. */
static double flops_bwd(const mezzo_op_use *use) {
    return 2.5 * pair_flops(heads_of(use->attrs, use->in[1].shape));
}

/* Over a full cache. */
static double flops_decode(const mezzo_op_use *use) {
    heads s = heads_of(use->attrs, use->in[0].shape);
    return 4.0 * (double)(s.B * s.H * s.D) * (double)use->in[1].shape.dim[1];
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[0], use->out[0], use->out[1]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_attention_bwd, "dx", in, 4, use->attrs, NULL);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {{.in = {{3, {2, 1, 6}}}, .attrs = {.i = {1, 1}}},
                                      {.in = {{3, {1, 5, 9}}}, .attrs = {.i = {1, 1}}},
                                      {.in = {{3, {2, 4, 24}}}, .attrs = {.i = {4, 2}}},
                                      {.in = {{3, {1, 7, 15}}}, .attrs = {.i = {3, 1}}}};

const mezzo_op_def mzi_op_attention = {
    .name = "attention",
    .help = "y_i = sum over j <= i of softmax(q_i k_j / sqrt(D)) v_j, in each head",
    .ints = "heads kv_heads",
    .in_min = 1,
    .in_max = 1,
    .out_count = 2,
    .cast = MEZZO_CAST_REDUCE,
    .out_f32 = MEZZO_BIT(1),
    .range = mzi_range_same,
    .infer = infer,
    .gradient = gradient,
    .lower = lower,
    .flops = flops,
    .cases = cases,
    .case_count = 4};

const mezzo_op_def mzi_op_attention_bwd = {.name = "attention_bwd",
                                           .help = "gradient of attention for qkv",
                                           .ints = "heads kv_heads",
                                           .in_min = 4,
                                           .in_max = 4,
                                           .out_count = 1,
                                           .cast = MEZZO_CAST_REDUCE,
                                           .in_f32 = MEZZO_BIT(3),
                                           .not_differentiable = true,
                                           .infer = infer_bwd,
                                           .lower = lower_bwd,
                                           .flops = flops_bwd};

const mezzo_op_def mzi_op_attention_decode = {
    .name = "attention_decode",
    .help = "attention of one token over the cache, which its key and value are added to",
    .ints = "heads kv_heads",
    .in_min = 4,
    .in_max = 4,
    .out_count = 1,
    .cast = MEZZO_CAST_REDUCE,
    .in_f32 = MEZZO_BIT(1) | MEZZO_BIT(2),
    .in_int = MEZZO_BIT(3),
    .constant_in = MEZZO_BIT(1) | MEZZO_BIT(2) | MEZZO_BIT(3),
    .not_differentiable = true,
    .range = mzi_range_same,
    .infer = infer_decode,
    .lower = lower_decode,
    .flops = flops_decode};

static mezzo_value decode(mezzo_graph *graph, const char *name, mezzo_value qkv,
                          const mezzo_attrs *attrs, int64_t context) {
    mezzo_shape shape = mezzo_value_shape(graph, qkv);
    heads s = heads_of(attrs, shape);
    if (context < 1)
        return mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                              "`%s`: context %lld; decoding needs room for one token or more", name,
                              (long long)context);
    /* With a shape that is wrong the operation itself says why; the caches only have to exist. */
    mezzo_shape cache = mezzo_shape3(s.D ? s.B : 1, context, s.D ? s.G * s.D : 1);
    mezzo_value in[] = {qkv, mzi_graph_cache(graph, mzi_graph_name(graph, name, "k_cache"), cache),
                        mzi_graph_cache(graph, mzi_graph_name(graph, name, "v_cache"), cache),
                        mzi_graph_position(graph, context)};
    return mezzo_apply(graph, &mzi_op_attention_decode, name, in, 4, attrs, NULL);
}

mezzo_value mezzo_attention(mezzo_graph *graph, const char *name, mezzo_value qkv,
                            mezzo_attention_config config) {
    if (!qkv.id)
        return qkv;
    mezzo_attrs attrs = {.i = {config.heads, config.kv_heads ? config.kv_heads : config.heads}};
    if (mezzo_graph_entry(graph) == MEZZO_ENTRY_DECODE)
        return decode(graph, name, qkv, &attrs, config.context);
    return mezzo_apply(graph, &mzi_op_attention, name, &qkv, 1, &attrs, NULL);
}
