#include "graph/rewrite.h"

mezzo_status mzi_rewrite_append(mzi_rewrite *r, const mzi_node *node) {
    MZI_TRY(
        mzi_grow(r->graph->ctx, (void **)&r->nodes, &r->capacity, r->count + 1, sizeof *r->nodes));
    for (int k = 0; k < node->out_count; k++)
        if (node->out[k])
            r->graph->values[node->out[k]].producer = r->count;
    r->nodes[r->count++] = *node;
    return MEZZO_OK;
}

mezzo_status mzi_rewrite_end(mzi_rewrite *r, mezzo_status status) {
    if (status == MEZZO_OK)
        mzi_graph_take_nodes(r->graph, r->nodes, r->count, r->capacity);
    else
        mzi_free(r->graph->ctx, r->nodes, (size_t)r->capacity * sizeof *r->nodes);
    return status;
}

void mzi_graph_take_nodes(mezzo_graph *graph, mzi_node *nodes, int32_t count, int32_t capacity) {
    mzi_free(graph->ctx, graph->nodes, (size_t)graph->node_capacity * sizeof *graph->nodes);
    graph->nodes = nodes;
    graph->node_count = count;
    graph->node_capacity = capacity;
}
