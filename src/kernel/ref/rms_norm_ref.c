/* Reference: rows of [rows, C] over the root of their mean square. */
#include "kernel/ref/ref.h"

void mzk_rms_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C;
    for (int64_t r = begin; r < end; r++) {
        double squares = 0;
        for (int64_t i = r * C; i < (r + 1) * C; i++)
            squares += get(args, 0, i) * get(args, 0, i);
        double rstd = 1 / sqrt(squares / (double)C + (double)args->p.norm.eps);
        for (int64_t c = 0; c < C; c++)
            put(args, 0, r * C + c, get(args, 0, r * C + c) * rstd * get(args, 1, c));
        put(args, 1, r, rstd);
    }
}

static double xhat_at(const mzk_args *args, int64_t r, int64_t c) {
    return get(args, 1, r * args->p.norm.C + c) * get(args, 2, r);
}

static void gamma_sums(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C, slot = begin / args->p.norm.grain * C;
    for (int64_t c = 0; c < C; c++) {
        double dot = 0;
        for (int64_t r = begin; r < end; r++)
            dot += get(args, 0, r * C + c) * xhat_at(args, r, c);
        put(args, 1, slot + c, dot);
    }
}

/* The sums come first: dx may take the place of dy. */
void mzk_rms_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t C = args->p.norm.C, grain = args->p.norm.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        gamma_sums(args, b, chunk_end(b, grain, end));
    for (int64_t r = begin; r < end; r++) {
        double mean_dot = 0;
        for (int64_t c = 0; c < C; c++)
            mean_dot += get(args, 0, r * C + c) * get(args, 3, c) * xhat_at(args, r, c) / (double)C;
        for (int64_t c = 0; c < C; c++) {
            double g = get(args, 0, r * C + c) * get(args, 3, c);
            put(args, 0, r * C + c, get(args, 2, r) * (g - xhat_at(args, r, c) * mean_dot));
        }
    }
}
