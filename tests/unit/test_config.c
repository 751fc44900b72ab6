/* The configuration: every class of error with its place, precedence and origins, and that a call
 * that fails changes nothing. */
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ctx.h"
#include "config/schema.h"
#include "config/words.h"
#include "unit/cmocka_all.h"

static const char valid[] = "# all forms of a value\n"
                            "model: {kind: cnn, channels: [8, 16], pool_after: [2], hidden: []}\n"
                            "data:\n"
                            "  path: \"/tmp/a \\\"b\\\" \\u00fc\"\n"
                            "  batch: 32\n"
                            "precision:\n"
                            "  compute: fp16\n"
                            "  strict: true\n"
                            "  overrides:\n"
                            "    - {match: \"head*\", compute: f32}\n"
                            "    - match: conv1\n"
                            "      compute: bf16\n"
                            "  loss_scale: {mode: megatron, init: 1024, min: auto}\n"
                            "optimizer: {lr: 3e-4, groups: [{match: '*.bias', lr_scale: 0.5}]}\n"
                            "train: {steps: 100, threads: auto}\n";

static mezzo_ctx *ctx;
static mezzo_config *config;
static uint64_t held; /* by the context alone */
static char logged[2000];

static void keep_log(void *user, mezzo_log_level level, const char *text) {
    (void)user;
    (void)level;
    size_t used = strlen(logged);
    snprintf(logged + used, sizeof logged - used, "%s\n", text);
}

static int begin(void **state) {
    (void)state;
    mezzo_ctx_config wanted = {.threads = 1, .log = keep_log};
    logged[0] = '\0';
    if (mezzo_ctx_create(&ctx, &wanted, NULL) != MEZZO_OK)
        return -1;
    held = mezzo_ctx_memory(ctx).bytes_used;
    return mezzo_config_create(&config, ctx) == MEZZO_OK ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    mezzo_config_destroy(config);
    bool leaked = mezzo_ctx_memory(ctx).bytes_used != held;
    mezzo_ctx_destroy(ctx);
    return leaked ? -1 : 0;
}

static const char *message(void) {
    return mezzo_ctx_error(ctx)->text;
}

static mezzo_status load(const char *text) {
    return mezzo_config_load_text(config, "a.yaml", text, strlen(text));
}

static char *dump(bool origins) {
    char *text = NULL;
    assert_int_equal(mezzo_config_dump(config, origins, &text), MEZZO_OK);
    return text;
}

/* `call` fails with this message, and the configuration stays as it was. */
static void refuse(mezzo_status status, const char *before, const char *expected) {
    if (status != MEZZO_CONFIG || strcmp(message(), expected) != 0)
        print_error("status %s\n  got      \"%s\"\n  expected \"%s\"\n", mezzo_status_name(status),
                    message(), expected);
    assert_int_equal(status, MEZZO_CONFIG);
    assert_string_equal(message(), expected);
    char *after = dump(true);
    assert_string_equal(before, after);
    mezzo_text_free(ctx, after);
}

static void test_defaults(void **state) {
    (void)state;
    assert_string_equal(mezzo_config_text(config, "model.kind"), "cnn");
    assert_int_equal(mezzo_config_count(config, "model.channels"), 3);
    assert_int_equal(mezzo_config_int_at(config, "model.channels", 0), 32);
    assert_int_equal(mezzo_config_int_at(config, "model.channels", 2), 64);
    assert_int_equal(mezzo_config_int(config, "data.batch"), 128);
    assert_true(mezzo_config_real(config, "data.mean") == 0.2860);
    assert_string_equal(mezzo_config_text(config, "precision.compute"), "bf16");
    assert_true(mezzo_config_real(config, "optimizer.lr") == 1e-3);
    assert_false(mezzo_config_bool(config, "run.overwrite"));
    assert_string_equal(mezzo_config_text(config, "run.dir"), "");
    assert_int_equal(mezzo_config_int(config, "train.threads"), 0);
    assert_int_equal(mezzo_config_check(config), MEZZO_OK);
    const mezzo_config_key *key;
    for (int i = 0; (key = mezzo_config_key_at(i)) != NULL; i++) {
        assert_string_equal(mezzo_config_origin(config, key->path), "default");
        assert_int_equal(mzi_config_key_find(key->path), i);
        assert_non_null(key->help);
        assert_true(key->min <= key->max);
    }
    assert_null(mezzo_config_key_at(-1));
}

static void test_wrong_getters(void **state) {
    (void)state;
    assert_int_equal(mezzo_config_int(config, "optimizer.lr"), 0);
    assert_true(mezzo_config_real(config, "train.steps") == 0.0);
    assert_string_equal(mezzo_config_text(config, "no.such"), "");
    assert_string_equal(mezzo_config_origin(config, "no.such"), "");
    assert_int_equal(mezzo_config_count(config, "train.steps"), 0);
    assert_int_equal(mezzo_config_int_at(config, "model.channels", 3), 0);
    assert_int_equal(mezzo_config_int_at(config, "model.channels", -1), 0);
    assert_string_equal(mezzo_config_field_text(config, "precision.overrides", 0, "match"), "");
}

static void test_values(void **state) {
    (void)state;
    assert_int_equal(load(valid), MEZZO_OK);
    assert_int_equal(mezzo_config_count(config, "model.channels"), 2);
    assert_int_equal(mezzo_config_int_at(config, "model.channels", 1), 16);
    assert_int_equal(mezzo_config_count(config, "model.hidden"), 0);
    assert_string_equal(mezzo_config_text(config, "data.path"), "/tmp/a \"b\" \xc3\xbc");
    assert_string_equal(mezzo_config_text(config, "precision.compute"), "f16");
    assert_true(mezzo_config_bool(config, "precision.strict"));
    assert_true(mezzo_config_real(config, "precision.loss_scale.init") == 1024.0);
    assert_string_equal(mezzo_config_text(config, "precision.loss_scale.mode"), "megatron");
    assert_true(mezzo_config_real(config, "precision.loss_scale.min") == -1.0); /* auto */
    assert_true(mezzo_config_real(config, "precision.loss_scale.growth") == -1.0);
    assert_int_equal(mezzo_config_int(config, "precision.loss_scale.hysteresis"), 0);
    assert_true(mezzo_config_bool(config, "precision.loss_scale.stop_at_min"));
    assert_int_equal(mezzo_config_count(config, "precision.overrides"), 2);
    const char *overrides = "precision.overrides";
    assert_string_equal(mezzo_config_field_text(config, overrides, 0, "match"), "head*");
    assert_string_equal(mezzo_config_field_text(config, overrides, 0, "compute"), "f32");
    assert_string_equal(mezzo_config_field_text(config, overrides, 1, "match"), "conv1");
    assert_string_equal(mezzo_config_field_text(config, overrides, 1, "compute"), "bf16");
    assert_true(mezzo_config_field_real(config, "optimizer.groups", 0, "lr_scale") == 0.5);
    assert_int_equal(mezzo_config_check(config), MEZZO_OK);
    assert_string_equal(logged, "");
    assert_int_equal(load("model: {channels: 384}\n"), MEZZO_OK); /* a list of one */
    assert_int_equal(mezzo_config_count(config, "model.channels"), 1);
    assert_int_equal(mezzo_config_int_at(config, "model.channels", 0), 384);
}

/* A word in place of a number. */
static void test_words_for_numbers(void **state) {
    (void)state;
    assert_true(mezzo_config_real(config, "optimizer.beta2") == -1.0);
    assert_int_equal(load("optimizer: {beta2: 0.5}\n"), MEZZO_OK);
    assert_true(mezzo_config_real(config, "optimizer.beta2") == 0.5);
    assert_int_equal(load("optimizer: {beta2: auto}\n"), MEZZO_OK);
    assert_true(mezzo_config_real(config, "optimizer.beta2") == -1.0);
}

/* A field that is left out follows its default: a number, or another key. */
static void test_field_defaults(void **state) {
    (void)state;
    assert_int_equal(load("optimizer: {groups: [{match: a}, {match: b, weight_decay: 0}]}"),
                     MEZZO_OK);
    const char *groups = "optimizer.groups";
    assert_true(mezzo_config_field_real(config, groups, 0, "lr_scale") == 1.0);
    assert_true(mezzo_config_field_real(config, groups, 0, "weight_decay") == 0.01);
    assert_true(mezzo_config_field_real(config, groups, 1, "weight_decay") == 0.0);
    assert_int_equal(mezzo_config_set(config, "optimizer.weight_decay=0.2", "--set"), MEZZO_OK);
    assert_true(mezzo_config_field_real(config, groups, 0, "weight_decay") == 0.2);
    assert_true(mezzo_config_field_real(config, groups, 1, "weight_decay") == 0.0);
}

static void test_unknown_keys(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"train:\n  step: 5\n", "a.yaml:2:3: unknown key \"train.step\"; did you mean "
                                "\"train.steps\"?"},
        {"# one\ntrian: {steps: 5}\n", "a.yaml:2:1: unknown key \"trian\"; did you mean "
                                       "\"train\"?"},
        {"precision: {loss_scale: {intreval: 5}}",
         "a.yaml:1:26: unknown key \"precision.loss_scale.intreval\"; did you mean "
         "\"precision.loss_scale.interval\"?"},
        {"schedule: {zzzz: 1}", "a.yaml:1:12: unknown key \"schedule.zzzz\"; the keys of "
                                "\"schedule\" are: kind, warmup, lr_min, decay"},
        {"zzzzzz: 1", "a.yaml:1:1: unknown key \"zzzzzz\"; the sections are: model, data, "
                      "precision, optimizer, schedule, train, run"},
        {"lr: 1e-3", "a.yaml:1:1: unknown key \"lr\"; did you mean optimizer: {lr: ...}?"},
        {"train.steps: 5", "a.yaml:1:1: unknown key \"train.steps\"; did you mean train: {steps: "
                           "...}?"},
        {"precision: {overrides: [{match: a, compile: f32}]}",
         "a.yaml:1:36: precision.overrides: unknown field \"compile\"; did you mean \"compute\"?"},
        {"precision: {overrides: [{match: a, zzz: f32}]}",
         "a.yaml:1:36: precision.overrides: unknown field \"zzz\"; the fields are: match, "
         "compute"},
    };
    char *before = dump(true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(load(cases[i][0]), before, cases[i][1]);
    mezzo_text_free(ctx, before);
}

static const char *const wrong_values[][2] = {
    {"train: {steps: many}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                             "1000000000, got \"many\""},
    {"train: {steps: -1}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                           "1000000000, got \"-1\""},
    {"train: {steps: 1_000}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                              "1000000000, got \"1_000\""},
    {"train: {steps: 010}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                            "1000000000, got \"010\""},
    {"train: {steps: 0x10}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                             "1000000000, got \"0x10\""},
    {"train: {steps: 1.5}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                            "1000000000, got \"1.5\""},
    {"train: {steps: \"5\"}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                              "1000000000, got the quoted text \"5\""},
    {"train: {steps: 99999999999999999999}",
     "a.yaml:1:16: train.steps: expected an integer from 0 to 1000000000, got "
     "\"99999999999999999999\""},
    {"train: {steps: auto}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                             "1000000000, got \"auto\""},
    {"train: {threads: all}", "a.yaml:1:18: train.threads: expected an integer from 0 to "
                              "1024, or auto, got \"all\""},
    {"train: {steps: }", "a.yaml:1:16: train.steps: expected an integer from 0 to 1000000000, "
                         "got nothing"},
    {"train: {steps: [1]}", "a.yaml:1:16: train.steps: expected an integer from 0 to "
                            "1000000000, got a list"},
    {"optimizer: {lr: fast}", "a.yaml:1:17: optimizer.lr: expected a number from 0 to 1000, "
                              "got \"fast\""},
    {"optimizer: {lr: .nan}", "a.yaml:1:17: optimizer.lr: expected a number from 0 to 1000, "
                              "got \".nan\""},
    {"optimizer: {lr: 1e999}", "a.yaml:1:17: optimizer.lr: expected a number from 0 to 1000, "
                               "got \"1e999\""},
    {"optimizer: {beta1: 1}", "a.yaml:1:20: optimizer.beta1: expected a number from 0 to "
                              "0.9999999, got \"1\""},
    {"precision: {strict: yes}", "a.yaml:1:21: precision.strict: expected true or false, got "
                                 "\"yes\""},
    {"optimizer: {kind: adam}",
     "a.yaml:1:19: optimizer.kind: expected one of adamw|lion|muon|sgd, got "
     "\"adam\"; did you mean \"adamw\"?"},
    {"optimizer: {beta2: default}", "a.yaml:1:20: optimizer.beta2: expected a number from 0 to "
                                    "0.9999999, or auto, got \"default\""},
    {"optimizer: {kind: ~}",
     "a.yaml:1:19: optimizer.kind: expected one of adamw|lion|muon|sgd, got "
     "\"~\""},
    {"precision: {compute: f64}", "a.yaml:1:22: precision.compute: expected one of "
                                  "f32|bf16|f16, got \"f64\""},
    {"precision: {compute: f8_e4m3}", "a.yaml:1:22: precision.compute: expected one of "
                                      "f32|bf16|f16, got \"f8_e4m3\", which is only for storage: "
                                      "nothing computes in it"},
    {"precision: {overrides: [{match: a, compute: fp8_e5m2}]}",
     "a.yaml:1:45: precision.overrides[0].compute: expected one of f32|bf16|f16, got "
     "\"fp8_e5m2\", which is only for storage: nothing computes in it"},
    {"optimizer: {kind: f8_e4m3}",
     "a.yaml:1:19: optimizer.kind: expected one of adamw|lion|muon|sgd, got "
     "\"f8_e4m3\""},
    {"precision: {loss_scale: {mode: dynamic}}",
     "a.yaml:1:32: precision.loss_scale.mode: expected one of "
     "auto|none|static|headroom|pytorch|megatron|deepspeed, got \"dynamic\""},
    {"precision: {loss_scale: {min: all}}",
     "a.yaml:1:31: precision.loss_scale.min: expected a number from 5.42101e-20 to "
     "1.84467441e+19, or auto, got \"all\""},
    {"precision: {loss_scale: {growth: 0}}",
     "a.yaml:1:34: precision.loss_scale.growth: expected a number from 2 to 65536, or auto, got "
     "\"0\""},
    {"data: {kind: csv}", "a.yaml:1:14: data.kind: expected one of "
                          "idx|text|tokens|random, got \"csv\""},
    {"data: {path: null}", "a.yaml:1:14: data.path: expected a text, got \"null\""},
    {"data: {path: {a: b}}", "a.yaml:1:14: data.path: expected a text, got a map"},
    {"model: {channels: ''}", "a.yaml:1:19: model.channels: expected a list of integers in "
                              "[ ], got \"\""},
    {"model: {channels: x}", "a.yaml:1:19: model.channels: expected an integer from 1 to "
                             "65536, got \"x\""},
    {"model: {channels: {a: 5}}", "a.yaml:1:19: model.channels: expected a list of integers "
                                  "in [ ], got a map"},
    {"model: {channels: [8, 0]}", "a.yaml:1:23: model.channels[1]: expected an integer from 1 "
                                  "to 65536, got \"0\""},
    {"precision: {overrides: [conv1]}", "a.yaml:1:25: precision.overrides[0]: expected a "
                                        "record such as {match: ...}"},
    {"precision: {overrides: [{match: a}]}", "a.yaml:1:25: precision.overrides[0]: the field "
                                             "\"compute\" is missing"},
    {"optimizer: {groups: [{match: a, lr_scale: -1}]}",
     "a.yaml:1:43: optimizer.groups[0].lr_scale: expected a number from 0 to 1000, got "
     "\"-1\""},
    {"train: 5", "a.yaml:1:8: train: expected keys and values, got a single value"},
    {"train: [5]", "a.yaml:1:8: train: expected keys and values, got a list"},
    {"[5]", "a.yaml:1:1: the configuration: expected keys and values, got a list"},
};

static void test_wrong_values(void **state) {
    (void)state;
    char *before = dump(true);
    for (size_t i = 0; i < sizeof wrong_values / sizeof wrong_values[0]; i++)
        refuse(load(wrong_values[i][0]), before, wrong_values[i][1]);
    mezzo_text_free(ctx, before);
}

static void test_yaml_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"train: {steps: 1}\nmodel: {kind: cnn}\ntrain: {seed: 2}",
         "a.yaml:3:1: duplicate key \"train\": it is already in line 1"},
        {"train: &t {steps: 1}", "a.yaml:1:8: an anchor (&t): write the value out where it is "
                                 "needed"},
        {"train: *t", "a.yaml:1:8: an alias (*t): write the value out, or put a text that starts "
                      "with * in quotes"},
        {"train: {steps: !!int 5}", "a.yaml:1:16: a tag (tag:yaml.org,2002:int): leave it out, "
                                    "the key says the type"},
        {"train: {steps: 1}\n---\ntrain: {seed: 1}", "a.yaml:2:1: a second document: a "
                                                     "configuration is one"},
        {"? [a, b]\n: 1", "a.yaml:1:3: a key must be a word, not a list or a map"},
        {"a: [[[[[[[[[[1]]]]]]]]]]", "a.yaml:1:12: nested deeper than 8 levels"},
        {"train: {steps: 1", "a.yaml:2:1: not valid YAML: did not find expected ',' or '}', "
                             "while parsing a flow mapping"},
        {"train:\n\tsteps: 1", "a.yaml:2:1: not valid YAML: found character that cannot start "
                               "any token, while scanning for the next token"},
        {"run:\n  name: \xff\n", "a.yaml:2:9: not valid YAML: invalid leading UTF-8 octet"},
        {"run: {name: \"a\\0b\"}", "a.yaml:1:13: a text with a NUL character in it"},
    };
    char *before = dump(true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(load(cases[i][0]), before, cases[i][1]);
    mezzo_text_free(ctx, before);
}

static char *repeat(const char *head, const char *piece, int count, const char *tail) {
    size_t bytes = strlen(head) + strlen(piece) * (size_t)count + strlen(tail) + 1;
    char *text = malloc(bytes);
    assert_non_null(text);
    size_t at = (size_t)snprintf(text, bytes, "%s", head);
    for (int i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, bytes - at, "%s", piece);
    snprintf(text + at, bytes - at, "%s", tail);
    return text;
}

static void test_limits(void **state) {
    (void)state;
    char *before = dump(true);
    char *text = repeat("model: {hidden: [", "1, ", 257, "]}");
    refuse(load(text), before, "a.yaml:1:17: model.hidden: a list of 257 items; the limit is 256");
    free(text);
    text = repeat("model: {hidden: [", "1, ", 256, "]}");
    assert_int_equal(load(text), MEZZO_OK);
    assert_int_equal(mezzo_config_count(config, "model.hidden"), 256);
    free(text);
    mezzo_text_free(ctx, before);
    before = dump(true);
    text = repeat("[", "1, ", 1025, "]");
    refuse(load(text), before, "a.yaml:1:3074: more than 1024 entries");
    free(text);
    text = repeat("run: {name: ", "x", 4097, "}");
    refuse(load(text), before, "a.yaml:1:13: a text of 4097 bytes; the limit is 4096");
    free(text);
    text = repeat("", "#\n", 524289, "");
    refuse(load(text), before, "a.yaml: 1048578 bytes; the limit for a configuration is 1048576");
    free(text);
    mezzo_text_free(ctx, before);
}

static void test_empty_is_fine(void **state) {
    (void)state;
    char *before = dump(true);
    static const char *const texts[] = {"", "# nothing\n", "---\n...\n", "train:\nrun: {}\n", "{}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_int_equal(load(texts[i]), MEZZO_OK);
    char *after = dump(true);
    assert_string_equal(before, after);
    mezzo_text_free(ctx, before);
    mezzo_text_free(ctx, after);
}

static void test_precedence_and_origins(void **state) {
    (void)state;
    assert_int_equal(load("train:\n  steps: 10\n  seed: 3\n  clip: 1\n"), MEZZO_OK);
    const char *const environment[] = {
        "PATH=/bin",           "MEZZO_TRAIN__STEPS=20",
        "MEZZO_SOURCE_DIR=x",  "MEZZO_PRECISION__LOSS_SCALE__MODE=none",
        "MEZZO_TRAIN__SEED=4", NULL};
    assert_int_equal(mezzo_config_set_environment(config, environment), MEZZO_OK);
    assert_int_equal(mezzo_config_set(config, "train.steps=30", "--steps"), MEZZO_OK);
    assert_int_equal(mezzo_config_int(config, "train.steps"), 30);
    assert_int_equal(mezzo_config_int(config, "train.seed"), 4);
    assert_true(mezzo_config_real(config, "train.clip") == 1.0);
    assert_string_equal(mezzo_config_text(config, "precision.loss_scale.mode"), "none");
    assert_string_equal(mezzo_config_origin(config, "train.steps"), "--steps");
    assert_string_equal(mezzo_config_origin(config, "train.seed"), "MEZZO_TRAIN__SEED");
    assert_string_equal(mezzo_config_origin(config, "train.clip"), "a.yaml:4");
    assert_string_equal(mezzo_config_origin(config, "train.isa"), "default");
}

static void test_assignments(void **state) {
    (void)state;
    assert_int_equal(mezzo_config_set(config, "model.hidden=[1, 2]", "--set"), MEZZO_OK);
    assert_int_equal(mezzo_config_int_at(config, "model.hidden", 1), 2);
    assert_int_equal(mezzo_config_set(config, "run.dir=/tmp/a #b: *c=d", "--set"), MEZZO_OK);
    assert_string_equal(mezzo_config_text(config, "run.dir"), "/tmp/a #b: *c=d");
    assert_int_equal(mezzo_config_set(config, "run.dir=\"q\\t\"", "--set"), MEZZO_OK);
    assert_string_equal(mezzo_config_text(config, "run.dir"), "q\t");
    assert_int_equal(mezzo_config_set(config, "run.dir=", "--set"), MEZZO_OK);
    assert_string_equal(mezzo_config_text(config, "run.dir"), "");
    assert_int_equal(mezzo_config_set(config, "optimizer={kind: sgd, lr: 0.1}", "--set"), MEZZO_OK);
    assert_string_equal(mezzo_config_text(config, "optimizer.kind"), "sgd");
    static const char *const cases[][2] = {
        {"train.steps", "--set: expected KEY=VALUE, got \"train.steps\""},
        {"=5", "--set: expected KEY=VALUE, got \"=5\""},
        {"train.steps=", "--set: train.steps: expected an integer from 0 to 1000000000, got "
                         "nothing"},
        {"train.steps=x", "--set: train.steps: expected an integer from 0 to 1000000000, got "
                          "\"x\""},
        {"train.steps=[1", "--set: not valid YAML: did not find expected ',' or ']', while "
                           "parsing a flow sequence"},
        {"train.step=1", "--set: unknown key \"train.step\"; did you mean \"train.steps\"?"},
        {"steps=1", "--set: unknown key \"steps\"; did you mean \"train.steps\"?"},
        {"a.b.c=1", "--set: unknown key \"a.b.c\"; the sections are: model, data, precision, "
                    "optimizer, schedule, train, run"},
        {"train=5", "--set: train: expected keys and values, got a single value"},
        {"run.name=\xff", "--set: run.name: the text is not UTF-8"},
    };
    char *before = dump(true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(mezzo_config_set(config, cases[i][0], "--set"), before, cases[i][1]);
    const char *const bad[] = {"MEZZO_TRAIN__SEED=9", "MEZZO_TRAIN__STEP=1", NULL};
    refuse(mezzo_config_set_environment(config, bad), before,
           "MEZZO_TRAIN__STEP: unknown key \"train.step\"; did you mean \"train.steps\"?");
    mezzo_text_free(ctx, before);
}

static void test_pins_without_the_gate(void **state) {
    (void)state;
    assert_int_equal(load("precision: {speed_gate: off, speed_pins: [{layer: a}]}"), MEZZO_OK);
    assert_int_equal(mezzo_config_check(config), MEZZO_OK);
    assert_non_null(strstr(logged, "precision.speed_pins has no effect with precision.speed_gate: "
                                   "off"));
}

static void test_check(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"model: {channels: []}", "a.yaml:1: model.channels: empty, and model.kind cnn needs a "
                                  "convolution; mlp is the kind without"},
        {"model: {channels: [8], pool_after: [2]}", "a.yaml:1: model.pool_after: convolution 2, "
                                                    "of the 1 in model.channels"},
        {"model: {pool_after: [2, 2]}", "a.yaml:1: model.pool_after: 2 behind 2: expected rising "
                                        "numbers"},
        {"model: {kind: gpt2}", "default: model.channels: 3 numbers, and model.kind gpt2 has one "
                                "width"},
        {"model: {kind: gpt2, channels: 100, heads: 3}",
         "a.yaml:1: model.channels: 100 is no multiple of model.heads, which is 3"},
        {"model: {kind: llama}", "default: model.channels: 3 numbers, and model.kind llama has one "
                                 "width"},
        {"model: {kind: llama, channels: 36, heads: 12}",
         "a.yaml:1: model.heads: heads of 3 channels, and rotary positions turn pairs: the number "
         "must be even"},
        {"model: {kind: llama, channels: 48, heads: 12, kv_heads: 5}",
         "a.yaml:1: model.kv_heads: 5 do not divide model.heads, which is 12"},
        {"precision: {loss_scale: {init: 1000}}",
         "a.yaml:1: precision.loss_scale.init: 1000 is no power of two, so scaling would round; "
         "the nearest below is 512"},
        {"precision: {loss_scale: {mode: megatron, min: 3}}",
         "a.yaml:1: precision.loss_scale.min: 3 is no power of two, so scaling would round; the "
         "nearest below is 2"},
        {"precision: {loss_scale: {max: 3e9}}",
         "a.yaml:1: precision.loss_scale.max: 3e+09 is no power of two, so scaling would round; "
         "the nearest below is 2.14748e+09"},
        {"train: {epochs: 0}", "a.yaml:1: train.epochs: 0, and train.steps is 0 too: nothing to "
                               "train"},
        {"schedule: {kind: cosine, lr_min: 1}", "a.yaml:1: schedule.lr_min: 1, above "
                                                "optimizer.lr, which is 0.001"},
        {"schedule: {kind: wsd, lr_min: 1}", "a.yaml:1: schedule.lr_min: 1, above optimizer.lr, "
                                             "which is 0.001"},
        {"optimizer: {kind: sgd, momentum: 0, nesterov: true}",
         "a.yaml:1: optimizer.nesterov: true, and optimizer.momentum is 0"},
        {"run: {name: a/b}", "a.yaml:1: run.name: \"a/b\" is no name of a directory: it must not "
                             "be empty, start with a dot or have a slash; run.dir takes a path"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        mezzo_config *copy = NULL;
        assert_int_equal(mezzo_config_copy(&copy, config), MEZZO_OK);
        assert_int_equal(mezzo_config_load_text(copy, "a.yaml", cases[i][0], strlen(cases[i][0])),
                         MEZZO_OK);
        assert_int_equal(mezzo_config_check(copy), MEZZO_CONFIG);
        assert_string_equal(message(), cases[i][1]);
        mezzo_config_destroy(copy);
    }
    assert_string_equal(logged, "");
    assert_int_equal(load("optimizer: {momentum: 0.5, beta1: 0.5}"), MEZZO_OK);
    assert_int_equal(mezzo_config_check(config), MEZZO_OK);
    assert_int_equal(load("train: {steps: 5}\nschedule: {warmup: 6}"), MEZZO_OK);
    assert_int_equal(mezzo_config_check(config), MEZZO_OK);
    static const char momentum[] =
        "a.yaml:1: optimizer.momentum has no effect with optimizer.kind: adamw\n";
    assert_memory_equal(logged, momentum, strlen(momentum));
    assert_int_equal(load("precision: {loss_scale: {mode: deepspeed, hysteresis: 3, growth: 4}}"),
                     MEZZO_OK);
    assert_int_equal(mezzo_config_check(config), MEZZO_OK);
    assert_non_null(strstr(logged, "precision.loss_scale.growth has no effect with "
                                   "precision.loss_scale.mode: deepspeed"));
    assert_null(strstr(logged, "hysteresis has no effect"));
    assert_non_null(strstr(logged, "a.yaml:2: schedule.warmup: 6 steps, of the 5 in train.steps"));
    assert_int_equal(load("train: {steps: 9}\nschedule: {kind: wsd, warmup: 6, decay: 4}"),
                     MEZZO_OK);
    assert_int_equal(mezzo_config_check(config), MEZZO_OK);
    assert_non_null(strstr(logged, "a.yaml:2: schedule.decay: 4 steps, and 3 of train.steps"));
}

static void test_dump_loads_back(void **state) {
    (void)state;
    assert_int_equal(load(valid), MEZZO_OK);
    const char *const texts[] = {"run.dir=null", "run.name=- a: b # c",
                                 "data.path=caf\xc3\xa9 \xe2\x80\xa8"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_int_equal(mezzo_config_set(config, texts[i], "--set\nevil: 1"), MEZZO_OK);
    char *plain = dump(false), *origins = dump(true);
    const char *const dumps[] = {plain, origins};
    for (int i = 0; i < 2; i++) {
        mezzo_config *other = NULL;
        char *again = NULL;
        assert_int_equal(mezzo_config_create(&other, ctx), MEZZO_OK);
        mezzo_status status = mezzo_config_load_text(other, "b.yaml", dumps[i], strlen(dumps[i]));
        assert_string_equal(message(), "");
        assert_int_equal(status, MEZZO_OK);
        assert_int_equal(mezzo_config_dump(other, false, &again), MEZZO_OK);
        assert_string_equal(plain, again);
        assert_string_equal(mezzo_config_text(other, "data.path"), "caf\xc3\xa9 \xe2\x80\xa8");
        assert_string_equal(mezzo_config_text(other, "run.dir"), "null");
        mezzo_text_free(ctx, again);
        mezzo_config_destroy(other);
    }
    assert_non_null(strstr(origins, "lr: 3e-4                                    # a.yaml:14\n"));
    assert_non_null(strstr(origins, "# --set?evil: 1\n"));
    mezzo_text_free(ctx, plain);
    mezzo_text_free(ctx, origins);
}

static void test_files(void **state) {
    (void)state;
    char path[] = "/tmp/mezzo-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, valid, sizeof valid - 1), sizeof valid - 1);
    assert_int_equal(mezzo_config_load(config, path), MEZZO_OK);
    assert_int_equal(mezzo_config_int(config, "train.steps"), 100);
    char *large = repeat("", "#\n", 524289, "");
    assert_int_equal(write(fd, large, strlen(large)), strlen(large));
    assert_int_equal(mezzo_config_load(config, path), MEZZO_CONFIG);
    assert_non_null(strstr(message(), "larger than 1048576 bytes"));
    free(large);
    close(fd);
    unlink(path);
    assert_int_equal(mezzo_config_load(config, path), MEZZO_IO);
    assert_non_null(strstr(message(), path));
    assert_int_equal(mezzo_config_int(config, "train.steps"), 100);
}

/* Real numbers do not depend on the decimal point of the process. */
static void test_locale(void **state) {
    (void)state;
    const char *found = setlocale(LC_NUMERIC, "de_DE.UTF-8");
    mezzo_status status = load("optimizer: {lr: 0.25}");
    setlocale(LC_NUMERIC, "C");
    assert_int_equal(status, MEZZO_OK);
    assert_true(mezzo_config_real(config, "optimizer.lr") == 0.25);
    if (!found)
        print_message("no German locale here: tested in the C locale only\n");
}

static void test_words(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        int distance;
    } cases[] = {{"", "", 0},         {"abc", "", 3},           {"", "abc", 3},
                 {"abc", "abc", 0},   {"kitten", "sitting", 3}, {"ab", "ba", 1},
                 {"abcd", "acbd", 1}, {"steps", "step", 1},     {"flaw", "lawn", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(mzi_words_distance(mzi_slice_of(cases[i].a), mzi_slice_of(cases[i].b)),
                         cases[i].distance);
}

/* Every truncation, and every byte replaced: an error or not, never more than that; what loads
 * dumps, and what does not load changes nothing. */
static void check_damaged(const char *text, size_t bytes, const char *before) {
    mezzo_config *other = NULL;
    char *after = NULL;
    assert_int_equal(mezzo_config_create(&other, ctx), MEZZO_OK);
    mezzo_status status = mezzo_config_load_text(other, "a.yaml", text, bytes);
    assert_true(status == MEZZO_OK || status == MEZZO_CONFIG);
    if (status == MEZZO_CONFIG)
        assert_memory_equal(message(), "a.yaml:", 7);
    assert_int_equal(mezzo_config_dump(other, false, &after), MEZZO_OK);
    if (status == MEZZO_CONFIG)
        assert_string_equal(before, after);
    else
        assert_int_equal(mezzo_config_load_text(other, "b.yaml", after, strlen(after)), MEZZO_OK);
    mezzo_text_free(ctx, after);
    mezzo_config_destroy(other);
}

static void test_damaged_files(void **state) {
    (void)state;
    static const char bytes[] = {'\0', '\n', '\t', ' ', '"', '\'', '{', '}', '[', ']', ':', ',',
                                 '#',  '&',  '*',  '!', '-', '?',  '|', '>', '%', '@', '9', '\xff'};
    char *before = dump(false);
    size_t size = sizeof valid - 1;
    for (size_t cut = 0; cut < size; cut++) {
        char *part = malloc(cut + 1); /* its end is the block's: a reader beyond it is found */
        assert_non_null(part);
        char *exact = realloc(part, cut > 0 ? cut : 1);
        assert_non_null(exact);
        memcpy(exact, valid, cut);
        check_damaged(exact, cut, before);
        free(exact);
    }
    char text[sizeof valid];
    for (size_t i = 0; i < size; i++) {
        memcpy(text, valid, size);
        text[i] = bytes[i % sizeof bytes];
        check_damaged(text, size, before);
        text[i] = bytes[(i * 7 + 3) % sizeof bytes];
        check_damaged(text, size, before);
    }
    mezzo_text_free(ctx, before);
}

/* An allocator that fails at its n-th call from now on. */
typedef struct failing {
    long left;
} failing;

static void *failing_alloc(void *user, size_t bytes, size_t align) {
    failing *f = user;
    if (f->left >= 0 && f->left-- == 0)
        return NULL;
    return aligned_alloc(align, (bytes + align - 1) / align * align);
}

static void failing_free(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)bytes;
    free(memory);
}

static void test_out_of_memory(void **state) {
    (void)state;
    failing f = {-1};
    mezzo_ctx_config wanted = {.threads = 1, .allocator = {failing_alloc, failing_free, &f}};
    mezzo_ctx *own = NULL;
    mezzo_config *made = NULL;
    char *before = NULL, *after = NULL;
    assert_int_equal(mezzo_ctx_create(&own, &wanted, NULL), MEZZO_OK);
    uint64_t empty = mezzo_ctx_memory(own).bytes_used;
    long failures = 0;
    for (mezzo_status status = MEZZO_OUT_OF_MEMORY; status != MEZZO_OK; failures++) {
        f.left = failures;
        status = mezzo_config_create(&made, own);
        assert_true(status == MEZZO_OK || status == MEZZO_OUT_OF_MEMORY);
        assert_true(status == MEZZO_OK || mezzo_ctx_memory(own).bytes_used == empty);
    }
    assert_true(failures > 1);
    f.left = -1;
    assert_int_equal(mezzo_config_dump(made, true, &before), MEZZO_OK);
    for (f.left = 0; mezzo_config_load_text(made, "a.yaml", valid, strlen(valid)) != MEZZO_OK;
         f.left = failures++) {
        assert_int_equal(mezzo_ctx_error(own)->status, MEZZO_OUT_OF_MEMORY);
        f.left = -1;
        assert_int_equal(mezzo_config_dump(made, true, &after), MEZZO_OK);
        assert_string_equal(before, after);
        mezzo_text_free(own, after);
    }
    mezzo_text_free(own, before);
    mezzo_config_destroy(made);
    assert_int_equal(mezzo_ctx_memory(own).bytes_used, empty);
    mezzo_ctx_destroy(own);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_wrong_getters),
        TEST(test_values),
        TEST(test_words_for_numbers),
        TEST(test_field_defaults),
        TEST(test_unknown_keys),
        TEST(test_wrong_values),
        TEST(test_yaml_refused),
        TEST(test_limits),
        TEST(test_empty_is_fine),
        TEST(test_precedence_and_origins),
        TEST(test_assignments),
        TEST(test_pins_without_the_gate),
        TEST(test_check),
        TEST(test_dump_loads_back),
        TEST(test_files),
        TEST(test_locale),
        TEST(test_words),
        TEST(test_damaged_files),
        TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
