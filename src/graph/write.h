/* Nodes that write into one of their inputs: sums of a window, state when a step commits.
 *
 * They have no outputs, and are the exception to single assignment: passes that run behind autocast
 * add them, and nothing may move them over another use of what they write. */
#ifndef MZI_GRAPH_WRITE_H
#define MZI_GRAPH_WRITE_H

#include "graph/graph.h"

/* in[1] = in[0]. */
extern const mezzo_op_def mzi_op_assign;

/* A node of FP32 named OF/OP; its name is null if memory is exhausted. */
mzi_node mzi_write_node(mezzo_graph *graph, const mezzo_op_def *op, mzi_phase phase, const char *of,
                        const char *reason, const int32_t *in, int count);

#endif
