/* Vectors of 8 floats.  The same names as in avx512/vec.h, so that one template serves both:
 *   vf floats, vi 32-bit integers, vm a truth value a lane (all ones or all zeros);
 *   `_n` forms touch the first n lanes only: through a buffer, as AVX2 has no 16-bit masks. */
#ifndef MZK_AVX2_VEC_H
#define MZK_AVX2_VEC_H

#include <immintrin.h>

#include "kernel/simd/inline.h"
#include "num/number.h"

enum {
    VL = 8
};
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;

INLINE vf vf_set(float x) {
    return _mm256_set1_ps(x);
}
INLINE vf vf_zero(void) {
    return _mm256_setzero_ps();
}
INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
INLINE vf vf_sqrt(vf a) {
    return _mm256_sqrt_ps(a);
}
INLINE vf vf_fma(vf a, vf b, vf c) { /* a b + c */
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vf vf_fnma(vf a, vf b, vf c) { /* c - a b */
    return _mm256_fnmadd_ps(a, b, c);
}
INLINE vf vf_max(vf a, vf b) { /* b if either is NaN */
    return _mm256_max_ps(a, b);
}
INLINE vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
INLINE vf vf_nearest(vf a) { /* to an integer */
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE vf exp2_of(vf n) { /* 2^n for an integer n of -126..127 */
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
/* 2^n a for an integer n of -150..128: beyond the exponents of FP32, so in two factors. */
INLINE vf vf_scale(vf a, vf n) {
    vf half = vf_nearest(_mm256_mul_ps(n, _mm256_set1_ps(0.5f)));
    return _mm256_mul_ps(_mm256_mul_ps(a, exp2_of(half)), exp2_of(_mm256_sub_ps(n, half)));
}
INLINE vf vf_reciprocal(vf a) { /* 1 / a for a of [1, 2^125] */
    return _mm256_div_ps(_mm256_set1_ps(1), a);
}
INLINE float vf_sum(vf a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
INLINE float vf_peak(vf a) { /* the largest; no NaN */
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

INLINE vm vf_greater(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}
INLINE vm vf_equal(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
INLINE vm vf_not_at_most(vf a, vf b) { /* a > b, or one of them is NaN */
    return _mm256_cmp_ps(a, b, _CMP_NLE_UQ);
}
INLINE vm vf_is_nan(vf a) {
    return _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
}
INLINE vm vm_or(vm a, vm b) {
    return _mm256_or_ps(a, b);
}
INLINE vm vm_and_not(vm a, vm b) { /* a and not b */
    return _mm256_andnot_ps(b, a);
}
INLINE uint32_t vm_bits(vm a) {
    return (uint32_t)_mm256_movemask_ps(a);
}
INLINE vf vf_select(vm m, vf yes, vf no) {
    return _mm256_blendv_ps(no, yes, m);
}
INLINE vf vf_keep(vm m, vf a) { /* zero elsewhere */
    return _mm256_and_ps(m, a);
}

INLINE vi vi_set(int32_t x) {
    return _mm256_set1_epi32(x);
}
INLINE vi vi_lane(void) { /* 0, 1, 2, ... */
    return _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
}
INLINE vi vi_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
INLINE vi vi_xor(vi a, vi b) {
    return _mm256_xor_si256(a, b);
}
INLINE vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
INLINE vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
INLINE vf vf_of_integers(vi a) { /* signed */
    return _mm256_cvtepi32_ps(a);
}
INLINE vi vf_bits(vf a) {
    return _mm256_castps_si256(a);
}
INLINE vf vf_of_bits(vi a) {
    return _mm256_castsi256_ps(a);
}
INLINE vm vi_equal(vi a, vi b) {
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b));
}
INLINE vm vi_greater(vi a, vi b) { /* signed */
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(a, b));
}
INLINE vi vi_shift_right(vi a, int bits) {
    return _mm256_srli_epi32(a, bits);
}
INLINE vi vi_shift_left(vi a, int bits) {
    return _mm256_slli_epi32(a, bits);
}
INLINE vi vi_select(vm m, vi yes, vi no) {
    return _mm256_blendv_epi8(no, yes, _mm256_castps_si256(m));
}
INLINE vi vi_load(const uint32_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE void vi_store(uint32_t *p, vi a) {
    _mm256_storeu_si256((__m256i *)p, a);
}
/* The 64-bit products of 32-bit lanes, as high and low halves. */
INLINE void vi_multiply(vi a, uint32_t factor, vi *high, vi *low) {
    vi f = _mm256_set1_epi64x((int64_t)factor);
    vi even = _mm256_mul_epu32(a, f), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), f);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    *low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
/* Block number (from 0) in lane 4k + q is 2q + k; vi_interleave4 puts the blocks in order. */
INLINE vi vi_block_order(void) {
    return _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0);
}
INLINE void vi_interleave4(vi out[4], vi w0, vi w1, vi w2, vi w3) {
    vi low01 = _mm256_unpacklo_epi32(w0, w1), high01 = _mm256_unpackhi_epi32(w0, w1);
    vi low23 = _mm256_unpacklo_epi32(w2, w3), high23 = _mm256_unpackhi_epi32(w2, w3);
    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
}

/* 8 x 8: lane c of row r becomes lane r of row c. */
INLINE void vi_transpose(vi x[8]) {
    vi quad[8]; /* quad[4 b + q]: lane 4 l + i is column 4 l + q of row 4 b + i */
    vi_interleave4(quad, x[0], x[1], x[2], x[3]);
    vi_interleave4(quad + 4, x[4], x[5], x[6], x[7]);
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        x[q] = _mm256_permute2x128_si256(quad[q], quad[4 + q], 0x20);
        x[4 + q] = _mm256_permute2x128_si256(quad[q], quad[4 + q], 0x31);
    }
}

INLINE vi vi_load_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
INLINE vi vi_load_u8_n(const uint8_t *p, int64_t n) {
    uint8_t buffer[VL] = {0};
    memcpy(buffer, p, (size_t)n);
    return vi_load_u8(buffer);
}
INLINE void vi_store_u8(uint8_t *p, vi a) {
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(words, words));
}
INLINE void vi_store_u8_n(uint8_t *p, vi a, int64_t n) {
    uint8_t buffer[VL];
    vi_store_u8(buffer, a);
    memcpy(p, buffer, (size_t)n);
}

/* Numbers of 0 to 65535. */
INLINE vi vi_load_u16(const uint16_t *p) {
    return _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE vi vi_load_i16(const uint16_t *p) { /* with their signs */
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p));
}
INLINE vi vi_load_u16_n(const uint16_t *p, int64_t n) {
    uint16_t buffer[VL] = {0};
    memcpy(buffer, p, (size_t)n * sizeof *p);
    return vi_load_u16(buffer);
}
INLINE void vi_store_u16(uint16_t *p, vi a) {
    _mm_storeu_si128((__m128i *)p,
                     _mm_packus_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}
INLINE void vi_store_u16_n(uint16_t *p, vi a, int64_t n) {
    uint16_t buffer[VL];
    vi_store_u16(buffer, a);
    memcpy(p, buffer, (size_t)n * sizeof *p);
}

INLINE vf bf16_widen(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

/* Nearest even in integers, as mzi_bf16_round does it. */
INLINE __m128i bf16_narrow(vf x) {
    vi bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
    vi odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    vi up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    vi quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    vi rounded = vi_select(vf_is_nan(x), quiet, _mm256_srli_epi32(up, 16));
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

INLINE vf vf_load(const void *data, mezzo_dtype type, int64_t i) {
    if (type == MEZZO_F32)
        return _mm256_loadu_ps((const float *)data + i);
    __m128i half = _mm_loadu_si128((const __m128i *)((const uint16_t *)data + i));
    return type == MEZZO_BF16 ? bf16_widen(half) : _mm256_cvtph_ps(half);
}
INLINE vf vf_load_n(const void *data, mezzo_dtype type, int64_t i, int64_t n) {
    size_t bytes = type == MEZZO_F32 ? 4 : 2;
    float buffer[VL] = {0};
    memcpy(buffer, (const char *)data + (size_t)i * bytes, (size_t)n * bytes);
    return vf_load(buffer, type, 0);
}
INLINE __m128i half_of(mezzo_dtype type, vf x) {
    return type == MEZZO_BF16 ? bf16_narrow(x)
                              : _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE void vf_store(void *data, mezzo_dtype type, int64_t i, vf x) {
    if (type == MEZZO_F32)
        _mm256_storeu_ps((float *)data + i, x);
    else
        _mm_storeu_si128((__m128i *)((uint16_t *)data + i), half_of(type, x));
}
INLINE void vf_store_n(void *data, mezzo_dtype type, int64_t i, vf x, int64_t n) {
    size_t bytes = type == MEZZO_F32 ? 4 : 2;
    float buffer[VL];
    vf_store(buffer, type, 0, x);
    memcpy((char *)data + (size_t)i * bytes, buffer, (size_t)n * bytes);
}

/* 8 doubles, for sums that FP32 cannot hold. */
typedef struct vd {
    __m256d low, high;
} vd;

INLINE vd vd_zero(void) {
    return (vd){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
INLINE vd vd_of(vf x) {
    return (vd){_mm256_cvtps_pd(_mm256_castps256_ps128(x)),
                _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
INLINE vd vd_set(double x) {
    return (vd){_mm256_set1_pd(x), _mm256_set1_pd(x)};
}
INLINE vf vd_round(vd a) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(a.low)),
                                _mm256_cvtpd_ps(a.high), 1);
}
INLINE vd vd_mul(vd a, vd b) {
    return (vd){_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)};
}
INLINE vd vd_sub(vd a, vd b) {
    return (vd){_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)};
}
INLINE vd vd_div(vd a, vd b) {
    return (vd){_mm256_div_pd(a.low, b.low), _mm256_div_pd(a.high, b.high)};
}
INLINE vd vd_sqrt(vd a) {
    return (vd){_mm256_sqrt_pd(a.low), _mm256_sqrt_pd(a.high)};
}
INLINE vd vd_add(vd a, vd b) {
    return (vd){_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
}
INLINE vd vd_fma(vd a, vd b, vd c) {
    return (vd){_mm256_fmadd_pd(a.low, b.low, c.low), _mm256_fmadd_pd(a.high, b.high, c.high)};
}
INLINE double vd_sum(vd a) {
    __m256d x = _mm256_add_pd(a.low, a.high);
    __m128d y = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(y, _mm_unpackhi_pd(y, y)));
}
INLINE void vd_store(double *p, vd a) {
    _mm256_storeu_pd(p, a.low);
    _mm256_storeu_pd(p + 4, a.high);
}

#endif
