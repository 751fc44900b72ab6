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

/* Of a language model. */

/* model.vocab, or as many as the data's `tokens` and up to whole tiles of the head's product. */
mezzo_status mzi_models_vocab(mezzo_graph *graph, const mezzo_config *config, int32_t tokens,
                              int64_t *vocab);
int64_t mzi_models_round_up(int64_t n, int64_t multiple);
/* A parameter [rows, columns], normal about 0. */
mezzo_value mzi_models_matrix(mezzo_graph *graph, const char *name, int64_t rows, int64_t columns,
                              float deviation);
/* The input "tokens" [batch, context] and the input "labels" of the same shape.  A decode entry has
 * no labels, and takes one token of each sequence, at the input "position". */
mezzo_value mzi_models_tokens(mezzo_graph *graph, int64_t batch, int64_t context,
                              mezzo_value *labels);
/* x [batch, context, C] by `weight` [vocab, C]: loss, correct and valid; when decoding, logits. */
void mzi_models_predict(mezzo_graph *graph, mezzo_value x, mezzo_value weight, mezzo_value labels);

#endif
