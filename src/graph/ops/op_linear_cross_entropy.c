/* A linear layer without bias and the cross-entropy behind it, a few rows at a time.
 *
 *   x [...,K], w [V,K], labels [...]     logits = x w^T     loss as in op_softmax_cross_entropy.c
 *
 *   for each chunk of rows:  logits (scratch) -> lse, loss          forward
 *                            logits again -> dlogits in their place
 *                              -> dx of these rows;  dw += dlogits^T x     backward
 *
 * The logits of a chunk take at most 8 MiB, whatever V is.  The chunks follow from the shapes, and
 * dw adds them in their order. */
#include "graph/ops/labels.h"

enum {
    LOGITS_BYTES = 8 << 20
};

/* Rows of a chunk: whole tiles of 16 rows where 8 MiB hold so many. */
static int64_t chunk_rows(int64_t M, int64_t V, mezzo_dtype dtype) {
    int64_t rows = LOGITS_BYTES / (V * (int64_t)mezzo_dtype_bytes(dtype));
    rows = rows >= 16 ? rows / 16 * 16 : rows > 0 ? rows : 1;
    return rows < M ? rows : M;
}

typedef struct head {
    int64_t M, V, K, rows;
    mezzo_dtype dtype; /* of x, w, logits */
} head;

static head head_of(const mezzo_op_use *use) {
    head h = {
        .V = use->in[1].shape.dim[0], .K = use->in[1].shape.dim[1], .dtype = use->in[0].dtype};
    h.M = mezzo_shape_count(use->in[0].shape) / h.K;
    h.rows = chunk_rows(h.M, h.V, h.dtype);
    return h;
}

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape, w = use->in[1].shape, labels = use->in[2].shape;
    MZI_TRY(mzi_check_labels(use, x, labels));
    if (w.rank != 2 || w.dim[1] != x.dim[x.rank - 1])
        return mezzo_op_fail(
            use, MEZZO_INVALID_ARGUMENT,
            "the weight has rank %d and %lld columns; it takes [V,K] with K = %lld", w.rank,
            (long long)(w.rank > 1 ? w.dim[1] : 0), (long long)x.dim[x.rank - 1]);
    use->out[0] = use->out[2] = use->out[3] = (mezzo_tensor){MEZZO_F32, mezzo_shape0()};
    use->out[1] = (mezzo_tensor){MEZZO_F32, labels};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[0].shape};
    use->out[1] = (mezzo_tensor){MEZZO_F32, use->in[1].shape};
    return MEZZO_OK;
}

static mzi_call *emit_matmul(mzi_lowering *lowering, mzk_matmul_params params, int64_t grain) {
    mzi_call *call = mzi_emit(lowering, MZK_matmul, params.M, grain);
    call->p.matmul = params;
    return call;
}

/* logits = x w^T of the rows from `first` on.  One grain for all chunks, the last one too, so that
 * one packed form of w serves them. */
static void emit_logits(mzi_lowering *lowering, const head *h, mzi_operand logits, int64_t first,
                        int64_t rows) {
    mzi_call *call = emit_matmul(
        lowering, (mzk_matmul_params){.M = rows, .N = h->V, .K = h->K, .transpose_b = 1},
        mzi_grain_matmul(h->rows));
    call->out[0] = logits;
    call->in[0] = mzi_from(mzi_in(lowering, 0), first * h->K);
    call->in[1] = mzi_in(lowering, 1);
}

static int64_t rows_at(const head *h, int64_t first) {
    return h->M - first < h->rows ? h->M - first : h->rows;
}

/* in: x, w, labels; out: loss, lse, correct, valid. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    head h = head_of(use);
    int64_t grain = mzi_grain_rows(h.V);
    int64_t parts_a_chunk = mzi_chunks(h.rows, grain), parts = 0;
    mzi_operand logits = mzi_scratch(lowering, h.dtype, h.rows * h.V);
    mzi_operand part =
        mzi_scratch(lowering, MEZZO_F32, mzi_chunks(h.M, h.rows) * parts_a_chunk * 3);
    for (int64_t first = 0; first < h.M; first += h.rows) {
        int64_t rows = rows_at(&h, first);
        emit_logits(lowering, &h, logits, first, rows);
        mzi_call *call = mzi_emit(lowering, MZK_xent_part, rows, grain);
        call->out[0] = mzi_from(mzi_out(lowering, 1), first);
        call->out[1] = mzi_from(part, parts * 3);
        call->in[0] = logits;
        call->in[1] = mzi_from(mzi_in(lowering, 2), first);
        call->p = mzi_loss_params(use, rows, h.V, grain);
        parts += mzi_chunks(rows, grain);
    }
    mzi_call *call = mzi_emit(lowering, MZK_xent_total, 1, 1);
    call->out[0] = mzi_out(lowering, 0);
    call->out[1] = mzi_out(lowering, 2);
    call->out[2] = mzi_out(lowering, 3);
    call->in[0] = part;
    call->p.e.parts = parts;
    return MEZZO_OK;
}

/* Gradients of the rows from `first` on; `logits` holds theirs, then dlogits. */
static void emit_gradients(const mezzo_op_use *use, mzi_lowering *lowering, const head *h,
                           mzi_operand logits, int64_t first) {
    int64_t rows = rows_at(h, first);
    mzi_call *call = mzi_emit(lowering, MZK_xent_bwd, rows, mzi_grain_rows(h->V));
    call->out[0] = call->in[0] = logits;
    call->in[1] = mzi_from(mzi_in(lowering, 2), first);
    call->in[2] = mzi_from(mzi_in(lowering, 3), first);
    call->in[3] = mzi_in(lowering, 4);
    call->in[4] = mzi_in(lowering, 5);
    call->p = mzi_loss_params(use, rows, h->V, call->grain);
    call = emit_matmul(lowering, (mzk_matmul_params){.M = rows, .N = h->K, .K = h->V},
                       mzi_grain_matmul(h->rows));
    call->out[0] = mzi_from(mzi_out(lowering, 0), first * h->K);
    call->in[0] = logits;
    call->in[1] = mzi_in(lowering, 6);
    const mzk_matmul_params dw = {
        .M = h->V, .N = h->K, .K = rows, .transpose_a = 1, .accumulate = first > 0};
    call = emit_matmul(lowering, dw, mzi_grain_matmul(h->V));
    call->out[0] = mzi_out(lowering, 1);
    call->in[0] = logits;
    call->in[1] = mzi_from(mzi_in(lowering, 0), first * h->K);
}

/* in: x, w, labels, lse, dloss, valid, and w again, since the two products want it in layouts of
 * their own; out: dx, dw. */
static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    head h = head_of(use);
    mzi_operand logits = mzi_scratch(lowering, h.dtype, h.rows * h.V);
    for (int64_t first = 0; first < h.M; first += h.rows) {
        emit_logits(lowering, &h, logits, first, rows_at(&h, first));
        emit_gradients(use, lowering, &h, logits, first);
    }
    return MEZZO_OK;
}

static double flops_logits(const head *h) {
    return 2.0 * (double)h->M * (double)h->V * (double)h->K;
}

static double flops(const mezzo_op_use *use) {
    head h = head_of(use);
    return flops_logits(&h) + 3.0 * (double)h.M * (double)h.V;
}

/* The logits again, and a product of their size for each gradient. */
static double flops_bwd(const mezzo_op_use *use) {
    head h = head_of(use);
    return 3.0 * flops_logits(&h) + 3.0 * (double)h.M * (double)h.V;
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->in[0],   use->in[1],  use->in[2], use->out[1],
                              use->dout[0], use->out[3], use->in[1]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_linear_cross_entropy_bwd, "dx", in, 7, use->attrs,
                              &use->din[1]);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {
    {.in = {{2, {4, 3}}, {2, {7, 3}}, {1, {4}}}},
    {.in = {{3, {2, 3, 5}}, {2, {4, 5}}, {2, {2, 3}}}, .attrs.f = {0.25}}};

const mezzo_op_def mzi_op_linear_cross_entropy = {
    .name = "linear_cross_entropy",
    .help = "softmax_cross_entropy of x w^T, the logits in chunks of 8 MiB",
    .reals = "smoothing",
    .in_min = 3,
    .in_max = 3,
    .out_count = 4,
    .cast = MEZZO_CAST_LOW,
    .in_int = MEZZO_BIT(2),
    .out_f32 = MEZZO_BIT(0) | MEZZO_BIT(1) | MEZZO_BIT(2) | MEZZO_BIT(3),
    .constant_in = MEZZO_BIT(2),
    .infer = infer,
    .gradient = gradient,
    .lower = lower,
    .flops = flops,
    .cases = cases,
    .case_count = 2};

const mezzo_op_def mzi_op_linear_cross_entropy_bwd = {
    .name = "linear_cross_entropy_bwd",
    .help = "gradients of linear_cross_entropy for x and w",
    .reals = "smoothing",
    .in_min = 7,
    .in_max = 7,
    .out_count = 2,
    .cast = MEZZO_CAST_LOW,
    .in_int = MEZZO_BIT(2),
    .in_f32 = MEZZO_BIT(3) | MEZZO_BIT(4) | MEZZO_BIT(5),
    .out_f32 = MEZZO_BIT(1),
    .not_differentiable = true,
    .infer = infer_bwd,
    .lower = lower_bwd,
    .flops = flops_bwd};

mezzo_value mezzo_linear_cross_entropy(mezzo_graph *graph, const char *name, mezzo_value x,
                                       mezzo_value weight, mezzo_value labels, mezzo_value *correct,
                                       mezzo_value *valid) {
    const mezzo_value in[] = {x, weight, labels};
    mezzo_value more[3];
    const mezzo_attrs attrs = mzi_loss_attrs(graph);
    mezzo_shape shape = mezzo_value_shape(graph, weight);
    if (shape.rank > 0)
        mzi_take_labels(graph, "linear_cross_entropy", labels, shape.dim[0]);
    mezzo_value loss = mezzo_apply(graph, &mzi_op_linear_cross_entropy, name, in, 3, &attrs, more);
    mzi_give_counts(graph, more, correct, valid);
    return loss;
}
