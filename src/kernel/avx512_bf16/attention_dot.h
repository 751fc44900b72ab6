/* Causal attention over BF16 operands, by dot.h.
 *
 *              lanes: queries i              Scores are [key][query], queries in the lanes, so that
 *            i0 .. i0 + LANES - 1            maximum and sum of a softmax go down the rows. Weights
 *   keys  0  | full blocks      |            are rounded to BF16 in pairs of two keys, [key/2]
 *         .  | of KEYS keys     |            [query], where the scores were; y is [query][D].
 *         i0 |\ diagonal, in    |            On the diagonal, keys of vector v are met by the
 *            | \ steps of VL    |            vectors from v on; in its own a key reaches the lanes
 *            |  \               |            from its number on.
 *
 * Backward has keys in the lanes and queries in the rows, from the diagonal on:
 * attention_dot_bwd.h.
 *
 * Keys and values are packed on the diagonal, where they are met first, and kept for the tiles of
 * queries behind: room is for T D of FORWARD_ROOM, 768 KB of the workspace.
 * In a longer sequence they are packed for each tile.
 *
 * The softmax is in powers of 2: with c = scale / ln 2 and sums a = q k, the weight of a key is
 * 2^(c a - m), m = c max(a); lse = m ln 2 + log(total). */
#include <float.h>

#include "kernel/avx512_bf16/dot.h"
#include "kernel/simd/attention_head.h"

enum {
    DOT_D = ATTENTION_D,
    DOT_WIDE = ATTENTION_WIDE,
    DOT_LANES = ATTENTION_LANES,
    DOT_KEYS = DOT_LANES,
    FORWARD_ROOM = 1 << 17
};

/* Pitches: a head's row is `pitch` elements, a multiple of VL; in pairs `half`, also one. */
typedef struct forward_work {
    _Alignas(64) uint32_t query[DOT_D / 2 * DOT_LANES];   /* turned              */
    _Alignas(64) uint32_t key[FORWARD_ROOM];              /* rows                */
    _Alignas(64) uint32_t value[FORWARD_ROOM / 2];        /* interleaved         */
    _Alignas(64) uint32_t score[DOT_KEYS * DOT_LANES];    /* FP32, then weights  */
    _Alignas(64) float sum[DOT_LANES * DOT_D];            /* of weights x values */
    _Alignas(64) float peak[DOT_LANES], total[DOT_LANES]; /* of a and of weights */
} forward_work;
_Static_assert(sizeof(forward_work) <= MZK_ATTENTION_SCRATCH, "its workspace");

INLINE const uint16_t *dot_operand(const mzk_args *args, int k, int64_t at) {
    return (const uint16_t *)args->in[k] + at;
}
INLINE int64_t dot_half(const attention_head *a) { /* pairs of a row, in whole vectors */
    return (a->pitch / 2 + VL - 1) / VL * VL;
}
INLINE int64_t dot_pairs(int64_t n) {
    return (n + 1) / 2;
}
INLINE float dot_factor(const attention_head *a) { /* c */
    return (float)((double)a->scale * M_LOG2E);
}

/* m.  It is kept finite, so that a score of minus infinity has the weight 0. */
INLINE vf forward_base(vf peak, vf c) {
    return vf_max(vf_mul(peak, c), vf_set(-FLT_MAX));
}

/* y so far, brought to peaks that have grown. */
INLINE void forward_lower(forward_work *w, const attention_head *a, int v, vf factor) {
    float f[VL];
    vf_store(f, MEZZO_F32, 0, factor);
    for (int64_t i = 0; i < VL; i++)
        for (int64_t d = 0; d < a->pitch; d += VL) {
            int64_t at = (v * VL + i) * a->pitch + d;
            vf_store(w->sum, MEZZO_F32, at, vf_mul(vf_load(w->sum, MEZZO_F32, at), vf_set(f[i])));
        }
}

/* Weights of vector v of the tile. */
INLINE void forward_softmax(forward_work *w, const attention_head *a, const attention_block *k,
                            int v) {
    const vf c = vf_set(dot_factor(a));
    int64_t rows = attention_rows(k, v);
    vf before = vf_load(w->peak, MEZZO_F32, v * VL), peak = before;
    vf total = vf_load(w->total, MEZZO_F32, v * VL), odd = vf_zero();
    vf four[4] = {peak, peak, peak, peak}; /* maxima do not depend on their order */
    for (int64_t r = 0; r < rows; r += 4) {
#pragma GCC unroll 4
        for (int64_t n = 0; n < 4; n++) { /* vf_max gives the second for a NaN */
            if (r + n >= rows)
                break;
            vf s = vf_load(w->score, MEZZO_F32, (r + n) * DOT_LANES + v * VL);
            four[n] = vf_max(attention_mask(k, v, r + n, s, peak), four[n]);
        }
    }
    peak = vf_max(vf_max(four[0], four[1]), vf_max(four[2], four[3]));
    vf base = forward_base(peak, c);
    if (vm_bits(vf_greater(peak, before))) {
        vf factor = dot_exp2(vf_sub(forward_base(before, c), base));
        total = vf_mul(total, factor);
        forward_lower(w, a, v, factor);
    }
    for (int64_t r = 0; r < rows; r += 4) { /* rows that are not there have the weight 0 */
        uint32_t *at = w->score + r * DOT_LANES + v * VL;
        vf p[4];
#pragma GCC unroll 4
        for (int64_t n = 0; n < 4; n++)
            p[n] = r + n < rows ? _mm512_fmsub_ps(vf_load(at, MEZZO_F32, n * DOT_LANES), c, base)
                                : vf_set(-FLT_MAX);
        dot_exps(p, 4);
        if (k->diagonal && r >= v * VL)
#pragma GCC unroll 4
            for (int64_t n = 0; n < 4; n++)
                p[n] = attention_mask(k, v, r + n, p[n], vf_zero());
        total = vf_add(total, vf_add(p[0], p[2]));
        odd = vf_add(odd, vf_add(p[1], p[3]));
        vi_store(at, dot_interleave(dot_halves(p[0], p[1])));
        vi_store(at + 2 * DOT_LANES, dot_interleave(dot_halves(p[2], p[3])));
    }
    vf_store(w->peak, MEZZO_F32, v * VL, peak);
    vf_store(w->total, MEZZO_F32, v * VL, vf_add(total, odd));
}

/* A block of keys under the tile of n queries. */
INLINE void forward_keys(forward_work *w, const attention_head *a, const mzk_args *args, int64_t n,
                         const attention_block *k) {
    int64_t half = dot_half(a), depth = dot_pairs(a->D), step = k->diagonal ? VL : k->rows;
    int wide = (int)(a->pitch / VL);
    uint32_t *key = w->key + k->slot * half, *value = w->value + k->slot / 2 * a->pitch;
    if (k->fresh) {
        int64_t at = k->first * a->E;
        dot_pack_rows(key, half, dot_operand(args, 0, a->k + at), a->E, k->rows, a->D);
        dot_pack_interleaved(value, a->pitch, dot_operand(args, 0, a->v + at), a->E, k->rows, a->D);
    }
    for (int64_t r = 0; r < k->rows; r += step) {
        int64_t first = k->diagonal ? r : 0;
        dot_set_product((float *)(void *)w->score + r * DOT_LANES + first, DOT_LANES,
                        (dot_left){key + r * half, half, 1}, w->query + first, DOT_LANES,
                        at_most(k->rows - r, step), depth, DOT_WIDE - (int)(first / VL));
    }
    for (int v = 0; v < DOT_WIDE; v++)
        if (v * VL < n)
            forward_softmax(w, a, k, v);
    const dot_left weight = {w->score, 1, 2 * DOT_LANES};
    if (!k->diagonal) {
        dot_add_product(w->sum, a->pitch, weight, value, a->pitch, n, dot_pairs(k->rows), wide);
        return;
    }
    for (int64_t i = 0; i < n; i += VL) {
        dot_left left = {w->score + i, 1, 2 * DOT_LANES};
        float *sum = w->sum + i * a->pitch;
        if (i > 0)
            dot_add_product(sum, a->pitch, left, value, a->pitch, at_most(n - i, VL), i / 2, wide);
        left.data += i / 2 * left.step;
        dot_triangle(sum, a->pitch, left, value + i / 2 * a->pitch, a->pitch,
                     dot_pairs(at_most(n - i, VL)), true, wide);
    }
}

/* y = sums / total; lse = m ln 2 + log(total). */
INLINE void forward_finish(forward_work *w, const attention_head *a, const mzk_args *args,
                           int64_t i0, int64_t n) {
    float *lse = (float *)args->out[1] + a->lse + i0, base[DOT_LANES], share[DOT_LANES];
    for (int64_t i = 0; i < DOT_LANES; i += VL) {
        vf peak = vf_load(w->peak, MEZZO_F32, i);
        vf_store(base, MEZZO_F32, i, forward_base(peak, vf_set(dot_factor(a))));
        vf_store(share, MEZZO_F32, i, vf_div(vf_set(1), vf_load(w->total, MEZZO_F32, i)));
    }
    for (int64_t i = 0; i < n; i++) {
        lse[i] = (float)((double)base[i] * M_LN2 + log((double)w->total[i]));
        attention_write(args, a, a->y + (i0 + i) * a->O, w->sum + i * a->pitch, share[i]);
    }
}

/* The tile of queries [i0, i0 + n). */
static __attribute__((noinline)) void forward_tile(forward_work *w, const attention_head *a,
                                                   const mzk_args *args, int64_t i0, int64_t n) {
    dot_pack_turned(w->query, DOT_LANES, dot_operand(args, 0, a->q + i0 * a->E), a->E, n, a->D);
    memset(w->sum, 0, (size_t)(DOT_LANES * a->pitch) * sizeof *w->sum);
    for (int v = 0; v < DOT_WIDE; v++) {
        vf_store(w->peak, MEZZO_F32, v * VL, vf_set(-FLT_MAX));
        vf_store(w->total, MEZZO_F32, v * VL, vf_zero());
    }
    for (int64_t j = 0; j <= i0; j += DOT_KEYS) {
        attention_block k = attention_block_at(a, i0, j, a->T * a->pitch <= FORWARD_ROOM);
        forward_keys(w, a, args, n, &k);
    }
    forward_finish(w, a, args, i0, n);
}

void mzk_attention_avx512_bf16(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_BF16 || args->in_type[0] != MEZZO_BF16 ||
        args->out_type[1] != MEZZO_F32 || args->p.attention.D > DOT_D ||
        !(args->p.attention.scale > 0)) {
        mzk_attention_avx512(args, begin, end);
        return;
    }
    forward_work *w = args->scratch;
    for (int64_t row = begin; row < end; row++) {
        attention_head a = attention_at(args, row / args->p.attention.H, row % args->p.attention.H);
        for (int64_t i = 0; i < a.T; i += DOT_LANES)
            forward_tile(w, &a, args, i, at_most(a.T - i, DOT_LANES));
    }
}
