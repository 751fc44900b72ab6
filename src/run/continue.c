/* Going on from another run, in whatever precision: its state is FP32 in every one.
 *
 * All of the file is checked before anything is changed.  What the configuration says is not taken
 * from the file; what only a run can know is: tensors, counters, place in the data, scale. */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/weights.h"
#include "num/number.h"
#include "observe/run_dir.h"
#include "run/runner.h"
#include "run/saved.h"
#include "train/average.h"
#include "train/resume.h"

typedef struct continuing {
    mzi_experiment *e;
    const char *run; /* as configured */
    char path[MZI_WEIGHTS_PATH];
    mezzo_safetensors *file;
    mzi_saved saved;
    bool has_state; /* the file says how far the run had come */
    bool takes_moments, takes_averages;
    const char *missing; /* the first moment that it has not */
    int rounded;         /* tensors in half precision */
    mezzo_trainer_state next;
} continuing;

/* A run that overwrites what it goes on from would have nothing if it died before its end. */
static mezzo_status check_folder(const continuing *c) {
    static const char *const files[] = {MZI_MASTERS_FILE, MZI_MODEL_FILE, MZI_EMA_FILE};
    const char *dir = mezzo_config_text(c->e->config, "run.dir");
    struct stat from, to;
    if (stat(c->path, &from) != 0)
        return MEZZO_OK; /* opening it says why */
    for (size_t k = 0; k < sizeof files / sizeof files[0]; k++) {
        char path[MZI_WEIGHTS_PATH];
        mzi_format(path, sizeof path, "%s/" MZI_RUN_FINAL "/%s", dir, files[k]);
        if (stat(path, &to) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino)
            MZI_FAIL(c->e->ctx, MEZZO_CONFIG,
                     "%s: run.dir '%s' is the run to continue: what it holds would be lost; choose "
                     "another directory",
                     mezzo_config_origin(c->e->config, "run.dir"), dir);
    }
    return MEZZO_OK;
}

static bool is_weight(mezzo_state_kind kind) {
    return kind == MEZZO_STATE_PARAM || kind == MEZZO_STATE_STATISTIC;
}

static mezzo_status check_weights(continuing *c) {
    mezzo_model *model = c->e->model;
    int count = 0, states = mezzo_model_state_count(model);
    size_t bytes = (size_t)states * sizeof(mzi_weight);
    mzi_weight *weights = mzi_alloc(c->e->ctx, bytes);
    if (!weights)
        return mzi_out_of_memory(c->e->ctx, bytes, "the list of tensors");
    for (int s = 0; s < states; s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        if (is_weight(info.kind))
            weights[count++] = (mzi_weight){info.name, info.shape, info.compute, NULL};
    }
    mezzo_status status = mzi_weights_check(c->e->ctx, c->file, c->path, weights, count);
    for (int w = 0; w < count && status == MEZZO_OK; w++) {
        int index = mezzo_safetensors_find(c->file, weights[w].name);
        c->rounded += mezzo_safetensors_at(c->file, index).dtype != MEZZO_F32;
    }
    mzi_free(c->e->ctx, weights, bytes);
    return status;
}

/* The tensors of a kind are taken all or not at all: half of an optimizer's state is none. */
static mezzo_status find_all(continuing *c, mezzo_state_kind kind, const char **missing) {
    *missing = NULL;
    for (int s = 0; s < mezzo_model_state_count(c->e->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(c->e->model, s);
        char found[MZI_SHAPE_TEXT], expected[MZI_SHAPE_TEXT];
        if (info.kind != kind)
            continue;
        int index = mezzo_safetensors_find(c->file, info.name);
        if (index < 0) {
            *missing = *missing ? *missing : info.name;
            continue;
        }
        mezzo_safetensors_item item = mezzo_safetensors_at(c->file, index);
        if (item.dtype != MEZZO_F32 || !mezzo_shape_equal(item.shape, info.shape))
            MZI_FAIL(c->e->ctx, MEZZO_DATA,
                     "'%s': tensor \"%s\" is %s %s, and the run's is f32 %s; use the configuration "
                     "that it was trained with",
                     c->path, info.name, mezzo_dtype_name(item.dtype),
                     mzi_shape_text(found, item.shape), mzi_shape_text(expected, info.shape));
    }
    return MEZZO_OK;
}

static mezzo_status choose(continuing *c) {
    const mezzo_config *config = c->e->config;
    const char *kind = mezzo_config_text(config, "optimizer.kind"), *missing;
    MZI_TRY(mzi_saved_read(c->e->ctx, c->file, c->path, &c->saved, &c->has_state));
    if (c->has_state && strcmp(c->saved.optimizer, kind) == 0) {
        MZI_TRY(find_all(c, MEZZO_STATE_MOMENT, &c->missing));
        c->takes_moments = c->missing == NULL;
    }
    if (c->has_state && c->saved.state.averaged > 0 &&
        mezzo_config_real(config, "train.ema") > 0.0) {
        MZI_TRY(find_all(c, MEZZO_STATE_AVERAGE, &missing));
        c->takes_averages = missing == NULL;
    }
    return MEZZO_OK;
}

static bool is_taken(const continuing *c, mezzo_state_kind kind) {
    switch (kind) {
    case MEZZO_STATE_PARAM:
    case MEZZO_STATE_STATISTIC:
        return true;
    case MEZZO_STATE_MOMENT:
        return c->takes_moments;
    case MEZZO_STATE_AVERAGE:
        return c->takes_averages;
    case MEZZO_STATE_CACHE:
        break;
    }
    return false;
}

/* A worker looks at what fits on its stack, CHECK_PARTS times for a chunk. */
enum {
    CHECK_PART = 4096,
    CHECK_PARTS = 16
};

typedef struct check {
    const mezzo_safetensors_item *item;
    _Atomic int64_t first; /* element that is not finite; or their number */
} check;

static void note_first(check *f, int64_t index) {
    int64_t first = atomic_load(&f->first);
    while (index < first && !atomic_compare_exchange_weak(&f->first, &first, index))
        continue;
}

static void check_chunk(void *arg, int worker, int64_t begin, int64_t end) {
    check *f = arg;
    float part[CHECK_PART];
    (void)worker;
    for (int64_t i = begin; i < end; i += CHECK_PART) {
        int64_t count = end - i < CHECK_PART ? end - i : CHECK_PART;
        mzi_weights_copy(f->item, i, count, part);
        for (int64_t k = 0; k < count; k++)
            if (!isfinite(part[k])) {
                note_first(f, i + k);
                return;
            }
    }
}

/* No run has other values; that a commit cannot fail rests on it (docs/numerics.md). */
static mezzo_status check_finite(const continuing *c, const mezzo_safetensors_item *item) {
    int64_t count = mezzo_shape_count(item->shape);
    check f = {.item = item, .first = count};
    mzi_team_run(c->e->ctx->team, check_chunk, &f, count, CHECK_PART * CHECK_PARTS);
    int64_t first = atomic_load(&f.first);
    if (first < count)
        MZI_FAIL(c->e->ctx, MEZZO_DATA, "'%s': element %" PRId64 " of tensor \"%s\" is %g", c->path,
                 first, item->name, (double)mzi_weights_value(item, first));
    return MEZZO_OK;
}

/* Check the values of what is taken, or write them to the model. */
static mezzo_status go_through(continuing *c, bool writes) {
    mezzo_model *model = c->e->model;
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        if (!is_taken(c, info.kind))
            continue;
        mezzo_safetensors_item item =
            mezzo_safetensors_at(c->file, mezzo_safetensors_find(c->file, info.name));
        MZI_TRY(writes ? mzi_experiment_take(c->e, s, &item) : check_finite(c, &item));
    }
    return MEZZO_OK;
}

/* The scale of the same rule goes on; a value that the configuration has changed wins. */
static void continue_scaler(continuing *c) {
    mezzo_scaler *now = &c->next.scaler;
    const mezzo_scaler *then = &c->saved.state.scaler;
    mezzo_ctx *ctx = c->e->ctx;
    char rule[MZI_SAVED_VALUE];
    mezzo_scale_mode mode = now->config.mode;
    if (mode != then->config.mode) {
        mzi_log(ctx, MEZZO_LOG_WARNING,
                "train.continue: the loss scale starts at %g (%s): '%s' was trained with mode %s, "
                "whose state is not used",
                now->scale, mzi_scale_mode_name(mode), c->run,
                mzi_scale_mode_name(then->config.mode));
        return;
    }
    if (now->config.init != then->config.init) {
        mzi_log(ctx, MEZZO_LOG_WARNING,
                "train.continue: the loss scale starts at %g, not at the %g of '%s': "
                "precision.loss_scale.init was %g there",
                now->scale, then->scale, c->run, (double)then->config.init);
        return;
    }
    mzi_scale_rule(&now->config, rule);
    if (strcmp(rule, c->saved.scale_rule) == 0) {
        const mezzo_scaler_config config = now->config;
        *now = *then;
        now->config = config;
        return;
    }
    now->scale = fmax(then->scale, (double)now->config.min);
    if (now->config.max > 0.0f)
        now->scale = fmin(now->scale, (double)now->config.max);
    mzi_log(ctx, MEZZO_LOG_WARNING,
            "train.continue: the loss scale goes on from %g by another rule (%s; of '%s': %s): "
            "what it had counted is not used",
            now->scale, rule, c->run, c->saved.scale_rule);
}

static mezzo_status make_state(continuing *c) {
    const mezzo_trainer_state *then = &c->saved.state;
    c->next = mezzo_trainer_get_state(c->e->trainer);
    if (!c->has_state)
        return MEZZO_OK;
    c->next.step = then->step;
    c->next.attempt = then->attempt;
    c->next.skipped = then->skipped;
    c->next.moments_from = c->takes_moments ? then->moments_from : then->step;
    c->next.averaged = c->takes_averages ? then->averaged : 0;
    continue_scaler(c);
    const char *fault = mzi_trainer_state_fault(&c->next);
    if (fault)
        MZI_FAIL(c->e->ctx, MEZZO_DATA, "'%s': its metadata says what no run can have come to: %s",
                 c->path, fault);
    return MEZZO_OK;
}

static int count_named(const continuing *c, const char *prefix, const char **first) {
    int count = 0;
    *first = NULL;
    for (int i = 0; i < mezzo_safetensors_count(c->file); i++) {
        const char *name = mezzo_safetensors_at(c->file, i).name;
        if (strncmp(name, prefix, strlen(prefix)) != 0)
            continue;
        *first = *first ? *first : name;
        count++;
    }
    return count;
}

static void warn_moments(const continuing *c) {
    const char *first, *kind = mezzo_config_text(c->e->config, "optimizer.kind");
    int dropped = count_named(c, MZI_OPTIMIZER_PREFIX, &first);
    char what[200] = "";
    if (dropped > 0)
        mzi_format(what, sizeof what, "; %d tensors (%.100s ...) are not used", dropped, first);
    if (c->missing)
        mzi_log(c->e->ctx, MEZZO_LOG_WARNING,
                "train.continue: the moments of %s start at zero: '%s' has no \"%s\"%s", kind,
                c->path, c->missing, what);
    else
        mzi_log(c->e->ctx, MEZZO_LOG_WARNING,
                "train.continue: the moments of %s start at zero: '%s' was trained with %s%s", kind,
                c->run, c->saved.optimizer, what);
}

static void warn_averages(const continuing *c) {
    const char *first;
    int dropped = count_named(c, MZI_EMA_PREFIX, &first);
    bool wanted = mezzo_config_real(c->e->config, "train.ema") > 0.0;
    if (wanted && c->next.step > 0)
        mzi_log(c->e->ctx, MEZZO_LOG_WARNING,
                "train.continue: '%s' has no averages of all weights: they start at the first step",
                c->path);
    else if (!wanted && dropped > 0)
        mzi_log(c->e->ctx, MEZZO_LOG_WARNING,
                "train.continue: train.ema is 0: %d averages of '%s' (%s ...) are not used",
                dropped, c->path, first);
}

static void warn_start(const continuing *c) {
    const char *first;
    int dropped = count_named(c, MZI_OPTIMIZER_PREFIX, &first);
    if (c->rounded > 0)
        mzi_log(c->e->ctx, MEZZO_LOG_WARNING,
                "train.continue: %d tensors of '%s' are in half precision: the FP32 masters start "
                "from rounded values; " MZI_MASTERS_FILE " of a run has them in full",
                c->rounded, c->path);
    if (!c->has_state)
        mzi_log(c->e->ctx, MEZZO_LOG_WARNING,
                "train.continue: '%s' has weights, but no state of a trainer: optimizer, step and "
                "place in the data start afresh%s",
                c->path, dropped > 0 ? "; its moments are not used" : "");
}

/* What is new, and what goes on. */
static bool keeps_fp32(const mezzo_config *config) {
    return strcmp(mezzo_config_text(config, "precision.master"), "bf16") != 0 &&
           strcmp(mezzo_config_text(config, "optimizer.state"), "bf16") != 0;
}

static void report(const continuing *c) {
    mzi_experiment *e = c->e;
    int64_t seed = mezzo_config_int(e->config, "train.seed");
    const char *precision = mezzo_dtype_name(e->precision);
    warn_start(c);
    if (!c->has_state)
        return;
    if (!c->takes_moments)
        warn_moments(c);
    if (!c->takes_averages)
        warn_averages(c);
    if (seed != c->saved.seed)
        mzi_log(e->ctx, MEZZO_LOG_WARNING,
                "train.continue: train.seed is %" PRId64 ", and was %" PRId64
                " in '%s': the order of samples is another",
                seed, c->saved.seed, c->run);
    if (c->next.step >= e->steps)
        mzi_log(e->ctx, MEZZO_LOG_WARNING,
                "train.continue: '%s' has done %" PRId64 " steps, and this run ends at %" PRId64
                ": there is nothing to train; train.steps counts from the start",
                c->run, c->next.step, e->steps);
    mzi_log(e->ctx, MEZZO_LOG_INFO, "continues '%s' behind step %" PRId64 " of %" PRId64, c->run,
            c->next.step, e->steps);
    if (strcmp(precision, c->saved.precision) != 0)
        mzi_log(e->ctx, MEZZO_LOG_INFO, "continues in %s what was trained in %s; %s", precision,
                c->saved.precision,
                keeps_fp32(e->config)
                    ? "FP32 state unchanged"
                    : "state is rounded to BF16 where the configuration asks for it");
}

static mezzo_status take_over(continuing *c) {
    mzi_experiment *e = c->e;
    MZI_TRY(go_through(c, false));
    MZI_TRY(make_state(c));
    if (c->has_state) /* first, since it can fail */
        MZI_TRY(mezzo_loader_seek(e->data.train, c->saved.samples));
    MZI_TRY(go_through(c, true));
    MZI_TRY(mezzo_trainer_set_state(e->trainer, &c->next));
    if (c->has_state) {
        e->samples = c->saved.samples;
        e->overflow_events = c->saved.overflow_events;
    }
    report(c);
    return MEZZO_OK;
}

static mezzo_status read_file(continuing *c) {
    MZI_TRY(check_weights(c));
    MZI_TRY(choose(c));
    return take_over(c);
}

mezzo_status mzi_experiment_continue(mzi_experiment *e) {
    continuing c = {.e = e, .run = mezzo_config_text(e->config, "train.continue")};
    mzi_weights_path(c.run, c.path);
    MZI_TRY(check_folder(&c));
    MZI_TRY(mezzo_safetensors_open(&c.file, e->ctx, c.path));
    mezzo_status status = read_file(&c);
    mezzo_safetensors_close(c.file);
    return status;
}
