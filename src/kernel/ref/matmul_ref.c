/* Reference: c = a b + bias. */
#include "kernel/ref/ref.h"

static double old(const mzk_args *args, int64_t i) {
    return mzi_load(args->out[0], (mezzo_dtype)args->out_type[0], i);
}

static void rectangle(const mzk_args *args, int64_t row, int64_t row_end, int64_t column,
                      int64_t column_end) {
    const mzk_matmul_params *p = &args->p.matmul;
    for (int64_t m = row; m < row_end; m++)
        for (int64_t n = column; n < column_end; n++) {
            double sum = p->accumulate ? old(args, m * p->N + n) : 0;
            for (int64_t k = 0; k < p->K; k++)
                sum += get(args, 0, p->transpose_a ? k * p->M + m : m * p->K + k) *
                       get(args, 1, p->transpose_b ? n * p->K + k : k * p->N + n);
            put(args, 0, m * p->N + n, sum + (args->in[2] ? get(args, 2, n) : 0));
        }
}

/* Of the elements of a tile as they are stored. */
static void stats(const mzk_args *args, double *part, int64_t row, int64_t row_end, int64_t column,
                  int64_t column_end) {
    mezzo_dtype type = (mezzo_dtype)args->out_type[0];
    for (int k = 0; k < MZK_STATS; k++)
        part[k] = 0;
    for (int64_t m = row; m < row_end; m++)
        for (int64_t n = column; n < column_end; n++)
            add_stats(part, old(args, m * args->p.matmul.N + n), mzi_smallest_normal(type));
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

void mzk_matmul_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_matmul_params *p = &args->p.matmul;
    if (!p->tile_m) {
        rectangle(args, begin, end, 0, p->N);
        return;
    }
    int64_t down = (p->M + p->tile_m - 1) / p->tile_m;
    for (int64_t t = begin; t < end; t++) {
        int64_t row = t % down * p->tile_m, column = t / down * p->tile_n;
        int64_t row_end = least(row + p->tile_m, p->M);
        int64_t column_end = least(column + p->tile_n, p->N);
        rectangle(args, row, row_end, column, column_end);
        if (args->out[1])
            stats(args, (double *)args->out[1] + t * MZK_STATS, row, row_end, column, column_end);
    }
}
