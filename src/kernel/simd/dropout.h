/* Dropout and row-wise addition.  Included once per instruction set, after its vec.h. */
#include <math.h>

#include "kernel/simd/lanes.h"
#include "kernel/simd/random.h"

INLINE void add_row_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    void *y = args->out[0];
    const void *x = args->in[0], *b = args->in[1];
    int64_t n = args->p.e.n;
    for (int64_t r = begin; r < end; r++) {
        int64_t j = 0;
        for (; j + VL <= n; j += VL)
            vf_store(y, t.out, r * n + j, vf_add(vf_load(x, t.a, r * n + j), vf_load(b, t.b, j)));
        if (j < n) {
            vf sum = vf_add(vf_load_n(x, t.a, r * n + j, n - j), vf_load_n(b, t.b, j, n - j));
            vf_store_n(y, t.out, r * n + j, sum, n - j);
        }
    }
}
void MZK_IMPL(add_row)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(add_row_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_add_row_ref(args, begin, end);
}

/* mzi_uniform(word) >= p, in integers: (word >> 8) >= p 2^24, rounded up. */
INLINE vf dropped_or_scaled(vf x, const uint32_t *words, vi threshold, vf factor) {
    vm drop = vi_greater(threshold, vi_shift_right(vi_load(words), 8));
    vm zero = vm_and_not(drop, vf_is_nan(x));
    return vf_select(zero, vf_zero(), vf_mul(x, factor));
}

INLINE void dropout_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    const int32_t *key = args->in[1];
    void *y = args->out[0];
    const void *x = args->in[0];
    random_stream s = random_stream_of(key, args->p.e.stream);
    vi threshold = vi_set((int32_t)ceil((double)args->p.e.alpha * 0x1p24));
    vf factor = vf_set(args->p.e.beta);
    /* Element 0 of this call is number `shift` of the whole batch. */
    int64_t n = args->p.e.n, shift = key[3] * n;
    int64_t i = begin * n, last = end * n;
    uint32_t words[GROUP + VL] = {0}; /* room to read a whole vector at every word */
    while (i < last) {
        uint64_t element = (uint64_t)(i + shift), group = element / GROUP;
        int64_t skip = (int64_t)(element % GROUP);
        int64_t stop = last - i < GROUP - skip ? last : i + GROUP - skip;
        random_words(words, &s, group * VL);
        for (const uint32_t *w = words + skip; i < stop; w += VL) {
            int64_t lanes = stop - i < VL ? stop - i : VL;
            vf value = dropped_or_scaled(lanes_load(x, t.a, i, lanes), w, threshold, factor);
            lanes_store(y, t.out, i, value, lanes);
            i += lanes;
        }
    }
}
void MZK_IMPL(dropout)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(dropout_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_dropout_ref(args, begin, end);
}
