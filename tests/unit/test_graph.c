/* The builder: errors that stick and name the operation, names, shared state, several plans. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/graph.h"
#include "mezzo/ops.h"
#include "mezzo/train.h"
#include "unit/cmocka_all.h"

static int setup(void **state) {
    const mezzo_ctx_config config = {.threads = 1};
    return mezzo_ctx_create((mezzo_ctx **)state, &config, NULL) == MEZZO_OK ? 0 : -1;
}

static int teardown(void **state) {
    mezzo_ctx_destroy(*state);
    return 0;
}

static mezzo_graph *new_graph(mezzo_ctx *ctx) {
    mezzo_graph *graph = NULL;
    mzi_error_clear(ctx);
    assert_int_equal(mzi_graph_create(&graph, ctx, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    return graph;
}

static mezzo_value image(mezzo_graph *graph) {
    return mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(4, 8, 8, 3));
}

static const mezzo_init zero = {MEZZO_INIT_CONSTANT, 0.0f};

/* One mistake each: what it builds, and what the message must name. */
typedef struct mistake {
    mezzo_value (*build)(mezzo_graph *graph);
    const char *names, *says;
} mistake;

static mezzo_value linear_of_a_vector(mezzo_graph *graph) {
    mezzo_value x = mezzo_input(graph, "a", MEZZO_F32, mezzo_shape1(3));
    return mezzo_linear(graph, "fc1", x, 5, true);
}
static mezzo_value add_of_two_shapes(mezzo_graph *graph) {
    mezzo_value a = mezzo_input(graph, "a", MEZZO_F32, mezzo_shape2(2, 3));
    return mezzo_add(graph, a, mezzo_input(graph, "b", MEZZO_F32, mezzo_shape2(3, 2)));
}
static mezzo_value conv_too_large(mezzo_graph *graph) {
    return mezzo_conv2d(graph, "c9", image(graph),
                        (mezzo_conv2d_config){.channels = 2, .kernel = 11, .pad = 1});
}
static mezzo_value pool_of_a_matrix(mezzo_graph *graph) {
    return mezzo_max_pool(graph, mezzo_flatten(graph, image(graph)), 2, 0, 0);
}
static mezzo_value norm_of_one_row(mezzo_graph *graph) {
    return mezzo_batch_norm(graph, "bn7", mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(1, 3)),
                            0.0f, 0.0f);
}
static mezzo_value bad_rate(mezzo_graph *graph) {
    return mezzo_dropout(graph, "drop3", image(graph), 1.0f);
}
static mezzo_value bad_reshape(mezzo_graph *graph) {
    return mezzo_reshape(graph, image(graph), mezzo_shape2(5, 5));
}
static mezzo_value two_of_one_name(mezzo_graph *graph) {
    mezzo_value x = mezzo_flatten(graph, image(graph));
    x = mezzo_linear(graph, "fc2", x, 192, true);
    return mezzo_linear(graph, "fc2", x, 192, true);
}
static mezzo_value two_inputs_of_one_name(mezzo_graph *graph) {
    image(graph);
    return image(graph);
}
static mezzo_value one_name_two_shapes(mezzo_graph *graph) {
    mezzo_param(graph, "w5", mezzo_shape1(3), zero);
    return mezzo_param(graph, "w5", mezzo_shape1(4), zero);
}
static mezzo_value null_operand(mezzo_graph *graph) {
    return mezzo_relu(graph, (mezzo_value){0});
}
static mezzo_value foreign_operand(mezzo_graph *graph) {
    return mezzo_relu(graph, (mezzo_value){12345});
}
static mezzo_value relu_of_integers(mezzo_graph *graph) {
    return mezzo_relu(graph, mezzo_input(graph, "i", MEZZO_I32, mezzo_shape1(3)));
}
static mezzo_value labels_that_are_real(mezzo_graph *graph) {
    mezzo_value x = mezzo_input(graph, "a", MEZZO_F32, mezzo_shape2(2, 3));
    mezzo_value y = mezzo_input(graph, "b", MEZZO_F32, mezzo_shape1(2));
    return mezzo_softmax_cross_entropy(graph, x, y, NULL, NULL);
}
static mezzo_value half_input(mezzo_graph *graph) {
    return mezzo_input(graph, "h", MEZZO_F16, mezzo_shape1(3));
}
static mezzo_value empty_shape(mezzo_graph *graph) {
    return mezzo_param(graph, "w6", mezzo_shape2(3, 0), zero);
}
static mezzo_value pop_too_often(mezzo_graph *graph) {
    mezzo_scope_push(graph, "a");
    mezzo_scope_pop(graph);
    mezzo_scope_pop(graph);
    return (mezzo_value){0};
}
static mezzo_value push_too_often(mezzo_graph *graph) {
    for (int k = 0; k < 40; k++)
        mezzo_scope_push(graph, "deep");
    return (mezzo_value){0};
}
static mezzo_value loss_of_a_matrix(mezzo_graph *graph) {
    mezzo_value x = mezzo_input(graph, "wide", MEZZO_F32, mezzo_shape2(2, 3));
    mezzo_loss(graph, x);
    return (mezzo_value){0};
}

static const mistake mistakes[] = {{linear_of_a_vector, "`fc1`", "rank 1"},
                                   {add_of_two_shapes, "`add1`", "shapes differ"},
                                   {conv_too_large, "`c9`", "11x11"},
                                   {pool_of_a_matrix, "`max_pool1`", "rank 2"},
                                   {norm_of_one_row, "`bn7`", "variance"},
                                   {bad_rate, "`drop3`", "rate 1"},
                                   {bad_reshape, "`reshape1`", "768"},
                                   {two_of_one_name, "`fc2`", "two operations"},
                                   {two_inputs_of_one_name, "`x`", "exists already"},
                                   {one_name_two_shapes, "`w5`", "another shape"},
                                   {null_operand, "`relu1`", "null value"},
                                   {foreign_operand, "`relu1`", "another graph"},
                                   {relu_of_integers, "`relu1`", "i32"},
                                   {labels_that_are_real, "softmax_cross_entropy", "f32"},
                                   {half_input, "`h`", "f16"},
                                   {empty_shape, "`w6`", "dimension 1 is 0"},
                                   {pop_too_often, "scope", "without a push"},
                                   {push_too_often, "`deep`", "deeper than 16"},
                                   {loss_of_a_matrix, "`wide`", "not a scalar"}};

/* Each is INVALID_ARGUMENT with a message of its own, and whatever follows changes neither. */
static void test_mistakes_stick(void **state) {
    mezzo_ctx *ctx = *state;
    for (size_t k = 0; k < sizeof mistakes / sizeof *mistakes; k++) {
        mezzo_graph *graph = new_graph(ctx);
        char text[1000];
        mezzo_value bad = mistakes[k].build(graph);
        assert_int_equal(bad.id, 0);
        assert_true(mezzo_graph_failed(graph));
        assert_int_equal(graph->status, MEZZO_INVALID_ARGUMENT);
        snprintf(text, sizeof text, "%s", mezzo_ctx_error(ctx)->text);
        if (!strstr(text, mistakes[k].names) || !strstr(text, mistakes[k].says))
            fail_msg("%zu: \"%s\" names neither %s nor \"%s\"", k, text, mistakes[k].names,
                     mistakes[k].says);
        int32_t values = graph->value_count, nodes = graph->node_count;
        mezzo_value more[2], correct;
        assert_int_equal(mezzo_relu(graph, bad).id, 0);
        assert_int_equal(mezzo_input(graph, "later", MEZZO_F32, mezzo_shape1(2)).id, 0);
        assert_int_equal(mezzo_param(graph, "later", mezzo_shape1(2), zero).id, 0);
        assert_int_equal(mezzo_linear(graph, "later", bad, 3, true).id, 0);
        assert_int_equal(mezzo_batch_norm(graph, "later", bad, 0.0f, 0.0f).id, 0);
        assert_int_equal(mezzo_conv2d(graph, "later", bad, (mezzo_conv2d_config){1, 1, 1, 0, 1}).id,
                         0);
        assert_int_equal(mezzo_softmax_cross_entropy(graph, bad, bad, &correct, NULL).id, 0);
        assert_int_equal(correct.id, 0);
        assert_int_equal(mezzo_mean(graph, bad).id, 0);
        more[0].id = 7;
        assert_int_equal(mezzo_apply(graph, &mzi_op_max_pool, NULL, &bad, 1, NULL, more).id, 0);
        assert_int_equal(more[0].id, 0);
        mezzo_loss(graph, bad);
        mezzo_output(graph, "out", bad);
        assert_int_equal(graph->value_count, values);
        assert_int_equal(graph->node_count, nodes);
        assert_int_equal(mzi_differentiate(graph), MEZZO_INVALID_ARGUMENT);
        assert_string_equal(mezzo_ctx_error(ctx)->text, text);
        mzi_graph_destroy(graph);
    }
}

static mezzo_status build_mistake(mezzo_graph *graph, void *user) {
    ((const mistake *)user)->build(graph);
    return MEZZO_OK; /* not looked at: the graph keeps the error */
}
static mezzo_status build_without_loss(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_linear(graph, "fc", mezzo_flatten(graph, image(graph)), 5, true);
    return MEZZO_OK;
}
static mezzo_status build_without_params(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_loss(graph, mezzo_mean(graph, image(graph)));
    return MEZZO_OK;
}
static mezzo_status build_and_refuse(mezzo_graph *graph, void *user) {
    (void)graph;
    (void)user;
    return MEZZO_DATA;
}

/* The call that consumes the graph returns its first error, and makes no model. */
static void test_errors_reach_the_model(void **state) {
    mezzo_ctx *ctx = *state;
    const struct {
        mezzo_build_fn *build;
        const mistake *user;
        mezzo_status status;
        const char *says;
    } bad[] = {{build_mistake, &mistakes[0], MEZZO_INVALID_ARGUMENT, "`fc1`"},
               {build_without_loss, NULL, MEZZO_INVALID_ARGUMENT, "mezzo_loss"},
               {build_without_params, NULL, MEZZO_INVALID_ARGUMENT, "no parameter"},
               {build_and_refuse, NULL, MEZZO_DATA, "build function"},
               {NULL, NULL, MEZZO_INVALID_ARGUMENT, "no build function"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        mezzo_model *model = NULL;
        const mezzo_model_config config = {.build = bad[k].build,
                                           .user = (void *)(uintptr_t)bad[k].user};
        assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN),
                         bad[k].status);
        assert_null(model);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, bad[k].says));
    }
}

/* "block.fc.weight", "block.fc", "relu2"; after a pop the scope is gone. */
static void test_names(void **state) {
    mezzo_graph *graph = new_graph(*state);
    mezzo_value x = mezzo_flatten(graph, image(graph));
    mezzo_scope_push(graph, "block");
    x = mezzo_relu(graph, mezzo_linear(graph, "fc", x, 6, true));
    mezzo_scope_pop(graph);
    mezzo_relu(graph, mezzo_linear(graph, "fc", x, 6, false));
    assert_false(mezzo_graph_failed(graph));
    static const char *const names[] = {"reshape1", "block.fc", "block.relu1", "fc", "relu2"};
    assert_int_equal(graph->node_count, 5);
    for (int k = 0; k < 5; k++)
        assert_string_equal(graph->nodes[k].name, names[k]);
    static const char *const params[] = {"block.fc.weight", "block.fc.bias", "fc.weight"};
    int found = 0;
    for (int32_t v = 1; v < graph->value_count; v++)
        if (graph->values[v].kind == MZI_VALUE_PARAM)
            assert_string_equal(graph->values[v].name, params[found++]);
    assert_int_equal(found, 3);
    mezzo_shape none = mezzo_value_shape(graph, (mezzo_value){0});
    assert_int_equal(none.rank, -1);
    assert_int_equal(mezzo_value_dtype(graph, (mezzo_value){0}), MEZZO_DTYPE_NONE);
    mzi_graph_destroy(graph);
}

/* An autoencoder whose one weight is used twice, and once more through a view. */
enum {
    TIED = 4
};
static mezzo_status build_tied(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(3, TIED));
    mezzo_value y = x;
    for (int k = 0; k < 2; k++) {
        mezzo_value w = mezzo_param(graph, "w", mezzo_shape2(TIED, TIED),
                                    (mezzo_init){MEZZO_INIT_UNIFORM, 0.5f});
        const mezzo_value in[] = {y, w};
        y = mezzo_apply(graph, &mzi_op_linear, k ? "second" : "first", in, 2, NULL, NULL);
    }
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape2(TIED, TIED), zero);
    mezzo_value flat = mezzo_reshape(graph, w, mezzo_shape1(TIED * TIED));
    mezzo_value penalty = mezzo_sum(graph, mezzo_mul(graph, flat, flat));
    mezzo_loss(graph, mezzo_add(graph, mezzo_sum(graph, y), penalty));
    return MEZZO_OK;
}

/* L = sum(x W^T W^T) + sum W^2, so with s = sum over rows of x:
 *   dL/dW[i][j] = (sum over k of W[k][i]) s[j] + (W s)[j] + 2 W[i][j] */
static void test_tied_parameters_share_state(void **state) {
    mezzo_ctx *ctx = *state;
    const mezzo_model_config config = {.build = build_tied, .seed = 2};
    mezzo_trainer_config trainer_config = {.optimizer = mezzo_optimizer_default("sgd")};
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    float x[3 * TIED], w[TIED * TIED], g[TIED * TIED];
    mezzo_step_result r;
    for (int i = 0; i < 3 * TIED; i++)
        x[i] = (float)(i % 5) - 1.5f;
    assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    assert_int_equal(mezzo_model_state_count(model), 1);
    assert_int_equal(mezzo_trainer_create(&trainer, model, &trainer_config), MEZZO_OK);
    assert_int_equal(mezzo_model_state_count(model), 2); /* and one momentum */
    assert_int_equal(mezzo_model_read(model, 0, w, TIED * TIED), MEZZO_OK);
    const mezzo_binding input = {"x", x, sizeof x};
    assert_int_equal(mezzo_trainer_step(trainer, &input, 1, &r), MEZZO_OK);
    assert_int_equal(mezzo_trainer_read_gradient(trainer, "w", g, TIED * TIED), MEZZO_OK);
    for (int i = 0; i < TIED; i++)
        for (int j = 0; j < TIED; j++) {
            double column = 0, product = 0, s[TIED];
            for (int k = 0; k < TIED; k++) {
                s[k] = (double)(x[k] + x[TIED + k] + x[2 * TIED + k]);
                column += (double)w[k * TIED + i];
            }
            for (int k = 0; k < TIED; k++)
                product += (double)w[j * TIED + k] * s[k];
            double exact = column * s[j] + product + 2 * (double)w[i * TIED + j];
            /* A few dozen roundings of sums whose terms are below 8. */
            if (!((double)g[i * TIED + j] - exact <= 0x1p-15 &&
                  exact - (double)g[i * TIED + j] <= 0x1p-15))
                fail_msg("dw[%d][%d] is %.9g, not %.9g", i, j, (double)g[i * TIED + j], exact);
        }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

/* A network whose batch differs between the entries, with a dropout and a norm. */
enum {
    TRAIN_ROWS = 8,
    EVAL_ROWS = 3,
    FEATURES = 5
};
static mezzo_status build_two(mezzo_graph *graph, void *user) {
    (void)user;
    int64_t rows = mezzo_graph_entry(graph) == MEZZO_ENTRY_TRAIN ? TRAIN_ROWS : EVAL_ROWS;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(rows, FEATURES));
    x = mezzo_batch_norm(graph, "norm", mezzo_linear(graph, "fc", x, 4, true), 0.0f, 0.0f);
    x = mezzo_dropout(graph, "drop", x, 0.5f);
    mezzo_output(graph, "y", x);
    mezzo_loss(graph, mezzo_mean(graph, mezzo_mul(graph, x, x)));
    return MEZZO_OK;
}

/* The output of evaluation from the state alone. */
static void expect_evaluation(mezzo_model *model, const float *x) {
    float w[4 * FEATURES], b[4], gamma[4], beta[4], mean[4], var[4], y[EVAL_ROWS * 4];
    const struct {
        const char *name;
        float *to;
        int64_t count;
    } read[] = {{"fc.weight", w, 4 * FEATURES}, {"fc.bias", b, 4},
                {"norm.weight", gamma, 4},      {"norm.bias", beta, 4},
                {"norm.running_mean", mean, 4}, {"norm.running_var", var, 4}};
    for (int k = 0; k < 6; k++)
        assert_int_equal(mezzo_model_read(model, mezzo_model_state_find(model, read[k].name),
                                          read[k].to, read[k].count),
                         MEZZO_OK);
    const mezzo_binding input = {"x", x, EVAL_ROWS * FEATURES * sizeof *x};
    assert_int_equal(mezzo_model_evaluate(model, &input, 1), MEZZO_OK);
    assert_int_equal(mezzo_model_output(model, MEZZO_ENTRY_EVAL, "y", y, EVAL_ROWS * 4), MEZZO_OK);
    for (int r = 0; r < EVAL_ROWS; r++)
        for (int c = 0; c < 4; c++) {
            double sum = (double)b[c];
            for (int k = 0; k < FEATURES; k++)
                sum += (double)x[r * FEATURES + k] * (double)w[c * FEATURES + k];
            double exact =
                (sum - (double)mean[c]) / sqrt((double)var[c] + 1e-5) * (double)gamma[c] +
                (double)beta[c];
            /* About twenty roundings of numbers below 64. */
            assert_true(fabs((double)y[r * 4 + c] - exact) < 20 * 64 * 0x1p-24);
        }
}

static void test_two_plans_share_one_state(void **state) {
    mezzo_ctx *ctx = *state;
    const mezzo_model_config config = {.build = build_two, .seed = 4};
    mezzo_trainer_config trainer_config = {.optimizer = mezzo_optimizer_default("adamw")};
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    float x[TRAIN_ROWS * FEATURES], y[TRAIN_ROWS * 4];
    mezzo_step_result r;
    for (int i = 0; i < TRAIN_ROWS * FEATURES; i++)
        x[i] = (float)(i * 37 % 11) / 4.0f - 1.0f;
    trainer_config.optimizer.lr = 0.1f;
    assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    assert_int_equal(mezzo_trainer_create(&trainer, model, &trainer_config), MEZZO_OK);
    int count = mezzo_model_state_count(model);
    for (int step = 0; step < 3; step++) {
        expect_evaluation(model, x);
        assert_int_equal(mezzo_model_state_count(model), count);
        const mezzo_binding input = {"x", x, sizeof x};
        assert_int_equal(mezzo_trainer_step(trainer, &input, 1, &r), MEZZO_OK);
        assert_false(r.skipped);
    }
    assert_int_equal(mezzo_model_output(model, MEZZO_ENTRY_TRAIN, "y", y, TRAIN_ROWS * 4),
                     MEZZO_OK);
    assert_int_equal(mezzo_model_output(model, MEZZO_ENTRY_EVAL, "y", y, TRAIN_ROWS * 4),
                     MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "12 elements"));
    assert_int_equal(mezzo_model_output(model, MEZZO_ENTRY_EVAL, "z", y, 1),
                     MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "`z`"));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

/* A parameter that grows with the batch cannot be shared between entries. */
static mezzo_status build_disagreeing(mezzo_graph *graph, void *user) {
    (void)user;
    int64_t rows = mezzo_graph_entry(graph) == MEZZO_ENTRY_TRAIN ? 4 : 2;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape1(rows));
    mezzo_value w = mezzo_param(graph, "sized", mezzo_shape1(rows), zero);
    mezzo_loss(graph, mezzo_sum(graph, mezzo_mul(graph, x, w)));
    return MEZZO_OK;
}

static void test_entries_must_agree(void **state) {
    mezzo_ctx *ctx = *state;
    const mezzo_model_config config = {.build = build_disagreeing};
    mezzo_model *model = NULL;
    mezzo_plan_info info;
    assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    assert_int_equal(mezzo_model_plan_info(model, MEZZO_ENTRY_EVAL, &info), MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "`sized`"));
    assert_int_equal(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info), MEZZO_OK);
    mezzo_model_destroy(model);
}

/* A parameter's first values depend on seed and name alone, not on what else there is. */
static mezzo_status build_named(mezzo_graph *graph, void *user) {
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape1(100));
    if (user)
        x = mezzo_mul(
            graph, x,
            mezzo_param(graph, "other", mezzo_shape1(100), (mezzo_init){MEZZO_INIT_NORMAL, 2.0f}));
    mezzo_value w =
        mezzo_param(graph, "w", mezzo_shape1(100), (mezzo_init){MEZZO_INIT_UNIFORM, 0.5f});
    mezzo_loss(graph, mezzo_sum(graph, mezzo_mul(graph, x, w)));
    return MEZZO_OK;
}

static void test_initial_values(void **state) {
    mezzo_ctx *ctx = *state;
    float w[3][100], other[100];
    double mean = 0, square = 0;
    for (int k = 0; k < 3; k++) {
        const mezzo_model_config config = {
            .build = build_named, .user = k ? &mean : NULL, .seed = k == 2 ? 6 : 5};
        mezzo_model *model = NULL;
        assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
        assert_int_equal(mezzo_model_read(model, mezzo_model_state_find(model, "w"), w[k], 100),
                         MEZZO_OK);
        if (k == 1)
            assert_int_equal(
                mezzo_model_read(model, mezzo_model_state_find(model, "other"), other, 100),
                MEZZO_OK);
        assert_int_equal(mezzo_model_state_find(model, "none"), -1);
        mezzo_model_destroy(model);
    }
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    assert_memory_not_equal(w[0], w[2], sizeof w[0]);
    for (int i = 0; i < 100; i++) {
        assert_true(w[0][i] >= -0.5f && w[0][i] < 0.5f);
        mean += (double)other[i] / 100;
        square += (double)other[i] * (double)other[i] / 100;
    }
    /* Mean 0 with deviation 0.2, variance 4 with deviation 0.57: five deviations. */
    assert_true(fabs(mean) < 1.0 && fabs(square - 4.0) < 2.9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes_stick),
        cmocka_unit_test(test_errors_reach_the_model),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_tied_parameters_share_state),
        cmocka_unit_test(test_two_plans_share_one_state),
        cmocka_unit_test(test_entries_must_agree),
        cmocka_unit_test(test_initial_values),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
