/* Where backward is cut: the window of a maximum, the fewest runs, names; and what is refused. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "graph/segments.h"
#include "mezzo/ops.h"
#include "train/model.h"
#include "unit/cmocka_all.h"

enum {
    MAX = MEZZO_SEGMENT_EXPONENT_MAX
};

static int setup(void **state) {
    const mezzo_ctx_config config = {.threads = 1};
    return mezzo_ctx_create((mezzo_ctx **)state, &config, NULL) == MEZZO_OK ? 0 : -1;
}

static int teardown(void **state) {
    mezzo_ctx_destroy(*state);
    return 0;
}

static void check_window(double maximum, double scale, int32_t low, int32_t high) {
    mzi_exponents found = mzi_segment_window(maximum, scale);
    if (found.low != low || found.high != high)
        fail_msg("%a times %a: %d..%d, not %d..%d", maximum, scale, found.low, found.high, low,
                 high);
}

static void window(void **state) {
    (void)state;
    check_window(1.0, 1.0, -4, 12);
    check_window(1.5, 1.0, -4, 11); /* 1.5 2^12 is beyond 2^12; 1.5 2^-5 below 2^-4 */
    check_window(0x1p-20, 0x1p16, 0, 16);
    check_window(0x1p30, 0x1p16, -50, -34);
    check_window(0x1p-80, 1.0, MAX, MAX);
    check_window(0x1p90, 1.0, -MAX, -MAX);
    check_window(0.0, 0x1p16, -MAX, MAX);
}

/* The fewest runs by dynamic programming: runs[n] = 1 + the least runs[m] of the m from which on
 * all up to n have an exponent in common. */
static int32_t fewest(const mzi_exponents *allowed, int32_t count) {
    int32_t runs[64] = {0};
    for (int32_t end = 1; end <= count; end++) {
        int32_t low = -MAX, high = MAX;
        runs[end] = end;
        for (int32_t first = end - 1; first >= 0; first--) {
            low = allowed[first].low > low ? allowed[first].low : low;
            high = allowed[first].high < high ? allowed[first].high : high;
            if (low <= high && runs[first] + 1 < runs[end])
                runs[end] = runs[first] + 1;
        }
    }
    return runs[count];
}

static void cuts(void **state) {
    (void)state;
    int several = 0;
    for (uint64_t number = 0; number < 2000; number++) {
        mzi_exponents allowed[40];
        int32_t exponent[40], count = 1 + (int32_t)(number % 40), changes = 0;
        for (int32_t n = 0; n < count; n++) {
            uint32_t words[4];
            mzi_rng4(words, 31, number, (uint64_t)n, 0);
            int32_t low = (int32_t)(words[0] % 60) - 40;
            allowed[n] = (mzi_exponents){low, low + (int32_t)(words[1] % 30)};
        }
        int32_t runs = mzi_segments_cut(allowed, count, exponent);
        for (int32_t n = 0; n < count; n++) {
            assert_in_range(exponent[n] + 100, allowed[n].low + 100, allowed[n].high + 100);
            changes += n > 0 && exponent[n] != exponent[n - 1];
        }
        assert_int_equal(runs, changes + 1);
        assert_int_equal(runs, fewest(allowed, count));
        several += runs > 1;
    }
    assert_true(several >= 1000);
    const mzi_exponents three[] = {{0, 10}, {4, 20}, {-MAX, MAX}};
    int32_t exponent[3];
    assert_int_equal(mzi_segments_cut(three, 3, exponent), 1);
    assert_int_equal(exponent[0], 7); /* the middle of 4..10 */
}

/* x feeds three layers, whose gradients are added twice under one name, "relu1/grad". */
static mezzo_status build(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(4, 6));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(4));
    x = mezzo_relu(graph, mezzo_linear(graph, "first", x, 6, false));
    mezzo_value a = mezzo_linear(graph, "a", x, 6, false);
    mezzo_value b = mezzo_linear(graph, "b", x, 6, false);
    mezzo_value c = mezzo_linear(graph, "c", x, 6, false);
    x = mezzo_add(graph, mezzo_add(graph, a, b), c);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, mezzo_linear(graph, "head", x, 3, true),
                                                  labels, NULL, NULL));
    return MEZZO_OK;
}

static mezzo_model *make(mezzo_ctx *ctx, mezzo_build_fn *fn, const mezzo_segment *segments,
                         int count) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {
        .build = fn,
        .precision = {.compute = MEZZO_F16, .segments = segments, .segment_count = count}};
    return mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN) == MEZZO_OK ? model : NULL;
}

static int choose(mezzo_ctx *ctx, const mzi_maximum *table, int32_t count, mezzo_segment out[64]) {
    static char names[64][64];
    mezzo_model *model = make(ctx, build, NULL, 0);
    mezzo_graph *graph = NULL;
    int made = 0;
    assert_non_null(model);
    assert_int_equal(mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph), MEZZO_OK);
    assert_true(graph->node_count < 64);
    assert_int_equal(mzi_segments_choose(graph, table, count, 0x1p16, out, &made), MEZZO_OK);
    for (int k = 0; k < made; k++) { /* the graph goes, the names stay */
        snprintf(names[k], sizeof names[k], "%s", out[k].from);
        out[k].from = names[k];
    }
    mzi_graph_destroy(graph);
    mezzo_model_destroy(model);
    return made;
}

/* One scale does for maxima that span 2^16, wherever they lie. */
static void no_cuts(void **state) {
    mezzo_segment out[64];
    const mzi_maximum near[] = {
        {"softmax_cross_entropy1/dx", 0x1p-40}, {"head/dx", 0x1p-45}, {"first/dx", 0x1p-29}};
    assert_int_equal(choose(*state, near, 3, out), 0);
    assert_int_equal(choose(*state, near, 0, out), 0);
}

static void two_segments(void **state) {
    mezzo_segment out[64];
    /* Logits 2^-4: exponents -16..0.  Behind the head 2^-22: 2..18, which head/dx, reading one and
     * making the other, cannot have: it takes 0, so that the larger one does not overflow. */
    const mzi_maximum table[] = {
        {"softmax_cross_entropy1/dx", 0x1p-4}, {"head/dx", 0x1p-22}, {"c/dx", 0x1p-22}};
    int made = choose(*state, table, 3, out);
    assert_int_equal(made, 2);
    assert_string_equal(out[0].from, "softmax_cross_entropy1/dx");
    assert_int_equal(out[0].exponent, 0);
    assert_true(out[0].high == 0x1p-4);
    assert_string_equal(out[1].from, "c/dw");
    assert_int_equal(out[1].exponent, 10);
    assert_true(out[1].low == 0x1p-22 && out[1].high == 0x1p-22);
    /* Applied, they are found again. */
    mezzo_model *model = make(*state, build, out, made);
    assert_non_null(model);
    assert_int_equal(mezzo_model_segment_count(model), 2);
    assert_string_equal(mezzo_model_segment_at(model, 1).from, "c/dw");
    assert_string_equal(mezzo_model_segment_at(model, 2).from, "");
    mezzo_model_destroy(model);
}

/* Times the scale 2^16: a sum of 2^-4 and 2^-30 allows 0..16 like its larger operand, and takes 8.
 */
static void addition(void **state) {
    mezzo_segment out[64];
    const mzi_maximum table[] = {{"c/dx", 0x1p-20}, {"b/dx", 0x1p-46}, {"relu1/grad", 0x1p-20}};
    assert_int_equal(choose(*state, table, 3, out), 3);
    assert_int_equal(out[0].exponent, 8);
    assert_string_equal(out[1].from, "b/dx");
    assert_int_equal(out[1].exponent, 34);
    assert_string_equal(out[2].from, "relu1/grad");
    assert_int_equal(out[2].exponent, 8);
}

static void check_refused(mezzo_ctx *ctx, const mezzo_segment *segments, int count,
                          const char *text) {
    assert_null(make(ctx, build, segments, count));
    if (!strstr(mezzo_ctx_error(ctx)->text, text))
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
}

static void refused(void **state) {
    const mezzo_segment unknown = {.from = "no/dx"}, forward = {.from = "head"};
    const mezzo_segment large = {.from = "head/dx", .exponent = MAX + 1};
    const mezzo_segment turned[] = {{.from = "a/dx"}, {.from = "head/dx"}};
    check_refused(*state, &unknown, 1, "segment `no/dx`: no backward operation of that name");
    check_refused(*state, &forward, 1, "segment `head`: no backward operation");
    check_refused(*state, &large, 1, "exponent 61 is not in +-60");
    check_refused(*state, turned, 2,
                  "segment `head/dx`: no backward operation of that name behind");
}

/* A gradient that squares what it gets: not linear. */
static mezzo_status infer(const mezzo_op_use *use) {
    use->out[0] = use->in[0];
    return MEZZO_OK;
}

static void run_copy(const mezzo_op_operands *o, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        memcpy(o->out[0], o->in[0], 4);
}

static mezzo_status squares(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->dout[0]};
    use->din[0] = mezzo_mul(use->graph, in[0], in[1]);
    return MEZZO_OK;
}

static mezzo_status bends(const mezzo_op_gradient *use) {
    use->din[0] = mezzo_gelu(use->graph, use->dout[0]);
    return MEZZO_OK;
}

static const mezzo_op_def ops[] = {{.name = "square",
                                    .in_min = 1,
                                    .in_max = 1,
                                    .out_count = 1,
                                    .infer = infer,
                                    .gradient = squares,
                                    .run = run_copy},
                                   {.name = "bend",
                                    .in_min = 1,
                                    .in_max = 1,
                                    .out_count = 1,
                                    .infer = infer,
                                    .gradient = bends,
                                    .run = run_copy}};

static mezzo_status build_custom(mezzo_graph *graph, int which) {
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(4, 6));
    x = mezzo_linear(graph, "first", x, 6, false);
    x = mezzo_apply(graph, &ops[which], "odd", &x, 1, NULL, NULL);
    mezzo_loss(graph, mezzo_sum(graph, x));
    return MEZZO_OK;
}

static mezzo_status build_square(mezzo_graph *graph, void *user) {
    (void)user;
    return build_custom(graph, 0);
}

static mezzo_status build_bend(mezzo_graph *graph, void *user) {
    (void)user;
    return build_custom(graph, 1);
}

static void not_linear(void **state) {
    mezzo_build_fn *const builds[] = {build_square, build_bend};
    const mezzo_segment segment = {.from = "first/dw", .exponent = 1};
    for (int k = 0; k < 2; k++) {
        mezzo_model *model = make(*state, builds[k], NULL, 0);
        assert_non_null(model); /* without segments nothing depends on it */
        mezzo_model_destroy(model);
        assert_null(make(*state, builds[k], &segment, 1));
        assert_int_equal(mezzo_ctx_error(*state)->status, MEZZO_UNSUPPORTED);
        assert_non_null(strstr(mezzo_ctx_error(*state)->text, "is not known to be linear"));
    }
}

static int32_t exponent_of(const mezzo_graph *graph, const char *param) {
    for (int32_t g = 0; g < graph->grad_count; g++)
        if (strcmp(graph->values[graph->grads[g].param].name, param) == 0)
            return graph->grads[g].exponent;
    fail_msg("no parameter %s", param);
    return 0;
}

/* "relu1/grad" twice: a cut at the second names the first too, with the exponent that it has. */
static void same_name(void **state) {
    mezzo_ctx *ctx = *state;
    mezzo_model *model = make(ctx, build, NULL, 0);
    mezzo_graph *graph = NULL, *again = NULL;
    mezzo_segment out[64];
    int made = 0, sums = 0;
    assert_int_equal(mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph), MEZZO_OK);
    for (int32_t n = 0; n < graph->node_count; n++)
        if (strcmp(graph->nodes[n].name, "relu1/grad") == 0 && ++sums == 2)
            graph->values[graph->nodes[n].out[0]].name = "second"; /* to measure it apart */
    assert_int_equal(sums, 2);
    const mzi_maximum table[] = {{"head/dx", 0x1p-4},    {"c/dx", 0x1p-4}, {"b/dx", 0x1p-4},
                                 {"relu1/grad", 0x1p-4}, {"a/dx", 0x1p-4}, {"second", 0x1p20}};
    assert_int_equal(mzi_segments_choose(graph, table, 6, 1.0, out, &made), MEZZO_OK);
    assert_int_equal(made, 3);
    assert_string_equal(out[1].from, "relu1/grad");
    assert_string_equal(out[2].from, "relu1/grad");
    assert_int_equal(out[0].exponent, out[1].exponent);
    assert_true(out[2].exponent < out[1].exponent);
    mezzo_model *cut = make(ctx, build, out, made);
    assert_non_null(cut);
    assert_int_equal(mzi_model_graph(cut, MEZZO_ENTRY_TRAIN, &again), MEZZO_OK);
    assert_int_equal(exponent_of(again, "a.weight"), out[0].exponent);
    assert_int_equal(exponent_of(again, "head.bias"), out[0].exponent);
    assert_int_equal(exponent_of(again, "first.weight"), out[2].exponent);
    mzi_graph_destroy(graph);
    mzi_graph_destroy(again);
    mezzo_model_destroy(model);
    mezzo_model_destroy(cut);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window),       cmocka_unit_test(cuts),      cmocka_unit_test(no_cuts),
        cmocka_unit_test(two_segments), cmocka_unit_test(addition),  cmocka_unit_test(refused),
        cmocka_unit_test(not_linear),   cmocka_unit_test(same_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
