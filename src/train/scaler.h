/* The scaler's state machine, shared by host and device.  Each rule is its peer's to the letter,
 * with the cases that nobody can have wanted; docs/numerics.md, "Loss scale", has formulas and
 * traps. */
#ifndef MZI_TRAIN_SCALER_H
#define MZI_TRAIN_SCALER_H

#include "mezzo/precision.h"

/* S is an FP32 tensor there: products are rounded to FP32. */
static inline void mzi_scaler_pytorch(mezzo_scaler *s, bool found_inf) {
    const mezzo_scaler_config *c = &s->config;
    if (found_inf) {
        s->scale = (double)((float)s->scale * c->backoff);
        s->growth_tracker = 0;
        return;
    }
    if (++s->growth_tracker != c->growth_interval)
        return;
    s->growth_tracker = 0;
    float grown = (float)s->scale * c->growth;
    if (grown <= 3.402823466e38f) /* FP32's largest: false for infinity */
        s->scale = (double)grown;
}

/* FP32 too, but growth may end in infinity.  Overflows are counted until growth, not in a row. */
static inline void mzi_scaler_megatron(mezzo_scaler *s, bool found_inf) {
    const mezzo_scaler_config *c = &s->config;
    if (found_inf) {
        s->growth_tracker = 0;
        if (--s->hysteresis_tracker > 0)
            return;
        float backed_off = (float)s->scale * c->backoff;
        s->scale = (double)(backed_off > c->min ? backed_off : c->min);
        return;
    }
    if (++s->growth_tracker != c->growth_interval)
        return;
    s->growth_tracker = 0;
    s->hysteresis_tracker = c->hysteresis;
    s->scale = (double)((float)s->scale * c->growth);
}

/* S is a Python number there, so FP64 here.  The tracker is not set back by growth, and is looked
 * at before it counts this step. */
static inline bool mzi_scaler_deepspeed(mezzo_scaler *s, bool found_inf) {
    const mezzo_scaler_config *c = &s->config;
    if (!found_inf) {
        bool grows = s->growth_tracker > 0 && s->growth_tracker % c->growth_interval == 0;
        s->growth_tracker++;
        if (grows)
            s->scale *= 2.0;
        if (grows || c->consecutive_hysteresis)
            s->hysteresis_tracker = c->hysteresis;
        return true;
    }
    if (c->hysteresis != 1 && s->hysteresis_tracker != 1) {
        s->hysteresis_tracker--;
    } else {
        double half = s->scale / 2.0, min = (double)c->min;
        if (s->scale == min && !c->skip_at_min)
            return false;
        s->scale = half > min ? half : min;
    }
    s->growth_tracker = 0;
    return true;
}

/* False if the rule gives up; nothing has changed then. */
static inline bool mzi_scaler_step(mezzo_scaler *s, bool found_inf) {
    switch (s->config.mode) {
    case MEZZO_SCALE_PYTORCH:
        mzi_scaler_pytorch(s, found_inf);
        return true;
    case MEZZO_SCALE_MEGATRON:
        mzi_scaler_megatron(s, found_inf);
        return true;
    case MEZZO_SCALE_DEEPSPEED:
        return mzi_scaler_deepspeed(s, found_inf);
    case MEZZO_SCALE_AUTO:
    case MEZZO_SCALE_NONE:
    case MEZZO_SCALE_STATIC:
        break;
    }
    return true;
}

#endif
