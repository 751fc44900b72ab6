/* A model's segments of backward: given by the caller, or chosen. */
#include <string.h>

#include "train/calibrate.h"

static void free_segments(mezzo_ctx *ctx, mezzo_segment *segments, int count, int capacity) {
    for (int k = 0; k < count; k++)
        mzi_free_text(ctx, (char *)(uintptr_t)segments[k].from);
    mzi_free(ctx, segments, (size_t)capacity * sizeof *segments);
}

void mzi_model_free_segments(mezzo_model *model) {
    free_segments(model->ctx, model->segments, model->precision.segment_count,
                  model->segment_capacity);
    model->segments = NULL;
    model->segment_capacity = 0;
    model->precision.segments = NULL;
    model->precision.segment_count = 0;
}

mezzo_status mzi_model_set_segments(mezzo_model *model, const mezzo_segment *segments, int count) {
    mezzo_ctx *ctx = model->ctx;
    size_t bytes = (size_t)count * sizeof *segments;
    mezzo_segment *made = count ? mzi_alloc(ctx, bytes) : NULL;
    if (count && !made)
        return mzi_out_of_memory(ctx, bytes, "segments");
    for (int k = 0; k < count; k++) {
        made[k] = segments[k];
        made[k].from = mzi_copy_text(ctx, segments[k].from ? segments[k].from : "");
        if (!made[k].from) {
            free_segments(ctx, made, k, count);
            return mzi_out_of_memory(ctx, bytes, "segments");
        }
    }
    mzi_model_free_segments(model);
    model->segments = made;
    model->segment_capacity = count;
    model->precision.segments = made;
    model->precision.segment_count = count;
    return MEZZO_OK;
}

/* For the graph that `model` has without segments. */
static mezzo_status choose(mezzo_model *model, const mzi_maximum *table, int32_t table_count,
                           double loss_scale) {
    mezzo_ctx *ctx = model->ctx;
    mezzo_graph *graph;
    int count = 0;
    int given = model->precision.segment_count;
    model->precision.segment_count = 0;
    mezzo_status status = mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph);
    model->precision.segment_count = given;
    MZI_TRY(status);
    size_t bytes = (size_t)graph->node_count * sizeof(mezzo_segment);
    mezzo_segment *made = mzi_alloc(ctx, bytes);
    if (made)
        status = mzi_segments_choose(graph, table, table_count, loss_scale, made, &count);
    else
        status = mzi_out_of_memory(ctx, bytes, "segments");
    if (status == MEZZO_OK)
        status = mzi_model_set_segments(model, made, count);
    mzi_free(ctx, made, bytes);
    mzi_graph_destroy(graph);
    return status;
}

mezzo_status mezzo_model_choose_segments(mezzo_model *model, const mezzo_binding *inputs, int count,
                                         double loss_scale) {
    mzi_error_clear(model->ctx);
    if (model->entries[MEZZO_ENTRY_TRAIN].plan)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT,
                 "segments: the training graph is planned already; choose them before a trainer is "
                 "made");
    if (model->precision.compute == MEZZO_F64)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "segments are for FP16, not for f64");
    if (!(loss_scale > 0.0 && loss_scale <= 0x1p127))
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "segments: loss scale %g is not in (0, 2^127]",
                 loss_scale);
    mezzo_model *twin = NULL;
    mzi_maximum *table = NULL;
    int32_t table_count = 0;
    mezzo_status status = mzi_twin_create(&twin, model);
    if (status == MEZZO_OK)
        status = mzi_measure_gradients(twin, inputs, count, &table, &table_count);
    if (status == MEZZO_OK)
        status = choose(model, table, table_count, loss_scale);
    mezzo_model_destroy(twin);
    return status;
}

int mezzo_model_segment_count(const mezzo_model *model) {
    return model->precision.segment_count;
}

mezzo_segment mezzo_model_segment_at(const mezzo_model *model, int index) {
    return index >= 0 && index < model->precision.segment_count ? model->segments[index]
                                                                : (mezzo_segment){.from = ""};
}
