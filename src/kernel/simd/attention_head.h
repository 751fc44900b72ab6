/* Where attention's operands lie. */
#ifndef MZK_SIMD_ATTENTION_HEAD_H
#define MZK_SIMD_ATTENTION_HEAD_H

#include "kernel/simd/lanes.h"

/* One head of one batch element: elements between two tokens of qkv (E) and of y (O), the places
 * of token 0, a row of D in whole vectors (pitch), and the size of the kernel's tiles. */
typedef struct attention_head {
    int64_t E, O, T, D, pitch, lanes;
    int64_t q, k, v, y, lse;
    float scale;
    int wide;
    mezzo_dtype type;
} attention_head;

INLINE attention_head attention_tiled(const mzk_args *args, int64_t b, int64_t h, int wide) {
    int64_t T = args->p.attention.T, H = args->p.attention.H, G = args->p.attention.G;
    int64_t D = args->p.attention.D, g = h / (H / G), E = (H + 2 * G) * D;
    return (attention_head){.E = E,
                            .O = H * D,
                            .T = T,
                            .D = D,
                            .pitch = (D + VL - 1) / VL * VL,
                            .lanes = wide * VL,
                            .q = b * T * E + h * D,
                            .k = b * T * E + (H + g) * D,
                            .v = b * T * E + (H + G + g) * D,
                            .y = b * T * H * D + h * D,
                            .lse = (b * H + h) * T,
                            .scale = args->p.attention.scale,
                            .wide = wide,
                            .type = (mezzo_dtype)args->out_type[0]};
}

INLINE int64_t at_most(int64_t n, int64_t limit) {
    return n < limit ? n : limit;
}

#endif
