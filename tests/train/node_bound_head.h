/* The bound of linear_cross_entropy, of its gradient, and of both in one (see node_bound.h).
 *
 *   logit l = x . w: gamma_(K+1) sum |x||w|, and its rounding to the storage type T       delta
 *   lse moves by at most the largest delta of its row, beside what cross-entropy adds itself
 *   dlogit = (p - target) f, p = exp(l - lse): p (e^delta - 1), then as cross-entropy's, and a
 *     rounding to T                                                                      epsilon
 *   dx, dw: sum epsilon |w| and sum epsilon |x|, and gamma of the sums
 *
 * Both in one makes lse itself: what it moves by comes on top of delta. */
#ifndef TESTS_TRAIN_NODE_BOUND_HEAD_H
#define TESTS_TRAIN_NODE_BOUND_HEAD_H

#include "train/node_bound_values.h"

typedef struct node_head {
    int64_t M, V, K;
    const int32_t *labels;
    double u_stored, tiny_stored;
    double *logit, *delta; /* of one row */
} node_head;

static inline node_head node_head_of(const node_values *n) {
    mezzo_dtype stored = n->graph->values[n->node->in[0]].tensor.dtype;
    node_head h = {.V = node_dims(n, 1)[0],
                   .K = node_dims(n, 1)[1],
                   .labels = n->in[2],
                   .u_stored = mzi_unit_roundoff(stored),
                   .tiny_stored = mzi_tiny(stored) / 2};
    h.M = node_count(n->graph, n->node->in[0]) / h.K;
    h.logit = calloc((size_t)h.V, sizeof *h.logit);
    h.delta = calloc((size_t)h.V, sizeof *h.delta);
    return h;
}

static inline void node_head_row(const node_values *n, const node_head *h, int64_t m) {
    for (int64_t v = 0; v < h->V; v++) {
        double sum = 0, mass = 0;
        for (int64_t k = 0; k < h->K; k++) {
            double term = node_in(n, 0, m * h->K + k) * node_in(n, 1, v * h->K + k);
            sum += term;
            mass += fabs(term);
        }
        double error = mzi_gamma(h->K + 1, node_u) * mass;
        h->logit[v] = sum;
        h->delta[v] = error + h->u_stored * (fabs(sum) + error) + h->tiny_stored;
    }
}

/* The share of one row in the loss; counts a row whose largest logit rounding could change. */
static inline double node_bound_head_row(node_values *n, const node_head *h, int64_t m) {
    double max = -HUGE_VAL, second = -HUGE_VAL, sum = 0, wrong = 0, delta = 0, far = 0;
    double smoothing = (double)(float)n->node->attrs.f[0];
    for (int64_t v = 0; v < h->V; v++) {
        second = fmax(second, fmin(max, h->logit[v]));
        max = fmax(max, h->logit[v]);
        delta = fmax(delta, h->delta[v]);
        far = fmax(far, fabs(h->logit[v]));
    }
    for (int64_t v = 0; v < h->V; v++) {
        double d = h->logit[v] - max;
        sum += exp(d);
        wrong += exp(d) * (fabs(d) + 2 * delta + 4) * node_u;
    }
    n->error[1][m] = delta + 1.001 * (wrong / sum + mzi_gamma(h->V, node_u)) + 0x1p-140;
    if (h->labels[m] < 0)
        return 0;
    n->error[2][0] += max - second <= 2 * delta;
    return n->error[1][m] + h->delta[h->labels[m]] + smoothing * delta +
           0x1p-40 * (fabs(n->exact[1][m]) + far);
}

static inline void node_bound_head(node_values *n) {
    node_head h = node_head_of(n);
    double total = 0;
    n->error[2][0] = n->error[3][0] = 0;
    for (int64_t m = 0; m < h.M; m++) {
        node_head_row(n, &h, m);
        total += node_bound_head_row(n, &h, m);
    }
    n->error[0][0] = total / fmax(n->exact[3][0], 1) + 3 * node_u * fabs(n->exact[0][0]);
    free(h.logit);
    free(h.delta);
}

/* What the gradients of a node are made from, and where they go. */
typedef struct node_slopes {
    double factor;         /* |dloss| / valid */
    double lse, lse_error; /* of the row      */
    double *dx_error, *dw_error;
} node_slopes;

static inline void node_bound_slopes(const node_values *n, const node_head *h, int64_t m,
                                     const node_slopes *s) {
    double smoothing = (double)(float)n->node->attrs.f[0], factor = s->factor;
    double of_v = mzi_gamma(h->V + 1, node_u), of_rows = mzi_gamma(2 * h->M + 1, node_u);
    for (int64_t v = 0; v < h->V; v++) {
        double d = h->logit[v] - s->lse, p = exp(d), delta = h->delta[v] + s->lse_error;
        double target = smoothing / (double)h->V + (v == h->labels[m] ? 1 - smoothing : 0);
        double slope = factor * fabs(p - target);
        double error =
            factor * (1.001 * p * (exp(delta) * (1 + (fabs(d) + delta + 4) * node_u) - 1) +
                      4 * (p * exp(delta) + 1) * node_u);
        error += h->u_stored * (slope + error) + h->tiny_stored;
        for (int64_t k = 0; k < h->K; k++) {
            double w = fabs(node_in(n, 1, v * h->K + k)), x = fabs(node_in(n, 0, m * h->K + k));
            s->dx_error[m * h->K + k] += w * (error + of_v * (slope + error));
            s->dw_error[v * h->K + k] += x * (error + of_rows * (slope + error));
        }
    }
}

/* in: x, w, labels, lse, dloss, valid. */
static inline void node_bound_head_bwd(node_values *n) {
    node_head h = node_head_of(n);
    node_slopes s = {.factor = fabs(node_in(n, 4, 0)) / fmax(node_in(n, 5, 0), 1),
                     .dx_error = n->error[0],
                     .dw_error = n->error[1]};
    for (int64_t m = 0; m < h.M; m++) {
        if (h.labels[m] < 0)
            continue;
        node_head_row(n, &h, m);
        s.lse = node_in(n, 3, m);
        node_bound_slopes(n, &h, m, &s);
    }
    free(h.logit);
    free(h.delta);
}

/* in: x, w, labels, dloss; out: as the two have them. */
static inline void node_bound_head_train(node_values *n) {
    node_head h = node_head_of(n);
    node_slopes s = {.factor = fabs(node_in(n, 3, 0)) / fmax(n->exact[3][0], 1),
                     .dx_error = n->error[4],
                     .dw_error = n->error[5]};
    node_bound_head(n);
    for (int64_t m = 0; m < h.M; m++) {
        if (h.labels[m] < 0)
            continue;
        node_head_row(n, &h, m);
        s.lse = n->exact[1][m];
        s.lse_error = node_allowed(s.lse, n->error[1][m], MEZZO_F32);
        node_bound_slopes(n, &h, m, &s);
    }
    free(h.logit);
    free(h.delta);
}

#endif
