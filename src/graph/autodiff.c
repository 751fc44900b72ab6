/* Reverse mode, graph to graph.
 *
 * Nodes are visited from the loss back.  grad[v] is the gradient of the loss with respect to value
 * v, times the loss scale: every gradient is linear in the seed, so scaling the seed scales them
 * all, and a power of two does so exactly.  A value that is used several times gets the sum of its
 * uses' gradients, added in the reverse order of the uses. */
#include <string.h>

#include "graph/graph.h"

/* Which values depend on a parameter: only their gradients are built. */
static void find_wanted(const mezzo_graph *graph, bool *wanted) {
    for (int32_t v = 1; v < graph->value_count; v++)
        wanted[v] = graph->values[v].kind == MZI_VALUE_PARAM;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        bool any = false;
        for (int k = 0; k < node->in_count; k++)
            any |= wanted[node->in[k]] && !(node->op->constant_in & MEZZO_BIT(k));
        for (int k = 0; k < node->out_count; k++)
            wanted[node->out[k]] =
                any && mezzo_dtype_is_float(graph->values[node->out[k]].tensor.dtype);
    }
}

static void accumulate(mezzo_graph *graph, int32_t *grad, int32_t v, mezzo_value more) {
    if (!more.id)
        return;
    if (!grad[v]) {
        grad[v] = more.id;
        return;
    }
    graph->origin = graph->values[v].name;
    const mezzo_value in[] = {{grad[v]}, more};
    grad[v] = mezzo_apply(graph, &mzi_op_add, "grad", in, 2, NULL, NULL).id;
}

static mezzo_status visit(mezzo_graph *graph, int32_t n, const bool *value_wanted, int32_t *grad) {
    mzi_node node = graph->nodes[n]; /* a copy: the array grows */
    mezzo_value in[MEZZO_OP_IN_MAX], out[MEZZO_OP_OUT_MAX], dout[MEZZO_OP_OUT_MAX];
    mezzo_value din[MEZZO_OP_IN_MAX] = {{0}};
    bool wanted[MEZZO_OP_IN_MAX], any_out = false, any_in = false;
    for (int k = 0; k < node.out_count; k++) {
        out[k] = (mezzo_value){node.out[k]};
        dout[k] = (mezzo_value){grad[node.out[k]]};
        any_out |= dout[k].id != 0;
    }
    for (int k = 0; k < node.in_count; k++) {
        in[k] = (mezzo_value){node.in[k]};
        wanted[k] = value_wanted[node.in[k]] && !(node.op->constant_in & MEZZO_BIT(k));
        any_in |= wanted[k];
    }
    if (!any_out || !any_in)
        return MEZZO_OK;
    if (node.op->not_differentiable || !node.op->gradient)
        MZI_FAIL(graph->ctx, MEZZO_UNSUPPORTED,
                 "`%s`: the operation %s has no gradient, and the loss depends on parameters "
                 "through it",
                 node.name, node.op->name);
    if (!dout[0].id)
        MZI_FAIL(graph->ctx, MEZZO_UNSUPPORTED,
                 "`%s`: the loss depends on a further output of %s, which has no gradient",
                 node.name, node.op->name);
    graph->origin = node.name;
    mezzo_op_gradient use = {.graph = graph,
                             .name = node.name,
                             .attrs = &node.attrs,
                             .in_count = node.in_count,
                             .in = in,
                             .out = out,
                             .dout = dout,
                             .wanted = wanted,
                             .din = din};
    MZI_TRY(node.op->gradient(&use));
    MZI_TRY(graph->status);
    for (int k = 0; k < node.in_count; k++)
        if (wanted[k])
            accumulate(graph, grad, node.in[k], din[k]);
    return graph->status;
}

static mezzo_status collect(mezzo_graph *graph, const int32_t *grad, int32_t values) {
    for (int32_t v = 1; v < values; v++) {
        if (graph->values[v].kind != MZI_VALUE_PARAM || !grad[v])
            continue;
        MZI_TRY(mzi_grow(graph->ctx, (void **)&graph->grads, &graph->grad_capacity,
                         graph->grad_count + 1, sizeof *graph->grads));
        graph->grads[graph->grad_count++] = (mzi_grad){.param = v, .grad = grad[v]};
        graph->values[grad[v]].is_output = true;
    }
    if (!graph->grad_count)
        MZI_FAIL(graph->ctx, MEZZO_INVALID_ARGUMENT,
                 "the loss depends on no parameter: there is nothing to train");
    return MEZZO_OK;
}

mezzo_status mzi_differentiate(mezzo_graph *graph) {
    MZI_TRY(graph->status);
    if (!graph->loss)
        MZI_FAIL(graph->ctx, MEZZO_INVALID_ARGUMENT,
                 "the training graph has no loss: call mezzo_loss");
    graph->loss_scale = mzi_graph_add_value(graph, "loss_scale", MZI_VALUE_INPUT,
                                            (mezzo_tensor){MEZZO_F32, mezzo_shape0()});
    MZI_TRY(graph->status);
    int32_t values = graph->value_count, nodes = graph->node_count;
    size_t wanted_bytes = (size_t)values * sizeof(bool);
    size_t grad_bytes = (size_t)values * sizeof(int32_t);
    bool *wanted = mzi_arena_push(&graph->arena, wanted_bytes);
    int32_t *grad = mzi_arena_push(&graph->arena, grad_bytes);
    if (!wanted || !grad)
        return mzi_out_of_memory(graph->ctx, wanted_bytes + grad_bytes, "differentiation");
    find_wanted(graph, wanted);
    grad[graph->loss] = graph->loss_scale;
    graph->phase = MZI_PHASE_BACKWARD;
    mezzo_status status = MEZZO_OK;
    for (int32_t n = nodes - 1; n >= 0 && status == MEZZO_OK; n--)
        status = visit(graph, n, wanted, grad);
    graph->phase = MZI_PHASE_FORWARD;
    graph->origin = NULL;
    MZI_TRY(status);
    return collect(graph, grad, values);
}
