/* What the language models share: their vocabulary, and where tokens come in and a loss goes out.
 */
#include "models.h"

enum {
    VOCAB_MULTIPLE = 64 /* whole tiles of the head's product */
};

mezzo_status mzi_models_vocab(mezzo_graph *graph, const mezzo_config *config, int32_t tokens,
                              int64_t *vocab) {
    int64_t wanted = mezzo_config_int(config, "model.vocab");
    if (wanted == 0)
        wanted = mzi_models_round_up(tokens, VOCAB_MULTIPLE);
    if (wanted < tokens)
        return mezzo_graph_error(graph, MEZZO_CONFIG,
                                 "model.vocab is %lld, and the data has %d tokens: raise it, or "
                                 "leave it 0",
                                 (long long)wanted, tokens);
    *vocab = wanted;
    return MEZZO_OK;
}

int64_t mzi_models_round_up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

mezzo_value mzi_models_matrix(mezzo_graph *graph, const char *name, int64_t rows, int64_t columns,
                              float deviation) {
    return mezzo_param(graph, name, mezzo_shape2(rows, columns),
                       (mezzo_init){MEZZO_INIT_NORMAL, deviation});
}

mezzo_value mzi_models_tokens(mezzo_graph *graph, int64_t batch, int64_t context,
                              mezzo_value *labels) {
    bool decode = mezzo_graph_entry(graph) == MEZZO_ENTRY_DECODE;
    mezzo_shape shape = mezzo_shape2(batch, decode ? 1 : context);
    mezzo_value tokens = mezzo_input(graph, "tokens", MEZZO_I32, shape);
    *labels = decode ? (mezzo_value){0} : mezzo_input(graph, "labels", MEZZO_I32, shape);
    return tokens;
}

void mzi_models_predict(mezzo_graph *graph, mezzo_value x, mezzo_value weight, mezzo_value labels) {
    mezzo_value correct, valid;
    if (mezzo_graph_entry(graph) == MEZZO_ENTRY_DECODE) {
        mezzo_output(graph, "logits",
                     mezzo_linear_with(graph, "head", x, weight, (mezzo_value){0}));
        return;
    }
    mezzo_loss(graph,
               mezzo_linear_cross_entropy(graph, "head", x, weight, labels, &correct, &valid));
    mezzo_output(graph, "correct", correct);
    mezzo_output(graph, "valid", valid);
}
