/* Small matrix products in BF16 by the CPU's dot instruction, and the layouts that it wants.
 *
 * A pair is two BF16 numbers in 32 bits, the first in the lower half.  The instruction adds to each
 * of 16 FP32 sums the two products of a pair with a pair: products are exact, each of the two
 * additions rounds to nearest; subnormal numbers and results count as 0.
 *
 *   c[row][lane] += sum over k of  a(row, k) . b[k][lane]      a, b: pairs; a is broadcast
 *
 *   rows         [token][D/2]      tokens as they lie in memory: pairs along the head
 *   turned       [D/2][token]      the same pairs, tokens in the lanes
 *   interleaved  [token/2][D]      pairs of two tokens, elements of the head in the lanes
 */
#ifndef MZK_AVX512_BF16_DOT_H
#define MZK_AVX512_BF16_DOT_H

#include "kernel/simd/exp.h"
#include "kernel/simd/lanes.h"

/* Sums in registers: at most DOT_ROWS x DOT_PIECE vectors. */
enum {
    DOT_ROWS = 6,
    DOT_PIECE = 4
};

/* Halves of pairs that take part. */
#define DOT_FIRST 0x55555555u
#define DOT_SECOND 0xaaaaaaaau

typedef struct dot_left {
    const uint32_t *data;
    int64_t row, step; /* pair (r, k) is data[r row + k step] */
} dot_left;

INLINE vf dot_add(vf sum, vi a, vi b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}
INLINE vi dot_keep(uint32_t halves, vi b) {
    return _mm512_maskz_mov_epi16(halves, b);
}
INLINE vi dot_set(uint32_t pair) {
    return _mm512_set1_epi32((int32_t)pair);
}

/* Rounded pairs, lane by lane: the first half from `a`. */
INLINE vi dot_halves(vf a, vf b) { /* all of a, then all of b */
    return (vi)_mm512_cvtne2ps_pbh(b, a);
}
INLINE vi dot_interleave(vi halves) {
    static const uint16_t order[32] __attribute__((aligned(64))) = {
        0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order), halves);
}

INLINE void dot_block(float *c, int64_t pitch, dot_left a, const uint32_t *b, int64_t lanes,
                      int64_t depth, bool add, int rows, int wide) {
    vf sum[DOT_ROWS][DOT_PIECE];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            sum[r][v] = add ? vf_load(c, MEZZO_F32, r * pitch + v * VL) : vf_zero();
    for (int64_t k = 0; k < depth; k++) {
        vi right[DOT_PIECE];
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            right[v] = vi_load(b + k * lanes + v * VL);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            vi left = dot_set(a.data[r * a.row + k * a.step]);
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++)
                sum[r][v] = dot_add(sum[r][v], left, right[v]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            vf_store(c, MEZZO_F32, r * pitch + v * VL, sum[r][v]);
}

/* 6 rows at a time; 8 are 4 and 4, so that few rows are left to be taken one by one. */
INLINE void dot_rows(float *c, int64_t pitch, dot_left a, const uint32_t *b, int64_t lanes,
                     int64_t rows, int64_t depth, bool add, int wide) {
    for (; rows >= 6 && rows != 8; rows -= 6, a.data += 6 * a.row, c += 6 * pitch)
        dot_block(c, pitch, a, b, lanes, depth, add, 6, wide);
    for (; rows >= 4; rows -= 4, a.data += 4 * a.row, c += 4 * pitch)
        dot_block(c, pitch, a, b, lanes, depth, add, 4, wide);
    for (; rows > 0; rows--, a.data += a.row, c += pitch)
        dot_block(c, pitch, a, b, lanes, depth, add, 1, wide);
}

INLINE void dot_product(float *c, int64_t pitch, dot_left a, const uint32_t *b, int64_t lanes,
                        int64_t rows, int64_t depth, bool add, int wide) {
    for (; wide >= 4; wide -= 4, b += 4 * VL, c += 4 * VL)
        dot_rows(c, pitch, a, b, lanes, rows, depth, add, 4);
    if (wide == 3)
        dot_rows(c, pitch, a, b, lanes, rows, depth, add, 3);
    else if (wide == 2)
        dot_rows(c, pitch, a, b, lanes, rows, depth, add, 2);
    else if (wide == 1)
        dot_rows(c, pitch, a, b, lanes, rows, depth, add, 1);
}
/* c = a b.  Neither of these is inlined: they are large, and used often. */
static __attribute__((noinline)) void dot_set_product(float *c, int64_t pitch, dot_left a,
                                                      const uint32_t *b, int64_t lanes,
                                                      int64_t rows, int64_t depth, int wide) {
    dot_product(c, pitch, a, b, lanes, rows, depth, false, wide);
}
/* c += a b. */
static __attribute__((noinline)) void dot_add_product(float *c, int64_t pitch, dot_left a,
                                                      const uint32_t *b, int64_t lanes,
                                                      int64_t rows, int64_t depth, int wide) {
    dot_product(c, pitch, a, b, lanes, rows, depth, true, wide);
}

/* Of a block of VL tokens against themselves, for rows 2 k and 2 k + 1, one vector of lanes:
 *
 *   before  pairs 0..k     row r takes tokens <= r: of pair k, row 2 k takes the first only
 *   after   pairs k..last  row r takes tokens >= r: of pair k, row 2 k + 1 takes the second only
 *
 * The other halves are made zero on the right too, because 0 times NaN is NaN. */
INLINE void dot_wedge(float *c, int64_t pitch, dot_left a, const uint32_t *b, int64_t lanes,
                      int64_t k, int64_t pairs, bool before, int wide) {
    vf sum[2][DOT_PIECE];
    const uint32_t *even = a.data + 2 * k * a.row, *odd = even + a.row;
    c += 2 * k * pitch;
#pragma GCC unroll 4
    for (int v = 0; v < wide; v++) {
        vi right = vi_load(b + k * lanes + v * VL);
        vi first = before ? dot_keep(DOT_FIRST, right) : right;
        vi second = before ? right : dot_keep(DOT_SECOND, right);
        sum[0][v] = dot_add(vf_load(c, MEZZO_F32, v * VL), dot_set(even[k * a.step]), first);
        sum[1][v] =
            dot_add(vf_load(c, MEZZO_F32, pitch + v * VL), dot_set(odd[k * a.step]), second);
    }
    for (int64_t m = before ? 0 : k + 1; m < (before ? k : pairs); m++) {
        vi left[2] = {dot_set(even[m * a.step]), dot_set(odd[m * a.step])};
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) {
            vi right = vi_load(b + m * lanes + v * VL);
            sum[0][v] = dot_add(sum[0][v], left[0], right);
            sum[1][v] = dot_add(sum[1][v], left[1], right);
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < wide; v++) {
        vf_store(c, MEZZO_F32, v * VL, sum[0][v]);
        vf_store(c, MEZZO_F32, pitch + v * VL, sum[1][v]);
    }
}

/* c += the triangle of `pairs` pairs of tokens, VL / 2 at most.  With an odd number of tokens the
 * last row of c is one that nobody reads. */
static __attribute__((noinline)) void dot_triangle(float *c, int64_t pitch, dot_left a,
                                                   const uint32_t *b, int64_t lanes, int64_t pairs,
                                                   bool before, int wide) {
    for (; wide >= 4; wide -= 4, b += 4 * VL, c += 4 * VL)
        for (int64_t k = 0; k < pairs; k++)
            dot_wedge(c, pitch, a, b, lanes, k, pairs, before, 4);
    for (; wide > 0; wide--, b += VL, c += VL)
        for (int64_t k = 0; k < pairs; k++)
            dot_wedge(c, pitch, a, b, lanes, k, pairs, before, 1);
}

INLINE __mmask32 dot_first(int64_t n) { /* n of 32 */
    return n >= 32 ? 0xffffffffu : (1u << n) - 1u;
}

/* `rows` tokens of D elements, `stride` apart, as rows of `pitch` pairs, a multiple of VL; what is
 * behind D is zero. */
static void dot_pack_rows(uint32_t *to, int64_t pitch, const uint16_t *x, int64_t stride,
                          int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < 2 * pitch; d += 32)
            vi_store(to + r * pitch + d / 2,
                     _mm512_maskz_loadu_epi16(dot_first(D - d), x + r * stride + d));
}

/* The same tokens interleaved, in rows of `pitch` lanes; a last token without another is paired
 * with zeros. */
static void dot_pack_interleaved(uint32_t *to, int64_t pitch, const uint16_t *x, int64_t stride,
                                 int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r += 2)
        for (int64_t d = 0; d < D; d += VL) {
            const uint16_t *at = x + r * stride + d;
            vi first = vi_load_u16_n(at, D - d < VL ? D - d : VL), second = vi_set(0);
            if (r + 1 < rows)
                second = vi_load_u16_n(at + stride, D - d < VL ? D - d : VL);
            vi_store(to + r / 2 * pitch + d, vi_or(first, vi_shift_left(second, 16)));
        }
}

/* 16 x 16 words, turned in place. */
INLINE void dot_turn(vi x[VL]) {
    vi y[VL];
#pragma GCC unroll 4
    for (int r = 0; r < VL; r += 4)
        vi_interleave4(y + r, x[r], x[r + 1], x[r + 2], x[r + 3]);
        /* y[r + k] holds columns k, 4 + k, 8 + k, 12 + k of rows r..r + 3, 128 bits each. */
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        vi low01 = _mm512_shuffle_i32x4(y[k], y[4 + k], 0x88);
        vi high01 = _mm512_shuffle_i32x4(y[k], y[4 + k], 0xdd);
        vi low23 = _mm512_shuffle_i32x4(y[8 + k], y[12 + k], 0x88);
        vi high23 = _mm512_shuffle_i32x4(y[8 + k], y[12 + k], 0xdd);
        x[k] = _mm512_shuffle_i32x4(low01, low23, 0x88);
        x[4 + k] = _mm512_shuffle_i32x4(high01, high23, 0x88);
        x[8 + k] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
        x[12 + k] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
    }
}

/* The same tokens turned, `lanes` of them, of which `n` are there; the others are zero. */
static void dot_pack_turned(uint32_t *to, int64_t lanes, const uint16_t *x, int64_t stride,
                            int64_t n, int64_t D) {
    for (int64_t i = 0; i < lanes; i += VL)
        for (int64_t d = 0; d < D; d += 32) {
            vi words[VL];
#pragma GCC unroll 16
            for (int r = 0; r < VL; r++)
                words[r] =
                    i + r < n ? _mm512_maskz_loadu_epi16(dot_first(D - d), x + (i + r) * stride + d)
                              : vi_set(0);
            dot_turn(words);
            int64_t pairs = (D - d + 1) / 2;
            for (int k = 0; k < VL && k < pairs; k++)
                vi_store(to + (d / 2 + k) * lanes + i, words[k]);
        }
}

/* 2^t for a weight that is rounded to BF16: 2^nearest(t) (1 + f q(f)), f = t - nearest(t), q of
 * degree 3 with the coefficients that make the largest relative error least on |f| <= 1/2, by
 * Remez's exchange: 3.6e-6, less than 2^-18.  Its own roundings add less than 2 u.  2^0 is
 * exactly 1. Below -200 the result is 0.  NaN stays. */
INLINE void dot_exps(vf *t, int count) { /* SIDE at most */
    vf n[SIDE], p[SIDE];
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        t[k] = vf_max(vf_set(-200), t[k]);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        n[k] = vf_nearest(t[k]);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        t[k] = vf_sub(t[k], n[k]);
        p[k] = vf_set(0x1.409104p-7f);
    }
    horner(p, t, 0x1.ca9008p-5f, count);
    horner(p, t, 0x1.ebf1b4p-3f, count);
    horner(p, t, 0x1.62dfcap-1f, count);
    horner(p, t, 1, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        t[k] = vf_scale(p[k], n[k]);
}
INLINE vf dot_exp2(vf t) {
    dot_exps(&t, 1);
    return t;
}

#endif
