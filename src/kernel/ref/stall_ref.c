/* Reference: samples of a weight, and how many of them an update left as they were. */
#include <string.h>

#include "kernel/ref/ref.h"

void mzk_sample_ref(const mzk_args *args, int64_t begin, int64_t end) {
    size_t bytes = mezzo_dtype_bytes((mezzo_dtype)args->out_type[0]);
    for (int64_t i = begin; i < end; i++)
        memcpy((char *)args->out[0] + (size_t)i * bytes,
               (const char *)args->in[0] + (size_t)(i * args->p.sample.stride) * bytes, bytes);
}

void mzk_stalled_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t counted = 0, stalled = 0;
    if (begin >= end)
        return;
    for (int64_t i = 0; i < args->p.sample.n; i++) {
        int64_t element = i * args->p.sample.stride;
        if (get(args, 0, element) == 0)
            continue;
        counted++;
        bool low = !args->in[3] || ((const uint16_t *)args->in[3])[element] ==
                                       ((const uint16_t *)args->in[2])[args->p.sample.n + i];
        stalled += low && get(args, 1, element) == get(args, 2, i);
    }
    put(args, 0, 0, (double)counted);
    put(args, 0, 1, (double)stalled);
}
