/* Layer normalisation.  Included once per instruction set, after its vec.h.
 *
 * A row is read from memory once and then from the cache: for its mean, its variance, its result.
 * The next row is fetched while this one is worked on. */
#include "kernel/simd/row_sums.h"

INLINE float ln_mean(const void *x, mezzo_dtype type, int64_t row, int64_t C) {
    vf sum[ACCUMULATORS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t c = 0;
    for (; c + ACCUMULATORS * VL <= C; c += ACCUMULATORS * VL)
#pragma GCC unroll 4
        for (int j = 0; j < ACCUMULATORS; j++)
            sum[j] = vf_add(sum[j], vf_load(x, type, row + c + j * VL));
    for (; c < C; c += VL)
        sum[0] = vf_add(sum[0], lanes_load(x, type, row + c, C - c < VL ? C - c : VL));
    return (float)((double)sum_of(sum) / (double)C);
}

/* 1/sqrt(var + eps), rounded once from the sum of squares. */
INLINE float ln_rstd(const void *x, mezzo_dtype type, int64_t row, int64_t C, float mean,
                     float eps) {
    vf sum[ACCUMULATORS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()}, middle = vf_set(mean);
    int64_t c = 0;
    for (; c + ACCUMULATORS * VL <= C; c += ACCUMULATORS * VL)
#pragma GCC unroll 4
        for (int j = 0; j < ACCUMULATORS; j++) {
            prefetch(x, type, row + C + c + j * VL);
            vf centred = vf_sub(vf_load(x, type, row + c + j * VL), middle);
            sum[j] = vf_fma(centred, centred, sum[j]);
        }
    for (; c < C; c += VL) {
        int64_t lanes = C - c < VL ? C - c : VL;
        vf centred = vf_sub(lanes_load(x, type, row + c, lanes), middle);
        centred = vf_keep(lanes_below(lanes), centred);
        sum[0] = vf_fma(centred, centred, sum[0]);
    }
    return rstd_of(sum_of(sum), x, type, row, C, mean, eps);
}

INLINE void ln_lanes(void *y, const void *x, const float *gamma, const float *beta, types t,
                     int64_t row, int64_t c, vf mean, vf rstd, int64_t lanes) {
    vf xhat = vf_mul(vf_sub(lanes_load(x, t.a, row + c, lanes), mean), rstd);
    vf shift = beta ? lanes_load(beta, MEZZO_F32, c, lanes) : vf_zero();
    lanes_store(y, t.out, row + c, vf_fma(xhat, lanes_load(gamma, MEZZO_F32, c, lanes), shift),
                lanes);
}
INLINE void ln_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    void *y = args->out[0];
    float *means = args->out[1], *rstds = args->out[2];
    const void *x = args->in[0];
    const float *gamma = args->in[1], *beta = args->in[2];
    int64_t C = args->p.norm.C;
    float eps = args->p.norm.eps;
    for (int64_t r = begin; r < end; r++) {
        int64_t row = r * C, c = 0;
        float mean = ln_mean(x, t.a, row, C), rstd = ln_rstd(x, t.a, row, C, mean, eps);
        for (; c + VL <= C; c += VL)
            ln_lanes(y, x, gamma, beta, t, row, c, vf_set(mean), vf_set(rstd), VL);
        if (c < C)
            ln_lanes(y, x, gamma, beta, t, row, c, vf_set(mean), vf_set(rstd), C - c);
        means[r] = mean;
        rstds[r] = rstd;
    }
}
void MZK_IMPL(ln)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[1] != MEZZO_F32 || !dispatch(ln_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_ln_ref(args, begin, end);
}

/* Of a row: sums of g and g xhat over two vectors side by side, g = dy gamma. */
typedef struct ln_sums {
    vf g[2], dot[2];
} ln_sums;

/* What a row's columns need; dgamma and dbeta are the sums of the chunk so far. */
typedef struct ln_row {
    void *dx;
    const void *dy, *x;
    const float *gamma;
    float *dgamma, *dbeta;
    int64_t first; /* element of the row */
    vf mean, rstd;
} ln_row;

INLINE vf ln_xhat(const ln_row *row, types t, int64_t c, int64_t lanes) {
    return vf_mul(vf_sub(lanes_load(row->x, t.b, row->first + c, lanes), row->mean), row->rstd);
}
INLINE void ln_bwd_add(const ln_row *row, types t, int64_t c, ln_sums *sums, int j, int64_t lanes) {
    vf dy = lanes_load(row->dy, t.a, row->first + c, lanes), xhat = ln_xhat(row, t, c, lanes);
    vf g = vf_mul(dy, lanes_load(row->gamma, MEZZO_F32, c, lanes));
    if (lanes < VL) /* beyond the row it is -mean rstd, which may be infinite */
        xhat = vf_keep(lanes_below(lanes), xhat);
    sums->g[j] = vf_add(sums->g[j], g);
    sums->dot[j] = vf_fma(g, xhat, sums->dot[j]);
    vf dgamma = vf_fma(dy, xhat, lanes_load(row->dgamma, MEZZO_F32, c, lanes));
    lanes_store(row->dgamma, MEZZO_F32, c, dgamma, lanes);
    if (row->dbeta)
        lanes_store(row->dbeta, MEZZO_F32, c,
                    vf_add(dy, lanes_load(row->dbeta, MEZZO_F32, c, lanes)), lanes);
}
INLINE void ln_bwd_put(const ln_row *row, types t, int64_t c, vf mean_g, vf mean_dot,
                       int64_t lanes) {
    vf g = vf_mul(lanes_load(row->dy, t.a, row->first + c, lanes),
                  lanes_load(row->gamma, MEZZO_F32, c, lanes));
    vf rest = vf_fnma(ln_xhat(row, t, c, lanes), mean_dot, vf_sub(g, mean_g));
    lanes_store(row->dx, t.out, row->first + c, vf_mul(row->rstd, rest), lanes);
}
INLINE void ln_bwd_row(const ln_row *row, types t, int64_t C) {
    ln_sums sums = {{vf_zero(), vf_zero()}, {vf_zero(), vf_zero()}};
    int64_t c = 0;
    for (; c + 2 * VL <= C; c += 2 * VL) {
        ln_bwd_add(row, t, c, &sums, 0, VL);
        ln_bwd_add(row, t, c + VL, &sums, 1, VL);
    }
    for (; c + VL <= C; c += VL)
        ln_bwd_add(row, t, c, &sums, 0, VL);
    if (c < C)
        ln_bwd_add(row, t, c, &sums, 1, C - c);
    double sum_g = (double)vf_sum(vf_add(sums.g[0], sums.g[1]));
    double sum_dot = (double)vf_sum(vf_add(sums.dot[0], sums.dot[1]));
    vf mean_g = vf_set((float)(sum_g / (double)C)), mean_dot = vf_set((float)(sum_dot / (double)C));
    for (c = 0; c + VL <= C; c += VL)
        ln_bwd_put(row, t, c, mean_g, mean_dot, VL);
    if (c < C)
        ln_bwd_put(row, t, c, mean_g, mean_dot, C - c);
}
/* [begin, end) is one chunk here. */
INLINE void ln_bwd_chunk(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t C = args->p.norm.C, slot = begin / args->p.norm.grain * C;
    const float *mean = args->in[2], *rstd = args->in[3];
    ln_row row = {.dx = args->out[0],
                  .dy = args->in[0],
                  .x = args->in[1],
                  .gamma = args->in[4],
                  .dgamma = (float *)args->out[1] + slot,
                  .dbeta = args->out[2] ? (float *)args->out[2] + slot : NULL};
    memset(row.dgamma, 0, (size_t)C * sizeof *row.dgamma);
    if (row.dbeta)
        memset(row.dbeta, 0, (size_t)C * sizeof *row.dbeta);
    for (int64_t r = begin; r < end; r++) {
        row.first = r * C;
        row.mean = vf_set(mean[r]);
        row.rstd = vf_set(rstd[r]);
        ln_bwd_row(&row, t, C);
    }
}
INLINE void ln_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        ln_bwd_chunk(args, b, chunk_end(b, grain, end), t);
}
void MZK_IMPL(ln_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[1] != MEZZO_F32 ||
        !dispatch(ln_bwd_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_ln_bwd_ref(args, begin, end);
}
