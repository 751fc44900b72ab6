/* Dynamic loss scaling by PyTorch's rule (torch/amp/grad_scaler.py, _amp_update_scale_):
 *
 *   an Inf or NaN: S *= backoff, tracker = 0
 *   a clean step: tracker + 1; when it equals the interval: S *= growth if that is finite, tracker
 * = 0
 *
 * The comparison is for equality there, so it is here: a tracker beyond the interval never grows S
 * again until the next overflow. */
#include <math.h>

#include "base/ctx.h"
#include "train/scaler.h"

static bool is_power_of_two(float x) {
    int exponent;
    return x > 0.0f && isfinite(x) && frexpf(x, &exponent) == 0.5f;
}

static float or_default(float value, float initial) {
    return value == 0.0f ? initial : value;
}

mezzo_status mezzo_scaler_init(mezzo_ctx *ctx, mezzo_scaler *out,
                               const mezzo_scaler_config *config) {
    mezzo_scaler_config c = *config;
    mzi_error_clear(ctx);
    c.mode = c.mode == MEZZO_SCALE_AUTO ? MEZZO_SCALE_DYNAMIC : c.mode;
    c.init = or_default(c.init, 65536.0f);
    c.growth = or_default(c.growth, 2.0f);
    c.backoff = or_default(c.backoff, 0.5f);
    c.growth_interval = c.growth_interval ? c.growth_interval : 2000;
    if (!is_power_of_two(c.init))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "loss scale %g is not a power of two: scaling would round", (double)c.init);
    if (!is_power_of_two(c.growth) || c.growth <= 1.0f || !is_power_of_two(c.backoff) ||
        c.backoff >= 1.0f)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "loss scale growth %g and backoff %g: powers of two above and below 1",
                 (double)c.growth, (double)c.backoff);
    if (c.growth_interval < 1)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "loss scale interval %d: at least 1 step",
                 c.growth_interval);
    *out = (mezzo_scaler){.config = c, .scale = c.mode == MEZZO_SCALE_NONE ? 1.0f : c.init};
    return MEZZO_OK;
}

void mezzo_scaler_update(mezzo_scaler *scaler, bool found_inf) {
    mzi_scaler_step(scaler, found_inf);
}
