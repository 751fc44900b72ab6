/* GPT-2 (Radford and others, 2019), with Hugging Face's names for its parameters.
 *
 *   x = wte[tokens] + wpe[0..T-1]
 *   for each block:   x += attn.c_proj(attention(attn.c_attn(ln_1(x))))
 *                     x += mlp.c_proj(gelu(mlp.c_fc(ln_2(x))))
 *   logits = ln_f(x) wte^T
 *
 * Weights start normal with deviation 0.02, those of the two projections onto the residual stream
 * with 0.02 / sqrt(2 layers), as each block adds two terms to it; biases start at 0. */
#include "models.h"

#include <math.h>
#include <stdio.h>

enum {
    NAME_BYTES = 24
};
#define DEVIATION 0.02f

typedef struct gpt2 {
    mezzo_graph *graph;
    int64_t layers, heads, channels, context, vocab;
    float dropout;
} gpt2;

static mezzo_value linear(const gpt2 *m, const char *name, mezzo_value x, int64_t from, int64_t to,
                          float deviation) {
    mezzo_scope_push(m->graph, name);
    mezzo_value w = mzi_models_matrix(m->graph, "weight", to, from, deviation);
    mezzo_value b =
        mezzo_param(m->graph, "bias", mezzo_shape1(to), (mezzo_init){MEZZO_INIT_CONSTANT, 0.0f});
    mezzo_scope_pop(m->graph);
    return mezzo_linear_with(m->graph, name, x, w, b);
}

static mezzo_value drop(const gpt2 *m, const char *name, mezzo_value x) {
    return m->dropout > 0.0f ? mezzo_dropout(m->graph, name, x, m->dropout) : x;
}

static mezzo_value block(const gpt2 *m, mezzo_value x) {
    mezzo_graph *g = m->graph;
    int64_t C = m->channels;
    float residual = DEVIATION / sqrtf(2.0f * (float)m->layers);
    const mezzo_attention_config attention = {.heads = m->heads, .context = m->context};
    mezzo_value y = mezzo_layer_norm(g, "ln_1", x, 0.0f, true);
    mezzo_scope_push(g, "attn");
    y = linear(m, "c_attn", y, C, 3 * C, DEVIATION);
    y = mezzo_attention(g, "attention", y, attention);
    y = linear(m, "c_proj", y, C, C, residual);
    y = drop(m, "drop", y);
    mezzo_scope_pop(g);
    x = mezzo_add(g, x, y);
    y = mezzo_layer_norm(g, "ln_2", x, 0.0f, true);
    mezzo_scope_push(g, "mlp");
    y = linear(m, "c_fc", y, C, 4 * C, DEVIATION);
    y = mezzo_gelu(g, y);
    y = linear(m, "c_proj", y, 4 * C, C, residual);
    y = drop(m, "drop", y);
    mezzo_scope_pop(g);
    return mezzo_add(g, x, y);
}

static void network(const gpt2 *m, int64_t B) {
    mezzo_graph *g = m->graph;
    mezzo_value labels, tokens = mzi_models_tokens(g, B, m->context, &labels);
    mezzo_value wte = mzi_models_matrix(g, "wte.weight", m->vocab, m->channels, DEVIATION);
    mezzo_value wpe = mzi_models_matrix(g, "wpe.weight", m->context, m->channels, DEVIATION);
    mezzo_value x = mezzo_embedding(g, "embedding", tokens, wte, wpe, mezzo_position(g));
    x = drop(m, "drop", x);
    for (int64_t layer = 0; layer < m->layers; layer++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "h.%d", (int)layer);
        mezzo_scope_push(g, name);
        x = block(m, x);
        mezzo_scope_pop(g);
    }
    mzi_models_predict(g, mezzo_layer_norm(g, "ln_f", x, 0.0f, true), wte, labels);
}

static mezzo_status build(mezzo_graph *graph, const mezzo_config *config,
                          const mezzo_data_shape *shape) {
    int64_t vocab;
    mezzo_status status = mzi_models_vocab(graph, config, shape->classes, &vocab);
    if (status != MEZZO_OK)
        return status;
    const gpt2 m = {.graph = graph,
                    .layers = mezzo_config_int(config, "model.layers"),
                    .heads = mezzo_config_int(config, "model.heads"),
                    .channels = mezzo_config_int_at(config, "model.channels", 0),
                    .context = shape->context,
                    .vocab = vocab,
                    .dropout = (float)mezzo_config_real(config, "model.dropout")};
    mezzo_label_smoothing(graph, (float)mezzo_config_real(config, "train.label_smoothing"));
    network(&m, shape->batch);
    return MEZZO_OK; /* an error on the way is kept by the graph */
}

const mezzo_model_kind mzi_models_gpt2 = {
    .name = "gpt2",
    .help = "transformer of model.layers blocks, model.heads heads and model.channels channels",
    .data = MEZZO_DATA_TOKENS,
    .build = build,
    .hf = &mzi_models_gpt2_hf};
