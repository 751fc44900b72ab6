/* Meters: the figures of each tensor that a step makes, taken right behind the node that makes it.
 *
 *   conv1 -> a, [stats a]; relu -> b, [stats b]; ...; conv1/dx -> d, [stats d]
 *
 * They change no number, and runs leave them out but for those that ask for them: at intervals, and
 * to find out where a step that failed did so first. */
#include "graph/plan.h"
#include "graph/rewrite.h"
#include "graph/stats.h"

typedef struct meter_pass {
    mzi_plan *plan;
    mezzo_graph *graph;
    mzi_rewrite list;
    bool *scaled; /* by value: it depends on the loss scale */
} meter_pass;

static mezzo_status meter(meter_pass *pass, int32_t of, const char *name, mzi_phase phase) {
    mezzo_graph *graph = pass->graph;
    mzi_plan *plan = pass->plan;
    mezzo_tensor in = graph->values[of].tensor, out;
    mezzo_op_use use = {.ctx = graph->ctx, .in_count = 1, .in = &in, .out = &out};
    MZI_TRY(mzi_op_stats.infer(&use));
    int32_t stats = mzi_graph_add_value(graph, name, MZI_VALUE_TEMP, out);
    if (!stats)
        return graph->status;
    graph->values[stats].is_output = true;
    mzi_node node = {.op = &mzi_op_stats,
                     .name = name,
                     .in_count = 1,
                     .out_count = 1,
                     .in[0] = of,
                     .out[0] = stats,
                     .phase = phase,
                     .compute = in.dtype,
                     .rule = MZI_RULE_REDUCE,
                     .is_meter = true};
    plan->meters[plan->meter_count++] = (mzi_meter){of, stats, phase, pass->scaled[of], name};
    return mzi_rewrite_append(&pass->list, &node);
}

static mezzo_status meter_inputs(meter_pass *pass) {
    const mezzo_graph *graph = pass->graph;
    int32_t count = graph->value_count;
    for (int32_t v = 1; v < count; v++) {
        const mzi_value *value = &graph->values[v];
        bool from_caller = value->kind == MZI_VALUE_INPUT && value->name[0] != '\0' &&
                           v != graph->loss_scale && v != graph->rng;
        if (from_caller && mezzo_dtype_is_float(value->tensor.dtype))
            MZI_TRY(meter(pass, v, value->name, MZI_PHASE_FORWARD));
    }
    return MEZZO_OK;
}

static void follow_scale(meter_pass *pass, const mzi_node *node) {
    bool scaled = false;
    for (int k = 0; k < node->in_count; k++)
        scaled |= pass->scaled[node->in[k]];
    for (int k = 0; k < node->out_count; k++)
        pass->scaled[node->out[k]] = scaled && k >= node->forward_outs;
}

/* A fused node's outputs keep the names of those that made them. */
static const char *name_of(const mzi_node *node, int k) {
    return node->backward_name && k >= node->forward_outs ? node->backward_name : node->name;
}

static mezzo_status run(meter_pass *pass) {
    mezzo_graph *graph = pass->graph;
    int32_t n = 0, places = 0;
    for (int32_t m = 0; m < graph->node_count; m++)
        places += graph->nodes[m].out_count;
    places += graph->value_count;
    pass->plan->meters = mzi_arena_push(&graph->arena, (size_t)places * sizeof(mzi_meter));
    pass->scaled = mzi_arena_push(&graph->arena, (size_t)graph->value_count);
    if (!pass->plan->meters || !pass->scaled)
        return mzi_out_of_memory(graph->ctx, (size_t)places * sizeof(mzi_meter), "meters");
    pass->scaled[graph->loss_scale] = true;
    pass->scaled[0] = false; /* no value */
    for (; n < graph->node_count && graph->nodes[n].phase == MZI_PHASE_PREPARE; n++)
        MZI_TRY(mzi_rewrite_append(&pass->list, &graph->nodes[n]));
    MZI_TRY(meter_inputs(pass));
    for (; n < graph->node_count; n++) {
        const mzi_node node = graph->nodes[n];
        MZI_TRY(mzi_rewrite_append(&pass->list, &node));
        follow_scale(pass, &node);
        if (node.phase > MZI_PHASE_BACKWARD || node.op->view)
            continue;
        for (int k = 0; k < node.out_count; k++)
            if (node.out[k] && !mzi_is_stats(&node, k) &&
                mezzo_dtype_is_float(graph->values[node.out[k]].tensor.dtype))
                MZI_TRY(meter(pass, node.out[k], name_of(&node, k), node.phase));
    }
    return MEZZO_OK;
}

mezzo_status mzi_pass_meters(mzi_plan *plan) {
    meter_pass pass = {.plan = plan, .graph = plan->graph, .list.graph = plan->graph};
    return mzi_rewrite_end(&pass.list, run(&pass));
}
