#include "train/resume.h"

#include <math.h>

#include "num/number.h"

/* Counters that are exact in FP64, where bias corrections are computed. */
static const int64_t counter_max = (int64_t)1 << 53;

static const char *counter_fault(const mezzo_trainer_state *s) {
    if (s->step < 0 || s->skipped < 0 || s->attempt < 0 || s->attempt > counter_max)
        return "a counter is negative or beyond 2^53";
    if (s->step > s->attempt - s->skipped)
        return "there are more commits and skips than attempts";
    if (s->moments_from < 0 || s->moments_from > s->step)
        return "the moments start behind the last commit";
    if (s->averaged < 0 || s->averaged > s->step)
        return "more commits were averaged than made";
    return NULL;
}

static const char *history_fault(const mezzo_scaler *s) {
    if (s->measured < 0 || s->measured >= MEZZO_SCALE_HISTORY)
        return "the scaler's next measurement has no place";
    for (int k = 0; k < MEZZO_SCALE_HISTORY; k++)
        if (!(s->maxima[k] >= 0.0 && isfinite(s->maxima[k])))
            return "a measured maximum is negative or not finite";
    return NULL;
}

/* Scales that a rule comes to, those included where it is stuck: PyTorch's ends at 0, Megatron's
 * and DeepSpeed's at infinity. */
static bool is_reached(const mezzo_scaler *s) {
    switch (s->config.mode) {
    case MEZZO_SCALE_PYTORCH:
        return s->scale == 0.0 || mzi_is_power_of_two(s->scale);
    case MEZZO_SCALE_MEGATRON:
    case MEZZO_SCALE_DEEPSPEED:
        return (isinf(s->scale) && s->scale > 0.0) || mzi_is_power_of_two(s->scale);
    case MEZZO_SCALE_AUTO:
    case MEZZO_SCALE_NONE:
    case MEZZO_SCALE_STATIC:
    case MEZZO_SCALE_HEADROOM:
        break;
    }
    return mzi_is_power_of_two(s->scale);
}

static const char *scaler_fault(const mezzo_scaler *s) {
    if (!is_reached(s))
        return "the loss scale is not a finite power of two";
    if (s->growth_tracker < 0)
        return "the scaler's count of clean steps is negative";
    if (history_fault(s))
        return history_fault(s);
    switch (s->config.mode) {
    case MEZZO_SCALE_NONE:
        return s->scale == 1.0 ? NULL : "mode none has the scale 1";
    case MEZZO_SCALE_STATIC:
        return s->scale == (double)s->config.init ? NULL : "mode static has the scale init";
    case MEZZO_SCALE_PYTORCH:
    case MEZZO_SCALE_MEGATRON:
        if (s->growth_tracker >= s->config.growth_interval) /* it would never grow again */
            return "the scaler has counted more clean steps than it waits for";
        break;
    case MEZZO_SCALE_HEADROOM:
        if (s->scale > (double)s->config.max)
            return "the loss scale is above the largest";
        break;
    case MEZZO_SCALE_AUTO:
    case MEZZO_SCALE_DEEPSPEED:
        break;
    }
    if (s->hysteresis_tracker > s->config.hysteresis)
        return "the scaler waits for more overflows than its hysteresis";
    return s->scale < (double)s->config.min ? "the loss scale is below the smallest" : NULL;
}

const char *mzi_trainer_state_fault(const mezzo_trainer_state *state) {
    const char *fault = counter_fault(state);
    return fault ? fault : scaler_fault(&state->scaler);
}
