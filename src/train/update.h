/* The tail of a training step as nodes: norms of the gradients, then the writes of a commit. */
#ifndef MZI_TRAIN_UPDATE_H
#define MZI_TRAIN_UPDATE_H

#include "graph/window.h"
#include "train/model.h"
#include "train/optim.h"
#include "train/stall.h"

/* Values that the step reads and writes on the host's side. */
typedef struct mzi_update {
    double average_decay; /* of the parameters; 0: there is no average */
    /* Inputs, F32 [MZI_OPTIM_SCALARS]: one for each exponent that gradients have (mzi_grad). */
    int32_t *scalars, *exponents;
    int32_t scalars_count;
    int32_t key; /* input, I32 [4]: seed low, seed high, commit; 0: nothing is rounded by it */
    /* Figures (graph/stats.h): first of each gradient, then of the next value of each statistic. */
    int32_t *norms;
    int32_t norm_count;
    int32_t trained; /* parameters whose rate scale is not 0 */
    mzi_stall_meter stall;
    mzi_window window; /* zeroed with one micro-batch a step */
} mzi_update;

/* Append to a differentiated, typed graph: in the phase check a norm for each gradient, in the
 * phase update the optimizer for each parameter, with its stall meter and, if `out->average_decay`
 * asks for one, its average, and a copy for each statistic.  The arrays of `out` live in the
 * graph's arena. */
mezzo_status mzi_update_append(mezzo_graph *graph, const mzi_optim_def *optim,
                               const mezzo_optimizer_config *config,
                               const mezzo_precision *precision, mzi_update *out);

/* Append a node that writes state, named NAME/OP, to the phase update; `attrs` may be null. */
mezzo_status mzi_update_write(mezzo_graph *graph, const mezzo_op_def *op, const char *name,
                              const int32_t *in, int count, const mezzo_attrs *attrs);

#endif
