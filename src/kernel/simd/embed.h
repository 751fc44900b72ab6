/* Rows of a table by number, and the gradients of the tables.  Included once per instruction set,
 * after its vec.h. */
#include "kernel/simd/masters.h"

/* In which form in[k] is, with its lower halves in in[lo]. */
INLINE master_kind table_kind(const mzk_args *args, int k, int lo) {
    if (args->in_type[k] == MEZZO_F32)
        return MASTER_F32;
    return args->in[lo] ? MASTER_SPLIT : MASTER_NEAREST;
}

/* The forms of both tables. */
typedef struct tables {
    forms weight, positions;
} tables;

/* Columns [j, j + lanes) of row r, of rows `word` and `position` of the tables. */
INLINE void embed_lanes(const mzk_args *args, types t, tables f, int64_t r, int64_t word,
                        int64_t position, int64_t j, int64_t lanes) {
    int64_t n = args->p.embed.n;
    vf sum = master_load(args, f.weight, 1, 4, word * n + j, lanes);
    if (args->in[2])
        sum = vf_add(sum, master_load(args, f.positions, 2, 5, position * n + j, lanes));
    lanes_store(args->out[0], t.out, r * n + j, sum, lanes);
}
INLINE void embed_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    const int32_t *ids = args->in[0], *start = args->in[3];
    int64_t n = args->p.embed.n, T = args->p.embed.T, first = start ? start[0] : 0;
    const tables f = {{.master = table_kind(args, 1, 4)}, {.master = table_kind(args, 2, 5)}};
    for (int64_t r = begin; r < end; r++) {
        int64_t position = first + r % T, j = 0;
        for (; j + VL <= n; j += VL)
            embed_lanes(args, t, f, r, ids[r], position, j, VL);
        if (j < n)
            embed_lanes(args, t, f, r, ids[r], position, j, n - j);
    }
}
INLINE bool is_table(const mzk_args *args, int k) {
    return !args->in[k] || args->in_type[k] == MEZZO_F32 || args->in_type[k] == MEZZO_BF16;
}
void MZK_IMPL(embed)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!is_table(args, 1) || !is_table(args, 2) ||
        !dispatch(embed_loop, args, begin, end, VARY_OUT))
        mzk_embed_ref(args, begin, end);
}

/* sum += the n elements of dy from element i on. */
INLINE void add_columns_of(float *sum, const void *dy, mezzo_dtype type, int64_t i, int64_t n) {
    int64_t j = 0;
    for (; j + VL <= n; j += VL)
        vf_store(sum, MEZZO_F32, j, vf_add(vf_load(sum, MEZZO_F32, j), vf_load(dy, type, i + j)));
    if (j < n)
        vf_store_n(sum, MEZZO_F32, j,
                   vf_add(vf_load_n(sum, MEZZO_F32, j, n - j), vf_load_n(dy, type, i + j, n - j)),
                   n - j);
}

/* Bit k: ids[k] is one of [begin, end). */
INLINE uint32_t ids_within(const int32_t *ids, int64_t begin, int64_t end) {
    vi id = vi_load((const uint32_t *)ids);
    return vm_bits(
        vm_and_not(vi_greater(vi_set((int32_t)end), id), vi_greater(vi_set((int32_t)begin), id)));
}

/* The first r of [from, rows) whose number is one of [begin, end); `rows` if there is none. */
INLINE int64_t next_row(const int32_t *ids, int64_t from, int64_t rows, int64_t begin,
                        int64_t end) {
    int64_t r = from;
    for (; r + VL <= rows; r += VL) {
        uint32_t found = ids_within(ids + r, begin, end);
        if (found)
            return r + __builtin_ctz(found);
    }
    while (r < rows && (ids[r] < begin || ids[r] >= end))
        r++;
    return r;
}

/* One scan of the numbers, VL at a time, finds the rows that belong to this chunk of the table. */
INLINE void embed_dw_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    float *dw = args->out[0];
    const void *dy = args->in[0];
    const int32_t *ids = args->in[1];
    int64_t n = args->p.embed.n, rows = args->p.embed.rows, r = 0;
    if (begin >= end)
        return;
    memset(dw + begin * n, 0, (size_t)((end - begin) * n) * sizeof *dw);
    for (; r + VL <= rows; r += VL)
        for (uint32_t found = ids_within(ids + r, begin, end); found; found &= found - 1) {
            int64_t at = r + __builtin_ctz(found);
            add_columns_of(dw + ids[at] * n, dy, t.a, at * n, n);
        }
    for (; r < rows; r++)
        if (ids[r] >= begin && ids[r] < end)
            add_columns_of(dw + ids[r] * n, dy, t.a, r * n, n);
}
void MZK_IMPL(embed_dw)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(embed_dw_loop, args, begin, end, VARY_A))
        mzk_embed_dw_ref(args, begin, end);
}

enum {
    SUM_COLUMNS = 1024 /* 4 KB of stack */
};

/* dw[v] += (the sum of the rows of v, of which `first` is the first): the sum by itself first, as
 * embed_dw and an addition behind it make it. */
INLINE void add_sum_of(const mzk_args *args, int64_t first, mezzo_dtype type) {
    const int32_t *ids = args->in[1];
    int64_t n = args->p.embed.n, rows = args->p.embed.rows, v = ids[first];
    float sum[SUM_COLUMNS];
    for (int64_t j = 0; j < n; j += SUM_COLUMNS) {
        int64_t m = n - j < SUM_COLUMNS ? n - j : SUM_COLUMNS;
        memset(sum, 0, (size_t)m * sizeof *sum);
        for (int64_t r = first; r < rows; r = next_row(ids, r + 1, rows, v, v + 1))
            add_columns_of(sum, args->in[0], type, r * n + j, m);
        add_columns_of((float *)args->out[0] + v * n + j, sum, MEZZO_F32, 0, m);
    }
}
/* Each distinct number is looked for in all rows: rows / VL compares a row, rows^2 / VL in all, and
 * no memory.  A table that is added to is that of the head too, whose products are 6 V n FLOP a
 * row: with V = 50257, n = 768 and 8192 rows that is 2.3e8 FLOP beside 512 compares, and the whole
 * gradient 0.1 % of a step.  An order of the rows, made beforehand, would save half of that. */
INLINE void embed_dw_add_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    float *dw = args->out[0];
    const float *other = args->in[2];
    const int32_t *ids = args->in[1];
    int64_t n = args->p.embed.n, rows = args->p.embed.rows;
    if (begin >= end)
        return;
    if (dw != other)
        memcpy(dw + begin * n, other + begin * n, (size_t)((end - begin) * n) * sizeof *dw);
    for (int64_t r = next_row(ids, 0, rows, begin, end); r < rows;
         r = next_row(ids, r + 1, rows, begin, end))
        if (next_row(ids, 0, r, ids[r], ids[r] + 1) == r) /* none before it */
            add_sum_of(args, r, t.a);
}
void MZK_IMPL(embed_dw_add)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || args->in_type[2] != MEZZO_F32 ||
        !dispatch(embed_dw_add_loop, args, begin, end, VARY_A))
        mzk_embed_dw_add_ref(args, begin, end);
}

INLINE void embed_dp_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    float *dp = args->out[0];
    const void *dy = args->in[0];
    const int32_t *start = args->in[1];
    int64_t n = args->p.embed.n, T = args->p.embed.T, rows = args->p.embed.rows;
    if (begin >= end)
        return;
    memset(dp + begin * n, 0, (size_t)((end - begin) * n) * sizeof *dp);
    for (int64_t p = begin; p < end; p++) {
        int64_t place = p - (start ? start[0] : 0);
        for (int64_t r = place; place >= 0 && place < T && r < rows; r += T)
            add_columns_of(dp + p * n, dy, t.a, r * n, n);
    }
}
void MZK_IMPL(embed_dp)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(embed_dp_loop, args, begin, end, VARY_A))
        mzk_embed_dp_ref(args, begin, end);
}
