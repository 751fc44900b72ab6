/* Whole vectors and tails by one name, and walks over columns. */
#ifndef MZK_SIMD_LANES_H
#define MZK_SIMD_LANES_H

#include "kernel/simd/dispatch.h"

/* The first n of VL lanes, the others zero.  With a constant n = VL, a plain load. */
INLINE vf lanes_load(const void *data, mezzo_dtype type, int64_t i, int64_t n) {
    return n == VL ? vf_load(data, type, i) : vf_load_n(data, type, i, n);
}
INLINE void lanes_store(void *data, mezzo_dtype type, int64_t i, vf x, int64_t n) {
    if (n == VL)
        vf_store(data, type, i, x);
    else
        vf_store_n(data, type, i, x, n);
}
INLINE vi lanes_load_u8(const uint8_t *p, int64_t n) {
    return n == VL ? vi_load_u8(p) : vi_load_u8_n(p, n);
}
INLINE void lanes_store_u8(uint8_t *p, vi a, int64_t n) {
    if (n == VL)
        vi_store_u8(p, a);
    else
        vi_store_u8_n(p, a, n);
}
INLINE vm lanes_below(int64_t n) {
    return vi_greater(vi_set((int32_t)n), vi_lane());
}

/* What a block of columns costs in registers: it keeps up to this many vectors a coefficient. */
enum {
    COLUMNS_MAX = 4
};

/* Rows [begin, end) of the columns [c, c + vectors VL), n lanes of the last. */
typedef void columns(const mzk_args *args, int64_t begin, int64_t end, types t, int64_t c,
                     int vectors, int64_t n);

INLINE void over_columns(columns *block, const mzk_args *args, int64_t begin, int64_t end, types t,
                         int64_t C) {
    int64_t c = 0;
    for (; c + 4 * VL <= C; c += 4 * VL)
        block(args, begin, end, t, c, 4, VL);
    for (; c + 2 * VL <= C; c += 2 * VL)
        block(args, begin, end, t, c, 2, VL);
    for (; c + VL <= C; c += VL)
        block(args, begin, end, t, c, 1, VL);
    if (c < C)
        block(args, begin, end, t, c, 1, C - c);
}

/* End of the chunk that starts at `begin`. */
INLINE int64_t chunk_end(int64_t begin, int64_t grain, int64_t end) {
    return end - begin < grain ? end : begin + grain;
}

#endif
