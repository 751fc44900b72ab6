/* A small transformer and made-up tokens, for the tests of training. */
#ifndef TESTS_TRAIN_SMALL_GPT_H
#define TESTS_TRAIN_SMALL_GPT_H

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "mezzo/ops.h"
#include "mezzo/train.h"
#include "unit/cmocka_all.h"

enum {
    GPT_SAMPLES = 16, /* of a step */
    GPT_T = 24,
    GPT_C = 48,
    GPT_HEADS = 3,
    GPT_V = 70,
    GPT_LAYERS = 2,
    GPT_TENSOR_MAX = 4 * GPT_C * GPT_C
};

typedef struct gpt {
    int64_t batch; /* samples of a micro-batch */
    float dropout;
    bool llama; /* blocks of that kind, with grouped heads */
} gpt;

typedef struct gpt_batch {
    int32_t tokens[GPT_SAMPLES * GPT_T], labels[GPT_SAMPLES * GPT_T];
} gpt_batch;

static inline mezzo_value gpt_llama_block(mezzo_graph *graph, mezzo_value x) {
    enum {
        D = GPT_C / GPT_HEADS
    };
    const mezzo_attention_config attention = {.heads = GPT_HEADS, .kv_heads = 1, .context = GPT_T};
    mezzo_value table = mezzo_rope_table(graph, "angles", GPT_T, D, 100.0);
    mezzo_value y = mezzo_rms_norm(graph, "norm_1", x, 0.0f);
    y = mezzo_linear(graph, "qkv", y, (GPT_HEADS + 2) * D, false);
    y = mezzo_attention(graph, "attention", mezzo_rope(graph, "rope", y, table, GPT_HEADS + 1),
                        attention);
    x = mezzo_add(graph, x, mezzo_linear(graph, "proj", y, GPT_C, false));
    y = mezzo_rms_norm(graph, "norm_2", x, 0.0f);
    y = mezzo_swiglu(graph, mezzo_linear(graph, "fc", y, 6 * GPT_C, false));
    return mezzo_add(graph, x, mezzo_linear(graph, "out", y, GPT_C, false));
}

static inline mezzo_value gpt_block(mezzo_graph *graph, mezzo_value x, const gpt *n) {
    if (n->llama)
        return gpt_llama_block(graph, x);
    const mezzo_attention_config attention = {.heads = GPT_HEADS, .context = GPT_T};
    mezzo_value y = mezzo_layer_norm(graph, "ln_1", x, 0.0f, true);
    y = mezzo_linear(graph, "qkv", y, 3 * GPT_C, true);
    y = mezzo_attention(graph, "attention", y, attention);
    y = mezzo_linear(graph, "proj", y, GPT_C, true);
    if (n->dropout > 0.0f)
        y = mezzo_dropout(graph, "drop", y, n->dropout);
    x = mezzo_add(graph, x, y);
    y = mezzo_layer_norm(graph, "ln_2", x, 0.0f, true);
    y = mezzo_gelu(graph, mezzo_linear(graph, "fc", y, 4 * GPT_C, true));
    return mezzo_add(graph, x, mezzo_linear(graph, "out", y, GPT_C, true));
}

static inline mezzo_status gpt_build(mezzo_graph *graph, void *user) {
    const gpt *n = user;
    mezzo_shape shape = mezzo_shape2(n->batch, GPT_T);
    mezzo_value tokens = mezzo_input(graph, "tokens", MEZZO_I32, shape);
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, shape), none = {0};
    mezzo_value wte = mezzo_param(graph, "wte", mezzo_shape2(GPT_V, GPT_C),
                                  (mezzo_init){MEZZO_INIT_NORMAL, 0.05f});
    mezzo_value wpe = mezzo_param(graph, "wpe", mezzo_shape2(GPT_T, GPT_C),
                                  (mezzo_init){MEZZO_INIT_NORMAL, 0.05f});
    mezzo_value x = mezzo_embedding(graph, "embedding", tokens, wte, wpe, none);
    for (int layer = 0; layer < GPT_LAYERS; layer++) {
        char name[16];
        snprintf(name, sizeof name, "h.%d", layer);
        mezzo_scope_push(graph, name);
        x = gpt_block(graph, x, n);
        mezzo_scope_pop(graph);
    }
    x = mezzo_layer_norm(graph, "ln_f", x, 0.0f, true);
    mezzo_loss(graph, mezzo_linear_cross_entropy(graph, "head", x, wte, labels, NULL, NULL));
    return MEZZO_OK;
}

/* Each token follows from the one before it, but for one in eight; `padded` labels of the first
 * samples are -1. */
static inline void gpt_fill(gpt_batch *batch, int64_t number, int padded) {
    for (int64_t s = 0; s < GPT_SAMPLES; s++) {
        int32_t token = (int32_t)((number * GPT_SAMPLES + s) * 13 % GPT_V);
        for (int64_t t = 0; t < GPT_T; t++) {
            int64_t i = s * GPT_T + t;
            uint32_t words[4];
            mzi_rng4(words, 7, (uint64_t)number, (uint64_t)i, 0);
            batch->tokens[i] = token;
            int32_t noise = words[0] % 8 == 0 ? (int32_t)(words[1] % 5) : 0;
            token = (token * 3 + 1 + noise) % GPT_V;
            batch->labels[i] = i < padded ? -1 : token;
        }
    }
}

#define GPT_OK(ctx, expression)                                                                    \
    do {                                                                                           \
        if ((expression) != MEZZO_OK)                                                              \
            fail_msg("%s: %s", #expression, mezzo_ctx_error(ctx)->text);                           \
    } while (0)

static inline mezzo_step_result gpt_step(mezzo_ctx *ctx, mezzo_trainer *trainer,
                                         const gpt_batch *batch) {
    const mezzo_binding inputs[] = {
        {"tokens", batch->tokens, sizeof batch->tokens},
        {"labels", batch->labels, sizeof batch->labels},
    };
    mezzo_step_result result;
    GPT_OK(ctx, mezzo_trainer_step(trainer, inputs, 2, &result));
    return result;
}

#endif
