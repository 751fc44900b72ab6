/* In what order backward of attention goes over queries and keys.
 *
 * For a tile of keys, queries come by in blocks from the diagonal on.  dk and dv of the tile are
 * complete after its queries; dq of a query after the tile that has its own key, so it is kept in
 * FP32 for all tokens of the group's query heads; so are lse and delta_i = dy_i y_i.  That is what
 * ATTENTION_ROOM is for: T D (H/G) of at most 2^18, 1 MB of the workspace.  Longer sequences go by
 * twice: once for dk and dv, and in windows of that size for dq. */
#ifndef MZK_SIMD_ATTENTION_PASS_H
#define MZK_SIMD_ATTENTION_PASS_H

#include "kernel/simd/attention_head.h"

enum {
    ATTENTION_ROOM = 1 << 18
};

/* What one pass is over: `heads` query heads from h on, their queries [begin, end), the first of
 * which has the first slot; `room` slots a head. */
typedef struct attention_pass {
    int64_t b, h, heads, begin, end, room;
    int64_t rows;  /* b H + h of the first head that is not of this call */
    bool dq, dkdv; /* what is wanted */
} attention_pass;

/* A block of queries over a tile of keys. */
typedef struct attention_queries {
    int64_t first, rows, slot; /* queries; where the first has its lse, delta and dq */
    bool diagonal, fresh;      /* lse and delta are not there yet */
    bool dq, dkdv;
} attention_queries;

/* Block i of the pass's head r over the tile of keys from j on. */
INLINE attention_queries attention_queries_at(const attention_pass *pass, int64_t r, int64_t i,
                                              int64_t j) {
    return (attention_queries){.first = i,
                               .rows = at_most(pass->end - i, ATTENTION_LANES),
                               .slot = pass->dq ? r * pass->room + i - pass->begin : 0,
                               .diagonal = i == j,
                               .fresh = j == 0 || !pass->dq,
                               .dq = pass->dq,
                               .dkdv = pass->dkdv};
}

/* While a block of head h of batch element b goes by: what its tile writes, if this is the
 * diagonal, and what comes next for the first time: while the first tile goes by, the block behind
 * this one; with the last block of all, the first of the head after it. */
INLINE ahead attention_queries_next(const mzk_args *args, const attention_pass *pass, int64_t h,
                                    const attention_queries *k) {
    int64_t H = args->p.attention.H, after = k->first + ATTENTION_LANES, row = pass->b * H + h;
    attention_head a = attention_at(args, pass->b, h);
    int64_t size = attention_size(&a), own = k->first * a.E;
    ahead next = {.rows = k->rows, .bytes = a.D * size};
    if (k->diagonal) {
        ahead_add(&next, args->out[0], a.q + own, a.E, size);
        ahead_add(&next, args->out[0], a.k + own, a.E, size);
        ahead_add(&next, args->out[0], a.v + own, a.E, size);
    }
    if (after < a.T ? !k->fresh : !k->diagonal || row + 1 >= pass->rows)
        return next;
    if (after >= a.T) {
        a = attention_at(args, (row + 1) / H, (row + 1) % H);
        after = 0;
    }
    next.rows = at_most(next.rows, a.T - after);
    ahead_add(&next, args->in[0], a.y + after * a.O, a.O, size);
    ahead_add(&next, args->in[2], a.y + after * a.O, a.O, size);
    ahead_add(&next, args->in[1], a.q + after * a.E, a.E, size);
    ahead_add(&next, args->in[1], a.k + after * a.E, a.E, size);
    ahead_add(&next, args->in[1], a.v + after * a.E, a.E, size);
    return next;
}

/* `rows` rows of sums times `factor`, to tokens `stride` apart. */
INLINE void attention_write_rows(const mzk_args *args, const attention_head *a, int64_t to,
                                 int64_t stride, const float *sum, int64_t rows, float factor) {
    for (int64_t r = 0; r < rows; r++)
        attention_write(args, a, to + r * stride, sum + r * a->pitch, factor);
}

/* Takes the tile of keys [j, j + n), with dq in `work` where attention_backward says. */
typedef void attention_tile_fn(void *work, const mzk_args *args, const attention_pass *pass,
                               int64_t j, int64_t n);

INLINE void attention_run(attention_tile_fn *tile, void *work, float *dq, const mzk_args *args,
                          const attention_pass *pass) {
    int64_t pitch = attention_at(args, 0, 0).pitch, T = args->p.attention.T;
    if (pass->dq)
        memset(dq, 0, (size_t)(pass->heads * pass->room * pitch) * sizeof *dq);
    for (int64_t j = 0; j < pass->end; j += ATTENTION_LANES) {
        int64_t n = at_most(T - j, ATTENTION_LANES);
        tile(work, args, pass, j, n);
        for (int64_t r = 0; pass->dq && j >= pass->begin && r < pass->heads; r++) {
            attention_head a = attention_at(args, pass->b, pass->h + r);
            int64_t slot = r * pass->room + j - pass->begin;
            attention_write_rows(args, &a, a.q + j * a.E, a.E, dq + slot * pitch, n, a.scale);
        }
    }
}

/* Row `row` of those before `end`; `dq` is a part of `work`, ATTENTION_ROOM large. */
INLINE void attention_backward(attention_tile_fn *tile, void *work, float *dq, const mzk_args *args,
                               int64_t row, int64_t end) {
    int64_t T = args->p.attention.T, G = args->p.attention.G, heads = args->p.attention.H / G;
    int64_t b = row / G, g = row % G;
    int64_t even = T + T % 2; /* an odd number of rows may spoil the one behind it */
    int64_t room = ATTENTION_ROOM / attention_at(args, 0, 0).pitch;
    attention_pass pass = {b, g * heads, heads, 0, T, even, end * heads, true, true};
    if (heads * even <= room) {
        attention_run(tile, work, dq, args, &pass);
        return;
    }
    pass.dq = false;
    attention_run(tile, work, dq, args, &pass);
    pass = (attention_pass){.b = b, .heads = 1, .room = room, .rows = end * heads, .dq = true};
    room = room / ATTENTION_LANES * ATTENTION_LANES;
    for (pass.h = g * heads; pass.h < (g + 1) * heads; pass.h++)
        for (pass.begin = 0; pass.begin < T; pass.begin = pass.end) {
            pass.end = at_most(T, pass.begin + room);
            attention_run(tile, work, dq, args, &pass);
        }
}

#endif
