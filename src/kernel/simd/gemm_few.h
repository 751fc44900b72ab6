/* A product of few rows by b [N,K], whose rows are whole: c^T = b a^T, so that nothing of b, the
 * larger by far, need be packed.
 *
 *   rows of b, 8 at a time, where they lie   x   all of a, packed as panels of 48 rows
 *     -> [16 rows of b][48 rows of a] of sums, turned, to c
 *
 * A part of gemm.h. */
#ifndef MZK_SIMD_GEMM_FEW_H
#define MZK_SIMD_GEMM_FEW_H

enum {
    GEMM_FEW_ROWS = 192,
    GEMM_FEW_BYTES = 768 << 10 /* of a, packed: it stays in L2 */
};

INLINE bool gemm_is_few(const mzk_args *args, int64_t units) {
    const mzk_matmul_params *p = &args->p.matmul;
    int64_t panels = (p->M + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
    return p->tile_m >= p->M && p->M <= GEMM_FEW_ROWS && p->transpose_b && p->K % GEMM_STEP == 0 &&
           (GEMM_PAIRS || args->in_type[1] == MEZZO_F32) &&
           panels * GEMM_COLUMNS * units * GEMM_UNIT <= GEMM_FEW_BYTES;
}

/* Of c: rows m.., columns n..; sum[16][48] holds the turned block. */
INLINE void gemm_few_write(const gemm *g, const float *sum, int64_t m, int64_t rows, int64_t n,
                           int64_t columns, mezzo_dtype type) {
    const mzk_args *args = g->args;
    const mzk_matmul_params *p = &args->p.matmul;
    const float *bias = args->in[2];
    for (int64_t v = 0; v < rows; v += VL) {
        vi block[VL];
        int64_t lanes = gemm_least(rows - v, VL);
#pragma GCC unroll 16
        for (int r = 0; r < VL; r++)
            block[r] = vf_bits(vf_load(sum, MEZZO_F32, r * GEMM_COLUMNS + v));
        vi_transpose(block);
        for (int64_t r = 0; r < lanes; r++) {
            int64_t place = (m + v + r) * p->N + n;
            vf x = vf_of_bits(block[r]);
            if (bias)
                x = vf_add(x, vf_load_n(bias, MEZZO_F32, n, columns));
            if (p->accumulate)
                x = vf_add(x, vf_load_n(args->out[0], MEZZO_F32, place, columns));
            if (columns == VL)
                vf_store(args->out[0], type, place, x);
            else
                vf_store_n(args->out[0], type, place, x, columns);
        }
    }
}

/* Sums of 8 rows of b and a panel, over all splits. */
static void gemm_few_block(const gemm *g, int64_t n, int64_t panel, int64_t wide, float *sum) {
    gemm_place at = {.sums = sum, .columns = wide};
    for (int64_t unit = 0; unit < g->units; unit += GEMM_SPLIT) {
        gemm_rows rows;
        int64_t units = gemm_least(g->units - unit, GEMM_SPLIT);
        int64_t lanes = (wide + VL - 1) / VL * VL;
        gemm_find_rows(g, n, unit, &rows);
        at.first = unit == 0;
        gemm_block(g, &at, &rows,
                   g->b_panels + (panel * GEMM_COLUMNS * g->units + unit * lanes) * GEMM_UNIT,
                   units);
    }
}

static void gemm_few(const mzk_args *args, const gemm *call, int64_t column, int64_t column_end) {
    const mzk_matmul_params *p = &args->p.matmul;
    _Alignas(64) float sum[2 * GEMM_BLOCK] = {0};
    gemm g = *call;
    g.a = call->b; /* rows of b are the rows of c^T */
    g.b = call->a;
    g.a_packed = false;
    g.row = column;
    g.row_end = column_end;
    for (int64_t m = 0; m < p->M; m += GEMM_COLUMNS) {
        int64_t groups = (gemm_least(p->M - m, GEMM_COLUMNS) + VL - 1) / VL;
        const gemm_panels panel = {g.b_panels + m * g.units * GEMM_UNIT, groups * VL * GEMM_UNIT,
                                   groups, 0};
        gemm_pack(&panel, &g.b, m, groups, 0, g.units);
    }
    int64_t parts = (p->M + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
    for (int64_t n = column; n < column_end; n += VL) {
        int64_t columns = gemm_least(column_end - n, VL);
        for (int64_t m = 0; m < p->M; m += GEMM_COLUMNS) {
            int64_t rows = gemm_least(p->M - m, GEMM_COLUMNS);
            const gemm_band next = {n + VL, gemm_least(n + 2 * VL, column_end), 0, g.units};
            if (next.n < next.end)
                gemm_fetch(&g.a, &next, m / GEMM_COLUMNS, parts);
            for (int64_t half = 0; half < columns; half += GEMM_ROWS)
                gemm_few_block(&g, n + half, m / GEMM_COLUMNS, rows, sum + half * GEMM_COLUMNS);
            if (args->out_type[0] == MEZZO_F32)
                gemm_few_write(&g, sum, m, rows, n, columns, MEZZO_F32);
            else if (args->out_type[0] == MEZZO_BF16)
                gemm_few_write(&g, sum, m, rows, n, columns, MEZZO_BF16);
            else
                gemm_few_write(&g, sum, m, rows, n, columns, MEZZO_F16);
        }
    }
}

#endif
