/* c = a b for large matrices.  Included after avx512/vec.h, with GEMM_PAIRS 1 where bf16 operands
 * are multiplied as pairs by the dot instruction, 0 where everything is widened to f32.
 *
 * A *unit* is what one lane holds of a step along K: an f32, or two neighbours in bf16.
 *
 *   tile of c    split of K    panel of b (48 columns)         block (8 rows x 48 columns)
 *   one call     512 or 256    packed: [units][48], in L2      24 vectors of sums in registers
 *                units         lane n, unit k                  += row's unit, broadcast, x panel
 * row
 *
 * The sums of a split are added to those of the splits before, in their order, so that no chain of
 * roundings is longer than a split; they wait in f32 for the last one, behind which bias, c and the
 * conversion come.  Rows of a are read where they lie if a unit is there in one piece; otherwise,
 * packed in panels of 16. */
#ifndef MZK_SIMD_GEMM_H
#define MZK_SIMD_GEMM_H

#include <string.h>

#include "kernel/table.h"

enum {
    GEMM_ROWS = 8,
    GEMM_WIDE = 3, /* vectors; 8 x 3 sums, 3 of the panel and a broadcast make 28 of 32 registers */
    GEMM_COLUMNS = GEMM_WIDE * VL,
    GEMM_STEP = GEMM_PAIRS ? 2 : 1,      /* elements of a unit  */
    GEMM_SPLIT = GEMM_PAIRS ? 512 : 256, /* units of a split: its panel takes 96 or 48 KB */
    GEMM_BEAT = GEMM_PAIRS ? 4 : 2,      /* units between fetches: what 32 rows need from memory */
    GEMM_EXPECT = 2,      /* blocks ahead: 200 ns where K is 80, about what memory takes */
    GEMM_ROW_AHEAD = 384, /* bytes, 300 ns: rows that lie apart do not all come by themselves */
    GEMM_AHEAD = 16,
    GEMM_AHEAD_BYTES = 256,
    GEMM_TOGETHER = 6, /* groups of lanes that are packed side by side: whole cache lines */
    GEMM_UNIT = (int)sizeof(float),
    GEMM_BLOCK = GEMM_ROWS * GEMM_COLUMNS,                /* sums */
    GEMM_B_PANEL = GEMM_SPLIT * GEMM_COLUMNS * GEMM_UNIT, /* bytes */
    GEMM_A_PANEL = (GEMM_SPLIT + 1) * VL /* units; the odd row keeps panels out of one cache set */
};

#include "kernel/simd/gemm_epilogue.h"

/* Element (lane, k) lies at lane * lane_stride + k * k_stride; one of the two is 1. */
typedef struct gemm_operand {
    const void *data;
    mezzo_dtype type;
    int64_t lanes, K;
    int64_t lane_stride, k_stride;
} gemm_operand;

/* 16 units of one lane, from element k on; zero beyond K. */
INLINE vi gemm_units_along(const gemm_operand *x, mezzo_dtype type, int64_t lane, int64_t k,
                           bool whole) {
    int64_t at = lane * x->lane_stride + k, left = x->K - k;
    if (GEMM_PAIRS) {
        const uint16_t *p = (const uint16_t *)x->data + at;
        return whole ? vi_load((const uint32_t *)(const void *)p) : vi_load_pairs_n(p, left);
    }
    return vf_bits(whole ? vf_load(x->data, type, at)
                         : vf_load_n(x->data, type, at, left < VL ? left : VL));
}

/* Unit k of 16 lanes from `lane` on; zero beyond. */
INLINE vi gemm_units_across(const gemm_operand *x, mezzo_dtype type, int64_t lane, int64_t lanes,
                            int64_t k) {
    int64_t at = k * x->k_stride + lane;
    if (GEMM_PAIRS) {
        const uint16_t *p = (const uint16_t *)x->data + at;
        vi low = vi_load_u16_n(p, lanes), high = vi_set(0);
        if (k + 1 < x->K)
            high = vi_load_u16_n(p + x->k_stride, lanes);
        return vi_or(low, vi_shift_left(high, 16));
    }
    return vf_bits(vf_load_n(x->data, type, at, lanes));
}

/* Where units go: vector (unit, group of 16 lanes), `wide` groups a panel. */
typedef struct gemm_panels {
    unsigned char *data;
    int64_t unit_pitch; /* bytes */
    int64_t wide, panel_pitch;
} gemm_panels;

INLINE unsigned char *gemm_group(const gemm_panels *to, int64_t group) {
    return to->data + group / to->wide * to->panel_pitch + group % to->wide * VL * GEMM_UNIT;
}

INLINE void gemm_put(unsigned char *to, vi x) {
    vi_store((uint32_t *)(void *)to, x);
}

/* Rows lie far apart, where no hardware expects the next one: fetch it. */
INLINE void gemm_ahead(const gemm_operand *x, mezzo_dtype type, int64_t lane, int64_t k) {
    const int64_t bytes = type == MEZZO_F32 ? 4 : 2;
    for (int64_t r = 0; r < GEMM_STEP; r++)
        for (int64_t at = 0; at < GEMM_TOGETHER * VL * bytes; at += 64)
            __builtin_prefetch((const char *)x->data + ((k + r) * x->k_stride + lane) * bytes + at);
}

/* Lanes of a unit lie side by side: groups [group, end), GEMM_TOGETHER at most. */
INLINE void gemm_pack_across(const gemm_panels *to, const gemm_operand *x, mezzo_dtype type,
                             int64_t lane, int64_t group, int64_t end, int64_t k, int64_t units) {
    unsigned char *place[GEMM_TOGETHER];
    const int64_t first = lane + group * VL, groups = end - group;
    for (int64_t g = 0; g < groups; g++)
        place[g] = gemm_group(to, group + g);
    for (int64_t u = 0; u < units; u++) {
        int64_t e = k + u * GEMM_STEP, g = 0, offset = u * to->unit_pitch;
        gemm_ahead(x, type, first, e + GEMM_AHEAD);
        if (GEMM_PAIRS && e + 1 < x->K)
            for (; g + 2 <= groups && first + (g + 2) * VL <= x->lanes; g += 2) {
                const uint16_t *p = (const uint16_t *)x->data + e * x->k_stride + first + g * VL;
                vi pair[2];
                vi_interleave_u16(pair, p, p + x->k_stride);
                gemm_put(place[g] + offset, pair[0]);
                gemm_put(place[g + 1] + offset, pair[1]);
            }
        for (; g < groups; g++) {
            int64_t at = first + g * VL, lanes = x->lanes - at;
            gemm_put(place[g] + offset, gemm_units_across(x, type, at, lanes < VL ? lanes : VL, e));
        }
    }
}

/* 16 units of 16 lanes.  Lanes beyond the last are zero. */
INLINE void gemm_pack_block(const gemm_panels *to, const gemm_operand *x, mezzo_dtype type,
                            int64_t lane, int64_t group, int64_t k, int64_t unit, int64_t units,
                            bool whole) {
    vi block[VL];
    unsigned char *place = gemm_group(to, group) + unit * to->unit_pitch;
    const int64_t bytes = type == MEZZO_F32 ? 4 : 2;
    for (int r = 0; whole && r < VL; r++)
        __builtin_prefetch((const char *)x->data + ((lane + r) * x->lane_stride + k) * bytes +
                           GEMM_AHEAD_BYTES);
#pragma GCC unroll 16
    for (int r = 0; r < VL; r++)
        block[r] = whole || lane + r < x->lanes ? gemm_units_along(x, type, lane + r, k, whole)
                                                : vi_set(0);
    vi_transpose(block);
#pragma GCC unroll 16
    for (int u = 0; u < VL; u++)
        if (whole || u < units)
            gemm_put(place + u * to->unit_pitch, block[u]);
}

/* Units of a lane lie side by side. */
INLINE void gemm_pack_along(const gemm_panels *to, const gemm_operand *x, mezzo_dtype type,
                            int64_t lane, int64_t groups, int64_t k, int64_t units) {
    for (int64_t g = 0; g < groups; g++)
        for (int64_t u = 0; u < units; u += VL) {
            int64_t e = k + u * GEMM_STEP, at = lane + g * VL;
            bool whole = u + VL <= units && e + VL * GEMM_STEP <= x->K && at + VL <= x->lanes;
            if (whole)
                gemm_pack_block(to, x, type, at, g, e, u, VL, true);
            else
                gemm_pack_block(to, x, type, at, g, e, u, units - u, false);
        }
}

INLINE void gemm_pack_type(const gemm_panels *to, const gemm_operand *x, mezzo_dtype type,
                           int64_t lane, int64_t groups, int64_t k, int64_t units) {
    if (x->k_stride == 1)
        gemm_pack_along(to, x, type, lane, groups, k, units);
    else
        for (int64_t g = 0; g < groups; g += GEMM_TOGETHER)
            gemm_pack_across(to, x, type, lane, g,
                             g + GEMM_TOGETHER < groups ? g + GEMM_TOGETHER : groups, k, units);
}

/* `units` units of `groups` x 16 lanes, from element k of lane `lane` on. */
static __attribute__((noinline)) void gemm_pack(const gemm_panels *to, const gemm_operand *x,
                                                int64_t lane, int64_t groups, int64_t k,
                                                int64_t units) {
    if (GEMM_PAIRS || x->type == MEZZO_BF16)
        gemm_pack_type(to, x, MEZZO_BF16, lane, groups, k, units);
    else if (x->type == MEZZO_F32)
        gemm_pack_type(to, x, MEZZO_F32, lane, groups, k, units);
    else
        gemm_pack_type(to, x, MEZZO_F16, lane, groups, k, units);
}

/* Where the units of 8 rows of a lie, and how far it is to the next one. */
typedef struct gemm_rows {
    const unsigned char *row[GEMM_ROWS];
    int64_t step;
} gemm_rows;

INLINE vf gemm_step(vf sum, vi a, vi b) {
#if GEMM_PAIRS
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#else
    return vf_fma(vf_of_bits(a), vf_of_bits(b), sum);
#endif
}

/* Rows of cache lines that will be needed.  They are fetched one at a time, between products: many
 * at once would take every slot of L1 for lines under way, and loads from L2 wait for one too. */
typedef struct gemm_stream {
    const char *line, *row_end, *end;
    int64_t stride, gap; /* bytes from row to row, and between two */
} gemm_stream;

static gemm_stream gemm_stream_of(const void *data, int64_t width, int64_t stride, int64_t rows) {
    const char *line = data;
    return (gemm_stream){line, line + width, line + rows * stride, stride, stride - width};
}

/* The next line, as far as L2. */
INLINE void gemm_fetch(gemm_stream *s) {
    if (s->line >= s->end)
        return;
    __builtin_prefetch(s->line, 0, 2);
    s->line += 64;
    if (s->line < s->row_end)
        return;
    s->line += s->gap;
    s->row_end += s->stride;
}

/* The call, and the tile at hand. */
typedef struct gemm {
    const mzk_args *args;
    gemm_operand a, b;
    bool a_packed;
    int64_t units;
    int64_t row, row_end, column, column_end;
    unsigned char *a_panels; /* [16 rows each][split + 1][16] */
    int64_t band;            /* columns of b that are packed at once */
    unsigned char *b_panels; /* [48 columns each][split][48]    */
    float *sums;             /* [8 rows][48 columns][8][48]: blocks that wait for the next split */
    gemm_stream *ahead;      /* what the next band will be packed from */
    gemm_figures *figures;   /* of the tile; null if nobody asks */
} gemm;

/* A block of c: `rows` x `columns` of it, from (m, n) on. */
typedef struct gemm_place {
    int64_t m, n, rows, columns;
    float *sums;
    bool first, last; /* of the splits of K */
} gemm_place;

/* `whole`: 8 rows of whole vectors; of those `look`, if not null, sees what is stored. */
INLINE void gemm_write_of(const gemm *g, const gemm_place *at, vf s[GEMM_ROWS][GEMM_WIDE], int wide,
                          mezzo_dtype type, bool whole, gemm_glance *look) {
    const mzk_args *args = g->args;
    const float *bias = args->in[2];
    bool accumulate = args->p.matmul.accumulate != 0;
    int64_t N = args->p.matmul.N, tail = at->columns - (wide - 1) * VL;
#pragma GCC unroll 8
    for (int r = 0; r < GEMM_ROWS; r++) {
        if (!whole && r >= at->rows)
            return;
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++) {
            bool full = whole || v + 1 < wide;
            int64_t place = (at->m + r) * N + at->n + v * VL;
            vf x = s[r][v];
            if (bias)
                x = vf_add(x, full ? vf_load(bias, MEZZO_F32, at->n + v * VL)
                                   : vf_load_n(bias, MEZZO_F32, at->n + v * VL, tail));
            if (accumulate)
                x = vf_add(x, full ? vf_load(args->out[0], MEZZO_F32, place)
                                   : vf_load_n(args->out[0], MEZZO_F32, place, tail));
            if (look) {
                x = gemm_store(args->out[0], type, place, x);
                gemm_glance_at(look, v, x, x);
            } else if (full)
                vf_store(args->out[0], type, place, x);
            else
                vf_store_n(args->out[0], type, place, x, tail);
        }
    }
}

INLINE void gemm_write(const gemm *g, const gemm_place *at, vf s[GEMM_ROWS][GEMM_WIDE], int wide,
                       mezzo_dtype type) {
    bool whole = at->rows == GEMM_ROWS && at->columns == wide * VL;
    if (g->figures && whole && wide == GEMM_WIDE) {
        gemm_glance look;
        gemm_glance_begin(&look, g->figures);
        gemm_write_of(g, at, s, wide, type, true, &look);
        if (gemm_glance_end(&look, g->figures))
            return;
    } else if (whole) {
        gemm_write_of(g, at, s, wide, type, true, NULL);
    } else {
        gemm_write_of(g, at, s, wide, type, false, NULL);
    }
    if (g->figures)
        gemm_see(g->figures, g->args, at->m * g->args->p.matmul.N + at->n, at->rows, at->columns);
}

/* What the block after the next will add to: its rows, of three lines each. */
typedef struct gemm_expected {
    const float *c;
    int64_t rows, pitch;
} gemm_expected;

INLINE gemm_expected gemm_expect(const gemm *g, const gemm_place *at) {
    int64_t m = at->m, n = at->n + GEMM_EXPECT * GEMM_COLUMNS, N = g->args->p.matmul.N;
    if (!g->args->p.matmul.accumulate || !at->last)
        return (gemm_expected){0};
    if (n >= g->column_end) {
        n -= g->column_end - g->column;
        m += GEMM_ROWS;
    }
    return (gemm_expected){(const float *)g->args->out[0] + m * N + n,
                           g->row_end - m < GEMM_ROWS ? g->row_end - m : GEMM_ROWS, N};
}

INLINE void gemm_expect_row(const gemm_expected *e, int64_t r) {
    if (r < e->rows)
        for (int v = 0; v < GEMM_WIDE; v++)
            __builtin_prefetch(e->c + r * e->pitch + v * VL, 1);
}

/* One unit of a block. */
INLINE void gemm_unit(vf s[GEMM_ROWS][GEMM_WIDE], const unsigned char *const row[GEMM_ROWS],
                      int64_t offset, const unsigned char *b, int wide) {
    vi panel[GEMM_WIDE];
#pragma GCC unroll 3
    for (int v = 0; v < wide; v++)
        panel[v] = vi_load((const uint32_t *)(const void *)(b + v * VL * GEMM_UNIT));
#pragma GCC unroll 8
    for (int r = 0; r < GEMM_ROWS; r++) {
        int32_t unit;
        memcpy(&unit, row[r] + offset, sizeof unit);
        vi left = vi_set(unit);
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++)
            s[r][v] = gemm_step(s[r][v], left, panel[v]);
    }
}

/* A block over the units of a split, for a constant number of vectors. */
INLINE void gemm_block_of(const gemm *g, const gemm_place *at, const gemm_rows *a,
                          const unsigned char *b, int64_t units, int wide) {
    vf s[GEMM_ROWS][GEMM_WIDE];
    const unsigned char *row[GEMM_ROWS];
    int64_t offset = 0, step = a->step;
#pragma GCC unroll 8
    for (int r = 0; r < GEMM_ROWS; r++) {
        row[r] = a->row[r];
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++)
            s[r][v] = vf_zero();
    }
    gemm_stream ahead = *g->ahead;
    gemm_expected expected = gemm_expect(g, at);
    const int64_t pitch = wide * VL * GEMM_UNIT;
    int64_t u = 0;
    for (; u + GEMM_BEAT <= units; u += GEMM_BEAT) {
        __builtin_prefetch(a->row[u / 2 % GEMM_ROWS] + offset + GEMM_ROW_AHEAD);
        __builtin_prefetch(a->row[(u / 2 + 1) % GEMM_ROWS] + offset + GEMM_ROW_AHEAD);
        gemm_fetch(&ahead);
        gemm_expect_row(&expected, u / GEMM_BEAT);
#pragma GCC unroll 4
        for (int beat = 0; beat < GEMM_BEAT; beat++, offset += step, b += pitch)
            gemm_unit(s, row, offset, b, wide);
    }
    for (; u < units; u++, offset += step, b += pitch)
        gemm_unit(s, row, offset, b, wide);
    *g->ahead = ahead;
#pragma GCC unroll 8
    for (int r = 0; r < GEMM_ROWS; r++)
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++) {
            int64_t place = r * GEMM_COLUMNS + v * VL;
            if (!at->first)
                s[r][v] = vf_add(vf_load(at->sums, MEZZO_F32, place), s[r][v]);
            if (!at->last)
                vf_store(at->sums, MEZZO_F32, place, s[r][v]);
        }
    if (!at->last)
        return;
    mezzo_dtype type = (mezzo_dtype)g->args->out_type[0];
    if (type == MEZZO_F32)
        gemm_write(g, at, s, wide, MEZZO_F32);
    else if (type == MEZZO_BF16)
        gemm_write(g, at, s, wide, MEZZO_BF16);
    else
        gemm_write(g, at, s, wide, MEZZO_F16);
}

static __attribute__((noinline)) void gemm_block(const gemm *g, const gemm_place *at,
                                                 const gemm_rows *a, const unsigned char *b,
                                                 int64_t units) {
    if (at->columns > 2 * VL)
        gemm_block_of(g, at, a, b, units, 3);
    else if (at->columns > VL)
        gemm_block_of(g, at, a, b, units, 2);
    else
        gemm_block_of(g, at, a, b, units, 1);
}

/* Rows beyond the tile stand for its last one: they are not written. */
static void gemm_find_rows(const gemm *g, int64_t m, int64_t unit, gemm_rows *out) {
    const unsigned char *direct = g->a.data;
    out->step = g->a_packed ? VL * GEMM_UNIT : GEMM_UNIT;
    for (int r = 0; r < GEMM_ROWS; r++) {
        int64_t row = m + r < g->row_end ? m + r : g->row_end - 1, lane = row - g->row;
        int64_t packed = lane / VL * GEMM_A_PANEL + lane % VL;
        out->row[r] = g->a_packed
                          ? g->a_panels + packed * GEMM_UNIT
                          : direct + (row * g->a.lane_stride / GEMM_STEP + unit) * GEMM_UNIT;
    }
}

static int64_t gemm_least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* What a band's panels are packed from: columns [n, end) over the units of a split. */
typedef struct gemm_band {
    int64_t n, end, unit, units;
} gemm_band;

static gemm_band gemm_band_at(const gemm *g, int64_t n, int64_t unit) {
    return (gemm_band){n, gemm_least(n + g->band, g->column_end), unit,
                       gemm_least(g->units - unit, GEMM_SPLIT)};
}

/* The band behind this one: the next columns, else the next split; false behind the last. */
static bool gemm_next(const gemm *g, const gemm_band *band, gemm_band *next) {
    if (band->end < g->column_end)
        *next = gemm_band_at(g, band->end, band->unit);
    else if (band->unit + band->units < g->units)
        *next = gemm_band_at(g, g->column, band->unit + band->units);
    else
        return false;
    return true;
}

static void gemm_pack_band(const gemm *g, const gemm_band *band) {
    int64_t whole = (band->end - band->n) / GEMM_COLUMNS;
    int64_t n = band->n + whole * GEMM_COLUMNS, k = band->unit * GEMM_STEP;
    gemm_panels to = {g->b_panels, GEMM_COLUMNS * GEMM_UNIT, GEMM_WIDE, GEMM_B_PANEL};
    gemm_pack(&to, &g->b, band->n, whole * GEMM_WIDE, k, band->units);
    if (n == band->end)
        return;
    /* The last panel is as narrow as it can be. */
    to.wide = (band->end - n + VL - 1) / VL;
    to.unit_pitch = to.wide * VL * GEMM_UNIT;
    to.data += whole * GEMM_B_PANEL;
    gemm_pack(&to, &g->b, n, to.wide, k, band->units);
}

/* What a band will be packed from: packing by itself would wait for memory, and leave it idle while
 * products are made. */
static gemm_stream gemm_source(const gemm_operand *b, const gemm_band *band) {
    const int64_t bytes = b->type == MEZZO_F32 ? 4 : 2;
    bool along = b->k_stride == 1;
    int64_t k = band->unit * GEMM_STEP, k_end = gemm_least(k + band->units * GEMM_STEP, b->K);
    int64_t row = along ? band->n : k, row_end = along ? band->end : k_end;
    int64_t at = along ? k : band->n, end = along ? k_end : band->end;
    int64_t stride = along ? b->lane_stride : b->k_stride;
    return gemm_stream_of((const char *)b->data + (row * stride + at) * bytes, (end - at) * bytes,
                          stride * bytes, row_end - row);
}

static void gemm_run_band(const gemm *g, const gemm_band *band) {
    gemm_place at = {.first = band->unit == 0, .last = band->unit + band->units == g->units};
    gemm_band next;
    *g->ahead = (gemm_stream){0};
    if (gemm_next(g, band, &next))
        *g->ahead = gemm_source(&g->b, &next);
    int64_t parts = (g->row_end - g->row + GEMM_ROWS - 1) / GEMM_ROWS;
    int64_t panels = (g->column_end - g->column + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
    for (int64_t part = 0; part < parts; part++) {
        const unsigned char *b = g->b_panels;
        gemm_rows rows;
        at.m = g->row + part * GEMM_ROWS;
        at.rows = gemm_least(g->row_end - at.m, GEMM_ROWS);
        at.sums = g->sums + (part * panels + (band->n - g->column) / GEMM_COLUMNS) * GEMM_BLOCK;
        gemm_find_rows(g, at.m, band->unit, &rows);
        for (at.n = band->n; at.n < band->end; at.n += GEMM_COLUMNS, b += GEMM_B_PANEL) {
            at.columns = gemm_least(band->end - at.n, GEMM_COLUMNS);
            gemm_block(g, &at, &rows, b, band->units);
            at.sums += GEMM_BLOCK;
        }
    }
}

static void gemm_tile(gemm *g, int64_t row, int64_t row_end, int64_t column, int64_t column_end) {
    const gemm_panels panels = {g->a_panels, VL * GEMM_UNIT, 1, GEMM_A_PANEL * GEMM_UNIT};
    g->row = row;
    g->row_end = row_end;
    g->column = column;
    g->column_end = column_end;
    gemm_band band = gemm_band_at(g, column, 0);
    do {
        if (g->a_packed && band.n == column)
            gemm_pack(&panels, &g->a, row, (row_end - row + VL - 1) / VL, band.unit * GEMM_STEP,
                      band.units);
        gemm_pack_band(g, &band);
        gemm_run_band(g, &band);
    } while (gemm_next(g, &band, &band));
}

/* A storage type that is loaded and stored by vectors. */
INLINE bool gemm_takes(int type) {
    return type == MEZZO_F32 || type == MEZZO_BF16 || type == MEZZO_F16;
}

#include "kernel/simd/gemm_few.h"

INLINE void gemm_run(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_matmul_params *p = &args->p.matmul;
    gemm_stream ahead = {0};
    gemm g = {.args = args,
              .ahead = &ahead,
              .a = {args->in[0], (mezzo_dtype)args->in_type[0], p->M, p->K,
                    p->transpose_a ? 1 : p->K, p->transpose_a ? p->M : 1},
              .b = {args->in[1], (mezzo_dtype)args->in_type[1], p->N, p->K,
                    p->transpose_b ? p->K : 1, p->transpose_b ? 1 : p->N},
              .units = (p->K + GEMM_STEP - 1) / GEMM_STEP};
    /* Direct: units along K, none of them cut, nothing to widen. */
    g.a_packed = p->transpose_a || p->K % GEMM_STEP != 0 || (!GEMM_PAIRS && g.a.type != MEZZO_F32);
    int64_t rows = p->tile_m ? p->tile_m : end - begin, columns = p->tile_m ? p->tile_n : p->N;
    int64_t panels = (columns + GEMM_COLUMNS - 1) / GEMM_COLUMNS;
    g.band = p->tile_m ? p->band_n : GEMM_COLUMNS;
    int64_t row_panels = (rows + VL - 1) / VL;
    unsigned char *at = args->scratch;
    g.b_panels = at;
    at += g.band / GEMM_COLUMNS * GEMM_B_PANEL;
    g.sums = (float *)(void *)at;
    at += row_panels * 2 * panels * GEMM_BLOCK * GEMM_UNIT;
    g.a_panels = at;
    if (!p->tile_m) {
        gemm_tile(&g, begin, end, 0, p->N);
        return;
    }
    int64_t down = (p->M + p->tile_m - 1) / p->tile_m;
    bool few = gemm_is_few(args, g.units);
    gemm_figures figures;
    g.figures = args->out[1] ? &figures : NULL;
    for (int64_t t = begin; t < end; t++) {
        int64_t row = t % down * p->tile_m, column = t / down * p->tile_n;
        if (g.figures)
            gemm_figures_begin(&figures, (mezzo_dtype)args->out_type[0]);
        if (few)
            gemm_few(args, &g, column, gemm_least(column + p->tile_n, p->N));
        else
            gemm_tile(&g, row, gemm_least(row + p->tile_m, p->M), column,
                      gemm_least(column + p->tile_n, p->N));
        if (g.figures)
            gemm_figures_end(&figures, (double *)args->out[1] + t * MZK_STATS);
    }
}

#endif
