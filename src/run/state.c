/* An experiment's state to files and back. */
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/weights.h"
#include "observe/run_dir.h"
#include "run/runner.h"
#include "run/saved.h"
#include "train/average.h"
#include "train/model.h"

/* The tensors that a file holds. */
typedef struct tensors {
    mzi_weight *weights;             /* parameters and statistics */
    mezzo_safetensors_item *moments; /* and averages, once they have begun */
    int32_t *states;                 /* of the weights, then of the moments */
    int weight_count, moment_count, state_count;
    mzi_experiment *e;
} tensors;

static void free_tensors(tensors *t) {
    mezzo_ctx *ctx = t->e->ctx;
    mzi_free(ctx, t->weights, (size_t)t->state_count * sizeof *t->weights);
    mzi_free(ctx, t->moments, (size_t)t->state_count * sizeof *t->moments);
    mzi_free(ctx, t->states, (size_t)t->state_count * sizeof *t->states);
}

static bool is_weight(const mezzo_state_info *info) {
    return info->kind == MEZZO_STATE_PARAM || info->kind == MEZZO_STATE_STATISTIC;
}

/* Caches are not saved. */
static void list(tensors *t) {
    mezzo_trainer *trainer = t->e->trainer;
    bool averaged = trainer && mezzo_trainer_get_state(trainer).averaged > 0;
    for (int s = 0; s < t->state_count; s++) {
        mezzo_state_info info = mezzo_model_state_at(t->e->model, s);
        if (!is_weight(&info))
            continue;
        t->weights[t->weight_count] = (mzi_weight){info.name, info.shape, info.compute, NULL};
        t->states[t->weight_count++] = s;
    }
    for (int s = 0; s < t->state_count; s++) {
        mezzo_state_info info = mezzo_model_state_at(t->e->model, s);
        if (info.kind != MEZZO_STATE_MOMENT && !(averaged && info.kind == MEZZO_STATE_AVERAGE))
            continue;
        t->moments[t->moment_count] =
            (mezzo_safetensors_item){info.name, MEZZO_F32, info.shape, NULL};
        t->states[t->weight_count + t->moment_count++] = s;
    }
}

static mezzo_status make_tensors(mzi_experiment *e, tensors *t) {
    *t = (tensors){.e = e, .state_count = mezzo_model_state_count(e->model)};
    size_t count = (size_t)t->state_count;
    t->weights = mzi_alloc(e->ctx, count * sizeof *t->weights);
    t->moments = mzi_alloc(e->ctx, count * sizeof *t->moments);
    t->states = mzi_alloc(e->ctx, count * sizeof *t->states);
    if (!t->weights || !t->moments || !t->states) {
        free_tensors(t);
        return mzi_out_of_memory(e->ctx, count * sizeof *t->weights, "the list of tensors");
    }
    list(t);
    return MEZZO_OK;
}

static mezzo_status read_part(void *user, int index, int64_t first, int64_t count, float *out) {
    const tensors *t = user;
    return mzi_model_read_part(t->e->model, t->states[index], first, count, out);
}

static mezzo_status read_average(void *user, int index, int64_t first, int64_t count, float *out) {
    const tensors *t = user;
    int32_t average = mzi_average_of(t->e->model, t->states[index]);
    return mzi_model_read_part(t->e->model, average < 0 ? t->states[index] : average, first, count,
                               out);
}

static mzi_saved saved_of(const mzi_experiment *e) {
    mzi_saved saved = {.state = mezzo_trainer_get_state(e->trainer),
                       .samples = e->samples,
                       .overflow_events = e->overflow_events,
                       .seed = mezzo_config_int(e->config, "train.seed")};
    mzi_format(saved.optimizer, sizeof saved.optimizer, "%s",
               mezzo_config_text(e->config, "optimizer.kind"));
    mzi_scale_rule(&saved.state.scaler.config, saved.scale_rule);
    return saved;
}

mezzo_status mzi_experiment_save(mzi_experiment *e, const char *folder, const char *plan_hash) {
    tensors t;
    mzi_saved_notes more;
    mzi_saved saved = saved_of(e);
    char *pins = NULL;
    mezzo_safetensors_note pinned = {0};
    mzi_saved_write(&saved, &more);
    if (e->has_speed_pins)
        MZI_TRY(mzi_speed_note(e, &pinned, &pins));
    mezzo_status status = make_tensors(e, &t);
    if (status != MEZZO_OK) {
        mezzo_text_free(e->ctx, pins);
        return status;
    }
    const mzi_weights_info info = {.step = saved.state.step,
                                   .plan_hash = plan_hash,
                                   .precision = e->precision,
                                   .common = pinned,
                                   .notes = more.notes,
                                   .note_count = more.count};
    const mzi_safetensors_source source = {read_part, &t}, average = {read_average, &t};
    status = mzi_weights_save(e->ctx, &mzi_fs_real, folder, t.weights, t.weight_count, t.moments,
                              t.moment_count, &source, &info);
    if (status == MEZZO_OK && saved.state.averaged > 0)
        status = mzi_weights_save_one(e->ctx, &mzi_fs_real, folder, MZI_EMA_FILE, t.weights,
                                      t.weight_count, &average, &info);
    free_tensors(&t);
    mezzo_text_free(e->ctx, pins);
    return status;
}

/* A run directory stands for its masters. */
void mzi_weights_path(const char *path, char out[MZI_WEIGHTS_PATH]) {
    struct stat info;
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    mzi_format(out, MZI_WEIGHTS_PATH, "%s%s", path,
               folder ? "/" MZI_RUN_FINAL "/" MZI_MASTERS_FILE : "");
}

static void read_item(const void *user, int64_t first, int64_t count, float *out) {
    mzi_weights_copy(user, first, count, out);
}

mezzo_status mzi_experiment_take(mzi_experiment *e, int index, const mezzo_safetensors_item *item) {
    return mzi_model_fill(e->model, index, read_item, item);
}

/* Nothing is written before all of the file has been looked at. */
static mezzo_status load_file(const tensors *t, const mezzo_safetensors *file, const char *path,
                              int *rounded) {
    MZI_TRY(mzi_weights_check(t->e->ctx, file, path, t->weights, t->weight_count));
    *rounded = 0;
    for (int w = 0; w < t->weight_count; w++) {
        mezzo_safetensors_item item =
            mezzo_safetensors_at(file, mezzo_safetensors_find(file, t->weights[w].name));
        MZI_TRY(mzi_experiment_take(t->e, t->states[w], &item));
        *rounded += item.dtype != MEZZO_F32;
    }
    return MEZZO_OK;
}

static mezzo_status load(mzi_experiment *e, const char *path, int *rounded) {
    tensors t;
    char file_path[MZI_WEIGHTS_PATH];
    mezzo_safetensors *file;
    mzi_weights_path(path, file_path);
    MZI_TRY(mezzo_safetensors_open(&file, e->ctx, file_path));
    mezzo_status status = make_tensors(e, &t);
    if (status == MEZZO_OK) {
        status = load_file(&t, file, file_path, rounded);
        free_tensors(&t);
    }
    mezzo_safetensors_close(file);
    return status;
}

mezzo_status mzi_experiment_load(mzi_experiment *e, const char *path) {
    int rounded;
    return load(e, path, &rounded);
}

mezzo_status mzi_experiment_start(mzi_experiment *e) {
    const char *path = mezzo_config_text(e->config, "train.weights");
    bool goes_on = mezzo_config_text(e->config, "train.continue")[0] != '\0';
    int rounded = 0;
    if (path[0] != '\0' && goes_on)
        MZI_FAIL(e->ctx, MEZZO_CONFIG,
                 "%s: train.weights and train.continue are both set; the first starts a run from "
                 "weights, the second goes on with one",
                 mezzo_config_origin(e->config, "train.continue"));
    if (goes_on)
        return mzi_experiment_continue(e);
    if (path[0] == '\0')
        return mzi_model_settle(e->model); /* else the first step would take the time */
    MZI_TRY(load(e, path, &rounded));
    if (rounded > 0)
        mzi_log(e->ctx, MEZZO_LOG_WARNING,
                "train.weights: %d tensors of '%s' are in half precision: the FP32 masters start "
                "from rounded values; " MZI_MASTERS_FILE " of a run has them in full",
                rounded, path);
    return MEZZO_OK;
}
