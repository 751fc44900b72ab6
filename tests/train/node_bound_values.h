/* A node of a plan with its operands, as node_bound*.h see it. */
#ifndef TESTS_TRAIN_NODE_BOUND_VALUES_H
#define TESTS_TRAIN_NODE_BOUND_VALUES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/plan.h"
#include "num/number.h"
#include "unit/cmocka_all.h"

static const double node_u = 0x1p-24;

/* Raw operands of a node as a device holds them, and its result in FP64. */
typedef struct node_values {
    const mezzo_graph *graph;
    const mzi_node *node;
    void *in[MEZZO_OP_IN_MAX];       /* in the value's type */
    double *exact[MEZZO_OP_OUT_MAX]; /* null for integers */
    double *error[MEZZO_OP_OUT_MAX];
    bool is_exact; /* not one bit may differ */
} node_values;

static inline int64_t node_count(const mezzo_graph *graph, int32_t v) {
    return mezzo_shape_count(graph->values[v].tensor.shape);
}
static inline const int64_t *node_dims(const node_values *n, int k) {
    return n->graph->values[n->node->in[k]].tensor.shape.dim;
}
static inline const int64_t *node_out_dims(const node_values *n, int k) {
    return n->graph->values[n->node->out[k]].tensor.shape.dim;
}
static inline double node_in(const node_values *n, int k, int64_t i) {
    return mzi_load(n->in[k], n->graph->values[n->node->in[k]].tensor.dtype, i);
}
static inline bool node_is(const node_values *n, const char *op) {
    return strcmp(n->node->op->name, op) == 0;
}

/* The distance from `exact` that a value stored once as `dtype` may have, when the value before was
 * wrong by `error`: half a unit of the last place, or half a subnormal step. */
static inline double node_allowed(double exact, double error, mezzo_dtype dtype) {
    return error + mzi_unit_roundoff(dtype) * (fabs(exact) + error) + mzi_tiny(dtype) / 2;
}

#endif
