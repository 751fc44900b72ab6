/* Vectors of 16 floats.  The same names as in avx2/vec.h, so that one template serves both:
 *   vf floats, vi 32-bit integers, vm a truth value a lane; `_n` forms touch the first n lanes
 * only. With AVX512_BF16 the conversion to bf16 is the CPU's own. */
#ifndef MZK_AVX512_VEC_H
#define MZK_AVX512_VEC_H

#include <immintrin.h>

#include "kernel/simd/inline.h"
#include "num/number.h"

/* Without optimisation GCC's intrinsics with an immediate are macros, whose conversions of masks
 * it reports here. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"

enum {
    VL = 16
};
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

INLINE vm first_lanes(int64_t n) {
    return (vm)((1u << n) - 1u);
}

INLINE vf vf_set(float x) {
    return _mm512_set1_ps(x);
}
INLINE vf vf_zero(void) {
    return _mm512_setzero_ps();
}
INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
INLINE vf vf_sqrt(vf a) {
    return _mm512_sqrt_ps(a);
}
INLINE vf vf_fma(vf a, vf b, vf c) { /* a b + c */
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf vf_fnma(vf a, vf b, vf c) { /* c - a b */
    return _mm512_fnmadd_ps(a, b, c);
}
INLINE vf vf_max(vf a, vf b) { /* b if either is NaN */
    return _mm512_max_ps(a, b);
}
INLINE vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
INLINE vf vf_nearest(vf a) { /* to an integer */
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE vf vf_scale(vf a, vf n) { /* 2^n a for an integer n of -150..128 */
    return _mm512_scalef_ps(a, n);
}
/* 1 / a for a of [1, 2^125], within 1.1 u: the CPU's estimate r is within 2^-14, r + r (1 - a r)
 * within 2^-28 and a rounding. */
INLINE vf vf_reciprocal(vf a) {
    vf r = _mm512_rcp14_ps(a);
    return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(a, r, _mm512_set1_ps(1)), r);
}
INLINE float vf_sum(vf a) {
    return _mm512_reduce_add_ps(a);
}
INLINE float vf_peak(vf a) { /* the largest; no NaN */
    return _mm512_reduce_max_ps(a);
}

INLINE vm vf_greater(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
INLINE vm vf_equal(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
INLINE vm vf_not_at_most(vf a, vf b) { /* a > b, or one of them is NaN */
    return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ);
}
INLINE vm vf_is_nan(vf a) {
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
INLINE vm vm_or(vm a, vm b) {
    return (vm)(a | b);
}
INLINE vm vm_and_not(vm a, vm b) { /* a and not b */
    return (vm)(a & ~b);
}
INLINE uint32_t vm_bits(vm a) {
    return a;
}
INLINE vf vf_select(vm m, vf yes, vf no) {
    return _mm512_mask_blend_ps(m, no, yes);
}
INLINE vf vf_keep(vm m, vf a) { /* zero elsewhere */
    return _mm512_maskz_mov_ps(m, a);
}

INLINE vi vi_set(int32_t x) {
    return _mm512_set1_epi32(x);
}
INLINE vi vi_lane(void) { /* 0, 1, 2, ... */
    return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}
INLINE vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
INLINE vi vi_xor(vi a, vi b) {
    return _mm512_xor_si512(a, b);
}
INLINE vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
INLINE vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
INLINE vf vf_of_integers(vi a) { /* signed */
    return _mm512_cvtepi32_ps(a);
}
INLINE vi vf_bits(vf a) {
    return _mm512_castps_si512(a);
}
INLINE vf vf_of_bits(vi a) {
    return _mm512_castsi512_ps(a);
}
INLINE vm vi_equal(vi a, vi b) {
    return _mm512_cmpeq_epi32_mask(a, b);
}
INLINE vm vi_greater(vi a, vi b) { /* signed */
    return _mm512_cmpgt_epi32_mask(a, b);
}
INLINE vi vi_shift_right(vi a, int bits) {
    return _mm512_srli_epi32(a, (unsigned)bits);
}
INLINE vi vi_shift_left(vi a, int bits) {
    return _mm512_slli_epi32(a, (unsigned)bits);
}
INLINE vi vi_select(vm m, vi yes, vi no) {
    return _mm512_mask_blend_epi32(m, no, yes);
}
INLINE vi vi_load(const uint32_t *p) {
    return _mm512_loadu_si512(p);
}
INLINE void vi_store(uint32_t *p, vi a) {
    _mm512_storeu_si512(p, a);
}
/* The 64-bit products of 32-bit lanes, as high and low halves. */
INLINE void vi_multiply(vi a, uint32_t factor, vi *high, vi *low) {
    vi f = _mm512_set1_epi64((int64_t)factor);
    vi even = _mm512_mul_epu32(a, f), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), f);
    *high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    *low = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
/* Block number (from 0) in lane 4k + q is 4q + k; vi_interleave4 puts the blocks in order. */
INLINE vi vi_block_order(void) {
    return _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
}
INLINE void vi_interleave4(vi out[4], vi w0, vi w1, vi w2, vi w3) {
    vi low01 = _mm512_unpacklo_epi32(w0, w1), high01 = _mm512_unpackhi_epi32(w0, w1);
    vi low23 = _mm512_unpacklo_epi32(w2, w3), high23 = _mm512_unpackhi_epi32(w2, w3);
    out[0] = _mm512_unpacklo_epi64(low01, low23);
    out[1] = _mm512_unpackhi_epi64(low01, low23);
    out[2] = _mm512_unpacklo_epi64(high01, high23);
    out[3] = _mm512_unpackhi_epi64(high01, high23);
}

/* 16 x 16: lane c of row r becomes lane r of row c. */
INLINE void vi_transpose(vi x[16]) {
    vi quad[16]; /* quad[4 b + q]: lane 4 l + i is column 4 l + q of row 4 b + i */
#pragma GCC unroll 4
    for (int b = 0; b < 4; b++)
        vi_interleave4(quad + 4 * b, x[4 * b], x[4 * b + 1], x[4 * b + 2], x[4 * b + 3]);
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        vi a = _mm512_shuffle_i32x4(quad[q], quad[4 + q], 0x88);
        vi b = _mm512_shuffle_i32x4(quad[8 + q], quad[12 + q], 0x88);
        vi c = _mm512_shuffle_i32x4(quad[q], quad[4 + q], 0xdd);
        vi d = _mm512_shuffle_i32x4(quad[8 + q], quad[12 + q], 0xdd);
        x[q] = _mm512_shuffle_i32x4(a, b, 0x88);
        x[8 + q] = _mm512_shuffle_i32x4(a, b, 0xdd);
        x[4 + q] = _mm512_shuffle_i32x4(c, d, 0x88);
        x[12 + q] = _mm512_shuffle_i32x4(c, d, 0xdd);
    }
}

/* Pairs of 16-bit numbers: the first n numbers, n below 32, and zeros. */
INLINE vi vi_load_pairs_n(const uint16_t *p, int64_t n) {
    return _mm512_maskz_loadu_epi16(n >= 32 ? 0xffffffffu : (1u << n) - 1u, p);
}
/* Pairs a[i], b[i] for i of 0..31. */
INLINE void vi_interleave_u16(vi out[2], const uint16_t *a, const uint16_t *b) {
    vi lane = vi_lane(), x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
    /* Number i of a is i, of b 32 + i. */
    vi order = vi_or(lane, vi_shift_left(vi_add(lane, vi_set(32)), 16));
    out[0] = _mm512_permutex2var_epi16(x, order, y);
    out[1] = _mm512_permutex2var_epi16(x, vi_add(order, vi_set(0x100010)), y);
}

INLINE vi vi_load_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE vi vi_load_u8_n(const uint8_t *p, int64_t n) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p));
}
INLINE void vi_store_u8(uint8_t *p, vi a) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a));
}
INLINE void vi_store_u8_n(uint8_t *p, vi a, int64_t n) {
    _mm_mask_storeu_epi8(p, first_lanes(n), _mm512_cvtepi32_epi8(a));
}

/* Numbers of 0 to 65535. */
INLINE vi vi_load_u16(const uint16_t *p) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vi vi_load_i16(const uint16_t *p) { /* with their signs */
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vi vi_load_u16_n(const uint16_t *p, int64_t n) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
INLINE void vi_store_u16(uint16_t *p, vi a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(a));
}
INLINE void vi_store_u16_n(uint16_t *p, vi a, int64_t n) {
    _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16(a));
}

INLINE vf bf16_widen(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

/* Nearest even in integers, as mzi_bf16_round does it. */
INLINE __m256i bf16_round_bits(vf x) {
    vi bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    vi odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    vi up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    vi rounded = _mm512_srli_epi32(up, 16);
    rounded = _mm512_mask_or_epi32(rounded, vf_is_nan(x), high, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(rounded);
}

INLINE __m256i bf16_narrow(vf x) {
#ifdef __AVX512BF16__
    /* The instruction rounds to nearest even, and turns subnormals into zeros: those are rare. */
    enum {
        SUBNORMAL = 0x20
    };
    if (__builtin_expect(_mm512_fpclass_ps_mask(x, SUBNORMAL) == 0, 1))
        return (__m256i)_mm512_cvtneps_pbh(x);
#endif
    return bf16_round_bits(x);
}

/* Both rounded: lane i holds a[i] in its low half, b[i] in its high one. */
INLINE vi bf16_narrow_pairs(vf a, vf b) {
    vi low = _mm512_cvtepu16_epi32(bf16_narrow(a)), high = _mm512_cvtepu16_epi32(bf16_narrow(b));
    return vi_or(low, vi_shift_left(high, 16));
}

INLINE vf vf_load(const void *data, mezzo_dtype type, int64_t i) {
    if (type == MEZZO_F32)
        return _mm512_loadu_ps((const float *)data + i);
    __m256i half = _mm256_loadu_si256((const __m256i *)((const uint16_t *)data + i));
    return type == MEZZO_BF16 ? bf16_widen(half) : _mm512_cvtph_ps(half);
}
INLINE vf vf_load_n(const void *data, mezzo_dtype type, int64_t i, int64_t n) {
    if (type == MEZZO_F32)
        return _mm512_maskz_loadu_ps(first_lanes(n), (const float *)data + i);
    __m256i half = _mm256_maskz_loadu_epi16(first_lanes(n), (const uint16_t *)data + i);
    return type == MEZZO_BF16 ? bf16_widen(half) : _mm512_cvtph_ps(half);
}
INLINE __m256i half_of(mezzo_dtype type, vf x) {
    return type == MEZZO_BF16 ? bf16_narrow(x)
                              : _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE void vf_store(void *data, mezzo_dtype type, int64_t i, vf x) {
    if (type == MEZZO_F32)
        _mm512_storeu_ps((float *)data + i, x);
    else
        _mm256_storeu_si256((__m256i *)((uint16_t *)data + i), half_of(type, x));
}
INLINE void vf_store_n(void *data, mezzo_dtype type, int64_t i, vf x, int64_t n) {
    if (type == MEZZO_F32)
        _mm512_mask_storeu_ps((float *)data + i, first_lanes(n), x);
    else
        _mm256_mask_storeu_epi16((uint16_t *)data + i, first_lanes(n), half_of(type, x));
}

/* 16 doubles, for sums that FP32 cannot hold. */
typedef struct vd {
    __m512d low, high;
} vd;

INLINE vd vd_zero(void) {
    return (vd){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
INLINE vd vd_of(vf x) {
    return (vd){_mm512_cvtps_pd(_mm512_castps512_ps256(x)),
                _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
}
INLINE vd vd_set(double x) {
    return (vd){_mm512_set1_pd(x), _mm512_set1_pd(x)};
}
INLINE vf vd_round(vd a) {
    return _mm512_castpd_ps(
        _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_castps_pd(_mm512_cvtpd_ps(a.low))),
                           _mm256_castps_pd(_mm512_cvtpd_ps(a.high)), 1));
}
INLINE vd vd_mul(vd a, vd b) {
    return (vd){_mm512_mul_pd(a.low, b.low), _mm512_mul_pd(a.high, b.high)};
}
INLINE vd vd_sub(vd a, vd b) {
    return (vd){_mm512_sub_pd(a.low, b.low), _mm512_sub_pd(a.high, b.high)};
}
INLINE vd vd_div(vd a, vd b) {
    return (vd){_mm512_div_pd(a.low, b.low), _mm512_div_pd(a.high, b.high)};
}
INLINE vd vd_sqrt(vd a) {
    return (vd){_mm512_sqrt_pd(a.low), _mm512_sqrt_pd(a.high)};
}
INLINE vd vd_add(vd a, vd b) {
    return (vd){_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)};
}
INLINE vd vd_fma(vd a, vd b, vd c) {
    return (vd){_mm512_fmadd_pd(a.low, b.low, c.low), _mm512_fmadd_pd(a.high, b.high, c.high)};
}
INLINE double vd_sum(vd a) {
    return _mm512_reduce_add_pd(_mm512_add_pd(a.low, a.high));
}
INLINE void vd_store(double *p, vd a) {
    _mm512_storeu_pd(p, a.low);
    _mm512_storeu_pd(p + 8, a.high);
}

#pragma GCC diagnostic pop

#endif
