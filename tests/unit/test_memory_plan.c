/* The memory planner, by playing a plan through: whose bytes are whose after every node.
 *
 * A byte belongs to the value that was last written to it, or to a view of that value.  Each node
 * must find its inputs still there, and write to no input but one that it may work in place on;
 * what is read after the run must be there at the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "mezzo/ops.h"
#include "mezzo/train.h"
#include "train/model.h"
#include "unit/cmocka_all.h"

static int setup(void **state) {
    const mezzo_ctx_config config = {.threads = 1};
    return mezzo_ctx_create((mezzo_ctx **)state, &config, NULL) == MEZZO_OK ? 0 : -1;
}

static int teardown(void **state) {
    mezzo_ctx_destroy(*state);
    return 0;
}

/* Offsets are multiples of MZI_ALIGN, so a cell of that size has one owner. */
typedef struct ground {
    const mzi_plan *plan;
    int32_t *owner; /* by cell: a value, or 0 */
    int32_t *self;  /* by value: the value that it is a view of, or itself */
    uint64_t cells;
    int inplace, reused; /* how often memory was taken over */
} ground;

static bool lies_here(const ground *g, int32_t v) {
    return v && g->plan->places[v].in_arena;
}
static uint64_t first_cell(const ground *g, int32_t v) {
    return g->plan->places[v].offset / MZI_ALIGN;
}
static uint64_t end_cell(const ground *g, int32_t v) {
    uint64_t bytes = mzi_value_bytes(&g->plan->graph->values[v]);
    return (g->plan->places[v].offset + bytes + MZI_ALIGN - 1) / MZI_ALIGN;
}

static bool intact(const ground *g, int32_t v) {
    for (uint64_t c = first_cell(g, v); c < end_cell(g, v); c++)
        if (g->owner[c] != g->self[v])
            return false;
    return true;
}

static bool meet(const ground *g, int32_t a, int32_t b) {
    return first_cell(g, a) < end_cell(g, b) && first_cell(g, b) < end_cell(g, a);
}

/* The number of rules that writing `v` at node `n` breaks. */
static int write_value(ground *g, const mzi_node *node, int32_t v, bool first_output) {
    int wrong = 0;
    bool taken = false;
    for (int k = 0; k < node->in_count; k++) {
        int32_t in = node->in[k];
        if (!lies_here(g, in) || !meet(g, in, v))
            continue;
        bool allowed = first_output && (node->op->inplace & MEZZO_BIT(k)) &&
                       g->plan->places[in].offset == g->plan->places[v].offset &&
                       mzi_value_bytes(&g->plan->graph->values[in]) ==
                           mzi_value_bytes(&g->plan->graph->values[v]);
        for (int j = 0; j < node->in_count; j++) /* the same memory as another operand */
            allowed &= j == k || !lies_here(g, node->in[j]) || !meet(g, node->in[j], v);
        wrong += !allowed;
        taken = true;
    }
    g->inplace += taken;
    for (uint64_t c = first_cell(g, v); c < end_cell(g, v); c++) {
        g->reused += !taken && g->owner[c] != 0;
        g->owner[c] = v;
    }
    return wrong;
}

/* Outputs and workspace of one node. */
static int play_node(ground *g, int32_t n) {
    const mezzo_graph *graph = g->plan->graph;
    const mzi_node *node = &graph->nodes[n];
    int wrong = 0;
    for (int k = 0; k < node->in_count; k++)
        if (lies_here(g, node->in[k]))
            wrong += !intact(g, node->in[k]);
    if (node->op->view) {
        if (lies_here(g, node->out[0])) {
            g->self[node->out[0]] = g->self[node->in[0]];
            wrong += g->plan->places[node->out[0]].offset != g->plan->places[node->in[0]].offset;
        } else {
            wrong += g->plan->places[node->in[0]].in_arena;
        }
        return wrong;
    }
    for (int k = 0; k < node->out_count; k++)
        if (lies_here(g, node->out[k]))
            wrong += write_value(g, node, node->out[k], k == 0);
    for (int32_t v = 1; v < graph->value_count; v++)
        if (graph->values[v].kind == MZI_VALUE_SCRATCH && graph->values[v].producer == n)
            wrong += write_value(g, node, v, false);
    for (int k = 0; k < node->out_count; k++) /* no output lies on another or on the workspace */
        if (lies_here(g, node->out[k]))
            wrong += !intact(g, node->out[k]);
    return wrong;
}

static int play(const mzi_plan *plan, ground *g) {
    const mezzo_graph *graph = plan->graph;
    int wrong = 0;
    *g = (ground){.plan = plan, .cells = plan->arena_bytes / MZI_ALIGN};
    assert_int_equal(plan->arena_bytes % MZI_ALIGN, 0);
    g->owner = calloc(g->cells + 1, sizeof *g->owner);
    g->self = calloc((size_t)graph->value_count, sizeof *g->self);
    for (int32_t v = 1; v < graph->value_count; v++) {
        g->self[v] = v;
        if (!lies_here(g, v))
            continue;
        wrong += plan->places[v].offset % MZI_ALIGN != 0;
        if (end_cell(g, v) > g->cells)
            fail_msg("value %d ends behind the arena", v);
    }
    for (int32_t v = 1; v < graph->value_count; v++)
        if (graph->values[v].kind == MZI_VALUE_INPUT)
            for (uint64_t c = first_cell(g, v); c < end_cell(g, v); c++) {
                wrong += g->owner[c] != 0;
                g->owner[c] = v;
            }
    for (int32_t n = 0; n < graph->node_count; n++)
        wrong += play_node(g, n);
    for (int32_t v = 1; v < graph->value_count; v++)
        if (graph->values[v].is_output && lies_here(g, v))
            wrong += !intact(g, v);
    free(g->owner);
    free(g->self);
    return wrong;
}

/* What the values would take side by side. */
static uint64_t sum_of_values(const mzi_plan *plan) {
    uint64_t bytes = 0;
    for (int32_t v = 1; v < plan->graph->value_count; v++) {
        bool view = plan->graph->values[v].producer >= 0 &&
                    plan->graph->nodes[plan->graph->values[v].producer].op->view;
        if (plan->places[v].in_arena && !view)
            bytes += mzi_value_bytes(&plan->graph->values[v]);
    }
    return bytes;
}

/* A random network: a pool of values [rows, columns] from which operations draw. */
enum {
    POOL = 24,
    ROWS = 6
};
typedef struct dice {
    uint64_t seed, drawn;
} dice;
static int64_t roll(dice *d, int64_t sides) {
    uint32_t words[4];
    mzi_rng4(words, d->seed, 99, d->drawn++, 0);
    return (int64_t)(words[0] % (uint32_t)sides);
}

static mezzo_value random_node(mezzo_graph *graph, dice *d, const mezzo_value *pool, int count,
                               int index) {
    mezzo_value x = pool[roll(d, count)], y = pool[roll(d, count)];
    int64_t columns = mezzo_value_shape(graph, x).dim[1];
    char name[16];
    snprintf(name, sizeof name, "n%d", index);
    switch (roll(d, 9)) {
    case 0:
        return mezzo_relu(graph, x);
    case 1:
        return mezzo_gelu(graph, x);
    case 2:
        return mezzo_scale(graph, x, 0.5f);
    case 3:
        return mezzo_dropout(graph, name, x, 0.25f);
    case 4: /* two views, on top of each other */
        x = mezzo_reshape(graph, x, mezzo_shape3(2, ROWS / 2, columns));
        return mezzo_reshape(graph, x, mezzo_shape2(ROWS, columns));
    case 5:
        return mezzo_batch_norm(graph, name, x, 0.0f, 0.0f);
    case 6:
    case 7:
        if (mezzo_shape_equal(mezzo_value_shape(graph, x), mezzo_value_shape(graph, y)))
            return roll(d, 2) ? mezzo_add(graph, x, y) : mezzo_mul(graph, x, y);
        return mezzo_mul(graph, x, x);
    default:
        return mezzo_linear(graph, name, x, 1 + roll(d, 40), roll(d, 2) != 0);
    }
}

static mezzo_status build_random(mezzo_graph *graph, void *user) {
    dice d = *(const dice *)user;
    mezzo_value pool[POOL], loss = {0};
    int count = 1, nodes = 3 + (int)roll(&d, POOL - 4);
    pool[0] = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(ROWS, 1 + roll(&d, 40)));
    pool[0] = mezzo_linear(graph, "first", pool[0], 16, true);
    while (count < nodes) {
        pool[count] = random_node(graph, &d, pool, count, count);
        if (roll(&d, 8) == 0)
            mezzo_output(graph, "extra", pool[count]);
        count++;
    }
    for (int k = count - 1; k >= 0; k -= 1 + (int)roll(&d, 3)) {
        mezzo_value mean = mezzo_mean(graph, pool[k]);
        loss = loss.id ? mezzo_add(graph, loss, mean) : mean;
    }
    mezzo_loss(graph, loss);
    return MEZZO_OK;
}

static void check_random(mezzo_ctx *ctx, const char *device, int graphs) {
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    int64_t inplace = 0, reused = 0;
    for (int k = 0; k < graphs; k++) {
        dice d = {.seed = (uint64_t)k};
        ground g;
        mezzo_model *model = NULL;
        const mezzo_model_config config = {
            .build = build_random, .user = &d, .device = device, .precision.compute = types[k % 3]};
        const mezzo_trainer_config trainer_config = {.optimizer = mezzo_optimizer_default("adamw")};
        mezzo_trainer *trainer = NULL;
        if (mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN) != MEZZO_OK ||
            mezzo_trainer_create(&trainer, model, &trainer_config) != MEZZO_OK)
            fail_msg("graph %d: %s", k, mezzo_ctx_error(ctx)->text);
        for (int e = MEZZO_ENTRY_TRAIN; e <= (int)MEZZO_ENTRY_EVAL; e++) {
            assert_int_equal(mzi_model_ensure(model, (mezzo_entry)e), MEZZO_OK);
            const mzi_plan *plan = model->entries[e].plan;
            int wrong = play(plan, &g);
            if (wrong)
                fail_msg("graph %d, entry %d: %d values are overwritten too early", k, e, wrong);
            assert_true(plan->arena_bytes <=
                        sum_of_values(plan) + (uint64_t)plan->place_count * MZI_ALIGN);
            inplace += g.inplace;
            reused += g.reused;
        }
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
    }
    assert_true(inplace > graphs && reused > 10 * graphs); /* there was something to find */
}

static void test_random_graphs_on_ref(void **state) {
    check_random(*state, "ref", 240);
}

/* With packed weights and workspaces of oneDNN. */
static void test_random_graphs_on_cpu(void **state) {
    check_random(*state, "cpu", 60);
}

/* The network of the quick start, for a batch of 32. */
static mezzo_status build_cnn(mezzo_graph *graph, void *user) {
    static const int64_t channels[] = {32, 64, 64};
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(32, 28, 28, 1));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(32));
    for (int k = 0; k < 3; k++) {
        char name[16];
        snprintf(name, sizeof name, "conv%d", k + 1);
        x = mezzo_conv2d(graph, name, x,
                         (mezzo_conv2d_config){.channels = channels[k], .kernel = 3, .pad = 1});
        snprintf(name, sizeof name, "norm%d", k + 1);
        x = mezzo_relu(graph, mezzo_batch_norm(graph, name, x, 0.0f, 0.0f));
        x = k < 2 ? mezzo_max_pool(graph, x, 2, 0, 0) : x;
    }
    x = mezzo_relu(graph, mezzo_linear(graph, "fc", mezzo_flatten(graph, x), 128, true));
    x = mezzo_linear(graph, "head", x, 10, true);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL));
    return MEZZO_OK;
}

/* The most that is alive at a node: no plan can be smaller. */
static uint64_t least_possible(const mzi_plan *plan) {
    const mezzo_graph *graph = plan->graph;
    uint64_t most = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        uint64_t bytes = 0;
        for (int k = 0; k < graph->nodes[n].in_count; k++)
            if (plan->places[graph->nodes[n].in[k]].in_arena)
                bytes += mzi_value_bytes(&graph->values[graph->nodes[n].in[k]]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void test_cnn(void **state) {
    uint64_t arena[2][2];
    for (int t = 0; t < 2; t++) {
        const mezzo_model_config config = {.build = build_cnn,
                                           .precision.compute = t ? MEZZO_BF16 : MEZZO_F32};
        mezzo_model *model = NULL;
        ground g;
        assert_int_equal(mezzo_model_create(&model, *state, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
        for (int e = MEZZO_ENTRY_TRAIN; e <= (int)MEZZO_ENTRY_EVAL; e++) {
            assert_int_equal(mzi_model_ensure(model, (mezzo_entry)e), MEZZO_OK);
            const mzi_plan *plan = model->entries[e].plan;
            assert_int_equal(play(plan, &g), 0);
            assert_true(g.inplace > 0 && g.reused > 0);
            arena[t][e] = plan->arena_bytes;
            assert_true(plan->arena_bytes >= least_possible(plan));
            assert_true(plan->arena_bytes < sum_of_values(plan) * 7 / 10);
            assert_int_equal(model->entries[e].arena.bytes, plan->arena_bytes);
        }
        mezzo_model_destroy(model);
    }
    /* Evaluation keeps nothing for backward, and activations of 16 bits are half as large. */
    assert_true(arena[0][MEZZO_ENTRY_EVAL] * 2 < arena[0][MEZZO_ENTRY_TRAIN]);
    assert_true(arena[1][MEZZO_ENTRY_TRAIN] * 10 < arena[0][MEZZO_ENTRY_TRAIN] * 7);
}

/* A view shows what it is a view of, wherever that lies: input, activation or parameter. */
static mezzo_status build_views(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(4, 6));
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape1(24), (mezzo_init){MEZZO_INIT_CONSTANT, 2});
    mezzo_value a = mezzo_reshape(graph, x, mezzo_shape1(24));
    mezzo_value b = mezzo_reshape(graph, w, mezzo_shape2(4, 6));
    mezzo_value c = mezzo_mul(graph, b, x);
    mezzo_value d =
        mezzo_reshape(graph, mezzo_reshape(graph, c, mezzo_shape3(2, 2, 6)), mezzo_shape1(24));
    mezzo_output(graph, "seen", mezzo_add(graph, d, a));
    mezzo_loss(graph, mezzo_sum(graph, mezzo_mul(graph, d, a)));
    return MEZZO_OK;
}

static void test_views(void **state) {
    static const char *const devices[] = {"cpu", "ref"};
    for (int k = 0; k < 2; k++) {
        const mezzo_model_config config = {.build = build_views, .device = devices[k]};
        const mezzo_trainer_config trainer_config = {.optimizer = mezzo_optimizer_default("sgd")};
        mezzo_model *model = NULL;
        mezzo_trainer *trainer = NULL;
        mezzo_step_result r;
        ground g;
        float x[24], y[24], gradient[24];
        for (int i = 0; i < 24; i++)
            x[i] = (float)(i - 7);
        const mezzo_binding input = {"x", x, sizeof x};
        assert_int_equal(mezzo_model_create(&model, *state, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
        assert_int_equal(mezzo_trainer_create(&trainer, model, &trainer_config), MEZZO_OK);
        assert_int_equal(play(model->entries[MEZZO_ENTRY_TRAIN].plan, &g), 0);
        assert_int_equal(mezzo_trainer_step(trainer, &input, 1, &r), MEZZO_OK);
        assert_int_equal(mezzo_model_output(model, MEZZO_ENTRY_TRAIN, "seen", y, 24), MEZZO_OK);
        assert_int_equal(mezzo_trainer_read_gradient(trainer, "w", gradient, 24), MEZZO_OK);
        for (int i = 0; i < 24; i++) { /* small integers: exact */
            assert_true(y[i] == 3.0f * x[i]);
            assert_true(gradient[i] == x[i] * x[i]);
        }
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
    }
}

/* 2^40 activations of 4 bytes: 4 TiB each. */
static mezzo_status build_huge(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(1 << 24, 1 << 16));
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape2(1, 1 << 16), (mezzo_init){0});
    const mezzo_value in[] = {mezzo_relu(graph, x), w};
    mezzo_loss(graph,
               mezzo_mean(graph, mezzo_apply(graph, &mzi_op_linear, "fc", in, 2, NULL, NULL)));
    return MEZZO_OK;
}

static void test_plan_larger_than_memory(void **state) {
    const mezzo_model_config config = {.build = build_huge, .device = "ref"};
    mezzo_model *model = NULL;
    mezzo_plan_info info;
    mezzo_memory_use before = mezzo_ctx_memory(*state);
    assert_int_equal(mezzo_model_create(&model, *state, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    assert_int_equal(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info), MEZZO_OUT_OF_MEMORY);
    const char *text = mezzo_ctx_error(*state)->text;
    static const char first[] = "the plan needs ";
    assert_int_equal(strncmp(text, first, strlen(first)), 0);
    char *end;
    double needed = strtod(text + strlen(first), &end);
    assert_int_equal(strncmp(end, " GiB", 4), 0);
    const char *second = strstr(end, "; ");
    assert_non_null(second);
    double available = strtod(second + 2, &end);
    assert_int_equal(strncmp(end, " GiB are available", 18), 0);
    assert_true(needed > 8000 && needed < 9000); /* x and its relu: 8192 GiB */
    assert_true(available >= 0 && available < 8000);
    mezzo_model_destroy(model);
    assert_int_equal(mezzo_ctx_memory(*state).bytes_used, before.bytes_used);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_graphs_on_ref),
        cmocka_unit_test(test_random_graphs_on_cpu),
        cmocka_unit_test(test_cnn),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_plan_larger_than_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
