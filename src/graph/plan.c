/* Making a plan: lower, choose kernels, place values, hash. */
#include "graph/plan.h"

static mezzo_status lower_all(mzi_plan *plan) {
    mezzo_graph *graph = plan->graph;
    for (int32_t n = 0; n < graph->node_count; n++) {
        MZI_TRY(mzi_lower_node(&plan->lowering, n));
        if (!graph->nodes[n].is_meter)
            plan->flops += mzi_node_flops(graph, &graph->nodes[n]);
        plan->cast_count += graph->nodes[n].op == &mzi_op_cast;
        for (int p = (int)graph->nodes[n].phase; p <= MZI_PHASE_UPDATE; p++)
            plan->phase_end[p] = plan->lowering.call_count;
    }
    return MEZZO_OK;
}

static mezzo_status choose_all(mzi_plan *plan, bool strict) {
    for (int32_t c = 0; c < plan->lowering.call_count; c++) {
        mzi_call *call = &plan->lowering.calls[c];
        MZI_TRY(plan->target->choose(plan->target, call, &call->choice));
        if (call->choice.worker_bytes > plan->worker_bytes)
            plan->worker_bytes = call->choice.worker_bytes;
        if (!call->choice.fallback)
            continue;
        plan->fallback_count++;
        if (strict)
            MZI_FAIL(plan->graph->ctx, MEZZO_DOWNGRADE,
                     "`%s`: kernel %s: %s; precision.strict forbids it",
                     plan->graph->nodes[call->node].name, call->choice.kernel,
                     call->choice.fallback);
    }
    return MEZZO_OK;
}

static mezzo_status make(mzi_plan *plan, const mzi_plan_config *config) {
    MZI_TRY(plan->graph->status);
    MZI_TRY(mzi_pass_check_casts(plan->graph));
    mzi_hash_numerics(plan->graph, config->recipe, plan->numerics_hash);
    /* Behind the hash: how it is computed, and not what. */
    if (!config->no_fuse)
        MZI_TRY(mzi_pass_fuse(plan->graph, plan->target));
    MZI_TRY(mzi_pass_recompute(plan->graph, config->recompute, config->recompute_count,
                               config->recompute_chosen));
    MZI_TRY(mzi_pass_layout(plan->graph, plan->target));
    if (plan->graph->metered)
        MZI_TRY(mzi_pass_meters(plan));
    MZI_TRY(lower_all(plan));
    if (plan->graph->arena.exhausted)
        return mzi_out_of_memory(plan->graph->ctx, 0, "the names of a plan");
    MZI_TRY(choose_all(plan, config->strict));
    MZI_TRY(mzi_pass_memory(plan));
    mzi_hash_execution(plan);
    return MEZZO_OK;
}

mezzo_status mzi_plan_create(mzi_plan **out, mezzo_graph *graph, mzi_target *target,
                             const mzi_plan_config *config) {
    mzi_plan *plan = mzi_alloc(graph->ctx, sizeof *plan);
    if (!plan) {
        mezzo_status status = mzi_out_of_memory(graph->ctx, sizeof *plan, "a plan");
        mzi_graph_destroy(graph);
        return status;
    }
    plan->graph = graph;
    plan->target = target;
    plan->lowering.graph = graph;
    mezzo_status status = make(plan, config);
    if (status != MEZZO_OK) {
        mzi_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return MEZZO_OK;
}

void mzi_plan_destroy(mzi_plan *plan) {
    if (!plan)
        return;
    mezzo_ctx *ctx = plan->graph->ctx;
    for (int32_t c = 0; c < plan->lowering.call_count; c++)
        plan->target->release(plan->target, &plan->lowering.calls[c].choice);
    mzi_lowering_deinit(&plan->lowering);
    mzi_free(ctx, plan->places, (size_t)plan->place_count * sizeof *plan->places);
    mzi_graph_destroy(plan->graph);
    mzi_free(ctx, plan, sizeof *plan);
}
