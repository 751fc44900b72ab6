/* Bounds of RMS norm, the gated unit and rotary positions; u = 2^-24.  As in checkkern_bound.c, the
 * one rounding to the storage type is not part of them. */
#include "checkkern.h"

static const double u = 0x1p-24;

/* A row:
 *   m     = mean x^2: C products, each added by one rounding: gamma_(C+1) m
 *   rstd  between rstd / sqrt(1 + r) and rstd / sqrt(1 - r), r that error / (m + eps); 0 if the sum
 *         of squares leaves FP32
 *   y     x rstd gamma, two roundings, from rstd as stored */
static void rms_bound_row(const ck_case *c, int64_t r, double *error[MZK_OUT_MAX]) {
    int64_t C = c->p.norm.C;
    double eps = (double)c->p.norm.eps, m = 0;
    for (int64_t i = r * C; i < (r + 1) * C; i++)
        m += pow(ck_in(c, 0, i), 2) / (double)C;
    double ratio = (mzi_gamma(C + 1, u) * m + 0x1p-148) / (m + eps);
    double rstd = 1 / sqrt(m + eps), wrong = rstd * (1 / sqrt(1 - ratio) - 1);
    if (1.001 * (double)C * m > mzi_largest(MEZZO_F32))
        wrong = fmax(wrong, rstd);
    error[1][r] = wrong;
    wrong += u * (rstd + wrong) + 0x1p-150;
    for (int64_t k = 0; k < C; k++) {
        double x = fabs(ck_in(c, 0, r * C + k)), gamma = fabs(ck_in(c, 1, k));
        error[0][r * C + k] =
            x * gamma * (wrong + mzi_gamma(2, u) * (rstd + wrong)) + 0x1p-149 * (1 + gamma);
    }
}

void ck_bound_rms(const ck_case *c, double *error[MZK_OUT_MAX]) {
    for (int64_t r = c->begin; r < c->end; r++)
        rms_bound_row(c, r, error);
}

/* dx of a row: g and xhat have one rounding each.
 *   mean(g xhat)  C terms, division, rounded: gamma_(C+4) mean|g xhat|
 *   dx            xhat again, a difference, a product: gamma_(C+8) of |rstd| (|g| + |xhat| mean|g
 *                 xhat|)
 * A product that underflows loses t = 2^-149: with X and G the largest |xhat| and |g|, mean(g xhat)
 * loses t (X + G + 2) of it. */
static void rms_bwd_bound_row(const ck_case *c, int64_t r, double *dx) {
    int64_t C = c->p.norm.C;
    double mean_dot = 0, xhat_max = 0, g_max = 0, rstd = fabs(ck_in(c, 2, r));
    for (int64_t k = 0; k < C; k++) {
        double g = fabs(ck_in(c, 0, r * C + k) * ck_in(c, 3, k));
        double xhat = fabs(ck_in(c, 1, r * C + k)) * rstd;
        mean_dot += g * xhat / (double)C;
        g_max = fmax(g_max, g);
        xhat_max = fmax(xhat_max, xhat);
    }
    for (int64_t k = 0; k < C; k++) {
        double g = fabs(ck_in(c, 0, r * C + k) * ck_in(c, 3, k));
        double xhat = fabs(ck_in(c, 1, r * C + k)) * rstd;
        double lost = 3 + xhat * (xhat_max + g_max + 2) + mean_dot;
        dx[r * C + k] =
            mzi_gamma(C + 8, u) * rstd * (g + xhat * mean_dot) + 0x1p-149 * (1 + rstd * lost);
    }
}

/* dgamma: a term has two roundings, the sum over a chunk as many as rows. */
void ck_bound_rms_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t C = c->p.norm.C, grain = c->p.norm.grain;
    double relative = mzi_gamma(grain + 2, u);
    for (int64_t r = c->begin; r < c->end; r++) {
        rms_bwd_bound_row(c, r, error[0]);
        for (int64_t k = 0; k < C; k++) {
            double dy = fabs(ck_in(c, 0, r * C + k));
            double xhat = fabs(ck_in(c, 1, r * C + k) * ck_in(c, 2, r));
            error[1][r / grain * C + k] += relative * dy * xhat + 0x1p-149 * (1 + dy);
        }
    }
}

/* s = 1 / (1 + e), e = exp(-a), in units of u:
 *   e: 3; 1 + e: the share q = e / (1 + e) of that, and 1; a division: 1.  in_s = 3 q + 2
 * Below a = -86 the kernels give 0 where |silu| and |silu'| are below 2^-117. */
static double sigmoid(double a) {
    return 1 / (1 + exp(-a));
}
static const double silu_end = 0x1p-117;

/* y = a / (1 + e) b: in_s and a product; the fourth of 4: second-order terms.  A silu that
 * underflows loses a subnormal step. */
void ck_bound_swiglu(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t n = c->p.e.n;
    for (int64_t i = c->begin * n; i < c->end * n; i++) {
        int64_t at = i / n * 2 * n + i % n;
        double a = ck_in(c, 0, at), b = fabs(ck_in(c, 0, at + n)), s = sigmoid(a);
        double silu = a < -700 ? 0 : fabs(a) * s; /* exp(700) is below FP64's largest */
        error[0][i] = b * (silu * (3 * sigmoid(-a) + 4) * u + silu_end) + 0x1p-149;
    }
}

/* slope = s + (a s) (s e): in_s; in_s + 1; in_s + 4; the product is added without a rounding, the
 * sum has one.  da = dy slope b has two more, db = dy (a s) in_s + 2. */
void ck_bound_swiglu_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t n = c->p.e.n;
    for (int64_t i = c->begin * n; i < c->end * n; i++) {
        int64_t at = i / n * 2 * n + i % n;
        double dy = fabs(ck_in(c, 0, i)), a = ck_in(c, 1, at), b = fabs(ck_in(c, 1, at + n));
        double s = sigmoid(a), q = sigmoid(-a), in_s = 3 * q + 2;
        double silu = a < -700 ? 0 : fabs(a) * s, second = isinf(a) ? 0 : fabs(a) * s * q;
        double slope = s * in_s + second * (2 * in_s + 6) + 4 * (s + second);
        error[0][at] = dy * b * (slope * u + silu_end) + 0x1p-149 * (1 + b);
        error[0][at + n] = dy * (silu * (in_s + 3) * u + silu_end) + 0x1p-149;
    }
}

/* Two products and a sum: the second product is added without a rounding of its own.  What is not
 * turned is copied. */
void ck_bound_rope(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t n = c->p.rope.n, D = c->p.rope.D, half = D / 2, turned = c->p.rope.heads * D;
    for (int64_t i = c->begin * n; i < c->end * n; i++) {
        int64_t j = i % n % D, row = i / n % c->p.rope.T * D + j % half;
        if (i % n >= turned)
            continue;
        double same = fabs(ck_in(c, 0, i) * ck_in(c, 1, row));
        double other = fabs(ck_in(c, 0, j < half ? i + half : i - half) * ck_in(c, 1, row + half));
        error[0][i] = mzi_gamma(2, u) * (same + other) + 0x1p-148;
    }
}
