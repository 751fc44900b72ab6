/* exp in FP32 vectors. */
#ifndef MZK_SIMD_EXP_H
#define MZK_SIMD_EXP_H

/* exp(x) = 2^n exp(r), n = nearest(x / ln 2), r = x - n ln 2, |r| <= ln(2)/2.
 *
 * Relative error, in units of u = 2^-24: the Taylor polynomial of degree 7 leaves
 * r^8/8! < 0.13 u exp(r); rounding r gives 0.35 u; the last step of Horner's rule 1 u, the steps
 * before it, damped by |r|/exp(r) <= 0.5, less than 0.7 u.  In all below 3 u, and one rounding more
 * where the result is subnormal.
 *
 * Beyond [-104, 89] the result is 0 or infinity, as it is at those ends.  NaN stays. */
INLINE vf vf_exp(vf x) {
    x = vf_max(vf_set(-104), x);
    x = vf_min(vf_set(89), x);
    vf n = vf_nearest(vf_mul(x, vf_set(0x1.715476p+0f))); /* 1 / ln 2 */
    /* ln 2 in two parts: n times the first, of 15 bits, is exact. */
    vf r = vf_fnma(n, vf_set(0x1.62e4p-1f), x);
    r = vf_fnma(n, vf_set(0x1.7f7d1cp-20f), r);
    vf p = vf_set(1.0f / 5040);
    p = vf_fma(p, r, vf_set(1.0f / 720));
    p = vf_fma(p, r, vf_set(1.0f / 120));
    p = vf_fma(p, r, vf_set(1.0f / 24));
    p = vf_fma(p, r, vf_set(1.0f / 6));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1));
    p = vf_fma(p, r, vf_set(1));
    /* n is -150..128, beyond the exponents of FP32: two factors. */
    vf half = vf_nearest(vf_mul(n, vf_set(0.5f)));
    return vf_mul(vf_mul(p, vf_exp2_of(half)), vf_exp2_of(vf_sub(n, half)));
}

#endif
