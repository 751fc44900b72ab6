/* How reference kernels touch memory: FP64 in, one rounding out. */
#ifndef MZK_REF_H
#define MZK_REF_H

#include "kernel/table.h"
#include "num/number.h"

static inline double get(const mzk_args *args, int k, int64_t i) {
    return mzi_load(args->in[k], (mezzo_dtype)args->in_type[k], i);
}

static inline void put(const mzk_args *args, int k, int64_t i, double value) {
    mzi_store(args->out[k], (mezzo_dtype)args->out_type[k], i, value);
}

/* End of the chunk that starts at `begin`. */
static inline int64_t chunk_end(int64_t begin, int64_t grain, int64_t end) {
    return end - begin < grain ? end : begin + grain;
}

#endif
