/* A product of few rows by b [N,K], whose rows are whole: c^T = b a^T, so that nothing of b, the
 * larger by far, need be packed.
 *
 *   64 rows of b, 8 at a time, where they lie   x   all of a, packed as panels of 48 rows
 *     -> [64 rows of b][48 rows of a] of sums, turned, to c
 *
 * A part of gemm.h. */
#ifndef MZK_SIMD_GEMM_FEW_H
#define MZK_SIMD_GEMM_FEW_H

enum {
    GEMM_FEW_ROWS = 192,
    GEMM_FEW_SPLIT = 128,      /* units: 24 KB of a panel, half of L1 */
    GEMM_FEW_COLUMNS = 64,     /* of c, that pass by them */
    GEMM_FEW_BYTES = 768 << 10 /* of a, packed: it stays in L2 */
};

INLINE bool gemm_is_few(const mzk_args *args, int64_t units) {
    const mzk_matmul_params *p = &args->p.matmul;
    int64_t panels = (p->M + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
    return !args->out[1] && p->tile_m >= p->M && p->M <= GEMM_FEW_ROWS && p->transpose_b &&
           p->K % GEMM_STEP == 0 && (GEMM_PAIRS || args->in_type[1] == MEZZO_F32) &&
           panels * GEMM_COLUMNS * units * GEMM_UNIT <= GEMM_FEW_BYTES;
}

/* 16 x 16 sums, turned. */
INLINE void gemm_few_turn(vi block[VL], const float *sum) {
#pragma GCC unroll 16
    for (int r = 0; r < VL; r++)
        block[r] = vf_bits(vf_load(sum, MEZZO_F32, r * GEMM_COLUMNS));
    vi_transpose(block);
}

/* Of c: rows m.., 16 columns from n on; sum[16][48] holds the turned block. */
INLINE void gemm_few_write_of(const gemm *g, const float *sum, int64_t m, int64_t rows, int64_t n,
                              int64_t columns, mezzo_dtype type) {
    const mzk_args *args = g->args;
    const mzk_matmul_params *p = &args->p.matmul;
    const float *bias = args->in[2];
    for (int64_t v = 0; v < rows; v += VL) {
        vi block[VL];
        int64_t lanes = gemm_least(rows - v, VL);
        gemm_few_turn(block, sum + v);
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

#if GEMM_PAIRS
/* Of c in bf16, 32 columns from n on, all there is to it: columns are turned two by two, and rows
 * written by whole cache lines. */
INLINE void gemm_few_write_pairs(const gemm *g, const float *sum, int64_t m, int64_t rows,
                                 int64_t n) {
    const int64_t N = g->args->p.matmul.N;
    for (int64_t v = 0; v < rows; v += VL) {
        vi block[VL];
        int64_t lanes = gemm_least(rows - v, VL);
        uint16_t *c = (uint16_t *)g->args->out[0] + (m + v) * N + n;
#pragma GCC unroll 16
        for (int r = 0; r < VL; r++) {
            const float *pair = sum + 2 * r * GEMM_COLUMNS + v;
            block[r] = bf16_narrow_pairs(vf_load(pair, MEZZO_F32, 0),
                                         vf_load(pair, MEZZO_F32, GEMM_COLUMNS));
        }
        vi_transpose(block);
#pragma GCC unroll 16
        for (int r = 0; r < VL; r++)
            if (r < lanes)
                vi_store((uint32_t *)(void *)(c + r * N), block[r]);
    }
}
#endif

static __attribute__((noinline)) void gemm_few_write(const gemm *g, const float *sum, int64_t m,
                                                     int64_t rows, int64_t n, int64_t columns) {
    mezzo_dtype type = (mezzo_dtype)g->args->out_type[0];
    int64_t c = 0;
#if GEMM_PAIRS
    if (type == MEZZO_BF16 && !g->args->in[2] && !g->args->p.matmul.accumulate)
        for (; c + 2 * VL <= columns; c += 2 * VL, sum += 2 * VL * GEMM_COLUMNS)
            gemm_few_write_pairs(g, sum, m, rows, n + c);
#endif
    for (; c < columns; c += VL, sum += VL * GEMM_COLUMNS) {
        int64_t wide = gemm_least(columns - c, VL);
        if (type == MEZZO_F32)
            gemm_few_write_of(g, sum, m, rows, n + c, wide, MEZZO_F32);
        else if (type == MEZZO_BF16)
            gemm_few_write_of(g, sum, m, rows, n + c, wide, MEZZO_BF16);
        else
            gemm_few_write_of(g, sum, m, rows, n + c, wide, MEZZO_F16);
    }
}

/* Sums of rows [n, n + columns) of b and a panel: split after split, whose part of the panel stays
 * in L1 while the rows pass by. */
static void gemm_few_block(const gemm *g, int64_t n, int64_t columns, int64_t m, int64_t rows,
                           float *sum) {
    int64_t lanes = (rows + VL - 1) / VL * VL;
    for (int64_t unit = 0; unit < g->units; unit += GEMM_FEW_SPLIT) {
        int64_t units = gemm_least(g->units - unit, GEMM_FEW_SPLIT);
        const unsigned char *panel = g->b_panels + (m * g->units + unit * lanes) * GEMM_UNIT;
        for (int64_t r = 0; r < columns; r += GEMM_ROWS) {
            gemm_place at = {.sums = sum + r * GEMM_COLUMNS, .columns = rows, .first = unit == 0};
            gemm_rows row;
            gemm_find_rows(g, n + r, unit, &row);
            gemm_block(g, &at, &row, panel, units);
        }
    }
}

static void gemm_few(const mzk_args *args, const gemm *call, int64_t column, int64_t column_end) {
    const mzk_matmul_params *p = &args->p.matmul;
    _Alignas(64) float sum[GEMM_FEW_COLUMNS * GEMM_COLUMNS] = {0};
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
    for (int64_t n = column; n < column_end; n += GEMM_FEW_COLUMNS) {
        int64_t columns = gemm_least(column_end - n, GEMM_FEW_COLUMNS);
        const gemm_band next = {n + columns, gemm_least(n + 2 * columns, column_end), 0, g.units};
        *g.ahead = gemm_source(&g.a, &next);
        for (int64_t m = 0; m < p->M; m += GEMM_COLUMNS) {
            int64_t rows = gemm_least(p->M - m, GEMM_COLUMNS);
            gemm_few_block(&g, n, columns, m, rows, sum);
            gemm_few_write(&g, sum, m, rows, n, columns);
        }
    }
}

#endif
