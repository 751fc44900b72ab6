#include <math.h>

#include "mezzo/train.h"

/* How far `step` is on its way through the last `length` of `steps` steps: 0 to 1. */
static double progress(int64_t step, int64_t steps, int64_t length) {
    double at = (double)(step - (steps - length)) / (double)length;
    return at < 0.0 ? 0.0 : at > 1.0 ? 1.0 : at;
}

double mezzo_schedule_lr(const mezzo_schedule *schedule, double lr, int64_t step) {
    if (step < schedule->warmup)
        return lr * (double)(step + 1) / (double)schedule->warmup;
    double lr_min = (double)schedule->lr_min, factor = 1.0;
    int64_t steps = schedule->steps, left = steps - schedule->warmup;
    int64_t decay = schedule->decay > 0 ? schedule->decay : (steps + 4) / 5;
    if (left <= 0)
        return lr;
    switch (schedule->kind) {
    case MEZZO_SCHEDULE_CONSTANT:
        return lr;
    case MEZZO_SCHEDULE_COSINE:
        factor = 0.5 * (1.0 + cos(3.14159265358979323846 * progress(step, steps, left)));
        break;
    case MEZZO_SCHEDULE_LINEAR:
        factor = 1.0 - progress(step, steps, left);
        break;
    case MEZZO_SCHEDULE_WSD:
        factor = 1.0 - sqrt(progress(step, steps, decay < left ? decay : left));
        break;
    }
    return lr_min + (lr - lr_min) * factor;
}
