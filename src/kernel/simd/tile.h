/* Small matrices in FP32 for kernels that multiply inside of a chunk.  Included after the vec.h of
 * an instruction set.
 *
 *   lane tile   [rows][lanes]  what a product reads and writes as vectors; `lanes` is wide VL
 *   row tile    [rows][pitch]  tokens as they lie in memory, read one element at a time */
#ifndef MZK_SIMD_TILE_H
#define MZK_SIMD_TILE_H

#include "kernel/simd/lanes.h"

/* Of a block of a product: ROWS x PIECE sums, PIECE vectors and a broadcast element fit the 32
 * registers of AVX-512, and the 16 of AVX2. */
enum {
    TILE_ROWS = 6,
    TILE_PIECE = VL == 16 ? 4 : 2
};

/* An operand that is read one element at a time: element (row, k). */
typedef struct tile_left {
    const float *data;
    int64_t row, step;
} tile_left;

/* Which lanes take part in step k of a product. */
typedef enum tile_lanes {
    TILE_ALL,
    TILE_FROM, /* lanes >= k: tokens that see token k  */
    TILE_UP_TO /* lanes <= k: tokens that token k sees */
} tile_lanes;

INLINE vf tile_step(vf sum, vf left, vf right, tile_lanes which, int64_t k) {
    vf next = vf_fma(left, right, sum);
    if (which == TILE_FROM)
        return vf_select(lanes_below(k), sum, next);
    return which == TILE_UP_TO ? vf_select(lanes_below(k + 1), next, sum) : next;
}

/* c[r][v] += sum over k of a(r, k) b[k][v], for constants `rows` and `wide` vectors. */
INLINE void tile_block(float *c, tile_left a, const float *b, int64_t lanes, int64_t depth,
                       tile_lanes which, int rows, int wide) {
    vf sum[TILE_ROWS][TILE_PIECE];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            sum[r][v] = vf_load(c, MEZZO_F32, r * lanes + v * VL);
    for (int64_t k = 0; k < depth; k++) {
        vf right[TILE_PIECE];
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            right[v] = vf_load(b, MEZZO_F32, k * lanes + v * VL);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            vf left = vf_set(a.data[r * a.row + k * a.step]);
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++)
                sum[r][v] = tile_step(sum[r][v], left, right[v], which, k);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            vf_store(c, MEZZO_F32, r * lanes + v * VL, sum[r][v]);
}

/* All rows, `wide` vectors a row. */
INLINE void tile_rows(float *c, tile_left a, const float *b, int64_t lanes, int64_t rows,
                      int64_t depth, tile_lanes which, int wide) {
    int64_t r = 0;
    for (; r + 6 <= rows; r += 6, a.data += 6 * a.row)
        tile_block(c + r * lanes, a, b, lanes, depth, which, 6, wide);
    for (; r + 4 <= rows; r += 4, a.data += 4 * a.row)
        tile_block(c + r * lanes, a, b, lanes, depth, which, 4, wide);
    for (; r < rows; r++, a.data += a.row)
        tile_block(c + r * lanes, a, b, lanes, depth, which, 1, wide);
}

/* c += a b for `wide` vectors from c and b on.  Not inlined: it is large, and used often. */
static __attribute__((noinline)) void tile_product(float *c, tile_left a, const float *b,
                                                   int64_t lanes, int64_t rows, int64_t depth,
                                                   int wide) {
    for (; wide >= TILE_PIECE; wide -= TILE_PIECE, b += TILE_PIECE * VL, c += TILE_PIECE * VL)
        tile_rows(c, a, b, lanes, rows, depth, TILE_ALL, TILE_PIECE);
    if (TILE_PIECE > 2 && wide == 3)
        tile_rows(c, a, b, lanes, rows, depth, TILE_ALL, 3);
    else if (TILE_PIECE > 2 && wide == 2)
        tile_rows(c, a, b, lanes, rows, depth, TILE_ALL, 2);
    else if (wide == 1)
        tile_rows(c, a, b, lanes, rows, depth, TILE_ALL, 1);
}

/* One vector, some lanes of it at each step. */
static __attribute__((noinline)) void tile_triangle(float *c, tile_left a, const float *b,
                                                    int64_t lanes, int64_t rows, int64_t depth,
                                                    bool from) {
    if (from)
        tile_rows(c, a, b, lanes, rows, depth, TILE_FROM, 1);
    else
        tile_rows(c, a, b, lanes, rows, depth, TILE_UP_TO, 1);
}

INLINE void tile_clear(float *tile, int64_t count) {
    memset(tile, 0, (size_t)count * sizeof *tile);
}

INLINE void tile_read_rows(float *tile, int64_t pitch, const void *x, mezzo_dtype type, int64_t at,
                           int64_t stride, int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < D; d += VL) /* the pitch has room for a whole vector */
            vf_store(tile, MEZZO_F32, r * pitch + d,
                     lanes_load(x, type, at + r * stride + d, D - d < VL ? D - d : VL));
}
/* `rows` tokens of D elements, `stride` apart, from element `at` of x on. */
static __attribute__((noinline)) void tile_read(float *tile, int64_t pitch, const void *x,
                                                mezzo_dtype type, int64_t at, int64_t stride,
                                                int64_t rows, int64_t D) {
    if (type == MEZZO_F32)
        tile_read_rows(tile, pitch, x, MEZZO_F32, at, stride, rows, D);
    else if (type == MEZZO_BF16)
        tile_read_rows(tile, pitch, x, MEZZO_BF16, at, stride, rows, D);
    else
        tile_read_rows(tile, pitch, x, MEZZO_F16, at, stride, rows, D);
}
static __attribute__((noinline)) void tile_write(void *y, mezzo_dtype type, int64_t at,
                                                 int64_t stride, const float *tile, int64_t pitch,
                                                 int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < D; d += VL)
            lanes_store(y, type, at + r * stride + d, vf_load(tile, MEZZO_F32, r * pitch + d),
                        D - d < VL ? D - d : VL);
}

/* y[c][r] = factor x[r][c].  Four rows at a time by vectors: vi_interleave4 turns 4 x 4 blocks. */
static __attribute__((noinline)) void tile_transpose(float *y, int64_t y_pitch, const float *x,
                                                     int64_t x_pitch, int64_t rows, int64_t n,
                                                     float factor) {
    float turned[4 * VL];
    for (int64_t r = 0; r < rows; r += 4) {
        int64_t c = 0;
        for (; r + 4 <= rows && c + VL <= n; c += VL) {
            vi part[4];
            for (int k = 0; k < 4; k++) {
                vf row = vf_load(x, MEZZO_F32, (r + k) * x_pitch + c);
                vf_store(turned, MEZZO_F32, k * VL, vf_mul(row, vf_set(factor)));
                part[k] = vi_load((const uint32_t *)(const void *)(turned + k * VL));
            }
            vi_interleave4(part, part[0], part[1], part[2], part[3]);
            for (int k = 0; k < 4; k++) /* quarter q holds column c + 4 q + k */
                vi_store((uint32_t *)(void *)(turned + k * VL), part[k]);
            for (int q = 0; q < VL; q++)
                memcpy(y + (c + q) * y_pitch + r, turned + q % 4 * VL + q / 4 * 4,
                       4 * sizeof *turned);
        }
        for (; c < n; c++)
            for (int64_t k = r; k < rows && k < r + 4; k++)
                y[c * y_pitch + k] = x[k * x_pitch + c] * factor;
    }
}

#endif
