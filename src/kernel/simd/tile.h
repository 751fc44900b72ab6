/* Small matrices in FP32 for kernels that multiply inside of a chunk.  Included after the vec.h of
 * an instruction set.
 *
 *   c[row][lane] += sum over k of  a(row, k) b[k][lane]      a is read one element at a time
 *
 *   rows     [token][pitch]   tokens as they lie in memory; what is behind their end is zero
 *   turned   [D][lanes]       tokens in the lanes */
#ifndef MZK_SIMD_TILE_H
#define MZK_SIMD_TILE_H

#include "kernel/simd/ahead.h"
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

/* Which steps a row takes.  The triangles are exact: what a row does not take is not read. */
typedef enum tile_form {
    TILE_SET, /* all, and c is written only */
    TILE_ADD,
    TILE_BEFORE, /* row r the steps 0..r: tokens that token r sees  */
    TILE_AFTER   /* row r the steps r..: tokens that see token r */
} tile_form;

/* One step, of the rows [first, last). */
INLINE void tile_step(vf sum[TILE_ROWS][TILE_PIECE], const float *left, int64_t row, const float *b,
                      int first, int last, int wide) {
    vf right[TILE_PIECE];
#pragma GCC unroll 4
    for (int v = 0; v < wide; v++)
        right[v] = vf_load(b, MEZZO_F32, v * VL);
#pragma GCC unroll 6
    for (int r = first; r < last; r++) {
        vf x = vf_set(left[r * row]);
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            sum[r][v] = vf_fma(x, right[v], sum[r][v]);
    }
}

/* For constants `rows` and `wide` vectors.  In the triangles all rows take `depth` steps; the
 * `rows` behind or before those make a triangle of their own. */
INLINE void tile_block(float *c, int64_t pitch, tile_left a, const float *b, int64_t lanes,
                       int64_t depth, tile_form form, int rows, int wide) {
    vf sum[TILE_ROWS][TILE_PIECE];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            sum[r][v] = form == TILE_SET ? vf_zero() : vf_load(c, MEZZO_F32, r * pitch + v * VL);
    const float *left = a.data;
    if (form == TILE_AFTER)
#pragma GCC unroll 6
        for (int k = 0; k < rows; k++, left += a.step, b += lanes)
            tile_step(sum, left, a.row, b, 0, k + 1, wide);
    for (int64_t k = 0; k < depth; k++, left += a.step, b += lanes)
        tile_step(sum, left, a.row, b, 0, rows, wide);
    if (form == TILE_BEFORE)
#pragma GCC unroll 6
        for (int k = 0; k < rows; k++, left += a.step, b += lanes)
            tile_step(sum, left, a.row, b, k, rows, wide);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++)
            vf_store(c, MEZZO_F32, r * pitch + v * VL, sum[r][v]);
}

/* The product, where its next rows begin, and what is fetched meanwhile. */
typedef struct tile_walk {
    float *c;
    tile_left a;
    const float *b;
    int64_t pitch, lanes, rows, depth;
    ahead *next;
} tile_walk;

INLINE void tile_next(tile_walk *t, tile_form form, int rows, int wide) {
    ahead_step(t->next);
    tile_block(t->c, t->pitch, t->a, t->b, t->lanes, t->depth - (form == TILE_AFTER ? rows : 0),
               form, rows, wide);
    t->c += rows * t->pitch;
    t->a.data += rows * t->a.row;
    t->rows -= rows;
    if (form == TILE_BEFORE)
        t->depth += rows;
    if (form == TILE_AFTER) {
        t->a.data += rows * t->a.step;
        t->b += rows * t->lanes;
        t->depth -= rows;
    }
}

/* All rows, `wide` vectors a row: 6 rows at a time; 8 are 4 and 4, so that few are left to be
 * taken one by one. */
INLINE void tile_rows(tile_walk t, tile_form form, int wide) {
    while (t.rows >= 6 && t.rows != 8)
        tile_next(&t, form, 6, wide);
    while (t.rows >= 4)
        tile_next(&t, form, 4, wide);
    while (t.rows > 0)
        tile_next(&t, form, 1, wide);
}

INLINE void tile_wide(tile_walk t, tile_form form, int wide) {
    for (; wide >= TILE_PIECE; wide -= TILE_PIECE, t.b += TILE_PIECE * VL, t.c += TILE_PIECE * VL)
        tile_rows(t, form, TILE_PIECE);
    if (TILE_PIECE > 2 && wide == 3)
        tile_rows(t, form, 3);
    else if (TILE_PIECE > 2 && wide == 2)
        tile_rows(t, form, 2);
    else if (wide == 1)
        tile_rows(t, form, 1);
}

/* c += a b or c = a b for `wide` vectors.  Not inlined: they are large, and used often. */
static __attribute__((noinline)) void tile_set(tile_walk t, int wide) {
    tile_wide(t, TILE_SET, wide);
}
static __attribute__((noinline)) void tile_add(tile_walk t, int wide) {
    tile_wide(t, TILE_ADD, wide);
}
/* Triangles of as many steps as rows. */
static __attribute__((noinline)) void tile_before(tile_walk t, int wide) {
    t.depth = 0;
    tile_wide(t, TILE_BEFORE, wide);
}
static __attribute__((noinline)) void tile_after(tile_walk t, int wide) {
    tile_wide(t, TILE_AFTER, wide);
}

/* `rows` tokens of D elements of x, `stride` apart, the first at `at`. */
typedef struct tile_tokens {
    const void *x;
    mezzo_dtype type;
    int64_t at, stride, rows, D;
} tile_tokens;

INLINE void tile_pack_of(float *to, int64_t pitch, const tile_tokens *from, mezzo_dtype type) {
    for (int64_t r = 0; r < from->rows; r++)
        for (int64_t d = 0; d < from->D; d += VL) { /* the pitch has room for a whole vector */
            int64_t n = from->D - d < VL ? from->D - d : VL;
            vf_store(to, MEZZO_F32, r * pitch + d,
                     lanes_load(from->x, type, from->at + r * from->stride + d, n));
        }
}
/* As rows. */
static __attribute__((noinline)) void tile_pack(float *to, int64_t pitch, const tile_tokens *from) {
    if (from->type == MEZZO_F32)
        tile_pack_of(to, pitch, from, MEZZO_F32);
    else if (from->type == MEZZO_BF16)
        tile_pack_of(to, pitch, from, MEZZO_BF16);
    else
        tile_pack_of(to, pitch, from, MEZZO_F16);
}

/* VL tokens from i on, of which `rows` are there, VL elements from d on. */
INLINE void tile_turn_block(float *to, int64_t lanes, const tile_tokens *from, mezzo_dtype type,
                            int64_t i, int64_t d, float factor) {
    vi turned[VL];
    int64_t n = from->D - d < VL ? from->D - d : VL, at = from->at + i * from->stride + d;
#pragma GCC unroll 16
    for (int r = 0; r < VL; r++) {
        vf x = vf_zero();
        if (i + r < from->rows)
            x = lanes_load(from->x, type, at + r * from->stride, n);
        turned[r] = vf_bits(vf_mul(x, vf_set(factor)));
    }
    vi_transpose(turned);
    for (int64_t k = 0; k < n; k++)
        vf_store(to, MEZZO_F32, (d + k) * lanes + i, vf_of_bits(turned[k]));
}
INLINE void tile_turn_of(float *to, int64_t lanes, const tile_tokens *from, mezzo_dtype type,
                         float factor) {
    for (int64_t i = 0; i < from->rows; i += VL)
        for (int64_t d = 0; d < from->D; d += VL)
            tile_turn_block(to, lanes, from, type, i, d, factor);
}
/* Turned, times `factor`; lanes of the last vector without a token are zero. */
static __attribute__((noinline)) void tile_turn(float *to, int64_t lanes, const tile_tokens *from,
                                                float factor) {
    if (from->type == MEZZO_F32)
        tile_turn_of(to, lanes, from, MEZZO_F32, factor);
    else if (from->type == MEZZO_BF16)
        tile_turn_of(to, lanes, from, MEZZO_BF16, factor);
    else
        tile_turn_of(to, lanes, from, MEZZO_F16, factor);
}

#endif
