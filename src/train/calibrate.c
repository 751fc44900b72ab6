#include "train/calibrate.h"

#include <math.h>

#include "graph/stats.h"

static mezzo_status run_once(mezzo_model *twin, const mezzo_binding *inputs, int count) {
    const mezzo_graph *graph = twin->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    const float one = 1.0f;
    const uint32_t key[4] = {(uint32_t)twin->seed, (uint32_t)(twin->seed >> 32), 0, 0};
    MZI_TRY(mzi_model_bind(twin, MEZZO_ENTRY_TRAIN, inputs, count, 0, 1));
    MZI_TRY(mzi_model_upload(twin, MEZZO_ENTRY_TRAIN, graph->loss_scale, &one, sizeof one));
    if (graph->rng)
        MZI_TRY(mzi_model_upload(twin, MEZZO_ENTRY_TRAIN, graph->rng, key, sizeof key));
    return mzi_model_run(twin, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD, true);
}

static mezzo_status read_meter(mezzo_model *twin, const mzi_meter *meter, mzi_maximum *out) {
    const mzi_value *values = twin->entries[MEZZO_ENTRY_TRAIN].plan->graph->values;
    uint64_t bytes = mzi_value_bytes(&values[meter->stats]);
    mzi_stats stats = {0};
    double *parts = mzi_alloc(twin->ctx, bytes);
    if (!parts)
        return mzi_out_of_memory(twin->ctx, bytes, "maxima");
    mezzo_status status = mzi_model_download(twin, MEZZO_ENTRY_TRAIN, meter->stats, parts, bytes);
    if (status == MEZZO_OK)
        mzi_stats_add(&stats, parts, bytes, 0);
    mzi_free(twin->ctx, parts, bytes);
    MZI_TRY(status);
    *out = (mzi_maximum){values[meter->of].name, stats.max};
    if (stats.inf + stats.nan > 0.0)
        MZI_FAIL(twin->ctx, MEZZO_NUMERICS,
                 "calibration: the gradient `%s` is not finite in FP32: look at the data and the "
                 "initial weights",
                 out->name);
    return MEZZO_OK;
}

/* The weights and statistics of `model`, which the twin has under the same names. */
static mezzo_status copy_state(mezzo_model *model, mezzo_model *twin) {
    mezzo_ctx *ctx = model->ctx;
    for (int32_t s = 0; s < twin->state_count; s++) {
        const mzi_state *state = &twin->states[s];
        int64_t n = mezzo_shape_count(state->shape);
        size_t bytes = (size_t)n * sizeof(float);
        float *host = mzi_alloc(ctx, bytes);
        if (!host)
            return mzi_out_of_memory(ctx, bytes, state->name);
        mezzo_status status = mezzo_model_read(model, mzi_model_find(model, state->name), host, n);
        if (status == MEZZO_OK)
            status = mezzo_model_write(twin, s, host, n);
        mzi_free(ctx, host, bytes);
        MZI_TRY(status);
    }
    return MEZZO_OK;
}

mezzo_status mzi_twin_create(mezzo_model **twin, mezzo_model *model) {
    const mezzo_model_config config = {.build = model->build,
                                       .user = model->user,
                                       .device = model->backend->target.name,
                                       .precision.compute = MEZZO_F32,
                                       .seed = model->seed};
    MZI_TRY(mezzo_model_create(twin, model->ctx, &config, MEZZO_ENTRY_TRAIN));
    return copy_state(model, *twin);
}

mezzo_status mzi_measure_gradients(mezzo_model *twin, const mezzo_binding *inputs, int count,
                                   mzi_maximum **table, int32_t *table_count) {
    mezzo_graph *graph;
    MZI_TRY(mzi_model_graph(twin, MEZZO_ENTRY_TRAIN, &graph));
    graph->metered = true;
    int32_t values = graph->value_count;
    bool *is_gradient = mzi_arena_push(&graph->arena, (size_t)values * sizeof *is_gradient);
    mzi_maximum *made = mzi_arena_push(&graph->arena, (size_t)values * sizeof *made);
    if (!made || !is_gradient) {
        mzi_graph_destroy(graph);
        return mzi_out_of_memory(twin->ctx, (size_t)values * sizeof *made, "calibration");
    }
    mezzo_status status = mzi_find_gradients(graph, is_gradient);
    if (status != MEZZO_OK) {
        mzi_graph_destroy(graph);
        return status;
    }
    MZI_TRY(mzi_model_install(twin, MEZZO_ENTRY_TRAIN, graph, ""));
    MZI_TRY(run_once(twin, inputs, count));
    const mzi_plan *plan = twin->entries[MEZZO_ENTRY_TRAIN].plan;
    *table_count = 0;
    for (int32_t m = 0; m < plan->meter_count; m++)
        if (plan->meters[m].of < values && is_gradient[plan->meters[m].of])
            MZI_TRY(read_meter(twin, &plan->meters[m], &made[(*table_count)++]));
    *table = made;
    return MEZZO_OK;
}
