/* The scaler's state machine, shared by host and device. */
#ifndef MZI_TRAIN_SCALER_H
#define MZI_TRAIN_SCALER_H

#include "mezzo/precision.h"

static inline void mzi_scaler_step(mezzo_scaler *scaler, bool found_inf) {
    const mezzo_scaler_config *c = &scaler->config;
    if (c->mode != MEZZO_SCALE_DYNAMIC)
        return;
    if (found_inf) {
        scaler->scale *= c->backoff;
        scaler->growth_tracker = 0;
        return;
    }
    if (++scaler->growth_tracker != c->growth_interval)
        return;
    float grown = scaler->scale * c->growth;
    if (grown <= 3.402823466e38f) /* FP32's largest: false for infinity */
        scaler->scale = grown;
    scaler->growth_tracker = 0;
}

#endif
