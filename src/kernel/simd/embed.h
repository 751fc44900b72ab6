/* Rows of a table by number, and the gradients of the tables.  Included once per instruction set,
 * after its vec.h. */
#include "kernel/simd/lanes.h"

INLINE void embed_lanes(void *y, mezzo_dtype type, int64_t i, const float *word,
                        const float *position, int64_t j, int64_t lanes) {
    vf sum = lanes_load(word, MEZZO_F32, j, lanes);
    if (position)
        sum = vf_add(sum, lanes_load(position, MEZZO_F32, j, lanes));
    lanes_store(y, type, i + j, sum, lanes);
}
INLINE void embed_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    void *y = args->out[0];
    const int32_t *ids = args->in[0], *start = args->in[3];
    const float *weight = args->in[1], *positions = args->in[2];
    int64_t n = args->p.embed.n, T = args->p.embed.T, first = start ? start[0] : 0;
    for (int64_t r = begin; r < end; r++) {
        const float *word = weight + ids[r] * n;
        const float *position = positions ? positions + (first + r % T) * n : NULL;
        int64_t j = 0;
        for (; j + VL <= n; j += VL)
            embed_lanes(y, t.out, r * n, word, position, j, VL);
        if (j < n)
            embed_lanes(y, t.out, r * n, word, position, j, n - j);
    }
}
void MZK_IMPL(embed)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->in_type[1] != MEZZO_F32 || !dispatch(embed_loop, args, begin, end, VARY_OUT))
        mzk_embed_ref(args, begin, end);
}

/* sum += row r of dy. */
INLINE void add_row_of(float *sum, const void *dy, mezzo_dtype type, int64_t r, int64_t n) {
    int64_t j = 0;
    for (; j + VL <= n; j += VL)
        vf_store(sum, MEZZO_F32, j,
                 vf_add(vf_load(sum, MEZZO_F32, j), vf_load(dy, type, r * n + j)));
    if (j < n)
        vf_store_n(
            sum, MEZZO_F32, j,
            vf_add(vf_load_n(sum, MEZZO_F32, j, n - j), vf_load_n(dy, type, r * n + j, n - j)),
            n - j);
}

/* Bit k: ids[k] is one of [begin, end). */
INLINE uint32_t ids_within(const int32_t *ids, int64_t begin, int64_t end) {
    vi id = vi_load((const uint32_t *)ids);
    return vm_bits(
        vm_and_not(vi_greater(vi_set((int32_t)end), id), vi_greater(vi_set((int32_t)begin), id)));
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
            add_row_of(dw + ids[at] * n, dy, t.a, at, n);
        }
    for (; r < rows; r++)
        if (ids[r] >= begin && ids[r] < end)
            add_row_of(dw + ids[r] * n, dy, t.a, r, n);
}
void MZK_IMPL(embed_dw)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(embed_dw_loop, args, begin, end, VARY_A))
        mzk_embed_dw_ref(args, begin, end);
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
            add_row_of(dp + p * n, dy, t.a, r, n);
    }
}
void MZK_IMPL(embed_dp)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(embed_dp_loop, args, begin, end, VARY_A))
        mzk_embed_dp_ref(args, begin, end);
}
