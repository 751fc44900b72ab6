/* Figures of a tensor's elements, as they are counted by mzk_stat.  Included after a vec.h. */
#ifndef MZK_SIMD_STATS_H
#define MZK_SIMD_STATS_H

#include "kernel/table.h"

/* What has been seen of a chunk or a tile.  Lanes that are not finite, and those past the end, are
 * taken for zeros, and leave that count in the end. */
typedef struct seen {
    vd squares[2];
    vf max;
    int64_t lanes, finite, nan, zero, below;
} seen;

/* x - x is 0 where x is finite, and NaN elsewhere. */
INLINE void see(seen *s, int turn, vf x, vf tiny, int64_t n) {
    vm finite = vf_equal(vf_sub(x, x), vf_zero());
    vf kept = vf_keep(finite, x), magnitude = vf_max(kept, vf_sub(vf_zero(), kept));
    vd wide = vd_of(kept);
    s->squares[turn] = vd_fma(wide, wide, s->squares[turn]);
    s->max = vf_max(magnitude, s->max);
    s->lanes += n;
    s->finite += __builtin_popcount(vm_bits(finite)) - (VL - n);
    s->nan += __builtin_popcount(vm_bits(vf_is_nan(x)));
    s->zero += __builtin_popcount(vm_bits(vf_equal(kept, vf_zero()))) - (VL - n);
    s->below += __builtin_popcount(vm_bits(vf_greater(tiny, magnitude)));
}

INLINE void stats_store(double *part, const seen *s, bool has_tiny) {
    int64_t infinite = s->lanes - s->finite - s->nan, outside = s->lanes - s->finite;
    part[MZK_STAT_SQUARES] = vd_sum(vd_add(s->squares[0], s->squares[1]));
    part[MZK_STAT_MAX] = (double)vf_peak(s->max);
    part[MZK_STAT_INF] = (double)infinite;
    part[MZK_STAT_NAN] = (double)s->nan;
    part[MZK_STAT_ZERO] = (double)(s->zero - outside);
    part[MZK_STAT_TINY] = has_tiny ? (double)(s->below - s->zero) : 0;
}

#endif
