/* GPT-2 as Hugging Face writes it.  The names are the same behind the prefix; its linear layers
 * multiply by a weight [K,N] ("Conv1D"), ours is [N,K]. */
#include "models.h"

static const char *const transposed[] = {"*.c_attn.weight", "*.c_proj.weight", "*.c_fc.weight",
                                         NULL};

/* The causal mask and its fill value, which old files keep for each block. */
static const char *const ignored[] = {"*.attn.bias", "*.attn.masked_bias", NULL};

static const mezzo_hf_key keys[] = {
    {.name = "n_layer", .role = MEZZO_HF_SIZE, .key = "model.layers"},
    {.name = "n_head", .role = MEZZO_HF_SIZE, .key = "model.heads"},
    {.name = "n_embd", .role = MEZZO_HF_SIZE, .key = "model.channels"},
    {.name = "n_positions", .role = MEZZO_HF_SIZE, .key = "model.context"},
    {.name = "vocab_size", .role = MEZZO_HF_SIZE, .key = "model.vocab", .rows_of = "wte.weight"},
    {.name = "n_inner", .role = MEZZO_HF_MULTIPLE, .key = "model.channels", .factor = 4},
    {.name = "activation_function", .role = MEZZO_HF_FIXED, .value = "\"gelu_new\""},
    {.name = "layer_norm_epsilon", .role = MEZZO_HF_FIXED, .value = "1e-05"},
    {.name = "scale_attn_weights", .role = MEZZO_HF_FIXED, .value = "true"},
    {.name = "scale_attn_by_inverse_layer_idx", .role = MEZZO_HF_FIXED, .value = "false"},
    {.name = "add_cross_attention", .role = MEZZO_HF_FIXED, .value = "false"},
    {.name = "tie_word_embeddings", .role = MEZZO_HF_FIXED, .value = "true"},
    {.name = "embd_pdrop", .role = MEZZO_HF_RATE, .key = "model.dropout"},
    {.name = "resid_pdrop", .role = MEZZO_HF_RATE, .key = "model.dropout"},
    {.name = "attn_pdrop", .role = MEZZO_HF_RATE},
    {0}};

const mezzo_hf_map mzi_models_gpt2_hf = {.model_type = "gpt2",
                                         .architecture = "GPT2LMHeadModel",
                                         .prefix = "transformer.",
                                         .transposed = transposed,
                                         .ignored = ignored,
                                         .tied = "lm_head.weight",
                                         .tied_to = "wte.weight",
                                         .keys = keys};
