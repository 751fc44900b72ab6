/* How an update reads and writes masters and moments, whatever form they are kept in.  Included
 * once per instruction set, after its vec.h.
 *
 *   master   FP32 | halves hi, lo (num/split.h) | BF16, rounded stochastically or to nearest
 *   moment   FP32 | BF16, rounded stochastically
 *
 * Stochastic rounding adds 16 random bits below the fraction that stays, and cuts.  Element i of a
 * tensor has number i mod 8 of the eight in block i / 8 of the tensor's own random stream. */
#ifndef MZK_SIMD_MASTERS_H
#define MZK_SIMD_MASTERS_H

#include "kernel/simd/half.h"
#include "kernel/simd/random.h"

typedef enum master_kind {
    MASTER_F32,
    MASTER_SPLIT,
    MASTER_STOCHASTIC,
    MASTER_NEAREST
} master_kind;

/* Constants of a loop. */
typedef struct forms {
    mezzo_dtype g; /* the gradient's type */
    master_kind master;
    mezzo_dtype moment;
} forms;

/* Where a family has its operands: inputs; -1: there is none.  lo and key follow s. */
typedef struct places {
    int w, m, s;
} places;

enum {
    HALVES = 2 * GROUP /* 16-bit numbers of a group of blocks */
};

/* Of the master and up to two moments; room to read a whole vector at every number. */
typedef struct noise {
    uint32_t words[3][GROUP + VL];
} noise;

INLINE bool is_noisy(forms f) {
    return f.master == MASTER_STOCHASTIC || f.moment == MEZZO_BF16;
}

INLINE void noise_make(noise *out, const mzk_args *args, forms f, int key, int moments,
                       int64_t group) {
    for (int k = 0; k <= moments; k++) {
        random_stream s = random_stream_of(args->in[key], args->p.optim.streams[k]);
        if (k == 0 ? f.master == MASTER_STOCHASTIC : f.moment == MEZZO_BF16)
            random_words(out->words[k], &s, (uint64_t)group * VL);
    }
}

INLINE void store_stochastic(uint16_t *p, vf x, const noise *random, int slot, int64_t i,
                             int64_t n) {
    vi bits = vi_load_u16((const uint16_t *)random->words[slot] + i % HALVES);
    lanes_store_u16(p + i, upper_half(vi_add(vf_bits(x), bits), x), n);
}

INLINE vf master_load(const mzk_args *args, forms f, int w, int lo, int64_t i, int64_t n) {
    if (f.master != MASTER_SPLIT)
        return lanes_load(args->in[w], f.master == MASTER_F32 ? MEZZO_F32 : MEZZO_BF16, i, n);
    vi high = vi_shift_left(lanes_load_u16((const uint16_t *)args->in[w] + i, n), 16);
    vi low = lanes_load_i16((const uint16_t *)args->in[lo] + i, n);
    return vf_of_bits(vi_add(high, low));
}

/* To out[0], and the lower halves to out[lo]. */
INLINE void master_store(const mzk_args *args, forms f, int lo, vf x, const noise *random,
                         int64_t i, int64_t n) {
    if (f.master == MASTER_SPLIT) {
        /* A NaN loses its lower half, so that nothing is carried into the upper one. */
        vi quiet = vi_and(vi_or(vf_bits(x), vi_set(0x400000)), vi_set(-0x10000));
        vi bits = vi_select(vf_is_nan(x), quiet, vf_bits(x));
        vi high = vi_shift_right(vi_add(bits, vi_set(0x8000)), 16);
        lanes_store_u16((uint16_t *)args->out[0] + i, high, n);
        lanes_store_u16((uint16_t *)args->out[lo] + i, vi_and(bits, vi_set(0xffff)), n);
    } else if (f.master == MASTER_STOCHASTIC) {
        store_stochastic(args->out[0], x, random, 0, i, n);
    } else {
        lanes_store(args->out[0], f.master == MASTER_F32 ? MEZZO_F32 : MEZZO_BF16, i, x, n);
    }
}

/* Moment `slot`, counted from 1, to out[out]. */
INLINE void moment_store(const mzk_args *args, forms f, int out, int slot, vf x,
                         const noise *random, int64_t i, int64_t n) {
    if (f.moment == MEZZO_BF16)
        store_stochastic(args->out[out], x, random, slot, i, n);
    else
        lanes_store(args->out[out], MEZZO_F32, i, x, n);
}

/* One vector of an update, `n` lanes of it; `k` are the constants. */
typedef void update_lanes(const mzk_args *args, forms f, const void *k, const noise *random,
                          int64_t i, int64_t n);

INLINE void update_range(const mzk_args *args, int64_t begin, int64_t end, forms f, int key,
                         int moments, update_lanes *body, const void *k) {
    mzk_args local = *args; /* its pointers stay in registers */
    noise random;
    int64_t i = begin;
    while (i < end) {
        int64_t stop = end;
        if (is_noisy(f)) {
            int64_t group_end = (i / HALVES + 1) * HALVES;
            stop = group_end < end ? group_end : end;
            noise_make(&random, args, f, key, moments, i / HALVES);
        }
        for (; i + VL <= stop; i += VL)
            body(&local, f, k, &random, i, VL);
        if (i < stop)
            body(&local, f, k, &random, i, stop - i);
        i = stop;
    }
}

/* The forms of a call as constants. */
typedef void update_loop(const mzk_args *args, int64_t begin, int64_t end, forms f);

INLINE bool forms_gradient(update_loop *body, const mzk_args *args, int64_t begin, int64_t end,
                           master_kind master, mezzo_dtype moment) {
    int g = args->in_type[0];
    if (g == MEZZO_F32)
        body(args, begin, end, (forms){MEZZO_F32, master, moment});
    else if (g == MEZZO_BF16)
        body(args, begin, end, (forms){MEZZO_BF16, master, moment});
    else if (g == MEZZO_F16 && master == MASTER_F32 && moment == MEZZO_F32)
        body(args, begin, end, (forms){MEZZO_F16, MASTER_F32, MEZZO_F32});
    else
        return false;
    return true;
}

INLINE bool forms_moment(update_loop *body, const mzk_args *args, int64_t begin, int64_t end,
                         places at, master_kind master) {
    int moment = at.m < 0 ? MEZZO_F32 : args->in_type[at.m];
    if (moment == MEZZO_F32)
        return forms_gradient(body, args, begin, end, master, MEZZO_F32);
    if (at.m >= 0 && moment == MEZZO_BF16)
        return forms_gradient(body, args, begin, end, master, MEZZO_BF16);
    return false;
}

/* Runs `body` and returns true, or returns false if there is no loop for the types. */
INLINE bool dispatch_forms(update_loop *body, const mzk_args *args, int64_t begin, int64_t end,
                           places at) {
    int master = at.w < 0 ? MEZZO_F32 : args->in_type[at.w];
    if (args->out_type[0] == MEZZO_F64)
        return false;
    if (master == MEZZO_F32)
        return forms_moment(body, args, begin, end, at, MASTER_F32);
    if (at.w < 0 || master != MEZZO_BF16)
        return false;
    if (args->in[at.s + 1])
        return forms_moment(body, args, begin, end, at, MASTER_SPLIT);
    if (args->p.optim.nearest)
        return forms_moment(body, args, begin, end, at, MASTER_NEAREST);
    return forms_moment(body, args, begin, end, at, MASTER_STOCHASTIC);
}

#endif
