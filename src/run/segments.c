/* Segments of backward for a run: measured on its first batch, before the trainer plans. */
#include <math.h>
#include <string.h>

#include "run/runner.h"

static bool computes_f16(const mezzo_config *c) {
    bool any = strcmp(mezzo_config_text(c, "precision.compute"), "f16") == 0;
    for (int k = 0; k < mezzo_config_count(c, "precision.overrides"); k++)
        any |= strcmp(mezzo_config_field_text(c, "precision.overrides", k, "compute"), "f16") == 0;
    return any;
}

mezzo_status mzi_pinned_segments(const mzi_experiment *e, mezzo_segment *segments, int capacity,
                                 int *count) {
    static const char key[] = "precision.loss_scale.pinned_segments";
    *count = mezzo_config_count(e->config, key);
    if (*count > capacity)
        MZI_FAIL(e->ctx, MEZZO_CONFIG, "%s: %d entries, at most %d", key, *count, capacity);
    for (int k = 0; k < *count; k++) {
        double exponent = mezzo_config_field_real(e->config, key, k, "exponent");
        if (exponent != floor(exponent))
            MZI_FAIL(e->ctx, MEZZO_CONFIG, "%s: %s[%d].exponent is %g, not a whole number",
                     mezzo_config_origin(e->config, key), key, k, exponent);
        segments[k] = (mezzo_segment){.from = mezzo_config_field_text(e->config, key, k, "from"),
                                      .exponent = (int32_t)exponent};
    }
    return MEZZO_OK;
}

/* The first micro-batch; what was read of the data comes again afterwards. */
static mezzo_status choose(mzi_experiment *e, double loss_scale) {
    size_t parts = (size_t)mezzo_config_int(e->config, "train.accumulate");
    mzi_feed feed;
    MZI_TRY(mzi_dataset_next_step(&e->data, &feed));
    for (int k = 0; k < 2; k++)
        feed.inputs[k].bytes /= parts;
    MZI_TRY(mezzo_model_choose_segments(e->model, feed.inputs, 2, loss_scale));
    mzi_dataset_close(&e->data);
    return mzi_dataset_open(&e->data, e->ctx, e->config, e->kind->data);
}

mezzo_status mzi_experiment_segments(mzi_experiment *e, const mezzo_scaler_config *config) {
    mezzo_scaler scaler;
    if (strcmp(mezzo_config_text(e->config, "precision.loss_scale.segments"), "auto") != 0 ||
        !computes_f16(e->config) || mezzo_model_segment_count(e->model) > 0)
        return MEZZO_OK;
    MZI_TRY(mezzo_scaler_init(e->ctx, &scaler, config));
    /* Maxima are those of the weights to start from. */
    const char *run = mezzo_config_text(e->config, "train.continue");
    const char *weights = run[0] ? run : mezzo_config_text(e->config, "train.weights");
    if (weights[0])
        MZI_TRY(mzi_experiment_load(e, weights));
    return choose(e, scaler.scale);
}
