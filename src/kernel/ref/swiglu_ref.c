/* Reference: silu(a) b of rows [a, b], and its gradient. */
#include "kernel/ref/ref.h"

/* a s with s = 1 / (1 + exp(-a)); its limit at minus infinity is 0. */
static double silu(double a) {
    return a == -HUGE_VAL ? -0.0 : a / (1 + exp(-a));
}

/* s (1 + a (1 - s)); its limits are 0 and 1. */
static double silu_slope(double a) {
    if (isinf(a))
        return a > 0 ? 1 : 0;
    double s = 1 / (1 + exp(-a)), q = 1 / (1 + exp(a));
    return s * (1 + a * q);
}

void mzk_swiglu_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.e.n;
    for (int64_t r = begin; r < end; r++)
        for (int64_t j = 0; j < n; j++) {
            double a = get(args, 0, 2 * r * n + j), b = get(args, 0, (2 * r + 1) * n + j);
            put(args, 0, r * n + j, silu(a) * b);
        }
}

void mzk_swiglu_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.e.n;
    for (int64_t r = begin; r < end; r++)
        for (int64_t j = 0; j < n; j++) {
            double a = get(args, 1, 2 * r * n + j), b = get(args, 1, (2 * r + 1) * n + j);
            double dy = get(args, 0, r * n + j);
            put(args, 0, 2 * r * n + j, dy * silu_slope(a) * b);
            put(args, 0, (2 * r + 1) * n + j, dy * silu(a));
        }
}
