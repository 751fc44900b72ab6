/* Optimizer updates.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/masters.h"

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

INLINE void adamw_lanes(const mzk_args *args, forms f, const void *constants, const noise *random,
                        int64_t i, int64_t lanes) {
    const adamw_constants *k = constants;
    vf g = vf_mul(lanes_load(args->in[0], f.g, i, lanes), k->factor);
    vf w = master_load(args, f, 1, 5, i, lanes);
    vf m = lanes_load(args->in[2], f.moment, i, lanes);
    vf v = lanes_load(args->in[3], f.moment, i, lanes);
    m = vf_fma(k->beta1, m, vf_mul(k->keep1, g));
    v = vf_fma(k->beta2, v, vf_mul(vf_mul(k->keep2, g), g));
    w = vf_fnma(k->decay, w, w);
    vf root = vf_add(vf_sqrt(vf_mul(v, k->correct2)), k->eps);
    w = vf_sub(w, vf_div(vf_mul(k->step, m), root));
    master_store(args, f, 3, w, random, i, lanes);
    moment_store(args, f, 1, 1, m, random, i, lanes);
    moment_store(args, f, 2, 2, v, random, i, lanes);
}
INLINE void adamw_loop(const mzk_args *args, int64_t begin, int64_t end, forms f) {
    adamw_constants k = adamw_prepare(args);
    update_range(args, begin, end, f, 6, 2, adamw_lanes, &k);
}
void MZK_IMPL(adamw)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch_forms(adamw_loop, args, begin, end, (places){1, 2, 4}))
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
INLINE void lion_lanes(const mzk_args *args, forms f, const void *constants, const noise *random,
                       int64_t i, int64_t lanes) {
    const lion_constants *k = constants;
    vf g = vf_mul(lanes_load(args->in[0], f.g, i, lanes), k->factor);
    vf w = master_load(args, f, 1, 4, i, lanes);
    vf m = lanes_load(args->in[2], f.moment, i, lanes);
    vf u = lion_sign(vf_fma(k->beta1, m, vf_mul(k->keep1, g)));
    w = vf_fnma(k->step, u, vf_fnma(k->decay, w, w));
    m = vf_fma(k->beta2, m, vf_mul(k->keep2, g));
    master_store(args, f, 2, w, random, i, lanes);
    moment_store(args, f, 1, 1, m, random, i, lanes);
}
INLINE void lion_loop(const mzk_args *args, int64_t begin, int64_t end, forms f) {
    lion_constants k = lion_prepare(args);
    update_range(args, begin, end, f, 5, 1, lion_lanes, &k);
}
void MZK_IMPL(lion)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch_forms(lion_loop, args, begin, end, (places){1, 2, 3}))
        mzk_lion_ref(args, begin, end);
}

typedef struct sgd_constants {
    vf factor, decay, momentum, lr;
    bool has_momentum, nesterov;
} sgd_constants;

INLINE void sgd_lanes(const mzk_args *args, forms f, const void *constants, const noise *random,
                      int64_t i, int64_t lanes) {
    const sgd_constants *k = constants;
    vf w = master_load(args, f, 1, 4, i, lanes);
    vf g = vf_fma(lanes_load(args->in[0], f.g, i, lanes), k->factor, vf_mul(k->decay, w));
    vf step = g;
    if (k->has_momentum) {
        vf m = vf_fma(k->momentum, lanes_load(args->in[2], f.moment, i, lanes), g);
        moment_store(args, f, 1, 1, m, random, i, lanes);
        step = k->nesterov ? vf_fma(k->momentum, m, g) : m;
    }
    master_store(args, f, 2, vf_fnma(k->lr, step, w), random, i, lanes);
}
INLINE void sgd_range(const mzk_args *args, int64_t begin, int64_t end, forms f, bool has_momentum,
                      bool nesterov) {
    const float *s = args->in[3];
    const sgd_constants k = {
        .factor = vf_set(s[1]),
        .decay = vf_set(args->p.optim.weight_decay),
        .momentum = vf_set(args->p.optim.momentum),
        .lr = vf_set((float)((double)s[0] * (double)args->p.optim.lr_scale)),
        .has_momentum = has_momentum,
        .nesterov = nesterov,
    };
    update_range(args, begin, end, f, 5, 1, sgd_lanes, &k);
}
INLINE void sgd_loop(const mzk_args *args, int64_t begin, int64_t end, forms f) {
    if (args->p.optim.momentum == 0)
        sgd_range(args, begin, end, f, false, false);
    else if (args->p.optim.nesterov)
        sgd_range(args, begin, end, f, true, true);
    else
        sgd_range(args, begin, end, f, true, false);
}
void MZK_IMPL(sgd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch_forms(sgd_loop, args, begin, end, (places){1, 2, 3}))
        mzk_sgd_ref(args, begin, end);
}

typedef struct muon_constants {
    vf factor, momentum, keep;
} muon_constants;

INLINE void muon_mean_lanes(const mzk_args *args, forms f, const void *constants,
                            const noise *random, int64_t i, int64_t lanes) {
    const muon_constants *k = constants;
    vf g = vf_mul(k->keep, vf_mul(lanes_load(args->in[0], f.g, i, lanes), k->factor));
    vf m = vf_fma(k->momentum, lanes_load(args->in[1], f.moment, i, lanes), g);
    moment_store(args, f, 0, 1, m, random, i, lanes);
    lanes_store(args->out[1], MEZZO_F32, i, vf_fma(k->momentum, m, g), lanes);
}
INLINE void muon_mean_loop(const mzk_args *args, int64_t begin, int64_t end, forms f) {
    const muon_constants k = {
        .factor = vf_set(((const float *)args->in[2])[1]),
        .momentum = vf_set(args->p.optim.momentum),
        .keep = vf_set((float)(1 - (double)args->p.optim.momentum)),
    };
    update_range(args, begin, end, f, 4, 1, muon_mean_lanes, &k);
}
void MZK_IMPL(muon_mean)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch_forms(muon_mean_loop, args, begin, end, (places){-1, 1, 2}))
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

typedef struct muon_step_constants {
    vf step, decay;
} muon_step_constants;

INLINE void muon_step_lanes(const mzk_args *args, forms f, const void *constants,
                            const noise *random, int64_t i, int64_t lanes) {
    const muon_step_constants *k = constants;
    vf o = lanes_load(args->in[0], f.g, i, lanes);
    vf w = master_load(args, f, 1, 3, i, lanes);
    master_store(args, f, 1, vf_fnma(k->step, o, vf_fnma(k->decay, w, w)), random, i, lanes);
}
INLINE void muon_step_loop(const mzk_args *args, int64_t begin, int64_t end, forms f) {
    double lr = (double)((const float *)args->in[2])[0] * (double)args->p.optim.lr_scale;
    const muon_step_constants k = {
        .step = vf_set((float)(lr * (double)args->p.optim.scale)),
        .decay = vf_set((float)(lr * (double)args->p.optim.weight_decay)),
    };
    update_range(args, begin, end, f, 4, 0, muon_step_lanes, &k);
}
void MZK_IMPL(muon_step)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch_forms(muon_step_loop, args, begin, end, (places){1, -1, 2}))
        mzk_muon_step_ref(args, begin, end);
}

INLINE void ema_lanes(const mzk_args *args, forms f, vf decay, vf keep, int64_t i, int64_t lanes) {
    vf w = vf_mul(keep, master_load(args, f, 0, 3, i, lanes));
    vf e = lanes_load(args->in[1], MEZZO_F32, i, lanes);
    lanes_store(args->out[0], MEZZO_F32, i, vf_fma(decay, e, w), lanes);
}
INLINE void ema_range(const mzk_args *args, int64_t begin, int64_t end, master_kind master) {
    mzk_args local = *args; /* its pointers stay in registers */
    const forms f = {MEZZO_F32, master, MEZZO_F32};
    double d = (double)args->p.e.alpha * (double)((const float *)args->in[2])[4];
    vf decay = vf_set((float)d), keep = vf_set((float)(1 - d));
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        ema_lanes(&local, f, decay, keep, i, VL);
    if (i < end)
        ema_lanes(&local, f, decay, keep, i, end - i);
}
void MZK_IMPL(ema)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] == MEZZO_F32 && args->in_type[0] == MEZZO_F32)
        ema_range(args, begin, end, MASTER_F32);
    else if (args->out_type[0] == MEZZO_F32 && args->in_type[0] == MEZZO_BF16)
        ema_range(args, begin, end, args->in[3] ? MASTER_SPLIT : MASTER_NEAREST);
    else
        mzk_ema_ref(args, begin, end);
}
