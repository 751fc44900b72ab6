/* Reference: layer normalisation of each row of [rows, C]. */
#include "kernel/ref/ref.h"

void mzk_ln_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C;
    for (int64_t r = begin; r < end; r++) {
        double sum = 0, squares = 0;
        for (int64_t c = 0; c < C; c++)
            sum += get(args, 0, r * C + c);
        double mean = sum / (double)C;
        for (int64_t c = 0; c < C; c++) {
            double centred = get(args, 0, r * C + c) - mean;
            squares += centred * centred;
        }
        double rstd = 1 / sqrt(squares / (double)C + (double)args->p.norm.eps);
        for (int64_t c = 0; c < C; c++) {
            double xhat = (get(args, 0, r * C + c) - mean) * rstd;
            double beta = args->in[2] ? get(args, 2, c) : 0;
            put(args, 0, r * C + c, xhat * get(args, 1, c) + beta);
        }
        put(args, 1, r, mean);
        put(args, 2, r, rstd);
    }
}

static double xhat_at(const mzk_args *args, int64_t r, int64_t c) {
    return (get(args, 1, r * args->p.norm.C + c) - get(args, 2, r)) * get(args, 3, r);
}

static void parameter_sums(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C, slot = begin / args->p.norm.grain * C;
    for (int64_t c = 0; c < C; c++) {
        double sum = 0, dot = 0;
        for (int64_t r = begin; r < end; r++) {
            double dy = get(args, 0, r * C + c);
            sum += dy;
            dot += dy * xhat_at(args, r, c);
        }
        put(args, 1, slot + c, dot);
        if (args->out[2])
            put(args, 2, slot + c, sum);
    }
}

/* The sums come first: dx may take the place of dy. */
void mzk_ln_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C, grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        parameter_sums(args, b, chunk_end(b, grain, end));
    for (int64_t r = begin; r < end; r++) {
        double mean_g = 0, mean_dot = 0;
        for (int64_t c = 0; c < C; c++) {
            double g = get(args, 0, r * C + c) * get(args, 4, c);
            mean_g += g / (double)C;
            mean_dot += g * xhat_at(args, r, c) / (double)C;
        }
        for (int64_t c = 0; c < C; c++) {
            double g = get(args, 0, r * C + c) * get(args, 4, c);
            double rest = g - mean_g - xhat_at(args, r, c) * mean_dot;
            put(args, 0, r * C + c, get(args, 3, r) * rest);
        }
    }
}
