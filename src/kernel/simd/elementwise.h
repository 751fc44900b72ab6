/* One element in, one element out.  Included once per instruction set, after its vec.h, with
 * MZK_IMPL(family) naming the functions. */
#include "kernel/simd/dispatch.h"
#include "kernel/simd/exp.h"

/* `k` is a constant of the call. */
typedef vf unary(vf x, vf k);
typedef vf binary(vf a, vf b, vf k);

INLINE void map1(const mzk_args *args, int64_t begin, int64_t end, types t, unary *f, vf k) {
    void *y = args->out[0];
    const void *x = args->in[0];
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        vf_store(y, t.out, i, f(vf_load(x, t.a, i), k));
    if (i < end)
        vf_store_n(y, t.out, i, f(vf_load_n(x, t.a, i, end - i), k), end - i);
}

INLINE void map2(const mzk_args *args, int64_t begin, int64_t end, types t, binary *f, vf k) {
    void *y = args->out[0];
    const void *a = args->in[0], *b = args->in[1];
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        vf_store(y, t.out, i, f(vf_load(a, t.a, i), vf_load(b, t.b, i), k));
    if (i < end) {
        int64_t n = end - i;
        vf_store_n(y, t.out, i, f(vf_load_n(a, t.a, i, n), vf_load_n(b, t.b, i, n), k), n);
    }
}

INLINE vf same(vf x, vf k) {
    (void)k;
    return x;
}
INLINE void cast_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    map1(args, begin, end, t, same, vf_zero());
}
void MZK_IMPL(cast)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(cast_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_cast_ref(args, begin, end);
}

INLINE vf relu_of(vf x, vf zero) {
    return vf_keep(vf_not_at_most(x, zero), x);
}
INLINE void relu_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    map1(args, begin, end, t, relu_of, vf_zero());
}
void MZK_IMPL(relu)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(relu_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_relu_ref(args, begin, end);
}

INLINE vf relu_bwd_of(vf dy, vf y, vf zero) {
    return vf_select(vf_is_nan(y), y, vf_keep(vf_greater(y, zero), dy));
}
INLINE void relu_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    map2(args, begin, end, t, relu_bwd_of, vf_zero());
}
void MZK_IMPL(relu_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(relu_bwd_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_relu_bwd_ref(args, begin, end);
}

/* gelu(x) = x / (1 + exp(-z)) with z = 2 sqrt(2/pi) (x + 0.044715 x^3). */
#define GELU_K1 1.5957691216057308f /* 2 sqrt(2/pi) */
#define GELU_K3 (1.5957691216057308f * 0.044715f)
/* The same of z / ln 2. */
#define GELU_EXPONENT1 2.302208198144325f
#define GELU_EXPONENT3 (float)(2.302208198144325 * 0.044715)
/* Where -z / ln 2 is larger, x < -9.8: |gelu| and |gelu'| are below 2^-116, and 0 is returned
 * instead, as at minus infinity.  2^124 keeps 1 / (1 + exp(-z)) normal. */
#define GELU_END 124.0f

INLINE vf gelu_exponent(vf x) { /* -z / ln 2 */
    return vf_mul(x, vf_fma(vf_mul(x, x), vf_set(-GELU_EXPONENT3), vf_set(-GELU_EXPONENT1)));
}
INLINE void gelu_block(vf *y, const vf *x, int count) {
    vf exponent[SIDE], e[SIDE];
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        e[k] = exponent[k] = gelu_exponent(x[k]);
    vf_exp2s(e, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        vf quotient = vf_mul(x[k], vf_reciprocal(vf_add(vf_set(1), e[k])));
        y[k] = vf_select(vf_greater(exponent[k], vf_set(GELU_END)), vf_zero(), quotient);
    }
}
INLINE void gelu_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    void *y = args->out[0];
    const void *x = args->in[0];
    int64_t i = begin;
    for (; i + SIDE * VL <= end; i += SIDE * VL) {
        vf block[SIDE];
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++)
            block[k] = vf_load(x, t.a, i + k * VL);
        gelu_block(block, block, SIDE);
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++)
            vf_store(y, t.out, i + k * VL, block[k]);
    }
    for (; i < end; i += VL) {
        int64_t n = end - i < VL ? end - i : VL;
        vf one = vf_load_n(x, t.a, i, n);
        gelu_block(&one, &one, 1);
        vf_store_n(y, t.out, i, one, n);
    }
}
void MZK_IMPL(gelu)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(gelu_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_gelu_ref(args, begin, end);
}

/* gelu' = s + x z' s q with s = 1 / (1 + exp(-z)) and q = 1 - s = s exp(-z).  At x = 16 q is 0
 * already: x is held there, so that infinity does not meet that 0.  dy becomes dy gelu'(x). */
INLINE void gelu_bwd_block(vf *dy, const vf *x, int count) {
    vf exponent[SIDE], e[SIDE], s[SIDE];
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        e[k] = exponent[k] = gelu_exponent(x[k]);
    vf_exp2s(e, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        s[k] = vf_reciprocal(vf_add(vf_set(1), e[k]));
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        vf held = vf_min(vf_set(16), x[k]);
        vf dz = vf_fma(vf_mul(held, held), vf_set(3 * GELU_K3), vf_set(GELU_K1));
        vf slope = vf_fma(vf_mul(vf_mul(held, dz), s[k]), vf_mul(s[k], e[k]), s[k]);
        slope = vf_select(vf_greater(exponent[k], vf_set(GELU_END)), vf_zero(), slope);
        dy[k] = vf_mul(dy[k], slope);
    }
}
INLINE void gelu_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    void *dx = args->out[0];
    const void *dy = args->in[0], *x = args->in[1];
    int64_t i = begin;
    for (; i + SIDE * VL <= end; i += SIDE * VL) {
        vf slope[SIDE], at[SIDE];
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++) {
            slope[k] = vf_load(dy, t.a, i + k * VL);
            at[k] = vf_load(x, t.b, i + k * VL);
        }
        gelu_bwd_block(slope, at, SIDE);
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++)
            vf_store(dx, t.out, i + k * VL, slope[k]);
    }
    for (; i < end; i += VL) {
        int64_t n = end - i < VL ? end - i : VL;
        vf slope = vf_load_n(dy, t.a, i, n), at = vf_load_n(x, t.b, i, n);
        gelu_bwd_block(&slope, &at, 1);
        vf_store_n(dx, t.out, i, slope, n);
    }
}
void MZK_IMPL(gelu_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(gelu_bwd_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_gelu_bwd_ref(args, begin, end);
}

INLINE vf add_of(vf a, vf b, vf k) {
    (void)k;
    return vf_add(a, b);
}
INLINE void add_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    map2(args, begin, end, t, add_of, vf_zero());
}
void MZK_IMPL(add)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(add_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_add_ref(args, begin, end);
}

INLINE vf mul_of(vf a, vf b, vf k) {
    (void)k;
    return vf_mul(a, b);
}
INLINE void mul_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    map2(args, begin, end, t, mul_of, vf_zero());
}
void MZK_IMPL(mul)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(mul_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_mul_ref(args, begin, end);
}

INLINE void scale_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    map1(args, begin, end, t, vf_mul, vf_set(args->p.e.alpha));
}
void MZK_IMPL(scale)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(scale_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_scale_ref(args, begin, end);
}

INLINE void scale_by_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    double s = mzi_load(args->in[1], (mezzo_dtype)args->in_type[1], 0);
    map1(args, begin, end, t, vf_mul, vf_set((float)((double)args->p.e.alpha * s)));
}
void MZK_IMPL(scale_by)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(scale_by_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_scale_by_ref(args, begin, end);
}
