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

/* As AdamW's. */
typedef struct lion_constants {
    vf factor, beta1, keep1, beta2, keep2, step, decay;
} lion_constants;

INLINE lion_constants lion_prepare(const mzk_args *args) {
    const float *s = args->in[3];
    double lr = (double)s[0] * (double)args->p.optim.lr_scale;
    return (lion_constants){
        .factor = vf_set(s[1]),
        .beta1 = vf_set(args->p.optim.beta1),
        .keep1 = vf_set((float)(1 - (double)args->p.optim.beta1)),
        .beta2 = vf_set(args->p.optim.beta2),
        .keep2 = vf_set((float)(1 - (double)args->p.optim.beta2)),
        .step = vf_set((float)lr),
        .decay = vf_set((float)(lr * (double)args->p.optim.weight_decay)),
    };
}

INLINE vf lion_sign(vf x) { /* 0 and NaN stay */
    vf minus = vf_select(vf_greater(vf_zero(), x), vf_set(-1), x);
    return vf_select(vf_greater(x, vf_zero()), vf_set(1), minus);
}
INLINE void lion_lanes(const mzk_args *args, types t, const lion_constants *k, int64_t i,
                       int64_t lanes) {
    vf g = vf_mul(lanes_load(args->in[0], t.a, i, lanes), k->factor);
    vf w = lanes_load(args->in[1], MEZZO_F32, i, lanes);
    vf m = lanes_load(args->in[2], MEZZO_F32, i, lanes);
    vf u = lion_sign(vf_fma(k->beta1, m, vf_mul(k->keep1, g)));
    w = vf_fnma(k->step, u, vf_fnma(k->decay, w, w));
    m = vf_fma(k->beta2, m, vf_mul(k->keep2, g));
    lanes_store(args->out[0], MEZZO_F32, i, w, lanes);
    lanes_store(args->out[1], MEZZO_F32, i, m, lanes);
}
INLINE void lion_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    mzk_args local = *args; /* its pointers stay in registers */
    lion_constants k = lion_prepare(args);
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        lion_lanes(&local, t, &k, i, VL);
    if (i < end)
        lion_lanes(&local, t, &k, i, end - i);
}
void MZK_IMPL(lion)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(lion_loop, args, begin, end, VARY_A))
        mzk_lion_ref(args, begin, end);
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

INLINE void muon_mean_lanes(const mzk_args *args, types t, vf factor, vf momentum, vf keep,
                            int64_t i, int64_t lanes) {
    vf g = vf_mul(keep, vf_mul(lanes_load(args->in[0], t.a, i, lanes), factor));
    vf m = vf_fma(momentum, lanes_load(args->in[1], MEZZO_F32, i, lanes), g);
    lanes_store(args->out[0], MEZZO_F32, i, m, lanes);
    lanes_store(args->out[1], MEZZO_F32, i, vf_fma(momentum, m, g), lanes);
}
INLINE void muon_mean_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    mzk_args local = *args; /* its pointers stay in registers */
    vf factor = vf_set(((const float *)args->in[2])[1]), momentum = vf_set(args->p.optim.momentum);
    vf keep = vf_set((float)(1 - (double)args->p.optim.momentum));
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        muon_mean_lanes(&local, t, factor, momentum, keep, i, VL);
    if (i < end)
        muon_mean_lanes(&local, t, factor, momentum, keep, i, end - i);
}
void MZK_IMPL(muon_mean)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(muon_mean_loop, args, begin, end, VARY_A))
        mzk_muon_mean_ref(args, begin, end);
}

INLINE void muon_unit_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    const double *part = args->in[1];
    double sum = 0;
    for (int64_t k = 0; k < args->p.e.parts; k++)
        sum += part[MZK_STATS * k + MZK_STAT_SQUARES];
    vf norm = vf_set((float)(sqrt(sum) + (double)args->p.e.alpha));
    for (int64_t i = begin; i < end; i += VL) {
        int64_t n = end - i < VL ? end - i : VL;
        lanes_store(args->out[0], t.out, i, vf_div(lanes_load(args->in[0], t.a, i, n), norm), n);
    }
}
void MZK_IMPL(muon_unit)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->in_type[1] != MEZZO_F64 ||
        !dispatch(muon_unit_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_muon_unit_ref(args, begin, end);
}

INLINE void muon_step_lanes(const mzk_args *args, vf step, vf decay, int64_t i, int64_t lanes) {
    vf o = lanes_load(args->in[0], MEZZO_F32, i, lanes);
    vf w = lanes_load(args->in[1], MEZZO_F32, i, lanes);
    lanes_store(args->out[0], MEZZO_F32, i, vf_fnma(step, o, vf_fnma(decay, w, w)), lanes);
}
void MZK_IMPL(muon_step)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || args->in_type[0] != MEZZO_F32) {
        mzk_muon_step_ref(args, begin, end);
        return;
    }
    double lr = (double)((const float *)args->in[2])[0] * (double)args->p.optim.lr_scale;
    vf step = vf_set((float)(lr * (double)args->p.optim.scale));
    vf decay = vf_set((float)(lr * (double)args->p.optim.weight_decay));
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        muon_step_lanes(args, step, decay, i, VL);
    if (i < end)
        muon_step_lanes(args, step, decay, i, end - i);
}

INLINE void ema_lanes(const mzk_args *args, types t, vf decay, vf keep, int64_t i, int64_t lanes) {
    vf w = vf_mul(keep, lanes_load(args->in[0], t.a, i, lanes));
    vf e = lanes_load(args->in[1], MEZZO_F32, i, lanes);
    lanes_store(args->out[0], MEZZO_F32, i, vf_fma(decay, e, w), lanes);
}
INLINE void ema_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    mzk_args local = *args; /* its pointers stay in registers */
    double d = (double)args->p.e.alpha * (double)((const float *)args->in[2])[4];
    vf decay = vf_set((float)d), keep = vf_set((float)(1 - d));
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        ema_lanes(&local, t, decay, keep, i, VL);
    if (i < end)
        ema_lanes(&local, t, decay, keep, i, end - i);
}
void MZK_IMPL(ema)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(ema_loop, args, begin, end, VARY_A))
        mzk_ema_ref(args, begin, end);
}
