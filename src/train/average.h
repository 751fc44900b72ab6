/* The average of the weights: ema = d ema + (1 - d) w behind every commit, in FP32. */
#ifndef MZI_TRAIN_AVERAGE_H
#define MZI_TRAIN_AVERAGE_H

#include "train/model.h"

/* State of the average of `fc.weight` is called "ema/fc.weight". */
#define MZI_AVERAGE_PREFIX "ema/"

enum {
    MZI_AVERAGE_SCALAR = 4 /* in the update's scalars: 0 at the first commit, then 1 */
};

/* Append the average of a parameter, which reads it as the update left it. */
mezzo_status mzi_average_append(mezzo_graph *graph, int32_t param, int32_t scalars, double decay,
                                bool is_split);

/* The tensor that holds the average of tensor `index`; -1 if it has none. */
int32_t mzi_average_of(const mezzo_model *model, int32_t index);
/* Values that `masters` below holds: those of every parameter that has an average, and the largest
 * once more. */
int64_t mzi_average_count(const mezzo_model *model);
/* Give parameters the values of their averages, and keep theirs in `masters`; then give those back,
 * bit for bit.  Averages do not change.  Nobody may train in between. */
mezzo_status mzi_average_show(mezzo_model *model, float *masters);
mezzo_status mzi_average_hide(mezzo_model *model, const float *masters);

#endif
