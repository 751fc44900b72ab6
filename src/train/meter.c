/* The figures of tensors: read after a run with meters, added over the micro-batches of a step. */
#include <math.h>
#include <string.h>

#include "train/trainer.h"

/* By attempts, so that it goes on while steps are skipped. */
bool mzi_meters_due_for_scale(const mezzo_trainer *t) {
    const mezzo_scaler_config *s = &t->state.scaler.config;
    return s->mode == MEZZO_SCALE_HEADROOM && t->state.attempt % s->growth_interval == 0;
}

bool mzi_meters_due_for_record(const mezzo_trainer *t) {
    int64_t every = t->config.meter_every;
    return every > 0 && (t->state.step + 1) % every == 0;
}

mezzo_status mzi_meter_read(mezzo_trainer *t, int32_t value, int32_t of, mzi_stats *stats) {
    const mzi_value *values = mzi_trainer_graph(t)->values;
    uint64_t bytes = mzi_value_bytes(&values[value]);
    MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, value, t->parts, bytes));
    mzi_stats_add(stats, t->parts, bytes, mezzo_shape_count(values[of].tensor.shape));
    return MEZZO_OK;
}

void mzi_meters_clear(mezzo_trainer *t) {
    memset(t->meters, 0, t->meters_bytes);
}

mezzo_status mzi_meters_add(mezzo_trainer *t) {
    const mzi_plan *plan = mzi_trainer_plan(t);
    for (int32_t m = 0; m < plan->meter_count; m++)
        MZI_TRY(mzi_meter_read(t, plan->meters[m].stats, plan->meters[m].of, &t->meters[m]));
    return MEZZO_OK;
}

static bool is_of(const mzi_plan *plan, int32_t m, mezzo_dtype dtype) {
    return plan->meters[m].is_gradient &&
           plan->graph->values[plan->meters[m].of].tensor.dtype == dtype;
}

/* Beside FP16, what BF16 holds is no matter of scale: it reaches as far as FP32. */
void mzi_meters_evidence(const mezzo_trainer *t, mezzo_scale_evidence *out) {
    const mzi_plan *plan = mzi_trainer_plan(t);
    double max = 0.0, tiny = 0.0, nonzero = 0.0;
    mezzo_dtype dtype = MEZZO_BF16;
    out->measured = false;
    for (int32_t m = 0; m < plan->meter_count; m++)
        dtype = is_of(plan, m, MEZZO_F16) ? MEZZO_F16 : dtype;
    for (int32_t m = 0; m < plan->meter_count; m++) {
        const mzi_stats *s = &t->meters[m];
        if (!is_of(plan, m, dtype))
            continue;
        out->measured = true;
        max = fmax(max, s->max);
        tiny += s->tiny;
        nonzero += s->count - s->zero;
    }
    out->max = (float)max;
    out->underflow = nonzero > 0.0 ? (float)(tiny / nonzero) : 0.0f;
}

static bool is_statistic(const mezzo_graph *graph, int32_t value) {
    for (int32_t c = 0; c < graph->commit_count; c++)
        if (graph->commits[c].next == value)
            return true;
    return false;
}

/* An Inf in the first faulty tensor of backward came from numbers that were too large for its
 * type; a NaN alone did not. */
static mezzo_skip_reason reason_of(const mezzo_graph *graph, const mzi_meter *meter,
                                   const mzi_stats *stats) {
    if (graph->values[meter->of].kind == MZI_VALUE_INPUT)
        return MEZZO_SKIP_DATA;
    if (!meter->is_gradient)
        return MEZZO_SKIP_FORWARD;
    return stats->inf > 0.0 ? MEZZO_SKIP_GRADIENT : MEZZO_SKIP_NAN;
}

mezzo_status mzi_meters_fault(mezzo_trainer *t, bool written, mzi_fault *out) {
    const mzi_plan *plan = mzi_trainer_plan(t);
    float loss;
    *out = (mzi_fault){0};
    MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, plan->graph->loss, &loss, sizeof loss));
    for (int32_t m = 0; m < plan->meter_count && !out->reason; m++) {
        const mzi_meter *meter = &plan->meters[m];
        bool statistic = is_statistic(plan->graph, meter->of);
        mzi_stats stats = {0};
        if (written && !meter->is_gradient && !statistic)
            continue;
        MZI_TRY(mzi_meter_read(t, meter->stats, meter->of, &stats));
        if (stats.inf + stats.nan == 0.0)
            continue;
        *out = (mzi_fault){reason_of(plan->graph, meter, &stats), meter->name,
                           stats.nan == 0.0 && isfinite(loss) && !meter->is_gradient && !statistic};
    }
    return MEZZO_OK;
}

int mezzo_trainer_meter_count(const mezzo_trainer *t) {
    return mzi_trainer_plan(t)->meter_count;
}

mezzo_meter mezzo_trainer_meter(const mezzo_trainer *t, int index) {
    const mzi_plan *plan = mzi_trainer_plan(t);
    if (index < 0 || index >= plan->meter_count)
        return (mezzo_meter){.name = ""};
    const mzi_meter *meter = &plan->meters[index];
    const mzi_stats *s = &t->meters[index];
    double nonzero = s->count - s->zero;
    return (mezzo_meter){.name = meter->name,
                         .dtype = plan->graph->values[meter->of].tensor.dtype,
                         .is_gradient = meter->is_gradient,
                         .max = s->max,
                         .underflow = nonzero > 0.0 ? s->tiny / nonzero : 0.0,
                         .overflow = s->count > 0.0 ? (s->inf + s->nan) / s->count : 0.0,
                         .zeros = s->count > 0.0 ? s->zero / s->count : 0.0};
}
