/* The optimizers' formulas in FP64, and bounds on what FP32 loses in them: for each parameter the
 * error of its moments and of itself so far, carried from step to step.  u = 2^-24. */
#ifndef TESTS_TRAIN_OPTIM_TWIN_H
#define TESTS_TRAIN_OPTIM_TWIN_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mezzo/train.h"
#include "num/number.h"
#include "unit/cmocka_all.h"

enum {
    TWIN_MAX = 65536
};
static const double twin_u = 0x1p-24;

/* A parameter in FP64 with its moments, and bounds on what FP32 has lost in each so far. */
typedef struct twin {
    int64_t count, rows, columns; /* rows 0: nothing for Muon */
    double w[TWIN_MAX], m[TWIN_MAX], v[TWIN_MAX];
    double ew[TWIN_MAX], em[TWIN_MAX], ev[TWIN_MAX];
} twin;

typedef struct twin_update {
    double lr, decay, factor; /* gradients are multiplied by factor */
    int64_t step;             /* from 1 */
} twin_update;

/* m = b1 m + (1 - b1) g: the error so far shrinks by b1, and what is added has five roundings (the
 * factor's own, g times factor, two products, the sum); v has g twice: seven.  The quotient q =
 * m c1 / (sqrt(v c2) + eps) takes the relative error of m, half that of v, and five roundings (c1,
 * c2, root, sum, division); then lr and its product with q, and two subtractions from w: four.
 * 1.01 covers products of errors. */
static inline void twin_adamw(twin *t, int64_t i, double g, const twin_update *s,
                              const mezzo_optimizer_config *o) {
    double b1 = (double)o->beta1, b2 = (double)o->beta2, eps = (double)o->eps;
    double c1 = 1 / (1 - pow(b1, (double)s->step)), c2 = 1 / (1 - pow(b2, (double)s->step));
    double step_decay = s->lr * s->decay * t->w[i];
    g *= s->factor;
    t->em[i] = b1 * t->em[i] + mzi_gamma(5, twin_u) * (fabs(b1 * t->m[i]) + fabs((1 - b1) * g));
    t->m[i] = b1 * t->m[i] + (1 - b1) * g;
    t->ev[i] = b2 * t->ev[i] + mzi_gamma(7, twin_u) * (b2 * t->v[i] + (1 - b2) * g * g) + 0x1p-145;
    t->v[i] = b2 * t->v[i] + (1 - b2) * g * g;
    double root = sqrt(t->v[i] * c2), in_root = t->v[i] > 0 ? t->ev[i] / t->v[i] * root : 0;
    double q = t->m[i] * c1 / (root + eps);
    double in_q = 1.01 * (t->em[i] * c1 / (root + eps) +
                          fabs(q) * (in_root / (root + eps) + mzi_gamma(5, twin_u)));
    t->ew[i] +=
        s->lr * in_q + mzi_gamma(4, twin_u) * (fabs(t->w[i]) + fabs(step_decay) + s->lr * fabs(q));
    t->w[i] -= step_decay + s->lr * q;
}

/* g' = g factor + wd w: four roundings, and wd times the error of w; m adds two; the step three. */
static inline void twin_sgd(twin *t, int64_t i, double g, const twin_update *s,
                            const mezzo_optimizer_config *o) {
    double momentum = (double)o->momentum, mass = fabs(g * s->factor) + fabs(s->decay * t->w[i]);
    double in_g = mzi_gamma(4, twin_u) * mass + s->decay * t->ew[i];
    g = g * s->factor + s->decay * t->w[i];
    t->em[i] =
        momentum * t->em[i] + in_g + mzi_gamma(2, twin_u) * (fabs(momentum * t->m[i]) + fabs(g));
    t->m[i] = momentum * t->m[i] + g;
    double step = o->nesterov ? g + momentum * t->m[i] : t->m[i];
    double in_step = o->nesterov ? in_g + momentum * t->em[i] : t->em[i];
    t->ew[i] +=
        s->lr * 1.01 * in_step +
        mzi_gamma(4, twin_u) * (fabs(t->w[i]) + s->lr * (fabs(g) + fabs(momentum * t->m[i])));
    t->w[i] -= s->lr * step;
}

/* b m + (1 - b) g; *wrong, the error of m, becomes that of the result.  Products may underflow, but
 * not those of two zeros. */
static inline double twin_average(double b, double m, double g, double *wrong) {
    double mass = fabs(b * m) + fabs((1 - b) * g);
    *wrong = b * *wrong + mzi_gamma(5, twin_u) * mass + (mass > 0 ? 0x1p-146 : 0);
    return b * m + (1 - b) * g;
}

/* A sum that is within its own error of 0 may have any sign; w gets the rate's share of it, and two
 * products and two subtractions: four roundings. */
static inline void twin_lion(twin *t, int64_t i, double g, const twin_update *s,
                             const mezzo_optimizer_config *o) {
    double decay = s->lr * s->decay, wrong = t->em[i];
    g *= s->factor;
    double sum = twin_average((double)o->beta1, t->m[i], g, &wrong);
    double sign = sum > 0 ? 1 : sum < 0 ? -1 : 0;
    bool any_sign = wrong > 0 && fabs(sum) <= wrong;
    t->ew[i] +=
        mzi_gamma(4, twin_u) * (fabs(t->w[i]) * (1 + decay) + s->lr) + (any_sign ? 2 * s->lr : 0);
    t->w[i] -= s->lr * sign + decay * t->w[i];
    t->m[i] = twin_average((double)o->beta2, t->m[i], g, &t->em[i]);
}

/* X = a X + (b A + c A A) X with A = X X^T, X [p,q], in place; `work` holds 2 p^2 + p q. */
static inline void twin_round(double *X, int64_t p, int64_t q, double *work) {
    const double a = (double)3.4445f, b = (double)-4.7750f, c = (double)2.0315f;
    double *A = work, *B = A + p * p, *Y = B + p * p;
    for (int64_t i = 0; i < p * p; i++) {
        A[i] = 0;
        for (int64_t k = 0; k < q; k++)
            A[i] += X[i / p * q + k] * X[i % p * q + k];
    }
    for (int64_t i = 0; i < p * p; i++) {
        B[i] = b * A[i];
        for (int64_t k = 0; k < p; k++)
            B[i] += c * A[i / p * p + k] * A[k * p + i % p];
    }
    for (int64_t i = 0; i < p * q; i++) {
        Y[i] = a * X[i];
        for (int64_t k = 0; k < p; k++)
            Y[i] += B[i / q * p + k] * X[k * q + i % q];
    }
    memcpy(X, Y, (size_t)(p * q) * sizeof *X);
}

static inline double twin_norm(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* The error of a round in the Frobenius norm, X having f = |X| and being wrong by e.
 *   e itself: the round applies p(s) = a s + b s^3 + c s^5 to the singular values, so e grows by at
 *     most the largest |p'| on [0, s]: p'(0) = 3.4445, or p'(s) beyond s = 1.18.  s <= |X|, and
 *     s <= 1.21 + e as no p(s) of s in [0, 1.21] is larger than that
 *   rounding, by submultiplicative norms: a f has p + 1 of the last product; b f^3 has q of A, two
 *     of scaling, p + 1; c f^5 has q twice, as A A takes both, p, two of scaling, p + 1 */
static inline double twin_round_error(double f, double e, int64_t p, int64_t q) {
    double s = fmin(f, 1.21) + e, s2 = s * s;
    double slope = fmax(3.4445, 3.4445 - 14.325 * s2 + 10.1575 * s2 * s2);
    f += e;
    double mass = 3.4445 * f + 4.775 * pow(f, 3) + 2 * 2.0315 * pow(f, 5);
    return 1.01 * (slope * e + mzi_gamma(p + q + 8, twin_u) * mass);
}

/* X = u / |u|: twice the relative error of u, and two roundings.  Then five rounds; w has the share
 * of the last, and four roundings. */
static inline void twin_muon(twin *t, const float *g, const twin_update *s,
                             const mezzo_optimizer_config *o) {
    bool tall = t->rows > t->columns;
    int64_t p = tall ? t->columns : t->rows, q = tall ? t->rows : t->columns, n = t->count;
    double *X = calloc((size_t)(2 * n + 2 * p * p), sizeof *X), wrong = 0;
    double scale = tall ? sqrt((double)t->rows / (double)t->columns) : 1, decay = s->lr * s->decay;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = tall ? i % p * q + i / p : i;
        double factored = (double)g[i] * s->factor;
        t->m[i] = twin_average((double)o->momentum, t->m[i], factored, &t->em[i]);
        double e = t->em[i];
        X[at] = twin_average((double)o->momentum, t->m[i], factored, &e);
        wrong += e * e;
    }
    double norm = twin_norm(X, n) + (double)1e-7f;
    wrong = 2 * sqrt(wrong) / norm + mzi_gamma(2, twin_u);
    for (int64_t i = 0; i < n; i++)
        X[i] /= norm;
    for (int round = 0; round < 5; round++) {
        wrong = twin_round_error(twin_norm(X, n), wrong, p, q);
        twin_round(X, p, q, X + n);
    }
    for (int64_t i = 0; i < n; i++) {
        double move = s->lr * scale * X[tall ? i % p * q + i / p : i];
        t->ew[i] += s->lr * scale * wrong +
                    mzi_gamma(4, twin_u) * (fabs(t->w[i]) * (1 + decay) + fabs(move));
        t->w[i] -= move + decay * t->w[i];
    }
    free(X);
}

/* One step of the whole parameter; g is unscaled. */
static inline void twin_step(twin *t, const float *g, const twin_update *s,
                             const mezzo_optimizer_config *o) {
    void (*step)(twin *, int64_t, double, const twin_update *, const mezzo_optimizer_config *) =
        NULL;
    twin_update other = *s;
    if (strcmp(o->kind, "muon") == 0 && t->rows > 0) {
        twin_muon(t, g, s, o);
        return;
    }
    if (strcmp(o->kind, "muon") == 0)
        other.lr *= (double)o->other_lr_scale;
    if (strcmp(o->kind, "adamw") == 0 || strcmp(o->kind, "muon") == 0)
        step = twin_adamw;
    else if (strcmp(o->kind, "sgd") == 0)
        step = twin_sgd;
    else if (strcmp(o->kind, "lion") == 0)
        step = twin_lion;
    else
        fail_msg("no formula of %s", o->kind);
    for (int64_t i = 0; step && i < t->count; i++)
        step(t, i, (double)g[i], &other, o);
}

#endif
