/* Backward of causal attention over BF16 operands, by dot.h.
 *
 *               lanes: keys j               For a tile of LANES keys, queries come by in blocks of
 *             j0 .. j0 + LANES - 1          as many rows, from the diagonal on.  p and ds are made
 *   queries j0 |\ diagonal       |          once, [query][key], and rounded to BF16:
 *              |  \  in steps    |
 *              |    \  of VL     |            [query/2][key] pairs of queries, where the scores
 *           .  | full blocks     |              were: for dk_j = sum ds_ij q_i, dv_j = sum p_ij
 * dy_i T                               [query][key/2] pairs of keys: for dq_i = sum ds_ij k_j
 *
 * The order: attention_pass.h.
 *
 * With c = scale / ln 2 the weight is p_ij = 2^(c q_i k_j - lse_i / ln 2). */
#include "kernel/avx512_bf16/attention_dot.h"
#include "kernel/simd/attention_pass.h"

typedef struct backward_work {
    _Alignas(64) uint32_t key[DOT_D / 2 * DOT_LANES], value[DOT_D / 2 * DOT_LANES]; /* turned */
    _Alignas(64) uint32_t key_pairs[DOT_LANES / 2 * DOT_D]; /* interleaved */
    _Alignas(64) float dk[DOT_LANES * DOT_D], dv[DOT_LANES * DOT_D];
    _Alignas(64) uint32_t query[ATTENTION_LANES * DOT_D / 2], dy[ATTENTION_LANES * DOT_D / 2];
    _Alignas(64) uint32_t query_pairs[ATTENTION_LANES / 2 * DOT_D],
        dy_pairs[ATTENTION_LANES / 2 * DOT_D];
    _Alignas(64) uint32_t p[ATTENTION_LANES * DOT_LANES], ds[ATTENTION_LANES * DOT_LANES];
    _Alignas(64) uint32_t ds_rows[ATTENTION_LANES * DOT_LANES / 2];
    _Alignas(64) float dq[ATTENTION_ROOM];
    float lse[ATTENTION_ROOM / VL], delta[ATTENTION_ROOM / VL];
} backward_work;
_Static_assert(sizeof(backward_work) <= MZK_ATTENTION_BWD_SCRATCH, "its workspace");

/* lse / ln 2 and delta of a block's queries, to their slots. */
INLINE void backward_rows(backward_work *w, const attention_head *a, const mzk_args *args,
                          const attention_queries *k) {
    const float *lse = (const float *)args->in[3] + a->lse + k->first;
    for (int64_t i = 0; i < k->rows; i++) {
        const uint16_t *dy = dot_operand(args, 0, a->y + (k->first + i) * a->O);
        const uint16_t *y = dot_operand(args, 2, a->y + (k->first + i) * a->O);
        vf sum = vf_zero();
        for (int64_t d = 0; d < a->D; d += 2 * VL) {
            __mmask32 there = dot_first(a->D - d);
            sum = dot_add(sum, _mm512_maskz_loadu_epi16(there, dy + d),
                          _mm512_maskz_loadu_epi16(there, y + d));
        }
        w->delta[k->slot + i] = vf_sum(sum);
        w->lse[k->slot + i] = (float)((double)lse[i] * M_LOG2E);
    }
}

/* p and ds of rows r and r + 1, `count` vectors from v on: of n, row n % 2, vector n / 2. */
INLINE void backward_weights(backward_work *w, const attention_queries *k, vf c, int64_t r, int v,
                             int count) {
    vf p[4], ds[4];
#pragma GCC unroll 4
    for (int n = 0; n < 2 * count; n++) {
        int64_t row = k->slot + r + n % 2, at = (r + n % 2) * DOT_LANES + (v + n / 2) * VL;
        p[n] = _mm512_fmsub_ps(vf_load(w->p, MEZZO_F32, at), c, vf_set(w->lse[row]));
        ds[n] = vf_sub(vf_load(w->ds, MEZZO_F32, at), vf_set(w->delta[row]));
    }
    dot_exps(p, 2 * count);
#pragma GCC unroll 4
    for (int n = 0; n < 2 * count; n++) {
        int64_t row = r + n % 2, first = k->diagonal ? (v + n / 2) * VL : row + 1 - VL;
        vm seen = row < k->rows ? lanes_below(row + 1 - first) : lanes_below(0);
        p[n] = vf_keep(seen, p[n]);
        ds[n] = vf_mul(p[n], vf_keep(seen, ds[n]));
    }
#pragma GCC unroll 2
    for (int n = 0; n < count; n++) {
        vi halves = dot_halves(ds[2 * n], ds[2 * n + 1]);
        int64_t at = r * DOT_LANES + (v + n) * VL;
        uint32_t *row = w->ds_rows + r * DOT_LANES / 2 + (v + n) * VL / 2;
        _mm256_storeu_si256((__m256i *)(void *)row, _mm512_castsi512_si256(halves));
        _mm256_storeu_si256((__m256i *)(void *)(row + DOT_LANES / 2),
                            _mm512_extracti64x4_epi64(halves, 1));
        vi_store(w->ds + at, dot_interleave(halves));
        vi_store(w->p + at, dot_interleave(dot_halves(p[2 * n], p[2 * n + 1])));
    }
}

/* sum[key] += weights x pairs, for the `n` keys of the tile. */
INLINE void backward_add_keys(float *sum, const attention_head *a, const attention_queries *k,
                              const uint32_t *weight, const uint32_t *pairs, int64_t n) {
    int wide = (int)(a->pitch / VL);
    dot_left left = {weight, 1, 2 * DOT_LANES};
    if (!k->diagonal) {
        dot_add_product(sum, a->pitch, left, pairs, a->pitch, n, dot_pairs(k->rows), wide);
        return;
    }
    for (int64_t j = 0; j < n; j += VL) {
        int64_t rest = dot_pairs(k->rows - j), own = at_most(rest, VL / 2);
        left.data = weight + j + j / 2 * left.step;
        dot_triangle(sum + j * a->pitch, a->pitch, left, pairs + j / 2 * a->pitch, a->pitch, own,
                     false, wide);
        left.data += own * left.step;
        if (rest > own)
            dot_add_product(sum + j * a->pitch, a->pitch, left, pairs + (j / 2 + own) * a->pitch,
                            a->pitch, VL, rest - own, wide);
    }
}

INLINE void backward_add_queries(backward_work *w, const attention_head *a,
                                 const attention_queries *k) {
    int wide = (int)(a->pitch / VL);
    float *dq = w->dq + k->slot * a->pitch;
    dot_left left = {w->ds_rows, DOT_LANES / 2, 1};
    if (!k->diagonal) {
        dot_add_product(dq, a->pitch, left, w->key_pairs, a->pitch, k->rows, DOT_LANES / 2, wide);
        return;
    }
    for (int64_t i = 0; i < k->rows; i += VL) {
        left.data = w->ds_rows + i * left.row;
        if (i > 0)
            dot_add_product(dq + i * a->pitch, a->pitch, left, w->key_pairs, a->pitch,
                            at_most(k->rows - i, VL), i / 2, wide);
        left.data += i / 2;
        dot_triangle(dq + i * a->pitch, a->pitch, left, w->key_pairs + i / 2 * a->pitch, a->pitch,
                     dot_pairs(at_most(k->rows - i, VL)), true, wide);
    }
}

/* One block of queries over the tile of `n` keys. */
static __attribute__((noinline)) void backward_queries(backward_work *w, const attention_head *a,
                                                       const mzk_args *args,
                                                       const attention_queries *k, int64_t n) {
    const uint16_t *q = dot_operand(args, 1, a->q + k->first * a->E);
    const uint16_t *dy = dot_operand(args, 0, a->y + k->first * a->O);
    int64_t half = dot_half(a), depth = dot_pairs(a->D), step = k->diagonal ? VL : k->rows;
    dot_pack_rows(w->query, half, q, a->E, k->rows, a->D);
    dot_pack_rows(w->dy, half, dy, a->O, k->rows, a->D);
    if (k->fresh)
        backward_rows(w, a, args, k);
    for (int64_t r = 0; r < k->rows; r += step) {
        int64_t rows = at_most(k->rows - r, step);
        int wide = k->diagonal ? (int)(r / VL) + 1 : DOT_WIDE;
        dot_set_product((float *)(void *)w->p + r * DOT_LANES, DOT_LANES,
                        (dot_left){w->query + r * half, half, 1}, w->key, DOT_LANES, rows, depth,
                        wide);
        dot_set_product((float *)(void *)w->ds + r * DOT_LANES, DOT_LANES,
                        (dot_left){w->dy + r * half, half, 1}, w->value, DOT_LANES, rows, depth,
                        wide);
    }
    vf c = vf_set(dot_factor(a));
    for (int64_t r = 0; r < k->rows; r += 2) {
        int wide = k->diagonal ? (int)(r / VL) + 1 : DOT_WIDE, v = 0;
        for (; v + 2 <= wide; v += 2)
            backward_weights(w, k, c, r, v, 2);
        if (v < wide)
            backward_weights(w, k, c, r, v, 1);
    }
    if (k->dq)
        backward_add_queries(w, a, k);
    if (!k->dkdv)
        return;
    dot_pack_interleaved(w->query_pairs, a->pitch, q, a->E, k->rows, a->D);
    dot_pack_interleaved(w->dy_pairs, a->pitch, dy, a->O, k->rows, a->D);
    backward_add_keys(w->dk, a, k, w->ds, w->query_pairs, n);
    backward_add_keys(w->dv, a, k, w->p, w->dy_pairs, n);
}

/* The tile of keys [j, j + n). */
static __attribute__((noinline)) void
backward_tile(void *work, const mzk_args *args, const attention_pass *pass, int64_t j, int64_t n) {
    backward_work *w = work;
    attention_head a = attention_at(args, pass->b, pass->h);
    const uint16_t *key = dot_operand(args, 1, a.k + j * a.E);
    const uint16_t *value = dot_operand(args, 1, a.v + j * a.E);
    dot_pack_turned(w->key, DOT_LANES, key, a.E, n, a.D);
    dot_pack_turned(w->value, DOT_LANES, value, a.E, n, a.D);
    if (pass->dq)
        dot_pack_interleaved(w->key_pairs, a.pitch, key, a.E, n, a.D);
    memset(w->dk, 0, (size_t)(DOT_LANES * a.pitch) * sizeof *w->dk);
    memset(w->dv, 0, (size_t)(DOT_LANES * a.pitch) * sizeof *w->dv);
    for (int64_t r = 0; r < pass->heads; r++) {
        a = attention_at(args, pass->b, pass->h + r);
        for (int64_t i = j > pass->begin ? j : pass->begin; i < pass->end; i += ATTENTION_LANES) {
            attention_queries k = attention_queries_at(pass, r, i, j);
            backward_queries(w, &a, args, &k, n);
        }
    }
    if (pass->dkdv) {
        attention_write_rows(args, &a, a.k + j * a.E, a.E, w->dk, n, a.scale);
        attention_write_rows(args, &a, a.v + j * a.E, a.E, w->dv, n, 1);
    }
}

void mzk_attention_bwd_avx512_bf16(const mzk_args *args, int64_t begin, int64_t end) {
    for (int k = 0; k < 3; k++)
        if (args->in_type[k] != MEZZO_BF16 || args->out_type[0] != MEZZO_BF16 ||
            args->in_type[3] != MEZZO_F32 || args->p.attention.D > DOT_D) {
            mzk_attention_bwd_avx512(args, begin, end);
            return;
        }
    backward_work *w = args->scratch;
    for (int64_t row = begin; row < end; row++)
        attention_backward(backward_tile, w, w->dq, args, row, end);
}
