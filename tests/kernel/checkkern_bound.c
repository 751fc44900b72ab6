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
        args.out[k] = error[k];
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

void ck_bound(const ck_case *c, double *error[MZK_OUT_MAX]) {
    if (c->about->bound) {
        c->about->bound(c, error);
        return;
    }
    magnitudes(c, error);
    int n = c->about->roundings(c);
    /* Up to 1024 additions in FP64; products that underflow lose half a subnormal step each, and
     * are multiplied by coefficients below 16 afterwards. */
    double relative = mzi_gamma(n, u) + mzi_gamma(1024, 0x1p-53);
    for (int k = 0; k < c->outs; k++)
        for (int64_t i = 0; mezzo_dtype_is_float(c->out[k].type) && i < c->out[k].count; i++)
            error[k][i] = relative * fabs(error[k][i]) + (n ? 16 * n * 0x1p-150 : 0);
}

/* gelu = x / (1 + e), e = exp(t), t = -z.
 *   t  = x (k1 + k3 x^2): two constants, four operations: 5 u |t|.
 *   e: 5 u |t| from t, 3 u of its own; 1 + e: the share e / (1 + e) of that, and u; division: u.
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
        double relative = share(t) * (5 * fabs(t) + 3) + 3; /* the third: second-order terms */
        if (!(fabs(t) < 90))                                /* x or 0 to the last bit */
            relative = 3;
        error[0][i] = fabs(x) * share(-t) * relative * u + gelu_end;
    }
}

/* slope = s + (x z') s (s e) with s = 1 / (1 + e):
 *   s: share (5 |t| + 3) + 2;  e: 5 |t| + 3;  x z': 5 roundings;  products: 3.  */
void ck_bound_gelu_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    for (int64_t i = c->begin; i < c->end; i++) {
        double dy = ck_in(c, 0, i), x = ck_in(c, 1, i), t = gelu_t(x);
        double s = share(-t), q = share(t), absolute = 3 * u;
        if (fabs(t) < 90) {
            double in_s = q * (5 * fabs(t) + 3) + 2, in_e = 5 * fabs(t) + 3;
            double second = fabs(x) * 2 * sqrt(M_2_PI) * (1 + 3 * 0.044715 * x * x) * s * q;
            absolute = u * (s * in_s + second * (2 * in_s + in_e + 8) + 3 * (s + second));
        }
        error[0][i] = fabs(dy) * (absolute + gelu_end);
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

void ck_bound_xent_part(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t grain = c->p.loss.grain;
    memset(error[1], 0, (size_t)c->out[1].count * sizeof(double)); /* the counts are exact */
    for (int64_t row = c->begin; row < c->end; row++) {
        double lse;
        error[0][row] = lse_error(c, row, &lse);
        if (ck_in(c, 1, row) >= 0) /* FP64 sum over the chunk */
            error[1][row / grain * 3] += error[0][row] + fabs(lse) * mzi_gamma(grain, 0x1p-53);
    }
}

/* (exp(d) - [label]) factor, d = logit - lse: exp(d) (|d| + 4) u, then two roundings and that of
 * the factor. */
void ck_bound_xent_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    int64_t V = c->p.loss.V;
    double factor = fabs(ck_in(c, 3, 0)) / fmax(ck_in(c, 4, 0), 1);
    for (int64_t i = c->begin * V; i < c->end * V; i++) {
        double d = ck_in(c, 0, i) - ck_in(c, 2, i / V), p = exp(d);
        double in_p = p > 0 ? p * (fabs(d) + 4) * u + 0x1p-149 : 0x1p-149;
        error[0][i] = factor * (1.001 * in_p + 3 * (p + 1) * u) + (p + 1) * 0x1p-150;
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
