#include "run/saved.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const mode_names[] = {
    [MEZZO_SCALE_AUTO] = "auto",         [MEZZO_SCALE_NONE] = "none",
    [MEZZO_SCALE_STATIC] = "static",     [MEZZO_SCALE_PYTORCH] = "pytorch",
    [MEZZO_SCALE_MEGATRON] = "megatron", [MEZZO_SCALE_DEEPSPEED] = "deepspeed",
    [MEZZO_SCALE_HEADROOM] = "headroom"};
enum {
    MODE_COUNT = sizeof mode_names / sizeof mode_names[0]
};

const char *mzi_scale_mode_name(mezzo_scale_mode mode) {
    return mode_names[mode];
}

void mzi_scale_rule(const mezzo_scaler_config *c, char out[MZI_SAVED_VALUE]) {
    mzi_format(out, MZI_SAVED_VALUE,
               "growth %.9g backoff %.9g interval %d min %.9g max %.9g headroom %d hysteresis %d%s",
               (double)c->growth, (double)c->backoff, c->growth_interval, (double)c->min,
               (double)c->max, c->headroom, c->hysteresis,
               c->consecutive_hysteresis ? " consecutive" : "");
}

/* The integers, and the key of each. */
static const struct integer {
    const char *key;
    size_t place;
} integers[] = {
    {"mezzo.attempts", offsetof(mzi_saved, state.attempt)},
    {"mezzo.averaged_steps", offsetof(mzi_saved, state.averaged)},
    {"mezzo.moments_from", offsetof(mzi_saved, state.moments_from)},
    {"mezzo.overflow_events", offsetof(mzi_saved, overflow_events)},
    {"mezzo.samples", offsetof(mzi_saved, samples)},
    {"mezzo.seed", offsetof(mzi_saved, seed)},
    {"mezzo.skipped_steps", offsetof(mzi_saved, state.skipped)},
};
enum {
    INTEGER_COUNT = sizeof integers / sizeof integers[0]
};

static void put(mzi_saved_notes *out, const char *key, const char *format, ...) MEZZO_PRINTF(3, 4);
static void put(mzi_saved_notes *out, const char *key, const char *format, ...) {
    va_list args;
    char *value = out->values[out->count];
    va_start(args, format);
    vsnprintf(value, MZI_SAVED_VALUE, format, args);
    va_end(args);
    out->notes[out->count++] = (mezzo_safetensors_note){key, value};
}

void mzi_saved_write(const mzi_saved *saved, mzi_saved_notes *out) {
    const mezzo_scaler *s = &saved->state.scaler;
    out->count = 0;
    for (int k = 0; k < INTEGER_COUNT; k++)
        put(out, integers[k].key, "%" PRId64,
            *(const int64_t *)(const void *)((const char *)saved + integers[k].place));
    put(out, "mezzo.optimizer", "%s", saved->optimizer);
    put(out, "mezzo.loss_scale", "%.17g", s->scale);
    put(out, "mezzo.loss_scale.init", "%.17g", (double)s->config.init);
    put(out, "mezzo.loss_scale.mode", "%s", mode_names[s->config.mode]);
    put(out, "mezzo.loss_scale.rule", "%s", saved->scale_rule);
    put(out, "mezzo.loss_scale.growth_tracker", "%d", s->growth_tracker);
    put(out, "mezzo.loss_scale.hysteresis_tracker", "%d", s->hysteresis_tracker);
    put(out, "mezzo.loss_scale.measured", "%d", s->measured);
    put(out, "mezzo.loss_scale.maxima", "%.17g %.17g %.17g %.17g", s->maxima[0], s->maxima[1],
        s->maxima[2], s->maxima[3]);
}

typedef struct reading {
    mezzo_ctx *ctx;
    const mezzo_safetensors *file;
    const char *path;
} reading;

static mezzo_status take(const reading *r, const char *key, const char **value) {
    *value = mezzo_safetensors_note_value(r->file, key);
    if (!*value)
        MZI_FAIL(r->ctx, MEZZO_DATA,
                 "'%s': metadata %s is missing, and others of a trainer's state are there; "
                 "train.weights starts afresh from its weights",
                 r->path, key);
    return MEZZO_OK;
}

static mezzo_status refuse(const reading *r, const char *key, const char *value,
                           const char *expected) {
    char shown[MZI_SAVED_VALUE];
    mzi_format(shown, sizeof shown, "%s", value);
    MZI_FAIL(r->ctx, MEZZO_DATA, "'%s': metadata %s is \"%s\"; expected %s", r->path, key, shown,
             expected);
}

static mezzo_status take_text(const reading *r, const char *key, char out[MZI_SAVED_VALUE]) {
    const char *value;
    MZI_TRY(take(r, key, &value));
    if (strlen(value) >= MZI_SAVED_VALUE)
        return refuse(r, key, value, "a shorter text");
    mzi_format(out, MZI_SAVED_VALUE, "%s", value);
    return MEZZO_OK;
}

static mezzo_status take_integer(const reading *r, const char *key, int64_t from, int64_t to,
                                 int64_t *out) {
    const char *value;
    char *end, expected[64];
    MZI_TRY(take(r, key, &value));
    errno = 0;
    long long number = strtoll(value, &end, 10);
    mzi_format(expected, sizeof expected, "an integer from %" PRId64 " to %" PRId64, from, to);
    if (end == value || *end != '\0' || errno || number < from || number > to)
        return refuse(r, key, value, expected);
    *out = number;
    return MEZZO_OK;
}

static mezzo_status take_real(const reading *r, const char *key, double *out) {
    const char *value;
    char *end;
    MZI_TRY(take(r, key, &value));
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !(number >= 0.0)) /* a rule of a peer's may end at Inf */
        return refuse(r, key, value, "a number that is not negative");
    *out = number;
    return MEZZO_OK;
}

static mezzo_status take_mode(const reading *r, mezzo_scale_mode *out) {
    static const char key[] = "mezzo.loss_scale.mode";
    const char *value;
    MZI_TRY(take(r, key, &value));
    for (int mode = MEZZO_SCALE_NONE; mode < MODE_COUNT; mode++)
        if (strcmp(mode_names[mode], value) == 0) {
            *out = (mezzo_scale_mode)mode;
            return MEZZO_OK;
        }
    return refuse(r, key, value, "none, static, headroom, pytorch, megatron or deepspeed");
}

static mezzo_status take_maxima(const reading *r, double out[MEZZO_SCALE_HISTORY]) {
    static const char key[] = "mezzo.loss_scale.maxima";
    const char *value;
    MZI_TRY(take(r, key, &value));
    const char *at = value;
    for (int k = 0; k < MEZZO_SCALE_HISTORY; k++) {
        char *end;
        out[k] = strtod(at, &end);
        if (end == at || !isfinite(out[k]) || out[k] < 0.0)
            return refuse(r, key, value, "four finite numbers that are not negative");
        at = end;
    }
    return *at == '\0' ? MEZZO_OK : refuse(r, key, value, "four numbers");
}

static mezzo_status take_scaler(const reading *r, mzi_saved *out) {
    mezzo_scaler *s = &out->state.scaler;
    double init;
    int64_t growth, hysteresis, measured;
    MZI_TRY(take_mode(r, &s->config.mode));
    MZI_TRY(take_real(r, "mezzo.loss_scale", &s->scale));
    MZI_TRY(take_real(r, "mezzo.loss_scale.init", &init));
    MZI_TRY(take_integer(r, "mezzo.loss_scale.growth_tracker", 0, INT32_MAX, &growth));
    MZI_TRY(
        take_integer(r, "mezzo.loss_scale.hysteresis_tracker", INT32_MIN, INT32_MAX, &hysteresis));
    MZI_TRY(take_integer(r, "mezzo.loss_scale.measured", 0, MEZZO_SCALE_HISTORY - 1, &measured));
    MZI_TRY(take_maxima(r, s->maxima));
    s->measured = (int32_t)measured;
    s->config.init = (float)init;
    s->growth_tracker = (int32_t)growth;
    s->hysteresis_tracker = (int32_t)hysteresis;
    return take_text(r, "mezzo.loss_scale.rule", out->scale_rule);
}

mezzo_status mzi_saved_read(mezzo_ctx *ctx, const mezzo_safetensors *file, const char *path,
                            mzi_saved *out, bool *found) {
    const reading r = {ctx, file, path};
    const int64_t counter_max = (int64_t)1 << 53;
    mzi_saved saved = {0};
    *found = mezzo_safetensors_note_value(file, "mezzo.attempts") != NULL;
    if (!*found)
        return MEZZO_OK;
    for (int k = 0; k < INTEGER_COUNT; k++)
        MZI_TRY(take_integer(&r, integers[k].key, 0, counter_max,
                             (int64_t *)(void *)((char *)&saved + integers[k].place)));
    MZI_TRY(take_integer(&r, "mezzo.step", 0, counter_max, &saved.state.step));
    MZI_TRY(take_text(&r, "mezzo.optimizer", saved.optimizer));
    MZI_TRY(take_text(&r, "mezzo.precision", saved.precision));
    MZI_TRY(take_scaler(&r, &saved));
    *out = saved;
    return MEZZO_OK;
}
