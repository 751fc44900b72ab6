/* node_bound.h for RMS norm, the gated unit and rotary positions. */
#ifndef TESTS_TRAIN_NODE_BOUND_LLAMA_H
#define TESTS_TRAIN_NODE_BOUND_LLAMA_H

#include "train/node_bound_values.h"

/* A row of RMS norm.
 *   m = mean x^2: C products, each added by one rounding: r = gamma_(C+1) m / (m + eps)
 *   rstd: (1 - r)^-1/2 - 1 of itself
 *   y: two roundings, from rstd as stored */
static inline void node_bound_rms_norm(node_values *n) {
    double eps = (double)(float)n->node->attrs.f[0];
    int64_t C = node_dims(n, 1)[0], rows = node_count(n->graph, n->node->in[0]) / C;
    for (int64_t r = 0; r < rows; r++) {
        double rstd = n->exact[1][r], m = 1 / (rstd * rstd) - eps;
        double wrong = mzi_gamma(C + 1, node_u) * m / (m + eps);
        double in_rstd = rstd * (1 / sqrt(1 - wrong) - 1);
        n->error[1][r] = in_rstd;
        in_rstd += node_u * (rstd + in_rstd); /* stored */
        for (int64_t c = 0; c < C; c++)
            n->error[0][r * C + c] = fabs(node_in(n, 0, r * C + c) * node_in(n, 1, c)) *
                                     (in_rstd + mzi_gamma(2, node_u) * (rstd + in_rstd));
    }
}

/* dx: mean(g xhat) has C + 4 roundings, and four more follow.  dgamma: terms of two roundings,
 * summed over rows in some order. */
static inline void node_bound_rms_norm_bwd(node_values *n) {
    int64_t C = node_dims(n, 3)[0], rows = node_count(n->graph, n->node->in[0]) / C;
    double of_rows = mzi_gamma(rows + 2, node_u);
    for (int64_t r = 0; r < rows; r++) {
        double rstd = node_in(n, 2, r), dot_mean = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t c = 0; c < C; c++) {
                double dy = fabs(node_in(n, 0, r * C + c)), g = dy * fabs(node_in(n, 3, c));
                double xhat = fabs(node_in(n, 1, r * C + c)) * rstd;
                if (pass) {
                    n->error[0][r * C + c] =
                        mzi_gamma(C + 8, node_u) * rstd * (g + xhat * dot_mean);
                    continue;
                }
                dot_mean += g * xhat / (double)C;
                n->error[1][c] += of_rows * dy * xhat;
            }
    }
}

/* s = 1 / (1 + e), e = exp(-a) within 3 u: in_s = 3 q + 2 roundings with q = 1 - s.  Below a = -86
 * kernels may give 0, where |silu| and |silu'| are below 2^-117. */
typedef struct node_gate {
    double a, b, s, q, in_s, silu;
} node_gate;

static inline node_gate node_gate_of(const node_values *n, int operand, int64_t at, int64_t width) {
    node_gate g = {.a = node_in(n, operand, at), .b = fabs(node_in(n, operand, at + width))};
    g.s = 1 / (1 + exp(-g.a));
    g.q = 1 / (1 + exp(g.a));
    g.in_s = 3 * g.q + 2;
    g.silu = fabs(g.a) * g.s;
    return g;
}

/* a s b: two products behind s. */
static inline void node_bound_swiglu(node_values *n) {
    int rank = n->graph->values[n->node->out[0]].tensor.shape.rank;
    int64_t width = node_out_dims(n, 0)[rank - 1];
    for (int64_t i = 0; i < node_count(n->graph, n->node->out[0]); i++) {
        node_gate g = node_gate_of(n, 0, i / width * 2 * width + i % width, width);
        n->error[0][i] = g.b * (g.silu * (g.in_s + 3) * node_u + 0x1p-117) + 0x1p-149;
    }
}

/* slope = s + (a s) (s e) with in_s, in_s + 1 and in_s + 4 roundings, and one of the sum; then two
 * products.  db = dy (a s). */
static inline void node_bound_swiglu_bwd(node_values *n) {
    int rank = n->graph->values[n->node->in[0]].tensor.shape.rank;
    int64_t width = node_dims(n, 0)[rank - 1];
    for (int64_t i = 0; i < node_count(n->graph, n->node->in[0]); i++) {
        int64_t at = i / width * 2 * width + i % width;
        node_gate g = node_gate_of(n, 1, at, width);
        double dy = fabs(node_in(n, 0, i)), second = g.silu * g.q;
        double slope = g.s * g.in_s + second * (2 * g.in_s + 6) + 4 * (g.s + second);
        n->error[0][at] = dy * g.b * (slope * node_u + 0x1p-117) + 0x1p-149 * (1 + g.b);
        n->error[0][at + width] = dy * (g.silu * (g.in_s + 3) * node_u + 0x1p-117) + 0x1p-149;
    }
}

/* Two products, the second added without a rounding of its own; the other columns are copied. */
static inline void node_bound_rope(node_values *n) {
    const int64_t *x = node_dims(n, 0), T = x[1], width = x[2], D = node_dims(n, 1)[1];
    int64_t half = D / 2, turned = n->node->attrs.i[0] * D;
    for (int64_t i = 0; i < x[0] * T * width; i++) {
        int64_t j = i % width % D, row = i / width % T * D + j % half;
        if (i % width >= turned)
            continue;
        double same = fabs(node_in(n, 0, i) * node_in(n, 1, row));
        double other =
            fabs(node_in(n, 0, j < half ? i + half : i - half) * node_in(n, 1, row + half));
        n->error[0][i] = mzi_gamma(2, node_u) * (same + other) + 0x1p-148;
    }
}

#endif
