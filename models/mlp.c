/* A multilayer perceptron: linear layers with an activation between them. */
#include "models.h"

static mezzo_status build(mezzo_graph *graph, const mezzo_config *config,
                          const int64_t *input_shape, int32_t classes) {
    int64_t B = input_shape[0], H = input_shape[1], W = input_shape[2], C = input_shape[3];
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(B, H, W, C));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(B));
    return mzi_models_finish(graph, config, x, labels, classes);
}

const mezzo_model_kind mzi_models_mlp = {
    .name = "mlp", .help = "linear layers of model.hidden", .build = build};
