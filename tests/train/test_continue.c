/* Going on from a run: bit for bit in the same precision, with the FP32 state bit for bit in
 * another, and a refusal of what does not fit. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "mezzo/models.h"
#include "mezzo/safetensors.h"
#include "run/runner.h"
#include "train/model.h"
#include "train/small_net.h"
#include "unit/tempdir.h"

static char folder[256], said[8000], runs[3][320];
static mezzo_ctx *ctx;
static mezzo_runner *runner;

static void on_log(void *user, mezzo_log_level level, const char *text) {
    static const char *const words[] = {"debug", "info", "warning", "error"};
    size_t used = strlen(said);
    (void)user;
    snprintf(said + used, sizeof said - used, "%s: %s\n", words[level], text);
}

static int begin(void **state) {
    (void)state;
    const mezzo_ctx_config settings = {.threads = 2, .log = on_log};
    tempdir_make(folder);
    for (int k = 0; k < 3; k++)
        snprintf(runs[k], sizeof runs[k], "%s/%c", folder, 'a' + k);
    if (mezzo_ctx_create(&ctx, &settings, NULL) != MEZZO_OK)
        return -1;
    NET_OK(ctx, mezzo_runner_create(&runner, ctx));
    NET_OK(ctx, mezzo_models_register(runner));
    return 0;
}

static int end(void **state) {
    (void)state;
    mezzo_runner_destroy(runner);
    mezzo_ctx_destroy(ctx);
    tempdir_remove(folder);
    return 0;
}

/* A trainer's state and its model's tensors, read out. */
typedef struct image {
    mezzo_trainer_state state;
    float *values[64];
    const char *names[64];
    int count;
} image;

static void image_take(image *out, mezzo_model *model, const mezzo_trainer *trainer) {
    out->state = mezzo_trainer_get_state(trainer);
    out->count = mezzo_model_state_count(model);
    assert_true(out->count <= 64);
    for (int s = 0; s < out->count; s++) {
        int64_t n = mezzo_shape_count(mezzo_model_state_at(model, s).shape);
        out->values[s] = malloc((size_t)n * sizeof(float));
        assert_non_null(out->values[s]);
        NET_OK(ctx, mezzo_model_read(model, s, out->values[s], n));
    }
}

static void image_put(image *from, mezzo_model *model, mezzo_trainer *trainer) {
    for (int s = 0; s < from->count; s++) {
        int64_t n = mezzo_shape_count(mezzo_model_state_at(model, s).shape);
        NET_OK(ctx, mezzo_model_write(model, s, from->values[s], n));
        free(from->values[s]);
    }
    NET_OK(ctx, mezzo_trainer_set_state(trainer, &from->state));
}

/* Three steps more, of a model that is gone on from, and of one that never stopped. */
static void check_trainer(mezzo_dtype compute, const char *optimizer) {
    static net_batch batch;
    net n = {.dropout = 0.2f};
    char hashes[2][65];
    mezzo_step_result results[2][6];
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default(optimizer), .ema = 0.9f};
    config.schedule = (mezzo_schedule){MEZZO_SCHEDULE_COSINE, .warmup = 2, .steps = 12};
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_AUTO, .init = 0x1p24f, .growth_interval = 2};
    for (int stops = 0; stops < 2; stops++) {
        mezzo_model *model = net_model(ctx, &n, compute);
        mezzo_trainer *trainer = NULL;
        NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
        for (int s = 0; s < 12; s++) {
            net_fill(&batch, s);
            mezzo_step_result r = net_step(ctx, trainer, &batch);
            if (s >= 6)
                results[stops][s - 6] = r;
            if (s != 5 || !stops)
                continue;
            image kept;
            mezzo_skip skip;
            image_take(&kept, model, trainer);
            mezzo_trainer_destroy(trainer);
            mezzo_model_destroy(model);
            model = net_model(ctx, &n, compute);
            NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
            image_put(&kept, model, trainer);
            assert_false(mezzo_trainer_skip(trainer, 0, &skip)); /* happened elsewhere */
        }
        NET_OK(ctx, mezzo_trainer_state_hash(trainer, hashes[stops]));
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
    }
    assert_string_equal(hashes[0], hashes[1]);
    for (int s = 0; s < 6; s++) {
        const mezzo_step_result *a = &results[0][s], *b = &results[1][s];
        assert_true(a->step == b->step && a->attempt == b->attempt && a->skipped == b->skipped);
        assert_true(a->loss == b->loss && a->lr == b->lr && a->loss_scale == b->loss_scale);
        assert_true(a->grad_norm == b->grad_norm);
    }
    if (compute == MEZZO_F16) { /* there was something for the scaler to carry on */
        assert_true(results[1][5].attempt > results[1][5].step);
        assert_true(results[1][5].loss_scale != 0x1p24f);
    }
}

static void test_trainer(void **state) {
    (void)state;
    static const char *const optimizers[] = {"adamw", "lion", "muon", "sgd"};
    for (size_t o = 0; o < 4; o++) {
        check_trainer(MEZZO_F16, optimizers[o]);
        check_trainer(o % 2 ? MEZZO_F32 : MEZZO_BF16, optimizers[o]);
    }
}

/* A state that no trainer can have come to changes nothing. */
static void test_bad_states(void **state) {
    (void)state;
    static const struct bad {
        const char *words;
        mezzo_trainer_state state;
    } bad[] = {
        {"negative", {.step = -1, .scaler = {.scale = 1}}},
        {"negative", {.skipped = -1, .scaler = {.scale = 1}}},
        {"beyond 2^53", {.attempt = INT64_MAX, .scaler = {.scale = 1}}},
        {"than attempts", {.step = 3, .attempt = 4, .skipped = 2, .scaler = {.scale = 1}}},
        {"moments", {.step = 3, .attempt = 3, .moments_from = 4, .scaler = {.scale = 1}}},
        {"averaged", {.step = 3, .attempt = 3, .averaged = 4, .scaler = {.scale = 1}}},
        {"power of two", {.scaler = {.scale = 3}}},
        {"power of two", {.scaler = {.scale = 0}}},
        {"power of two", {.scaler = {.scale = -1}}},
        {"power of two", {.scaler = {.scale = -(double)INFINITY}}},
        {"power of two", {.scaler = {.scale = (double)NAN}}},
        {"smallest", {.scaler = {.scale = 0.5}}},
        {"negative", {.scaler = {.scale = 1, .growth_tracker = -1}}},
        {"waits for", {.scaler = {.scale = 1, .growth_tracker = 7}}},
        {"hysteresis", {.scaler = {.scale = 1, .hysteresis_tracker = 4}}},
        {"no place", {.scaler = {.scale = 1, .measured = MEZZO_SCALE_HISTORY}}},
        {"no place", {.scaler = {.scale = 1, .measured = -1}}},
        {"maximum", {.scaler = {.scale = 1, .maxima[3] = -1.0}}},
        {"maximum", {.scaler = {.scale = 1, .maxima[0] = (double)INFINITY}}},
    };
    net n = {0};
    char before[65], after[65];
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_MEGATRON, .init = 4, .growth_interval = 7,
                                          .hysteresis = 3};
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    mezzo_trainer_state good = mezzo_trainer_get_state(trainer);
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, before));
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        mezzo_trainer_state s = bad[k].state;
        s.scaler.config = good.scaler.config;
        assert_int_equal(mezzo_trainer_set_state(trainer, &s), MEZZO_INVALID_ARGUMENT);
        if (!strstr(mezzo_ctx_error(ctx)->text, bad[k].words))
            fail_msg("state %zu: %s", k, mezzo_ctx_error(ctx)->text);
        s = mezzo_trainer_get_state(trainer);
        assert_memory_equal(&s, &good, sizeof s);
    }
    mezzo_trainer_state other = good;
    other.scaler.config.mode = MEZZO_SCALE_PYTORCH;
    assert_int_equal(mezzo_trainer_set_state(trainer, &other), MEZZO_INVALID_ARGUMENT);
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, after));
    assert_string_equal(before, after);
    good.step = good.attempt = 5;
    good.scaler.scale = 2;
    good.scaler.config.growth_interval = 9; /* not taken */
    NET_OK(ctx, mezzo_trainer_set_state(trainer, &good));
    mezzo_trainer_state now = mezzo_trainer_get_state(trainer);
    assert_true(now.step == 5 && now.scaler.scale == 2 && now.scaler.config.growth_interval == 7);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

/* Whole runs: a small GPT-2 on random tokens, in 12 steps that are more than an epoch. */
static mezzo_config *make_config(const char *dir, const char *const *more) {
    static const char *const usual[] = {"model.kind=gpt2",
                                        "model.channels=16",
                                        "model.layers=1",
                                        "model.heads=2",
                                        "model.context=8",
                                        "model.dropout=0.1",
                                        "data.kind=random",
                                        "data.vocab=50",
                                        "data.batch=2",
                                        "data.limit=20",
                                        "data.test_limit=4",
                                        "precision.compute=f16",
                                        "precision.loss_scale={init: 4194304, interval: 2}",
                                        "optimizer.lr=0.01",
                                        "schedule={kind: cosine, warmup: 2}",
                                        "train={steps: 12, accumulate: 2, ema: 0.9}",
                                        NULL};
    mezzo_config *config = NULL;
    char text[400];
    NET_OK(ctx, mezzo_config_create(&config, ctx));
    for (int k = 0; usual[k]; k++)
        NET_OK(ctx, mezzo_config_set(config, usual[k], "test"));
    snprintf(text, sizeof text, "run.dir=\"%s\"", dir);
    NET_OK(ctx, mezzo_config_set(config, text, "test"));
    for (int k = 0; more && more[k]; k++)
        NET_OK(ctx, mezzo_config_set(config, more[k], "test"));
    return config;
}

static const char *continue_from(const char *path) {
    static char text[500];
    snprintf(text, sizeof text, "train.continue=\"%s\"", path);
    return text;
}

static bool stop_at(void *user) {
    int *left = user;
    return --*left == 0;
}

/* Train, and stop behind `attempts`, 0: at the end. */
static mezzo_status train(const char *dir, const char *const *more, int attempts,
                          mezzo_summary *out) {
    mezzo_config *config = make_config(dir, more);
    const mezzo_run_hooks hooks = {.user = &attempts, .stop = attempts ? stop_at : NULL};
    said[0] = '\0';
    mezzo_status status = mezzo_run_train(runner, config, &hooks, out);
    mezzo_config_destroy(config);
    return status;
}

static char *read_all(const char *dir, const char *name, size_t *bytes) {
    char path[600], *data = malloc(1 << 20);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "rb");
    if (!file || !data)
        fail_msg("cannot read %s", path);
    *bytes = fread(data, 1, (1 << 20) - 1, file);
    data[*bytes] = '\0';
    fclose(file);
    return data;
}

static void same_file(const char *a, const char *b, const char *name) {
    size_t a_bytes, b_bytes;
    char *a_data = read_all(a, name, &a_bytes), *b_data = read_all(b, name, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    assert_memory_equal(a_data, b_data, a_bytes);
    free(a_data);
    free(b_data);
}

/* The figures of metrics.jsonl that do not depend on the clock, of every line from `line` on. */
static char *metrics_of(const char *dir, int line) {
    static const char *const names[] = {"step", "attempts",  "skipped_steps", "overflow_events",
                                        "loss", "grad_norm", "loss_scale",    "lr",
                                        "epoch"};
    size_t bytes, used = 0;
    char *data = read_all(dir, "metrics.jsonl", &bytes), *out = calloc(1, bytes + 1);
    assert_non_null(out);
    assert_non_null(data);
    int number = 0;
    for (char *at = strtok(data, "\n"); at; at = strtok(NULL, "\n")) {
        for (size_t k = 0; number >= line && k < sizeof names / sizeof names[0]; k++) {
            char key[40];
            snprintf(key, sizeof key, "\"%s\":", names[k]);
            const char *found = strstr(at, key);
            if (!found)
                fail_msg("no %s in %s", key, at);
            int length = found ? (int)strcspn(found, ",}") : 0;
            used += (size_t)snprintf(out + used, bytes - used, "%.*s ", length, found);
        }
        number++;
    }
    free(data);
    return out;
}

/* A run that stopped and went on is one that did not. */
static void test_same_precision(void **state) {
    (void)state;
    mezzo_summary straight, went_on, stopped;
    const char *go_on[] = {continue_from(runs[1]), NULL};
    NET_OK(ctx, train(runs[0], NULL, 0, &straight));
    assert_int_equal(train(runs[1], NULL, 7, &stopped), MEZZO_INTERRUPTED);
    assert_true(stopped.skipped_steps > 0 && stopped.steps > 0);
    assert_int_equal(stopped.steps + stopped.skipped_steps, 7);
    NET_OK(ctx, train(runs[2], go_on, 0, &went_on));
    assert_non_null(strstr(said, "info: continues"));
    if (strstr(said, "warning: train.continue"))
        fail_msg("%s", said);
    same_file(runs[0], runs[2], "checkpoints/final/masters.safetensors");
    same_file(runs[0], runs[2], "checkpoints/final/model.safetensors");
    same_file(runs[0], runs[2], "checkpoints/final/ema.safetensors");
    char *a = metrics_of(runs[0], 7), *b = metrics_of(runs[2], 0);
    assert_true(strlen(a) > 100);
    assert_string_equal(a, b);
    free(a);
    free(b);
    assert_int_equal(straight.steps, 12);
    assert_int_equal(went_on.steps, straight.steps);
    assert_int_equal(went_on.skipped_steps, straight.skipped_steps);
    assert_int_equal(went_on.overflow_events, straight.overflow_events);
    assert_true(went_on.eval_loss == straight.eval_loss);
    assert_true(went_on.has_average && went_on.ema_eval_loss == straight.ema_eval_loss);
    assert_true(went_on.ema_eval_loss != went_on.eval_loss);
    assert_string_equal(went_on.plan_hash, straight.plan_hash);
}

/* An experiment that has taken over the state of runs[0] under `more`; its state hash. */
static mezzo_status take_over(const char *const *more, char hash[65], mezzo_trainer_state *out) {
    mezzo_config *config = make_config(runs[2], more);
    mzi_experiment e;
    said[0] = '\0';
    NET_OK(ctx, mezzo_config_set(config, continue_from(runs[0]), "test"));
    mezzo_status status = mzi_experiment_create(&e, runner, config, NULL);
    if (status == MEZZO_OK)
        status = mzi_experiment_start(&e);
    if (status == MEZZO_OK) {
        *out = mezzo_trainer_get_state(e.trainer);
        status = mezzo_trainer_state_hash(e.trainer, hash);
    }
    const mezzo_error why = *mezzo_ctx_error(ctx);
    mzi_experiment_destroy(&e);
    mezzo_config_destroy(config);
    ctx->error = why;
    return status;
}

/* FP32, then BF16, then FP16: each starts with the state that the one before it ended with. */
static void test_other_precisions(void **state) {
    (void)state;
    static const char *const types[] = {"f32", "bf16", "f16"};
    char saved[65] = "", loaded[65], type[40], steps[40], expected[100];
    mezzo_summary summary;
    mezzo_trainer_state now;
    for (int k = 0; k < 3; k++) {
        snprintf(type, sizeof type, "precision.compute=%s", types[k]);
        snprintf(steps, sizeof steps, "train.steps=%d", 4 * (k + 1));
        const char *const again[] = {type, NULL};
        if (k > 0) {
            NET_OK(ctx, take_over(again, loaded, &now));
            assert_string_equal(saved, loaded);
            snprintf(expected, sizeof expected,
                     "continues in %s what was trained in %s; FP32 state unchanged", types[k],
                     types[k - 1]);
            assert_non_null(strstr(said, expected));
            /* From none to headroom only. */
            assert_int_equal(strstr(said, "warning: train.continue: the loss scale") != NULL,
                             k == 2);
            assert_int_equal(now.step, 4 * k);
            assert_true(now.scaler.scale == (k == 2 ? 4194304.0 : 1.0));
        }
        char goes_on[500] = "train.steps=0";
        if (k > 0)
            snprintf(goes_on, sizeof goes_on, "%s", continue_from(runs[0]));
        const char *const more[] = {goes_on, type, steps, NULL};
        NET_OK(ctx, train(runs[1], more, 0, &summary));
        assert_int_equal(summary.steps, 4 * (k + 1));
        if (k > 0)
            tempdir_remove(runs[0]);
        assert_int_equal(rename(runs[1], runs[0]), 0);
        NET_OK(ctx, take_over(again, saved, &now));
        assert_int_equal(now.step, 4 * (k + 1));
    }
}

static void expect_said(const char *words) {
    if (!strstr(said, words))
        fail_msg("expected \"%s\" in:\n%s", words, said);
}

/* Whatever the configuration says stays; what cannot be used is named. */
static void test_other_settings(void **state) {
    (void)state;
    mezzo_summary summary;
    mezzo_trainer_state then = {0}, now = {0};
    char hash[65], same[65];
    NET_OK(ctx, train(runs[0], NULL, 0, &summary));
    NET_OK(ctx, take_over(NULL, same, &then));
    expect_said("nothing to train");
    assert_true(then.step == 12 && then.scaler.scale == (double)summary.loss_scale_last);
    assert_true(then.averaged == 12 && then.moments_from == 0);

    const char *const lion[] = {"optimizer.kind=lion", "train.steps=20", NULL};
    NET_OK(ctx, take_over(lion, hash, &now));
    expect_said("warning: train.continue: the moments of lion start at zero");
    expect_said("was trained with adamw; 32 tensors (optimizer/");
    assert_true(now.step == 12 && now.moments_from == 12 && now.averaged == 12);

    const char *const off[] = {"train.ema=0", NULL};
    NET_OK(ctx, take_over(off, hash, &now));
    expect_said("warning: train.continue: train.ema is 0: 16 averages");
    assert_int_equal(now.averaged, 0);

    const char *const mode[] = {"precision.loss_scale={mode: static, init: 1024}", NULL};
    NET_OK(ctx, take_over(mode, hash, &now));
    expect_said("warning: train.continue: the loss scale starts at 1024 (static)");
    expect_said("mode headroom");
    assert_true(now.scaler.scale == 1024.0);
    assert_string_equal(hash, same);

    const char *const init[] = {"precision.loss_scale.init=256", NULL};
    NET_OK(ctx, take_over(init, hash, &now));
    expect_said("warning: train.continue: the loss scale starts at 256, not at");
    assert_true(now.scaler.scale == 256.0 && now.scaler.growth_tracker == 0);

    const char *const rule[] = {"precision.loss_scale.interval=1", NULL};
    NET_OK(ctx, take_over(rule, hash, &now));
    expect_said("warning: train.continue: the loss scale goes on from");
    assert_true(now.scaler.scale == then.scaler.scale && now.scaler.growth_tracker == 0);

    const char *const seed[] = {"train.seed=7", NULL};
    NET_OK(ctx, take_over(seed, hash, &now));
    expect_said("warning: train.continue: train.seed is 7, and was 1");
}

/* New moments begin as they do in a new run: adamw's first step is lr in size, its corrections
 * count from one. */
static void test_new_moments(void **state) {
    (void)state;
    static net_batch batch;
    static float before[NET_TENSOR_MAX], after[NET_TENSOR_MAX], gradient[NET_TENSOR_MAX];
    net n = {0};
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    config.optimizer.weight_decay = 0.0f;
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    mezzo_trainer_state from = mezzo_trainer_get_state(trainer);
    from.step = from.attempt = from.moments_from = 1000;
    NET_OK(ctx, mezzo_trainer_set_state(trainer, &from));
    int index = mezzo_model_state_find(model, "fc.weight");
    int64_t count = mezzo_shape_count(mezzo_model_state_at(model, index).shape);
    NET_OK(ctx, mezzo_model_read(model, index, before, count));
    net_fill(&batch, 0);
    net_step(ctx, trainer, &batch);
    NET_OK(ctx, mezzo_model_read(model, index, after, count));
    NET_OK(ctx, mezzo_trainer_read_gradient(trainer, "fc.weight", gradient, count));
    int moved = 0;
    for (int64_t i = 0; i < count; i++) {
        /* m / sqrt(v) is the sign; eps takes 1e-8 / |g|, and FP32 a few roundings of w and step. */
        if (fabsf(gradient[i]) < 1e-4f)
            continue;
        double step = fabs((double)after[i] - (double)before[i]);
        assert_true(fabs(step - 0.01) < 0.01 * 2e-4 + 4 * 0x1p-24 * fabs((double)before[i]) + 1e-8);
        moved++;
    }
    assert_true(moved > 100);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

static void expect_refusal(const char *path, const char *const *more, mezzo_status status,
                           const char *first, const char *second) {
    const char *with[8] = {continue_from(path)};
    mezzo_summary summary;
    struct stat info;
    for (int k = 0; more && more[k]; k++)
        with[k + 1] = more[k];
    assert_int_equal(train(runs[2], with, 0, &summary), status);
    const char *text = mezzo_ctx_error(ctx)->text;
    if (!strstr(text, first) || !strstr(text, second))
        fail_msg("expected \"%s\" and \"%s\" in: %s", first, second, text);
    assert_int_not_equal(stat(runs[2], &info), 0); /* nothing was written */
}

/* masters.safetensors of runs[0] as FOLDER/changed, with another tensor or note. */
typedef struct change {
    const char *tensor; /* to be left out, or, if `value` is not 0, to begin with it */
    float value;
    const char *key, *text; /* to be replaced; text null: left out */
} change;

static const char *changed(const change *c) {
    static const char *const keys[] = {"mezzo.attempts",
                                       "mezzo.averaged_steps",
                                       "mezzo.moments_from",
                                       "mezzo.samples",
                                       "mezzo.overflow_events",
                                       "mezzo.seed",
                                       "mezzo.step",
                                       "mezzo.skipped_steps",
                                       "mezzo.optimizer",
                                       "mezzo.precision",
                                       "mezzo.loss_scale",
                                       "mezzo.loss_scale.init",
                                       "mezzo.loss_scale.mode",
                                       "mezzo.loss_scale.rule",
                                       "mezzo.loss_scale.growth_tracker",
                                       "mezzo.loss_scale.hysteresis_tracker",
                                       "mezzo.loss_scale.measured",
                                       "mezzo.loss_scale.maxima"};
    enum {
        KEYS = sizeof keys / sizeof keys[0]
    };
    static char path[400];
    static float copy[NET_TENSOR_MAX];
    char from[400];
    mezzo_safetensors *file;
    mezzo_safetensors_item items[128];
    mezzo_safetensors_note notes[KEYS];
    int item_count = 0, note_count = 0;
    snprintf(from, sizeof from, "%s/checkpoints/final/masters.safetensors", runs[0]);
    snprintf(path, sizeof path, "%s/changed", folder);
    NET_OK(ctx, mezzo_safetensors_open(&file, ctx, from));
    for (int i = 0; i < mezzo_safetensors_count(file); i++) {
        mezzo_safetensors_item item = mezzo_safetensors_at(file, i);
        bool is_it = c->tensor && strcmp(item.name, c->tensor) == 0;
        if (is_it && c->value == 0.0f)
            continue;
        if (is_it) {
            memcpy(copy, item.data, (size_t)mezzo_shape_count(item.shape) * sizeof *copy);
            copy[0] = c->value;
            item.data = copy;
        }
        items[item_count++] = item;
    }
    for (int k = 0; k < KEYS; k++) {
        bool is_it = c->key && strcmp(keys[k], c->key) == 0;
        if (is_it && !c->text)
            continue;
        notes[note_count++] = (mezzo_safetensors_note){
            keys[k], is_it ? c->text : mezzo_safetensors_note_value(file, keys[k])};
        assert_non_null(notes[note_count - 1].value);
    }
    NET_OK(ctx, mezzo_safetensors_write(ctx, path, items, item_count, notes, note_count));
    mezzo_safetensors_close(file);
    return path;
}

static void test_refusals(void **state) {
    (void)state;
    mezzo_summary summary;
    static const struct {
        change change;
        const char *first, *second;
    } bad[] = {
        {{.tensor = "ln_f.weight"}, "has no tensor \"ln_f.weight\"", "another model"},
        {{.tensor = "ln_f.weight", .value = NAN}, "element 0 of tensor \"ln_f.weight\"", "nan"},
        {{.tensor = "optimizer/ln_f.bias.v", .value = INFINITY},
         "element 0 of tensor \"optimizer/ln_f.bias.v\"",
         "inf"},
        {{.key = "mezzo.step", .text = "13"}, "more commits and skips than attempts", "changed"},
        {{.key = "mezzo.samples", .text = "-4"}, "mezzo.samples is \"-4\"", "an integer from 0"},
        {{.key = "mezzo.samples", .text = "4x"}, "mezzo.samples is \"4x\"", "an integer from 0"},
        {{.key = "mezzo.seed"}, "mezzo.seed is missing", "changed"},
        {{.key = "mezzo.loss_scale", .text = "3"}, "not a finite power of two", "changed"},
        {{.key = "mezzo.loss_scale", .text = "inf"}, "not a finite power of two", "changed"},
        {{.key = "mezzo.loss_scale", .text = "-1"}, "mezzo.loss_scale is \"-1\"", "not negative"},
        {{.key = "mezzo.loss_scale.mode", .text = "mine"},
         "mezzo.loss_scale.mode is \"mine\"",
         "pytorch"},
        {{.key = "mezzo.loss_scale.measured", .text = "-1"}, "measured is \"-1\"", "integer"},
        {{.key = "mezzo.loss_scale.maxima", .text = "1 2 3"}, "maxima is \"1 2 3\"", "four"},
        {{.key = "mezzo.loss_scale.maxima", .text = "1 2 3 4 5"}, "1 2 3 4 5", "four"},
        {{.key = "mezzo.loss_scale.maxima", .text = "1 2 inf 4"}, "1 2 inf 4", "four"},
    };
    NET_OK(ctx, train(runs[0], NULL, 0, &summary));
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++)
        expect_refusal(changed(&bad[k].change), NULL, MEZZO_DATA, bad[k].first, bad[k].second);
    const char *const wide[] = {"model.channels=32", NULL};
    expect_refusal(runs[0], wide, MEZZO_DATA, "has shape [64,16]", "the model's is [64,32]");
    const char *const deep[] = {"model.layers=2", NULL};
    expect_refusal(runs[0], deep, MEZZO_DATA, "has no tensor \"h.1.", "another model");
    const char *const both[] = {"train.weights=elsewhere", NULL};
    expect_refusal(runs[0], both, MEZZO_CONFIG, "train.weights", "both set");
    expect_refusal("/nowhere", NULL, MEZZO_DATA, "/nowhere", "");
    const char *const itself[] = {continue_from(runs[0]), "run.overwrite=true", NULL};
    assert_int_equal(train(runs[0], itself, 0, &summary), MEZZO_CONFIG);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "is the run to continue"));
    /* The same without a moment is a run with new moments. */
    const change without = {.tensor = "optimizer/ln_f.bias.v"};
    const char *const go_on[] = {continue_from(changed(&without)), NULL};
    NET_OK(ctx, train(runs[2], go_on, 0, &summary));
    expect_said("has no \"optimizer/ln_f.bias.v\"; 31 tensors");
}

/* Weights alone, rounded or not, are where a new run starts. */
static void test_weights_alone(void **state) {
    (void)state;
    mezzo_summary summary;
    char path[400];
    const char *go_on[] = {NULL, NULL};
    const char *const bf16[] = {"precision.compute=bf16", NULL};
    NET_OK(ctx, train(runs[0], bf16, 0, &summary));
    snprintf(path, sizeof path, "%s/checkpoints/final/model.safetensors", runs[0]);
    go_on[0] = continue_from(path);
    NET_OK(ctx, train(runs[1], go_on, 0, &summary));
    expect_said("are in half precision: the FP32 masters start from rounded values");
    expect_said("optimizer, step and place in the data start afresh");
    assert_int_equal(summary.steps, 12);
    assert_true(summary.skipped_steps > 0); /* f16, from the configuration's first scale */
    snprintf(path, sizeof path, "%s/checkpoints/final/ema.safetensors", runs[0]);
    go_on[0] = continue_from(path);
    NET_OK(ctx, train(runs[2], go_on, 0, &summary));
    assert_null(strstr(said, "half precision"));
    expect_said("start afresh");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_trainer, begin, end),
        cmocka_unit_test_setup_teardown(test_bad_states, begin, end),
        cmocka_unit_test_setup_teardown(test_same_precision, begin, end),
        cmocka_unit_test_setup_teardown(test_other_precisions, begin, end),
        cmocka_unit_test_setup_teardown(test_other_settings, begin, end),
        cmocka_unit_test_setup_teardown(test_new_moments, begin, end),
        cmocka_unit_test_setup_teardown(test_refusals, begin, end),
        cmocka_unit_test_setup_teardown(test_weights_alone, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
