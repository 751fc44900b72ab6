/* The modes of loss scaling: their defaults, and which values they take. */
#include <math.h>

#include "base/ctx.h"
#include "num/number.h"
#include "train/scaler.h"

/* 0: the mode does not read it. */
static const mezzo_scaler_config defaults[] = {
    [MEZZO_SCALE_NONE] = {.init = 0.0f},
    [MEZZO_SCALE_STATIC] = {.init = 0x1p16f},
    [MEZZO_SCALE_PYTORCH] = {.init = 0x1p16f,
                             .growth = 2.0f,
                             .backoff = 0.5f,
                             .growth_interval = 2000},
    [MEZZO_SCALE_MEGATRON] = {.init = 0x1p32f,
                              .growth = 2.0f,
                              .backoff = 0.5f,
                              .growth_interval = 1000,
                              .min = 1.0f,
                              .hysteresis = 2},
    [MEZZO_SCALE_DEEPSPEED] = {.init = 0x1p16f,
                               .growth_interval = 1000,
                               .min = 1.0f,
                               .hysteresis = 2},
    [MEZZO_SCALE_HEADROOM] =
        {.init = 0x1p16f, .growth_interval = 16, .min = 0x1p-14f, .max = 0x1p40f, .headroom = 3},
};

static float real_or(float value, float initial) {
    return value == 0.0f || initial == 0.0f ? initial : value;
}

static int32_t count_or(int32_t value, int32_t initial) {
    return value == 0 || initial == 0 ? initial : value;
}

static mezzo_scaler_config fill_in(const mezzo_scaler_config *config, mezzo_scale_mode mode) {
    const mezzo_scaler_config *initial = &defaults[mode];
    bool deepspeed = mode == MEZZO_SCALE_DEEPSPEED;
    return (mezzo_scaler_config){
        .mode = mode,
        .init = real_or(config->init, initial->init),
        .growth = real_or(config->growth, initial->growth),
        .backoff = real_or(config->backoff, initial->backoff),
        .growth_interval = count_or(config->growth_interval, initial->growth_interval),
        .min = real_or(config->min, initial->min),
        .max = real_or(config->max, initial->max),
        .headroom = count_or(config->headroom, initial->headroom),
        .hysteresis = count_or(config->hysteresis, initial->hysteresis),
        .consecutive_hysteresis = deepspeed && config->consecutive_hysteresis,
        .skip_at_min = deepspeed && config->skip_at_min};
}

static mezzo_status check(mezzo_ctx *ctx, const mezzo_scaler_config *c,
                          const mezzo_scaler_config *initial) {
    if (initial->init != 0.0f && !mzi_is_power_of_two((double)c->init))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "loss scale %g is not a power of two: scaling would round", (double)c->init);
    bool ours = c->mode == MEZZO_SCALE_STATIC || c->mode == MEZZO_SCALE_HEADROOM;
    if (ours && (c->init < 0x1p-126f || (initial->min != 0.0f && c->min < 0x1p-126f)))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "loss scale %g, at least %g: below 2^-126 its inverse is beyond FP32",
                 (double)c->init, (double)c->min);
    if (initial->growth != 0.0f && (!mzi_is_power_of_two((double)c->growth) || c->growth <= 1.0f ||
                                    !mzi_is_power_of_two((double)c->backoff) || c->backoff >= 1.0f))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "loss scale growth %g and backoff %g: powers of two above and below 1, or scaling "
                 "would round",
                 (double)c->growth, (double)c->backoff);
    if (initial->growth_interval && c->growth_interval < 1)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "loss scale interval %d: at least 1 step",
                 c->growth_interval);
    if (initial->min != 0.0f && (!mzi_is_power_of_two((double)c->min) || c->min > c->init))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "loss scale min %g: a power of two, or scaling would round, and at most init, "
                 "which is %g",
                 (double)c->min, (double)c->init);
    if (initial->max != 0.0f && (!mzi_is_power_of_two((double)c->max) || c->max < c->init))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "loss scale max %g: a power of two, or scaling would round, and at least init, "
                 "which is %g",
                 (double)c->max, (double)c->init);
    if (initial->headroom && (c->headroom < 1 || c->headroom > 24))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "loss scale headroom %d: 1 to 24 bits", c->headroom);
    if (initial->hysteresis && c->hysteresis < 1)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "loss scale hysteresis %d: at least 1 overflow",
                 c->hysteresis);
    return MEZZO_OK;
}

mezzo_status mezzo_scaler_init(mezzo_ctx *ctx, mezzo_scaler *out,
                               const mezzo_scaler_config *config) {
    mezzo_scale_mode mode = config->mode == MEZZO_SCALE_AUTO ? MEZZO_SCALE_PYTORCH : config->mode;
    mzi_error_clear(ctx);
    if ((size_t)mode >= sizeof defaults / sizeof defaults[0])
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "loss scale mode %d is none of mezzo_scale_mode",
                 (int)mode);
    mezzo_scaler_config c = fill_in(config, mode);
    MZI_TRY(check(ctx, &c, &defaults[mode]));
    *out = (mezzo_scaler){.config = c,
                          .scale = mode == MEZZO_SCALE_NONE ? 1.0 : (double)c.init,
                          .hysteresis_tracker = c.hysteresis};
    return MEZZO_OK;
}

bool mezzo_scaler_update(mezzo_scaler *scaler, bool found_inf) {
    const mezzo_scale_evidence evidence = {.skipped = found_inf, .overflow = found_inf};
    return mzi_scaler_step(scaler, &evidence);
}

bool mezzo_scaler_observe(mezzo_scaler *scaler, const mezzo_scale_evidence *evidence) {
    return mzi_scaler_step(scaler, evidence);
}
