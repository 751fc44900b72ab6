/* Which type every operation computes in, and the casts and hashes that follow from it. */
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
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

static const mezzo_init uniform = {MEZZO_INIT_UNIFORM, 0.5f};

/* conv, norm, relu, pool, linear, gelu, scale, head, loss. */
static mezzo_status build_net(mezzo_graph *graph, void *user) {
    const float *factor = user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(4, 6, 6, 2));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(4));
    x = mezzo_conv2d(graph, "conv", x,
                     (mezzo_conv2d_config){.channels = 4, .kernel = 3, .pad = 1, .bias = true});
    x = mezzo_batch_norm(graph, "norm", x, 0.0f, 0.0f);
    x = mezzo_max_pool(graph, mezzo_relu(graph, x), 2, 0, 0);
    x = mezzo_gelu(graph, mezzo_linear(graph, "fc", mezzo_flatten(graph, x), 6, true));
    x = mezzo_linear(graph, "head", mezzo_scale(graph, x, factor ? *factor : 2.0f), 3, false);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL));
    return MEZZO_OK;
}

static mezzo_model *make(mezzo_ctx *ctx, mezzo_build_fn *build, void *user,
                         const mezzo_precision *precision) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {
        .build = build, .user = user, .precision = *precision, .seed = 1};
    if (mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    return model;
}

static const mzi_plan *plan_of(mezzo_model *model) {
    if (mzi_model_ensure(model, MEZZO_ENTRY_TRAIN) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(model->ctx)->text);
    return model->entries[MEZZO_ENTRY_TRAIN].plan;
}

static const mzi_node *node_of(const mzi_plan *plan, const char *name) {
    for (int32_t n = 0; n < plan->graph->node_count; n++)
        if (strcmp(plan->graph->nodes[n].name, name) == 0)
            return &plan->graph->nodes[n];
    fail_msg("there is no operation %s", name);
    return NULL;
}

static mezzo_dtype in_type(const mzi_plan *plan, const char *name, int k) {
    return plan->graph->values[node_of(plan, name)->in[k]].tensor.dtype;
}
static mezzo_dtype out_type(const mzi_plan *plan, const char *name, int k) {
    return plan->graph->values[node_of(plan, name)->out[k]].tensor.dtype;
}

/* What the table says for this net: forward, and backward in their wake. */
static void check_table(const mzi_plan *plan, mezzo_dtype low) {
    static const struct {
        const char *name;
        mzi_rule rule;
    } nodes[] = {{"conv", MZI_RULE_LOW},
                 {"norm", MZI_RULE_REDUCE},
                 {"relu1", MZI_RULE_FOLLOW},
                 {"max_pool1", MZI_RULE_FOLLOW},
                 {"reshape1", MZI_RULE_FOLLOW},
                 {"fc", MZI_RULE_LOW},
                 {"gelu1", MZI_RULE_FOLLOW},
                 {"scale1", MZI_RULE_FOLLOW},
                 {"head", MZI_RULE_LOW},
                 {"softmax_cross_entropy1", MZI_RULE_REDUCE},
                 {"softmax_cross_entropy1/dx", MZI_RULE_REDUCE},
                 {"head/dw", MZI_RULE_LOW},
                 {"head/dx", MZI_RULE_LOW},
                 {"gelu1/dx", MZI_RULE_FOLLOW},
                 {"fc/db", MZI_RULE_REDUCE},
                 {"max_pool1/dx", MZI_RULE_FOLLOW},
                 {"norm/dx", MZI_RULE_REDUCE},
                 {"conv/dw", MZI_RULE_LOW}};
    for (size_t k = 0; k < sizeof nodes / sizeof *nodes; k++) {
        const mzi_node *node = node_of(plan, nodes[k].name);
        mzi_rule rule =
            low == MEZZO_F32 && nodes[k].rule == MZI_RULE_LOW ? MZI_RULE_FULL : nodes[k].rule;
        if (node->compute != low || node->rule != rule)
            fail_msg("%s computes in %s by rule %s", nodes[k].name, mezzo_dtype_name(node->compute),
                     mzi_rule_name(node->rule));
        assert_true(node->reason && node->reason[0] != '\0');
        assert_int_equal(in_type(plan, nodes[k].name, 0), low);
    }
    /* Operands that are FP32 always: bias, a norm's parameters and statistics, sums, gradients. */
    assert_int_equal(in_type(plan, "conv", 1), low);
    assert_int_equal(in_type(plan, "conv", 2), MEZZO_F32);
    for (int k = 1; k < 5; k++) {
        assert_int_equal(in_type(plan, "norm", k), MEZZO_F32);
        assert_int_equal(out_type(plan, "norm", k), MEZZO_F32);
    }
    assert_int_equal(out_type(plan, "norm", 0), low);
    assert_int_equal(out_type(plan, "max_pool1", 1), MEZZO_U8);
    assert_int_equal(out_type(plan, "softmax_cross_entropy1", 0), MEZZO_F32);
    assert_int_equal(out_type(plan, "conv/dw", 0), MEZZO_F32);
    for (int32_t g = 0; g < plan->graph->grad_count; g++)
        assert_int_equal(plan->graph->values[plan->graph->grads[g].grad].tensor.dtype, MEZZO_F32);
}

static void test_table(void **state) {
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    for (int t = 0; t < 3; t++) {
        const mezzo_precision precision = {.compute = types[t]};
        mezzo_model *model = make(*state, build_net, NULL, &precision);
        const mzi_plan *plan = plan_of(model);
        check_table(plan, types[t]);
        /* Casts: data once, and three weights in the phase prepare; gradients come out as FP32. */
        assert_int_equal(plan->cast_count, types[t] == MEZZO_F32 ? 0 : 4);
        int prepared = 0;
        for (int32_t n = 0; n < plan->graph->node_count; n++) {
            const mzi_node *node = &plan->graph->nodes[n];
            if (node->op != &mzi_op_cast)
                continue;
            prepared += node->phase == MZI_PHASE_PREPARE;
            assert_int_equal(node->rule, MZI_RULE_CAST);
            assert_non_null(strstr(node->reason, "computes in"));
        }
        assert_int_equal(prepared, types[t] == MEZZO_F32 ? 0 : 3);
        /* What is read in a low type is told by the state. */
        int w = mezzo_model_state_find(model, "fc.weight");
        int b = mezzo_model_state_find(model, "fc.bias");
        assert_int_equal(mezzo_model_state_at(model, w).compute, types[t]);
        assert_int_equal(mezzo_model_state_at(model, b).compute, MEZZO_F32);
        mezzo_model_destroy(model);
    }
}

/* NONE is FP32, and FP32 inserts nothing. */
static void test_default_is_f32(void **state) {
    const mezzo_precision precision = {0};
    mezzo_model *model = make(*state, build_net, NULL, &precision);
    check_table(plan_of(model), MEZZO_F32);
    mezzo_model_destroy(model);
}

static void test_overrides(void **state) {
    const mezzo_override overrides[] = {
        {"*", MEZZO_F16}, {"*c*", MEZZO_BF16}, {"fc", MEZZO_F32}, {"hea?", MEZZO_F32}};
    const mezzo_precision precision = {
        .compute = MEZZO_BF16, .overrides = overrides, .override_count = 4};
    mezzo_model *model = make(*state, build_net, NULL, &precision);
    const mzi_plan *plan = plan_of(model);
    static const struct {
        const char *name;
        mezzo_dtype compute;
        const char *reason;
    } expected[] = {{"conv", MEZZO_BF16, "\"*c*\""},    {"conv/dw", MEZZO_BF16, "\"*c*\""},
                    {"norm", MEZZO_F16, "\"*\""},       {"norm/dx", MEZZO_F16, "\"*\""},
                    {"fc", MEZZO_F32, "\"fc\""},        {"fc/dx", MEZZO_F32, "\"fc\""},
                    {"fc/db", MEZZO_F32, "\"fc\""},     {"gelu1/dx", MEZZO_F16, "\"*\""},
                    {"head/dw", MEZZO_F32, "\"hea?\""}, {"scale1", MEZZO_BF16, "\"*c*\""}};
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        const mzi_node *node = node_of(plan, expected[k].name);
        if (node->compute != expected[k].compute || node->rule != MZI_RULE_OVERRIDE ||
            !strstr(node->reason, expected[k].reason))
            fail_msg("%s: %s, %s, %s", node->name, mezzo_dtype_name(node->compute),
                     mzi_rule_name(node->rule), node->reason);
    }
    mezzo_model_destroy(model);
    const mezzo_dtype none_of[] = {MEZZO_F64, MEZZO_F8_E4M3, MEZZO_F8_E5M2};
    for (size_t k = 0; k < sizeof none_of / sizeof *none_of; k++) {
        const mezzo_override bad[] = {{"conv", none_of[k]}};
        const mezzo_model_config config = {
            .build = build_net,
            .precision = {.compute = MEZZO_BF16, .overrides = bad, .override_count = 1}};
        mezzo_model *none = NULL;
        assert_int_equal(mezzo_model_create(&none, *state, &config, MEZZO_ENTRY_TRAIN),
                         MEZZO_INVALID_ARGUMENT);
        assert_non_null(strstr(mezzo_ctx_error(*state)->text, "\"conv\""));
        assert_null(none);
    }
}

static void test_storage_types_compute_nothing(void **state) {
    static const mezzo_dtype types[] = {MEZZO_F8_E4M3, MEZZO_F8_E5M2, MEZZO_U8};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        const mezzo_model_config config = {.build = build_net, .precision.compute = types[k]};
        mezzo_model *none = NULL;
        assert_int_equal(mezzo_model_create(&none, *state, &config, MEZZO_ENTRY_TRAIN),
                         MEZZO_INVALID_ARGUMENT);
        assert_non_null(strstr(mezzo_ctx_error(*state)->text, "only for storage"));
        assert_null(none);
    }
}

/* One weight, two uses of different types: each has its own form, and the master is read where the
 * use is FP32. */
static mezzo_status build_tied(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(3, 4));
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape2(4, 4), uniform);
    for (int k = 0; k < 3; k++) {
        static const char *const names[] = {"embed", "middle", "head"};
        const mezzo_value in[] = {x, w};
        x = mezzo_apply(graph, &mzi_op_linear, names[k], in, 2, NULL, NULL);
    }
    mezzo_loss(graph, mezzo_mean(graph, x));
    return MEZZO_OK;
}

/* The state or derived value that a packed or cast operand was made from. */
static int32_t source_of(const mzi_plan *plan, int32_t v) {
    while (plan->graph->values[v].producer >= 0)
        v = plan->graph->nodes[plan->graph->values[v].producer].in[0];
    return v;
}

static void test_tied_weight_follows_each_use(void **state) {
    const mezzo_override overrides[] = {{"head", MEZZO_F32}, {"middle", MEZZO_F16}};
    const mezzo_precision precision = {
        .compute = MEZZO_BF16, .overrides = overrides, .override_count = 2};
    mezzo_model *model = make(*state, build_tied, NULL, &precision);
    const mzi_plan *plan = plan_of(model);
    static const struct {
        const char *name;
        mezzo_dtype type;
    } uses[] = {{"embed", MEZZO_BF16},
                {"middle", MEZZO_F16},
                {"head", MEZZO_F32},
                {"head/dx", MEZZO_F32},
                {"middle/dx", MEZZO_F16}};
    for (int k = 0; k < 5; k++) {
        assert_int_equal(node_of(plan, uses[k].name)->compute, uses[k].type);
        assert_int_equal(in_type(plan, uses[k].name, 1), uses[k].type);
        int32_t source = source_of(plan, node_of(plan, uses[k].name)->in[1]);
        assert_string_equal(plan->graph->values[source].name, "w");
    }
    assert_int_equal(plan->graph->grad_count, 1);
    assert_int_equal(plan->graph->values[plan->graph->grads[0].grad].tensor.dtype, MEZZO_F32);
    int casts_of_w = 0;
    for (int32_t n = 0; n < plan->graph->node_count; n++)
        casts_of_w += plan->graph->nodes[n].op == &mzi_op_cast &&
                      plan->graph->nodes[n].phase == MZI_PHASE_PREPARE;
    assert_int_equal(casts_of_w, 2);
    mezzo_model_destroy(model);
}

/* An operation of a user: y = 3 x, with a gradient of its own, that takes FP32 only. */
static int runs;
static mezzo_status triple_infer(const mezzo_op_use *use) {
    use->out[0] = use->in[0];
    return MEZZO_OK;
}
static void triple_run(const mezzo_op_operands *operands, int64_t begin, int64_t end) {
    int64_t columns = operands->in_tensor[0].shape.dim[1];
    const float *x = operands->in[0];
    float *y = operands->out[0];
    runs++;
    for (int64_t i = begin * columns; i < end * columns; i++)
        y[i] = (float)operands->attrs->f[0] * x[i];
}
static mezzo_status triple_gradient(const mezzo_op_gradient *use) {
    use->din[0] = mezzo_scale(use->graph, use->dout[0], 3.0f);
    return MEZZO_OK;
}
static const mezzo_op_def triple = {.name = "triple",
                                    .in_min = 1,
                                    .in_max = 1,
                                    .out_count = 1,
                                    .cast = MEZZO_CAST_FOLLOW,
                                    .types = MEZZO_BIT(MEZZO_F32),
                                    .infer = triple_infer,
                                    .gradient = triple_gradient,
                                    .run = triple_run,
                                    .grain = 2};

enum {
    ROWS = 5,
    COLUMNS = 3
};
static mezzo_status build_custom(mezzo_graph *graph, void *user) {
    const mezzo_op_def *op = user;
    const mezzo_attrs attrs = {.f = {3.0}};
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(ROWS, COLUMNS));
    x = mezzo_linear(graph, "fc", x, COLUMNS, false);
    x = mezzo_apply(graph, op, "mine", &x, 1, &attrs, NULL);
    x = mezzo_linear(graph, "head", x, COLUMNS, false);
    mezzo_output(graph, "y", x);
    mezzo_loss(graph, mezzo_sum(graph, x));
    return MEZZO_OK;
}

static void test_custom_operation_by_contract(void **state) {
    const mezzo_precision precision = {.compute = MEZZO_BF16};
    mezzo_model *model = make(*state, build_custom, (void *)(uintptr_t)&triple, &precision);
    const mzi_plan *plan = plan_of(model);
    const mzi_node *mine = node_of(plan, "mine");
    assert_int_equal(mine->compute, MEZZO_F32);
    assert_int_equal(mine->rule, MZI_RULE_CONTRACT);
    assert_non_null(strstr(mine->reason, "triple does not take bf16"));
    const mzi_node *cast = &plan->graph->nodes[plan->graph->values[mine->in[0]].producer];
    assert_ptr_equal(cast->op, &mzi_op_cast);
    assert_string_equal(plan->graph->values[cast->in[0]].name, "fc");
    assert_non_null(strstr(cast->reason, "`mine` computes in f32 (contract)"));
    mezzo_model_destroy(model);
    const mezzo_model_config config = {.build = build_custom,
                                       .user = (void *)(uintptr_t)&triple,
                                       .precision = {.compute = MEZZO_BF16, .strict = true}};
    assert_int_equal(mezzo_model_create(&model, *state, &config, MEZZO_ENTRY_TRAIN),
                     MEZZO_DOWNGRADE);
    assert_non_null(strstr(mezzo_ctx_error(*state)->text, "`mine`"));
    mezzo_op_def none = triple;
    none.types = MEZZO_BIT(MEZZO_U8);
    const mezzo_model_config impossible = {.build = build_custom, .user = &none};
    assert_int_equal(mezzo_model_create(&model, *state, &impossible, MEZZO_ENTRY_TRAIN),
                     MEZZO_UNSUPPORTED);
}

/* Its function runs, in chunks of its grain, and its gradient takes part: y = 3 x W1^T W2^T. */
static void test_custom_operation_runs(void **state) {
    const mezzo_precision precision = {.compute = MEZZO_F32};
    const mezzo_trainer_config trainer_config = {.optimizer = {.kind = "sgd"}};
    mezzo_model *model = make(*state, build_custom, (void *)(uintptr_t)&triple, &precision);
    mezzo_trainer *trainer = NULL;
    float x[ROWS * COLUMNS], w[COLUMNS * COLUMNS], v[COLUMNS * COLUMNS], g[COLUMNS * COLUMNS];
    mezzo_step_result r;
    for (int i = 0; i < ROWS * COLUMNS; i++)
        x[i] = (float)i / 8.0f - 0.5f;
    assert_int_equal(mezzo_trainer_create(&trainer, model, &trainer_config), MEZZO_OK);
    assert_int_equal(
        mezzo_model_read(model, mezzo_model_state_find(model, "fc.weight"), w, COLUMNS * COLUMNS),
        MEZZO_OK);
    assert_int_equal(
        mezzo_model_read(model, mezzo_model_state_find(model, "head.weight"), v, COLUMNS * COLUMNS),
        MEZZO_OK);
    const mezzo_binding input = {"x", x, sizeof x};
    runs = 0;
    assert_int_equal(mezzo_trainer_step(trainer, &input, 1, &r), MEZZO_OK);
    assert_int_equal(runs, 3); /* five rows by two */
    assert_int_equal(mezzo_trainer_read_gradient(trainer, "fc.weight", g, COLUMNS * COLUMNS),
                     MEZZO_OK);
    for (int i = 0; i < COLUMNS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            double column = 0, s = 0;
            for (int k = 0; k < COLUMNS; k++)
                column += (double)v[k * COLUMNS + i];
            for (int k = 0; k < ROWS; k++)
                s += (double)x[k * COLUMNS + j];
            double difference = (double)g[i * COLUMNS + j] - 3 * column * s;
            assert_true(difference < 0x1p-18 && difference > -0x1p-18); /* numbers below 16 */
        }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

/* Builds, differentiates and types a net; nothing is planned. */
static mezzo_graph *typed(mezzo_ctx *ctx, mezzo_dtype compute, float *factor) {
    mezzo_graph *graph = NULL;
    const mezzo_precision precision = {.compute = compute};
    assert_int_equal(mzi_graph_create(&graph, ctx, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    assert_int_equal(build_net(graph, factor), MEZZO_OK);
    assert_int_equal(mzi_differentiate(graph), MEZZO_OK);
    assert_int_equal(mzi_pass_autocast(graph, &precision, NULL), MEZZO_OK);
    return graph;
}

/* Append a cast of `v` to `dtype` that nobody asked for. */
static void plant_cast(mezzo_graph *graph, int32_t v, mezzo_dtype dtype) {
    assert_int_equal(mzi_grow(graph->ctx, (void **)&graph->nodes, &graph->node_capacity,
                              graph->node_count + 1, sizeof *graph->nodes),
                     MEZZO_OK);
    int32_t out = mzi_graph_add_value(graph, "planted", MZI_VALUE_TEMP,
                                      (mezzo_tensor){dtype, graph->values[v].tensor.shape});
    graph->values[out].producer = graph->node_count;
    graph->nodes[graph->node_count++] = (mzi_node){.op = &mzi_op_cast,
                                                   .name = "planted",
                                                   .in_count = 1,
                                                   .out_count = 1,
                                                   .in = {v},
                                                   .out = {out},
                                                   .compute = dtype};
}

static void test_redundant_casts_are_found(void **state) {
    mezzo_ctx *ctx = *state;
    for (int kind = 0; kind < 3; kind++) {
        mzi_error_clear(ctx);
        mezzo_graph *graph = typed(ctx, MEZZO_BF16, NULL);
        assert_int_equal(mzi_pass_check_casts(graph), MEZZO_OK);
        int32_t cast = 0;
        while (graph->nodes[cast].op != &mzi_op_cast)
            cast++;
        int32_t from = graph->nodes[cast].in[0], to = graph->nodes[cast].out[0];
        if (kind == 0) /* to the type that it has */
            plant_cast(graph, to, MEZZO_BF16);
        else if (kind == 1) /* the same once more */
            plant_cast(graph, from, MEZZO_BF16);
        else /* there and back */
            plant_cast(graph, to, MEZZO_F32);
        static const char *const says[] = {"already", "gives the same", "before"};
        assert_int_equal(mzi_pass_check_casts(graph), MEZZO_FAILURE);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "`planted`"));
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, says[kind]));
        mzi_graph_destroy(graph);
    }
}

static void numerics(mezzo_ctx *ctx, mezzo_dtype compute, float factor, const char *recipe,
                     char hex[65]) {
    mezzo_graph *graph = typed(ctx, compute, &factor);
    mzi_hash_numerics(graph, recipe, hex);
    mzi_graph_destroy(graph);
}

static void test_numerics_hash(void **state) {
    char first[65], other[65];
    numerics(*state, MEZZO_BF16, 2.0f, "sgd", first);
    assert_int_equal(strlen(first), 64);
    numerics(*state, MEZZO_BF16, 2.0f, "sgd", other);
    assert_string_equal(first, other);
    numerics(*state, MEZZO_F16, 2.0f, "sgd", other);
    assert_string_not_equal(first, other);
    numerics(*state, MEZZO_BF16, 2.000001f, "sgd", other);
    assert_string_not_equal(first, other);
    numerics(*state, MEZZO_BF16, 2.0f, "sgd, lr 2", other);
    assert_string_not_equal(first, other);
}

/* Numerics do not depend on workers and instruction set; execution depends on the latter.  The
 * limit that oneDNN keeps for the process is set by the first context, so the lowest comes first.
 */
static void test_hashes_of_a_machine(void **state) {
    (void)state;
    static const struct {
        int threads;
        mezzo_isa isa;
    } runs_on[] = {{1, MEZZO_ISA_REF}, {3, MEZZO_ISA_REF}, {1, MEZZO_ISA_AVX2}};
    mezzo_plan_info info[3];
    int count = mzi_cpu_isa() >= MEZZO_ISA_AVX2 ? 3 : 2;
    for (int k = 0; k < count; k++) {
        const mezzo_ctx_config config = {.threads = runs_on[k].threads, .isa = runs_on[k].isa};
        const mezzo_precision precision = {.compute = MEZZO_BF16};
        mezzo_ctx *ctx = NULL;
        assert_int_equal(mezzo_ctx_create(&ctx, &config, NULL), MEZZO_OK);
        mezzo_model *model = make(ctx, build_net, NULL, &precision);
        assert_int_equal(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info[k]), MEZZO_OK);
        mezzo_model_destroy(model);
        mezzo_ctx_destroy(ctx);
    }
    for (int k = 1; k < count; k++)
        assert_string_equal(info[0].numerics_hash, info[k].numerics_hash);
    assert_string_equal(info[0].execution_hash, info[1].execution_hash);
    if (count > 2)
        assert_string_not_equal(info[0].execution_hash, info[2].execution_hash);
}

/* Where FP16 has no instructions, strict refuses and names the operation; without it the fallback
 * is counted. */
static void test_fallbacks_are_counted_or_refused(void **state) {
    mezzo_precision precision = {.compute = MEZZO_F16};
    mezzo_plan_info info;
    mezzo_model *model = make(*state, build_net, NULL, &precision);
    assert_int_equal(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info), MEZZO_OK);
    assert_int_equal(info.fallback_count, 8); /* three layers: forward, dw, and dx of two */
    mezzo_plan_op op;
    int named = 0;
    for (int k = 0; k < info.op_count; k++) {
        assert_int_equal(mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, k, &op), MEZZO_OK);
        if (op.fallback && strcmp(op.phase, "prepare") != 0)
            named += strstr(op.fallback, "FP16") != NULL;
    }
    assert_int_equal(named, 8);
    assert_int_equal(mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, info.op_count, &op),
                     MEZZO_INVALID_ARGUMENT);
    mezzo_model_destroy(model);
    precision.strict = true;
    model = make(*state, build_net, NULL, &precision);
    assert_int_equal(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info), MEZZO_DOWNGRADE);
    assert_non_null(strstr(mezzo_ctx_error(*state)->text, "`conv`"));
    mezzo_model_destroy(model);
    precision.compute = MEZZO_F32;
    model = make(*state, build_net, NULL, &precision);
    assert_int_equal(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info), MEZZO_OK);
    assert_int_equal(info.fallback_count, 0);
    mezzo_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes_of_a_machine),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_default_is_f32),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_storage_types_compute_nothing),
        cmocka_unit_test(test_tied_weight_follows_each_use),
        cmocka_unit_test(test_custom_operation_by_contract),
        cmocka_unit_test(test_custom_operation_runs),
        cmocka_unit_test(test_redundant_casts_are_found),
        cmocka_unit_test(test_numerics_hash),
        cmocka_unit_test(test_fallbacks_are_counted_or_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
