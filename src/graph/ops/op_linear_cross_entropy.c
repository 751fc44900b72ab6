/* A linear layer without bias and the cross-entropy behind it, a few rows at a time.
 *
 *   x [...,K], w [V,K], labels [...]     logits = x w^T     loss as in op_softmax_cross_entropy.c
 *
 *   for each chunk of rows:  logits (scratch) -> lse, loss          forward
 *                            logits again -> dlogits in their place
 *                              -> dx of these rows;  dw += dlogits^T x     backward
 *                            logits -> lse, loss -> dlogits -> dx, dw      both at once
 *
 * Both at once is a node that passes/fuse.c makes of the two: it saves the logits again, and needs
 * the number of labelled rows before the first chunk.
 *
 * The logits of a chunk take at most 8 MiB in 16 bits, whatever V is, and in FP32 as many rows take
 * twice that.  Their gradients wait for those of the next chunks until there are 160 rows, in
 * 32 MiB at most: w and dw, which are larger than any cache, are then read and written less often.
 * The chunks follow from the shapes, and dw adds them in their order. */
#include "graph/ops/labels.h"

enum {
    LOGITS_BYTES = 8 << 20, /* in 16 bits */
    WAITING_ROWS = 160,     /* whose gradients dx and dw are made of at once */
    WAITING_BYTES = 32 << 20
};

/* Rows of a chunk, whatever the logits are stored in: whole tiles of 16 if 8 MiB hold so many. */
static int64_t chunk_rows(int64_t M, int64_t V) {
    int64_t rows = LOGITS_BYTES / (V * (int64_t)sizeof(uint16_t));
    rows = rows >= 16 ? rows / 16 * 16 : rows > 0 ? rows : 1;
    return rows < M ? rows : M;
}

/* Chunks of `rows` rows whose gradients wait: one at least. */
static int64_t chunks_waiting(int64_t rows, int64_t V, mezzo_dtype dtype) {
    int64_t most = WAITING_BYTES / (rows * V * (int64_t)mezzo_dtype_bytes(dtype));
    int64_t enough = (WAITING_ROWS + rows - 1) / rows;
    int64_t chunks = enough < most ? enough : most;
    return chunks > 1 ? chunks : 1;
}

/* Halves of whole tiles of 8: each reads all of w, and two thirds or a half of the rows take longer
 * for a row. */
static int64_t grain_of_rows(int64_t rows) {
    return rows > 128 ? 64 : (rows + 15) / 16 * 8;
}

typedef struct head {
    int64_t M, V, K, rows;
    int64_t waiting;   /* chunks whose gradients wait */
    int64_t grain;     /* rows of a product's chunk */
    mezzo_dtype dtype; /* of x, w, logits */
} head;

static head head_of(const mezzo_op_use *use) {
    head h = {
        .V = use->in[1].shape.dim[0], .K = use->in[1].shape.dim[1], .dtype = use->in[0].dtype};
    h.M = mezzo_shape_count(use->in[0].shape) / h.K;
    h.rows = chunk_rows(h.M, h.V);
    h.waiting = chunks_waiting(h.rows, h.V, h.dtype);
    h.grain = grain_of_rows(h.rows);
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

static mezzo_status infer_train(const mezzo_op_use *use) {
    MZI_TRY(infer(use));
    use->out[4] = (mezzo_tensor){MEZZO_F32, use->in[0].shape};
    use->out[5] = (mezzo_tensor){MEZZO_F32, use->in[1].shape};
    return MEZZO_OK;
}

/* Rows of dw in a chunk of its product: at least 16 chunks, of at most 512 rows. */
static int64_t grain_of_classes(int64_t V) {
    int64_t grain = ((V + 15) / 16 + 15) / 16 * 16;
    return grain < 512 ? grain : 512;
}

static mzi_call *emit_matmul(mzi_lowering *lowering, mzk_matmul_params params, int64_t grain) {
    mzi_call *call = mzi_emit(lowering, MZK_matmul, params.M, grain);
    call->p.matmul = params;
    return call;
}

/* Operands of a chunk's calls; a node has those of forward, of backward, or all. */
typedef struct head_operands {
    mzi_operand x, w, labels, dloss, valid;
    mzi_operand w_dx; /* w again, since the two products want it in layouts of their own */
    mzi_operand logits, lse, part, dx, dw;
} head_operands;

/* The rows from `first` on. */
typedef struct chunk {
    const mezzo_op_use *use;
    mzi_lowering *lowering;
    const head *h;
    const head_operands *o;
    int64_t first, rows;
    mzi_operand logits; /* of these rows */
} chunk;

static chunk chunk_at(const mezzo_op_use *use, mzi_lowering *lowering, const head *h,
                      const head_operands *o, int64_t first) {
    int64_t rows = h->M - first < h->rows ? h->M - first : h->rows;
    int64_t waiting = first / h->rows % h->waiting * h->rows;
    return (chunk){use, lowering, h, o, first, rows, mzi_from(o->logits, waiting * h->V)};
}

/* Room for the gradients of logits that wait; with them lie the logits of one chunk. */
static mzi_operand waiting_of(mzi_lowering *lowering, const head *h) {
    int64_t rows = h->waiting * h->rows < h->M ? h->waiting * h->rows : h->M;
    return mzi_scratch(lowering, h->dtype, rows * h->V);
}

/* Behind the last chunk that has room to wait: all that do. */
static bool waits(const chunk *c) {
    bool last = c->first + c->rows == c->h->M;
    return !last && (c->first / c->h->rows + 1) % c->h->waiting != 0;
}

/* logits = x w^T.  One grain for all chunks, the last one too, so that one packed form of w serves
 * them. */
static void emit_logits(const chunk *c) {
    const head *h = c->h;
    const mzk_matmul_params params = {.M = c->rows, .N = h->V, .K = h->K, .transpose_b = 1};
    mzi_call *call = emit_matmul(c->lowering, params, h->grain);
    call->out[0] = c->logits;
    call->in[0] = mzi_from(c->o->x, c->first * h->K);
    call->in[1] = c->o->w;
}

/* lse, and parts of the loss in slots from `parts` on; returns how many. */
static int64_t emit_loss(const chunk *c, int64_t parts) {
    mzi_call *call = mzi_emit(c->lowering, MZK_xent_part, c->rows, mzi_grain_rows(c->h->V));
    call->out[0] = mzi_from(c->o->lse, c->first);
    call->out[1] = mzi_from(c->o->part, parts * 3);
    call->in[0] = c->logits;
    call->in[1] = mzi_from(c->o->labels, c->first);
    call->p = mzi_loss_params(c->use, c->rows, c->h->V, call->grain);
    return mzi_chunks(c->rows, call->grain);
}

/* Slots for the parts of all chunks. */
static mzi_operand parts_of(mzi_lowering *lowering, const head *h) {
    int64_t of_chunk = mzi_chunks(h->rows, mzi_grain_rows(h->V));
    return mzi_scratch(lowering, MEZZO_F32, mzi_chunks(h->M, h->rows) * of_chunk * 3);
}

/* out: loss, lse, correct, valid, ... */
static void emit_total(mzi_lowering *lowering, mzi_operand part, int64_t parts) {
    mzi_call *call = mzi_emit(lowering, MZK_xent_total, 1, 1);
    call->out[0] = mzi_out(lowering, 0);
    call->out[1] = mzi_out(lowering, 2);
    call->out[2] = mzi_out(lowering, 3);
    call->in[0] = part;
    call->p.e.parts = parts;
}

/* The labelled rows of all chunks: what their mean is over. */
static void emit_valid(const chunk *c) {
    mzi_call *call = mzi_emit(c->lowering, MZK_xent_valid, 1, 1);
    call->out[0] = c->o->valid;
    call->in[0] = c->o->labels;
    call->p = mzi_loss_params(c->use, c->h->M, c->h->V, 1);
}

/* dlogits in the place of the logits. */
static void emit_slopes(const chunk *c) {
    mzi_call *call = mzi_emit(c->lowering, MZK_xent_bwd, c->rows, mzi_grain_rows(c->h->V));
    call->out[0] = call->in[0] = c->logits;
    call->in[1] = mzi_from(c->o->labels, c->first);
    call->in[2] = mzi_from(c->o->lse, c->first);
    call->in[3] = c->o->dloss;
    call->in[4] = c->o->valid;
    call->p = mzi_loss_params(c->use, c->rows, c->h->V, call->grain);
}

/* dx = dlogits w;  dw += dlogits^T x, of the chunk and those that wait before it. */
static void emit_gradients(const chunk *c) {
    const head *h = c->h;
    int64_t first = c->first / h->rows / h->waiting * h->waiting * h->rows;
    int64_t rows = c->first + c->rows - first;
    mzi_call *call =
        emit_matmul(c->lowering, (mzk_matmul_params){.M = rows, .N = h->K, .K = h->V}, h->grain);
    call->out[0] = mzi_from(c->o->dx, first * h->K);
    call->in[0] = c->o->logits;
    call->in[1] = c->o->w_dx;
    const mzk_matmul_params dw = {
        .M = h->V, .N = h->K, .K = rows, .transpose_a = 1, .accumulate = first > 0};
    call = emit_matmul(c->lowering, dw, grain_of_classes(h->V));
    call->out[0] = c->o->dw;
    call->in[0] = c->o->logits;
    call->in[1] = mzi_from(c->o->x, first * h->K);
}

/* in: x, w, labels; out: loss, lse, correct, valid. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    head h = head_of(use);
    head_operands o = {
        .x = mzi_in(lowering, 0), .w = mzi_in(lowering, 1), .labels = mzi_in(lowering, 2)};
    int64_t parts = 0;
    o.lse = mzi_out(lowering, 1);
    o.logits = mzi_scratch(lowering, h.dtype, h.rows * h.V);
    o.part = parts_of(lowering, &h);
    for (int64_t first = 0; first < h.M; first += h.rows) {
        chunk c = chunk_at(use, lowering, &h, &o, first);
        c.logits = o.logits; /* none wait */
        emit_logits(&c);
        parts += emit_loss(&c, parts);
    }
    emit_total(lowering, o.part, parts);
    return MEZZO_OK;
}

/* in: x, w, labels, lse, dloss, valid, w; out: dx, dw. */
static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    head h = head_of(use);
    head_operands o = {.x = mzi_in(lowering, 0),
                       .w = mzi_in(lowering, 1),
                       .labels = mzi_in(lowering, 2),
                       .lse = mzi_in(lowering, 3),
                       .dloss = mzi_in(lowering, 4),
                       .valid = mzi_in(lowering, 5),
                       .w_dx = mzi_in(lowering, 6),
                       .dx = mzi_out(lowering, 0),
                       .dw = mzi_out(lowering, 1)};
    o.logits = waiting_of(lowering, &h);
    for (int64_t first = 0; first < h.M; first += h.rows) {
        chunk c = chunk_at(use, lowering, &h, &o, first);
        emit_logits(&c);
        emit_slopes(&c);
        if (!waits(&c))
            emit_gradients(&c);
    }
    return MEZZO_OK;
}

/* in: x, w, labels, dloss, w; out: loss, lse, correct, valid, dx, dw. */
static mezzo_status lower_train(const mezzo_op_use *use, mzi_lowering *lowering) {
    head h = head_of(use);
    head_operands o = {.x = mzi_in(lowering, 0),
                       .w = mzi_in(lowering, 1),
                       .labels = mzi_in(lowering, 2),
                       .dloss = mzi_in(lowering, 3),
                       .w_dx = mzi_in(lowering, 4),
                       .lse = mzi_out(lowering, 1),
                       .dx = mzi_out(lowering, 4),
                       .dw = mzi_out(lowering, 5)};
    int64_t parts = 0;
    o.logits = waiting_of(lowering, &h);
    o.part = parts_of(lowering, &h);
    o.valid = mzi_scratch(lowering, MEZZO_F32, 1);
    for (int64_t first = 0; first < h.M; first += h.rows) {
        chunk c = chunk_at(use, lowering, &h, &o, first);
        emit_logits(&c);
        if (first == 0)
            emit_valid(&c);
        parts += emit_loss(&c, parts);
        emit_slopes(&c);
        if (!waits(&c))
            emit_gradients(&c);
    }
    emit_total(lowering, o.part, parts);
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

static double flops_train(const mezzo_op_use *use) {
    head h = head_of(use);
    return 3.0 * flops_logits(&h) + 6.0 * (double)h.M * (double)h.V;
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

/* Made by passes/fuse.c, which gives types and shapes. */
const mezzo_op_def mzi_op_linear_cross_entropy_train = {
    .name = "linear_cross_entropy_train",
    .help = "linear_cross_entropy and its gradients for x and w, in one pass over the rows",
    .reals = "smoothing",
    .in_min = 5,
    .in_max = 5,
    .out_count = 6,
    .cast = MEZZO_CAST_LOW,
    .in_int = MEZZO_BIT(2),
    .in_f32 = MEZZO_BIT(3),
    .out_f32 = MEZZO_BIT(0) | MEZZO_BIT(1) | MEZZO_BIT(2) | MEZZO_BIT(3) | MEZZO_BIT(5),
    .not_differentiable = true,
    .infer = infer_train,
    .lower = lower_train,
    .flops = flops_train};

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
