/* Causal attention.  Included once per instruction set, after its vec.h.
 *
 * Tokens of one side lie in the lanes of a tile; the other side comes by in blocks, one row a
 * token:
 *
 *              lanes: queries i              Scores and weights are [block][lanes], so maximum and
 *            i0 .. i0 + lanes - 1            sum of a softmax go down the rows, lane by lane.
 *   keys  0  | full blocks      |            A block of the diagonal has VL keys: vectors left of
 *         .  | of STEP keys     |            its own see nothing of it and are left out; in its own
 *         i0 |\ diagonal, in    |            a key reaches the lanes from its number on; those to
 *            | \ steps of VL    |            the right see all of it.  What lies above the diagonal
 *            |  \               |            is never computed, or masked: a NaN there stays there.
 *
 * attention and the dq of attention_bwd have queries in the lanes; its dk and dv have keys there,
 * and blocks of queries come by from the diagonal on.  So backward computes scores twice (7
 * products for 5), and in exchange keeps nothing that grows with T.
 *
 * Memory: the struct below, about 200 KB, on the stack of the calling thread; worker threads have
 * the default stack of the C library, which is megabytes. */
#include <float.h>

#include "kernel/simd/attention_head.h"
#include "kernel/simd/exp.h"
#include "kernel/simd/tile.h"

enum {
    ATTENTION_D = 256, /* larger heads are left to ref */
    ATTENTION_TILE = 128 * 64,
    ATTENTION_STEP = 32,
    ATTENTION_LANES = 4 * VL
};

typedef struct attention_work {
    _Alignas(64) float lane[4][ATTENTION_TILE];                    /* lane tiles of D rows      */
    _Alignas(64) float row[2][ATTENTION_STEP * ATTENTION_D];       /* row tiles of a block      */
    _Alignas(64) float score[2][ATTENTION_STEP * ATTENTION_LANES]; /* [block][lanes]        */
    _Alignas(64) float peak[ATTENTION_LANES], total[ATTENTION_LANES];
    float lse[ATTENTION_LANES], delta[ATTENTION_LANES]; /* of the tile's or the block's queries */
} attention_work;

INLINE attention_head attention_at(const mzk_args *args, int64_t b, int64_t h) {
    return attention_tiled(args, b, h,
                           args->p.attention.D * ATTENTION_LANES > ATTENTION_TILE ? 2 : 4);
}

/* Tokens [first, first + n) of x as lanes, times `factor`; lanes behind them are zero. */
INLINE void attention_turn(attention_work *w, const attention_head *a, float *lane, const void *x,
                           int64_t at, int64_t stride, int64_t n, float factor) {
    if (n < a->lanes)
        tile_clear(lane, a->D * a->lanes);
    for (int64_t r = 0; r < n; r += ATTENTION_STEP) {
        int64_t rows = at_most(n - r, ATTENTION_STEP);
        tile_read(w->row[0], a->pitch, x, a->type, at + r * stride, stride, rows, a->D);
        tile_transpose(lane + r, a->lanes, w->row[0], a->pitch, rows, a->D, factor);
    }
}
/* And back, to tokens. */
INLINE void attention_return(attention_work *w, const attention_head *a, void *y, int64_t at,
                             int64_t stride, const float *lane, int64_t n, float factor) {
    for (int64_t r = 0; r < n; r += ATTENTION_STEP) {
        int64_t rows = at_most(n - r, ATTENTION_STEP);
        tile_transpose(w->row[0], a->pitch, lane + r, a->lanes, a->D, rows, factor);
        tile_write(y, a->type, at + r * stride, stride, w->row[0], a->pitch, rows, a->D);
    }
}

/* score[r][v] = row tile times lane tile, for the vectors [first, last). */
INLINE void attention_scores(const attention_head *a, float *score, const float *row,
                             const float *lane, int64_t rows, int first, int last) {
    for (int64_t r = 0; r < rows; r++)
        for (int v = first; v < last; v++)
            vf_store(score, MEZZO_F32, r * a->lanes + v * VL, vf_zero());
    tile_product(score + first * VL, (tile_left){row, a->pitch, 1}, lane + first * VL, a->lanes,
                 rows, a->D, last - first);
}

/* A block of keys under a tile of queries.  On the diagonal its first vector is the one that the
 * keys are in the lanes of. */
typedef struct attention_block {
    int64_t first, rows;
    int vector;
    bool diagonal;
} attention_block;

INLINE attention_block attention_keys(const attention_head *a, int64_t i0, int64_t j0) {
    if (j0 < i0)
        return (attention_block){j0, at_most(i0 - j0, ATTENTION_STEP), 0, false};
    return (attention_block){j0, at_most(a->T - j0, VL), (int)((j0 - i0) / VL), true};
}
/* The mask of lanes >= r, kept for `x`. */
INLINE vf attention_mask(const attention_block *k, int v, int64_t r, vf x, vf other) {
    if (k->diagonal && v == k->vector)
        return vf_select(lanes_below(r), other, x);
    return x;
}

/* sum[d][v] += sum over the block of row(r, d) weight[r][v]. */
INLINE void attention_add(const attention_head *a, float *sum, const float *row,
                          const float *weight, const attention_block *k) {
    const tile_left left = {row, 1, a->pitch};
    int full = k->diagonal ? k->vector + 1 : 0;
    if (k->diagonal)
        tile_triangle(sum + k->vector * VL, left, weight + k->vector * VL, a->lanes, a->D, k->rows,
                      true);
    if (full < a->wide)
        tile_product(sum + full * VL, left, weight + full * VL, a->lanes, a->D, k->rows,
                     a->wide - full);
}

/* Scores become exp(s - peak); sums so far are brought to a peak that has grown. */
INLINE void attention_softmax(attention_work *w, const attention_head *a, const attention_block *k,
                              float *sum) {
    float *score = w->score[0];
    for (int v = k->vector; v < a->wide; v++) {
        vf before = vf_load(w->peak, MEZZO_F32, v * VL), peak = before;
        vf total = vf_load(w->total, MEZZO_F32, v * VL);
        for (int64_t r = 0; r < k->rows; r++) { /* vf_max gives the second for a NaN */
            vf s = vf_load(score, MEZZO_F32, r * a->lanes + v * VL);
            peak = vf_max(attention_mask(k, v, r, s, peak), peak);
        }
        if (vm_bits(vf_greater(peak, before))) {
            vf factor = vf_exp(vf_sub(before, peak));
            total = vf_mul(total, factor);
            for (int64_t d = 0; d < a->D; d++)
                vf_store(sum, MEZZO_F32, d * a->lanes + v * VL,
                         vf_mul(vf_load(sum, MEZZO_F32, d * a->lanes + v * VL), factor));
        }
        for (int64_t r = 0; r < k->rows; r++) {
            vf s = vf_load(score, MEZZO_F32, r * a->lanes + v * VL);
            vf p = attention_mask(k, v, r, vf_exp(vf_sub(s, peak)), vf_zero());
            vf_store(score, MEZZO_F32, r * a->lanes + v * VL, p);
            total = vf_add(total, p);
        }
        vf_store(w->peak, MEZZO_F32, v * VL, peak);
        vf_store(w->total, MEZZO_F32, v * VL, total);
    }
}

/* y = sums / total; lse = peak + log(total). */
INLINE void attention_finish(attention_work *w, const attention_head *a, const mzk_args *args,
                             int64_t i0, int64_t n) {
    float *sum = w->lane[1], *lse = (float *)args->out[1] + a->lse + i0;
    for (int v = 0; v < a->wide; v++) {
        vf total = vf_load(w->total, MEZZO_F32, v * VL);
        for (int64_t d = 0; d < a->D; d++)
            vf_store(sum, MEZZO_F32, d * a->lanes + v * VL,
                     vf_div(vf_load(sum, MEZZO_F32, d * a->lanes + v * VL), total));
    }
    for (int64_t i = 0; i < n; i++)
        lse[i] = (float)((double)w->peak[i] + log((double)w->total[i]));
    attention_return(w, a, args->out[0], a->y + i0 * a->O, a->O, sum, n, 1);
}

/* The tile of queries [i0, i0 + n). */
static __attribute__((noinline)) void attention_tile(attention_work *w, const attention_head *a,
                                                     const mzk_args *args, int64_t i0, int64_t n) {
    const void *qkv = args->in[0];
    float *query = w->lane[0], *sum = w->lane[1];
    attention_turn(w, a, query, qkv, a->q + i0 * a->E, a->E, n, a->scale);
    tile_clear(sum, a->D * a->lanes);
    for (int v = 0; v < a->wide; v++) {
        /* The lowest number: a score of -infinity then has the weight exp(-infinity) = 0. */
        vf_store(w->peak, MEZZO_F32, v * VL, vf_set(-FLT_MAX));
        vf_store(w->total, MEZZO_F32, v * VL, vf_zero());
    }
    for (int64_t j = 0; j < i0 + n;) {
        attention_block k = attention_keys(a, i0, j);
        tile_read(w->row[0], a->pitch, qkv, a->type, a->k + j * a->E, a->E, k.rows, a->D);
        attention_scores(a, w->score[0], w->row[0], query, k.rows, k.vector, a->wide);
        attention_softmax(w, a, &k, sum);
        tile_read(w->row[0], a->pitch, qkv, a->type, a->v + j * a->E, a->E, k.rows, a->D);
        attention_add(a, sum, w->row[0], w->score[0], &k);
        j += k.rows;
    }
    attention_finish(w, a, args, i0, n);
}

INLINE bool attention_type_fits(int type) {
    return type == MEZZO_F32 || type == MEZZO_BF16 || type == MEZZO_F16;
}

void MZK_IMPL(attention)(const mzk_args *args, int64_t begin, int64_t end) {
    int type = args->out_type[0];
    if (!attention_type_fits(type) || args->in_type[0] != type || args->out_type[1] != MEZZO_F32 ||
        args->p.attention.D > ATTENTION_D) {
        mzk_attention_ref(args, begin, end);
        return;
    }
    attention_work w;
    for (int64_t row = begin; row < end; row++) {
        attention_head a = attention_at(args, row / args->p.attention.H, row % args->p.attention.H);
        for (int64_t i = 0; i < a.T; i += a.lanes)
            attention_tile(&w, &a, args, i, at_most(a.T - i, a.lanes));
    }
}

/* delta_i = dy_i y_i, of the tokens [first, first + n). */
INLINE void attention_delta(attention_work *w, const attention_head *a, const mzk_args *args,
                            int64_t first, int64_t n) {
    const float *lse = (const float *)args->in[3] + a->lse + first;
    for (int64_t i = 0; i < n; i++) {
        vf sum = vf_zero();
        int64_t at = a->y + (first + i) * a->O;
        for (int64_t d = 0; d < a->D; d += VL) {
            int64_t lanes = at_most(a->D - d, VL);
            sum = vf_fma(lanes_load(args->in[0], a->type, at + d, lanes),
                         lanes_load(args->in[2], a->type, at + d, lanes), sum);
        }
        w->delta[i] = vf_sum(sum);
        w->lse[i] = lse[i];
    }
}

/* dq of the tile of queries [i0, i0 + n). */
static __attribute__((noinline)) void attention_dq(attention_work *w, const attention_head *a,
                                                   const mzk_args *args, int64_t i0, int64_t n) {
    const void *qkv = args->in[1];
    float *query = w->lane[0], *dy = w->lane[1], *dq = w->lane[2];
    attention_turn(w, a, query, qkv, a->q + i0 * a->E, a->E, n, a->scale);
    attention_turn(w, a, dy, args->in[0], a->y + i0 * a->O, a->O, n, 1);
    memset(w->lse, 0, sizeof w->lse);
    memset(w->delta, 0, sizeof w->delta);
    attention_delta(w, a, args, i0, n);
    tile_clear(dq, a->D * a->lanes);
    for (int64_t j = 0; j < i0 + n;) {
        attention_block k = attention_keys(a, i0, j);
        tile_read(w->row[0], a->pitch, qkv, a->type, a->k + j * a->E, a->E, k.rows, a->D);
        tile_read(w->row[1], a->pitch, qkv, a->type, a->v + j * a->E, a->E, k.rows, a->D);
        attention_scores(a, w->score[0], w->row[0], query, k.rows, k.vector, a->wide);
        attention_scores(a, w->score[1], w->row[1], dy, k.rows, k.vector, a->wide);
        for (int v = k.vector; v < a->wide; v++) {
            vf lse = vf_load(w->lse, MEZZO_F32, v * VL);
            vf delta = vf_load(w->delta, MEZZO_F32, v * VL);
            for (int64_t r = 0; r < k.rows; r++) {
                int64_t at = r * a->lanes + v * VL;
                vf p = vf_exp(vf_sub(vf_load(w->score[0], MEZZO_F32, at), lse));
                vf ds = vf_mul(p, vf_sub(vf_load(w->score[1], MEZZO_F32, at), delta));
                vf_store(w->score[0], MEZZO_F32, at, attention_mask(&k, v, r, ds, vf_zero()));
            }
        }
        attention_add(a, dq, w->row[0], w->score[0], &k);
        j += k.rows;
    }
    attention_return(w, a, args->out[0], a->q + i0 * a->E, a->E, dq, n, a->scale);
}

/* A block of `rows` queries from `first` on, over a tile of keys: the vectors before `full` see
 * all of it, vector `full` sees the triangle if this is the diagonal. */
INLINE void attention_add_keys(const attention_head *a, float *sum, const float *row,
                               const float *weight, int64_t rows, int full, bool diagonal) {
    const tile_left left = {row, 1, a->pitch};
    if (full > 0)
        tile_product(sum, left, weight, a->lanes, a->D, rows, full);
    if (diagonal)
        tile_triangle(sum + full * VL, left, weight + full * VL, a->lanes, a->D, rows, false);
}

INLINE void attention_key_block(attention_work *w, const attention_head *a, const mzk_args *args,
                                int64_t j0, int64_t i, int64_t rows, bool diagonal) {
    float *key = w->lane[0], *value = w->lane[1], *dk = w->lane[2], *dv = w->lane[3];
    int full = diagonal ? (int)((i - j0) / VL) : a->wide, last = full + diagonal;
    tile_read(w->row[0], a->pitch, args->in[1], a->type, a->q + i * a->E, a->E, rows, a->D);
    tile_read(w->row[1], a->pitch, args->in[0], a->type, a->y + i * a->O, a->O, rows, a->D);
    attention_delta(w, a, args, i, rows);
    attention_scores(a, w->score[0], w->row[0], key, rows, 0, last);
    attention_scores(a, w->score[1], w->row[1], value, rows, 0, last);
    for (int64_t r = 0; r < rows; r++) {
        vf lse = vf_set(w->lse[r]), delta = vf_set(w->delta[r]);
        for (int v = 0; v < last; v++) {
            int64_t at = r * a->lanes + v * VL;
            vf p = vf_exp(vf_sub(vf_load(w->score[0], MEZZO_F32, at), lse));
            vf ds = vf_mul(p, vf_sub(vf_load(w->score[1], MEZZO_F32, at), delta));
            vf_store(w->score[0], MEZZO_F32, at, p);
            vf_store(w->score[1], MEZZO_F32, at, ds);
        }
    }
    attention_add_keys(a, dk, w->row[0], w->score[1], rows, full, diagonal);
    attention_add_keys(a, dv, w->row[1], w->score[0], rows, full, diagonal);
}

/* dk and dv of the tile of keys [j0, j0 + n), over the `heads` query heads from h on. */
static __attribute__((noinline)) void attention_dkdv(attention_work *w, const mzk_args *args,
                                                     int64_t b, int64_t h, int64_t heads,
                                                     int64_t j0, int64_t n) {
    attention_head a = attention_at(args, b, h);
    const void *qkv = args->in[1];
    attention_turn(w, &a, w->lane[0], qkv, a.k + j0 * a.E, a.E, n, a.scale);
    attention_turn(w, &a, w->lane[1], qkv, a.v + j0 * a.E, a.E, n, 1);
    tile_clear(w->lane[2], a.D * a.lanes);
    tile_clear(w->lane[3], a.D * a.lanes);
    for (int64_t r = 0; r < heads; r++) {
        a = attention_at(args, b, h + r);
        for (int64_t i = j0; i < a.T;) {
            bool diagonal = i < j0 + a.lanes;
            int64_t rows = at_most(a.T - i, diagonal ? VL : ATTENTION_STEP);
            attention_key_block(w, &a, args, j0, i, rows, diagonal);
            i += rows;
        }
    }
    attention_return(w, &a, args->out[0], a.k + j0 * a.E, a.E, w->lane[2], n, a.scale);
    attention_return(w, &a, args->out[0], a.v + j0 * a.E, a.E, w->lane[3], n, 1);
}

void MZK_IMPL(attention_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t G = args->p.attention.G, heads = args->p.attention.H / G;
    int type = args->out_type[0];
    if (!attention_type_fits(type) || args->in_type[0] != type || args->in_type[1] != type ||
        args->in_type[2] != type || args->in_type[3] != MEZZO_F32 ||
        args->p.attention.D > ATTENTION_D) {
        mzk_attention_bwd_ref(args, begin, end);
        return;
    }
    attention_work w;
    for (int64_t row = begin; row < end; row++) {
        int64_t b = row / G, h = row % G * heads;
        attention_head a = attention_at(args, b, h);
        for (int64_t t = 0; t < a.T; t += a.lanes) {
            for (int64_t r = 0; r < heads; r++) {
                a = attention_at(args, b, h + r);
                attention_dq(&w, &a, args, t, at_most(a.T - t, a.lanes));
            }
            attention_dkdv(&w, args, b, h, heads, t, at_most(a.T - t, a.lanes));
        }
    }
}

/* Decoding: rows of the cache are read once, so elements of a row lie in the lanes. */
enum {
    DECODE_ROWS = 128
};
typedef struct decode_work {
    float query[ATTENTION_D], sum[ATTENTION_D], weight[DECODE_ROWS];
    float peak, total;
} decode_work;

INLINE float decode_score(const decode_work *w, const float *key, int64_t D) {
    vf sum = vf_zero();
    for (int64_t d = 0; d < D; d += VL)
        sum = vf_fma(vf_load(w->query, MEZZO_F32, d),
                     lanes_load(key, MEZZO_F32, d, at_most(D - d, VL)), sum);
    return vf_sum(sum);
}

/* Weights of `rows` rows; sums so far are brought to the new peak. */
INLINE void decode_softmax(decode_work *w, int64_t rows, int64_t D) {
    vf peak = vf_set(w->peak), total = vf_zero();
    for (int64_t r = 0; r < rows; r += VL) {
        int64_t n = at_most(rows - r, VL);
        vf s = lanes_load(w->weight, MEZZO_F32, r, n);
        peak = vf_max(vf_select(lanes_below(n), s, peak), peak);
    }
    float top = vf_peak(peak);
    vf factor = vf_exp(vf_sub(vf_set(w->peak), vf_set(top)));
    for (int64_t d = 0; d < D; d += VL)
        vf_store(w->sum, MEZZO_F32, d, vf_mul(vf_load(w->sum, MEZZO_F32, d), factor));
    vf before = vf_mul(vf_set(w->total), factor);
    for (int64_t r = 0; r < rows; r += VL) {
        int64_t n = at_most(rows - r, VL);
        vf p = vf_exp(vf_sub(lanes_load(w->weight, MEZZO_F32, r, n), vf_set(top)));
        p = vf_keep(lanes_below(n), p);
        lanes_store(w->weight, MEZZO_F32, r, p, n);
        total = vf_add(total, p);
    }
    float lanes[VL];
    vf_store(lanes, MEZZO_F32, 0, before);
    w->total = lanes[0] + vf_sum(total);
    w->peak = top;
}

INLINE void decode_rows(decode_work *w, const float *key, const float *value, int64_t stride,
                        int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r++)
        w->weight[r] = decode_score(w, key + r * stride, D);
    decode_softmax(w, rows, D);
    for (int64_t d = 0; d < D; d += VL) {
        vf sum = vf_load(w->sum, MEZZO_F32, d);
        int64_t n = at_most(D - d, VL);
        for (int64_t r = 0; r < rows; r++)
            sum =
                vf_fma(vf_set(w->weight[r]), lanes_load(value, MEZZO_F32, r * stride + d, n), sum);
        vf_store(w->sum, MEZZO_F32, d, sum);
    }
}

INLINE void decode_head(decode_work *w, const mzk_args *args, int64_t b, int64_t h) {
    int64_t H = args->p.attention.H, G = args->p.attention.G, D = args->p.attention.D;
    int64_t rows = ((const int32_t *)args->in[3])[0] + (int64_t)1, stride = G * D;
    int64_t at = b * args->p.attention.P * stride + h / (H / G) * D;
    const float *key = (const float *)args->in[1] + at, *value = (const float *)args->in[2] + at;
    mezzo_dtype type = (mezzo_dtype)args->out_type[0];
    w->peak = -FLT_MAX;
    w->total = 0;
    for (int64_t d = 0; d < D; d += VL) {
        vf q = lanes_load(args->in[0], type, b * (H + 2 * G) * D + h * D + d, at_most(D - d, VL));
        vf_store(w->query, MEZZO_F32, d, vf_mul(q, vf_set(args->p.attention.scale)));
        vf_store(w->sum, MEZZO_F32, d, vf_zero());
    }
    for (int64_t r = 0; r < rows; r += DECODE_ROWS)
        decode_rows(w, key + r * stride, value + r * stride, stride, at_most(rows - r, DECODE_ROWS),
                    D);
    for (int64_t d = 0; d < D; d += VL)
        lanes_store(args->out[0], type, (b * H + h) * D + d,
                    vf_div(vf_load(w->sum, MEZZO_F32, d), vf_set(w->total)), at_most(D - d, VL));
}

void MZK_IMPL(attention_decode)(const mzk_args *args, int64_t begin, int64_t end) {
    int type = args->out_type[0];
    if (!attention_type_fits(type) || args->in_type[0] != type || args->in_type[1] != MEZZO_F32 ||
        args->in_type[2] != MEZZO_F32 || args->p.attention.D > ATTENTION_D) {
        mzk_attention_decode_ref(args, begin, end);
        return;
    }
    decode_work w;
    for (int64_t row = begin; row < end; row++)
        decode_head(&w, args, row / args->p.attention.H, row % args->p.attention.H);
}
