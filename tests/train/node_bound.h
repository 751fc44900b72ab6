/* What a node of a plan should give, and how far a device may be from it.
 *
 * `exact` comes from the node's own reference calls run in FP64, with FP64 storage for everything
 * between them; `error` is what FP32 arithmetic in any order may add (u = 2^-24):
 *
 *   sums of products   gamma_n sum |a||b|; the sum of magnitudes comes from the same calls run on
 *                      the magnitudes of the operands                    n: node_terms
 *   the others         from the formula, beside each below
 *
 * The one rounding to the storage type comes on top: node_allowed. */
#ifndef TESTS_TRAIN_NODE_BOUND_H
#define TESTS_TRAIN_NODE_BOUND_H

#include "kernel/attention_bound.h"
#include "train/node_bound_head.h"
#include "train/node_bound_llama.h"
#include "train/node_bound_values.h"

/* Run the calls of the node on FP64 copies of its inputs (their magnitudes if asked); the outputs
 * go to `out`, which are allocated here. */
static inline void node_run(const node_values *n, const mzi_plan *plan, int32_t index,
                            bool magnitudes, double *out[MEZZO_OP_OUT_MAX]) {
    const mezzo_graph *graph = n->graph;
    double **memory = calloc((size_t)graph->value_count, sizeof *memory);
    for (int k = 0; k < n->node->in_count; k++) {
        int64_t count = node_count(graph, n->node->in[k]);
        if (memory[n->node->in[k]]) /* used twice */
            continue;
        memory[n->node->in[k]] = calloc((size_t)count + 1, sizeof(double));
        for (int64_t i = 0; i < count; i++) {
            double x = node_in(n, k, i);
            memory[n->node->in[k]][i] = magnitudes ? fabs(x) : x;
        }
    }
    for (int32_t c = 0; c < plan->lowering.call_count; c++) {
        const mzi_call *call = &plan->lowering.calls[c];
        mzk_args args = {.p = call->p};
        if (call->node != index)
            continue;
        for (int k = 0; k < MZK_OUT_MAX; k++) {
            int32_t v = call->out[k].value;
            if (v && !memory[v])
                memory[v] = calloc((size_t)node_count(graph, v) + 1, sizeof(double));
            args.out[k] = v ? memory[v] + call->out[k].offset : NULL;
            args.out_type[k] =
                mezzo_dtype_is_float(call->out[k].dtype) ? MEZZO_F64 : (uint8_t)call->out[k].dtype;
        }
        for (int k = 0; k < MZK_IN_MAX; k++) {
            int32_t v = call->in[k].value;
            args.in[k] = v ? memory[v] + call->in[k].offset : NULL;
            args.in_type[k] = MEZZO_F64;
            for (int j = 0; v && j < n->node->in_count; j++)
                if (n->node->in[j] == v && !mezzo_dtype_is_float(call->in[k].dtype))
                    args.in[k] = (const int32_t *)n->in[j] + call->in[k].offset;
        }
        mzk_pick(call->family, MEZZO_ISA_REF)->fn(&args, 0, call->rows);
    }
    for (int32_t v = 0; v < graph->value_count; v++) {
        bool kept = false;
        for (int k = 0; k < n->node->out_count; k++)
            if (v && n->node->out[k] == v) {
                out[k] = memory[v];
                kept = true;
            }
        if (!kept)
            free(memory[v]);
    }
    free(memory);
}

/* Roundings on the way of one term into a sum of products, one for the product, and what comes
 * behind the sum (a bias, partial sums, a factor); 0: the result is exact; -1: not such a sum. */
static inline int64_t node_terms(const node_values *n) {
    static const char *const exact[] = {"cast", "relu", "relu_bwd", "max_pool", "rope_table"};
    static const char *const one[] = {"add", "mul", "scale", "dropout", "broadcast", "embedding"};
    const int64_t *a = node_dims(n, 0), *b = n->node->in_count > 1 ? node_dims(n, 1) : NULL;
    int64_t kernel = n->node->attrs.i[0];
    for (size_t k = 0; k < sizeof exact / sizeof *exact; k++)
        if (node_is(n, exact[k]))
            return 0;
    for (size_t k = 0; k < sizeof one / sizeof *one; k++)
        if (node_is(n, one[k]))
            return 2;
    if (node_is(n, "linear"))
        return b[1] + 2;
    if (node_is(n, "linear_dx"))
        return b[0] + 1;
    if (node_is(n, "linear_dw"))
        return node_count(n->graph, n->node->in[0]) / node_out_dims(n, 0)[0] + 1;
    if (node_is(n, "conv2d"))
        return b[1] * b[2] * b[3] + 2;
    if (node_is(n, "conv2d_dx"))
        return b[0] * b[2] * b[3] + 1;
    if (node_is(n, "conv2d_dw"))
        return a[0] * a[1] * a[2] +
               1; /* chunk by chunk, then over the chunks: a sum in some order */
    if (node_is(n, "sum"))
        return node_count(n->graph, n->node->in[0]) + 1;
    if (node_is(n, "column_sum"))
        return node_count(n->graph, n->node->in[0]) / node_count(n->graph, n->node->out[0]) + 1;
    if (node_is(n, "embedding_dw") || node_is(n, "embedding_dw_add"))
        return node_count(n->graph, n->node->in[1]) + 1;
    if (node_is(n, "embedding_dp")) /* a term from each sequence */
        return a[0] + 1;
    if (node_is(n, "avg_pool") || node_is(n, "avg_pool_bwd"))
        return kernel * kernel + 2;
    return node_is(n, "max_pool_bwd") ? kernel * kernel : -1;
}

/* gelu = x / (1 + e), e = exp(t), t = -2 sqrt(2/pi) (x + 0.044715 x^3):
 *   t: five roundings; e: those times |t|, and 3 u; 1 + e: the share e / (1 + e) of it and u; its
 * reciprocal 1.1 u; the product with x.  Below t = 86 kernels may give 0, where |gelu| < 2^-116.
 * gelu' = s + x t' (s e) s with s = 1 / (1 + e) likewise. */
static inline void node_bound_gelu(node_values *n, bool backward) {
    for (int64_t i = 0; i < node_count(n->graph, n->node->out[0]); i++) {
        double x = node_in(n, backward ? 1 : 0, i), dy = backward ? fabs(node_in(n, 0, i)) : 1;
        double t = -2 * sqrt(M_2_PI) * (x + 0.044715 * x * x * x);
        double s = 1 / (1 + exp(t)), q = 1 / (1 + exp(-t)), in_e = 5 * fabs(t) + 3;
        double in_s = q * in_e + 2.1;
        double second = fabs(x) * 2 * sqrt(M_2_PI) * (1 + 3 * 0.044715 * x * x) * s * q;
        n->error[0][i] =
            backward
                ? dy * (node_u * (s * in_s + second * (2 * in_s + in_e + 8) + 3 * (s + second)) +
                        0x1p-116)
                : fabs(x) * s * (in_s + 2) * node_u + 0x1p-116;
    }
}

/* Column c of [rows, C]. */
typedef struct node_column {
    int64_t rows, C, c;
} node_column;

/* Training: sums of x and x^2 in FP32 over at most 64 rows, then in FP64:
 *   mean: gamma_65 mean|x|;  var = mean x^2 - mean^2: gamma_65 mean x^2 + 2 |mean| e + e^2
 *   rstd = (var + eps)^-1/2: with r the relative error of var + eps, (1 - r)^-1/2 - 1
 *   y = (x - mean) rstd gamma + beta, from stored mean and rstd */
static inline void node_bound_norm_column(node_values *n, node_column at) {
    double eps = (double)(float)n->node->attrs.f[0], momentum = (double)(float)n->node->attrs.f[1];
    double rows = (double)at.rows, sum = 0, squares = 0, x_abs = 0;
    for (int64_t i = at.c; i < at.rows * at.C; i += at.C) {
        double x = node_in(n, 0, i);
        sum += x;
        x_abs += fabs(x);
        squares += x * x;
    }
    double mean = sum / rows, var = squares / rows - mean * mean, g65 = mzi_gamma(65, node_u);
    double in_mean = g65 * x_abs / rows;
    double in_var = g65 * squares / rows + 2 * fabs(mean) * in_mean + in_mean * in_mean;
    double r = in_var / (var + eps), rstd = n->exact[2][at.c];
    double in_rstd = r < 1 ? rstd * (1 / sqrt(1 - r) - 1) : (double)INFINITY;
    double gamma = fabs(node_in(n, 1, at.c)), beta = fabs(node_in(n, 2, at.c));
    n->error[1][at.c] = in_mean;
    n->error[2][at.c] = in_rstd;
    n->error[3][at.c] = momentum * in_mean;
    n->error[4][at.c] = momentum * in_var * (rows > 1 ? rows / (rows - 1) : 1);
    in_mean += node_u * fabs(mean); /* stored */
    in_rstd += node_u * rstd;
    for (int64_t i = at.c; i < at.rows * at.C; i += at.C) {
        double centred = fabs(node_in(n, 0, i) - mean);
        n->error[0][i] =
            gamma * ((rstd + in_rstd) * in_mean + centred * in_rstd) +
            mzi_gamma(5, node_u) * ((centred + in_mean) * (rstd + in_rstd) * gamma + beta);
    }
}

/* Evaluation: the statistics are given; rstd has three roundings, y five. */
static inline void node_bound_norm_eval_column(node_values *n, node_column at) {
    double eps = (double)(float)n->node->attrs.f[0];
    double rstd = 1 / sqrt(node_in(n, 4, at.c) + eps), gamma = fabs(node_in(n, 1, at.c));
    for (int64_t i = at.c; i < at.rows * at.C; i += at.C)
        n->error[0][i] =
            mzi_gamma(8, node_u) * (fabs(node_in(n, 0, i) - node_in(n, 3, at.c)) * rstd * gamma +
                                    fabs(node_in(n, 2, at.c)));
}

/* dbeta, dgamma: FP32 over at most 64 rows, FP64 over a chunk, then at most 64 chunks; two
 * roundings of each term, and of the factor rstd. dx = gamma rstd (dy - dbeta / rows - xhat dgamma
 * / rows): eight roundings of each part. */
static inline void node_bound_norm_bwd_column(node_values *n, node_column at) {
    double mean = node_in(n, 2, at.c), rstd = node_in(n, 3, at.c), rows = (double)at.rows;
    double gamma = fabs(node_in(n, 4, at.c)), dy_abs = 0, dot_abs = 0;
    for (int64_t i = at.c; i < at.rows * at.C; i += at.C) {
        dy_abs += fabs(node_in(n, 0, i));
        dot_abs += fabs(node_in(n, 0, i) * (node_in(n, 1, i) - mean)) * rstd;
    }
    double in_sum = mzi_gamma(64 + 64 + 4, node_u);
    n->error[1][at.c] = in_sum * dot_abs;
    n->error[2][at.c] = in_sum * dy_abs;
    for (int64_t i = at.c; i < at.rows * at.C; i += at.C) {
        double xhat = fabs(node_in(n, 1, i) - mean) * rstd;
        double mass = (dy_abs + xhat * dot_abs) / rows;
        n->error[0][i] = gamma * rstd * (1 + 8 * node_u) *
                         (in_sum * mass + mzi_gamma(8, node_u) * (fabs(node_in(n, 0, i)) + mass));
    }
}

static inline void node_bound_columns(node_values *n, int x,
                                      void (*bound)(node_values *, node_column)) {
    int64_t count = node_count(n->graph, n->node->in[x]);
    int rank = n->graph->values[n->node->in[x]].tensor.shape.rank;
    node_column at = {.C = node_dims(n, x)[rank - 1]};
    at.rows = count / at.C;
    for (at.c = 0; at.c < at.C; at.c++)
        bound(n, at);
}

/* A row of layer norm, from mean to y.
 *   mean: C terms and a division: e = gamma_(C+1) mean|x|
 *   var: of x - mean' it is var + e^2, since the differences from the mean cancel; a rounded
 *     difference, squared, C terms: e^2 + gamma_(C+4) (var + e^2)
 *   rstd: as in batch norm, and at most 1/sqrt(eps), as no square is negative
 *   y: three roundings, from mean and rstd as stored */
static inline void node_bound_layer_norm(node_values *n) {
    double eps = (double)(float)n->node->attrs.f[0];
    int64_t C = node_dims(n, 1)[0], rows = node_count(n->graph, n->node->in[0]) / C;
    for (int64_t r = 0; r < rows; r++) {
        double mean = n->exact[1][r], rstd = n->exact[2][r], x_abs = 0;
        for (int64_t i = r * C; i < (r + 1) * C; i++)
            x_abs += fabs(node_in(n, 0, i));
        double in_mean = mzi_gamma(C + 1, node_u) * x_abs / (double)C, square = in_mean * in_mean;
        double var = 1 / (rstd * rstd) - eps, ends = 1 / sqrt(eps);
        double wrong = (square + mzi_gamma(C + 4, node_u) * (var + square)) / (var + eps);
        double in_rstd = wrong < 1 ? fmin(ends, rstd * (1 / sqrt(1 - wrong) - 1)) : ends;
        n->error[1][r] = in_mean;
        n->error[2][r] = in_rstd;
        in_mean += node_u * fabs(mean); /* stored */
        in_rstd += node_u * rstd;
        for (int64_t c = 0; c < C; c++) {
            double centred = fabs(node_in(n, 0, r * C + c) - mean), gamma = fabs(node_in(n, 1, c));
            double beta = n->node->in_count > 2 ? fabs(node_in(n, 2, c)) : 0;
            n->error[0][r * C + c] =
                gamma * ((rstd + in_rstd) * in_mean + centred * in_rstd) +
                mzi_gamma(3, node_u) * ((centred + in_mean) * (rstd + in_rstd) * gamma + beta);
        }
    }
}

/* dx: mean(g) has C + 2 roundings, mean(g xhat) C + 5, and six more follow.  dgamma, dbeta: terms
 * of at most four roundings, summed over rows in some order. */
static inline void node_bound_layer_norm_bwd(node_values *n) {
    int64_t C = node_dims(n, 4)[0], rows = node_count(n->graph, n->node->in[0]) / C;
    double of_rows = mzi_gamma(rows + 4, node_u);
    for (int64_t r = 0; r < rows; r++) {
        double mean = node_in(n, 2, r), rstd = node_in(n, 3, r), g_mean = 0, dot_mean = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t c = 0; c < C; c++) {
                double dy = fabs(node_in(n, 0, r * C + c)), g = dy * fabs(node_in(n, 4, c));
                double xhat = fabs(node_in(n, 1, r * C + c) - mean) * rstd;
                if (pass) {
                    n->error[0][r * C + c] =
                        mzi_gamma(C + 11, node_u) * rstd * (g + g_mean + xhat * dot_mean);
                    continue;
                }
                g_mean += g / (double)C;
                dot_mean += g * xhat / (double)C;
                n->error[1][c] += of_rows * dy * xhat;
                n->error[2][c] += of_rows * dy;
            }
    }
}

/* lse = max + log sum exp(x - max): a term has u |x - max| from the difference and 3 u of exp, the
 * sum gamma_V, and log turns a relative error into an absolute one.  The loss is the mean over
 * rows, in FP64 over a chunk, stored in FP32 between; the counts are exact. */
static inline void node_bound_xent(node_values *n) {
    int64_t M = node_dims(n, 0)[0], V = node_dims(n, 0)[1];
    double total = 0, valid = fmax(n->exact[3][0], 1);
    for (int64_t m = 0; m < M; m++) {
        double max = -HUGE_VAL, far = 0, sum = 0, wrong = 0;
        for (int64_t v = 0; v < V; v++) {
            max = fmax(max, node_in(n, 0, m * V + v));
            far = fmax(far, fabs(node_in(n, 0, m * V + v)));
        }
        for (int64_t v = 0; v < V; v++) {
            double d = node_in(n, 0, m * V + v) - max;
            sum += exp(d);
            wrong += exp(d) * (fabs(d) + 4) * node_u;
        }
        n->error[1][m] = 1.001 * (wrong / sum + mzi_gamma(V, node_u)) + 0x1p-140;
        if (((const int32_t *)n->in[1])[m] >= 0)
            total += n->error[1][m] + 0x1p-40 * (fabs(n->exact[1][m]) + far);
    }
    n->error[0][0] = total / valid + 3 * node_u * fabs(n->exact[0][0]);
    n->error[2][0] = n->error[3][0] = 0;
}

/* (exp(d) - target) factor, d = logit - lse: exp(d) (|d| + 4) u, then two roundings, that of the
 * factor and that of the target. */
static inline void node_bound_xent_bwd(node_values *n) {
    int64_t M = node_dims(n, 0)[0], V = node_dims(n, 0)[1];
    double factor = fabs(node_in(n, 3, 0)) / fmax(node_in(n, 4, 0), 1);
    for (int64_t i = 0; i < M * V; i++) {
        double d = node_in(n, 0, i) - node_in(n, 2, i / V), p = exp(d);
        n->error[0][i] =
            factor * (1.001 * p * (fabs(d) + 4) * node_u + 4 * (p + 1) * node_u) + 0x1p-140;
    }
}

/* attention (in: qkv) and its gradient (in: dy, qkv, y, lse): attention_bound.h. */
static inline void node_bound_attention(node_values *n, bool backward) {
    const int64_t *qkv = node_dims(n, backward ? 1 : 0), *heads = n->node->attrs.i;
    mezzo_dtype type = n->graph->values[n->node->in[backward ? 1 : 0]].tensor.dtype;
    attention_shape s = {.T = qkv[1], .H = heads[0], .G = heads[1], .dots = type == MEZZO_BF16};
    double *in[4] = {0};
    s.D = qkv[2] / (s.H + 2 * s.G);
    s.scale = (double)(float)(1 / sqrt((double)s.D));
    for (int k = 0; k < n->node->in_count; k++) {
        int64_t count = node_count(n->graph, n->node->in[k]);
        in[k] = calloc((size_t)count, sizeof *in[k]);
        for (int64_t i = 0; i < count; i++)
            in[k][i] = node_in(n, k, i);
    }
    for (int64_t row = 0; row < qkv[0] * s.H; row++)
        if (backward)
            attention_bound_bwd(&s, in, row / s.H, row % s.H, n->error[0]);
        else
            attention_bound(&s, in[0], row / s.H, row % s.H, n->error[0], n->error[1]);
    for (int k = 0; k < n->node->in_count; k++)
        free(in[k]);
}

static inline void node_bound_special(node_values *n) {
    if (node_is(n, "gelu") || node_is(n, "gelu_bwd"))
        node_bound_gelu(n, node_is(n, "gelu_bwd"));
    else if (node_is(n, "batch_norm"))
        node_bound_columns(n, 0, node_bound_norm_column);
    else if (node_is(n, "batch_norm_eval"))
        node_bound_columns(n, 0, node_bound_norm_eval_column);
    else if (node_is(n, "batch_norm_bwd"))
        node_bound_columns(n, 1, node_bound_norm_bwd_column);
    else if (node_is(n, "layer_norm"))
        node_bound_layer_norm(n);
    else if (node_is(n, "layer_norm_bwd"))
        node_bound_layer_norm_bwd(n);
    else if (node_is(n, "rms_norm"))
        node_bound_rms_norm(n);
    else if (node_is(n, "rms_norm_bwd"))
        node_bound_rms_norm_bwd(n);
    else if (node_is(n, "swiglu"))
        node_bound_swiglu(n);
    else if (node_is(n, "swiglu_bwd"))
        node_bound_swiglu_bwd(n);
    else if (node_is(n, "rope") || node_is(n, "rope_bwd"))
        node_bound_rope(n);
    else if (node_is(n, "softmax_cross_entropy"))
        node_bound_xent(n);
    else if (node_is(n, "softmax_cross_entropy_bwd"))
        node_bound_xent_bwd(n);
    else if (node_is(n, "linear_cross_entropy"))
        node_bound_head(n);
    else if (node_is(n, "linear_cross_entropy_bwd"))
        node_bound_head_bwd(n);
    else if (node_is(n, "linear_cross_entropy_train"))
        node_bound_head_train(n);
    else if (node_is(n, "attention") || node_is(n, "attention_bwd"))
        node_bound_attention(n, node_is(n, "attention_bwd"));
    else
        fail_msg("%s has no bound: add one", n->node->op->name);
}

/* Fill in exact, error and is_exact from `in`.  `plan` is one of the device `ref`. */
static inline void node_solve(node_values *n, const mzi_plan *plan, int32_t index) {
    double *magnitude[MEZZO_OP_OUT_MAX] = {0};
    int64_t terms = node_terms(n);
    n->is_exact = terms == 0;
    node_run(n, plan, index, false, n->exact);
    if (terms > 0)
        node_run(n, plan, index, true, magnitude);
    for (int k = 0; k < n->node->out_count; k++) {
        int64_t count = node_count(n->graph, n->node->out[k]);
        n->error[k] = calloc((size_t)count + 1, sizeof(double));
        /* Products below 2^-126 may be flushed to zero, or lose digits. */
        for (int64_t i = 0; terms > 0 && i < count; i++)
            n->error[k][i] = mzi_gamma(terms, node_u) * magnitude[k][i] + (double)terms * 0x1p-126;
        free(magnitude[k]);
    }
    if (terms < 0)
        node_bound_special(n);
}

static inline void node_free(node_values *n) {
    for (int k = 0; k < n->node->in_count; k++)
        free(n->in[k]);
    for (int k = 0; k < n->node->out_count; k++) {
        free(n->exact[k]);
        free(n->error[k]);
    }
}

#endif
