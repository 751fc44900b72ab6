/* A training loop of your own, made safe for FP16: loss scaling, casts, a check of the gradients,
 * and AdamW on FP32 masters, around a linear regression in plain C.
 *
 * Its gradients are about 3e-9: without a loss scale FP16 rounds every one of them to zero. */
#include <math.h>
#include <stdio.h>

#include <mezzo/train.h>

enum {
    FEATURES = 32,
    BATCH = 64,
    STEPS = 400
};

/* Features in [-0.001, 0.001), and the value to predict: a fixed mixture of them. */
static double draw(uint32_t sample, double *x) {
    double y = 0.0;
    for (uint32_t k = 0; k < FEATURES; k++) {
        uint32_t bits[4];
        mezzo_philox(bits, (const uint32_t[4]){sample, k, 0, 0}, (const uint32_t[2]){3, 0});
        x[k] = 1e-3 * (bits[0] * 0x1p-31 - 1.0);
        y += 0.01 * cos(k) * x[k];
    }
    return y;
}

/* The share of the values' variance that FP16 weights do not explain, over one batch; and the
 * gradient of `scale` times half the mean squared error, rounded to FP16. */
static double error_and_gradient(uint32_t step, const mezzo_f16 *w, double scale,
                                 mezzo_f16 *gradient) {
    double squares = 0.0, total = 0.0, sum[FEATURES] = {0};
    for (uint32_t i = 0; i < BATCH; i++) {
        double x[FEATURES], y = draw(step * BATCH + i, x), error = -y;
        for (int k = 0; k < FEATURES; k++)
            error += (double)mezzo_f16_to_f32(w[k]) * x[k];
        squares += error * error;
        total += y * y;
        for (int k = 0; k < FEATURES; k++)
            sum[k] += scale * error * x[k] / BATCH;
    }
    for (int k = 0; k < FEATURES; k++)
        gradient[k] = mezzo_f16_from_f32((float)sum[k]);
    return squares / total;
}

/* Trains at a scale that adapts, or at 1; `*left` is the unexplained share in the last step. */
static mezzo_status train(mezzo_ctx *ctx, mezzo_scale_mode mode, double *left) {
    float master[FEATURES] = {0}, m[FEATURES] = {0}, v[FEATURES] = {0};
    mezzo_f16 w[FEATURES], gradient[FEATURES];
    mezzo_optimizer_config adamw = mezzo_optimizer_default("adamw");
    mezzo_scaler_config config = {.mode = mode, .init = 0x1p48f}; /* too high: it comes down */
    mezzo_scaler scaler;
    int64_t committed = 0;
    adamw.eps = 1e-12f; /* well below the gradients */
    adamw.weight_decay = 0.0f;
    mezzo_status status = mezzo_scaler_init(ctx, &scaler, &config);
    for (uint32_t step = 0; status == MEZZO_OK && step < STEPS; step++) {
        mezzo_gradient_norm norm;
        double scale = scaler.scale, lr = 1e-3 * (STEPS - step) / STEPS;
        status =
            mezzo_convert(ctx, w, MEZZO_F16, master, MEZZO_F32, FEATURES, MEZZO_ROUND_NEAREST, 0);
        *left = error_and_gradient(step, w, scale, gradient);
        if (status == MEZZO_OK)
            status = mezzo_gradient_check(ctx, gradient, MEZZO_F16, FEATURES, &norm);
        if (status != MEZZO_OK)
            break;
        bool overflow = norm.nonfinite > 0;
        if (!overflow) /* else the step is skipped */
            status = mezzo_adamw_update(ctx, &adamw, master, m, v, gradient, MEZZO_F16, FEATURES,
                                        lr, 1 / scale, ++committed);
        mezzo_scaler_update(&scaler, overflow);
    }
    printf("%s loss scale: %5.1f %% unexplained; %d steps skipped, scale %g\n",
           mode == MEZZO_SCALE_NONE ? "no     " : "dynamic", 100 * *left, STEPS - (int)committed,
           scaler.scale);
    return status;
}

int main(void) {
    mezzo_ctx *ctx = NULL;
    mezzo_error error;
    double without = 0.0, with = 0.0;
    if (mezzo_ctx_create(&ctx, NULL, &error) != MEZZO_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    mezzo_status status = train(ctx, MEZZO_SCALE_NONE, &without);
    if (status == MEZZO_OK)
        status = train(ctx, MEZZO_SCALE_PYTORCH, &with);
    if (status != MEZZO_OK)
        fprintf(stderr, "%s\n", mezzo_ctx_error(ctx)->text);
    mezzo_ctx_destroy(ctx);
    return status == MEZZO_OK && with < 0.01 && without > 0.99 ? 0 : 1;
}
