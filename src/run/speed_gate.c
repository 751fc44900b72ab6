/* The speed gate of a run: layers are pinned by the configuration, by the file whose weights are
 * trained on, evaluated or sampled from, or measured, before the trainer plans. */
#include <string.h>

#include "base/text.h"
#include "mezzo/safetensors.h"
#include "run/runner.h"
#include "train/model.h"

#define SAVED_KEY "mezzo.speed_pins"

mezzo_status mzi_speed_pins(const mzi_experiment *e, mezzo_slow_layer *slow, int capacity,
                            int *count) {
    static const char key[] = "precision.speed_pins";
    *count = mezzo_config_count(e->config, key);
    if (*count > capacity)
        MZI_FAIL(e->ctx, MEZZO_CONFIG, "%s: %d entries, at most %d", key, *count, capacity);
    for (int k = 0; k < *count; k++)
        slow[k] = (mezzo_slow_layer){.name = mezzo_config_field_text(e->config, key, k, "layer")};
    return MEZZO_OK;
}

/* Names end with a line feed each, which no name has.  `text` gets ends of names in their place. */
static void split_names(char *text, mezzo_slow_layer *slow) {
    char *end;
    for (char *name = text; (end = strchr(name, '\n')) != NULL; name = end + 1) {
        *end = '\0';
        *slow++ = (mezzo_slow_layer){.name = name};
    }
}

static mezzo_status pin_saved(mzi_experiment *e, const char *value) {
    size_t bytes = strlen(value) + 1;
    int count = 0;
    for (const char *at = value; (at = strchr(at, '\n')) != NULL; at++)
        count++;
    if (count == 0)
        return MEZZO_OK;
    size_t slow_bytes = (size_t)count * sizeof(mezzo_slow_layer);
    mezzo_slow_layer *slow = mzi_alloc(e->ctx, slow_bytes);
    char *text = mzi_copy_text(e->ctx, value);
    mezzo_status status = MEZZO_OK;
    if (slow && text) {
        split_names(text, slow);
        status = mzi_model_set_slow(e->model, slow, count);
    } else {
        status = mzi_out_of_memory(e->ctx, slow_bytes + bytes, "the pins of a run");
    }
    mzi_free(e->ctx, text, bytes);
    mzi_free(e->ctx, slow, slow_bytes);
    MZI_TRY(status);
    mzi_log(e->ctx, MEZZO_LOG_INFO,
            "speed gate: %d layers stay in f32, as where the weights were trained", count);
    return MEZZO_OK;
}

/* The pins that the file names, if a run wrote it that had something to choose. */
static mezzo_status take_saved(mzi_experiment *e, bool *taken) {
    char path[MZI_WEIGHTS_PATH];
    mezzo_safetensors *file;
    *taken = false;
    if (!e->pinned_by[0])
        return MEZZO_OK;
    mzi_weights_path(e->pinned_by, path);
    MZI_TRY(mezzo_safetensors_open(&file, e->ctx, path));
    const char *value = mezzo_safetensors_note_value(file, SAVED_KEY);
    mezzo_status status = value ? pin_saved(e, value) : MEZZO_OK;
    *taken = value != NULL;
    mezzo_safetensors_close(file);
    return status;
}

mezzo_status mzi_experiment_speed_gate(mzi_experiment *e, mezzo_entry entry) {
    const char *gate = mezzo_config_text(e->config, "precision.speed_gate");
    if (strcmp(gate, "auto") != 0 || e->precision != MEZZO_BF16 ||
        e->model->backend->target.no_bf16)
        return MEZZO_OK;
    e->has_speed_pins = true;
    if (mezzo_model_slow_count(e->model) > 0)
        return MEZZO_OK;
    bool taken;
    MZI_TRY(take_saved(e, &taken));
    if (taken || entry != MEZZO_ENTRY_TRAIN)
        return MEZZO_OK;
    MZI_TRY(mezzo_model_measure_speed(e->model));
    for (int k = 0; k < mezzo_model_slow_count(e->model); k++) {
        mezzo_slow_layer layer = mezzo_model_slow_at(e->model, k);
        mzi_log(e->ctx, MEZZO_LOG_INFO,
                "speed gate: %s computes in f32: %.0f us in bf16, %.0f in f32", layer.name,
                layer.bf16_us, layer.f32_us);
    }
    return MEZZO_OK;
}

mezzo_status mzi_speed_note(const mzi_experiment *e, mezzo_safetensors_note *note, char **text) {
    mzi_text made = {.ctx = e->ctx};
    for (int k = 0; k < mezzo_model_slow_count(e->model); k++)
        mzi_text_put(&made, "%s\n", mezzo_model_slow_at(e->model, k).name);
    MZI_TRY(mzi_text_take(&made, text));
    *note = (mezzo_safetensors_note){SAVED_KEY, *text};
    return MEZZO_OK;
}
