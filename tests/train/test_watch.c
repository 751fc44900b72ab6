/* Runs that learn nothing, each for another reason: the event names it, and nothing else. */
#include <jansson.h>
#include <math.h>

#include "base/ctx.h"
#include "base/rng.h"
#include "mezzo/ops.h"
#include "mezzo/run.h"
#include "unit/tempdir.h"

enum {
    TEXT_BYTES = 20000,
    WIDTH = 16,
    SETS_MAX = 6
};

static char folder[256], text_path[300], run_path[300];
static int warnings;
static float factor; /* of the logits */

static void on_log(void *user, mezzo_log_level level, const char *text) {
    (void)user;
    /* FP16 is emulated: that is said in every such run. */
    warnings += level == MEZZO_LOG_WARNING && !strstr(text, "do not compute");
}

/* The next byte's logits from this byte alone. */
static mezzo_status build(mezzo_graph *g, const mezzo_config *config,
                          const mezzo_data_shape *shape) {
    (void)config;
    mezzo_shape inputs = mezzo_shape2(shape->batch, shape->context);
    mezzo_value tokens = mezzo_input(g, "tokens", MEZZO_I32, inputs), correct, valid;
    mezzo_value labels = mezzo_input(g, "labels", MEZZO_I32, inputs);
    mezzo_value table = mezzo_param(g, "table", mezzo_shape2(shape->classes, WIDTH),
                                    (mezzo_init){MEZZO_INIT_NORMAL, 0.5f});
    mezzo_value x = mezzo_embedding(g, "bytes", tokens, table, (mezzo_value){0}, (mezzo_value){0});
    x = mezzo_scale(g, mezzo_linear(g, "head", x, shape->classes, true), factor);
    mezzo_loss(g, mezzo_softmax_cross_entropy(g, x, labels, &correct, &valid));
    mezzo_output(g, "correct", correct);
    mezzo_output(g, "valid", valid);
    return MEZZO_OK;
}

/* A byte follows from the one before it, but for one in three. */
static void write_text(void) {
    static char text[TEXT_BYTES + 1];
    uint32_t last = 0, words[4];
    for (uint64_t k = 0; k < TEXT_BYTES; k++) {
        mzi_rng4(words, 1, 2, k, 0);
        last = words[0] % 3 == 0 ? words[1] % 26 : last * 7 % 26;
        text[k] = (char)('a' + (char)last);
    }
    tempdir_write(folder, "/text.txt", text);
    snprintf(text_path, sizeof text_path, "data.path=%s/text.txt", folder);
    snprintf(run_path, sizeof run_path, "run.dir=%s/run", folder);
}

typedef struct found {
    mezzo_status status;
    int plateaus, stalls, warnings;
    char cause[32], level[16], parameter[64];
    double share;
} found;

static void read_event(found *f, const char *line) {
    json_t *event = json_loads(line, 0, NULL);
    assert_non_null(event);
    const char *kind = json_string_value(json_object_get(event, "kind"));
    if (strcmp(kind, "plateau") == 0) {
        f->plateaus++;
        snprintf(f->cause, sizeof f->cause, "%s",
                 json_string_value(json_object_get(event, "cause")));
        snprintf(f->level, sizeof f->level, "%s",
                 json_string_value(json_object_get(event, "level")));
        assert_true(strlen(json_string_value(json_object_get(event, "hint"))) > 10);
    } else if (strcmp(kind, "stall") == 0) {
        f->stalls++;
        f->share = json_number_value(json_object_get(event, "share"));
        snprintf(f->parameter, sizeof f->parameter, "%s",
                 json_string_value(json_object_get(event, "parameter")));
    }
    json_decref(event);
}

static void read_events(found *f) {
    char path[320], line[4096];
    snprintf(path, sizeof path, "%s/run/events.jsonl", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        read_event(f, line);
    fclose(file);
}

static void set_all(mezzo_ctx *ctx, mezzo_config *config, const char *const *sets) {
    const char *const usual[] = {
        "model.kind=byte",   "model.context=16",   "data.kind=text",        text_path,
        "data.batch=8",      "data.test_limit=8",  "train.steps=200",       "train.meter_every=10",
        "optimizer.lr=0.01", "run.overwrite=true", "precision.compute=f32", run_path};
    for (size_t k = 0; k < sizeof usual / sizeof *usual + SETS_MAX; k++) {
        size_t own = sizeof usual / sizeof *usual;
        const char *set = k < own ? usual[k] : sets[k - own];
        if (set && mezzo_config_set(config, set, "test") != MEZZO_OK)
            fail_msg("%s", mezzo_ctx_error(ctx)->text);
    }
}

static found train(float logits, const char *const *sets) {
    static const mezzo_model_kind kind = {
        .name = "byte", .help = "", .data = MEZZO_DATA_TOKENS, .build = build};
    const mezzo_ctx_config settings = {.threads = 1, .log = on_log};
    mezzo_ctx *ctx;
    mezzo_runner *runner;
    mezzo_config *config;
    mezzo_summary summary;
    found f = {0};
    warnings = 0;
    factor = logits;
    assert_int_equal(mezzo_ctx_create(&ctx, &settings, NULL), MEZZO_OK);
    assert_int_equal(mezzo_runner_create(&runner, ctx), MEZZO_OK);
    assert_int_equal(mezzo_runner_add_kind(runner, &kind), MEZZO_OK);
    assert_int_equal(mezzo_config_create(&config, ctx), MEZZO_OK);
    set_all(ctx, config, sets);
    f.status = mezzo_run_train(runner, config, NULL, &summary);
    if (f.status != MEZZO_OK && f.status != MEZZO_NUMERICS)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    f.warnings = warnings;
    mezzo_config_destroy(config);
    mezzo_runner_destroy(runner);
    mezzo_ctx_destroy(ctx);
    read_events(&f);
    return f;
}

typedef struct provoked {
    const char *cause; /* null: none */
    const char *level;
    int warnings; /* at least one more comes with a stall */
    float logits;
    const char *sets[SETS_MAX];
} provoked;

static const provoked cases[] = {
    {NULL, NULL, 0, 1.0f, {NULL}},
    {NULL, NULL, 0, 1.0f, {"precision.compute=bf16"}},
    {NULL, NULL, 0, 1.0f, {"precision.compute=f16"}},
    {"rate", "warning", 1, 1.0f, {"optimizer.lr=0"}},
    {"frozen", "warning", 1, 1.0f, {"optimizer.groups=[{match: \"*\", lr_scale: 0}]"}},
    {"stall", "warning", 2, 1.0f, {"optimizer.lr=1e-12"}},
    {"stall", "warning", 2, 1.0f, {"optimizer.lr=1e-12", "train.accumulate=3"}},
    {"stall", "warning", 2, 1.0f, {"optimizer.lr=1e-12", "optimizer.kind=sgd"}},
    /* One batch, whose samples come in another order each time. */
    {"input", "warning", 1, 1.0f, {"data.limit=8", "optimizer.lr=0.03", "train.steps=900"}},
    /* dlogits are at most 1/128, and 2^-20 of that rounds to zero in FP16. */
    {"gradient",
     "warning",
     1,
     0x1p-20f,
     {"precision.compute=f16", "precision.loss_scale.mode=none", "precision.lint=off"}},
    {"skipped",
     "warning",
     1,
     1.0f,
     {"precision.compute=f16", "precision.loss_scale={mode: static, init: 18446744073709551616}"}},
    /* A rate that moves the weights, but nowhere: no cause is measured. */
    {"unknown", "info", 0, 1.0f, {"optimizer.lr=1e-7", "train.steps=800"}},
    {NULL, NULL, 0, 1.0f, {"optimizer.lr=0", "train.plateau=false"}},
    {NULL, NULL, 0, 1.0f, {"optimizer.lr=0", "train.steps=49"}},
};

static void test_each_cause_and_no_other(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const provoked *c = &cases[k];
        found f = train(c->logits, c->sets);
        if (f.plateaus != (c->cause != NULL) || strcmp(f.cause, c->cause ? c->cause : "") != 0 ||
            strcmp(f.level, c->level ? c->level : "") != 0 || f.warnings != c->warnings)
            fail_msg("case %zu: %d plateaus, \"%s\" (%s), %d warnings; \"%s\" is right", k,
                     f.plateaus, f.cause, f.level, f.warnings, c->cause ? c->cause : "");
        bool stalls = c->cause && strcmp(c->cause, "stall") == 0;
        assert_int_equal(f.stalls > 0, stalls);
        assert_true(f.share > 0.99 || !stalls);
        assert_int_equal(f.status,
                         c->cause && strcmp(c->cause, "skipped") == 0 ? MEZZO_NUMERICS : MEZZO_OK);
    }
}

/* Twenty measurements, an event for each, one warning; meters that are off say nothing. */
static void test_stall_events(void **state) {
    (void)state;
    const char *const on[SETS_MAX] = {"optimizer.lr=1e-12", "train.plateau=false"};
    const char *const off[SETS_MAX] = {"optimizer.lr=1e-12", "train.plateau=false",
                                       "train.meter_every=0"};
    found f = train(1.0f, on);
    assert_int_equal(f.stalls, 20);
    assert_int_equal(f.warnings, 1);
    assert_true(strcmp(f.parameter, "table") == 0 || strncmp(f.parameter, "head.", 5) == 0);
    f = train(1.0f, off);
    assert_int_equal(f.stalls + f.warnings, 0);
}

static int begin(void **state) {
    (void)state;
    tempdir_make(folder);
    write_text();
    return 0;
}

static int end(void **state) {
    (void)state;
    tempdir_remove(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_cause_and_no_other),
        cmocka_unit_test(test_stall_events),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
