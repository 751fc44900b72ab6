/* Normal values.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/dispatch.h"
#include "kernel/simd/log.h"
#include "kernel/simd/random.h"

/* Computed in FP64 with an error e, and rounded to FP32: the bits are the reference's unless a tie
 * between two floats is within e, and then the reference is asked.  Relative to the radius r =
 * alpha sqrt(-2 ln(1 - u0)) the parts of e are
 *
 *   ln (log.h) 2^-50, halved by the root
 *   cos and sin, cut behind x^14 and x^15, |x| <= pi/4: x^16 / 16! < 2^-49
 *   2 pi u1, which the reference rounds twice: 2^-50
 *
 * and a dozen roundings of 2^-53, the worst of them doubled where e ln 2 and ln m cancel by half:
 * together below 2^-46.  2^-40 is more than enough, and asks the reference for one group of 64
 * values in some hundreds. */
#define DOUBT 0x1p-40

/* Taylor, from the coefficient 1/n! on down: even n for cos, odd ones for sin. */
INLINE vd alternating(vd z, int n, double coefficient) {
    vd p = vd_set(coefficient);
    for (; n > 1; n -= 2) {
        coefficient *= -(double)n * (double)(n - 1);
        p = vd_fma(p, z, vd_set(coefficient));
    }
    return p;
}

/* Rounded; sets the bits of the lanes in doubt. */
INLINE vf rounded(vd x, vd doubt, uint32_t *bits) {
    vf low = vd_round(vd_sub(x, doubt)), high = vd_round(vd_add(x, doubt));
    uint32_t certain = vm_bits(vm_and_not(vf_equal(low, high), vf_equal(low, vf_zero())));
    *bits |= ~certain & (uint32_t)((UINT64_C(1) << VL) - 1);
    return low;
}

INLINE vf uniform_of(vi words) {
    return vf_mul(vf_of_integers(vi_shift_right(words, 8)), vf_set(0x1p-24f));
}

/* cos and sin of 2 pi u = (pi/2) (q + 4t), q an integer, |t| <= 1/8. */
INLINE void normal_pairs(vi w0, vi w1, double alpha, vf out[2], uint32_t *doubtful) {
    vd r = vd_mul(vd_set(alpha),
                  vd_sqrt(vd_mul(vd_set(-2), vd_ln(vf_sub(vf_set(1), uniform_of(w0))))));
    vd doubt = vd_mul(r, vd_set(DOUBT));
    vf u = uniform_of(w1), q = vf_nearest(vf_mul(u, vf_set(4)));
    vd x = vd_mul(vd_of(vf_fnma(q, vf_set(0.25f), u)), vd_set(2 * 0x1.921fb54442d18p+1));
    vd z = vd_mul(x, x);
    vf c = rounded(vd_mul(r, alternating(z, 14, -1.0 / 87178291200)), doubt, doubtful);
    vd s = vd_mul(x, alternating(z, 15, -1.0 / 1307674368000));
    vf d = rounded(vd_mul(r, s), doubt, doubtful);
    vf minus_c = vf_sub(vf_zero(), c), minus_d = vf_sub(vf_zero(), d);
    vm one = vf_equal(q, vf_set(1)), two = vf_equal(q, vf_set(2)), three = vf_equal(q, vf_set(3));
    out[0] = vf_select(one, minus_d, vf_select(two, minus_c, vf_select(three, d, c)));
    out[1] = vf_select(one, c, vf_select(two, minus_d, vf_select(three, minus_c, d)));
}

/* A group of GROUP values; false if one is in doubt. */
INLINE bool normal_group(float *y, const random_stream *s, uint64_t block, double alpha) {
    vi w[4];
    vf a[2], b[2];
    uint32_t doubtful = 0;
    random_blocks(w, s, block);
    normal_pairs(w[0], w[1], alpha, a, &doubtful);
    normal_pairs(w[2], w[3], alpha, b, &doubtful);
    if (doubtful)
        return false;
    vi_interleave4(w, vf_bits(a[0]), vf_bits(a[1]), vf_bits(b[0]), vf_bits(b[1]));
    for (int k = 0; k < 4; k++)
        vf_store(y, MEZZO_F32, (int64_t)k * VL, vf_of_bits(w[k]));
    return true;
}

void MZK_IMPL(normal)(const mzk_args *args, int64_t begin, int64_t end) {
    const int32_t *key = args->in[0];
    random_stream s = random_stream_of(key, args->p.e.stream);
    uint64_t before = (uint64_t)args->p.e.n * (uint64_t)(uint32_t)key[3];
    float *y = args->out[0];
    for (int64_t i = begin, next; i < end; i = next) {
        uint64_t m = before + (uint64_t)i;
        next = i + GROUP - (int64_t)(m % GROUP);
        bool whole = args->out_type[0] == MEZZO_F32 && m % GROUP == 0 && next <= end;
        next = next < end ? next : end;
        if (!whole || !normal_group(y + i, &s, m / 4, (double)args->p.e.alpha))
            mzk_normal_ref(args, i, next);
    }
}
