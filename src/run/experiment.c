/* From configuration to data, model and trainer. */
#include <string.h>

#include "checkpoint/weights.h"
#include "observe/run_dir.h"
#include "run/lint.h"
#include "run/runner.h"
#include "run/saved.h"

enum {
    LIST_MAX = 256
};

static mezzo_status build(mezzo_graph *graph, void *user) {
    const mzi_experiment *e = user;
    return e->kind->build(graph, e->config, &e->data.shape);
}

static mezzo_status recompute_of(const mzi_experiment *e, const char **patterns, int *count) {
    *count = mezzo_config_count(e->config, "train.recompute");
    if (*count > LIST_MAX)
        MZI_FAIL(e->ctx, MEZZO_CONFIG, "train.recompute: %d entries, at most %d", *count,
                 (int)LIST_MAX);
    for (int k = 0; k < *count; k++)
        patterns[k] = mezzo_config_field_text(e->config, "train.recompute", k, "match");
    return MEZZO_OK;
}

static mezzo_lint_mode lint_of(const mezzo_config *c) {
    const char *mode = mezzo_config_text(c, "precision.lint");
    return strcmp(mode, "off") == 0    ? MEZZO_LINT_OFF
           : strcmp(mode, "warn") == 0 ? MEZZO_LINT_REPORT
                                       : MEZZO_LINT_STOP;
}

static mezzo_speed_gate speed_gate_of(const mezzo_config *c) {
    return strcmp(mezzo_config_text(c, "precision.speed_gate"), "off") == 0 ? MEZZO_SPEED_GATE_OFF
                                                                            : MEZZO_SPEED_GATE_AUTO;
}

static mezzo_master master_of(const mezzo_config *c) {
    const char *form = mezzo_config_text(c, "precision.master");
    return strcmp(form, "f32") == 0    ? MEZZO_MASTER_F32
           : strcmp(form, "bf16") == 0 ? MEZZO_MASTER_BF16
                                       : MEZZO_MASTER_SPLIT;
}

static mezzo_dtype gradients_of(const mezzo_config *c) {
    const char *type = mezzo_config_text(c, "precision.gradients");
    if (strcmp(type, "auto") != 0)
        return mezzo_dtype_from_name(type);
    bool low = strcmp(mezzo_config_text(c, "precision.compute"), "bf16") == 0;
    return low && mezzo_config_int(c, "train.accumulate") == 1 ? MEZZO_BF16 : MEZZO_F32;
}

static mezzo_status make_model(mzi_experiment *e, mezzo_entry entry) {
    const mezzo_config *c = e->config;
    mezzo_override overrides[LIST_MAX];
    mezzo_segment segments[LIST_MAX];
    mezzo_slow_layer slow[LIST_MAX];
    const char *recompute[LIST_MAX];
    mezzo_model_config config = {.build = build,
                                 .user = e,
                                 .seed = (uint64_t)mezzo_config_int(c, "train.seed"),
                                 .recompute = recompute,
                                 .no_fuse = strcmp(mezzo_config_text(c, "train.fuse"), "off") == 0};
    MZI_TRY(recompute_of(e, recompute, &config.recompute_count));
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
                                         .strict = mezzo_config_bool(c, "precision.strict"),
                                         .master = master_of(c),
                                         .gradients = gradients_of(c),
                                         .lint = lint_of(c),
                                         .segments = segments,
                                         .slow = slow};
    config.precision.speed_gate = speed_gate_of(c);
    config.precision.master_nearest =
        strcmp(mezzo_config_text(c, "precision.rounding"), "nearest") == 0;
    MZI_TRY(mzi_pinned_segments(e, segments, LIST_MAX, &config.precision.segment_count));
    MZI_TRY(mzi_speed_pins(e, slow, LIST_MAX, &config.precision.slow_count));
    return mezzo_model_create(&e->model, e->ctx, &config, entry);
}

static mezzo_scale_mode mode_of(const mezzo_config *c) {
    const char *mode = mezzo_config_text(c, "precision.loss_scale.mode");
    mezzo_scale_mode found = MEZZO_SCALE_AUTO;
    while (strcmp(mzi_scale_mode_name(found), mode) !=
           0) /* the schema lets no other word through */
        found++;
    return found;
}

/* A number, or `automatic` where the configuration says `auto`. */
static float real_or(const mezzo_config *c, const char *key, float automatic) {
    double value = mezzo_config_real(c, key);
    return value < 0.0 ? automatic : (float)value;
}

static mezzo_scaler_config scaler_of(const mezzo_config *c) {
    return (mezzo_scaler_config){
        .mode = mode_of(c),
        .init = real_or(c, "precision.loss_scale.init", 0.0f),
        .growth = real_or(c, "precision.loss_scale.growth", 0.0f),
        .backoff = real_or(c, "precision.loss_scale.backoff", 0.0f),
        .growth_interval = (int32_t)mezzo_config_int(c, "precision.loss_scale.interval"),
        .min = real_or(c, "precision.loss_scale.min", 0.0f),
        .max = real_or(c, "precision.loss_scale.max", 0.0f),
        .headroom = (int32_t)mezzo_config_int(c, "precision.loss_scale.headroom"),
        .hysteresis = (int32_t)mezzo_config_int(c, "precision.loss_scale.hysteresis"),
        .consecutive_hysteresis =
            mezzo_config_bool(c, "precision.loss_scale.consecutive_hysteresis"),
        .skip_at_min = !mezzo_config_bool(c, "precision.loss_scale.stop_at_min")};
}

static mezzo_optimizer_config optimizer_of(const mezzo_config *c, mezzo_param_group *groups) {
    int count = mezzo_config_count(c, "optimizer.groups");
    const char *kind = mezzo_config_text(c, "optimizer.kind");
    const mezzo_optimizer_config usual = mezzo_optimizer_default(kind);
    for (int k = 0; k < count; k++)
        groups[k] = (mezzo_param_group){
            mezzo_config_field_text(c, "optimizer.groups", k, "match"),
            (float)mezzo_config_field_real(c, "optimizer.groups", k, "lr_scale"),
            (float)mezzo_config_field_real(c, "optimizer.groups", k, "weight_decay")};
    return (mezzo_optimizer_config){
        .kind = kind,
        .lr = (float)mezzo_config_real(c, "optimizer.lr"),
        .weight_decay = (float)mezzo_config_real(c, "optimizer.weight_decay"),
        .beta1 = (float)mezzo_config_real(c, "optimizer.beta1"),
        .beta2 = real_or(c, "optimizer.beta2", usual.beta2),
        .eps = (float)mezzo_config_real(c, "optimizer.eps"),
        .momentum = real_or(c, "optimizer.momentum", usual.momentum),
        .nesterov = mezzo_config_bool(c, "optimizer.nesterov"),
        .state = mezzo_dtype_from_name(mezzo_config_text(c, "optimizer.state")),
        .other_lr_scale = (float)mezzo_config_real(c, "optimizer.other_lr_scale"),
        .groups = groups,
        .group_count = count};
}

static mezzo_schedule schedule_of(const mezzo_config *c, int64_t steps) {
    const char *kind = mezzo_config_text(c, "schedule.kind");
    return (mezzo_schedule){.kind = strcmp(kind, "cosine") == 0   ? MEZZO_SCHEDULE_COSINE
                                    : strcmp(kind, "linear") == 0 ? MEZZO_SCHEDULE_LINEAR
                                    : strcmp(kind, "wsd") == 0    ? MEZZO_SCHEDULE_WSD
                                                                  : MEZZO_SCHEDULE_CONSTANT,
                            .warmup = mezzo_config_int(c, "schedule.warmup"),
                            .steps = steps,
                            .lr_min = (float)mezzo_config_real(c, "schedule.lr_min"),
                            .decay = mezzo_config_int(c, "schedule.decay")};
}

/* Of train.memory_mib, what training may take, and what evaluation does. */
typedef struct budget {
    uint64_t bytes, taken; /* bytes: 0 if there is none */
} budget;

/* What the average of the weights will ask for (mzi_average_count), before it is there: room for
 * all parameters, and for the largest. */
static uint64_t average_bytes(const mzi_experiment *e) {
    int64_t sum = 0, largest = 0;
    if (mezzo_config_real(e->config, "train.ema") == 0.0)
        return 0;
    for (int s = 0; s < mezzo_model_state_count(e->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(e->model, s);
        int64_t count = info.kind == MEZZO_STATE_PARAM ? mezzo_shape_count(info.shape) : 0;
        sum += count;
        largest = count > largest ? count : largest;
    }
    return (uint64_t)(sum + largest) * sizeof *e->masters;
}

static mezzo_status budget_of(mzi_experiment *e, budget *out) {
    mezzo_plan_info eval;
    uint64_t all = (uint64_t)mezzo_config_int(e->config, "train.memory_mib") << 20;
    *out = (budget){0};
    if (all == 0)
        return MEZZO_OK;
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_EVAL, &eval));
    out->taken = eval.activation_bytes + eval.scratch_bytes + average_bytes(e);
    out->bytes = all > out->taken ? all - out->taken : 1;
    return MEZZO_OK;
}

static mezzo_status blame_budget(mzi_experiment *e, const budget *given, mezzo_status status) {
    const mezzo_error why = e->ctx->error;
    if (status != MEZZO_OUT_OF_MEMORY || given->bytes == 0)
        return status;
    mzi_error_clear(e->ctx);
    MZI_FAIL(e->ctx, status, "train.memory_mib is %lld, and evaluation takes %.1f of them: %s",
             (long long)mezzo_config_int(e->config, "train.memory_mib"),
             (double)given->taken / 0x1p20, why.text);
}

static mezzo_status make_trainer(mzi_experiment *e) {
    const mezzo_config *c = e->config;
    mezzo_param_group groups[LIST_MAX];
    if (mezzo_config_count(c, "optimizer.groups") > LIST_MAX)
        MZI_FAIL(e->ctx, MEZZO_CONFIG, "optimizer.groups: at most %d entries", (int)LIST_MAX);
    /* Whole batches that cover the epochs: the last one may straddle. */
    int64_t samples = e->data.train_count * mezzo_config_int(c, "train.epochs");
    e->steps = mezzo_config_int(c, "train.steps");
    if (e->steps == 0)
        e->steps = (samples + e->data.step_batch - 1) / e->data.step_batch;
    budget given;
    MZI_TRY(budget_of(e, &given));
    const mezzo_trainer_config config = {.optimizer = optimizer_of(c, groups),
                                         .scaler = scaler_of(c),
                                         .clip = (float)mezzo_config_real(c, "train.clip"),
                                         .accumulate =
                                             (int32_t)mezzo_config_int(c, "train.accumulate"),
                                         .no_salvage = !mezzo_config_bool(c, "train.salvage"),
                                         .meter_every = mezzo_config_int(c, "train.meter_every"),
                                         .ema = (float)mezzo_config_real(c, "train.ema"),
                                         .memory_bytes = given.bytes,
                                         .schedule = schedule_of(c, e->steps)};
    return blame_budget(e, &given, mezzo_trainer_create(&e->trainer, e->model, &config));
}

/* What is in its range by itself, and still no trainer takes: bounds around `init`. */
static mezzo_status blame_loss_scale(mzi_experiment *e, mezzo_status status) {
    const mezzo_error why = e->ctx->error;
    if (status != MEZZO_INVALID_ARGUMENT)
        return status;
    mzi_error_clear(e->ctx);
    MZI_FAIL(e->ctx, MEZZO_CONFIG, "precision.loss_scale: %s", why.text);
}

mezzo_status mzi_experiment_create(mzi_experiment *e, mezzo_runner *runner,
                                   const mezzo_config *config, const char *weights) {
    *e = (mzi_experiment){.ctx = runner->ctx,
                          .config = config,
                          .pinned_by =
                              weights ? weights : mezzo_config_text(config, "train.continue")};
    MZI_TRY(mzi_runner_kind(runner, config, &e->kind));
    MZI_TRY(mzi_dataset_open(&e->data, e->ctx, config, e->kind->data));
    MZI_TRY(make_model(e, MEZZO_ENTRY_TRAIN));
    const mezzo_scaler_config scaler = scaler_of(config);
    MZI_TRY(mzi_experiment_speed_gate(e, MEZZO_ENTRY_TRAIN));
    MZI_TRY(mzi_experiment_segments(e, &scaler));
    MZI_TRY(blame_loss_scale(e, make_trainer(e)));
    return lint_of(config) == MEZZO_LINT_OFF ? MEZZO_OK : mzi_lint_warn_unmatched(e);
}

mezzo_status mzi_experiment_create_decoder(mzi_experiment *e, mezzo_runner *runner,
                                           const mezzo_config *config, const char *weights) {
    *e = (mzi_experiment){.ctx = runner->ctx, .config = config, .pinned_by = weights};
    MZI_TRY(mzi_runner_kind(runner, config, &e->kind));
    if (e->kind->data != MEZZO_DATA_TOKENS)
        MZI_FAIL(e->ctx, MEZZO_CONFIG,
                 "%s: model.kind %s takes images, and only a model of tokens can be sampled from",
                 mezzo_config_origin(config, "model.kind"), e->kind->name);
    MZI_TRY(mzi_dataset_open_tokenizer(&e->data, e->ctx, config));
    MZI_TRY(make_model(e, MEZZO_ENTRY_DECODE));
    return mzi_experiment_speed_gate(e, MEZZO_ENTRY_DECODE);
}

void mzi_experiment_destroy(mzi_experiment *e) {
    mzi_free(e->ctx, e->masters, e->masters_bytes);
    mezzo_trainer_destroy(e->trainer);
    mezzo_model_destroy(e->model);
    mzi_dataset_close(&e->data);
}

/* The mean over rows: a batch's loss is one over its valid rows. */
mezzo_status mzi_experiment_evaluate(mzi_experiment *e, mzi_evaluation *out) {
    double loss_sum = 0.0, correct_sum = 0.0, count = 0.0, value;
    mzi_feed feed;
    for (;;) {
        float loss, correct, valid;
        MZI_TRY(mzi_dataset_next_test(&e->data, &feed));
        if (feed.valid == 0)
            break;
        MZI_TRY(mezzo_model_evaluate(e->model, feed.inputs, 2));
        MZI_TRY(mezzo_model_output(e->model, MEZZO_ENTRY_EVAL, "loss", &loss, 1));
        MZI_TRY(mezzo_model_output(e->model, MEZZO_ENTRY_EVAL, "correct", &correct, 1));
        MZI_TRY(mezzo_model_output(e->model, MEZZO_ENTRY_EVAL, "valid", &valid, 1));
        loss_sum += (double)loss * (double)valid;
        correct_sum += (double)correct;
        count += (double)valid;
    }
    out->loss = count > 0.0 ? loss_sum / count : 0.0;
    out->accuracy = count > 0.0 ? correct_sum / count : 0.0;
    out->metric = mzi_dataset_metric(&e->data, out->loss, out->accuracy, &value);
    out->value = value;
    return MEZZO_OK;
}

mezzo_status mzi_experiment_summarise(mzi_experiment *e, mezzo_summary *s) {
    mzi_evaluation found;
    MZI_TRY(mzi_experiment_evaluate(e, &found));
    s->eval_loss = found.loss;
    s->eval_value = found.value;
    mzi_format(s->eval_metric, sizeof s->eval_metric, "%s", found.metric);
    return MEZZO_OK;
}

mezzo_status mzi_experiment_planned_bytes(mzi_experiment *e, uint64_t *bytes) {
    mezzo_plan_info train, eval;
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_EVAL, &eval));
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_TRAIN, &train));
    *bytes = train.state_bytes + train.weight_bytes + train.activation_bytes + train.scratch_bytes +
             eval.activation_bytes + eval.scratch_bytes + e->masters_bytes;
    return MEZZO_OK;
}
