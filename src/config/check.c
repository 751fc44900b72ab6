/* What no single key can tell: keys that depend on each other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"

#define FAIL_KEY(config, key, ...) return fail_key((config), (key), __FILE__, __LINE__, __VA_ARGS__)

static mezzo_status fail_key(const mezzo_config *config, const char *key, const char *file,
                             int line, const char *format, ...) MEZZO_PRINTF(5, 6);
static mezzo_status fail_key(const mezzo_config *config, const char *key, const char *file,
                             int line, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return mzi_fail_at(config->ctx, file, line, MEZZO_CONFIG, "%s: %s: %s",
                       mezzo_config_origin(config, key), key, text);
}

static bool is(const mezzo_config *config, const char *key, const char *word) {
    return strcmp(mezzo_config_text(config, key), word) == 0;
}

static mezzo_status check_transformer(const mezzo_config *config) {
    int widths = mezzo_config_count(config, "model.channels");
    if (widths != 1)
        FAIL_KEY(config, "model.channels", "%d numbers, and model.kind %s has one width", widths,
                 mezzo_config_text(config, "model.kind"));
    int64_t width = mezzo_config_int_at(config, "model.channels", 0);
    int64_t heads = mezzo_config_int(config, "model.heads");
    if (width % heads)
        FAIL_KEY(config, "model.channels", "%d is no multiple of model.heads, which is %d",
                 (int)width, (int)heads);
    return MEZZO_OK;
}

static mezzo_status check_llama(const mezzo_config *config) {
    MZI_TRY(check_transformer(config));
    int64_t width = mezzo_config_int_at(config, "model.channels", 0);
    int64_t heads = mezzo_config_int(config, "model.heads");
    int64_t kv_heads = mezzo_config_int(config, "model.kv_heads");
    if (width / heads % 2)
        FAIL_KEY(config, "model.heads",
                 "heads of %d channels, and rotary positions turn pairs: the number must be even",
                 (int)(width / heads));
    if (kv_heads > 0 && heads % kv_heads)
        FAIL_KEY(config, "model.kv_heads", "%d do not divide model.heads, which is %d",
                 (int)kv_heads, (int)heads);
    return MEZZO_OK;
}

static mezzo_status check_model(const mezzo_config *config) {
    if (is(config, "model.kind", "gpt2"))
        return check_transformer(config);
    if (is(config, "model.kind", "llama"))
        return check_llama(config);
    if (!is(config, "model.kind", "cnn"))
        return MEZZO_OK;
    int convolutions = mezzo_config_count(config, "model.channels");
    if (convolutions == 0)
        FAIL_KEY(config, "model.channels",
                 "empty, and model.kind cnn needs a convolution; mlp is the kind without");
    int64_t before = 0;
    for (int i = 0; i < mezzo_config_count(config, "model.pool_after"); i++) {
        int64_t after = mezzo_config_int_at(config, "model.pool_after", i);
        if (after > convolutions)
            FAIL_KEY(config, "model.pool_after", "convolution %d, of the %d in model.channels",
                     (int)after, convolutions);
        if (after <= before)
            FAIL_KEY(config, "model.pool_after", "%d behind %d: expected rising numbers",
                     (int)after, (int)before);
        before = after;
    }
    return MEZZO_OK;
}

static mezzo_status check_scale(const mezzo_config *config) {
    static const char *const powers[] = {"precision.loss_scale.init", "precision.loss_scale.growth",
                                         "precision.loss_scale.backoff", "precision.loss_scale.min",
                                         "precision.loss_scale.max"};
    for (size_t i = 0; i < sizeof powers / sizeof powers[0]; i++) {
        int exponent;
        double value = mezzo_config_real(config, powers[i]);
        double below = frexp(value, &exponent); /* value = below 2^exponent, below in [1/2, 1) */
        if (value >= 0.0 && below != 0.5)       /* negative: auto */
            FAIL_KEY(config, powers[i],
                     "%g is no power of two, so scaling would round; the nearest below is %g",
                     value, ldexp(0.5, exponent));
    }
    return MEZZO_OK;
}

static mezzo_status check_training(const mezzo_config *config) {
    int64_t steps = mezzo_config_int(config, "train.steps");
    double lr = mezzo_config_real(config, "optimizer.lr");
    double lr_min = mezzo_config_real(config, "schedule.lr_min");
    if (steps == 0 && mezzo_config_int(config, "train.epochs") == 0)
        FAIL_KEY(config, "train.epochs", "0, and train.steps is 0 too: nothing to train");
    if (!is(config, "schedule.kind", "constant") && lr_min > lr)
        FAIL_KEY(config, "schedule.lr_min", "%g, above optimizer.lr, which is %g", lr_min, lr);
    if (mezzo_config_bool(config, "optimizer.nesterov") &&
        mezzo_config_real(config, "optimizer.momentum") == 0)
        FAIL_KEY(config, "optimizer.nesterov", "true, and optimizer.momentum is 0");
    if (is(config, "precision.gradients", "bf16") &&
        mezzo_config_int(config, "train.accumulate") > 1)
        FAIL_KEY(config, "precision.gradients",
                 "bf16, and train.accumulate is %lld: the sums of a window are f32, and take "
                 "gradients of f32; auto or f32 has them",
                 (long long)mezzo_config_int(config, "train.accumulate"));
    return MEZZO_OK;
}

static mezzo_status check_run(const mezzo_config *config) {
    const char *name = mezzo_config_text(config, "run.name");
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/'))
        FAIL_KEY(config, "run.name",
                 "\"%.100s\" is no name of a directory: it must not be empty, start with a dot or "
                 "have a slash; run.dir takes a path",
                 name);
    return MEZZO_OK;
}

static bool is_equal(const mezzo_config *a, const mezzo_config *b, const char *key) {
    int index = mzi_config_key_find(key);
    const mzi_setting *x = &a->settings[index], *y = &b->settings[index];
    bool equal = x->count == y->count;
    for (int i = 0; equal && i < x->count * x->width; i++)
        equal = x->items[i].integer == y->items[i].integer && x->items[i].real == y->items[i].real;
    return equal;
}

/* Of a user's own kinds nobody here knows what they read. */
static bool is_own_kind(const char *name) {
    mzi_slice rest = mzi_slice_of("cnn|gpt2|llama|mlp"), word;
    while (mzi_slice_next(&rest, '|', &word))
        if (mzi_slice_equal(word, name))
            return true;
    return false;
}

/* Numbers that only count if another key has one of some values.  At its default a key is silent: a
 * dump gives every one. */
static mezzo_status warn_unused(const mezzo_config *config) {
    static const struct use {
        const char *key, *by, *values;
    } uses[] = {
        {"model.channels", "model.kind", "cnn|gpt2|llama"},
        {"model.pool_after", "model.kind", "cnn"},
        {"model.hidden", "model.kind", "cnn|mlp"},
        {"model.activation", "model.kind", "cnn|mlp"},
        {"model.layers", "model.kind", "gpt2|llama"},
        {"model.heads", "model.kind", "gpt2|llama"},
        {"model.kv_heads", "model.kind", "llama"},
        {"model.mlp_channels", "model.kind", "llama"},
        {"model.rope_theta", "model.kind", "llama"},
        {"model.norm_eps", "model.kind", "llama"},
        {"model.tied", "model.kind", "llama"},
        {"model.dropout", "model.kind", "cnn|gpt2|mlp"},
        {"model.context", "model.kind", "gpt2|llama"},
        {"model.vocab", "model.kind", "gpt2|llama"},
        {"data.mean", "data.kind", "idx"},
        {"data.std", "data.kind", "idx"},
        {"data.tokenizer", "data.kind", "text|tokens"},
        {"data.vocab", "data.kind", "tokens|random"},
        {"data.validation", "data.kind", "text|tokens|random"},
        {"data.validation_path", "data.kind", "text|tokens"},
        {"precision.loss_scale.init", "precision.loss_scale.mode",
         "auto|static|headroom|pytorch|megatron|deepspeed"},
        {"precision.loss_scale.growth", "precision.loss_scale.mode", "pytorch|megatron"},
        {"precision.loss_scale.backoff", "precision.loss_scale.mode", "pytorch|megatron"},
        {"precision.loss_scale.interval", "precision.loss_scale.mode",
         "auto|headroom|pytorch|megatron|deepspeed"},
        {"precision.loss_scale.min", "precision.loss_scale.mode",
         "auto|headroom|megatron|deepspeed"},
        {"precision.loss_scale.max", "precision.loss_scale.mode", "auto|headroom"},
        {"precision.loss_scale.headroom", "precision.loss_scale.mode", "auto|headroom"},
        {"precision.loss_scale.hysteresis", "precision.loss_scale.mode", "megatron|deepspeed"},
        {"precision.loss_scale.consecutive_hysteresis", "precision.loss_scale.mode", "deepspeed"},
        {"precision.loss_scale.stop_at_min", "precision.loss_scale.mode", "deepspeed"},
        {"precision.rounding", "precision.master", "bf16"},
        {"precision.speed_pins", "precision.speed_gate", "auto"},
        {"optimizer.beta1", "optimizer.kind", "adamw|lion|muon"},
        {"optimizer.beta2", "optimizer.kind", "adamw|lion|muon"},
        {"optimizer.eps", "optimizer.kind", "adamw|muon"},
        {"optimizer.momentum", "optimizer.kind", "muon|sgd"},
        {"optimizer.nesterov", "optimizer.kind", "sgd"},
        {"optimizer.other_lr_scale", "optimizer.kind", "muon"},
        {"schedule.lr_min", "schedule.kind", "linear|cosine|wsd"},
        {"schedule.decay", "schedule.kind", "wsd"},
    };
    mezzo_config *defaults = NULL;
    MZI_TRY(mezzo_config_create(&defaults, config->ctx));
    for (size_t i = 0; i < sizeof uses / sizeof uses[0]; i++) {
        const char *origin = mezzo_config_origin(config, uses[i].key);
        const char *value = mezzo_config_text(config, uses[i].by);
        bool known_kind = strcmp(uses[i].by, "model.kind") != 0 || is_own_kind(value);
        mzi_slice rest = mzi_slice_of(uses[i].values), word;
        bool used = !known_kind || is_equal(config, defaults, uses[i].key);
        while (!used && mzi_slice_next(&rest, '|', &word))
            used = mzi_slice_equal(word, value);
        if (!used)
            mzi_log(config->ctx, MEZZO_LOG_WARNING, "%s: %s has no effect with %s: %s", origin,
                    uses[i].key, uses[i].by, value);
    }
    mezzo_config_destroy(defaults);
    return MEZZO_OK;
}

/* Short trials of a long configuration are common, so this is no error. */
static void warn_schedule(const mezzo_config *config) {
    long long steps = mezzo_config_int(config, "train.steps");
    long long warmup = mezzo_config_int(config, "schedule.warmup");
    if (steps > 0 && warmup > steps)
        mzi_log(config->ctx, MEZZO_LOG_WARNING,
                "%s: schedule.warmup: %lld steps, of the %lld in train.steps: the learning rate "
                "only rises",
                mezzo_config_origin(config, "schedule.warmup"), warmup, steps);
    long long decay = mezzo_config_int(config, "schedule.decay");
    if (steps > 0 && is(config, "schedule.kind", "wsd") && decay > steps - warmup)
        mzi_log(config->ctx, MEZZO_LOG_WARNING,
                "%s: schedule.decay: %lld steps, and %lld of train.steps are left behind the "
                "warm-up: the learning rate falls in those",
                mezzo_config_origin(config, "schedule.decay"), decay,
                steps > warmup ? steps - warmup : 0);
}

mezzo_status mezzo_config_check(mezzo_config *config) {
    mzi_error_clear(config->ctx);
    MZI_TRY(check_model(config));
    MZI_TRY(check_scale(config));
    MZI_TRY(check_training(config));
    MZI_TRY(check_run(config));
    MZI_TRY(warn_unused(config));
    warn_schedule(config);
    return MEZZO_OK;
}
