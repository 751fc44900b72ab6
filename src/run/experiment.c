/* From configuration to data, model and trainer. */
#include <string.h>
#include <unistd.h>

#include "checkpoint/weights.h"
#include "observe/run_dir.h"
#include "run/runner.h"

enum {
    LIST_MAX = 256
};

static mezzo_status find_kind(mzi_experiment *e, const mezzo_runner *runner) {
    const char *name = mezzo_config_text(e->config, "model.kind");
    char known[256] = "";
    size_t used = 0;
    for (int k = 0; k < runner->kind_count; k++) {
        if (strcmp(runner->kinds[k].name, name) == 0) {
            e->kind = &runner->kinds[k];
            return MEZZO_OK;
        }
        used += mzi_format(known + used, sizeof known - used, "%s%s", k ? ", " : "",
                           runner->kinds[k].name);
    }
    MZI_FAIL(e->ctx, MEZZO_CONFIG, "%s: model.kind: unknown kind \"%s\"; there are: %s",
             mezzo_config_origin(e->config, "model.kind"), name, known);
}

/* The plain file if it is there, else the compressed one: the name that an error shows. */
static void idx_path(char *out, size_t capacity, const char *folder, const char *split,
                     const char *part) {
    mzi_format(out, capacity, "%s/%s-%s-ubyte", folder, split, part);
    if (access(out, F_OK) != 0)
        mzi_format(out, capacity, "%s/%s-%s-ubyte.gz", folder, split, part);
}

static mezzo_status open_split(mzi_experiment *e, const char *split, int32_t classes,
                               mezzo_images **out) {
    char images[4096], labels[4096];
    const char *folder = mezzo_config_text(e->config, "data.path");
    idx_path(images, sizeof images, folder, split, "images-idx3");
    idx_path(labels, sizeof labels, folder, split, "labels-idx1");
    return mezzo_images_open_idx(out, e->ctx, images, labels, classes);
}

static mezzo_status make_loader(mzi_experiment *e, const mezzo_images *images, bool train,
                                mezzo_loader **out) {
    const mezzo_config *c = e->config;
    const mezzo_loader_config config = {
        .batch = e->shape[0],
        .seed = (uint64_t)mezzo_config_int(c, "train.seed"),
        .shuffle = train,
        .mean = (float)mezzo_config_real(c, "data.mean"),
        .scale = (float)(1.0 / mezzo_config_real(c, "data.std")),
        .prefetch = 2,
        .limit = mezzo_config_int(c, train ? "data.limit" : "data.test_limit")};
    return mezzo_loader_create(out, e->ctx, images, &config, 0);
}

static mezzo_status open_data(mzi_experiment *e) {
    MZI_TRY(open_split(e, "train", 0, &e->train_images));
    mezzo_images_info info = mezzo_images_get_info(e->train_images);
    int64_t limit = mezzo_config_int(e->config, "data.limit");
    e->classes = info.classes;
    e->train_count = limit > 0 && limit < info.count ? limit : info.count;
    MZI_TRY(open_split(e, "t10k", e->classes, &e->test_images));
    mezzo_images_info test = mezzo_images_get_info(e->test_images);
    if (test.H != info.H || test.W != info.W || test.C != info.C)
        MZI_FAIL(e->ctx, MEZZO_DATA,
                 "training images are %lldx%lldx%lld, test images %lldx%lldx%lld",
                 (long long)info.H, (long long)info.W, (long long)info.C, (long long)test.H,
                 (long long)test.W, (long long)test.C);
    const int64_t shape[] = {mezzo_config_int(e->config, "data.batch"), info.H, info.W, info.C};
    memcpy(e->shape, shape, sizeof shape);
    MZI_TRY(make_loader(e, e->train_images, true, &e->train_loader));
    return make_loader(e, e->test_images, false, &e->test_loader);
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const mzi_experiment *e = user;
    return e->kind->build(graph, e->config, e->shape, e->classes);
}

static mezzo_status make_model(mzi_experiment *e) {
    const mezzo_config *c = e->config;
    mezzo_override overrides[LIST_MAX];
    mezzo_model_config config = {
        .build = build, .user = e, .seed = (uint64_t)mezzo_config_int(c, "train.seed")};
    int count = mezzo_config_count(c, "precision.overrides");
    if (count > LIST_MAX)
        MZI_FAIL(e->ctx, MEZZO_CONFIG, "precision.overrides: %d entries, at most %d", count,
                 (int)LIST_MAX);
    for (int k = 0; k < count; k++)
        overrides[k] = (mezzo_override){
            mezzo_config_field_text(c, "precision.overrides", k, "match"),
            mezzo_dtype_from_name(mezzo_config_field_text(c, "precision.overrides", k, "compute"))};
    e->precision = mezzo_dtype_from_name(mezzo_config_text(c, "precision.compute"));
    config.precision = (mezzo_precision){.compute = e->precision,
                                         .overrides = overrides,
                                         .override_count = count,
                                         .strict = mezzo_config_bool(c, "precision.strict")};
    return mezzo_model_create(&e->model, e->ctx, &config, MEZZO_ENTRY_TRAIN);
}

static mezzo_scaler_config scaler_of(const mezzo_config *c) {
    const char *mode = mezzo_config_text(c, "precision.loss_scale.mode");
    return (mezzo_scaler_config){
        .mode = strcmp(mode, "none") == 0      ? MEZZO_SCALE_NONE
                : strcmp(mode, "static") == 0  ? MEZZO_SCALE_STATIC
                : strcmp(mode, "dynamic") == 0 ? MEZZO_SCALE_DYNAMIC
                                               : MEZZO_SCALE_AUTO,
        .init = (float)mezzo_config_real(c, "precision.loss_scale.init"),
        .growth = (float)mezzo_config_real(c, "precision.loss_scale.growth"),
        .backoff = (float)mezzo_config_real(c, "precision.loss_scale.backoff"),
        .growth_interval = (int32_t)mezzo_config_int(c, "precision.loss_scale.interval")};
}

static mezzo_optimizer_config optimizer_of(const mezzo_config *c, mezzo_param_group *groups) {
    int count = mezzo_config_count(c, "optimizer.groups");
    for (int k = 0; k < count; k++)
        groups[k] = (mezzo_param_group){
            mezzo_config_field_text(c, "optimizer.groups", k, "match"),
            (float)mezzo_config_field_real(c, "optimizer.groups", k, "lr_scale"),
            (float)mezzo_config_field_real(c, "optimizer.groups", k, "weight_decay")};
    return (mezzo_optimizer_config){.kind = mezzo_config_text(c, "optimizer.kind"),
                                    .lr = (float)mezzo_config_real(c, "optimizer.lr"),
                                    .weight_decay =
                                        (float)mezzo_config_real(c, "optimizer.weight_decay"),
                                    .beta1 = (float)mezzo_config_real(c, "optimizer.beta1"),
                                    .beta2 = (float)mezzo_config_real(c, "optimizer.beta2"),
                                    .eps = (float)mezzo_config_real(c, "optimizer.eps"),
                                    .momentum = (float)mezzo_config_real(c, "optimizer.momentum"),
                                    .nesterov = mezzo_config_bool(c, "optimizer.nesterov"),
                                    .groups = groups,
                                    .group_count = count};
}

static mezzo_status make_trainer(mzi_experiment *e) {
    const mezzo_config *c = e->config;
    mezzo_param_group groups[LIST_MAX];
    if (mezzo_config_count(c, "optimizer.groups") > LIST_MAX)
        MZI_FAIL(e->ctx, MEZZO_CONFIG, "optimizer.groups: at most %d entries", (int)LIST_MAX);
    /* Whole batches that cover the epochs: the last one may straddle. */
    int64_t samples = e->train_count * mezzo_config_int(c, "train.epochs");
    e->steps = mezzo_config_int(c, "train.steps");
    if (e->steps == 0)
        e->steps = (samples + e->shape[0] - 1) / e->shape[0];
    bool cosine = strcmp(mezzo_config_text(c, "schedule.kind"), "cosine") == 0;
    const mezzo_trainer_config config = {
        .optimizer = optimizer_of(c, groups),
        .scaler = scaler_of(c),
        .clip = (float)mezzo_config_real(c, "train.clip"),
        .schedule = {.kind = cosine ? MEZZO_SCHEDULE_COSINE : MEZZO_SCHEDULE_CONSTANT,
                     .warmup = mezzo_config_int(c, "schedule.warmup"),
                     .steps = e->steps,
                     .lr_min = (float)mezzo_config_real(c, "schedule.lr_min")}};
    return mezzo_trainer_create(&e->trainer, e->model, &config);
}

mezzo_status mzi_experiment_create(mzi_experiment *e, mezzo_runner *runner,
                                   const mezzo_config *config) {
    *e = (mzi_experiment){.ctx = runner->ctx, .config = config};
    MZI_TRY(find_kind(e, runner));
    MZI_TRY(open_data(e));
    MZI_TRY(make_model(e));
    return make_trainer(e);
}

void mzi_experiment_destroy(mzi_experiment *e) {
    mezzo_trainer_destroy(e->trainer);
    mezzo_model_destroy(e->model);
    mezzo_loader_destroy(e->train_loader);
    mezzo_loader_destroy(e->test_loader);
    mezzo_images_destroy(e->train_images);
    mezzo_images_destroy(e->test_images);
}

mezzo_status mzi_experiment_evaluate(mzi_experiment *e, double *loss, double *accuracy) {
    const size_t pixels = (size_t)(e->shape[0] * e->shape[1] * e->shape[2] * e->shape[3]);
    double loss_sum = 0.0, correct_sum = 0.0, count = 0.0;
    mezzo_batch batch;
    for (;;) {
        float batch_loss, correct;
        MZI_TRY(mezzo_loader_next(e->test_loader, &batch));
        if (batch.valid == 0)
            break;
        const mezzo_binding inputs[] = {
            {"x", batch.x, pixels * sizeof *batch.x},
            {"labels", batch.labels, (size_t)e->shape[0] * sizeof *batch.labels}};
        MZI_TRY(mezzo_model_evaluate(e->model, inputs, 2));
        MZI_TRY(mezzo_model_output(e->model, MEZZO_ENTRY_EVAL, "loss", &batch_loss, 1));
        MZI_TRY(mezzo_model_output(e->model, MEZZO_ENTRY_EVAL, "correct", &correct, 1));
        loss_sum += (double)batch_loss * (double)batch.valid;
        correct_sum += (double)correct;
        count += (double)batch.valid;
    }
    *loss = count > 0.0 ? loss_sum / count : 0.0;
    *accuracy = count > 0.0 ? correct_sum / count : 0.0;
    return MEZZO_OK;
}

mezzo_status mzi_experiment_planned_bytes(mzi_experiment *e, uint64_t *bytes) {
    mezzo_plan_info train, eval;
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_EVAL, &eval));
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_TRAIN, &train));
    *bytes = train.state_bytes + train.weight_bytes + train.activation_bytes + train.scratch_bytes +
             eval.activation_bytes + eval.scratch_bytes;
    return MEZZO_OK;
}
