/* A small convolutional network and made-up data, for the tests of training. */
#ifndef TESTS_TRAIN_SMALL_NET_H
#define TESTS_TRAIN_SMALL_NET_H

#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "mezzo/data.h"
#include "mezzo/ops.h"
#include "mezzo/train.h"
#include "unit/cmocka_all.h"

enum {
    NET_BATCH = 32,
    NET_SIDE = 16,
    NET_CLASSES = 4,
    NET_PIXELS = NET_SIDE * NET_SIDE,
    NET_TENSOR_MAX = 65536
};

typedef struct net {
    int64_t batch;     /* 0: NET_BATCH */
    float dropout;     /* 0: none */
    float loss_factor; /* 0: 1 */
} net;

/* One batch, [batch,side,side,1]. */
typedef struct net_batch {
    float x[NET_BATCH * NET_PIXELS];
    int32_t labels[NET_BATCH];
} net_batch;

/* conv, norm, relu, max pool; conv with bias, relu, average pool; linear, relu, dropout; head.
 * Large enough that loops over activations, sums over rows and the norm of a gradient take several
 * chunks. */
static inline mezzo_status net_build(mezzo_graph *graph, void *user) {
    const net *n = user;
    int64_t B = n->batch ? n->batch : NET_BATCH;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(B, NET_SIDE, NET_SIDE, 1));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(B));
    x = mezzo_conv2d(graph, "conv1", x,
                     (mezzo_conv2d_config){.channels = 12, .kernel = 3, .pad = 1});
    x = mezzo_batch_norm(graph, "norm1", x, 0.0f, 0.0f);
    x = mezzo_max_pool(graph, mezzo_relu(graph, x), 2, 0, 0);
    x = mezzo_conv2d(graph, "conv2", x,
                     (mezzo_conv2d_config){.channels = 16, .kernel = 3, .pad = 1, .bias = true});
    x = mezzo_avg_pool(graph, mezzo_relu(graph, x), 2, 0, 0);
    x = mezzo_relu(graph, mezzo_linear(graph, "fc", mezzo_flatten(graph, x), 144, true));
    if (n->dropout > 0.0f)
        x = mezzo_dropout(graph, "drop", x, n->dropout);
    x = mezzo_linear(graph, "head", x, NET_CLASSES, true);
    mezzo_output(graph, "logits", x);
    mezzo_value loss = mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL);
    if (n->loss_factor > 0.0f)
        loss = mezzo_scale(graph, loss, n->loss_factor);
    mezzo_loss(graph, loss);
    return MEZZO_OK;
}

/* Uniform in [-1, 1): element `i` of stream `stream`. */
static inline float net_random(uint64_t stream, uint64_t i) {
    uint32_t words[4];
    mzi_rng4(words, 11, stream, i / 4, 0);
    return 2.0f * mzi_uniform(words[i % 4]) - 1.0f;
}

/* Noise with a bright quarter of the image that tells the class. */
static inline void net_sample(uint64_t index, float *x, int32_t *label) {
    *label = (int32_t)(index * 7 % NET_CLASSES);
    for (int p = 0; p < NET_PIXELS; p++) {
        int row = p / NET_SIDE, column = p % NET_SIDE;
        int quarter = 2 * (row >= NET_SIDE / 2) + (column >= NET_SIDE / 2);
        x[p] = 0.5f * net_random(index, (uint64_t)p) + (quarter == *label ? 1.0f : 0.0f);
    }
}

static inline void net_fill(net_batch *batch, int64_t number) {
    for (int64_t k = 0; k < NET_BATCH; k++)
        net_sample((uint64_t)(number * NET_BATCH + k), batch->x + k * NET_PIXELS,
                   &batch->labels[k]);
}

static inline mezzo_ctx *net_ctx(int threads) {
    mezzo_ctx *ctx = NULL;
    const mezzo_ctx_config config = {.threads = threads};
    assert_int_equal(mezzo_ctx_create(&ctx, &config, NULL), MEZZO_OK);
    return ctx;
}

#define NET_OK(ctx, expression)                                                                    \
    do {                                                                                           \
        if ((expression) != MEZZO_OK)                                                              \
            fail_msg("%s: %s", #expression, mezzo_ctx_error(ctx)->text);                           \
    } while (0)

static inline mezzo_model *net_model(mezzo_ctx *ctx, net *n, mezzo_dtype compute) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {
        .build = net_build, .user = n, .precision.compute = compute, .seed = 3};
    NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    return model;
}

/* adamw, lr 0.01, no clipping, unless changed. */
static inline mezzo_trainer_config net_trainer_config(void) {
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default("adamw")};
    config.optimizer.lr = 0.01f;
    return config;
}

static inline mezzo_step_result net_step_on(mezzo_ctx *ctx, mezzo_trainer *trainer, const float *x,
                                            const int32_t *labels) {
    const mezzo_binding inputs[] = {
        {"x", x, NET_BATCH * NET_PIXELS * sizeof *x},
        {"labels", labels, NET_BATCH * sizeof *labels},
    };
    mezzo_step_result result;
    NET_OK(ctx, mezzo_trainer_step(trainer, inputs, 2, &result));
    return result;
}

static inline mezzo_step_result net_step(mezzo_ctx *ctx, mezzo_trainer *trainer,
                                         const net_batch *batch) {
    return net_step_on(ctx, trainer, batch->x, batch->labels);
}

#endif
