/* Layer norm and embedding in the builder: what they refuse, which numbers an input takes, and
 * gradients of tables that do not depend on workers. */
#include <stdio.h>
#include <string.h>

#include "graph/graph.h"
#include "mezzo/ops.h"
#include "mezzo/train.h"
#include "unit/cmocka_all.h"

enum {
    B = 6,
    T = 33,
    C = 24,
    V = 50,
    P = 40
};

static int setup(void **state) {
    const mezzo_ctx_config config = {.threads = 1};
    return mezzo_ctx_create((mezzo_ctx **)state, &config, NULL) == MEZZO_OK ? 0 : -1;
}

static int teardown(void **state) {
    mezzo_ctx_destroy(*state);
    return 0;
}

static const mezzo_init uniform = {MEZZO_INIT_UNIFORM, 1.0f};
static const mezzo_value null = {0};

static mezzo_value ids(mezzo_graph *graph) {
    return mezzo_input(graph, "ids", MEZZO_I32, mezzo_shape2(B, T));
}
static mezzo_value table(mezzo_graph *graph, const char *name, int64_t rows, int64_t columns) {
    return mezzo_param(graph, name, mezzo_shape2(rows, columns), uniform);
}

static mezzo_value norm_of_a_vector(mezzo_graph *graph) {
    return mezzo_layer_norm(graph, "ln1", mezzo_input(graph, "x", MEZZO_F32, mezzo_shape1(3)), 0.0f,
                            true);
}
static mezzo_value norm_of_another_width(mezzo_graph *graph) {
    const mezzo_value in[] = {mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(4, 3)),
                              mezzo_param(graph, "gamma", mezzo_shape1(5), uniform)};
    return mezzo_apply(graph, &mzi_op_layer_norm, "ln2", in, 2, NULL, NULL);
}
static mezzo_value too_few_positions(mezzo_graph *graph) {
    return mezzo_embedding(graph, "e1", ids(graph), table(graph, "w", V, C),
                           table(graph, "p", T - 1, C), null);
}
static mezzo_value positions_of_another_width(mezzo_graph *graph) {
    return mezzo_embedding(graph, "e2", ids(graph), table(graph, "w", V, C),
                           table(graph, "p", T, C + 1), null);
}
static mezzo_value start_alone(mezzo_graph *graph) {
    mezzo_value start = mezzo_input(graph, "start", MEZZO_I32, mezzo_shape1(1));
    return mezzo_embedding(graph, "e3", ids(graph), table(graph, "w", V, C), null, start);
}
static mezzo_value two_starts(mezzo_graph *graph) {
    mezzo_value start = mezzo_input(graph, "start", MEZZO_I32, mezzo_shape1(2));
    return mezzo_embedding(graph, "e4", ids(graph), table(graph, "w", V, C),
                           table(graph, "p", P, C), start);
}
static mezzo_value weight_of_a_vector(mezzo_graph *graph) {
    return mezzo_embedding(graph, "e5", ids(graph),
                           mezzo_param(graph, "w", mezzo_shape1(V), uniform), null, null);
}
static mezzo_value ids_of_bytes(mezzo_graph *graph) {
    return mezzo_embedding(graph, "e6", mezzo_input(graph, "ids", MEZZO_U8, mezzo_shape2(B, T)),
                           table(graph, "w", V, C), null, null);
}
static mezzo_status infer_integers(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_I32, use->in[0].shape};
    return MEZZO_OK;
}
static mezzo_value ids_from_a_node(mezzo_graph *graph) {
    static const mezzo_op_def next = {.name = "next",
                                      .in_min = 1,
                                      .in_max = 1,
                                      .out_count = 1,
                                      .in_int = 1,
                                      .infer = infer_integers};
    mezzo_value x = ids(graph), y = mezzo_apply(graph, &next, "later", &x, 1, NULL, NULL);
    return mezzo_embedding(graph, "e7", y, table(graph, "w", V, C), null, null);
}

static void test_mistakes(void **state) {
    static const struct {
        mezzo_value (*build)(mezzo_graph *graph);
        const char *says[3];
    } mistakes[] = {{norm_of_a_vector, {"`ln1`", "rank 1", "[..., C]"}},
                    {norm_of_another_width, {"`ln2`", "weight has 5", "C = 3"}},
                    {too_few_positions, {"`e1`", "T = 33", "P = 32"}},
                    {positions_of_another_width, {"`e2`", "25 wide", "C = 24"}},
                    {start_alone, {"`e3`", "start", "without positions"}},
                    {two_starts, {"`e4`", "start", "2 elements"}},
                    {weight_of_a_vector, {"`e5`", "rank 2", "rank 1"}},
                    {ids_of_bytes, {"`e6`", "u8", "i32"}},
                    {ids_from_a_node, {"from an input", "`later`", "embedding"}}};
    mezzo_ctx *ctx = *state;
    for (size_t k = 0; k < sizeof mistakes / sizeof *mistakes; k++) {
        mezzo_graph *graph = NULL;
        mzi_error_clear(ctx);
        assert_int_equal(mzi_graph_create(&graph, ctx, MEZZO_ENTRY_TRAIN), MEZZO_OK);
        assert_int_equal(mistakes[k].build(graph).id, 0);
        assert_int_equal(graph->status, MEZZO_INVALID_ARGUMENT);
        for (int s = 0; s < 3; s++)
            if (!strstr(mezzo_ctx_error(ctx)->text, mistakes[k].says[s]))
                fail_msg("%zu: \"%s\" does not say %s", k, mezzo_ctx_error(ctx)->text,
                         mistakes[k].says[s]);
        mzi_graph_destroy(graph);
    }
}

/* The ids are the labels too: those are below V - 1, so that the smaller range holds. */
static mezzo_status build(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value start = mezzo_input(graph, "start", MEZZO_I32, mezzo_shape1(1));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(B));
    mezzo_value x = mezzo_embedding(graph, "e", ids(graph), table(graph, "w", V, C),
                                    table(graph, "p", P, C), start);
    mezzo_value first = mezzo_embedding(graph, "f", labels, table(graph, "w", V, C), null, null);
    x = mezzo_layer_norm(graph, "ln", x, 0.0f, false);
    mezzo_value logits = mezzo_linear(graph, "head", first, V - 1, false);
    mezzo_value loss = mezzo_softmax_cross_entropy(graph, logits, labels, NULL, NULL);
    mezzo_loss(graph, mezzo_add(graph, loss, mezzo_sum(graph, mezzo_mul(graph, x, x))));
    return MEZZO_OK;
}

typedef struct batch {
    int32_t ids[B * T], labels[B], start[1];
} batch;

static mezzo_status step(mezzo_trainer *trainer, const batch *data) {
    const mezzo_binding inputs[] = {{"ids", data->ids, sizeof data->ids},
                                    {"labels", data->labels, sizeof data->labels},
                                    {"start", data->start, sizeof data->start}};
    mezzo_step_result result;
    return mezzo_trainer_step(trainer, inputs, 3, &result);
}

static batch some_ids(void) {
    batch data = {.start = {P - T}};
    for (int i = 0; i < B * T; i++)
        data.ids[i] = i * i % 7 * 7 % V; /* seven numbers, each of them often */
    for (int i = 0; i < B; i++)
        data.labels[i] = i;
    return data;
}

static mezzo_trainer *trainer_of(mezzo_ctx *ctx, mezzo_model **model) {
    const mezzo_model_config config = {.build = build, .seed = 3};
    const mezzo_trainer_config trainer_config = {.optimizer = mezzo_optimizer_default("sgd")};
    mezzo_trainer *trainer = NULL;
    if (mezzo_model_create(model, ctx, &config, MEZZO_ENTRY_TRAIN) != MEZZO_OK ||
        mezzo_trainer_create(&trainer, *model, &trainer_config) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    return trainer;
}

static void expect_refusal(mezzo_ctx *ctx, mezzo_trainer *trainer, const batch *data,
                           const char *says) {
    assert_int_equal(step(trainer, data), MEZZO_DATA);
    if (!strstr(mezzo_ctx_error(ctx)->text, says))
        fail_msg("\"%s\" does not say \"%s\"", mezzo_ctx_error(ctx)->text, says);
}

static void test_ids_out_of_range(void **state) {
    mezzo_ctx *ctx = *state;
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = trainer_of(ctx, &model);
    batch data = some_ids();
    data.ids[19] = V;
    expect_refusal(ctx, trainer, &data, "`ids`: element 19 is 50; the graph takes 0..49");
    data.ids[19] = -1;
    expect_refusal(ctx, trainer, &data, "`ids`: element 19 is -1; the graph takes 0..49");
    data = some_ids();
    data.start[0] = P - T + 1;
    expect_refusal(ctx, trainer, &data, "`start`: element 0 is 8; the graph takes 0..7");
    data = some_ids();
    data.labels[4] = V - 1; /* a row of the table, but not of the logits */
    expect_refusal(ctx, trainer, &data, "`labels`: element 4 is 49; the graph takes 0..48");
    data.labels[4] = -1; /* padding, but not a row of the table */
    expect_refusal(ctx, trainer, &data, "`labels`: element 4 is -1; the graph takes 0..48");
    data.labels[4] = 0;
    data.ids[19] = V - 1;
    assert_int_equal(step(trainer, &data), MEZZO_OK);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

/* Rows of the table that are no id get no gradient, and start shifts the positions'. */
static void test_untouched_rows(void **state) {
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = trainer_of(*state, &model);
    batch data = some_ids();
    static float w[V * C], p[P * C];
    bool used[V] = {false};
    for (int i = 0; i < B * T; i++)
        used[data.ids[i]] = true;
    for (int i = 0; i < B; i++)
        used[data.labels[i]] = true;
    assert_int_equal(step(trainer, &data), MEZZO_OK);
    assert_int_equal(mezzo_trainer_read_gradient(trainer, "w", w, V * C), MEZZO_OK);
    assert_int_equal(mezzo_trainer_read_gradient(trainer, "p", p, P * C), MEZZO_OK);
    for (int i = 0; i < V * C; i++)
        assert_int_equal(w[i] != 0.0f, used[i / C]);
    for (int i = 0; i < P * C; i++)
        assert_int_equal(p[i] != 0.0f, i / C >= P - T);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

static void test_same_bits_for_any_number_of_workers(void **state) {
    (void)state;
    static float first[V * C], other[V * C];
    batch data = some_ids();
    for (int threads = 1; threads <= 5; threads += 2) {
        const mezzo_ctx_config config = {.threads = threads};
        mezzo_ctx *ctx = NULL;
        mezzo_model *model = NULL;
        assert_int_equal(mezzo_ctx_create(&ctx, &config, NULL), MEZZO_OK);
        mezzo_trainer *trainer = trainer_of(ctx, &model);
        for (int run = 0; run < 3; run++)
            assert_int_equal(step(trainer, &data), MEZZO_OK);
        float *to = threads == 1 ? first : other;
        assert_int_equal(mezzo_trainer_read_gradient(trainer, "w", to, V * C), MEZZO_OK);
        assert_memory_equal(first, to, sizeof first);
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
        mezzo_ctx_destroy(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_ids_out_of_range),
        cmocka_unit_test(test_untouched_rows),
        cmocka_unit_test(test_same_bits_for_any_number_of_workers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
