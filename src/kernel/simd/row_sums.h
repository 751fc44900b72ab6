/* Sums over a row.  ACCUMULATORS of them side by side hide the latency of an addition. */
#ifndef MZK_SIMD_ROW_SUMS_H
#define MZK_SIMD_ROW_SUMS_H

#include <float.h>

#include "kernel/simd/lanes.h"

enum {
    ACCUMULATORS = 4
};

INLINE float sum_of(const vf sum[ACCUMULATORS]) {
    return vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
}

/* The sum of (x - mean)^2 of a row, in FP64. */
static __attribute__((noinline)) double wide_squares(const void *x, mezzo_dtype type, int64_t row,
                                                     int64_t C, double mean) {
    double sum = 0;
    for (int64_t c = 0; c < C; c++) {
        double centred = mzi_load(x, type, row + c) - mean;
        sum += centred * centred;
    }
    return sum;
}

/* 1/sqrt(sum / C + eps).  Squares may be beyond FP32 where elements are not: rstd would be 0, and
 * the row zeros that nobody notices. */
INLINE float rstd_of(float sum, const void *x, mezzo_dtype type, int64_t row, int64_t C, float mean,
                     float eps) {
    double squares = (double)sum;
    if (!(sum <= FLT_MAX))
        squares = wide_squares(x, type, row, C, (double)mean);
    return (float)(1 / sqrt(squares / (double)C + (double)eps));
}

/* The line that holds element i; an address beyond the last row is harmless. */
INLINE void prefetch(const void *x, mezzo_dtype type, int64_t i) {
    __builtin_prefetch((const char *)x + i * (type == MEZZO_F32 ? 4 : 2));
}

#endif
