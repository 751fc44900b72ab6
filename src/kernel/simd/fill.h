/* Constant buffers.  Included once per instruction set, after its vec.h. */
#include "kernel/table.h"

/* One value, rounded once, into every element; any storage type. */
INLINE void splat(const mzk_args *args, int64_t begin, int64_t end, double value) {
    mezzo_dtype type = (mezzo_dtype)args->out_type[0];
    int64_t bytes = (int64_t)mezzo_dtype_bytes(type);
    _Alignas(64) char pattern[64];
    for (int64_t k = 0; k < 64 / bytes; k++)
        mzi_store(pattern, type, k, value);
    char *p = (char *)args->out[0] + begin * bytes, *last = (char *)args->out[0] + end * bytes;
    for (; last - p >= 64; p += 64)
        memcpy(p, pattern, 64);
    if (p < last)
        memcpy(p, pattern, (size_t)(last - p));
}

void MZK_IMPL(fill)(const mzk_args *args, int64_t begin, int64_t end) {
    splat(args, begin, end, (double)args->p.e.alpha);
}

void MZK_IMPL(broadcast)(const mzk_args *args, int64_t begin, int64_t end) {
    double s = mzi_load(args->in[0], (mezzo_dtype)args->in_type[0], 0);
    splat(args, begin, end, (double)args->p.e.alpha * s);
}
