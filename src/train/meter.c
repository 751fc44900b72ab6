/* The figures of tensors: read after a run with meters, added over the micro-batches of a step. */
#include <math.h>
#include <string.h>

#include "train/trainer.h"

/* Every `meter_every` commits; the scaler by attempts, so that it goes on while steps are skipped.
 */
bool mzi_meters_due(const mezzo_trainer *t) {
    const mezzo_scaler_config *s = &t->state.scaler.config;
    int64_t every = t->config.meter_every;
    return (s->mode == MEZZO_SCALE_HEADROOM && t->state.attempt % s->growth_interval == 0) ||
           (every > 0 && (t->state.step + 1) % every == 0);
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

static bool is_low(mezzo_dtype dtype) {
    return dtype == MEZZO_F16 || dtype == MEZZO_BF16;
}

void mzi_meters_evidence(const mezzo_trainer *t, mezzo_scale_evidence *out) {
    const mzi_plan *plan = mzi_trainer_plan(t);
    double max = 0.0, tiny = 0.0, nonzero = 0.0;
    out->measured = false;
    for (int32_t m = 0; m < plan->meter_count; m++) {
        const mzi_stats *s = &t->meters[m];
        if (plan->meters[m].phase != MZI_PHASE_BACKWARD ||
            !is_low(plan->graph->values[plan->meters[m].of].tensor.dtype))
            continue;
        out->measured = true;
        max = fmax(max, s->max);
        tiny += s->tiny;
        nonzero += s->count - s->zero;
    }
    out->max = (float)max;
    out->underflow = nonzero > 0.0 ? (float)(tiny / nonzero) : 0.0f;
}

/* An Inf in the first faulty tensor of backward came from numbers that were too large for its
 * type; a NaN alone did not. */
static mezzo_skip_reason reason_of(const mzi_plan *plan, const mzi_meter *meter,
                                   const mzi_stats *stats) {
    if (plan->graph->values[meter->of].kind == MZI_VALUE_INPUT)
        return MEZZO_SKIP_DATA;
    if (meter->phase == MZI_PHASE_FORWARD)
        return MEZZO_SKIP_FORWARD;
    return stats->inf > 0.0 ? MEZZO_SKIP_GRADIENT : MEZZO_SKIP_NAN;
}

mezzo_status mzi_meters_fault(mezzo_trainer *t, mzi_fault *out) {
    const mzi_plan *plan = mzi_trainer_plan(t);
    *out = (mzi_fault){0};
    for (int32_t m = 0; m < plan->meter_count && !out->reason; m++) {
        const mzi_meter *meter = &plan->meters[m];
        mzi_stats stats = {0};
        MZI_TRY(mzi_meter_read(t, meter->stats, meter->of, &stats));
        if (stats.inf + stats.nan > 0.0)
            *out = (mzi_fault){reason_of(plan, meter, &stats), meter->name};
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
                         .is_gradient = meter->phase == MZI_PHASE_BACKWARD,
                         .max = s->max,
                         .underflow = nonzero > 0.0 ? s->tiny / nonzero : 0.0,
                         .overflow = s->count > 0.0 ? (s->inf + s->nan) / s->count : 0.0,
                         .zeros = s->count > 0.0 ? s->zero / s->count : 0.0};
}
