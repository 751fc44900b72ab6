/* exp in FP32 vectors. */
#ifndef MZK_SIMD_EXP_H
#define MZK_SIMD_EXP_H

/* exp(x) = 2^n exp(r), n = nearest(x / ln 2), r = x - n ln 2, |r| <= ln(2)/2.
 *
 * exp(r) = 1 + r (1 + r q(r)), q of degree 4 with the coefficients that make the largest relative
 * error least, by Remez's exchange, then rounded.
 *
 * Relative error, in units of u = 2^-24: the polynomial leaves 0.07 u; rounding r gives 0.35 u; the
 * last step of Horner's rule 1 u, the steps before it, damped by |r|/exp(r) <= 0.5, less than 0.7
 * u. In all below 3 u, and one rounding more where the result is subnormal.
 *
 * Beyond [-104, 89] the result is 0 or infinity, as it is at those ends.  NaN stays.
 *
 * The steps depend on each other, and one after the other they take longer than a CPU looks ahead:
 * so SIDE vectors go through them side by side where there are as many. */
enum {
    SIDE = VL == 16 ? 4 : 2
};

/* y = y x + c. */
INLINE void horner(vf *y, const vf *x, float c, int count) {
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        y[k] = vf_fma(y[k], x[k], vf_set(c));
}

/* x becomes exp(x), for a constant `count` of vectors, SIDE at most. */
INLINE void vf_exps(vf *x, int count) {
    vf n[SIDE], p[SIDE];
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        x[k] = vf_min(vf_set(89), vf_max(vf_set(-104), x[k]));
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        n[k] = vf_nearest(vf_mul(x[k], vf_set(0x1.715476p+0f))); /* 1 / ln 2 */
        /* ln 2 in two parts: n times the first, of 15 bits, is exact. */
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        x[k] = vf_fnma(n[k], vf_set(0x1.62e4p-1f), x[k]);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        x[k] = vf_fnma(n[k], vf_set(0x1.7f7d1cp-20f), x[k]);
        p[k] = vf_set(0x1.6a2434p-10f);
    }
    horner(p, x, 0x1.1239e2p-7f, count);
    horner(p, x, 0x1.5558f2p-5f, count);
    horner(p, x, 0x1.555492p-3f, count);
    horner(p, x, 0x1.fffffcp-2f, count);
    horner(p, x, 1, count);
    horner(p, x, 1, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        x[k] = vf_scale(p[k], n[k]);
}

INLINE vf vf_exp(vf x) {
    vf_exps(&x, 1);
    return x;
}

/* x becomes 2^x: 2^n (1 + f q(f)), n = nearest(x), f = x - n, which is exact, q as above.  The
 * polynomial leaves 0.36 u, most of it from rounding the coefficient of f; its steps less than
 * 1.7 u: in all below 3 u.  NaN stays.  Below -150 the result is 0; above 127 it is anything. */
INLINE void vf_exp2s(vf *x, int count) {
    vf n[SIDE], p[SIDE];
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        x[k] = vf_max(vf_set(-150), x[k]);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        n[k] = vf_nearest(x[k]);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        x[k] = vf_sub(x[k], n[k]);
        p[k] = vf_set(0x1.470b4ap-13f);
    }
    horner(p, x, 0x1.5f7276p-10f, count);
    horner(p, x, 0x1.3b270ep-7f, count);
    horner(p, x, 0x1.c6ae72p-5f, count);
    horner(p, x, 0x1.ebfbe2p-3f, count);
    horner(p, x, 0x1.62e432p-1f, count);
    horner(p, x, 1, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        x[k] = vf_scale(p[k], n[k]);
}

#endif
