/* Where attention's operands lie, and the tiles that it goes by. */
#ifndef MZK_SIMD_ATTENTION_HEAD_H
#define MZK_SIMD_ATTENTION_HEAD_H

#include "kernel/simd/ahead.h"
#include "kernel/simd/lanes.h"

/* Tokens of a tile, which lie in the lanes; blocks of the other side have as many rows. */
enum {
    ATTENTION_LANES = 64,
    ATTENTION_WIDE = ATTENTION_LANES / VL,
    ATTENTION_D = 256 /* larger heads are left to ref */
};

/* One head of one batch element: elements between two tokens of qkv (E) and of y (O), the places
 * of token 0, and a row of D in whole vectors (pitch). */
typedef struct attention_head {
    int64_t E, O, T, D, pitch;
    int64_t q, k, v, y, lse;
    float scale;
    mezzo_dtype type;
} attention_head;

INLINE attention_head attention_at(const mzk_args *args, int64_t b, int64_t h) {
    int64_t T = args->p.attention.T, H = args->p.attention.H, G = args->p.attention.G;
    int64_t D = args->p.attention.D, g = h / (H / G), E = (H + 2 * G) * D;
    return (attention_head){.E = E,
                            .O = H * D,
                            .T = T,
                            .D = D,
                            .pitch = (D + VL - 1) / VL * VL,
                            .q = b * T * E + h * D,
                            .k = b * T * E + (H + g) * D,
                            .v = b * T * E + (H + G + g) * D,
                            .y = b * T * H * D + h * D,
                            .lse = (b * H + h) * T,
                            .scale = args->p.attention.scale,
                            .type = (mezzo_dtype)args->out_type[0]};
}

INLINE int64_t attention_size(const attention_head *a) { /* bytes of an element */
    return a->type == MEZZO_F32 ? 4 : 2;
}

INLINE int64_t at_most(int64_t n, int64_t limit) {
    return n < limit ? n : limit;
}

INLINE void attention_write_of(void *out, mezzo_dtype type, int64_t at, int64_t D, const float *row,
                               vf factor) {
    for (int64_t d = 0; d < D; d += VL)
        lanes_store(out, type, at + d, vf_mul(vf_load(row, MEZZO_F32, d), factor),
                    at_most(D - d, VL));
}
/* A row of sums times `factor`, to element `at` of out[0]. */
INLINE void attention_write(const mzk_args *args, const attention_head *a, int64_t at,
                            const float *row, float factor) {
    if (a->type == MEZZO_F32)
        attention_write_of(args->out[0], MEZZO_F32, at, a->D, row, vf_set(factor));
    else if (a->type == MEZZO_BF16)
        attention_write_of(args->out[0], MEZZO_BF16, at, a->D, row, vf_set(factor));
    else
        attention_write_of(args->out[0], MEZZO_F16, at, a->D, row, vf_set(factor));
}

/* A block of keys under a tile of queries; on the diagonal, vector v of the tile meets those of the
 * vectors up to v. */
typedef struct attention_block {
    int64_t first, rows, slot; /* keys, and where they are packed */
    bool diagonal, fresh;      /* they are not packed yet */
} attention_block;

/* `kept`: there is room for all keys. */
INLINE attention_block attention_block_at(const attention_head *a, int64_t i0, int64_t j,
                                          bool kept) {
    return (attention_block){.first = j,
                             .rows = at_most(a->T - j, ATTENTION_LANES),
                             .slot = kept ? j : 0,
                             .diagonal = j == i0,
                             .fresh = j == i0 || !kept};
}
INLINE int64_t attention_rows(const attention_block *k, int v) {
    return k->diagonal ? at_most(k->rows, (v + 1) * VL) : k->rows;
}
/* Of key r the lanes that it reaches, `other` elsewhere. */
INLINE vf attention_mask(const attention_block *k, int v, int64_t r, vf x, vf other) {
    if (k->diagonal && r >= v * VL)
        return vf_select(lanes_below(r - v * VL), other, x);
    return x;
}

#endif
