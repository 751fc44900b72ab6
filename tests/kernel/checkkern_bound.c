/* Error bounds, u = 2^-24.  Everything here is FP64 and follows the kernels' own formulas; the one
 * rounding to the storage type is not part of it. */
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"

static const double u = 0x1p-24;

/* A sum of n products in any order: gamma_n sum |a||b|, where the sum of magnitudes comes from the
 * reference itself, run on operands whose signs make every term positive. */
static void magnitudes(const ck_case *c, double *error[MZK_OUT_MAX]) {
    mzk_args args = ck_case_args(c);
    double *copy[MZK_IN_MAX] = {0};
    for (int k = 0; k < c->outs; k++) {
        if (mezzo_dtype_is_float(c->out[k].type))
            args.out_type[k] = MEZZO_F64;
        args.out[k] = c->out[k].absent ? NULL : error[k];
    }
    for (int k = 0; k < c->ins; k++) {
        if (!mezzo_dtype_is_float(c->in[k].type) || !args.in[k])
            continue;
        copy[k] = malloc((size_t)(c->in[k].count + 1) * sizeof(double));
        if (!copy[k])
            abort();
        for (int64_t i = 0; i < c->in[k].count; i++) {
            bool minus = c->about->signs[k] == '-' || (c->about->content[k] == 's' && i == 0);
            copy[k][i] =
                minus ? -fabs(ck_in(c, k, i)) : fabs(ck_in(c, k, i)); /* lr is subtracted */
        }
        args.in[k] = copy[k];
        args.in_type[k] = MEZZO_F64;
    }
    mzk_pick(c->about->family, MEZZO_ISA_REF)->fn(&args, c->begin, c->end);
    for (int k = 0; k < c->ins; k++)
        free(copy[k]);
}

static void by_roundings(const ck_case *c, int n, double *error[MZK_OUT_MAX]) {
    magnitudes(c, error);
    /* Up to 1024 additions in FP64; products that underflow lose half a subnormal step each, and
     * are multiplied by coefficients below 16 afterwards. */
    double relative = mzi_gamma(n, u) + mzi_gamma(1024, 0x1p-53);
    for (int k = 0; k < c->outs; k++)
        for (int64_t i = 0; mezzo_dtype_is_float(c->out[k].type) && i < c->out[k].count; i++)
            error[k][i] = relative * fabs(error[k][i]) + (n ? 16 * n * 0x1p-150 : 0);
}

void ck_bound(const ck_case *c, double *error[MZK_OUT_MAX]) {
    if (c->about->bound)
        c->about->bound(c, error);
    else
        by_roundings(c, c->about->roundings(c), error);
}

/* The product of two numbers, if one of them is a subnormal. */
static double flushed(double a, double b) {
    const double least = 0x1p-126;
    return fabs(a) < least || fabs(b) < least ? fabs(a * b) : 0;
}

/* K products, K sums and c.  The dot instruction for bf16 takes subnormal operands for zeros, and
 * makes zeros of subnormal sums. */
void ck_bound_matmul(const ck_case *c, double *error[MZK_OUT_MAX]) {
    const mzk_matmul_params *p = &c->p.matmul;
    by_roundings(c, (int)p->K + 1, error);
    if (c->in[0].type != MEZZO_BF16 || c->in[1].type != MEZZO_BF16)
        return;
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t n = 0; n < p->N; n++)
            for (int64_t k = 0; k < p->K; k++)
                error[0][m * p->N + n] +=
                    flushed(ck_in(c, 0, p->transpose_a ? k * p->M + m : m * p->K + k),
                            ck_in(c, 1, p->transpose_b ? n * p->K + k : k * p->N + n)) +
                    0x1p-126;
}

/* gelu = x / (1 + e), e = exp(t), t = -z.
 *   t  = x (k1 + k3 x^2), in powers of 2: two constants, four operations: 5 u |t|.
 *   e: 5 u |t| from t, 3 u of its own; 1 + e: the share e / (1 + e) of that, and u; its reciprocal:
 * 1.1 u; the product with x: u.
 * Below t = 86 the kernel gives 0 where |gelu| < 2^-116. */
static double gelu_t(double x) {
    return -2 * sqrt(M_2_PI) * (x + 0.044715 * x * x * x);
}
static double share(double t) { /* e / (1 + e) */
    return 1 / (1 + exp(-t));
}
static const double gelu_end = 0x1p-116;

void ck_bound_gelu(const ck_case *c, double *error[MZK_OUT_MAX]) {
    for (int64_t i = c->begin; i < c->end; i++) {
        double x = ck_in(c, 0, i), t = gelu_t(x);
        double relative = share(t) * (5 * fabs(t) + 3) + 4.1; /* the fourth: second-order terms */
        if (!(fabs(t) < 90))                                  /* x or 0 to the last bit */
            relative = 3;
        error[0][i] = fabs(x) * share(-t) * relative * u + gelu_end;
    }
}

/* slope = s + (x z') s (s e) with s = 1 / (1 + e):
 *   s: share (5 |t| + 3) + 2.1;  e: 5 |t| + 3;  x z': 5 roundings;  products: 3.  */
void ck_bound_gelu_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    for (int64_t i = c->begin; i < c->end; i++) {
        double dy = ck_in(c, 0, i), x = ck_in(c, 1, i), t = gelu_t(x);
        double s = share(-t), q = share(t), absolute = 3 * u;
        if (fabs(t) < 90) {
            double in_s = q * (5 * fabs(t) + 3) + 2.1, in_e = 5 * fabs(t) + 3;
            double second = fabs(x) * 2 * sqrt(M_2_PI) * (1 + 3 * 0.044715 * x * x) * s * q;
            absolute = u * (s * in_s + second * (2 * in_s + in_e + 8) + 3 * (s + second));
        }
        error[0][i] = fabs(dy) * (absolute + gelu_end);
    }
}

/* Layer norm of a row, e being what the mean is wrong by:
 *   mean  a sum of C terms and its division, rounded: e = gamma_(C+1) sum|x| / C
 *   var   of x - mean' is var + e^2, as sum(x - mean) = 0; C terms of a rounded difference,
 * squared: wrong by e^2 + gamma_(C+4) (var + e^2).  It is never negative rstd  between rstd /
 * sqrt(1 + r) and rstd / sqrt(1 - r), r that error / (var + eps), and never above 1/sqrt(eps); 0 if
 * the sum of squares leaves FP32 y     (x - mean) rstd gamma + beta, three roundings, from mean and
 * rstd as stored */
static void ln_bound_row(const ck_case *c, int64_t r, double *error[MZK_OUT_MAX]) {
    int64_t C = c->p.norm.C;
    double eps = (double)c->p.norm.eps, n = (double)C, sum = 0, sum_abs = 0, squares = 0;
    for (int64_t i = r * C; i < (r + 1) * C; i++) {
        sum += ck_in(c, 0, i);
        sum_abs += fabs(ck_in(c, 0, i));
    }
    double mean = sum / n, e = mzi_gamma(C + 1, u) * sum_abs / n + 0x1p-149;
    for (int64_t i = r * C; i < (r + 1) * C; i++)
        squares += pow(ck_in(c, 0, i) - mean, 2);
    double var = squares / n, ratio = e * e + mzi_gamma(C + 4, u) * (var + e * e) + 0x1p-148;
    ratio /= var + eps;
    double rstd = 1 / sqrt(var + eps), wrong = 1 / sqrt(eps);
    if (ratio < 1)
        wrong = fmin(wrong, rstd * (1 / sqrt(1 - ratio) - 1));
    if (1.001 * n * (var + e * e) > mzi_largest(MEZZO_F32))
        wrong = fmax(wrong, rstd);
    error[1][r] = e;
    error[2][r] = wrong;
    wrong += u * (rstd + wrong);
    for (int64_t k = 0; k < C; k++) {
        double far = fabs(ck_in(c, 0, r * C + k) - mean), gamma = fabs(ck_in(c, 1, k));
        double beta = c->in[2].count ? fabs(ck_in(c, 2, k)) : 0;
        error[0][r * C + k] = gamma * (e * (rstd + wrong) + far * wrong) +
                              mzi_gamma(3, u) * (gamma * (far + e) * (rstd + wrong) + beta) +
                              0x1p-149 * (1 + gamma);
    }
}

void ck_bound_ln(const ck_case *c, double *error[MZK_OUT_MAX]) {
    for (int64_t r = c->begin; r < c->end; r++)
        ln_bound_row(c, r, error);
}

static double ln_xhat(const ck_case *c, int64_t r, int64_t k) {
    return (ck_in(c, 1, r * c->p.norm.C + k) - ck_in(c, 2, r)) * ck_in(c, 3, r);
}

/* dx of a row: g has one rounding, xhat two.
 *   mean(g)       C terms, division, rounded: gamma_(C+2) mean|g|
 *   mean(g xhat)  gamma_(C+5) mean|g xhat|
 *   dx            four more, and xhat's: gamma_(C+11) of |rstd| (|g| + mean|g| + |xhat| mean|g
 * xhat|) A product that underflows loses t = 2^-149: with X and G the largest |xhat| and |g|,
 * mean(g xhat) loses t (X + G + 2) of it. */
static void ln_bwd_bound_row(const ck_case *c, int64_t r, double *dx) {
    int64_t C = c->p.norm.C;
    double mean_g = 0, mean_dot = 0, xhat_max = 0, g_max = 0, rstd = fabs(ck_in(c, 3, r));
    for (int64_t k = 0; k < C; k++) {
        double g = fabs(ck_in(c, 0, r * C + k) * ck_in(c, 4, k)), xhat = fabs(ln_xhat(c, r, k));
        mean_g += g / (double)C;
        mean_dot += g * xhat / (double)C;
        g_max = fmax(g_max, g);
        xhat_max = fmax(xhat_max, xhat);
    }
    for (int64_t k = 0; k < C; k++) {
        double g = fabs(ck_in(c, 0, r * C + k) * ck_in(c, 4, k)), xhat = fabs(ln_xhat(c, r, k));
        double lost = 3 + xhat * (xhat_max + g_max + 2) + mean_dot;
        dx[r * C + k] = mzi_gamma(C + 11, u) * rstd * (g + mean_g + xhat * mean_dot) +
                        0x1p-149 * (1 + rstd * lost);
    }
}

/* dgamma and dbeta: a term has at most four roundings, the sum over a chunk as many as rows. */
void ck_bound_ln_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t C = c->p.norm.C, grain = c->p.norm.grain;
    double relative = mzi_gamma(grain + 4, u);
    for (int64_t r = c->begin; r < c->end; r++) {
        ln_bwd_bound_row(c, r, error[0]);
        for (int64_t k = 0; k < C; k++) {
            double dy = fabs(ck_in(c, 0, r * C + k)), dot = dy * fabs(ln_xhat(c, r, k));
            error[1][r / grain * C + k] += relative * dot + 0x1p-149 * (1 + dy);
            if (!c->out[2].absent)
                error[2][r / grain * C + k] += relative * dy;
        }
    }
}

/* Of a row: max, sum of exp(x - max), and the error of log(sum).
 * A term: u |d| from d = x - max, 3 u of exp; the sum gamma_V; log of a value wrong by r is wrong
 * by r. */
static double lse_error(const ck_case *c, int64_t row, double *lse) {
    int64_t V = c->p.loss.V;
    double max = -HUGE_VAL, sum = 0, wrong = 0;
    for (int64_t v = 0; v < V; v++)
        max = fmax(max, ck_in(c, 0, row * V + v));
    for (int64_t v = 0; v < V; v++) {
        double d = ck_in(c, 0, row * V + v) - max, e = exp(d);
        sum += e;
        wrong += e > 0 ? e * (fabs(d) + 4) * u : 0;
    }
    *lse = max + log(sum);
    return 1.001 * (wrong / sum + mzi_gamma(V, u)) + (double)V * 0x1p-148;
}

/* What smoothing adds to the magnitudes of a row's loss. */
static double smoothed(const ck_case *c, int64_t row) {
    int64_t V = c->p.loss.V;
    double sum = 0;
    if (c->p.loss.smoothing > 0)
        for (int64_t v = 0; v < V; v++)
            sum += fabs(ck_in(c, 0, row * V + v));
    return 2 * sum;
}

void ck_bound_xent_part(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t grain = c->p.loss.grain;
    memset(error[1], 0, (size_t)c->out[1].count * sizeof(double)); /* the counts are exact */
    for (int64_t row = c->begin; row < c->end; row++) {
        double lse;
        error[0][row] = lse_error(c, row, &lse);
        if (ck_in(c, 1, row) >= 0) /* FP64 sums over the row and the chunk */
            error[1][row / grain * 3] +=
                error[0][row] +
                (fabs(lse) + smoothed(c, row)) * mzi_gamma(grain + c->p.loss.V, 0x1p-53);
    }
}

/* (exp(d) - target) factor, d = logit - lse: exp(d) (|d| + 4) u, then two roundings, that of the
 * factor and, with smoothing, that of the target. */
void ck_bound_xent_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t V = c->p.loss.V;
    double factor = fabs(ck_in(c, 3, 0)) / fmax(ck_in(c, 4, 0), 1);
    int roundings = c->p.loss.smoothing > 0 ? 4 : 3;
    for (int64_t i = c->begin * V; i < c->end * V; i++) {
        double d = ck_in(c, 0, i) - ck_in(c, 2, i / V), p = exp(d);
        double in_p = p > 0 ? p * (fabs(d) + 4) * u + 0x1p-149 : 0x1p-149;
        error[0][i] = factor * (1.001 * in_p + roundings * (p + 1) * u) + (p + 1) * 0x1p-150;
    }
}

/* Rounding errors of m and v as sums of two products; the update has relative error from v under
 * the root, and five operations of its own. */
void ck_bound_adamw(const ck_case *c, double *error[MZK_OUT_MAX]) {
    double beta1 = (double)c->p.optim.beta1, beta2 = (double)c->p.optim.beta2;
    double lr = fabs(ck_in(c, 4, 0)) * (double)c->p.optim.lr_scale;
    double correct1 = fabs(ck_in(c, 4, 2)), correct2 = ck_in(c, 4, 3);
    double decay = lr * (double)c->p.optim.weight_decay;
    for (int64_t i = c->begin; i < c->end; i++) {
        double g = ck_in(c, 0, i) * ck_in(c, 4, 1), w = fabs(ck_in(c, 1, i)), m = ck_in(c, 2, i);
        double v = beta2 * ck_in(c, 3, i) + (1 - beta2) * g * g;
        double in_m = mzi_gamma(5, u) * (fabs(beta1 * m) + fabs((1 - beta1) * g)) + 0x1p-146;
        double in_v = mzi_gamma(6, u) * v + 0x1p-146;
        m = beta1 * m + (1 - beta1) * g;
        double root = sqrt(v * correct2), eps = (double)c->p.optim.eps;
        double update = lr * fabs(m) * correct1 / (root + eps);
        /* sqrt(v + dv) differs from sqrt(v) by at most dv / sqrt(v), and by sqrt(dv). */
        double in_root =
            v > 0 ? fmin(in_v / sqrt(v), sqrt(in_v)) * sqrt(correct2) : sqrt(in_v * correct2);
        double relative = in_root / (root + eps) + mzi_gamma(6, u);
        error[0][i] = lr * in_m * correct1 / (root + eps) * (1 + relative) +
                      1.01 * update * relative + mzi_gamma(4, u) * (w * (1 + decay) + update);
        if (g * g > mzi_largest(MEZZO_F32)) /* v becomes infinite, and the update 0 */
            error[0][i] += update;
        error[1][i] = in_m;
        error[2][i] = in_v;
    }
}

/* The averages as AdamW's m.  Where the first is within its own error of 0, its sign may be any; w
 * (1 - decay) - step has two roundings, and one of each constant. */
void ck_bound_lion(const ck_case *c, double *error[MZK_OUT_MAX]) {
    double beta1 = (double)c->p.optim.beta1, beta2 = (double)c->p.optim.beta2;
    double lr = fabs(ck_in(c, 3, 0)) * (double)c->p.optim.lr_scale;
    double decay = lr * (double)c->p.optim.weight_decay;
    for (int64_t i = c->begin; i < c->end; i++) {
        double g = ck_in(c, 0, i) * ck_in(c, 3, 1), w = fabs(ck_in(c, 1, i)), m = ck_in(c, 2, i);
        double u1 = beta1 * m, u2 = (1 - beta1) * g;
        bool any_sign = fabs(u1 + u2) <= mzi_gamma(5, u) * (fabs(u1) + fabs(u2)) + 0x1p-146;
        error[0][i] = mzi_gamma(4, u) * (w * (1 + decay) + lr) + (any_sign ? 2 * lr : 0);
        error[1][i] = mzi_gamma(5, u) * (fabs(beta2 * m) + fabs((1 - beta2) * g)) + 0x1p-146;
    }
}

/* d and 1 - d have a rounding each, their products another, and so has the sum.  Signs do not make
 * this a sum of magnitudes: a d beyond 1 makes 1 - d negative. */
void ck_bound_ema(const ck_case *c, double *error[MZK_OUT_MAX]) {
    double d = (double)c->p.e.alpha * ck_in(c, 2, 4);
    for (int64_t i = c->begin; i < c->end; i++)
        error[0][i] =
            mzi_gamma(3, u) * (fabs(d * ck_in(c, 1, i)) + fabs((1 - d) * ck_in(c, 0, i))) +
            0x1p-147;
}
