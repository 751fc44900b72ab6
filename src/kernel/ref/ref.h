/* How reference kernels touch memory: FP64 in, one rounding out. */
#ifndef MZK_REF_H
#define MZK_REF_H

#include "kernel/table.h"
#include "num/split.h"

static inline double get(const mzk_args *args, int k, int64_t i) {
    return mzi_load(args->in[k], (mezzo_dtype)args->in_type[k], i);
}

static inline void put(const mzk_args *args, int k, int64_t i, double value) {
    mzi_store(args->out[k], (mezzo_dtype)args->out_type[k], i, value);
}

/* Element i of a master: with lower halves in in[lo], in[w] has the upper ones. */
static inline double get_master(const mzk_args *args, int w, int lo, int64_t i) {
    if (args->in_type[w] != MEZZO_BF16 || !args->in[lo])
        return get(args, w, i);
    return (double)mzi_join(((const mezzo_bf16 *)args->in[w])[i],
                            ((const uint16_t *)args->in[lo])[i]);
}

/* One more element in the figures of a part; `tiny` as families.h has it. */
static inline void add_stats(double part[MZK_STATS], double element, double tiny) {
    double x = fabs(element);
    part[MZK_STAT_NAN] += isnan(x);
    part[MZK_STAT_INF] += isinf(x);
    part[MZK_STAT_ZERO] += x == 0;
    part[MZK_STAT_TINY] += x > 0 && x < tiny;
    if (!isfinite(x))
        return;
    part[MZK_STAT_SQUARES] += x * x;
    part[MZK_STAT_MAX] = fmax(part[MZK_STAT_MAX], x);
}

/* End of the chunk that starts at `begin`. */
static inline int64_t chunk_end(int64_t begin, int64_t grain, int64_t end) {
    return end - begin < grain ? end : begin + grain;
}

#endif
