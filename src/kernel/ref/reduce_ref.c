/* Reference: sums over chunks, and the sum of the chunks. */
#include "kernel/ref/ref.h"

void mzk_sum_part_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t grain = args->p.e.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end)) {
        double sum = 0;
        for (int64_t i = b; i < chunk_end(b, grain, end); i++)
            sum += get(args, 0, i);
        put(args, 0, b / grain, sum);
    }
}

void mzk_colsum_part_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.e.n, grain = args->p.e.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t r = b; r < chunk_end(b, grain, end); r++)
                sum += get(args, 0, r * n + j);
            put(args, 0, b / grain * n + j, sum);
        }
}

void mzk_sum_parts_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.e.n;
    for (int64_t j = begin; j < end; j++) {
        double sum = 0;
        for (int64_t k = 0; k < args->p.e.parts; k++)
            sum += get(args, 0, k * n + j);
        put(args, 0, j, (double)args->p.e.alpha * sum);
    }
}

void mzk_stats_part_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t grain = args->p.e.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end)) {
        double part[MZK_STATS] = {0};
        for (int64_t i = b; i < chunk_end(b, grain, end); i++)
            add_stats(part, get(args, 0, i), (double)args->p.e.alpha);
        for (int k = 0; k < MZK_STATS; k++)
            put(args, 0, b / grain * MZK_STATS + k, part[k]);
    }
}
