/* Sums over a row.  ACCUMULATORS of them side by side hide the latency of an addition. */
#ifndef MZK_SIMD_ROW_SUMS_H
#define MZK_SIMD_ROW_SUMS_H

#include "kernel/simd/lanes.h"

enum {
    ACCUMULATORS = 4
};

INLINE float sum_of(const vf sum[ACCUMULATORS]) {
    return vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

/* The line that holds element i; an address beyond the last row is harmless. */
INLINE void prefetch(const void *x, mezzo_dtype type, int64_t i) {
    __builtin_prefetch((const char *)x + i * (type == MEZZO_F32 ? 4 : 2));
}

#endif
