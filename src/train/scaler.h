/* The scaler's state machine, shared by host and device.  Each rule but our own is its peer's to
 * the letter, with the cases that nobody can have wanted; docs/numerics.md, "Loss scale", has
 * formulas and traps. */
#ifndef MZI_TRAIN_SCALER_H
#define MZI_TRAIN_SCALER_H

#include <math.h>

#include "mezzo/precision.h"

static inline double mzi_scaler_clamp(const mezzo_scaler_config *c, double scale) {
    return fmin(fmax(scale, (double)c->min), (double)c->max);
}

/* S* = 2^(floor(log2(65504 / a)) - headroom), a the largest unscaled magnitude of the last
 * measurements.  An overflow is a measurement too: 65520 is the least that rounds to FP16's Inf. */
static inline void mzi_scaler_headroom(mezzo_scaler *s, const mezzo_scale_evidence *e) {
    const mezzo_scaler_config *c = &s->config;
    const double largest = 65504.0, infinite = 65520.0, many = 0x1p-10;
    bool measured = e->measured && !e->skipped;
    double a = 0.0;
    if (!e->overflow && !measured)
        return;
    s->maxima[s->measured] = (e->overflow ? infinite : (double)e->max) / s->scale;
    s->measured = (s->measured + 1) % MEZZO_SCALE_HISTORY;
    for (int k = 0; k < MEZZO_SCALE_HISTORY; k++)
        a = fmax(a, s->maxima[k]);
    double target = (double)c->max;
    if (a > 0.0) /* at most 65520 2^149: the quotient is normal */
        target = fmin(target, ldexp(1.0, ilogb(largest / a) - c->headroom));
    /* With nothing but zeros left, or a part of the gradients losing digits, it hurries. */
    double step = e->max > 0.0f && (double)e->underflow <= many ? 2.0 : 16.0;
    double raised = e->overflow ? s->scale : s->scale * step;
    s->scale = mzi_scaler_clamp(c, fmin(target, raised));
}

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
static inline bool mzi_scaler_step(mezzo_scaler *s, const mezzo_scale_evidence *e) {
    bool found_inf = e->skipped;
    switch (s->config.mode) {
    case MEZZO_SCALE_PYTORCH:
        mzi_scaler_pytorch(s, found_inf);
        return true;
    case MEZZO_SCALE_MEGATRON:
        mzi_scaler_megatron(s, found_inf);
        return true;
    case MEZZO_SCALE_DEEPSPEED:
        return mzi_scaler_deepspeed(s, found_inf);
    case MEZZO_SCALE_HEADROOM:
        mzi_scaler_headroom(s, e);
        return true;
    case MEZZO_SCALE_AUTO:
    case MEZZO_SCALE_NONE:
    case MEZZO_SCALE_STATIC:
        break;
    }
    return true;
}

#endif
