/* Llama (Touvron and others, 2023), with Hugging Face's names but for the two products that share
 * their input, which are one here:
 *
 *   x = embed_tokens[tokens]
 *   for each block:   qkv = self_attn.qkv_proj(input_layernorm(x))
 *                     x += self_attn.o_proj(attention(rope(qkv)))
 *                     h = mlp.gate_up_proj(post_attention_layernorm(x))
 *                     x += mlp.down_proj(swiglu(h))
 *   logits = norm(x) lm_head^T,  or with model.tied  norm(x) embed_tokens^T
 *
 * rope turns queries and keys.  Norms are RMS norms, nothing has a bias.  Weights start normal with
 * deviation 0.02, those of the two projections onto the residual stream with 0.02 / sqrt(2 layers),
 * as each block adds two terms to it. */
#include "models.h"

#include <math.h>
#include <stdio.h>

enum {
    NAME_BYTES = 24,
    WIDTH_MULTIPLE = 64 /* of the perceptron: whole tiles of its products */
};
#define DEVIATION 0.02f

typedef struct llama {
    mezzo_graph *graph;
    int64_t layers, heads, kv_heads, channels, mlp_channels, context, vocab;
    double theta;
    float eps;
    bool tied;
} llama;

static mezzo_value linear(const llama *m, const char *name, mezzo_value x, int64_t from, int64_t to,
                          float deviation) {
    mezzo_scope_push(m->graph, name);
    mezzo_value w = mzi_models_matrix(m->graph, "weight", to, from, deviation);
    mezzo_scope_pop(m->graph);
    return mezzo_linear_with(m->graph, name, x, w, (mezzo_value){0});
}

static mezzo_value block(const llama *m, mezzo_value x, mezzo_value table) {
    mezzo_graph *g = m->graph;
    int64_t C = m->channels, F = m->mlp_channels, D = C / m->heads;
    float residual = DEVIATION / sqrtf(2.0f * (float)m->layers);
    const mezzo_attention_config attention = {
        .heads = m->heads, .kv_heads = m->kv_heads, .context = m->context};
    mezzo_value y = mezzo_rms_norm(g, "input_layernorm", x, m->eps);
    mezzo_scope_push(g, "self_attn");
    y = linear(m, "qkv_proj", y, C, (m->heads + 2 * m->kv_heads) * D, DEVIATION);
    y = mezzo_rope(g, "rope", y, table, m->heads + m->kv_heads);
    y = mezzo_attention(g, "attention", y, attention);
    y = linear(m, "o_proj", y, C, C, residual);
    mezzo_scope_pop(g);
    x = mezzo_add(g, x, y);
    y = mezzo_rms_norm(g, "post_attention_layernorm", x, m->eps);
    mezzo_scope_push(g, "mlp");
    y = mezzo_swiglu(g, linear(m, "gate_up_proj", y, C, 2 * F, DEVIATION));
    y = linear(m, "down_proj", y, F, C, residual);
    mezzo_scope_pop(g);
    return mezzo_add(g, x, y);
}

static void network(const llama *m, int64_t B) {
    mezzo_graph *g = m->graph;
    mezzo_value labels, none = {0}, tokens = mzi_models_tokens(g, B, m->context, &labels);
    mezzo_value table = mezzo_rope_table(g, "rope", m->context, m->channels / m->heads, m->theta);
    mezzo_value embed =
        mzi_models_matrix(g, "embed_tokens.weight", m->vocab, m->channels, DEVIATION);
    mezzo_value x = mezzo_embedding(g, "embedding", tokens, embed, none, none);
    for (int64_t layer = 0; layer < m->layers; layer++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "layers.%d", (int)layer);
        mezzo_scope_push(g, name);
        x = block(m, x, table);
        mezzo_scope_pop(g);
    }
    x = mezzo_rms_norm(g, "norm", x, m->eps);
    mezzo_value head = embed;
    if (!m->tied)
        head = mzi_models_matrix(g, "lm_head.weight", m->vocab, m->channels, DEVIATION);
    mzi_models_predict(g, x, head, labels);
}

static llama read_config(mezzo_graph *graph, const mezzo_config *config,
                         const mezzo_data_shape *shape) {
    llama m = {.graph = graph,
               .layers = mezzo_config_int(config, "model.layers"),
               .heads = mezzo_config_int(config, "model.heads"),
               .kv_heads = mezzo_config_int(config, "model.kv_heads"),
               .channels = mezzo_config_int_at(config, "model.channels", 0),
               .mlp_channels = mezzo_config_int(config, "model.mlp_channels"),
               .context = shape->context,
               .theta = mezzo_config_real(config, "model.rope_theta"),
               .eps = (float)mezzo_config_real(config, "model.norm_eps"),
               .tied = mezzo_config_bool(config, "model.tied")};
    if (m.kv_heads == 0)
        m.kv_heads = m.heads;
    if (m.mlp_channels == 0) /* as many weights as the usual two matrices of 4 C */
        m.mlp_channels = mzi_models_round_up(8 * m.channels / 3, WIDTH_MULTIPLE);
    return m;
}

static mezzo_status build(mezzo_graph *graph, const mezzo_config *config,
                          const mezzo_data_shape *shape) {
    llama m = read_config(graph, config, shape);
    mezzo_status status = mzi_models_vocab(graph, config, shape->classes, &m.vocab);
    if (status != MEZZO_OK)
        return status;
    mezzo_label_smoothing(graph, (float)mezzo_config_real(config, "train.label_smoothing"));
    network(&m, shape->batch);
    return MEZZO_OK; /* an error on the way is kept by the graph */
}

const mezzo_model_kind mzi_models_llama = {
    .name = "llama",
    .help = "transformer of model.layers blocks with rotary positions, grouped heads, RMS norm and "
            "gated perceptrons",
    .data = MEZZO_DATA_TOKENS,
    .build = build,
    .hf = &mzi_models_llama_hf};
