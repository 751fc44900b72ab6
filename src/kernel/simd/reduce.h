/* Sums.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/lanes.h"
#include "kernel/simd/stats.h"

/* Four accumulators hide the latency of an addition. */
INLINE float sum_range(const void *x, mezzo_dtype type, int64_t begin, int64_t end) {
    vf s0 = vf_zero(), s1 = s0, s2 = s0, s3 = s0;
    int64_t i = begin;
    for (; i + 4 * VL <= end; i += 4 * VL) {
        s0 = vf_add(s0, vf_load(x, type, i));
        s1 = vf_add(s1, vf_load(x, type, i + VL));
        s2 = vf_add(s2, vf_load(x, type, i + 2 * VL));
        s3 = vf_add(s3, vf_load(x, type, i + 3 * VL));
    }
    for (; i < end; i += VL)
        s0 = vf_add(s0, lanes_load(x, type, i, end - i < VL ? end - i : VL));
    return vf_sum(vf_add(vf_add(s0, s1), vf_add(s2, s3)));
}

INLINE void sum_part_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t grain = args->p.e.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        mzi_store(args->out[0], (mezzo_dtype)args->out_type[0], b / grain,
                  (double)sum_range(args->in[0], t.a, b, chunk_end(b, grain, end)));
}
void MZK_IMPL(sum_part)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(sum_part_loop, args, begin, end, VARY_A))
        mzk_sum_part_ref(args, begin, end);
}

/* [begin, end) is one chunk here. */
INLINE void colsum_block(const mzk_args *args, int64_t begin, int64_t end, types t, int64_t c,
                         int vectors, int64_t lanes) {
    const void *x = args->in[0];
    int64_t n = args->p.e.n, out = begin / args->p.e.grain * n + c;
    vf sum[COLUMNS_MAX];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++)
        sum[j] = vf_zero();
    for (int64_t r = begin; r < end; r++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[j] = vf_add(sum[j], lanes_load(x, t.a, r * n + c + j * VL, lanes));
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++)
        lanes_store(args->out[0], MEZZO_F32, out + j * VL, sum[j], lanes);
}
INLINE void colsum_part_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t grain = args->p.e.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        over_columns(colsum_block, args, b, chunk_end(b, grain, end), t, args->p.e.n);
}
void MZK_IMPL(colsum_part)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(colsum_part_loop, args, begin, end, VARY_A))
        mzk_colsum_part_ref(args, begin, end);
}

/* y [j, j + vectors VL); the parts are rows of `n`. */
INLINE void sum_parts_block(const mzk_args *args, types t, int64_t j, int vectors, int64_t lanes) {
    const void *part = args->in[0];
    int64_t n = args->p.e.n, parts = args->p.e.parts;
    vf sum[COLUMNS_MAX], alpha = vf_set(args->p.e.alpha);
#pragma GCC unroll 4
    for (int q = 0; q < vectors; q++)
        sum[q] = vf_zero();
    for (int64_t k = 0; k < parts; k++)
#pragma GCC unroll 4
        for (int q = 0; q < vectors; q++)
            sum[q] = vf_add(sum[q], lanes_load(part, MEZZO_F32, k * n + j + q * VL, lanes));
#pragma GCC unroll 4
    for (int q = 0; q < vectors; q++)
        lanes_store(args->out[0], t.out, j + q * VL, vf_mul(alpha, sum[q]), lanes);
}
INLINE void sum_parts_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t j = begin;
    for (; j + 4 * VL <= end; j += 4 * VL)
        sum_parts_block(args, t, j, 4, VL);
    for (; j + VL <= end; j += VL)
        sum_parts_block(args, t, j, 1, VL);
    if (j < end)
        sum_parts_block(args, t, j, 1, end - j);
}
void MZK_IMPL(sum_parts)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->in_type[0] != MEZZO_F32 || !dispatch(sum_parts_loop, args, begin, end, VARY_OUT))
        mzk_sum_parts_ref(args, begin, end);
}

enum {
    SEEN_BLOCK = 16 /* vectors that are looked at without counting */
};

/* A vector of which only sum, peak and dip are wanted; in registers. */
INLINE void glance(vf x, vd *squares, vf *max, vf *min) {
    vf magnitude = vf_of_bits(vi_and(vf_bits(x), vi_set(0x7fffffff)));
    vd wide = vd_of(x);
    *squares = vd_fma(wide, wide, *squares);
    *max = vf_max(magnitude, *max);
    *min = vf_min(magnitude, *min);
}

/* A block of which every element is finite and not below `least` changes no count of others.  One
 * that is not finite makes the sum of squares so, since FP64 holds the square of every FP32 number:
 * then, or if there is a smaller one, nothing is added and the result is false. */
INLINE bool see_block(seen *s, const void *x, mezzo_dtype type, int64_t i, vf least) {
    vd even = s->squares[0], odd = s->squares[1];
    vf max = s->max, min = least;
    for (int k = 0; k < SEEN_BLOCK; k += 2) {
        glance(vf_load(x, type, i + k * VL), &even, &max, &min);
        glance(vf_load(x, type, i + (k + 1) * VL), &odd, &max, &min);
    }
    double sum = vd_sum(vd_add(even, odd));
    if (vm_bits(vf_greater(least, min)) || sum - sum != 0)
        return false;
    s->squares[0] = even;
    s->squares[1] = odd;
    s->max = max;
    s->lanes += SEEN_BLOCK * VL;
    s->finite += SEEN_BLOCK * VL;
    return true;
}
INLINE void see_all(seen *s, const void *x, mezzo_dtype type, int64_t i, vf tiny) {
    for (int k = 0; k < SEEN_BLOCK; k++)
        see(s, k % 2, vf_load(x, type, i + k * VL), tiny, VL);
}
INLINE void stats_part_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    const void *x = args->in[0];
    int64_t grain = args->p.e.grain;
    vf tiny = vf_set(args->p.e.alpha);
    vf least = vf_set(args->p.e.alpha > 0 ? args->p.e.alpha : 0x1p-149f); /* above 0 */
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end)) {
        int64_t i = b, stop = chunk_end(b, grain, end);
        seen s = {{vd_zero(), vd_zero()}, vf_zero(), 0, 0, 0, 0, 0};
        for (; i + SEEN_BLOCK * VL <= stop; i += SEEN_BLOCK * VL)
            if (!see_block(&s, x, t.a, i, least))
                see_all(&s, x, t.a, i, tiny);
        for (; i + 2 * VL <= stop; i += 2 * VL) {
            see(&s, 0, vf_load(x, t.a, i), tiny, VL);
            see(&s, 1, vf_load(x, t.a, i + VL), tiny, VL);
        }
        for (; i < stop; i += VL) {
            int64_t n = stop - i < VL ? stop - i : VL;
            see(&s, 0, lanes_load(x, t.a, i, n), tiny, n);
            s.below -= args->p.e.alpha > 0 ? VL - n : 0;
        }
        stats_store((double *)args->out[0] + b / grain * MZK_STATS, &s, args->p.e.alpha > 0);
    }
}
void MZK_IMPL(stats_part)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(stats_part_loop, args, begin, end, VARY_A))
        mzk_stats_part_ref(args, begin, end);
}
