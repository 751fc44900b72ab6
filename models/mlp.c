/* A multilayer perceptron: linear layers with an activation between them. */
#include "models.h"

static mezzo_status build(mezzo_graph *graph, const mezzo_config *config,
                          const mezzo_data_shape *shape) {
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32,
                                mezzo_shape4(shape->batch, shape->H, shape->W, shape->C));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(shape->batch));
    return mzi_models_finish(graph, config, x, labels, shape->classes);
}

const mezzo_model_kind mzi_models_mlp = {
    .name = "mlp", .help = "linear layers of model.hidden", .build = build};
