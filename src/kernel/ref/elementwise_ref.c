/* Reference: one element in, one element out. */
#include <string.h>

#include "base/rng.h"
#include "kernel/ref/ref.h"
#include "num/split.h"

void mzk_cast_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, get(args, 0, i));
}

void mzk_cast_away_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        if (args->out_type[0] == MEZZO_BF16)
            ((mezzo_bf16 *)args->out[0])[i] = mzi_bf16_round_away((float)get(args, 0, i));
        else
            put(args, 0, i, get(args, 0, i));
}

void mzk_fill_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, (double)args->p.e.alpha);
}

void mzk_copy_ref(const mzk_args *args, int64_t begin, int64_t end) {
    size_t bytes = mezzo_dtype_bytes((mezzo_dtype)args->out_type[0]);
    if (begin < end)
        memcpy((char *)args->out[0] + (size_t)begin * bytes,
               (const char *)args->in[0] + (size_t)begin * bytes, (size_t)(end - begin) * bytes);
}

void mzk_relu_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        double x = get(args, 0, i);
        put(args, 0, i, x > 0 || isnan(x) ? x : 0);
    }
}

void mzk_relu_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        double dy = get(args, 0, i), y = get(args, 1, i);
        put(args, 0, i, isnan(y) ? y : y > 0 ? dy : 0);
    }
}

/* With u = sqrt(2/pi) (x + 0.044715 x^3):  1/2 (1 + tanh u) = 1 / (1 + exp(-2u)), which keeps its
 * relative precision where 1 + tanh u cancels.  z = 2u. */
static double gelu_z(double x) {
    return 2 * sqrt(M_2_PI) * (x + 0.044715 * x * x * x);
}

void mzk_gelu_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        double x = get(args, 0, i);
        put(args, 0, i, x == -HUGE_VAL ? -0.0 : x / (1 + exp(-gelu_z(x))));
    }
}

/* gelu' = s + x z' s (1 - s) with s = 1 / (1 + exp(-z)); its limits are 0 and 1. */
static double gelu_slope(double x) {
    if (isinf(x))
        return x > 0 ? 1 : 0;
    double z = gelu_z(x), dz = 2 * sqrt(M_2_PI) * (1 + 3 * 0.044715 * x * x);
    double s = 1 / (1 + exp(-z)), q = 1 / (1 + exp(z));
    return s + x * dz * s * q;
}

void mzk_gelu_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, get(args, 0, i) * gelu_slope(get(args, 1, i)));
}

void mzk_add_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, get(args, 0, i) + get(args, 1, i));
}

void mzk_mul_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, get(args, 0, i) * get(args, 1, i));
}

void mzk_scale_ref(const mzk_args *args, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, (double)args->p.e.alpha * get(args, 0, i));
}

void mzk_scale_by_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double factor = (double)args->p.e.alpha * get(args, 1, 0);
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, factor * get(args, 0, i));
}

void mzk_broadcast_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double value = (double)args->p.e.alpha * get(args, 0, 0);
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, value);
}

void mzk_add_row_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t n = args->p.e.n;
    for (int64_t r = begin; r < end; r++)
        for (int64_t j = 0; j < n; j++)
            put(args, 0, r * n + j, get(args, 0, r * n + j) + get(args, 1, j));
}

void mzk_dropout_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const int32_t *key = args->in[1];
    uint64_t seed = (uint32_t)key[0] | (uint64_t)(uint32_t)key[1] << 32;
    int64_t n = args->p.e.n, first = key[3] * n; /* element 0 of this call in the whole batch */
    for (int64_t i = begin * n; i < end * n; i++) {
        uint32_t word[4];
        uint64_t element = (uint64_t)(first + i);
        mzi_rng4(word, seed, args->p.e.stream, element / 4, (uint32_t)key[2]);
        double x = get(args, 0, i);
        bool keep = mzi_uniform(word[element % 4]) >= args->p.e.alpha;
        put(args, 0, i, keep ? (double)args->p.e.beta * x : isnan(x) ? x : 0);
    }
}
