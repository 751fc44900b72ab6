/* Masters that are the weights which operations read.
 *
 *   plain     w (f32) -> cast -> w:bf16 -> linear ...        the update writes w
 *               `------> embedding ...
 *   lowered   w (bf16) -> linear, embedding ...              the update writes w, and whatever else
 *                                                            its form holds
 *
 * That takes parameters which are read by that cast and by operations that take any form: what
 * takes FP32 alone would read fewer digits than the master has. */
#include "graph/plan.h"

static bool reads(const mzi_node *node, int32_t value) {
    for (int k = 0; k < node->in_count; k++)
        if (node->in[k] == value)
            return true;
    return false;
}

static bool is_weight_cast(const mzi_node *node) {
    return node->op == &mzi_op_cast && node->phase == MZI_PHASE_PREPARE &&
           node->compute == MEZZO_BF16;
}

static bool takes_any_form(const mzi_node *node, int32_t param) {
    for (int k = 0; k < node->in_count; k++)
        if (node->in[k] == param && !(node->op->in_master & MEZZO_BIT(k)))
            return false;
    return true;
}

mzi_master_readers mzi_master_readers_of(const mezzo_graph *graph, int32_t param) {
    mzi_master_readers found = {0};
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (!reads(node, param))
            continue;
        if (is_weight_cast(node)) {
            found.cast = true;
            continue;
        }
        const mzi_node **kind = !takes_any_form(node, param)  ? &found.f32
                                : node->compute == MEZZO_BF16 ? &found.low
                                                              : &found.wide;
        if (!*kind)
            *kind = node;
    }
    return found;
}

static void replace(mezzo_graph *graph, int32_t old, int32_t value) {
    for (int32_t n = 0; n < graph->node_count; n++)
        for (int k = 0; k < graph->nodes[n].in_count; k++)
            if (graph->nodes[n].in[k] == old)
                graph->nodes[n].in[k] = value;
}

static void remove_node(mezzo_graph *graph, int32_t at) {
    for (int32_t n = at; n + 1 < graph->node_count; n++)
        graph->nodes[n] = graph->nodes[n + 1];
    graph->node_count--;
    for (int32_t v = 1; v < graph->value_count; v++)
        graph->values[v].producer -= graph->values[v].producer > at;
}

static void take_cast_out(mezzo_graph *graph, int32_t at) {
    int32_t param = graph->nodes[at].in[0], low = graph->nodes[at].out[0];
    graph->values[low].kind = MZI_VALUE_GONE;
    graph->values[low].producer = -1;
    remove_node(graph, at);
    replace(graph, low, param);
}

void mzi_master_lower(mezzo_graph *graph, int32_t param, bool is_split) {
    for (int32_t n = 0; n < graph->node_count; n++)
        if (reads(&graph->nodes[n], param) && is_weight_cast(&graph->nodes[n])) {
            take_cast_out(graph, n);
            break;
        }
    graph->values[param].tensor.dtype = MEZZO_BF16;
    graph->values[param].is_split = is_split;
}
