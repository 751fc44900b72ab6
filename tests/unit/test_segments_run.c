/* Gradient segments through whole runs: measured on the first batch, in the plan, pinned. */
#include <math.h>

#include <jansson.h>

#include "base/ctx.h"
#include "mezzo/ops.h"
#include "mezzo/run.h"
#include "unit/tempdir.h"

static mezzo_ctx *ctx;
static mezzo_runner *runner;
static mezzo_config *config;
static char folder[256];

#define OK(expression)                                                                             \
    do {                                                                                           \
        if ((expression) != MEZZO_OK)                                                              \
            fail_msg("%s: %s", #expression, mezzo_ctx_error(ctx)->text);                           \
    } while (0)

static void set(const char *assignment) {
    OK(mezzo_config_set(config, assignment, "test"));
}

static mezzo_value tower(mezzo_graph *graph, const char *name, mezzo_value x, mezzo_value labels,
                         int64_t vocab, float weight, mezzo_value counts[2]) {
    mezzo_scope_push(graph, name);
    x = mezzo_relu(graph, mezzo_linear(graph, "fc", x, 24, true));
    x = mezzo_linear(graph, "head", x, vocab, true);
    mezzo_value loss = mezzo_softmax_cross_entropy(graph, x, labels, &counts[0], &counts[1]);
    mezzo_scope_pop(graph);
    return mezzo_scale(graph, loss, weight);
}

/* Two losses of one embedding, whose weights are 1 and `far`. */
static mezzo_status build(mezzo_graph *graph, const mezzo_data_shape *shape, float near,
                          float far) {
    mezzo_shape rows = mezzo_shape2(shape->batch, shape->context);
    mezzo_value tokens = mezzo_input(graph, "tokens", MEZZO_I32, rows), none = {0}, counts[2];
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, rows);
    mezzo_value table = mezzo_param(graph, "table", mezzo_shape2(shape->classes, 24),
                                    (mezzo_init){MEZZO_INIT_NORMAL, 1.0f});
    mezzo_value x = mezzo_embedding(graph, "embedding", tokens, table, none, none);
    mezzo_value a = tower(graph, "near", x, labels, shape->classes, near, counts);
    mezzo_value b = tower(graph, "far", x, labels, shape->classes, far, counts);
    mezzo_output(graph, "correct", counts[0]);
    mezzo_output(graph, "valid", counts[1]);
    mezzo_loss(graph, mezzo_add(graph, a, b));
    return MEZZO_OK;
}

static mezzo_status build_wide(mezzo_graph *graph, const mezzo_config *settings,
                               const mezzo_data_shape *shape) {
    (void)settings;
    return build(graph, shape, 0x1p14f, 0x1p-30f);
}

static mezzo_status build_even(mezzo_graph *graph, const mezzo_config *settings,
                               const mezzo_data_shape *shape) {
    (void)settings;
    return build(graph, shape, 1.0f, 1.0f);
}

static int begin(void **state) {
    (void)state;
    static const mezzo_model_kind wide = {
        .name = "wide", .help = "", .data = MEZZO_DATA_TOKENS, .build = build_wide};
    static const mezzo_model_kind even = {
        .name = "even", .help = "", .data = MEZZO_DATA_TOKENS, .build = build_even};
    const mezzo_ctx_config settings = {.threads = 1};
    tempdir_make(folder);
    if (mezzo_ctx_create(&ctx, &settings, NULL) != MEZZO_OK)
        return -1;
    OK(mezzo_runner_create(&runner, ctx));
    OK(mezzo_runner_add_kind(runner, &wide));
    OK(mezzo_runner_add_kind(runner, &even));
    OK(mezzo_config_create(&config, ctx));
    set("model.kind=wide");
    set("model.context=8");
    set("data.kind=random");
    set("data.vocab=16");
    set("data.batch=4");
    set("data.limit=64");
    set("data.test_limit=8");
    set("train.accumulate=2");
    set("train.steps=6");
    set("precision.compute=f16");
    set("precision.loss_scale.segments=auto");
    return 0;
}

static int end(void **state) {
    (void)state;
    mezzo_config_destroy(config);
    mezzo_runner_destroy(runner);
    mezzo_ctx_destroy(ctx);
    tempdir_remove(folder);
    return 0;
}

static json_t *plan_json(void) {
    char *text = NULL;
    OK(mezzo_run_plan(runner, config, true, &text));
    json_t *plan = json_loads(text, 0, NULL);
    assert_non_null(plan);
    mezzo_text_free(ctx, text);
    return plan;
}

static mezzo_summary train(const char *name) {
    char assignment[400];
    mezzo_summary summary;
    snprintf(assignment, sizeof assignment, "run.dir=%s/%s", folder, name);
    set(assignment);
    OK(mezzo_run_train(runner, config, NULL, &summary));
    return summary;
}

static void plan_lists_them(void **state) {
    (void)state;
    char *text = NULL;
    json_t *plan = plan_json();
    const json_t *segments = json_object_get(plan, "segments");
    assert_true(json_array_size(segments) >= 2);
    for (size_t k = 0; k < json_array_size(segments); k++) {
        const json_t *s = json_array_get(segments, k);
        double low = json_real_value(json_object_get(s, "low"));
        double high = json_real_value(json_object_get(s, "high"));
        double held =
            high * ldexp(1.0, 16 + (int)json_integer_value(json_object_get(s, "exponent")));
        assert_true(low > 0.0 && low <= high);
        assert_true(held >= 0x1p-4 && held <= 0x1p12);
    }
    OK(mezzo_run_plan(runner, config, false, &text));
    assert_non_null(strstr(text, "\nsegments    "));
    assert_non_null(strstr(text, "held 2^"));    /* the reason of a factor... */
    assert_non_null(strstr(text, " segment  ")); /* ...and its rule */
    mezzo_text_free(ctx, text);
    json_decref(plan);
    set("precision.loss_scale.segments=off");
    plan = plan_json();
    assert_int_equal(json_array_size(json_object_get(plan, "segments")), 0);
    json_decref(plan);
}

/* The same segments from the configuration as measured: the same plan, the same run. */
static void pinned(void **state) {
    (void)state;
    char list[2000] = "precision.loss_scale.pinned_segments=[";
    json_t *plan = plan_json();
    const json_t *segments = json_object_get(plan, "segments");
    for (size_t k = 0; k < json_array_size(segments); k++) {
        const json_t *s = json_array_get(segments, k);
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s{from: %s, exponent: %d}", k ? ", " : "",
                 json_string_value(json_object_get(s, "from")),
                 (int)json_integer_value(json_object_get(s, "exponent")));
    }
    size_t used = strlen(list);
    snprintf(list + used, sizeof list - used, "]");
    mezzo_summary measured = train("measured");
    set("precision.loss_scale.segments=off");
    set(list);
    mezzo_summary given = train("given");
    assert_string_equal(measured.plan_hash, given.plan_hash);
    assert_true(measured.loss_last == given.loss_last);
    assert_int_equal(measured.skipped_steps, 0);
    json_decref(plan);
    set("precision.loss_scale.pinned_segments=[]");
    mezzo_summary off = train("off");
    assert_string_not_equal(measured.plan_hash, off.plan_hash);
    assert_true(off.skipped_steps > 0); /* one scale has to come down */
}

/* Where one scale does, `auto` changes nothing: not the plan, not the data that training sees. */
static void none_needed(void **state) {
    (void)state;
    set("model.kind=even");
    mezzo_summary automatic = train("auto");
    set("precision.loss_scale.segments=off");
    mezzo_summary off = train("off");
    assert_string_equal(automatic.plan_hash, off.plan_hash);
    assert_true(automatic.loss_first == off.loss_first);
    assert_true(automatic.loss_last == off.loss_last);
}

static void not_whole(void **state) {
    (void)state;
    char *text = NULL;
    set("precision.loss_scale.pinned_segments=[{from: near.head/dx, exponent: 1.5}]");
    assert_int_equal(mezzo_run_plan(runner, config, false, &text), MEZZO_CONFIG);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "1.5, not a whole number"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plan_lists_them, begin, end),
        cmocka_unit_test_setup_teardown(pinned, begin, end),
        cmocka_unit_test_setup_teardown(none_needed, begin, end),
        cmocka_unit_test_setup_teardown(not_whole, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
