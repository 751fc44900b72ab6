/* Masters that are the weights which operations read.
 *
 *   plain     w (f32) -> cast -> w:bf16 -> linear ...        the update writes w
 *   lowered   w (bf16) -> linear ...                         the update writes w, and whatever else
 *                                                            its form holds
 *
 * That takes parameters whose only reader is that cast: anything else would read fewer digits than
 * the master has. */
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

bool mzi_master_is_low(const mezzo_graph *graph, int32_t param, const mzi_node **reader) {
    int casts = 0;
    *reader = NULL;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (!reads(node, param))
            continue;
        if (is_weight_cast(node))
            casts++;
        else if (!*reader)
            *reader = node;
    }
    return casts == 1 && !*reader && !graph->values[param].is_output;
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

void mzi_master_lower(mezzo_graph *graph, int32_t param) {
    int32_t at = 0;
    while (!reads(&graph->nodes[at], param))
        at++;
    int32_t low = graph->nodes[at].out[0];
    graph->values[low].kind = MZI_VALUE_GONE;
    graph->values[low].producer = -1;
    graph->values[param].tensor.dtype = MEZZO_BF16;
    remove_node(graph, at);
    replace(graph, low, param);
}
