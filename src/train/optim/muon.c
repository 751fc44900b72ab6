/* Muon (Jordan and others, 2024): momentum whose matrix is made nearly orthogonal.
 *
 *   m = b m + (1 - b) g;  u = b m + (1 - b) g                        Nesterov's form
 *   X = u / (|u| + 1e-7)                                             Frobenius norm
 *   five times:  A = X X^T;  X = a X + (b A + c A A) X               Newton and Schulz
 *   w -= lr (sqrt(max(1, rows / columns)) X + wd w)
 *
 * Each round applies the polynomial a s + b s^3 + c s^5 to the singular values, which brings those
 * of (0, 1] near 1; X and X^T have the same, so a tall matrix takes X^T X, the smaller product.
 * All in FP32, where the original computes the rounds in BF16.
 *
 * It trains the weights of linear layers inside of the network.  AdamW trains the others: tables,
 * the head, whatever is no matrix or is shared. */
#include <math.h>

#include "train/optim.h"

enum {
    ROUNDS = 5
};
static const float a = 3.4445f, b = -4.7750f, c = 2.0315f, eps = 1e-7f;

/* X [rows,columns]; small is the shorter side. */
typedef struct matrix {
    int64_t rows, columns, small, large, count;
    bool tall;
} matrix;

static matrix matrix_of(const mezzo_op_use *use) {
    const int64_t *dim = use->in[1].shape.dim;
    matrix x = {.rows = dim[0], .columns = dim[1], .count = dim[0] * dim[1]};
    x.tall = x.rows > x.columns;
    x.small = x.tall ? x.columns : x.rows;
    x.large = x.tall ? x.rows : x.columns;
    return x;
}

static void emit_scale(mzi_lowering *lowering, mzi_operand out, mzi_operand in, int64_t n,
                       float alpha) {
    mzi_call *call = mzi_emit(lowering, MZK_scale, n, MZI_GRAIN);
    call->out[0] = out;
    call->in[0] = in;
    call->p.e.n = n;
    call->p.e.alpha = alpha;
}

static void emit_product(mzi_lowering *lowering, mzi_operand out, mzi_operand left,
                         mzi_operand right, mzk_matmul_params params) {
    mzi_call *call = mzi_emit(lowering, MZK_matmul, params.M, mzi_grain_matmul(params.M));
    call->out[0] = out;
    call->in[0] = left;
    call->in[1] = right;
    call->p.matmul = params;
}

/* `to` = u / (|u| + eps). */
static void emit_unit(mzi_lowering *lowering, const matrix *x, mzi_operand to, mzi_operand u) {
    int64_t parts = mzi_chunks(x->count, MZI_GRAIN);
    mzi_operand part = mzi_scratch(lowering, MEZZO_F64, MZK_STATS * parts);
    mzi_call *call = mzi_emit(lowering, MZK_stats_part, x->count, MZI_GRAIN);
    call->out[0] = part;
    call->in[0] = u;
    call->p.e.n = x->count;
    call->p.e.grain = MZI_GRAIN;
    call = mzi_emit(lowering, MZK_muon_unit, x->count, MZI_GRAIN);
    call->out[0] = to;
    call->in[0] = u;
    call->in[1] = part;
    call->p.e.n = x->count;
    call->p.e.parts = parts;
    call->p.e.alpha = eps;
}

/* `to` = a X + (b A + c A A) X; of a tall matrix, with X^T in X's place, all products turned. */
static void emit_round(mzi_lowering *lowering, const matrix *x, mzi_operand to, mzi_operand from,
                       const mzi_operand square[3]) {
    int64_t p = x->small, q = x->large;
    mzi_operand A = square[0], cA = square[1], B = square[2];
    mzk_matmul_params gram = {.M = p, .N = p, .K = q};
    gram.transpose_a = x->tall;
    gram.transpose_b = !x->tall;
    emit_product(lowering, A, from, from, gram);
    emit_scale(lowering, cA, A, p * p, c);
    emit_scale(lowering, B, A, p * p, b);
    emit_product(lowering, B, cA, A, (mzk_matmul_params){.M = p, .N = p, .K = p, .accumulate = 1});
    emit_scale(lowering, to, from, x->count, a);
    if (x->tall)
        emit_product(
            lowering, to, from, B,
            (mzk_matmul_params){.M = q, .N = p, .K = p, .transpose_b = 1, .accumulate = 1});
    else
        emit_product(lowering, to, B, from,
                     (mzk_matmul_params){.M = p, .N = q, .K = p, .accumulate = 1});
}

/* in: gradient, master, m, scalars, perhaps a key. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    matrix x = matrix_of(use);
    mzi_operand from = mzi_scratch(lowering, MEZZO_F32, x.count);
    mzi_operand to = mzi_scratch(lowering, MEZZO_F32, x.count), square[3];
    for (int k = 0; k < 3; k++)
        square[k] = mzi_scratch(lowering, MEZZO_F32, x.small * x.small);
    mzi_call *call = mzi_emit(lowering, MZK_muon_mean, x.count, MZI_GRAIN / 2);
    call->out[0] = call->in[1] = mzi_in(lowering, 2);
    call->out[1] = to;
    call->in[0] = mzi_in(lowering, 0);
    call->in[2] = mzi_in(lowering, 3);
    call->p = mzi_optim_params(use->attrs, x.count);
    mzi_optim_forms(use, lowering, call, 3, 2);
    call->in[3] = call->out[2] = (mzi_operand){0}; /* it writes no master */
    emit_unit(lowering, &x, from, to);
    for (int round = 0; round < ROUNDS; round++) {
        emit_round(lowering, &x, to, from, square);
        mzi_operand swap = from;
        from = to;
        to = swap;
    }
    call = mzi_emit(lowering, MZK_muon_step, x.count, MZI_GRAIN / 2);
    call->out[0] = call->in[1] = mzi_in(lowering, 1);
    call->in[0] = from;
    call->in[2] = mzi_in(lowering, 3);
    call->p = mzi_optim_params(use->attrs, x.count);
    mzi_optim_forms(use, lowering, call, 3, 1);
    call->p.optim.scale = x.tall ? (float)sqrt((double)x.rows / (double)x.columns) : 1.0f;
    return MEZZO_OK;
}

/* Three products a round. */
static double flops(const mezzo_op_use *use) {
    matrix x = matrix_of(use);
    double p = (double)x.small, q = (double)x.large;
    return ROUNDS * (4 * p * p * q + 2 * p * p * p) + mzi_optim_flops(use);
}

static mezzo_status attrs(mezzo_ctx *ctx, const mezzo_optimizer_config *config, mezzo_attrs *out) {
    if (!(config->momentum >= 0.0f && config->momentum < 1.0f))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "muon: momentum %g is not in [0, 1)",
                 (double)config->momentum);
    out->f[MZI_OPTIM_BETA1] = (double)config->momentum;
    return MEZZO_OK;
}

/* The nodes of the forward pass, casts of weights before it, that read `value`. */
static int readers(const mezzo_graph *graph, int32_t value, const mzi_node **last) {
    int count = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        bool reads = false;
        for (int k = 0; k < node->in_count; k++)
            reads |= node->in[k] == value;
        if (!reads || node->phase > MZI_PHASE_FORWARD)
            continue;
        *last = node;
        count++;
    }
    return count;
}

/* A cross-entropy reads `value`, perhaps in another type or shape. */
static bool is_logits(const mezzo_graph *graph, int32_t value) {
    const mzi_node *node = NULL;
    while (readers(graph, value, &node) == 1 &&
           (node->op == &mzi_op_cast || node->op == &mzi_op_reshape))
        value = node->out[0];
    for (int32_t n = 0; n < graph->node_count; n++)
        if (graph->nodes[n].op == &mzi_op_softmax_cross_entropy && graph->nodes[n].in[0] == value)
            return true;
    return false;
}

static bool applies(const mezzo_graph *graph, int32_t param) {
    const mzi_node *node = NULL;
    int32_t weight = param;
    while (readers(graph, weight, &node) == 1 && node->op == &mzi_op_cast)
        weight = node->out[0];
    return graph->values[param].tensor.shape.rank == 2 && readers(graph, weight, &node) == 1 &&
           node->op == &mzi_op_linear && node->in[1] == weight && !is_logits(graph, node->out[0]);
}

/* Those of the original, for AdamW's part too. */
static void defaults(mezzo_optimizer_config *config) {
    config->momentum = 0.95f;
    config->beta2 = 0.95f;
}

const mzi_optim_def mzi_optim_muon = {.name = "muon",
                                      .help =
                                          "orthogonal momentum for matrices, AdamW for the rest",
                                      .family = MZK_muon_step,
                                      .slots = {"m"},
                                      .update = {.name = "muon",
                                                 .help = "w, m in place",
                                                 .reals = "weight_decay lr_scale momentum",
                                                 .in_min = 4,
                                                 .in_max = 5,
                                                 .cast = MEZZO_CAST_FULL,
                                                 .not_differentiable = true,
                                                 .lower = lower,
                                                 .flops = flops},
                                      .attrs = attrs,
                                      .applies = applies,
                                      .otherwise = &mzi_optim_adamw,
                                      .defaults = defaults};
