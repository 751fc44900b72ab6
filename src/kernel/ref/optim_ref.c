/* Reference: optimizer updates of one parameter. */
#include "base/rng.h"
#include "kernel/ref/ref.h"

static float stochastic(const mzk_args *args, int key_in, int slot, int64_t i, double value) {
    const int32_t *key = args->in[key_in];
    uint64_t seed = (uint32_t)key[0] | (uint64_t)(uint32_t)key[1] << 32;
    uint32_t words[4];
    mzi_rng4(words, seed, args->p.optim.streams[slot], (uint64_t)i / 8, (uint32_t)key[2]);
    uint32_t random = words[i % 8 / 2] >> (i % 2 * 16);
    return mzi_bf16_load(mezzo_bf16_from_f32_stochastic((float)value, random));
}

/* To out[0], and the lower halves to out[lo]; `key` is an input, that of lower halves before it. */
static void put_master(const mzk_args *args, int lo, int key, int64_t i, double value) {
    if (args->out_type[0] != MEZZO_BF16) {
        put(args, 0, i, value);
    } else if (args->in[key - 1]) {
        ((mezzo_bf16 *)args->out[0])[i] = mzi_bf16_round_away((float)value);
        ((uint16_t *)args->out[lo])[i] = mzi_split_low((float)value);
    } else {
        float x = (float)value;
        put(args, 0, i,
            args->p.optim.nearest ? (double)x : (double)stochastic(args, key, 0, i, value));
    }
}

static void put_moment(const mzk_args *args, int out, int slot, int key, int64_t i, double value) {
    put(args, out, i,
        args->out_type[out] == MEZZO_BF16 ? (double)stochastic(args, key, slot, i, value) : value);
}

void mzk_adamw_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double beta1 = (double)args->p.optim.beta1, beta2 = (double)args->p.optim.beta2;
    double lr = get(args, 4, 0) * (double)args->p.optim.lr_scale;
    double factor = get(args, 4, 1), correct1 = get(args, 4, 2), correct2 = get(args, 4, 3);
    double decay = lr * (double)args->p.optim.weight_decay, eps = (double)args->p.optim.eps;
    for (int64_t i = begin; i < end; i++) {
        double g = get(args, 0, i) * factor, w = get_master(args, 1, 5, i);
        double m = beta1 * get(args, 2, i) + (1 - beta1) * g;
        double v = beta2 * get(args, 3, i) + (1 - beta2) * g * g;
        w -= decay * w;
        w -= lr * (m * correct1) / (sqrt(v * correct2) + eps);
        put_master(args, 3, 6, i, w);
        put_moment(args, 1, 1, 6, i, m);
        put_moment(args, 2, 2, 6, i, v);
    }
}

static double sign(double x) {
    return x > 0 ? 1 : x < 0 ? -1 : x; /* a NaN stays */
}

void mzk_lion_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double beta1 = (double)args->p.optim.beta1, beta2 = (double)args->p.optim.beta2;
    double lr = get(args, 3, 0) * (double)args->p.optim.lr_scale, factor = get(args, 3, 1);
    double decay = (double)args->p.optim.weight_decay;
    for (int64_t i = begin; i < end; i++) {
        double g = get(args, 0, i) * factor, w = get_master(args, 1, 4, i), m = get(args, 2, i);
        double u = sign(beta1 * m + (1 - beta1) * g);
        put_master(args, 2, 5, i, w - lr * (u + decay * w));
        put_moment(args, 1, 1, 5, i, beta2 * m + (1 - beta2) * g);
    }
}

void mzk_sgd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double momentum = (double)args->p.optim.momentum, decay = (double)args->p.optim.weight_decay;
    double lr = get(args, 3, 0) * (double)args->p.optim.lr_scale, factor = get(args, 3, 1);
    for (int64_t i = begin; i < end; i++) {
        double w = get_master(args, 1, 4, i), g = get(args, 0, i) * factor + decay * w;
        double step = g;
        if (args->p.optim.momentum != 0) {
            double m = momentum * get(args, 2, i) + g;
            put_moment(args, 1, 1, 5, i, m);
            step = args->p.optim.nesterov ? g + momentum * m : m;
        }
        put_master(args, 2, 5, i, w - lr * step);
    }
}

void mzk_muon_mean_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double momentum = (double)args->p.optim.momentum, factor = get(args, 2, 1);
    for (int64_t i = begin; i < end; i++) {
        double g = get(args, 0, i) * factor, m = get(args, 1, i);
        m = momentum * m + (1 - momentum) * g;
        put_moment(args, 0, 1, 4, i, m);
        put(args, 1, i, momentum * m + (1 - momentum) * g);
    }
}

void mzk_muon_unit_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t k = 0; k < args->p.e.parts; k++)
        sum += get(args, 1, MZK_STATS * k + MZK_STAT_SQUARES);
    double norm = sqrt(sum) + (double)args->p.e.alpha;
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, get(args, 0, i) / norm);
}

void mzk_muon_step_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double lr = get(args, 2, 0) * (double)args->p.optim.lr_scale;
    double scale = (double)args->p.optim.scale, decay = (double)args->p.optim.weight_decay;
    for (int64_t i = begin; i < end; i++) {
        double w = get_master(args, 1, 3, i);
        put_master(args, 1, 4, i, w - lr * (scale * get(args, 0, i) + decay * w));
    }
}

void mzk_ema_ref(const mzk_args *args, int64_t begin, int64_t end) {
    double d = (double)args->p.e.alpha * get(args, 2, 4);
    for (int64_t i = begin; i < end; i++)
        put(args, 0, i, d * get(args, 1, i) + (1 - d) * get_master(args, 0, 3, i));
}
