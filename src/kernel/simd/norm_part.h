/* Batch normalisation, sums over a chunk.  Included once per instruction set, after its vec.h.
 *
 * FP32 sums run over at most BLOCK rows and are then added in FP64, so the error does not grow with
 * the chunk, and x^2 - mean^2 can cancel without harm. */
#include "kernel/simd/lanes.h"

enum {
    BLOCK = 64
};

/* Two FP64 sums for each of a block of columns. */
typedef struct column_sums {
    vd first[COLUMNS_MAX], second[COLUMNS_MAX];
} column_sums;

INLINE void part_of_lanes(double *out, vd sum, int64_t lanes) {
    double buffer[VL];
    vd_store(buffer, sum);
    memcpy(out, buffer, (size_t)lanes * sizeof *out);
}

/* Sums of x and x^2; [begin, end) is one chunk here. */
INLINE void bn_part_block(const mzk_args *args, int64_t begin, int64_t end, types t, int64_t c,
                          int vectors, int64_t lanes) {
    const void *x = args->in[0];
    int64_t C = args->p.norm.C;
    double *out = (double *)args->out[0] + begin / args->p.norm.grain * 2 * C + c;
    column_sums total;
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++)
        total.first[j] = total.second[j] = vd_zero();
    for (int64_t r = begin; r < end; r = chunk_end(r, BLOCK, end)) {
        vf sum[COLUMNS_MAX], squares[COLUMNS_MAX];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[j] = squares[j] = vf_zero();
        for (int64_t i = r * C + c; i < chunk_end(r, BLOCK, end) * C; i += C)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) {
                vf v = lanes_load(x, t.a, i + j * VL, lanes);
                sum[j] = vf_add(sum[j], v);
                squares[j] = vf_fma(v, v, squares[j]);
            }
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            total.first[j] = vd_add(total.first[j], vd_of(sum[j]));
            total.second[j] = vd_add(total.second[j], vd_of(squares[j]));
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
        part_of_lanes(out + j * VL, total.first[j], lanes);
        part_of_lanes(out + C + j * VL, total.second[j], lanes);
    }
}
INLINE void bn_part_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        over_columns(bn_part_block, args, b, chunk_end(b, grain, end), t, args->p.norm.C);
}
void MZK_IMPL(bn_part)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(bn_part_loop, args, begin, end, VARY_A))
        mzk_bn_part_ref(args, begin, end);
}

INLINE void narrow_lanes(float *out, vd sum, int64_t lanes, const float *factor) {
    double buffer[VL];
    vd_store(buffer, sum);
    for (int64_t k = 0; k < lanes; k++)
        out[k] = (float)(factor ? (double)factor[k] * buffer[k] : buffer[k]);
}

/* Sums of dy and dy xhat; the common factor rstd of xhat is taken out of the sum. */
INLINE void bn_bwd_part_block(const mzk_args *args, int64_t begin, int64_t end, types t, int64_t c,
                              int vectors, int64_t lanes) {
    const void *dy = args->in[0], *x = args->in[1];
    const float *rstd = (const float *)args->in[3] + c;
    int64_t C = args->p.norm.C;
    int64_t slot = begin / args->p.norm.grain * C + c;
    float *dgamma = (float *)args->out[0] + slot, *dbeta = (float *)args->out[1] + slot;
    column_sums total;
    vf mean[COLUMNS_MAX];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
        total.first[j] = total.second[j] = vd_zero();
        mean[j] = lanes_load(args->in[2], MEZZO_F32, c + j * VL, lanes);
    }
    for (int64_t r = begin; r < end; r = chunk_end(r, BLOCK, end)) {
        vf sum[COLUMNS_MAX], dot[COLUMNS_MAX];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[j] = dot[j] = vf_zero();
        for (int64_t i = r * C + c; i < chunk_end(r, BLOCK, end) * C; i += C)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) {
                vf d = lanes_load(dy, t.a, i + j * VL, lanes);
                vf centred = vf_sub(lanes_load(x, t.b, i + j * VL, lanes), mean[j]);
                sum[j] = vf_add(sum[j], d);
                dot[j] = vf_fma(d, centred, dot[j]);
            }
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            total.first[j] = vd_add(total.first[j], vd_of(sum[j]));
            total.second[j] = vd_add(total.second[j], vd_of(dot[j]));
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
        narrow_lanes(dgamma + j * VL, total.second[j], lanes, rstd + j * VL);
        narrow_lanes(dbeta + j * VL, total.first[j], lanes, NULL);
    }
}
INLINE void bn_bwd_part_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        over_columns(bn_bwd_part_block, args, b, chunk_end(b, grain, end), t, args->p.norm.C);
}
void MZK_IMPL(bn_bwd_part)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || args->out_type[1] != MEZZO_F32 ||
        !dispatch(bn_bwd_part_loop, args, begin, end, VARY_A | VARY_B))
        mzk_bn_bwd_part_ref(args, begin, end);
}
