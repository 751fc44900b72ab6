/* What a plan holds, for reports. */
#include "train/model.h"

_Static_assert((int)MEZZO_PLAN_IN_MAX == (int)MEZZO_OP_IN_MAX, "operands of a node");

/* A meter's result is what it is there for; nodes that prepare it have none that is read. */
static void count_nodes(const mzi_plan *plan, mezzo_plan_info *out) {
    const mezzo_graph *graph = plan->graph;
    for (int32_t n = 0; n < graph->node_count; n++) {
        out->op_count += !graph->nodes[n].is_meter;
        out->meter_count +=
            graph->nodes[n].is_meter && graph->values[graph->nodes[n].out[0]].is_output;
    }
    for (int32_t c = 0; c < plan->lowering.call_count; c++)
        out->call_count += !plan->lowering.calls[c].is_meter;
}

/* The node of operation `index`, meters not counted; -1 if there are not so many. */
static int32_t find_node(const mezzo_graph *graph, int index) {
    int seen = 0;
    for (int32_t n = 0; n < graph->node_count; n++)
        if (!graph->nodes[n].is_meter && seen++ == index)
            return n;
    return -1;
}

static void count_bytes(const mzi_plan *plan, mezzo_plan_info *out) {
    const mezzo_graph *graph = plan->graph;
    for (int32_t g = 0; g < graph->grad_count; g++)
        out->gradient_bytes += mzi_value_bytes(&graph->values[graph->grads[g].grad]);
    for (int32_t v = 1; v < graph->value_count; v++)
        if (graph->values[v].kind == MZI_VALUE_DERIVED && !graph->values[v].layout)
            out->copy_bytes += mzi_value_bytes(&graph->values[v]);
}

mezzo_status mezzo_model_plan_info(mezzo_model *model, mezzo_entry entry, mezzo_plan_info *out) {
    mzi_error_clear(model->ctx);
    MZI_TRY(mzi_model_ensure(model, entry));
    const mzi_plan *plan = model->entries[entry].plan;
    int workers = mzi_team_size(model->ctx->team);
    *out = (mezzo_plan_info){.cast_count = plan->cast_count,
                             .fallback_count = plan->fallback_count,
                             .finding_count = plan->graph->finding_count,
                             .state_bytes = mzi_model_state_bytes(model),
                             .weight_bytes = mzi_model_weight_bytes(model),
                             .activation_bytes = plan->arena_bytes,
                             .scratch_bytes = plan->worker_bytes * (uint64_t)workers,
                             .flops = plan->flops};
    count_nodes(plan, out);
    count_bytes(plan, out);
    mzi_format(out->numerics_hash, sizeof out->numerics_hash, "%s", plan->numerics_hash);
    mzi_format(out->execution_hash, sizeof out->execution_hash, "%s", plan->execution_hash);
    return MEZZO_OK;
}

/* The call that does the node's work: the first that may fall back, else the first. */
static const mzi_call *main_call(const mzi_plan *plan, int32_t node) {
    const mzi_call *found = NULL;
    for (int32_t c = 0; c < plan->lowering.call_count; c++) {
        const mzi_call *call = &plan->lowering.calls[c];
        if (call->node != node)
            continue;
        if (!found || (call->choice.fallback && !found->choice.fallback))
            found = call;
    }
    return found;
}

static double seconds_of(const mezzo_model *model, mezzo_entry entry, int32_t node) {
    const mzi_entry *e = &model->entries[entry];
    int64_t ns = 0;
    for (int32_t c = 0; c < e->plan->lowering.call_count; c++)
        if (e->plan->lowering.calls[c].node == node)
            ns += model->backend->program_ns(model->backend, e->program, c);
    return (double)ns * 1e-9;
}

/* Where the rule of a node is written down. */
static const char *source_of(const mzi_node *node) {
    static const char *const classes[] = {[MEZZO_CAST_LOW] = "class low of the operation",
                                          [MEZZO_CAST_FOLLOW] = "class follow of the operation",
                                          [MEZZO_CAST_REDUCE] = "class reduce of the operation",
                                          [MEZZO_CAST_FULL] = "class full of the operation"};
    switch (node->rule) {
    case MZI_RULE_FULL:
    case MZI_RULE_LOW:
    case MZI_RULE_FOLLOW:
    case MZI_RULE_REDUCE:
        return classes[node->op->cast];
    case MZI_RULE_OVERRIDE:
        return "precision.overrides";
    case MZI_RULE_CONTRACT:
        return "types of the operation";
    case MZI_RULE_CAST:
        return "operation that reads it";
    case MZI_RULE_LAYOUT:
        return "kernel that reads it";
    case MZI_RULE_SEGMENT:
        return "precision.loss_scale.segments";
    case MZI_RULE_SPEED:
        return "precision.speed_gate";
    case MZI_RULE_FUSE:
        return "train.fuse";
    }
    return "";
}

mezzo_status mezzo_model_finding(mezzo_model *model, mezzo_entry entry, int index,
                                 mezzo_finding *out) {
    mzi_error_clear(model->ctx);
    MZI_TRY(mzi_model_ensure(model, entry));
    const mezzo_graph *graph = model->entries[entry].plan->graph;
    if (index < 0 || index >= graph->finding_count)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "finding %d: the plan has %d", index,
                 graph->finding_count);
    *out = graph->findings[index];
    return MEZZO_OK;
}

/* Updates, and operations that take a master in any form, read both halves of a split one. */
static uint64_t bytes_read(const mezzo_graph *graph, const mzi_node *node, int k) {
    const mzi_value *value = &graph->values[node->in[k]];
    bool both = node->phase == MZI_PHASE_UPDATE || (node->op->in_master & MEZZO_BIT(k));
    return mzi_value_bytes(value) * (value->is_split && both ? 2 : 1);
}

mezzo_status mezzo_model_plan_op(mezzo_model *model, mezzo_entry entry, int index,
                                 mezzo_plan_op *out) {
    mzi_error_clear(model->ctx);
    MZI_TRY(mzi_model_ensure(model, entry));
    const mzi_plan *plan = model->entries[entry].plan;
    int32_t n = find_node(plan->graph, index);
    if (n < 0)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "the plan has no operation %d", index);
    const mzi_node *node = &plan->graph->nodes[n];
    const mzi_call *call = main_call(plan, n);
    const mzi_value *in = &plan->graph->values[node->in_count ? node->in[0] : 0];
    const mzi_value *first = &plan->graph->values[node->out_count ? node->out[0] : 0];
    *out = (mezzo_plan_op){.name = node->name,
                           .op = node->op->name,
                           .phase = mzi_phase_name(node->phase),
                           .compute = node->compute,
                           .rule = mzi_rule_name(node->rule),
                           .reason = node->reason ? node->reason : "",
                           .source = source_of(node),
                           .override = node->rule == MZI_RULE_OVERRIDE ? node->override - 1 : -1,
                           .kernel = call ? call->choice.kernel : "view",
                           .fallback = call ? call->choice.fallback : NULL,
                           .flops = mzi_node_flops(plan->graph, node),
                           .is_cast = node->op == &mzi_op_cast,
                           .cast_from = in->tensor.dtype,
                           .cast_to = first->tensor.dtype,
                           .shape = first->tensor.shape};
    for (int k = 0; k < node->out_count; k++)
        out->out_bytes += mzi_value_bytes(&plan->graph->values[node->out[k]]);
    out->bytes = out->out_bytes;
    out->in_count = node->in_count;
    for (int k = 0; k < node->in_count; k++) {
        const mezzo_tensor *tensor = &plan->graph->values[node->in[k]].tensor;
        out->in[k] = node->in[k] ? tensor->shape : (mezzo_shape){.rank = -1};
        out->bytes += node->in[k] ? bytes_read(plan->graph, node, k) : 0;
    }
    out->seconds = seconds_of(model, entry, n);
    return MEZZO_OK;
}
