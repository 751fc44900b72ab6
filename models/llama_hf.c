/* Llama as Hugging Face writes it: LlamaForCausalLM.  Its products multiply by a weight [N,K], as
 * ours do; those that share their input are tensors of their own. */
#include "models.h"

static const char *const bare[] = {"lm_head.weight", NULL};

/* The frequencies of the rotary positions, which old files keep for each block. */
static const char *const ignored[] = {"*.rotary_emb.inv_freq", NULL};

static const mezzo_hf_fused fused[] = {
    {.whole = "qkv_proj",
     .parts = {{"q_proj", "model.heads"},
               {"k_proj", "model.kv_heads"},
               {"v_proj", "model.kv_heads"}}},
    {.whole = "gate_up_proj", .parts = {{.name = "gate_proj"}, {.name = "up_proj"}}},
    {0}};

static const mezzo_hf_key keys[] = {
    {.name = "num_hidden_layers", .role = MEZZO_HF_SIZE, .key = "model.layers"},
    {.name = "num_attention_heads", .role = MEZZO_HF_SIZE, .key = "model.heads"},
    {.name = "num_key_value_heads",
     .role = MEZZO_HF_SIZE,
     .key = "model.kv_heads",
     .other = "model.heads"},
    {.name = "hidden_size", .role = MEZZO_HF_SIZE, .key = "model.channels"},
    {.name = "head_dim",
     .role = MEZZO_HF_QUOTIENT,
     .key = "model.channels",
     .other = "model.heads"},
    {.name = "intermediate_size",
     .role = MEZZO_HF_SIZE,
     .key = "model.mlp_channels",
     .rows_of = "layers.0.mlp.gate_up_proj.weight",
     .factor = 2},
    {.name = "max_position_embeddings", .role = MEZZO_HF_SIZE, .key = "model.context"},
    {.name = "vocab_size",
     .role = MEZZO_HF_SIZE,
     .key = "model.vocab",
     .rows_of = "embed_tokens.weight"},
    {.name = "rms_norm_eps", .role = MEZZO_HF_REAL, .key = "model.norm_eps", .value = "1e-06"},
    {.name = "rope_theta", .role = MEZZO_HF_REAL, .key = "model.rope_theta", .value = "10000"},
    {.name = "rope_parameters/rope_theta", .role = MEZZO_HF_REAL, .key = "model.rope_theta"},
    {.name = "rope_parameters/rope_type", .role = MEZZO_HF_FIXED, .value = "\"default\""},
    {.name = "rope_scaling", .role = MEZZO_HF_FIXED, .value = "null"},
    {.name = "tie_word_embeddings", .role = MEZZO_HF_FLAG, .key = "model.tied", .value = "false"},
    {.name = "hidden_act", .role = MEZZO_HF_FIXED, .value = "\"silu\""},
    {.name = "attention_bias", .role = MEZZO_HF_FIXED, .value = "false"},
    {.name = "mlp_bias", .role = MEZZO_HF_FIXED, .value = "false"},
    {.name = "attention_dropout", .role = MEZZO_HF_RATE},
    {0}};

const mezzo_hf_map mzi_models_llama_hf = {.model_type = "llama",
                                          .architecture = "LlamaForCausalLM",
                                          .prefix = "model.",
                                          .bare = bare,
                                          .ignored = ignored,
                                          .fused = fused,
                                          .tied = "lm_head.weight",
                                          .tied_to = "embed_tokens.weight",
                                          .keys = keys};
