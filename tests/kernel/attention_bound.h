/* Error bounds of attention in FP32, on operands in FP64; u = 2^-24.  BF16 operands: see below.
 *
 * A score is a sum of D products of rounded q scale: |ds| <= gamma_(D+2) scale sum |q||k|.  A
 * weight exp(s - peak) has, relative to exact, exp(|ds|) - 1, then |s - peak| u from the
 * subtraction, 3 u of exp, and what it takes to bring it to a peak that grows later: each time
 * |growth| u, 3 u and a product.  The growths add up to |s - peak| at most, and there are not more
 * of them than keys.  Weights may be to a base that is up to 8 ln 2 below the peak: |s - peak| is
 * larger by that then, but only if there are more than 64 keys, and one growth less.  So with n
 * keys
 *
 *   e_j = exp(|ds_j|) (1 + (|s_j - peak| + 4 + 5 n) u) - 1
 *
 * bounds a weight's relative error.  Sums over keys add gamma_n.  y = sum p v / sum p is wrong by
 * sum p |v| (e + E) / sum p, E = sum p e / sum p, and lse by E.  Where errors are not small, y, an
 * average, is still no further off than twice the largest value.
 *
 * With BF16 operands the products may be those of a dot instruction (families.h):
 *
 *   - p, and ds in backward, are rounded to BF16 before they multiply, which is 2^-8 relative;
 *     not in the sum of weights, so E and lse are as before;
 *   - weights are powers of 2 of c q k - m, c = scale / ln 2: one more rounding, of c, instead of
 *     that of q scale, and 2^(..) within 2^-18 and 2 u instead of 3 u.  Their base m is rounded,
 * but the same for all keys, and lse is made from it.  In backward lse / ln 2 has a rounding: |lse|
 * u;
 *   - the peak grows once a block of 64 keys, of the FP32 kernels too, whose steps are smaller;
 *   - scale is applied to sums, which are larger by 1 / scale until then and leave FP32 earlier;
 *   - subnormal operands, products and sums count as 0: 2^-126 of each, times the other factor. */
#ifndef TESTS_ATTENTION_BOUND_H
#define TESTS_ATTENTION_BOUND_H

#include <stdbool.h>
#include <stdlib.h>

#include "num/number.h"

/* The bound of a result before which FP32 may overflow, to infinities that an exponential swallows:
 * it may be any number. */
#define BOUND_ANYTHING 0x1p1023

static const double attention_u = 0x1p-24;

typedef struct attention_shape {
    int64_t T, H, G, D;
    double scale;
    bool dots; /* products in BF16 */
} attention_shape;

/* What differs with the dot instruction. */
static inline double weight_rounding(bool dots) {
    return dots ? 0x1p-8 : 0;
}
static inline double exp_roundings(bool dots) { /* and that of a subtraction, in u */
    return dots ? 0x1p-18 / attention_u + 3 : 4;
}
static inline double smallest(bool dots) {
    return dots ? 0x1p-126 : 0x1p-149;
}

typedef struct attention_score {
    double s, error;
    bool wild; /* FP32 may overflow on the way: to either infinity, or NaN */
} attention_score;

static inline bool leaves_range(double size) { /* by finite operands */
    return isfinite(size) && size > mzi_largest(MEZZO_F32) / 2;
}

static inline attention_score score_of(const double *q, const double *k, int64_t D, double scale,
                                       bool dots) {
    attention_score r = {0, 0, false};
    double lost = 0;
    for (int64_t d = 0; d < D; d++) {
        r.s += scale * q[d] * k[d];
        r.error += scale * fabs(q[d] * k[d]);
        lost += smallest(dots) * (dots ? 1 + fabs(q[d]) + fabs(k[d]) : 1);
    }
    r.wild = leaves_range(r.error) || (dots && leaves_range(r.error / scale));
    /* Products that underflow lose half a subnormal step each. */
    r.error = r.error * mzi_gamma(D + 2, attention_u) + lost;
    return r;
}

/* exp(x) - 1, cut where it is anything. */
static inline double growth(double x) {
    return expm1(fmin(x, 100));
}

/* One query over n keys and values, `stride` apart: adds errors of y to in_y[D], gives that of
 * lse. */
static inline double attention_bound_query(const double *q, const double *k, const double *v,
                                           int64_t stride, int64_t n, int64_t D, double scale,
                                           bool dots, double *in_y) {
    double peak = -HUGE_VAL, total = 0, wrong = 0, most = 0;
    bool wild = false;
    attention_score *s = malloc((size_t)n * sizeof *s);
    double *e = malloc((size_t)n * sizeof *e), *p = malloc((size_t)n * sizeof *p);
    if (!s || !e || !p)
        abort();
    for (int64_t j = 0; j < n; j++) {
        s[j] = score_of(q, k + j * stride, D, scale, dots);
        peak = fmax(peak, s[j].s);
        most = fmax(most, s[j].error);
        wild |= s[j].wild;
    }
    /* The kernel's peak may be another score, by that score's error. */
    double growths = dots ? (double)(n / 64 + 1) * (exp_roundings(true) + 1) : 5 * (double)n;
    double steps = exp_roundings(dots) + growths + 2 * most, sums = mzi_gamma(n + 4, attention_u);
    for (int64_t j = 0; j < n; j++) {
        double relative = 1 + (peak - s[j].s + steps) * attention_u;
        p[j] = exp(s[j].s - peak);
        e[j] = p[j] > 0 ? (1 + growth(s[j].error)) * relative - 1 + sums : 0;
        total += p[j];
        wrong += p[j] * e[j];
    }
    /* A weight below FP32's range is lost, and so is a product with it. */
    double lost = (double)n * 4 * smallest(dots) * (1 + growth(most));
    double relative = wrong / total + lost, rounding = weight_rounding(dots);
    for (int64_t d = 0; d < D; d++) {
        double sum = 0, reach = 0;
        for (int64_t j = 0; j < n; j++) {
            double in_term = e[j] + rounding * (1 + e[j]) + relative;
            sum += p[j] > 0 ? p[j] * fabs(v[j * stride + d]) * in_term : 0;
            reach = fmax(reach, fabs(v[j * stride + d]));
        }
        /* Below 1 %, terms of second order are within 1.01. */
        double error = 1.01 * sum / total + (lost + 3 * attention_u) * reach + lost;
        bool small = relative < 0.01 && error < 3 * reach;
        in_y[d] = wild ? BOUND_ANYTHING : small ? error : 3 * reach;
    }
    free(s);
    free(e);
    free(p);
    /* log(1 + E); a peak that is off moves lse by as much as any score. */
    return wild ? BOUND_ANYTHING : relative < 0.01 ? 1.01 * relative : most + growth(most) + 1;
}

/* Places of head h of batch element b. */
typedef struct attention_place {
    int64_t E, O, q, k, v, y, lse;
} attention_place;

static inline attention_place attention_places(const attention_shape *s, int64_t b, int64_t h) {
    int64_t E = (s->H + 2 * s->G) * s->D, at = b * s->T * E, g = h / (s->H / s->G);
    return (attention_place){.E = E,
                             .O = s->H * s->D,
                             .q = at + h * s->D,
                             .k = at + (s->H + g) * s->D,
                             .v = at + (s->H + s->G + g) * s->D,
                             .y = (b * s->T * s->H + h) * s->D,
                             .lse = (b * s->H + h) * s->T};
}

static inline void attention_bound(const attention_shape *s, const double *qkv, int64_t b,
                                   int64_t h, double *in_y, double *in_lse) {
    attention_place at = attention_places(s, b, h);
    for (int64_t i = 0; i < s->T; i++)
        in_lse[at.lse + i] =
            attention_bound_query(qkv + at.q + i * at.E, qkv + at.k, qkv + at.v, at.E, i + 1, s->D,
                                  s->scale, s->dots, in_y + at.y + i * at.O);
}

/* Backward, of one pair: p = exp(s - lse) is within p e, e = exp(|ds|) (1 + (|s - lse| + 4) u) - 1;
 * dp = dy v and delta = dy y are sums of D products; ds = p (dp - delta) has two more roundings. */
typedef struct attention_pair {
    double p, in_p, ds, in_ds; /* an error is infinite where FP32 may overflow */
} attention_pair;

static inline attention_pair pair_of(const attention_shape *s, attention_score score, double lse,
                                     const double *dy, const double *v, const double *y) {
    double dp = 0, delta = 0, sizes = 0, away = fabs(score.s - lse), lost = 0;
    for (int64_t d = 0; d < s->D; d++) {
        dp += dy[d] * v[d];
        delta += dy[d] * y[d];
        sizes += fabs(dy[d] * v[d]) + fabs(dy[d] * y[d]);
        lost += smallest(s->dots) * (s->dots ? 1 + 2 * fabs(dy[d]) + fabs(v[d]) + fabs(y[d]) : 1);
    }
    attention_pair r = {.p = exp(score.s - lse)};
    double steps = away + exp_roundings(s->dots) + (s->dots ? fabs(lse) : 0);
    double e = (1 + growth(score.error)) * (1 + steps * attention_u) - 1;
    double in_dp = mzi_gamma(s->D + 2, attention_u) * sizes + 2 * lost;
    r.in_p = (r.p > 0 ? r.p * e : 0) + 2 * smallest(s->dots);
    r.ds = r.p * (dp - delta);
    r.in_ds = r.in_p * (fabs(dp - delta) + in_dp) + 2 * smallest(s->dots);
    r.in_ds += r.p * (in_dp + 2 * attention_u * fabs(dp - delta));
    r.in_p += weight_rounding(s->dots) * (r.p + r.in_p);
    r.in_ds += weight_rounding(s->dots) * (fabs(r.ds) + r.in_ds);
    if (score.wild || leaves_range(r.p + r.in_p))
        r.in_p = r.in_ds = HUGE_VAL;
    if (leaves_range(sizes) || leaves_range(fabs(r.ds) + r.in_ds))
        r.in_ds = HUGE_VAL;
    return r;
}

/* A term w x of a sum of n, where w is wrong by `in`. */
static inline void attention_term(const double *x, const attention_shape *s, double scale, double w,
                                  double in, int64_t n, double *error) {
    for (int64_t d = 0; d < s->D; d++) {
        double size = fabs(x[d]) * scale, reach = s->dots ? fabs(x[d]) : size;
        if (isinf(in) || leaves_range(reach * (fabs(w) + in)))
            error[d] = BOUND_ANYTHING;
        else if (size > 0 && error[d] < BOUND_ANYTHING)
            error[d] += size * (in + mzi_gamma(n + 3, attention_u) * (fabs(w) + in));
        error[d] += 2 * smallest(s->dots) * (s->dots && isfinite(w) ? 1 + fabs(w) : 1);
    }
}

/* Adds the errors that query head h brings to `error`, of the form of qkv. */
static inline void attention_bound_bwd(const attention_shape *s, double *const in[4], int64_t b,
                                       int64_t h, double *error) {
    const double *dy = in[0], *qkv = in[1], *y = in[2], *lse = in[3];
    attention_place at = attention_places(s, b, h);
    int64_t D = s->D, of_key = s->T * (s->H / s->G);
    for (int64_t i = 0; i < s->T; i++)
        for (int64_t j = 0; j <= i; j++) {
            int64_t q = at.q + i * at.E, k = at.k + j * at.E, v = at.v + j * at.E;
            int64_t out = at.y + i * at.O;
            attention_score score = score_of(qkv + q, qkv + k, D, s->scale, s->dots);
            attention_pair r = pair_of(s, score, lse[at.lse + i], dy + out, qkv + v, y + out);
            attention_term(qkv + k, s, s->scale, r.ds, r.in_ds, i + 1, error + q);
            attention_term(qkv + q, s, s->scale, r.ds, r.in_ds, of_key, error + k);
            attention_term(dy + out, s, 1, r.p, r.in_p, of_key, error + v);
        }
}

#endif
