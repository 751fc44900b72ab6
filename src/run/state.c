/* An experiment's state to files and back. */
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/weights.h"
#include "observe/run_dir.h"
#include "run/runner.h"

/* Host copies of every tensor, cut from one block. */
typedef struct copies {
    mzi_weight *weights; /* parameters and statistics */
    mezzo_safetensors_item *moments;
    int weight_count, moment_count, state_count;
    float *data;
    size_t data_bytes;
} copies;

static void free_copies(mezzo_ctx *ctx, copies *c) {
    mzi_free(ctx, c->weights, (size_t)c->state_count * sizeof *c->weights);
    mzi_free(ctx, c->moments, (size_t)c->state_count * sizeof *c->moments);
    mzi_free(ctx, c->data, c->data_bytes);
}

static bool is_saved(const mzi_experiment *e, int s) {
    return mezzo_model_state_at(e->model, s).kind != MEZZO_STATE_CACHE;
}

static int64_t saved_count(const mzi_experiment *e, int s) {
    return is_saved(e, s) ? mezzo_shape_count(mezzo_model_state_at(e->model, s).shape) : 0;
}

static mezzo_status make_copies(const mzi_experiment *e, copies *c) {
    *c = (copies){.state_count = mezzo_model_state_count(e->model)};
    for (int s = 0; s < c->state_count; s++)
        c->data_bytes += (size_t)saved_count(e, s) * sizeof *c->data;
    c->weights = mzi_alloc(e->ctx, (size_t)c->state_count * sizeof *c->weights);
    c->moments = mzi_alloc(e->ctx, (size_t)c->state_count * sizeof *c->moments);
    c->data = mzi_alloc(e->ctx, c->data_bytes);
    if (!c->weights || !c->moments || !c->data) {
        free_copies(e->ctx, c);
        return mzi_out_of_memory(e->ctx, c->data_bytes, "a copy of the state");
    }
    float *at = c->data;
    for (int s = 0; s < c->state_count; s++) {
        mezzo_state_info info = mezzo_model_state_at(e->model, s);
        if (info.kind == MEZZO_STATE_MOMENT)
            c->moments[c->moment_count++] =
                (mezzo_safetensors_item){info.name, MEZZO_F32, info.shape, at};
        else if (is_saved(e, s))
            c->weights[c->weight_count++] = (mzi_weight){info.name, info.shape, info.compute, at};
        at += saved_count(e, s);
    }
    return MEZZO_OK;
}

static mezzo_status read_state(const mzi_experiment *e, copies *c) {
    float *at = c->data;
    for (int s = 0; s < c->state_count; s++) {
        int64_t n = saved_count(e, s);
        if (n)
            MZI_TRY(mezzo_model_read(e->model, s, at, n));
        at += n;
    }
    return MEZZO_OK;
}

mezzo_status mzi_experiment_save(mzi_experiment *e, const char *folder, const char *plan_hash) {
    copies c;
    MZI_TRY(make_copies(e, &c));
    const mzi_weights_info info = {mezzo_trainer_get_state(e->trainer).step, plan_hash,
                                   e->precision};
    mezzo_status status = read_state(e, &c);
    if (status == MEZZO_OK)
        status = mzi_weights_save(e->ctx, &mzi_fs_real, folder, c.weights, c.weight_count,
                                  c.moments, c.moment_count, &info);
    free_copies(e->ctx, &c);
    return status;
}

/* A run directory stands for its masters. */
void mzi_weights_path(const char *path, char out[MZI_WEIGHTS_PATH]) {
    struct stat info;
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    mzi_format(out, MZI_WEIGHTS_PATH, "%s%s", path,
               folder ? "/" MZI_RUN_FINAL "/" MZI_MASTERS_FILE : "");
}

static mezzo_status load(mzi_experiment *e, const char *path, int *rounded) {
    copies c;
    char file[MZI_WEIGHTS_PATH];
    mzi_weights_path(path, file);
    MZI_TRY(make_copies(e, &c));
    mezzo_status status = mzi_weights_load(e->ctx, file, c.weights, c.weight_count, rounded);
    for (int w = 0; w < c.weight_count && status == MEZZO_OK; w++)
        status = mezzo_model_write(e->model, mezzo_model_state_find(e->model, c.weights[w].name),
                                   c.weights[w].data, mezzo_shape_count(c.weights[w].shape));
    free_copies(e->ctx, &c);
    return status;
}

mezzo_status mzi_experiment_load(mzi_experiment *e, const char *path) {
    return load(e, path, NULL);
}

mezzo_status mzi_experiment_start(mzi_experiment *e) {
    const char *path = mezzo_config_text(e->config, "train.weights");
    int rounded = 0;
    if (path[0] == '\0')
        return MEZZO_OK;
    MZI_TRY(load(e, path, &rounded));
    if (rounded > 0)
        mzi_log(e->ctx, MEZZO_LOG_WARNING,
                "train.weights: %d tensors of '%s' are in half precision: the FP32 masters start "
                "from rounded values; " MZI_MASTERS_FILE " of a run has them in full",
                rounded, path);
    return MEZZO_OK;
}
