#include <math.h>

#include "mezzo/train.h"

double mezzo_schedule_lr(const mezzo_schedule *schedule, double lr, int64_t step) {
    if (step < schedule->warmup)
        return lr * (double)(step + 1) / (double)schedule->warmup;
    double lr_min = (double)schedule->lr_min;
    int64_t left = schedule->steps - schedule->warmup;
    if (schedule->kind == MEZZO_SCHEDULE_CONSTANT || left <= 0)
        return lr;
    double at = (double)(step - schedule->warmup) / (double)left;
    if (at > 1.0)
        at = 1.0;
    return lr_min + (lr - lr_min) * 0.5 * (1.0 + cos(3.14159265358979323846 * at));
}
