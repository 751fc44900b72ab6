/* Backward of causal attention.  Included once per instruction set, after attention.h.
 *
 *               lanes: keys j               p and ds are made once, [query][key]; as [query][D] and
 *             j0 .. j0 + LANES - 1          [key][D], vectors along the head, are
 *   queries j0 |\ diagonal       |
 *              |  \  in steps    |            dq_i = sum_j ds_ij k_j
 *              |    \  of VL     |            dk_j = sum_i ds_ij q_i
 *           .  | full blocks     |            dv_j = sum_i p_ij dy_i
 *           T  |                 |
 *
 * What p and ds hold above the diagonal is never read.  The order: attention_pass.h. */
#include "kernel/simd/attention_pass.h"

typedef struct backward_work {
    _Alignas(64) float key[ATTENTION_D * ATTENTION_LANES];   /* turned, times scale */
    _Alignas(64) float value[ATTENTION_D * ATTENTION_LANES]; /* turned              */
    _Alignas(64) float key_rows[ATTENTION_LANES * ATTENTION_D];
    _Alignas(64) float dk[ATTENTION_LANES * ATTENTION_D], dv[ATTENTION_LANES * ATTENTION_D];
    _Alignas(64) float block[2][ATTENTION_LANES * ATTENTION_D]; /* rows: queries, dy */
    _Alignas(64) float p[ATTENTION_LANES * ATTENTION_LANES], ds[ATTENTION_LANES * ATTENTION_LANES];
    _Alignas(64) float dq[ATTENTION_ROOM];
    float lse[ATTENTION_ROOM / VL], delta[ATTENTION_ROOM / VL];
    float *query, *dy; /* rows of the block at hand */
} backward_work;
_Static_assert(sizeof(backward_work) <= MZK_ATTENTION_BWD_SCRATCH, "its workspace");

/* lse and delta of a block's queries, whose dy is packed, to their slots. */
INLINE void backward_rows(backward_work *w, const attention_head *a, const mzk_args *args,
                          const attention_queries *k) {
    memcpy(w->lse + k->slot, (const float *)args->in[3] + a->lse + k->first,
           (size_t)k->rows * sizeof *w->lse);
    for (int64_t i = 0; i < k->rows; i++) {
        int64_t at = a->y + (k->first + i) * a->O;
        vf sum = vf_zero();
        for (int64_t d = 0; d < a->D; d += VL)
            sum = vf_fma(vf_load(w->dy, MEZZO_F32, i * a->pitch + d),
                         lanes_load(args->in[2], a->type, at + d, at_most(a->D - d, VL)), sum);
        w->delta[k->slot + i] = vf_sum(sum);
    }
}

/* p and ds of row r, `count` vectors from v on; they come as q k scale and dy v. */
INLINE void backward_weights(backward_work *w, int64_t slot, int64_t r, int v, int count) {
    vf p[SIDE], lse = vf_set(w->lse[slot + r]), delta = vf_set(w->delta[slot + r]);
    int64_t at = r * ATTENTION_LANES + v * VL;
#pragma GCC unroll 4
    for (int n = 0; n < count; n++)
        p[n] = vf_sub(vf_load(w->p, MEZZO_F32, at + n * VL), lse);
    vf_exps(p, count);
#pragma GCC unroll 4
    for (int n = 0; n < count; n++) {
        vf ds = vf_mul(p[n], vf_sub(vf_load(w->ds, MEZZO_F32, at + n * VL), delta));
        vf_store(w->p, MEZZO_F32, at + n * VL, p[n]);
        vf_store(w->ds, MEZZO_F32, at + n * VL, ds);
    }
}

/* p and ds of a block. */
INLINE void backward_pairs(backward_work *w, const attention_head *a, const attention_queries *k,
                           ahead *next) {
    int64_t step = k->diagonal ? VL : k->rows;
    for (int64_t r = 0; r < k->rows; r += step) {
        int wide = k->diagonal ? (int)(r / VL) + 1 : ATTENTION_WIDE;
        tile_walk product = {.c = w->p + r * ATTENTION_LANES,
                             .a = {w->query + r * a->pitch, a->pitch, 1},
                             .b = w->key,
                             .pitch = ATTENTION_LANES,
                             .lanes = ATTENTION_LANES,
                             .rows = at_most(k->rows - r, step),
                             .depth = a->D,
                             .next = next};
        tile_set(product, wide);
        product.c = w->ds + r * ATTENTION_LANES;
        product.a.data = w->dy + r * a->pitch;
        product.b = w->value;
        tile_set(product, wide);
    }
    for (int64_t r = 0; r < k->rows; r++) {
        int wide = k->diagonal ? (int)(r / VL) + 1 : ATTENTION_WIDE, v = 0;
        for (; v + SIDE <= wide; v += SIDE)
            backward_weights(w, k->slot, r, v, SIDE);
        for (; v < wide; v++)
            backward_weights(w, k->slot, r, v, 1);
    }
}

/* Rows of a block's queries and dy, lse and delta.  Where dq leaves room behind it, they are packed
 * once, on the first tile, and kept for the others. */
INLINE void backward_pack(backward_work *w, const attention_head *a, const mzk_args *args,
                          const attention_pass *pass, const attention_queries *k) {
    int64_t all = pass->heads * pass->room * a->pitch;
    bool kept = k->dq && k->dkdv && 3 * all <= ATTENTION_ROOM;
    w->query = kept ? w->dq + all + k->slot * a->pitch : w->block[0];
    w->dy = kept ? w->query + all : w->block[1];
    if (kept && !k->fresh)
        return;
    tile_tokens queries = attention_tokens(a, args->in[1], a->q + k->first * a->E, a->E, k->rows);
    tile_tokens dy = attention_tokens(a, args->in[0], a->y + k->first * a->O, a->O, k->rows);
    tile_pack(w->query, a->pitch, &queries);
    tile_pack(w->dy, a->pitch, &dy);
    if (k->fresh)
        backward_rows(w, a, args, k);
}

/* One block of queries over the tile of `n` keys. */
static __attribute__((noinline)) void backward_queries(backward_work *w, const attention_head *a,
                                                       const attention_queries *k, int64_t n,
                                                       ahead *next) {
    int wide = (int)(a->pitch / VL);
    backward_pairs(w, a, k, next);
    tile_walk sum = {.pitch = a->pitch, .lanes = a->pitch, .next = next};
    if (k->dq) {
        sum.c = w->dq + k->slot * a->pitch;
        sum.a = (tile_left){w->ds, ATTENTION_LANES, 1};
        sum.b = w->key_rows;
        sum.rows = k->rows;
        sum.depth = n;
        (k->diagonal ? tile_before : tile_add)(sum, wide);
    }
    if (!k->dkdv)
        return;
    sum.c = w->dk;
    sum.a = (tile_left){w->ds, 1, ATTENTION_LANES};
    sum.b = w->query;
    sum.rows = n;
    sum.depth = k->rows;
    (k->diagonal ? tile_after : tile_add)(sum, wide);
    sum.c = w->dv;
    sum.a.data = w->p;
    sum.b = w->dy;
    (k->diagonal ? tile_after : tile_add)(sum, wide);
}

/* The tile of keys [j, j + n). */
static __attribute__((noinline)) void
backward_tile(void *work, const mzk_args *args, const attention_pass *pass, int64_t j, int64_t n) {
    backward_work *w = work;
    attention_head a = attention_at(args, pass->b, pass->h);
    tile_tokens keys = attention_tokens(&a, args->in[1], a.k + j * a.E, a.E, n);
    tile_tokens values = attention_tokens(&a, args->in[1], a.v + j * a.E, a.E, n);
    tile_turn(w->key, ATTENTION_LANES, &keys, a.scale);
    tile_turn(w->value, ATTENTION_LANES, &values, 1);
    if (pass->dq)
        tile_pack(w->key_rows, a.pitch, &keys);
    memset(w->dk, 0, (size_t)(n * a.pitch) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(n * a.pitch) * sizeof *w->dv);
    for (int64_t r = 0; r < pass->heads; r++) {
        a = attention_at(args, pass->b, pass->h + r);
        for (int64_t i = j > pass->begin ? j : pass->begin; i < pass->end; i += ATTENTION_LANES) {
            attention_queries k = attention_queries_at(pass, r, i, j);
            ahead next = attention_queries_next(args, pass, pass->h + r, &k);
            backward_pack(w, &a, args, pass, &k);
            backward_queries(w, &a, &k, n, &next);
        }
    }
    if (pass->dkdv) {
        attention_write_rows(args, &a, a.k + j * a.E, a.E, w->dk, n, a.scale);
        attention_write_rows(args, &a, a.v + j * a.E, a.E, w->dv, n, 1);
    }
}

void MZK_IMPL(attention_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    int type = args->out_type[0];
    if (!attention_type_fits(type) || args->in_type[0] != type || args->in_type[1] != type ||
        args->in_type[2] != type || args->in_type[3] != MEZZO_F32 ||
        args->p.attention.D > ATTENTION_D) {
        mzk_attention_bwd_ref(args, begin, end);
        return;
    }
    backward_work *w = args->scratch;
    for (int64_t row = begin; row < end; row++)
        attention_backward(backward_tile, w, w->dq, args, row, end);
}
