/* Recomputation for a memory budget. */
#ifndef MZI_TRAIN_FIT_H
#define MZI_TRAIN_FIT_H

#include "train/trainer.h"

/* Have the model recompute what the training plan needs to take at most `budget` bytes: state,
 * derived weights, activations, workspaces.  OUT_OF_MEMORY if nothing helps. */
mezzo_status mzi_trainer_fit(mezzo_trainer *trainer, uint64_t budget);

#endif
