/* The model kinds, and the layers that they share. */
#ifndef MODELS_MODELS_H
#define MODELS_MODELS_H

#include <mezzo/models.h>
#include <mezzo/ops.h>

extern const mezzo_model_kind mzi_models_cnn, mzi_models_gpt2, mzi_models_llama, mzi_models_mlp;
extern const mezzo_hf_map mzi_models_gpt2_hf, mzi_models_llama_hf;

/* model.activation */
mezzo_value mzi_models_activation(mezzo_graph *graph, const mezzo_config *config, mezzo_value x);
/* x[B, ...] -> logits[B, classes]: flatten; linear layers of model.hidden, named fc1, fc2 ..., with
 * activation and model.dropout; the linear layer "head".  Then loss, correct and valid from
 * `labels`. */
mezzo_status mzi_models_finish(mezzo_graph *graph, const mezzo_config *config, mezzo_value x,
                               mezzo_value labels, int32_t classes);

#endif
