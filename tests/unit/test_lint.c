/* Every rule of lint.def: an example that it finds and one that it does not; no finding in any
 * example of the repository. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/lint.h"
#include "mezzo/models.h"
#include "mezzo/ops.h"
#include "run/runner.h"
#include "train/model.h"
#include "unit/cmocka_all.h"

static mezzo_ctx *ctx;
static mezzo_runner *runner;
static char logged[1000];

#define OK(expression)                                                                             \
    do {                                                                                           \
        if ((expression) != MEZZO_OK)                                                              \
            fail_msg("%s: %s", #expression, mezzo_ctx_error(ctx)->text);                           \
    } while (0)

static void on_log(void *user, mezzo_log_level level, const char *text) {
    (void)user;
    if (level == MEZZO_LOG_WARNING)
        snprintf(logged, sizeof logged, "%s", text);
}

/* Below the instructions for BF16, so that C004 has something to find on every machine. */
static int setup(void **state) {
    (void)state;
    const mezzo_ctx_config config = {.threads = 1, .isa = MEZZO_ISA_REF, .log = on_log};
    if (mezzo_ctx_create(&ctx, &config, NULL) != MEZZO_OK ||
        mezzo_runner_create(&runner, ctx) != MEZZO_OK)
        return -1;
    return mezzo_models_register(runner) == MEZZO_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    mezzo_runner_destroy(runner);
    mezzo_ctx_destroy(ctx);
    return 0;
}

/* Operations of a user: x with a constant, in the operation's own type or in FP32. */
static mezzo_status same(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[0].shape};
    return MEZZO_OK;
}
static mezzo_status pass_gradient(const mezzo_op_gradient *use) {
    use->din[0] = use->dout[0];
    return MEZZO_OK;
}
static void nothing(const mezzo_op_operands *operands, int64_t begin, int64_t end) {
    (void)operands;
    (void)begin;
    (void)end;
}
#define OWN(op_name, role)                                                                         \
    {                                                                                              \
        .name = op_name, .reals = op_name, .real_roles = role, .in_min = 1, .in_max = 1,           \
        .out_count = 1, .cast = MEZZO_CAST_FOLLOW, .infer = same, .gradient = pass_gradient,       \
        .run = nothing                                                                             \
    }
static const mezzo_op_def own_mask = OWN("mask", "mask"), own_mask32 = OWN("mask32", "mask:f32"),
                          own_eps = OWN("eps", "epsilon"), own_eps32 = OWN("eps32", "epsilon:f32"),
                          own_divisor = OWN("divisor", "divisor"),
                          own_divisor32 = OWN("divisor32", "divisor:f32"),
                          own_factor = OWN("factor", "factor"), own_typo = OWN("typo", "epsilom");

/* What is built, in the compute type `low`: a layer, then the operation with its constant. */
typedef enum shape_of_net {
    NET_OWN,     /* `op` with `value`                                        */
    NET_LAYER,   /* mezzo_layer_norm with eps `value`                        */
    NET_SCALE,   /* mezzo_scale by `value`                                   */
    NET_DROPOUT, /* at rate `value`                                          */
    NET_WEIGHTS, /* a linear layer of 4096 inputs whose weights are `value`  */
    NET_NORMAL,  /* likewise, normal with that deviation                     */
    NET_MEAN,    /* the mean of 2^19 elements of some 0.23, the operation behind the sum in `low` */
    NET_DEEP     /* 100 layers of 64 columns, each relu of a linear with He's deviation */
} shape_of_net;

typedef struct example {
    const char *rule;
    bool found;
    shape_of_net net;
    double value;
    const mezzo_op_def *op;
    mezzo_dtype low;
} example;

static const example examples[] = {
    {"L001", true, NET_OWN, 1e-8, &own_eps, MEZZO_F16},
    {"L001", true, NET_OWN, 1e-5, &own_eps, MEZZO_F16}, /* subnormal */
    {"L001", true, NET_OWN, 0.0, &own_eps32, MEZZO_BF16},
    {"L001", true, NET_LAYER, 1e-40, NULL, MEZZO_F32},
    {"L001", false, NET_OWN, 1e-4, &own_eps, MEZZO_F16},
    {"L001", false, NET_OWN, 1e-8, &own_eps32, MEZZO_F16},
    {"L001", false, NET_OWN, 1e-8, &own_eps, MEZZO_BF16},
    {"L001", false, NET_LAYER, 1e-12, NULL, MEZZO_F16},
    {"L002", true, NET_SCALE, 1e-9, NULL, MEZZO_F16},
    {"L002", true, NET_SCALE, -1e5, NULL, MEZZO_F16},
    {"L002", true, NET_OWN, 1e5, &own_factor, MEZZO_F16},
    {"L002", true, NET_DROPOUT, 0.99999994, NULL, MEZZO_F16},
    {"L002", true, NET_WEIGHTS, 1e5, NULL, MEZZO_F16},
    {"L002", true, NET_NORMAL, 1e-8, NULL, MEZZO_F16},
    {"L002", false, NET_SCALE, 1e-9, NULL, MEZZO_BF16},
    {"L002", false, NET_SCALE, 1e5, NULL, MEZZO_F32},
    {"L002", false, NET_SCALE, 0.0, NULL, MEZZO_F16},
    {"L002", false, NET_SCALE, 1000.0, NULL, MEZZO_F16},
    {"L002", false, NET_DROPOUT, 0.9, NULL, MEZZO_F16},
    {"L002", false, NET_NORMAL, 0.02, NULL, MEZZO_F16},
    {"L003", true, NET_OWN, -1e9, &own_mask, MEZZO_F16},
    {"L003", true, NET_OWN, 65520.0, &own_mask, MEZZO_F16}, /* the first that rounds to infinity */
    {"L003", true, NET_OWN, -3.4e38, &own_mask, MEZZO_BF16},
    {"L003", false, NET_OWN, 65519.0, &own_mask, MEZZO_F16},
    {"L003", false, NET_OWN, -1e9, &own_mask, MEZZO_BF16},
    {"L003", false, NET_OWN, -1e9, &own_mask32, MEZZO_F16},
    {"L003", false, NET_OWN, -(double)INFINITY, &own_mask, MEZZO_F16},
    {"L004", true, NET_OWN, 1e5, &own_divisor, MEZZO_F16},
    {"L004", true, NET_OWN, 1e-9, &own_divisor, MEZZO_F16},
    {"L004", true, NET_OWN, 1e9, &own_divisor32, MEZZO_F16},
    {"L004", false, NET_OWN, 1e4, &own_divisor, MEZZO_F16},
    {"L004", false, NET_OWN, 1e5, &own_divisor, MEZZO_BF16},
    {"L004", false, NET_OWN, 1e5, &own_divisor32, MEZZO_F16},
    {"L005", true, NET_WEIGHTS, 100.0, NULL, MEZZO_F16}, /* 4096 x 100 */
    {"L005", true, NET_NORMAL, 2000.0, NULL, MEZZO_F16}, /* 64 x 2000 */
    {"L005", true, NET_MEAN, 0.0, NULL, MEZZO_F16},      /* a sum of some 120,000 */
    {"L005", false, NET_WEIGHTS, 10.0, NULL, MEZZO_F16},
    {"L005", false, NET_NORMAL, 900.0, NULL, MEZZO_F16},
    {"L005", false, NET_WEIGHTS, 100.0, NULL, MEZZO_BF16},
    {"L005", false, NET_MEAN, 0.0, NULL, MEZZO_BF16},
    {"L005", false, NET_DEEP, 1.0, NULL, MEZZO_F16},
    {"L005", true, NET_DEEP, 1.5, NULL, MEZZO_F16}, /* 1.5^100 */
    {"L006", true, NET_SCALE, 1e-5, NULL, MEZZO_F16},
    {"L006", true, NET_OWN, 3e4, &own_divisor, MEZZO_F16},
    {"L006", false, NET_SCALE, 1e-3, NULL, MEZZO_F16},
    {"L006", false, NET_SCALE, 1e-5, NULL, MEZZO_BF16},
};

static mezzo_value with_weights(mezzo_graph *graph, mezzo_value x, mezzo_init_kind kind, double a) {
    mezzo_shape shape = mezzo_value_shape(graph, x);
    mezzo_value w =
        mezzo_param(graph, "w", mezzo_shape2(3, shape.dim[1]), (mezzo_init){kind, (float)a});
    return mezzo_linear_with(graph, "fc", x, w, (mezzo_value){0});
}

static mezzo_value deep(mezzo_graph *graph, mezzo_value x, double times) {
    for (int k = 0; k < 100; k++) {
        char name[16];
        snprintf(name, sizeof name, "fc%d", k);
        int64_t K = mezzo_value_shape(graph, x).dim[1];
        mezzo_value w =
            mezzo_param(graph, name, mezzo_shape2(64, K),
                        (mezzo_init){MEZZO_INIT_NORMAL, (float)(times * sqrt(2.0 / (double)K))});
        x = mezzo_relu(graph, mezzo_linear_with(graph, name, x, w, (mezzo_value){0}));
    }
    return x;
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const example *e = user;
    mezzo_attrs attrs = {.f = {e->value}};
    bool wide = e->net == NET_WEIGHTS || e->net == NET_NORMAL;
    mezzo_shape shape =
        e->net == NET_MEAN ? mezzo_shape2(4096, 128) : mezzo_shape2(4, wide ? 4096 : 8);
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, shape);
    if (e->net == NET_MEAN) {
        mezzo_loss(graph,
                   mezzo_mean(graph, mezzo_relu(graph, mezzo_linear(graph, "fc", x, 128, true))));
        return MEZZO_OK;
    }
    if (!wide && e->net != NET_DEEP)
        x = mezzo_linear(graph, "first", x, 8, true);
    switch (e->net) {
    case NET_OWN:
        x = mezzo_apply(graph, e->op, "mine", &x, 1, &attrs, NULL);
        break;
    case NET_LAYER:
        x = mezzo_layer_norm(graph, "norm", x, (float)e->value, true);
        break;
    case NET_SCALE:
        x = mezzo_scale(graph, x, (float)e->value);
        break;
    case NET_DROPOUT:
        x = mezzo_dropout(graph, "drop", x, (float)e->value);
        break;
    case NET_WEIGHTS:
        x = with_weights(graph, x, MEZZO_INIT_CONSTANT, e->value);
        break;
    case NET_NORMAL:
        x = with_weights(graph, x, MEZZO_INIT_NORMAL, e->value);
        break;
    case NET_DEEP:
        x = deep(graph, x, e->value);
        break;
    case NET_MEAN:
        break;
    }
    mezzo_loss(graph, mezzo_sum(graph, x));
    return MEZZO_OK;
}

static mezzo_status make(mezzo_model **out, const example *e, mezzo_lint_mode mode) {
    static const mezzo_override scales = {"scale*", MEZZO_F16};
    mezzo_model_config config = {.build = build,
                                 .user = (void *)(uintptr_t)e,
                                 .precision = {.compute = e->low, .lint = mode}};
    if (e->net == NET_MEAN && e->low == MEZZO_F16) {
        config.precision.overrides = &scales;
        config.precision.override_count = 1;
    }
    return mezzo_model_create(out, ctx, &config, MEZZO_ENTRY_TRAIN);
}

/* How often the rule is found in the graph. */
static int count_in_graph(const example *e, mezzo_finding *last) {
    mezzo_model *model = NULL;
    mezzo_graph *graph = NULL;
    int found = 0;
    OK(make(&model, e, MEZZO_LINT_OFF));
    OK(mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph));
    for (int32_t k = 0; k < graph->finding_count; k++) {
        if (strcmp(graph->findings[k].rule->id, e->rule) != 0)
            continue;
        *last = graph->findings[k];
        assert_true(strlen(last->text) > 0 && strlen(last->fix) > 0 && strlen(last->where) > 0);
        found++;
    }
    mzi_graph_destroy(graph);
    mezzo_model_destroy(model);
    return found;
}

static void test_rules_of_graphs(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t k = 0; k < sizeof examples / sizeof *examples; k++) {
        mezzo_finding last = {0};
        int found = count_in_graph(&examples[k], &last);
        bool right = examples[k].found ? found > 0 : found == 0;
        if (!right)
            print_error("example %zu: %s is found %d times\n", k, examples[k].rule, found);
        wrong += !right;
    }
    assert_int_equal(wrong, 0);
}

/* A configuration on top of `base`, ended by null. */
typedef struct setting {
    const char *rule;
    bool found;
    const char *assignments[4];
} setting;

static const char *const base[] = {
    "model={kind: gpt2, layers: 1, heads: 1, channels: 8, context: 8}",
    "data={kind: random, vocab: 16, batch: 2, test_limit: 2}", "train.steps=10",
    "precision.compute=f32"};

static const setting settings[] = {
    {"L007", true, {"optimizer.eps=1e-23"}},
    {"L007", true, {"optimizer.kind=muon", "optimizer.eps=1e-30"}},
    {"L007", false, {"optimizer.eps=1e-22"}},
    {"L007", false, {"optimizer.kind=lion", "optimizer.eps=1e-30"}},
    {"C001", true, {"precision.compute=f16", "precision.loss_scale.mode=none"}},
    {"C001", true, {"precision.compute=f16", "precision.loss_scale={mode: static, init: 1}"}},
    {"C001",
     true,
     {"precision.overrides=[{match: head, compute: f16}]", "precision.loss_scale.mode=none"}},
    {"C001", false, {"precision.loss_scale.mode=none"}},
    {"C001", false, {"precision.compute=f16"}},
    {"C002", true, {"precision.overrides=[{match: nothing, compute: f32}]"}},
    {"C002", true, {"train.recompute=[{match: '!nothing'}]"}},
    {"C002", true, {"optimizer.groups=[{match: nothing}]"}},
    {"C002",
     false,
     {"precision.overrides=[{match: head, compute: f32}]", "train.recompute=[{match: 'h.0.*'}]",
      "optimizer.groups=[{match: wte.weight}]"}},
    {"C003", true, {"schedule.warmup=10"}},
    {"C003", true, {"schedule.warmup=11"}},
    {"C003", false, {"schedule.warmup=9"}},
    {"C003", false, {"schedule.warmup=0"}},
    {"C004", true, {"precision.compute=bf16", "precision.speed_gate=off"}},
    {"C004", false, {"precision.compute=bf16"}},
    {"C004", false, {"precision.compute=f16"}},
    /* 16 rows: S / 32 is beyond 65504 from 2^21 on. */
    {"C005", true, {"precision.compute=f16", "precision.loss_scale={mode: static, init: 2097152}"}},
    {"C005",
     false,
     {"precision.compute=f16", "precision.loss_scale={mode: static, init: 1048576}"}},
    {"C005",
     false,
     {"precision.compute=f16", "precision.loss_scale={mode: megatron, init: 4294967296}"}},
    {"C006", true, {"precision.loss_scale.mode=pytorch"}},
    {"C006", false, {"precision.loss_scale.mode=auto"}},
    {"C006", false, {"precision.compute=f16", "precision.loss_scale.mode=pytorch"}},
    {"C007", true, {"precision.compute=f16", "precision.master=split"}},
    {"C007", true, {"precision.compute=f32", "precision.master=bf16"}},
    {"C007",
     false,
     {"precision.compute=bf16", "precision.master=split", "precision.speed_gate=off"}},
    {"C007", true, {"precision.compute=bf16", "precision.master=split"}}, /* the gate: f32 */
    {"C007", false, {"precision.compute=f16"}},
    {"C008", true, {"precision.gradients=bf16"}},
    {"C008", true, {"precision.compute=f16", "precision.gradients=bf16"}},
    {"C008", true, {"precision.compute=bf16", "precision.gradients=bf16"}}, /* the gate: f32 */
    {"C008",
     false,
     {"precision.compute=bf16", "precision.gradients=bf16", "precision.speed_gate=off"}},
    {"C008", false, {"precision.gradients=f32"}},
    {"C008", false, {"precision.gradients=auto"}},
};

static mezzo_config *configure(const char *const *assignments, int count) {
    mezzo_config *config = NULL;
    OK(mezzo_config_create(&config, ctx));
    for (size_t k = 0; k < sizeof base / sizeof *base; k++)
        OK(mezzo_config_set(config, base[k], "base"));
    for (int k = 0; k < count && assignments[k]; k++)
        OK(mezzo_config_set(config, assignments[k], "here"));
    OK(mezzo_config_check(config));
    return config;
}

static mezzo_lint_severity severity_of(const char *id) {
    int r = 0;
    while (strcmp(mezzo_lint_rule_at(r)->id, id) != 0)
        r++;
    return mezzo_lint_rule_at(r)->severity;
}

static void test_rules_of_configurations(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t k = 0; k < sizeof settings / sizeof *settings; k++) {
        mezzo_config *config = configure(settings[k].assignments, 4);
        char *text = NULL, quoted[32];
        int errors = -1;
        OK(mezzo_run_lint(runner, config, true, &text, &errors));
        snprintf(quoted, sizeof quoted, "\"rule\":\"%s\"", settings[k].rule);
        if ((strstr(text, quoted) != NULL) != settings[k].found) {
            print_error("setting %zu: %s is %sexpected: %s\n", k, settings[k].rule,
                        settings[k].found ? "" : "not ", text);
            wrong++;
        }
        assert_int_equal(errors,
                         settings[k].found && severity_of(settings[k].rule) == MEZZO_LINT_ERROR);
        mezzo_text_free(ctx, text);
        mezzo_config_destroy(config);
    }
    assert_int_equal(wrong, 0);
}

/* A rule without an example of either kind is not tested. */
static void test_every_rule_has_examples(void **state) {
    (void)state;
    const mezzo_lint_rule *rule;
    for (int r = 0; (rule = mezzo_lint_rule_at(r)) != NULL; r++) {
        int count[2] = {0, 0};
        for (size_t k = 0; k < sizeof examples / sizeof *examples; k++)
            count[examples[k].found] += strcmp(examples[k].rule, rule->id) == 0;
        for (size_t k = 0; k < sizeof settings / sizeof *settings; k++)
            count[settings[k].found] += strcmp(settings[k].rule, rule->id) == 0;
        if (count[0] == 0 || count[1] == 0)
            fail_msg("%s has %d examples that it finds and %d that it does not", rule->id, count[1],
                     count[0]);
        assert_true(strlen(rule->title) > 0 && strlen(rule->why) > 0 && strlen(rule->fix) > 0);
    }
}

static void test_errors_stop_warnings_are_logged(void **state) {
    (void)state;
    const example mask = {"L003", true, NET_OWN, -1e9, &own_mask, MEZZO_F16};
    const example small = {"L006", true, NET_SCALE, 1e-5, NULL, MEZZO_F16};
    mezzo_model *model = NULL;
    mezzo_plan_info info;
    assert_int_equal(make(&model, &mask, MEZZO_LINT_STOP), MEZZO_CONFIG);
    assert_null(model);
    const char *text = mezzo_ctx_error(ctx)->text;
    assert_non_null(strstr(text, "L003: `mine`: mask = -1e+09 is -infinity in f16"));
    assert_non_null(strstr(text, "precision.overrides: [{match: \"mine\", compute: f32}]"));
    static const struct {
        mezzo_lint_mode mode;
        const char *said;
    } modes[] = {{MEZZO_LINT_REPORT, "L003: `mine`"}, {MEZZO_LINT_OFF, ""}};
    for (size_t k = 0; k < 2; k++) {
        mezzo_finding finding;
        OK(make(&model, &mask, modes[k].mode));
        logged[0] = '\0';
        OK(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info));
        assert_int_equal(info.finding_count, 1);
        assert_int_equal(strncmp(logged, modes[k].said, strlen(modes[k].said)), 0);
        assert_int_equal(logged[0] == '\0', modes[k].mode == MEZZO_LINT_OFF);
        OK(mezzo_model_finding(model, MEZZO_ENTRY_TRAIN, 0, &finding));
        assert_true(finding.value == -1e9 && finding.dtype == MEZZO_F16);
        assert_int_equal(mezzo_model_finding(model, MEZZO_ENTRY_TRAIN, 1, &finding),
                         MEZZO_INVALID_ARGUMENT);
        mezzo_model_destroy(model);
        model = NULL;
    }
    OK(make(&model, &small, MEZZO_LINT_STOP));
    logged[0] = '\0';
    OK(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info));
    assert_non_null(strstr(logged, "L006: `scale1`"));
    mezzo_model_destroy(model);
}

/* The fix that is offered helps. */
static mezzo_status build_mask(mezzo_graph *graph, void *user) {
    static const example mask = {"L003", true, NET_OWN, -1e9, &own_mask, MEZZO_F16};
    (void)user;
    return build(graph, (void *)(uintptr_t)&mask);
}

static void test_an_override_is_the_way_out(void **state) {
    (void)state;
    const mezzo_override wide = {"mine", MEZZO_F32};
    const mezzo_model_config config = {
        .build = build_mask,
        .precision = {.compute = MEZZO_F16, .overrides = &wide, .override_count = 1}};
    mezzo_model *model = NULL;
    OK(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    mezzo_model_destroy(model);
}

/* A user's kind: tokens through an embedding, masked in the type that is computed in. */
static mezzo_status build_own_kind(mezzo_graph *graph, const mezzo_config *config,
                                   const mezzo_data_shape *shape) {
    (void)config;
    const mezzo_shape ids = mezzo_shape2(shape->batch, shape->context);
    const mezzo_attrs attrs = {.f = {-1e9}};
    mezzo_value tokens = mezzo_input(graph, "tokens", MEZZO_I32, ids);
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, ids), correct, valid;
    mezzo_value table = mezzo_param(graph, "table", mezzo_shape2(shape->classes, shape->classes),
                                    (mezzo_init){MEZZO_INIT_NORMAL, 0.02f});
    mezzo_value x =
        mezzo_embedding(graph, "embedding", tokens, table, (mezzo_value){0}, (mezzo_value){0});
    x = mezzo_apply(graph, &own_mask, "mine", &x, 1, &attrs, NULL);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, x, labels, &correct, &valid));
    mezzo_output(graph, "correct", correct);
    mezzo_output(graph, "valid", valid);
    return MEZZO_OK;
}

static void test_a_run_stops_and_lint_goes_on(void **state) {
    (void)state;
    static const mezzo_model_kind kind = {
        .name = "masked", .help = "", .data = MEZZO_DATA_TOKENS, .build = build_own_kind};
    const char *const own[] = {"model.kind=masked", "precision.compute=f16"};
    mezzo_config *config = configure(own, 2);
    char *text = NULL;
    int errors = 0;
    OK(mezzo_runner_add_kind(runner, &kind));
    assert_int_equal(mezzo_run_plan(runner, config, false, &text), MEZZO_CONFIG);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "L003: `mine`"));
    OK(mezzo_run_lint(runner, config, false, &text, &errors));
    assert_int_equal(errors, 1);
    assert_non_null(strstr(text, "L003 error    mine\n"));
    mezzo_text_free(ctx, text);
    OK(mezzo_config_set(config, "precision.lint=warn", "here"));
    logged[0] = '\0';
    OK(mezzo_run_plan(runner, config, false, &text));
    assert_non_null(strstr(logged, "L003: `mine`"));
    mezzo_text_free(ctx, text);
    mezzo_config_destroy(config);
}

static void test_unknown_role(void **state) {
    (void)state;
    const example typo = {"L001", false, NET_OWN, 1.0, &own_typo, MEZZO_F16};
    mezzo_model *model = NULL;
    assert_int_equal(make(&model, &typo, MEZZO_LINT_STOP), MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "role \"epsilom\""));
}

/* The networks of examples/, of the data that they were made for, without memory for them. */
typedef struct source {
    mezzo_config *config;
    const mezzo_model_kind *kind;
    mezzo_data_shape shape;
} source;

static mezzo_status build_source(mezzo_graph *graph, void *user) {
    const source *s = user;
    return s->kind->build(graph, s->config, &s->shape);
}

static int findings_of(const source *s, mezzo_dtype compute, mezzo_entry entry) {
    mezzo_graph *graph = NULL;
    const mezzo_precision precision = {.compute = compute};
    OK(mzi_graph_create(&graph, ctx, entry));
    OK(build_source(graph, (void *)(uintptr_t)s));
    OK(graph->status);
    if (entry == MEZZO_ENTRY_TRAIN)
        OK(mzi_differentiate(graph));
    OK(mzi_pass_autocast(graph, &precision, NULL));
    OK(mzi_pass_lint(graph, MEZZO_LINT_STOP, true));
    int count = graph->finding_count;
    mzi_graph_destroy(graph);
    return count;
}

static void test_no_finding_in_examples(void **state) {
    (void)state;
    static const char *const files[] = {NULL,      "fashion-cnn", "fashion-small", "kjv-small",
                                        "kjv-gpt", "gpt2-124m",   "llama-124m"};
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    const char *root = getenv("MEZZO_SOURCE_DIR");
    assert_non_null(root);
    for (size_t f = 0; f < 3 * sizeof files / sizeof *files; f++) {
        source s = {.config = NULL};
        char path[1024];
        OK(mezzo_config_create(&s.config, ctx));
        snprintf(path, sizeof path, "%s/examples/%s.yaml", root, files[f / 3]);
        if (files[f / 3])
            OK(mezzo_config_load(s.config, path));
        OK(mzi_runner_kind(runner, s.config, &s.kind));
        bool random = strcmp(mezzo_config_text(s.config, "data.kind"), "random") == 0;
        s.shape = (mezzo_data_shape){.batch = mezzo_config_int(s.config, "data.batch"),
                                     .H = 28,
                                     .W = 28,
                                     .C = 1,
                                     .context = mezzo_config_int(s.config, "model.context"),
                                     .classes = s.kind->data == MEZZO_DATA_IMAGES ? 10
                                                : random                          ? 50257
                                                                                  : 256};
        for (int entry = MEZZO_ENTRY_TRAIN; entry <= MEZZO_ENTRY_EVAL; entry++)
            if (findings_of(&s, types[f % 3], (mezzo_entry)entry) != 0)
                fail_msg("%s, %s: %s", path, mezzo_dtype_name(types[f % 3]), logged);
        mezzo_config_destroy(s.config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_of_graphs),
        cmocka_unit_test(test_rules_of_configurations),
        cmocka_unit_test(test_every_rule_has_examples),
        cmocka_unit_test(test_errors_stop_warnings_are_logged),
        cmocka_unit_test(test_an_override_is_the_way_out),
        cmocka_unit_test(test_a_run_stops_and_lint_goes_on),
        cmocka_unit_test(test_unknown_role),
        cmocka_unit_test(test_no_finding_in_examples),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
