/* The table of kinds, and what every classifier ends with. */
#include "models.h"

#include <stdio.h>
#include <string.h>

enum {
    NAME_BYTES = 24
};

mezzo_status mezzo_models_register(mezzo_runner *runner) {
    static const mezzo_model_kind *const kinds[] = {&mzi_models_cnn, &mzi_models_gpt2,
                                                    &mzi_models_llama, &mzi_models_mlp};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        mezzo_status status = mezzo_runner_add_kind(runner, kinds[i]);
        if (status != MEZZO_OK)
            return status;
    }
    return MEZZO_OK;
}

mezzo_value mzi_models_activation(mezzo_graph *graph, const mezzo_config *config, mezzo_value x) {
    bool gelu = strcmp(mezzo_config_text(config, "model.activation"), "gelu") == 0;
    return gelu ? mezzo_gelu(graph, x) : mezzo_relu(graph, x);
}

mezzo_status mzi_models_finish(mezzo_graph *graph, const mezzo_config *config, mezzo_value x,
                               mezzo_value labels, int32_t classes) {
    float dropout = (float)mezzo_config_real(config, "model.dropout");
    x = mezzo_flatten(graph, x);
    for (int i = 0; i < mezzo_config_count(config, "model.hidden"); i++) {
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "fc%d", i + 1);
        x = mezzo_linear(graph, name, x, mezzo_config_int_at(config, "model.hidden", i), true);
        x = mzi_models_activation(graph, config, x);
        snprintf(name, sizeof name, "drop%d", i + 1);
        if (dropout > 0.0f)
            x = mezzo_dropout(graph, name, x, dropout);
    }
    mezzo_value correct, valid;
    mezzo_label_smoothing(graph, (float)mezzo_config_real(config, "train.label_smoothing"));
    mezzo_value logits = mezzo_linear(graph, "head", x, classes, true);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, logits, labels, &correct, &valid));
    mezzo_output(graph, "correct", correct);
    mezzo_output(graph, "valid", valid);
    return MEZZO_OK; /* an error on the way is kept by the graph */
}
