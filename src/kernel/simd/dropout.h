/* Dropout and row-wise addition.  Included once per instruction set, after its vec.h. */
#include <math.h>

#include "base/rng.h"
#include "kernel/simd/lanes.h"

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

/* Random words are made for a group of VL blocks at once, one block of 4 words a lane.  Groups
 * start at multiples of VL blocks, so that the low counter word never carries inside of one. */
enum {
    GROUP = 4 * VL
};

typedef struct random_stream {
    uint32_t key[2], step, stream_high;
} random_stream;

/* The words of mzi_rng4 for blocks [block, block + VL), in order. */
INLINE void random_words(uint32_t *out, const random_stream *s, uint64_t block) {
    vi c0 = vi_add(vi_set((int32_t)(uint32_t)block), vi_block_order());
    vi c1 = vi_set((int32_t)(uint32_t)(block >> 32));
    vi c2 = vi_set((int32_t)s->step), c3 = vi_set((int32_t)s->stream_high);
    uint32_t k0 = s->key[0], k1 = s->key[1];
    for (int round = 0; round < 10; round++) { /* as mzi_philox */
        vi high0, low0, high1, low1;
        vi_multiply(c0, 0xD2511F53u, &high0, &low0);
        vi_multiply(c2, 0xCD9E8D57u, &high1, &low1);
        c0 = vi_xor(vi_xor(high1, c1), vi_set((int32_t)k0));
        c2 = vi_xor(vi_xor(high0, c3), vi_set((int32_t)k1));
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    vi words[4];
    vi_interleave4(words, c0, c1, c2, c3);
    for (int q = 0; q < 4; q++)
        vi_store(out + q * VL, words[q]);
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
    uint64_t stream = args->p.e.stream;
    random_stream s = {{(uint32_t)key[0], (uint32_t)key[1] ^ (uint32_t)stream},
                       (uint32_t)key[2],
                       (uint32_t)(stream >> 32)};
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
