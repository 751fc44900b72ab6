/* silu(a) b of rows [a, b], and its gradient.  Included once per instruction set, after its vec.h.
 *
 * s = 1 / (1 + e) with e = exp(-a); silu(a) = a s, 1 - s = s e. */
#include "kernel/simd/exp.h"
#include "kernel/simd/lanes.h"

/* Below a = -86: |silu| and |silu'| are below 2^-117, and 0 is returned instead, as at minus
 * infinity.  exp(86) < 2^125 keeps s normal. */
#define SILU_END (-86.0f)
/* Above a = 104 e is 0: a is held there, so that infinity does not meet that 0. */
#define SILU_HELD 128.0f

INLINE vf silu_sigmoid(vf a, vf *e) {
    *e = vf_exp(vf_sub(vf_zero(), a));
    return vf_div(vf_set(1), vf_add(vf_set(1), *e));
}
INLINE vf silu_ended(vf a, vf x) {
    return vf_select(vf_greater(vf_set(SILU_END), a), vf_zero(), x);
}

INLINE void swiglu_lanes(void *y, const void *x, types t, int64_t row, int64_t j, int64_t n,
                         int64_t lanes) {
    vf a = lanes_load(x, t.a, 2 * row + j, lanes), b = lanes_load(x, t.a, 2 * row + n + j, lanes);
    vf e = vf_exp(vf_sub(vf_zero(), a));
    vf silu = silu_ended(a, vf_div(a, vf_add(vf_set(1), e)));
    lanes_store(y, t.out, row + j, vf_mul(silu, b), lanes);
}
INLINE void swiglu_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t n = args->p.e.n;
    for (int64_t r = begin; r < end; r++) {
        int64_t j = 0;
        for (; j + VL <= n; j += VL)
            swiglu_lanes(args->out[0], args->in[0], t, r * n, j, n, VL);
        if (j < n)
            swiglu_lanes(args->out[0], args->in[0], t, r * n, j, n, n - j);
    }
}
void MZK_IMPL(swiglu)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(swiglu_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_swiglu_ref(args, begin, end);
}

INLINE void swiglu_bwd_lanes(const mzk_args *args, types t, int64_t row, int64_t j, int64_t n,
                             int64_t lanes) {
    const void *x = args->in[1];
    vf dy = lanes_load(args->in[0], t.a, row + j, lanes);
    vf a = lanes_load(x, t.b, 2 * row + j, lanes), b = lanes_load(x, t.b, 2 * row + n + j, lanes);
    vf e, s = silu_sigmoid(a, &e), held = vf_min(vf_set(SILU_HELD), a);
    vf slope = silu_ended(a, vf_fma(vf_mul(held, s), vf_mul(s, e), s));
    vf silu = silu_ended(a, vf_mul(a, s));
    lanes_store(args->out[0], t.out, 2 * row + j, vf_mul(vf_mul(dy, slope), b), lanes);
    lanes_store(args->out[0], t.out, 2 * row + n + j, vf_mul(dy, silu), lanes);
}
INLINE void swiglu_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t n = args->p.e.n;
    for (int64_t r = begin; r < end; r++) {
        int64_t j = 0;
        for (; j + VL <= n; j += VL)
            swiglu_bwd_lanes(args, t, r * n, j, n, VL);
        if (j < n)
            swiglu_bwd_lanes(args, t, r * n, j, n, n - j);
    }
}
void MZK_IMPL(swiglu_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(swiglu_bwd_loop, args, begin, end, VARY_OUT | VARY_A | VARY_B))
        mzk_swiglu_bwd_ref(args, begin, end);
}
