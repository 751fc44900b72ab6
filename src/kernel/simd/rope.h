/* Rotary positions.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/lanes.h"

/* A head of one row: where it starts, and the row of its table. */
typedef struct rope_head {
    void *y;
    const void *x;
    const float *cosines, *sines;
    int64_t at, half;
    bool inverse;
} rope_head;

/* Both of a pair are read before either is written: y may take the place of x. */
INLINE void rope_lanes(const rope_head *h, types t, int64_t i, int64_t lanes) {
    vf c = lanes_load(h->cosines, MEZZO_F32, i, lanes),
       s = lanes_load(h->sines, MEZZO_F32, i, lanes);
    vf a = lanes_load(h->x, t.a, h->at + i, lanes);
    vf b = lanes_load(h->x, t.a, h->at + h->half + i, lanes);
    s = h->inverse ? vf_sub(vf_zero(), s) : s;
    lanes_store(h->y, t.out, h->at + i, vf_fnma(b, s, vf_mul(a, c)), lanes);
    lanes_store(h->y, t.out, h->at + h->half + i, vf_fma(a, s, vf_mul(b, c)), lanes);
}
INLINE void rope_turn(const rope_head *h, types t) {
    int64_t i = 0;
    for (; i + VL <= h->half; i += VL)
        rope_lanes(h, t, i, VL);
    if (i < h->half)
        rope_lanes(h, t, i, h->half - i);
}
INLINE void rope_copy(void *y, const void *x, types t, int64_t from, int64_t to) {
    int64_t i = from;
    for (; i + VL <= to; i += VL)
        vf_store(y, t.out, i, vf_load(x, t.a, i));
    if (i < to)
        vf_store_n(y, t.out, i, vf_load_n(x, t.a, i, to - i), to - i);
}
INLINE void rope_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t n = args->p.rope.n, D = args->p.rope.D, turned = args->p.rope.heads * D;
    rope_head h = {
        .y = args->out[0], .x = args->in[0], .half = D / 2, .inverse = args->p.rope.inverse != 0};
    for (int64_t r = begin; r < end; r++) {
        h.cosines = (const float *)args->in[1] + r % args->p.rope.T * D;
        h.sines = h.cosines + h.half;
        for (h.at = r * n; h.at < r * n + turned; h.at += D)
            rope_turn(&h, t);
        if (h.y != h.x)
            rope_copy(h.y, h.x, t, r * n + turned, (r + 1) * n);
    }
}
void MZK_IMPL(rope)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->in_type[1] != MEZZO_F32 || !dispatch(rope_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_rope_ref(args, begin, end);
}
