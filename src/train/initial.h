/* Initial values of state. */
#ifndef MZI_TRAIN_INITIAL_H
#define MZI_TRAIN_INITIAL_H

#include "train/model.h"

/* Fill the state's buffer, in the form that it has, by `state->init`.  Values are functions of
 * (seed, name, element): of each block of 4 elements one block of mzi_rng4. */
mezzo_status mzi_state_initialise(mezzo_model *model, mzi_state *state);

#endif
