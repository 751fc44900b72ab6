/* Reference: batch normalisation over the rows of [rows, C]. */
#include "kernel/ref/ref.h"

void mzk_bn_part_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C, grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        for (int64_t c = 0; c < C; c++) {
            double sum = 0, squares = 0;
            for (int64_t r = b; r < chunk_end(b, grain, end); r++) {
                double x = get(args, 0, r * C + c);
                sum += x;
                squares += x * x;
            }
            put(args, 0, b / grain * 2 * C + c, sum);
            put(args, 0, b / grain * 2 * C + C + c, squares);
        }
}

void mzk_bn_stats_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C;
    double rows = (double)args->p.norm.rows, momentum = (double)args->p.norm.momentum;
    if (begin >= end)
        return;
    for (int64_t c = 0; c < C; c++) {
        double sum = 0, squares = 0;
        for (int64_t k = 0; k < args->p.norm.parts; k++) {
            sum += get(args, 0, k * 2 * C + c);
            squares += get(args, 0, k * 2 * C + C + c);
        }
        double mean = sum / rows, var = squares / rows - mean * mean;
        if (var < 0) /* cancellation; a NaN stays */
            var = 0;
        double unbiased = rows > 1 ? var * (rows / (rows - 1)) : var;
        double old_mean = get(args, 1, c), old_var = get(args, 2, c);
        put(args, 0, c, mean);
        put(args, 1, c, 1 / sqrt(var + (double)args->p.norm.eps));
        put(args, 2, c, (1 - momentum) * old_mean + momentum * mean);
        put(args, 3, c, (1 - momentum) * old_var + momentum * unbiased);
    }
}

void mzk_bn_rstd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    if (begin >= end)
        return;
    for (int64_t c = 0; c < args->p.norm.C; c++)
        put(args, 0, c, 1 / sqrt(get(args, 0, c) + (double)args->p.norm.eps));
}

void mzk_bn_apply_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C;
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < C; c++) {
            double xhat = (get(args, 0, r * C + c) - get(args, 1, c)) * get(args, 2, c);
            put(args, 0, r * C + c, xhat * get(args, 3, c) + get(args, 4, c));
        }
}

void mzk_bn_bwd_part_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C, grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        for (int64_t c = 0; c < C; c++) {
            double sum = 0, dot = 0;
            for (int64_t r = b; r < chunk_end(b, grain, end); r++) {
                double dy = get(args, 0, r * C + c);
                double xhat = (get(args, 1, r * C + c) - get(args, 2, c)) * get(args, 3, c);
                sum += dy;
                dot += dy * xhat;
            }
            put(args, 0, b / grain * C + c, dot);
            put(args, 1, b / grain * C + c, sum);
        }
}

void mzk_bn_bwd_apply_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C;
    double rows = (double)args->p.norm.rows;
    for (int64_t r = begin; r < end; r++)
        for (int64_t c = 0; c < C; c++) {
            double dy = get(args, 0, r * C + c), rstd = get(args, 3, c), gamma = get(args, 4, c);
            double xhat = (get(args, 1, r * C + c) - get(args, 2, c)) * rstd;
            double dbeta = get(args, 5, c), dgamma = get(args, 6, c);
            put(args, 0, r * C + c, gamma * rstd * (dy - dbeta / rows - xhat * dgamma / rows));
        }
}
