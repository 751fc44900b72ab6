/* Measuring gradients: one run of forward and backward in FP32. */
#ifndef MZI_TRAIN_CALIBRATE_H
#define MZI_TRAIN_CALIBRATE_H

#include "graph/segments.h"
#include "train/model.h"

/* A model like `model`, with the weights that it has, that computes in FP32.  `*twin` is the
 * caller's on failure too. */
mezzo_status mzi_twin_create(mezzo_model **twin, mezzo_model *model);
/* The largest magnitude of every gradient of such a model on one batch.  `*table` lives until the
 * twin's training graph is planned anew. */
mezzo_status mzi_measure_gradients(mezzo_model *twin, const mezzo_binding *inputs, int count,
                                   mzi_maximum **table, int32_t *table_count);

#endif
