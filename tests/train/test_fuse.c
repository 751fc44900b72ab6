/* Fused operations: which ones a plan has, that no bit changes, and that a fault inside of one has
 * the name and the cause that it has without. */
#include "train/model.h"
#include "train/small_gpt.h"
#include "train/small_net.h"

typedef struct run {
    mezzo_ctx *ctx;
    mezzo_model *model;
    mezzo_trainer *trainer;
} run;

/* A transformer whose loss is halved afterwards, so that something reads it in forward. */
static mezzo_status build_halved(mezzo_graph *graph, void *user) {
    mezzo_status status = gpt_build(graph, user);
    const mezzo_value loss = {graph->loss};
    mezzo_loss(graph, mezzo_scale(graph, loss, 0.5f));
    return status;
}

static run begin(mezzo_build_fn *build, gpt *n, mezzo_dtype compute, int32_t accumulate,
                 bool no_fuse) {
    run r = {.ctx = net_ctx(2)};
    const mezzo_model_config about = {
        .build = build, .user = n, .precision.compute = compute, .seed = 3, .no_fuse = no_fuse};
    mezzo_trainer_config config = {
        .optimizer = mezzo_optimizer_default("adamw"), .clip = 1.0f, .accumulate = accumulate};
    config.optimizer.lr = 0.01f;
    GPT_OK(r.ctx, mezzo_model_create(&r.model, r.ctx, &about, MEZZO_ENTRY_TRAIN));
    GPT_OK(r.ctx, mezzo_trainer_create(&r.trainer, r.model, &config));
    return r;
}

static void end(run *r) {
    mezzo_trainer_destroy(r->trainer);
    mezzo_model_destroy(r->model);
    mezzo_ctx_destroy(r->ctx);
}

/* How many operations of a plan are uses of `op`; the last one to `*found`. */
static int uses(run *r, mezzo_entry entry, const char *op, mezzo_plan_op *found) {
    mezzo_plan_info info;
    int count = 0;
    GPT_OK(r->ctx, mezzo_model_plan_info(r->model, entry, &info));
    for (int k = 0; k < info.op_count; k++) {
        mezzo_plan_op at;
        GPT_OK(r->ctx, mezzo_model_plan_op(r->model, entry, k, &at));
        if (strcmp(at.op, op) != 0)
            continue;
        count++;
        *found = at;
    }
    return count;
}

static void test_what_a_plan_has(void **state) {
    (void)state;
    const mezzo_entry train = MEZZO_ENTRY_TRAIN;
    gpt n = {.batch = GPT_SAMPLES};
    mezzo_plan_op op;
    run r = begin(gpt_build, &n, MEZZO_BF16, 1, false);
    assert_int_equal(uses(&r, train, "linear_cross_entropy_train", &op), 1);
    assert_string_equal(op.name, "head");
    assert_string_equal(op.phase, "backward");
    assert_string_equal(op.rule, "fuse");
    assert_non_null(strstr(op.reason, "`head` and `head/dx`"));
    assert_string_equal(op.source, "train.fuse");
    assert_true(op.compute == MEZZO_BF16);
    assert_int_equal(uses(&r, train, "linear_cross_entropy", &op), 0);
    assert_int_equal(uses(&r, train, "linear_cross_entropy_bwd", &op), 0);
    assert_int_equal(uses(&r, train, "embedding_dw_add", &op), 1);
    assert_string_equal(op.name, "wte/grad");
    assert_non_null(strstr(op.reason, "`embedding/dw` and `wte/grad`"));
    assert_int_equal(uses(&r, train, "embedding_dw", &op), 0);
    assert_int_equal(uses(&r, MEZZO_ENTRY_EVAL, "linear_cross_entropy", &op), 1);
    assert_int_equal(uses(&r, MEZZO_ENTRY_EVAL, "linear_cross_entropy_train", &op), 0);
    end(&r);
    r = begin(gpt_build, &n, MEZZO_BF16, 1, true);
    assert_int_equal(uses(&r, train, "linear_cross_entropy", &op), 1);
    assert_int_equal(uses(&r, train, "linear_cross_entropy_bwd", &op), 1);
    assert_int_equal(uses(&r, train, "embedding_dw", &op), 1);
    end(&r);
}

/* The loss would come too late for what reads it. */
static void test_a_loss_that_is_read(void **state) {
    (void)state;
    gpt n = {.batch = GPT_SAMPLES};
    mezzo_plan_op op;
    run r = begin(build_halved, &n, MEZZO_F32, 1, false);
    assert_int_equal(uses(&r, MEZZO_ENTRY_TRAIN, "linear_cross_entropy_train", &op), 0);
    assert_int_equal(uses(&r, MEZZO_ENTRY_TRAIN, "linear_cross_entropy_bwd", &op), 1);
    assert_int_equal(uses(&r, MEZZO_ENTRY_TRAIN, "embedding_dw_add", &op), 1);
    end(&r);
}

enum {
    STEPS = 5
};

/* Losses and the state's hash after some steps; the plan's activations. */
static uint64_t train(mezzo_dtype compute, int32_t accumulate, bool no_fuse, double loss[STEPS],
                      char hash[65]) {
    static gpt_batch batch;
    gpt n = {.batch = GPT_SAMPLES / accumulate, .dropout = 0.2f};
    mezzo_plan_info plan;
    run r = begin(gpt_build, &n, compute, accumulate, no_fuse);
    for (int64_t s = 0; s < STEPS; s++) {
        gpt_fill(&batch, s, 30);
        mezzo_step_result result = gpt_step(r.ctx, r.trainer, &batch);
        assert_false(result.skipped);
        loss[s] = result.loss;
    }
    GPT_OK(r.ctx, mezzo_trainer_state_hash(r.trainer, hash));
    GPT_OK(r.ctx, mezzo_model_plan_info(r.model, MEZZO_ENTRY_TRAIN, &plan));
    end(&r);
    return plan.activation_bytes;
}

static void test_fusion_changes_no_bit(void **state) {
    (void)state;
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    for (int k = 0; k < 6; k++) {
        char fused[65], plain[65];
        double loss[2][STEPS];
        int32_t accumulate = k % 2 ? 4 : 1;
        uint64_t bytes = train(types[k / 2], accumulate, false, loss[0], fused);
        assert_true(bytes <= train(types[k / 2], accumulate, true, loss[1], plain));
        assert_string_equal(fused, plain);
        assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    }
}

/* The fused head stands in backward; its loss is one of forward all the same. */
static void test_a_fault_of_forward(void **state) {
    (void)state;
    static gpt_batch batch;
    static float wte[GPT_V * GPT_C];
    gpt n = {.batch = GPT_SAMPLES};
    for (int no_fuse = 0; no_fuse < 2; no_fuse++) {
        run r = begin(gpt_build, &n, MEZZO_F16, 1, no_fuse != 0);
        int index = mezzo_model_state_find(r.model, "wte");
        GPT_OK(r.ctx, mezzo_model_read(r.model, index, wte, GPT_V * GPT_C));
        for (int i = 0; i < GPT_V * GPT_C; i++)
            wte[i] *= 0x1p17f; /* in range by themselves; sums of 48 products are not */
        GPT_OK(r.ctx, mezzo_model_write(r.model, index, wte, GPT_V * GPT_C));
        double scale = mezzo_trainer_get_state(r.trainer).scaler.scale;
        gpt_fill(&batch, 0, 0);
        mezzo_step_result result = gpt_step(r.ctx, r.trainer, &batch);
        assert_true(result.skipped);
        assert_int_equal(result.reason, MEZZO_SKIP_FORWARD);
        assert_string_equal(result.where, "head");
        assert_true(mezzo_trainer_get_state(r.trainer).scaler.scale == scale);
        end(&r);
    }
}

/* Each tensor has the meter that it has without, under the same name. */
static void test_meters(void **state) {
    (void)state;
    gpt n = {.batch = GPT_SAMPLES};
    run fused = begin(gpt_build, &n, MEZZO_BF16, 1, false);
    run plain = begin(gpt_build, &n, MEZZO_BF16, 1, true);
    int at = 0, count = mezzo_trainer_meter_count(fused.trainer);
    for (int k = 0; k < mezzo_trainer_meter_count(plain.trainer); k++) {
        mezzo_meter expected = mezzo_trainer_meter(plain.trainer, k);
        mezzo_meter m = mezzo_trainer_meter(fused.trainer, at);
        if (strcmp(expected.name, "embedding/dw") == 0)
            continue; /* a tensor that is gone */
        assert_string_equal(m.name, expected.name);
        assert_true(m.dtype == expected.dtype && m.is_gradient == expected.is_gradient);
        at++;
    }
    assert_int_equal(at, count);
    end(&fused);
    end(&plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_plan_has),
        cmocka_unit_test(test_a_loss_that_is_read),
        cmocka_unit_test(test_fusion_changes_no_bit),
        cmocka_unit_test(test_a_fault_of_forward),
        cmocka_unit_test(test_meters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
