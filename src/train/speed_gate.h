/* The speed gate's measurements. */
#ifndef MZI_TRAIN_SPEED_GATE_H
#define MZI_TRAIN_SPEED_GATE_H

#include "train/model.h"

enum {
    MZI_SPEED_PAIRS = 5
};

/* Times of the two forms, in nanoseconds, taken in turns, of which a step has `count`: is BF16
 * slower beyond doubt?  In all pairs but one, by more than 3 % and 50 us a step in the medians;
 * these are given back in microseconds. */
bool mzi_is_slower(const int64_t bf16[MZI_SPEED_PAIRS], const int64_t f32[MZI_SPEED_PAIRS],
                   int count, mezzo_slow_layer *medians);

#endif
