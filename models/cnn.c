/* A convolutional network: 3x3 convolutions with batch norm and activation, 2x2 max pooling behind
 * some of them, then the layers of a perceptron. */
#include "models.h"

#include <stdio.h>

enum {
    NAME_BYTES = 24
};

/* True if model.pool_after says that a pooling follows convolution `number`, counted from 1. */
static bool is_pooled(const mezzo_config *config, int number) {
    for (int i = 0; i < mezzo_config_count(config, "model.pool_after"); i++)
        if (mezzo_config_int_at(config, "model.pool_after", i) == number)
            return true;
    return false;
}

/* The convolution has no bias: the norm behind it would take it away again. */
static mezzo_value convolution(mezzo_graph *graph, const mezzo_config *config, mezzo_value x,
                               int number) {
    char conv[NAME_BYTES], norm[NAME_BYTES];
    snprintf(conv, sizeof conv, "conv%d", number);
    snprintf(norm, sizeof norm, "norm%d", number);
    int64_t channels = mezzo_config_int_at(config, "model.channels", number - 1);
    x = mezzo_conv2d(graph, conv, x,
                     (mezzo_conv2d_config){.channels = channels, .kernel = 3, .pad = 1});
    x = mezzo_batch_norm(graph, norm, x, 0.0f, 0.0f);
    x = mzi_models_activation(graph, config, x);
    return is_pooled(config, number) ? mezzo_max_pool(graph, x, 2, 0, 0) : x;
}

static mezzo_status build(mezzo_graph *graph, const mezzo_config *config,
                          const mezzo_data_shape *shape) {
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32,
                                mezzo_shape4(shape->batch, shape->H, shape->W, shape->C));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(shape->batch));
    for (int number = 1; number <= mezzo_config_count(config, "model.channels"); number++)
        x = convolution(graph, config, x, number);
    return mzi_models_finish(graph, config, x, labels, shape->classes);
}

const mezzo_model_kind mzi_models_cnn = {
    .name = "cnn",
    .help = "3x3 convolutions of model.channels, then linear layers of model.hidden",
    .build = build};
