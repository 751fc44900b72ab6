/* Causal attention.  Included once per instruction set, after its vec.h.
 *
 *              lanes: queries i              Scores and weights are [key][query], queries in the
 *            i0 .. i0 + LANES - 1            lanes, so that maximum and sum of a softmax go down
 *   keys  0  | full blocks      |            the rows; y is [query][D].  On the diagonal, keys of
 *         .  | of LANES keys    |            vector v are met by the vectors from v on; in its own
 *         i0 |\ diagonal, in    |            a key reaches the lanes from its number on.  Weights
 *            | \ steps of VL    |            above the diagonal are not multiplied: a NaN there
 *            |  \               |            stays there.
 *
 * Keys and values are packed on the diagonal, where they are met first, and kept for the tiles of
 * queries behind: room is for T D of KEYS_ROOM, 1.75 MB of the workspace.  In a longer sequence
 * they are packed for each tile.
 *
 * The softmax is in powers of 2: queries are multiplied by scale / ln 2 as they are turned, the
 * weight of a score s is 2^(s - base), and lse = base ln 2 + log(total).  A base is a peak of the
 * scores so far, or no more than HEADROOM below it: few blocks have to raise it, and weights stay
 * below 2^HEADROOM. */
#include <float.h>

#include "kernel/simd/attention_head.h"
#include "kernel/simd/exp.h"
#include "kernel/simd/log.h"
#include "kernel/simd/tile.h"

enum {
    KEYS_ROOM = 224 << 10,
    HEADROOM = 8
};

/* Rows of a head are `pitch` elements. */
typedef struct attention_work {
    _Alignas(64) float query[ATTENTION_D * ATTENTION_LANES];          /* turned               */
    _Alignas(64) float key[KEYS_ROOM], value[KEYS_ROOM];              /* rows                 */
    _Alignas(64) float score[ATTENTION_LANES * ATTENTION_LANES];      /* then weights         */
    _Alignas(64) float sum[ATTENTION_LANES * ATTENTION_D];            /* of weights x values  */
    _Alignas(64) float base[ATTENTION_LANES], total[ATTENTION_LANES]; /* of weights */
} attention_work;
_Static_assert(sizeof(attention_work) <= MZK_ATTENTION_SCRATCH, "its workspace");

/* `rows` rows of D of operand x, from element `at` on. */
INLINE tile_tokens attention_tokens(const attention_head *a, const void *x, int64_t at,
                                    int64_t stride, int64_t rows) {
    return (tile_tokens){x, a->type, at, stride, rows, a->D};
}

/* y so far, brought to bases that were raised. */
INLINE void attention_raise(attention_work *w, const attention_head *a, int v, vf factor) {
    float f[VL];
    vf_store(f, MEZZO_F32, 0, factor);
    for (int64_t i = 0; i < VL; i++)
        for (int64_t d = 0; d < a->pitch; d += VL) {
            int64_t at = (v * VL + i) * a->pitch + d;
            vf_store(w->sum, MEZZO_F32, at, vf_mul(vf_load(w->sum, MEZZO_F32, at), vf_set(f[i])));
        }
}

/* Scores of rows [r, r + SIDE) of vector v.  At an `edge` a mask or the last row is among them:
 * `other` is what stands for a key that is not met. */
INLINE void attention_scores(vf s[SIDE], const float *score, const attention_block *k, int v,
                             int64_t r, bool edge, vf other) {
    int64_t rows = attention_rows(k, v);
#pragma GCC unroll 4
    for (int64_t n = 0; n < SIDE; n++) {
        s[n] = other;
        if (edge && r + n >= rows)
            continue;
        s[n] = vf_load(score, MEZZO_F32, (r + n) * ATTENTION_LANES + v * VL);
        if (edge)
            s[n] = attention_mask(k, v, r + n, s[n], other);
    }
}
INLINE void attention_peak(vf peak[SIDE], const float *score, const attention_block *k, int v,
                           int64_t r, bool edge) {
    vf s[SIDE];
    attention_scores(s, score, k, v, r, edge, vf_set(-FLT_MAX));
#pragma GCC unroll 4
    for (int64_t n = 0; n < SIDE; n++) /* vf_max gives the second for a NaN */
        peak[n] = vf_max(s[n], peak[n]);
}
INLINE void attention_weights(float *score, const attention_block *k, int v, int64_t r, bool edge,
                              vf base, vf total[SIDE]) {
    vf p[SIDE];
    attention_scores(p, score, k, v, r, edge, vf_set(-HUGE_VALF));
#pragma GCC unroll 4
    for (int64_t n = 0; n < SIDE; n++)
        p[n] = vf_sub(p[n], base);
    vf_exp2s(p, SIDE);
#pragma GCC unroll 4
    for (int64_t n = 0; n < SIDE; n++) {
        vf_store(score, MEZZO_F32, (r + n) * ATTENTION_LANES + v * VL, p[n]);
        total[n] = vf_add(total[n], p[n]);
    }
}
INLINE vf attention_reduce(vf x[SIDE], bool sum) {
#pragma GCC unroll 2
    for (int half = SIDE / 2; half > 0; half /= 2)
#pragma GCC unroll 2
        for (int n = 0; n < half; n++)
            x[n] = sum ? vf_add(x[n], x[n + half]) : vf_max(x[n], x[n + half]);
    return x[0];
}

/* Weights of vector v of the tile.  Their base is raised to a peak that has left it behind by
 * HEADROOM. */
INLINE void attention_softmax(attention_work *w, const attention_head *a, const attention_block *k,
                              int v) {
    int64_t rows = attention_rows(k, v), r = 0;
    int64_t inner = (k->diagonal ? at_most(rows, v * VL) : rows) / SIDE * SIDE;
    vf base = vf_load(w->base, MEZZO_F32, v * VL), peak[SIDE], total[SIDE];
#pragma GCC unroll 4
    for (int n = 0; n < SIDE; n++) {
        peak[n] = base; /* maxima do not depend on their order */
        total[n] = vf_zero();
    }
    total[0] = vf_load(w->total, MEZZO_F32, v * VL);
    for (r = 0; r < inner; r += SIDE)
        attention_peak(peak, w->score, k, v, r, false);
    for (; r < rows; r += SIDE)
        attention_peak(peak, w->score, k, v, r, true);
    vf top = attention_reduce(peak, false);
    vm left = vf_greater(top, vf_add(base, vf_set(HEADROOM)));
    if (vm_bits(left)) {
        vf factor = base;
        base = vf_select(left, top, base);
        factor = vf_sub(factor, base);
        vf_exp2s(&factor, 1);
        total[0] = vf_mul(total[0], factor);
        if (k->first > 0)
            attention_raise(w, a, v, factor);
    }
    for (r = 0; r < inner; r += SIDE)
        attention_weights(w->score, k, v, r, false, base, total);
    for (; r < rows; r += SIDE)
        attention_weights(w->score, k, v, r, true, base, total);
    vf_store(w->base, MEZZO_F32, v * VL, base);
    vf_store(w->total, MEZZO_F32, v * VL, attention_reduce(total, true));
}

/* A block of keys under the tile of n queries. */
INLINE void attention_keys(attention_work *w, const attention_head *a, const mzk_args *args,
                           int64_t n, const attention_block *k, ahead *next) {
    int64_t step = k->diagonal ? VL : k->rows;
    int wide = (int)((n + VL - 1) / VL);
    float *key = w->key + k->slot * a->pitch, *value = w->value + k->slot * a->pitch;
    if (k->fresh) {
        int64_t at = k->first * a->E;
        tile_tokens keys = attention_tokens(a, args->in[0], a->k + at, a->E, k->rows);
        tile_tokens values = attention_tokens(a, args->in[0], a->v + at, a->E, k->rows);
        tile_pack(key, a->pitch, &keys);
        tile_pack(value, a->pitch, &values);
    }
    for (int64_t r = 0; r < k->rows; r += step) {
        int64_t first = k->diagonal ? r : 0;
        tile_set((tile_walk){.c = w->score + r * ATTENTION_LANES + first,
                             .a = {key + r * a->pitch, a->pitch, 1},
                             .b = w->query + first,
                             .pitch = ATTENTION_LANES,
                             .lanes = ATTENTION_LANES,
                             .rows = at_most(k->rows - r, step),
                             .depth = a->D,
                             .next = next},
                 wide - (int)(first / VL));
    }
    for (int v = 0; v < wide; v++)
        attention_softmax(w, a, k, v);
    const tile_walk sum = {.c = w->sum,
                           .a = {w->score, 1, ATTENTION_LANES},
                           .b = value,
                           .pitch = a->pitch,
                           .lanes = a->pitch,
                           .rows = n,
                           .depth = k->rows,
                           .next = next};
    if (k->diagonal)
        tile_before(sum, (int)(a->pitch / VL));
    else
        tile_add(sum, (int)(a->pitch / VL));
}

/* lse of one vector of queries. */
INLINE void attention_lse(float *lse, vf base, vf total, int64_t n) {
    float bases[VL], totals[VL];
    vm normal =
        vm_and_not(vf_greater(vf_set(HUGE_VALF), total), vf_greater(vf_set(FLT_MIN), total));
    if (vm_bits(normal) == (1u << VL) - 1) {
        lanes_store(lse, MEZZO_F32, 0, vd_round(vd_fma(vd_of(base), vd_set(M_LN2), vd_ln(total))),
                    n);
        return;
    }
    vf_store(bases, MEZZO_F32, 0, base);
    vf_store(totals, MEZZO_F32, 0, total);
    for (int64_t i = 0; i < n; i++)
        lse[i] = (float)((double)bases[i] * M_LN2 + log((double)totals[i]));
}

/* y = sums / total; lse. */
INLINE void attention_finish(attention_work *w, const attention_head *a, const mzk_args *args,
                             int64_t i0, int64_t n) {
    float *lse = (float *)args->out[1] + a->lse + i0, share[ATTENTION_LANES];
    for (int64_t i = 0; i < n; i += VL) {
        vf total = vf_load(w->total, MEZZO_F32, i);
        vf_store(share, MEZZO_F32, i, vf_div(vf_set(1), total));
        attention_lse(lse + i, vf_load(w->base, MEZZO_F32, i), total, at_most(n - i, VL));
    }
    for (int64_t i = 0; i < n; i++)
        attention_write(args, a, a->y + (i0 + i) * a->O, w->sum + i * a->pitch, share[i]);
}

/* The tile of queries [i0, i0 + n). */
static __attribute__((noinline)) void attention_tile(attention_work *w, const attention_head *a,
                                                     const mzk_args *args, int64_t i0, int64_t n,
                                                     ahead *next) {
    bool kept = a->T * a->pitch <= KEYS_ROOM;
    tile_tokens queries = attention_tokens(a, args->in[0], a->q + i0 * a->E, a->E, n);
    tile_turn(w->query, ATTENTION_LANES, &queries, (float)((double)a->scale * M_LOG2E));
    memset(w->sum, 0, (size_t)(ATTENTION_LANES * a->pitch) * sizeof *w->sum);
    for (int v = 0; v < ATTENTION_WIDE; v++) {
        /* The lowest number: a score of -infinity then has the weight 2^-infinity = 0. */
        vf_store(w->base, MEZZO_F32, v * VL, vf_set(-FLT_MAX));
        vf_store(w->total, MEZZO_F32, v * VL, vf_zero());
    }
    for (int64_t j = 0; j <= i0; j += ATTENTION_LANES) {
        attention_block k = attention_block_at(a, i0, j, kept);
        attention_keys(w, a, args, n, &k, next);
    }
    attention_finish(w, a, args, i0, n);
}

INLINE bool attention_type_fits(int type) {
    return type == MEZZO_F32 || type == MEZZO_BF16 || type == MEZZO_F16;
}

/* While the tile of queries from i on goes by: what it writes, and what the next one reads. */
INLINE ahead attention_next(const mzk_args *args, int64_t row, int64_t end, int64_t i) {
    int64_t H = args->p.attention.H, T = args->p.attention.T, after = i + ATTENTION_LANES;
    attention_head a = attention_at(args, row / H, row % H);
    int64_t size = attention_size(&a);
    ahead next = {.rows = at_most(T - i, ATTENTION_LANES), .bytes = a.D * size};
    ahead_add(&next, args->out[0], a.y + i * a.O, a.O, size);
    if (after >= T) {
        if (row + 1 == end)
            return next;
        a = attention_at(args, (row + 1) / H, (row + 1) % H);
        after = 0;
    }
    next.rows = at_most(next.rows, T - after);
    ahead_add(&next, args->in[0], a.q + after * a.E, a.E, size);
    ahead_add(&next, args->in[0], a.k + after * a.E, a.E, size);
    ahead_add(&next, args->in[0], a.v + after * a.E, a.E, size);
    return next;
}

void MZK_IMPL(attention)(const mzk_args *args, int64_t begin, int64_t end) {
    int type = args->out_type[0];
    if (!attention_type_fits(type) || args->in_type[0] != type || args->out_type[1] != MEZZO_F32 ||
        args->p.attention.D > ATTENTION_D) {
        mzk_attention_ref(args, begin, end);
        return;
    }
    for (int64_t row = begin; row < end; row++) {
        attention_head a = attention_at(args, row / args->p.attention.H, row % args->p.attention.H);
        for (int64_t i = 0; i < a.T; i += ATTENTION_LANES) {
            ahead next = attention_next(args, row, end, i);
            attention_tile(args->scratch, &a, args, i, at_most(a.T - i, ATTENTION_LANES), &next);
        }
    }
}
