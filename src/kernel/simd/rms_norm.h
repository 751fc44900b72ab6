/* Rows over the root of their mean square.  Included once per instruction set, after its vec.h.
 *
 * A row is read from memory once and then from the cache: for its sum of squares, then for its
 * result.  The next row is fetched while this one is worked on. */
#include "kernel/simd/row_sums.h"

/* 1/sqrt(mean x^2 + eps), rounded once from the sum of squares. */
INLINE float rms_rstd(const void *x, mezzo_dtype type, int64_t row, int64_t C, float eps) {
    vf sum[ACCUMULATORS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t c = 0;
    for (; c + ACCUMULATORS * VL <= C; c += ACCUMULATORS * VL)
#pragma GCC unroll 4
        for (int j = 0; j < ACCUMULATORS; j++) {
            prefetch(x, type, row + C + c + j * VL);
            vf v = vf_load(x, type, row + c + j * VL);
            sum[j] = vf_fma(v, v, sum[j]);
        }
    for (; c < C; c += VL) {
        vf v = lanes_load(x, type, row + c, C - c < VL ? C - c : VL);
        sum[0] = vf_fma(v, v, sum[0]);
    }
    return rstd_of(sum_of(sum), x, type, row, C, 0, eps);
}

INLINE void rms_lanes(void *y, const void *x, const float *gamma, types t, int64_t row, int64_t c,
                      vf rstd, int64_t lanes) {
    vf xhat = vf_mul(lanes_load(x, t.a, row + c, lanes), rstd);
    lanes_store(y, t.out, row + c, vf_mul(xhat, lanes_load(gamma, MEZZO_F32, c, lanes)), lanes);
}
INLINE void rms_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    void *y = args->out[0];
    float *rstds = args->out[1];
    const void *x = args->in[0];
    const float *gamma = args->in[1];
    int64_t C = args->p.norm.C;
    for (int64_t r = begin; r < end; r++) {
        int64_t row = r * C, c = 0;
        float rstd = rms_rstd(x, t.a, row, C, args->p.norm.eps);
        for (; c + VL <= C; c += VL)
            rms_lanes(y, x, gamma, t, row, c, vf_set(rstd), VL);
        if (c < C)
            rms_lanes(y, x, gamma, t, row, c, vf_set(rstd), C - c);
        rstds[r] = rstd;
    }
}
void MZK_IMPL(rms)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[1] != MEZZO_F32 || !dispatch(rms_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_rms_ref(args, begin, end);
}

/* What a row's columns need; dgamma is the sum of the chunk so far. */
typedef struct rms_row {
    void *dx;
    const void *dy, *x;
    const float *gamma;
    float *dgamma;
    int64_t first; /* element of the row */
    vf rstd;
} rms_row;

INLINE vf rms_bwd_add(const rms_row *row, types t, int64_t c, vf dot, int64_t lanes) {
    vf dy = lanes_load(row->dy, t.a, row->first + c, lanes);
    vf xhat = vf_mul(lanes_load(row->x, t.b, row->first + c, lanes), row->rstd);
    if (lanes < VL) /* beyond the row it is 0 rstd, which may be infinite */
        xhat = vf_keep(lanes_below(lanes), xhat);
    vf dgamma = vf_fma(dy, xhat, lanes_load(row->dgamma, MEZZO_F32, c, lanes));
    lanes_store(row->dgamma, MEZZO_F32, c, dgamma, lanes);
    return vf_fma(vf_mul(dy, lanes_load(row->gamma, MEZZO_F32, c, lanes)), xhat, dot);
}
INLINE void rms_bwd_put(const rms_row *row, types t, int64_t c, vf mean_dot, int64_t lanes) {
    vf g = vf_mul(lanes_load(row->dy, t.a, row->first + c, lanes),
                  lanes_load(row->gamma, MEZZO_F32, c, lanes));
    vf xhat = vf_mul(lanes_load(row->x, t.b, row->first + c, lanes), row->rstd);
    lanes_store(row->dx, t.out, row->first + c, vf_mul(row->rstd, vf_fnma(xhat, mean_dot, g)),
                lanes);
}
INLINE void rms_bwd_row(const rms_row *row, types t, int64_t C) {
    vf dot[ACCUMULATORS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t c = 0;
    for (; c + ACCUMULATORS * VL <= C; c += ACCUMULATORS * VL)
#pragma GCC unroll 4
        for (int j = 0; j < ACCUMULATORS; j++)
            dot[j] = rms_bwd_add(row, t, c + j * VL, dot[j], VL);
    for (; c + VL <= C; c += VL)
        dot[0] = rms_bwd_add(row, t, c, dot[0], VL);
    if (c < C)
        dot[1] = rms_bwd_add(row, t, c, dot[1], C - c);
    vf mean_dot = vf_set((float)((double)sum_of(dot) / (double)C));
    for (c = 0; c + VL <= C; c += VL)
        rms_bwd_put(row, t, c, mean_dot, VL);
    if (c < C)
        rms_bwd_put(row, t, c, mean_dot, C - c);
}
/* [begin, end) is one chunk here. */
INLINE void rms_bwd_chunk(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t C = args->p.norm.C;
    const float *rstd = args->in[2];
    rms_row row = {.dx = args->out[0],
                   .dy = args->in[0],
                   .x = args->in[1],
                   .gamma = args->in[3],
                   .dgamma = (float *)args->out[1] + begin / args->p.norm.grain * C};
    memset(row.dgamma, 0, (size_t)C * sizeof *row.dgamma);
    for (int64_t r = begin; r < end; r++) {
        row.first = r * C;
        row.rstd = vf_set(rstd[r]);
        rms_bwd_row(&row, t, C);
    }
}
INLINE void rms_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        rms_bwd_chunk(args, b, chunk_end(b, grain, end), t);
}
void MZK_IMPL(rms_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[1] != MEZZO_F32 ||
        !dispatch(rms_bwd_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_rms_bwd_ref(args, begin, end);
}
