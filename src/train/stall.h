/* The stall meter: which updates leave their weight as it was.
 *
 *   weight --sample--> old          at most MZI_STALL_SAMPLES elements, as they are stored
 *   update of the weight            any optimizer
 *   gradient, weight, old --> { counted, stalled }
 */
#ifndef MZI_TRAIN_STALL_H
#define MZI_TRAIN_STALL_H

#include "mezzo/train.h"
#include "train/model.h"

/* A share is known to 1/sqrt(4096) = 1.6 %, and 4096 elements of FP32 are copied in a few
 * microseconds. */
enum {
    MZI_STALL_SAMPLES = 4096
};

typedef struct mzi_stall_meter {
    mezzo_stall *of; /* by trained parameter; in the graph's arena, like the next */
    int32_t *counts; /* values of F32 [2] */
    int32_t count;
} mzi_stall_meter;

/* Put the meter of grad->param around the graph's last node, which is its update; nothing if that
 * freezes it. */
mezzo_status mzi_stall_watch(mezzo_graph *graph, const mzi_grad *grad, mzi_stall_meter *meter);
/* After a run with meters: each parameter's counts, and the share of all, NaN if nothing counts. */
mezzo_status mzi_stall_read(mezzo_model *model, mzi_stall_meter *meter, double *share);

#endif
