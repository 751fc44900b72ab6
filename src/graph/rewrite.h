/* A pass that makes the list of nodes anew, in its order. */
#ifndef MZI_GRAPH_REWRITE_H
#define MZI_GRAPH_REWRITE_H

#include "graph/graph.h"

typedef struct mzi_rewrite {
    mezzo_graph *graph;
    mzi_node *nodes;
    int32_t count, capacity;
} mzi_rewrite;

/* A copy of `node` at the end, as the producer of its outputs. */
mezzo_status mzi_rewrite_append(mzi_rewrite *rewrite, const mzi_node *node);
/* The list in place of the graph's, or gone if `status` is a failure.  Returns `status`. */
mezzo_status mzi_rewrite_end(mzi_rewrite *rewrite, mezzo_status status);
/* Put the list `nodes`, which mzi_grow made, in place of the graph's. */
void mzi_graph_take_nodes(mezzo_graph *graph, mzi_node *nodes, int32_t count, int32_t capacity);

#endif
