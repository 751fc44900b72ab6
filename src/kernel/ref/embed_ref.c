/* Reference: rows of a table by number, and the gradients of the tables. */
#include "kernel/ref/ref.h"

static int32_t id_of(const mzk_args *args, int k, int64_t r) {
    return ((const int32_t *)args->in[k])[r];
}

void mzk_embed_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.embed.n, start = args->in[3] ? id_of(args, 3, 0) : 0;
    for (int64_t r = begin; r < end; r++) {
        int64_t word = id_of(args, 0, r), place = start + r % args->p.embed.T;
        for (int64_t j = 0; j < n; j++) {
            double position = args->in[2] ? get_master(args, 2, 5, place * n + j) : 0;
            put(args, 0, r * n + j, get_master(args, 1, 4, word * n + j) + position);
        }
    }
}

/* Columns of a row that are summed in one pass over the numbers. */
enum {
    TILE = 64
};

/* A sum as it would be stored before another is added to it. */
static double as_stored(const mzk_args *args, double sum) {
    return args->out_type[0] == MEZZO_F32 ? (double)(float)sum : sum;
}

/* Row v of the gradient, added to operand `other` if that is not 0. */
static void sum_tile(const mzk_args *args, int other, int64_t v, int64_t first, int64_t columns) {
    int64_t n = args->p.embed.n;
    double sum[TILE] = {0};
    bool any = false;
    for (int64_t r = 0; r < args->p.embed.rows; r++) {
        if (id_of(args, 1, r) != v)
            continue;
        any = true;
        for (int64_t j = 0; j < columns; j++)
            sum[j] += get(args, 0, r * n + first + j);
    }
    for (int64_t j = 0; j < columns; j++) {
        int64_t at = v * n + first + j;
        if (!other)
            put(args, 0, at, sum[j]);
        else
            put(args, 0, at, (any ? as_stored(args, sum[j]) : -0.0) + get(args, other, at));
    }
}

static void sum_rows(const mzk_args *args, int other, int64_t begin, int64_t end) {
    int64_t n = args->p.embed.n;
    for (int64_t v = begin; v < end; v++)
        for (int64_t j = 0; j < n; j = chunk_end(j, TILE, n))
            sum_tile(args, other, v, j, chunk_end(j, TILE, n) - j);
}

void mzk_embed_dw_ref(const mzk_args *args, int64_t begin, int64_t end) {
    sum_rows(args, 0, begin, end);
}

void mzk_embed_dw_add_ref(const mzk_args *args, int64_t begin, int64_t end) {
    sum_rows(args, 2, begin, end);
}

void mzk_embed_dp_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.embed.n, T = args->p.embed.T, rows = args->p.embed.rows;
    int64_t start = args->in[1] ? id_of(args, 1, 0) : 0;
    for (int64_t p = begin; p < end; p++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            int64_t t = p - start;
            for (int64_t r = t; t >= 0 && t < T && r < rows; r += T)
                sum += get(args, 0, r * n + j);
            put(args, 0, p * n + j, sum);
        }
}
