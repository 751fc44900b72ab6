/* Optimizer updates.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/lanes.h"

/* Constants of an update, combined in FP64 and rounded once. */
typedef struct adamw_constants {
    vf factor, beta1, keep1, beta2, keep2, step, correct2, decay, eps;
} adamw_constants;

INLINE adamw_constants adamw_prepare(const mzk_args *args) {
    const float *s = args->in[4];
    double beta1 = (double)args->p.optim.beta1, beta2 = (double)args->p.optim.beta2;
    double lr = (double)s[0] * (double)args->p.optim.lr_scale;
    return (adamw_constants){
        .factor = vf_set(s[1]),
        .beta1 = vf_set(args->p.optim.beta1),
        .keep1 = vf_set((float)(1 - beta1)),
        .beta2 = vf_set(args->p.optim.beta2),
        .keep2 = vf_set((float)(1 - beta2)),
        .step = vf_set((float)(lr * (double)s[2])),
        .correct2 = vf_set(s[3]),
        .decay = vf_set((float)(lr * (double)args->p.optim.weight_decay)),
        .eps = vf_set(args->p.optim.eps),
    };
}

INLINE void adamw_lanes(const mzk_args *args, types t, const adamw_constants *k, int64_t i,
                        int64_t lanes) {
    vf g = vf_mul(lanes_load(args->in[0], t.a, i, lanes), k->factor);
    vf w = lanes_load(args->in[1], MEZZO_F32, i, lanes);
    vf m = lanes_load(args->in[2], MEZZO_F32, i, lanes);
    vf v = lanes_load(args->in[3], MEZZO_F32, i, lanes);
    m = vf_fma(k->beta1, m, vf_mul(k->keep1, g));
    v = vf_fma(k->beta2, v, vf_mul(vf_mul(k->keep2, g), g));
    w = vf_fnma(k->decay, w, w);
    vf root = vf_add(vf_sqrt(vf_mul(v, k->correct2)), k->eps);
    w = vf_sub(w, vf_div(vf_mul(k->step, m), root));
    lanes_store(args->out[0], MEZZO_F32, i, w, lanes);
    lanes_store(args->out[1], MEZZO_F32, i, m, lanes);
    lanes_store(args->out[2], MEZZO_F32, i, v, lanes);
}
INLINE void adamw_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    mzk_args local = *args; /* its pointers stay in registers */
    adamw_constants k = adamw_prepare(args);
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        adamw_lanes(&local, t, &k, i, VL);
    if (i < end)
        adamw_lanes(&local, t, &k, i, end - i);
}
void MZK_IMPL(adamw)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(adamw_loop, args, begin, end, VARY_A))
        mzk_adamw_ref(args, begin, end);
}

INLINE void sgd_lanes(const mzk_args *args, types t, vf factor, vf decay, vf momentum, vf lr,
                      bool has_momentum, bool nesterov, int64_t i, int64_t lanes) {
    vf w = lanes_load(args->in[1], MEZZO_F32, i, lanes);
    vf g = vf_fma(lanes_load(args->in[0], t.a, i, lanes), factor, vf_mul(decay, w));
    vf step = g;
    if (has_momentum) {
        vf m = vf_fma(momentum, lanes_load(args->in[2], MEZZO_F32, i, lanes), g);
        lanes_store(args->out[1], MEZZO_F32, i, m, lanes);
        step = nesterov ? vf_fma(momentum, m, g) : m;
    }
    lanes_store(args->out[0], MEZZO_F32, i, vf_fnma(lr, step, w), lanes);
}
INLINE void sgd_range(const mzk_args *args, int64_t begin, int64_t end, types t, bool has_momentum,
                      bool nesterov) {
    mzk_args local = *args; /* its pointers stay in registers */
    const float *s = args->in[3];
    vf lr = vf_set((float)((double)s[0] * (double)args->p.optim.lr_scale)), factor = vf_set(s[1]);
    vf decay = vf_set(args->p.optim.weight_decay), momentum = vf_set(args->p.optim.momentum);
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        sgd_lanes(&local, t, factor, decay, momentum, lr, has_momentum, nesterov, i, VL);
    if (i < end)
        sgd_lanes(&local, t, factor, decay, momentum, lr, has_momentum, nesterov, i, end - i);
}
INLINE void sgd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    if (args->p.optim.momentum == 0)
        sgd_range(args, begin, end, t, false, false);
    else if (args->p.optim.nesterov)
        sgd_range(args, begin, end, t, true, true);
    else
        sgd_range(args, begin, end, t, true, false);
}
void MZK_IMPL(sgd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(sgd_loop, args, begin, end, VARY_A))
        mzk_sgd_ref(args, begin, end);
}
