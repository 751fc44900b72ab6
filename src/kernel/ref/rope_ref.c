/* Reference: rotary positions.  The table is made in FP64 wherever it is used. */
#include "kernel/ref/ref.h"

void mzk_rope_table_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const int32_t *start = args->in[0];
    int64_t D = args->p.rope.D, half = D / 2;
    for (int64_t i = 0; i < half; i++) {
        double w = pow(args->p.rope.theta, -2.0 * (double)i / (double)D);
        for (int64_t t = begin; t < end; t++) {
            double angle = (double)(t + (start ? start[0] : 0)) * w;
            put(args, 0, t * D + i, cos(angle));
            put(args, 0, t * D + half + i, sin(angle));
        }
    }
}

/* Both of a pair are read before either is written: y may take the place of x. */
static void turn(const mzk_args *args, int64_t head, int64_t row) {
    int64_t half = args->p.rope.D / 2;
    for (int64_t i = 0; i < half; i++) {
        double c = get(args, 1, row + i), s = get(args, 1, row + half + i);
        double a = get(args, 0, head + i), b = get(args, 0, head + half + i);
        s = args->p.rope.inverse ? 0 - s : s;
        put(args, 0, head + i, a * c - b * s);
        put(args, 0, head + half + i, b * c + a * s);
    }
}

void mzk_rope_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.rope.n, D = args->p.rope.D, turned = args->p.rope.heads * D;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t at = 0; at < turned; at += D)
            turn(args, r * n + at, r % args->p.rope.T * D);
        for (int64_t j = turned; j < n; j++)
            put(args, 0, r * n + j, get(args, 0, r * n + j));
    }
}
