/* log in FP64, of FP32 vectors. */
#ifndef MZK_SIMD_LOG_H
#define MZK_SIMD_LOG_H

#include "kernel/simd/inline.h"

/* ln w for a normal w > 0.  w = 2^e m with m in [sqrt(1/2), sqrt(2)), and ln m = 2 atanh(s) =
 * 2 (s + s^3/3 + s^5/5 ...), s = (m - 1) / (m + 1), |s| < 0.172.  Cut behind s^17: s^18 / 19 <
 * 2^-50 of it; and a few roundings of 2^-53, doubled where e ln 2 and ln m cancel by half. */
INLINE vd vd_ln(vf w) {
    const int32_t root = 0x3f3504f3; /* the bits of sqrt(1/2) */
    vi t = vi_add(vf_bits(w), vi_set(0x3f800000 - root));
    vf e = vf_sub(vf_of_integers(vi_shift_right(t, 23)), vf_set(127));
    vf m = vf_of_bits(vi_add(vi_and(t, vi_set(0x7fffff)), vi_set(root)));
    vd f = vd_of(vf_sub(m, vf_set(1)));
    vd s = vd_div(f, vd_add(f, vd_set(2))), z = vd_mul(s, s);
    vd p = vd_set(1.0 / 17);
    for (int n = 15; n > 0; n -= 2)
        p = vd_fma(p, z, vd_set(1.0 / n));
    return vd_fma(vd_of(e), vd_set(0x1.62e42fefa39efp-1), vd_mul(vd_mul(s, p), vd_set(2)));
}

#endif
