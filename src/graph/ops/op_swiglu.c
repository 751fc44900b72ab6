/* The gated unit of a perceptron (Shazeer, 2020).
 *
 *   x [...,2n]   n elements a, then n elements b     y [...,n] = silu(a) b,  silu(a) = a s
 *   da = dy b s (1 + a (1 - s)),  db = dy silu(a),   s = 1 / (1 + exp(-a)) */
#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape;
    if (x.rank < 1 || x.dim[x.rank - 1] % 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "x has rank %d and rows of %lld elements; swiglu takes [..., 2n]",
                             x.rank, (long long)(x.rank > 0 ? x.dim[x.rank - 1] : 0));
    x.dim[x.rank - 1] /= 2;
    use->out[0] = (mezzo_tensor){MEZZO_F32, x};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[1].shape};
    return MEZZO_OK;
}

/* A call over the rows of `y`, with every operand of the node in order. */
static mezzo_status emit(const mezzo_op_use *use, mzi_lowering *lowering, mzk_family family,
                         mezzo_shape y) {
    int64_t n = y.dim[y.rank - 1];
    mzi_call *call = mzi_emit(lowering, family, mezzo_shape_count(y) / n, mzi_grain_rows(2 * n));
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < use->in_count; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.e.n = n;
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    return emit(use, lowering, MZK_swiglu, use->out[0].shape);
}

static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    return emit(use, lowering, MZK_swiglu_bwd, use->in[0].shape);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[0]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_swiglu_bwd, "dx", in, 2, NULL, NULL);
    return MEZZO_OK;
}

/* silu leaves less of a symmetric a than relu does: a^2 s^2 + a^2 (1 - s)^2 <= a^2. */
static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    return mzi_range_mul(mzi_range_half(use, in), in[0]);
}

static const mezzo_op_case cases[] = {
    {.in = {{1, {2}}}}, {.in = {{2, {3, 10}}}}, {.in = {{3, {2, 3, 6}}}}};

const mezzo_op_def mzi_op_swiglu = {.name = "swiglu",
                                    .help = "y = a / (1 + exp(-a)) b, a and b the halves of a row",
                                    .in_min = 1,
                                    .in_max = 1,
                                    .out_count = 1,
                                    .cast = MEZZO_CAST_FOLLOW,
                                    .range = range,
                                    .infer = infer,
                                    .gradient = gradient,
                                    .lower = lower,
                                    .cases = cases,
                                    .case_count = 3};

const mezzo_op_def mzi_op_swiglu_bwd = {.name = "swiglu_bwd",
                                        .help = "gradient of swiglu for both halves",
                                        .in_min = 2,
                                        .in_max = 2,
                                        .out_count = 1,
                                        .cast = MEZZO_CAST_FOLLOW,
                                        .not_differentiable = true,
                                        .infer = infer_bwd,
                                        .lower = lower_bwd};

mezzo_value mezzo_swiglu(mezzo_graph *graph, mezzo_value x) {
    return mezzo_apply(graph, &mzi_op_swiglu, NULL, &x, 1, NULL, NULL);
}
