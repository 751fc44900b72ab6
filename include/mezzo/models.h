/* The model kinds that come with mezzo: cnn, gpt2, llama, mlp. */
#ifndef MEZZO_MODELS_H
#define MEZZO_MODELS_H

#include "mezzo/run.h"

#ifdef __cplusplus
extern "C" {
#endif

MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_models_register(mezzo_runner *runner);

#ifdef __cplusplus
}
#endif
#endif
