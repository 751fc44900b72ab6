/* Batch normalisation, elementwise halves.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/lanes.h"

/* y = (x - mean) scale + beta with scale = rstd gamma: subtracting first keeps the digits that
 * x scale + (beta - mean scale) would cancel. */
INLINE void bn_apply_block(const mzk_args *args, int64_t begin, int64_t end, types t, int64_t c,
                           int vectors, int64_t lanes) {
    void *y = args->out[0];
    const void *x = args->in[0];
    int64_t C = args->p.norm.C;
    vf mean[COLUMNS_MAX], scale[COLUMNS_MAX], beta[COLUMNS_MAX];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
        mean[j] = lanes_load(args->in[1], MEZZO_F32, c + j * VL, lanes);
        scale[j] = vf_mul(lanes_load(args->in[2], MEZZO_F32, c + j * VL, lanes),
                          lanes_load(args->in[3], MEZZO_F32, c + j * VL, lanes));
        beta[j] = lanes_load(args->in[4], MEZZO_F32, c + j * VL, lanes);
    }
    for (int64_t i = begin * C + c; i < end * C; i += C)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            vf centred = vf_sub(lanes_load(x, t.a, i + j * VL, lanes), mean[j]);
            lanes_store(y, t.out, i + j * VL, vf_fma(centred, scale[j], beta[j]), lanes);
        }
}
INLINE void bn_apply_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    over_columns(bn_apply_block, args, begin, end, t, args->p.norm.C);
}
void MZK_IMPL(bn_apply)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(bn_apply_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_bn_apply_ref(args, begin, end);
}

/* dx = a (dy - b - (x - mean) d) with a = gamma rstd, b = dbeta / rows, d = rstd dgamma / rows. */
INLINE void bn_bwd_apply_block(const mzk_args *args, int64_t begin, int64_t end, types t, int64_t c,
                               int vectors, int64_t lanes) {
    void *dx = args->out[0];
    const void *dy = args->in[0], *x = args->in[1];
    int64_t C = args->p.norm.C;
    vf rows = vf_set((float)args->p.norm.rows);
    vf mean[COLUMNS_MAX], a[COLUMNS_MAX], b[COLUMNS_MAX], d[COLUMNS_MAX];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
        vf rstd = lanes_load(args->in[3], MEZZO_F32, c + j * VL, lanes);
        mean[j] = lanes_load(args->in[2], MEZZO_F32, c + j * VL, lanes);
        a[j] = vf_mul(lanes_load(args->in[4], MEZZO_F32, c + j * VL, lanes), rstd);
        b[j] = vf_div(lanes_load(args->in[5], MEZZO_F32, c + j * VL, lanes), rows);
        vf dgamma = lanes_load(args->in[6], MEZZO_F32, c + j * VL, lanes);
        d[j] = vf_mul(rstd, vf_div(dgamma, rows));
    }
    for (int64_t i = begin * C + c; i < end * C; i += C)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            vf centred = vf_sub(lanes_load(x, t.b, i + j * VL, lanes), mean[j]);
            vf rest = vf_sub(lanes_load(dy, t.a, i + j * VL, lanes), b[j]);
            vf value = vf_mul(a[j], vf_fnma(centred, d[j], rest));
            lanes_store(dx, t.out, i + j * VL, value, lanes);
        }
}
INLINE void bn_bwd_apply_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    over_columns(bn_bwd_apply_block, args, begin, end, t, args->p.norm.C);
}
void MZK_IMPL(bn_bwd_apply)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(bn_bwd_apply_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_bn_bwd_apply_ref(args, begin, end);
}
