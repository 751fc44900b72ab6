/* What is done with a block of c right behind its store, while it is in L1.
 *
 *   tile of c     blocks, in the order in which they are made     out[1][tile]
 *                 8 x 48 -> squares in f32 -> sums in f64    ->   figures by mzk_stat
 *
 * A part of gemm.h. */
#ifndef MZK_SIMD_GEMM_EPILOGUE_H
#define MZK_SIMD_GEMM_EPILOGUE_H

#include "kernel/simd/stats.h"

/* Figures of the tile at hand. */
typedef struct gemm_figures {
    seen seen;
    vf tiny;  /* the smallest normal number of c's type                              */
    vf least; /* from there on a square is normal in f32 and no count of others moves */
} gemm_figures;

static void gemm_figures_begin(gemm_figures *f, mezzo_dtype type) {
    const float root = 0x1p-63f; /* its square is f32's smallest normal number */
    float tiny = (float)mzi_smallest_normal(type);
    f->seen = (seen){{vd_zero(), vd_zero()}, vf_zero(), 0, 0, 0, 0, 0};
    f->tiny = vf_set(tiny);
    f->least = vf_set(tiny > root ? tiny : root);
}

/* A block of 8 rows of 3 vectors, in registers. */
typedef struct gemm_glance {
    vf squares[GEMM_WIDE], max, min;
} gemm_glance;

INLINE void gemm_glance_begin(gemm_glance *l, const gemm_figures *f) {
#pragma GCC unroll 3
    for (int v = 0; v < GEMM_WIDE; v++)
        l->squares[v] = vf_zero();
    l->max = f->seen.max;
    l->min = f->least;
}

INLINE vf gemm_magnitude(vf x) {
    return vf_of_bits(vi_and(vf_bits(x), vi_set(0x7fffffff)));
}

/* `low` is x, or what stands for it in the minimum. */
INLINE void gemm_glance_at(gemm_glance *l, int v, vf x, vf low) {
    l->squares[v] = vf_fma(x, x, l->squares[v]);
    l->max = vf_max(gemm_magnitude(x), l->max);
    l->min = vf_min(gemm_magnitude(low), l->min);
}

/* If every element is finite and not below `least`, and no sum leaves f32, each sum of squares is
 * within gamma_10 of exact: a product, 7 sums down the rows, 2 across.  Otherwise nothing is added,
 * and the result is false. */
INLINE bool gemm_glance_end(const gemm_glance *l, gemm_figures *f) {
    vf sum = vf_add(vf_add(l->squares[0], l->squares[1]), l->squares[2]);
    vm finite = vf_equal(vf_sub(sum, sum), vf_zero());
    if (vm_bits(vf_greater(f->least, l->min)) || vm_bits(finite) != (1u << VL) - 1)
        return false;
    f->seen.squares[0] = vd_add(f->seen.squares[0], vd_of(sum));
    f->seen.max = l->max;
    f->seen.lanes += GEMM_BLOCK;
    f->seen.finite += GEMM_BLOCK;
    return true;
}

/* Gives what was stored. */
INLINE vf gemm_store(void *c, mezzo_dtype type, int64_t place, vf x) {
    if (type == MEZZO_F32) {
        vf_store(c, type, place, x);
        return x;
    }
    __m256i half = half_of(type, x);
    _mm256_storeu_si256((__m256i *)((uint16_t *)c + place), half);
    return type == MEZZO_BF16 ? bf16_widen(half) : _mm512_cvtph_ps(half);
}

/* The same for a block with zeros, which are counted.  Not by the way, behind every store: that
 * takes a product 1 % longer. */
INLINE bool gemm_see_zeros(gemm_figures *f, const void *c, mezzo_dtype type, int64_t place,
                           int64_t N) {
    gemm_glance look;
    int64_t zeros = 0;
    gemm_glance_begin(&look, f);
    for (int64_t r = 0; r < GEMM_ROWS; r++)
#pragma GCC unroll 3
        for (int v = 0; v < GEMM_WIDE; v++) {
            vf x = vf_load(c, type, place + r * N + v * VL);
            vm zero = vf_equal(x, vf_zero());
            gemm_glance_at(&look, v, x, vf_select(zero, f->least, x));
            zeros += __builtin_popcount(vm_bits(zero));
        }
    if (!gemm_glance_end(&look, f))
        return false;
    f->seen.zero += zeros;
    f->seen.below += zeros;
    return true;
}

INLINE void gemm_see_of(gemm_figures *f, const void *c, mezzo_dtype type, int64_t place, int64_t N,
                        int64_t rows, int64_t columns) {
    if (rows == GEMM_ROWS && columns == GEMM_COLUMNS && gemm_see_zeros(f, c, type, place, N))
        return;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < columns; n += VL) {
            int64_t lanes = columns - n < VL ? columns - n : VL, at = place + r * N + n;
            vf x = lanes == VL ? vf_load(c, type, at) : vf_load_n(c, type, at, lanes);
            see(&f->seen, (int)(r % 2), x, f->tiny, lanes);
            f->seen.below -= VL - lanes;
        }
}

/* `rows` x `columns` of c, from element `place` on, where a glance does not do. */
static __attribute__((noinline)) void gemm_see(gemm_figures *f, const mzk_args *args, int64_t place,
                                               int64_t rows, int64_t columns) {
    const void *c = args->out[0];
    int64_t N = args->p.matmul.N;
    if (args->out_type[0] == MEZZO_F32)
        gemm_see_of(f, c, MEZZO_F32, place, N, rows, columns);
    else if (args->out_type[0] == MEZZO_BF16)
        gemm_see_of(f, c, MEZZO_BF16, place, N, rows, columns);
    else
        gemm_see_of(f, c, MEZZO_F16, place, N, rows, columns);
}

static void gemm_figures_end(const gemm_figures *f, double *part) {
    stats_store(part, &f->seen, true);
}

#endif
