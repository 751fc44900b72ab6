/* A trainer's state from elsewhere. */
#ifndef MZI_TRAIN_RESUME_H
#define MZI_TRAIN_RESUME_H

#include "mezzo/train.h"

/* What is wrong with a state, in words, or null.   */
const char *mzi_trainer_state_fault(const mezzo_trainer_state *state);

#endif
