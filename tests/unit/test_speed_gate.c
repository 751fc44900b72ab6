/* The speed gate: when a layer is slow beyond doubt, and what measuring leaves behind. */
#include <string.h>

#include "mezzo/ops.h"
#include "train/speed_gate.h"
#include "unit/cmocka_all.h"

static bool is_slower(const int64_t bf16[MZI_SPEED_PAIRS], const int64_t f32[MZI_SPEED_PAIRS],
                      int count) {
    mezzo_slow_layer medians = {0};
    bool slower = mzi_is_slower(bf16, f32, count, &medians);
    assert_true(medians.bf16_us > 0.0 && medians.f32_us > 0.0);
    return slower;
}

static void test_rule(void **state) {
    (void)state;
    const int64_t f32[] = {1000000, 1010000, 990000, 1000000, 1000000};
    const int64_t slower[] = {1100000, 1090000, 1100000, 1120000, 1100000};
    mezzo_slow_layer medians = {0};
    assert_true(mzi_is_slower(slower, f32, 1, &medians));
    assert_true(medians.bf16_us == 1100.0 && medians.f32_us == 1000.0);
    assert_false(is_slower(f32, slower, 1));
    assert_false(is_slower(f32, f32, 1));
    /* One pair may disagree, two are noise. */
    const int64_t once[] = {900000, 1090000, 1100000, 1120000, 1100000};
    const int64_t twice[] = {900000, 900000, 1100000, 1120000, 1100000};
    assert_true(is_slower(once, f32, 1));
    assert_false(is_slower(twice, f32, 1));
    /* 2.9 %, and 4 % that are 40 us a step, which three such layers make 120 us. */
    const int64_t little[] = {1029000, 1029000, 1029000, 1029000, 1029000};
    const int64_t four[] = {1040000, 1040000, 1040000, 1040000, 1040000};
    assert_false(is_slower(little, f32, 100));
    assert_false(is_slower(four, f32, 1));
    assert_true(is_slower(four, f32, 3));
}

/* Some 8 MFLOP each, two of one shape. */
static mezzo_status build(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(64, 256));
    for (int k = 0; k < 3; k++) {
        static const char *const names[] = {"a", "b", "c"};
        x = mezzo_relu(graph, mezzo_linear(graph, names[k], x, 256, true));
    }
    mezzo_loss(graph, mezzo_sum(graph, x));
    return MEZZO_OK;
}

/* Where there is nothing to choose between, no layer is slow; all that was made is given back. */
static void test_measuring(void **state) {
    (void)state;
    for (int isa = MEZZO_ISA_AUTO; isa <= MEZZO_ISA_REF; isa++) {
        const mezzo_ctx_config small = {.threads = 2, .isa = (mezzo_isa)isa};
        const mezzo_model_config config = {
            .build = build,
            .precision = {.compute = MEZZO_BF16, .speed_gate = MEZZO_SPEED_GATE_AUTO}};
        mezzo_ctx *ctx;
        mezzo_model *model;
        assert_int_equal(mezzo_ctx_create(&ctx, &small, NULL), MEZZO_OK);
        assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
        uint64_t held = mezzo_ctx_memory(ctx).bytes_used;
        uint64_t calls = mezzo_ctx_memory(ctx).alloc_count;
        assert_int_equal(mezzo_model_measure_speed(model), MEZZO_OK);
        bool native = !model->backend->target.no_bf16;
        assert_int_equal(mezzo_ctx_memory(ctx).alloc_count > calls, native);
        assert_true(native || mezzo_model_slow_count(model) == 0);
        if (mezzo_model_slow_count(model) == 0)
            assert_true(mezzo_ctx_memory(ctx).bytes_used == held);
        for (int k = 0; k < mezzo_model_slow_count(model); k++)
            assert_non_null(strpbrk(mezzo_model_slow_at(model, k).name, "abc"));
        assert_string_equal(mezzo_model_slow_at(model, 99).name, "");
        mezzo_model_destroy(model);
        mezzo_ctx_destroy(ctx);
    }
}

/* A layer that is said to be slow computes in FP32, backward too; a name that is none is an error.
 */
static void test_pins(void **state) {
    (void)state;
    mezzo_ctx *ctx;
    mezzo_model *model;
    mezzo_slow_layer slow = {"b", 12.0, 10.0};
    mezzo_model_config config = {.build = build,
                                 .precision = {.compute = MEZZO_BF16,
                                               .speed_gate = MEZZO_SPEED_GATE_AUTO,
                                               .slow = &slow,
                                               .slow_count = 1}};
    assert_int_equal(mezzo_ctx_create(&ctx, &(mezzo_ctx_config){.threads = 1}, NULL), MEZZO_OK);
    assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    mezzo_graph *graph;
    assert_int_equal(mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph), MEZZO_OK);
    bool native = !model->backend->target.no_bf16;
    int held = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        bool is_b = strcmp(node->name, "b") == 0 || strcmp(node->name, "b/dx") == 0 ||
                    strcmp(node->name, "b/dw") == 0;
        bool is_a = strcmp(node->name, "a") == 0;
        if (is_b) {
            assert_int_equal(node->rule, MZI_RULE_SPEED);
            assert_int_equal(node->compute, MEZZO_F32);
            held++;
        }
        if (is_a)
            assert_int_equal(node->compute, native ? MEZZO_BF16 : MEZZO_F32);
    }
    assert_int_equal(held, 3);
    mzi_graph_destroy(graph);
    mezzo_model_destroy(model);
    /* None, one that is no product, and a part of backward: none could be held in FP32. */
    static const char *const others[] = {"d", "relu1", "b/dx"};
    for (int k = 0; k < 3; k++) {
        slow.name = others[k];
        assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_CONFIG);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, others[k]));
    }
    mezzo_ctx_destroy(ctx);
}

static mezzo_status build_named(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(4, 8));
    x = mezzo_linear(graph, "block", x, 8, true);
    mezzo_loss(graph, mezzo_sum(graph, mezzo_linear(graph, "block/in", x, 8, true)));
    return MEZZO_OK;
}

/* A name with a slash is a layer of its own. */
static void test_pin_with_a_slash(void **state) {
    (void)state;
    mezzo_ctx *ctx;
    mezzo_model *model;
    mezzo_graph *graph;
    int held = 0;
    const mezzo_slow_layer slow = {"block/in", 12.0, 10.0};
    const mezzo_model_config config = {.build = build_named,
                                       .precision = {.compute = MEZZO_BF16,
                                                     .speed_gate = MEZZO_SPEED_GATE_AUTO,
                                                     .slow = &slow,
                                                     .slow_count = 1}};
    assert_int_equal(mezzo_ctx_create(&ctx, &(mezzo_ctx_config){.threads = 1}, NULL), MEZZO_OK);
    assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    assert_int_equal(mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph), MEZZO_OK);
    for (int32_t n = 0; n < graph->node_count; n++)
        if (strncmp(graph->nodes[n].name, "block/in", 8) == 0 &&
            graph->nodes[n].rule == MZI_RULE_SPEED)
            held++;
    assert_int_equal(held, 3);
    mzi_graph_destroy(graph);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rule), cmocka_unit_test(test_measuring), cmocka_unit_test(test_pins),
        cmocka_unit_test(test_pin_with_a_slash)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
