/* Fused operations: which ones a plan has, that no bit changes but those of norms, which stay
 * within their bound, and that a fault inside of one has the name and the cause that it has
 * without. */
#include <math.h>

#include "num/number.h"
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

typedef struct settings {
    mezzo_dtype compute;
    int32_t accumulate;
    bool no_fuse;
    int threads;
    float clip;
    float loss_scale;   /* at the start; 0: the default */
    const char *device; /* null: the default */
} settings;

static run begin_with(mezzo_build_fn *build, gpt *n, settings s) {
    run r = {.ctx = net_ctx(s.threads)};
    const mezzo_model_config about = {.build = build,
                                      .user = n,
                                      .device = s.device,
                                      .precision.compute = s.compute,
                                      .seed = 3,
                                      .no_fuse = s.no_fuse};
    mezzo_trainer_config config = {
        .optimizer = mezzo_optimizer_default("adamw"), .clip = s.clip, .accumulate = s.accumulate};
    config.optimizer.lr = 0.01f;
    if (s.loss_scale > 0.0f)
        config.scaler = (mezzo_scaler_config){MEZZO_SCALE_PYTORCH, .init = s.loss_scale};
    GPT_OK(r.ctx, mezzo_model_create(&r.model, r.ctx, &about, MEZZO_ENTRY_TRAIN));
    GPT_OK(r.ctx, mezzo_trainer_create(&r.trainer, r.model, &config));
    return r;
}

static run begin(mezzo_build_fn *build, gpt *n, mezzo_dtype compute, int32_t accumulate,
                 bool no_fuse) {
    return begin_with(build, n, (settings){compute, accumulate, no_fuse, .threads = 2});
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

/* Of the products for weights, if they are our own; with several micro-batches, norms are of sums.
 */
static void test_figures_in_a_plan(void **state) {
    (void)state;
    const mezzo_entry train = MEZZO_ENTRY_TRAIN;
    gpt n = {.batch = GPT_SAMPLES};
    mezzo_plan_op op;
    run plain = begin(gpt_build, &n, MEZZO_BF16, 1, true);
    int all = uses(&plain, train, "stats", &op), products = uses(&plain, train, "linear_dw", &op);
    bool own = plain.ctx->isa >= MEZZO_ISA_AVX512;
    assert_int_equal(products, 4 * GPT_LAYERS);
    end(&plain);
    run r = begin(gpt_build, &n, MEZZO_BF16, 1, false);
    assert_int_equal(uses(&r, train, "linear_dw_stats", &op), own ? products : 0);
    assert_int_equal(uses(&r, train, "linear_dw", &op), own ? 0 : products);
    assert_int_equal(uses(&r, train, "stats", &op), own ? all - products : all);
    if (own) {
        assert_int_equal(uses(&r, train, "linear_dw_stats", &op), products);
        assert_string_equal(op.name, "h.0.qkv/dw");
        assert_string_equal(op.phase, "backward");
        assert_string_equal(op.rule, "fuse");
        assert_non_null(strstr(op.reason, "`h.0.qkv/dw` and `h.0.qkv.weight/norm`"));
    }
    end(&r);
    r = begin(gpt_build, &n, MEZZO_BF16, 2, false);
    assert_int_equal(uses(&r, train, "linear_dw_stats", &op), 0);
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

/* Losses and the state's hash after some steps, without clipping; the plan's activations. */
static uint64_t train(const char *device, mezzo_dtype compute, int32_t accumulate, bool no_fuse,
                      double loss[STEPS], char hash[65]) {
    static gpt_batch batch;
    gpt n = {.batch = GPT_SAMPLES / accumulate, .dropout = 0.2f};
    mezzo_plan_info plan;
    run r = begin_with(gpt_build, &n,
                       (settings){compute, accumulate, no_fuse, .threads = 2, .device = device});
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
    for (int k = 0; k < 9; k++) {
        char fused[65], plain[65];
        double loss[2][STEPS];
        const char *device = k < 6 ? "cpu" : "ref";
        int32_t accumulate = k / 3 % 2 ? 4 : 1;
        uint64_t bytes = train(device, types[k % 3], accumulate, false, loss[0], fused);
        assert_true(bytes <= train(device, types[k % 3], accumulate, true, loss[1], plain));
        assert_string_equal(fused, plain);
        assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    }
}

/* What `where` names goes with the graph: the result has a copy, one for each of no_fuse. */
static mezzo_step_result first_step(settings s, char hash[65]) {
    static char where[2][64];
    static gpt_batch batch;
    gpt n = {.batch = GPT_SAMPLES / s.accumulate};
    run r = begin_with(gpt_build, &n, s);
    gpt_fill(&batch, 0, 30);
    mezzo_step_result result = gpt_step(r.ctx, r.trainer, &batch);
    char *kept = where[s.no_fuse];
    snprintf(kept, sizeof where[0], "%s", result.where ? result.where : "");
    result.where = kept;
    GPT_OK(r.ctx, mezzo_trainer_state_hash(r.trainer, hash));
    end(&r);
    return result;
}

/* Squares are summed in FP32 over at most 24 of a lane, all else in FP64; the norm is a root. */
static void test_norms_within_their_bound(void **state) {
    (void)state;
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    const double parameters = GPT_LAYERS * 12 * GPT_C * GPT_C + (GPT_V + GPT_T + 99) * GPT_C;
    const double relative = mzi_gamma(24, 0x1p-24) / 2 + mzi_gamma((int64_t)parameters, 0x1p-53);
    for (int k = 0; k < 3; k++) {
        settings s = {types[k], 1, true, .threads = 1, .clip = 0.01f};
        char hash[65], first[65];
        mezzo_step_result plain = first_step(s, hash);
        s.no_fuse = false;
        mezzo_step_result fused = first_step(s, first);
        assert_false(plain.skipped || fused.skipped);
        assert_true(plain.loss == fused.loss && plain.grad_norm > 0.1);
        assert_true(fabs(fused.grad_norm - plain.grad_norm) <= relative * plain.grad_norm);
        for (s.threads = 2; s.threads <= 3; s.threads++) {
            mezzo_step_result again = first_step(s, hash);
            assert_true(again.grad_norm == fused.grad_norm);
            assert_string_equal(hash, first);
        }
    }
}

/* An overflow that only a weight's gradient has is found in its product's figures. */
static void test_an_overflow_of_backward(void **state) {
    (void)state;
    char hash[2][65];
    mezzo_step_result r[2];
    for (int no_fuse = 0; no_fuse < 2; no_fuse++)
        r[no_fuse] = first_step((settings){MEZZO_F16, 1, no_fuse != 0, .threads = 2, .clip = 1.0f,
                                           .loss_scale = 0x1p30f},
                                hash[no_fuse]);
    assert_true(r[0].skipped && r[1].skipped);
    assert_int_equal(r[0].reason, MEZZO_SKIP_GRADIENT);
    assert_int_equal(r[1].reason, MEZZO_SKIP_GRADIENT);
    assert_string_equal(r[0].where, r[1].where);
    assert_true(r[0].where[0] != '\0');
    assert_true(isinf(r[0].grad_norm) && isinf(r[1].grad_norm));
    assert_string_equal(hash[0], hash[1]);
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
        cmocka_unit_test(test_figures_in_a_plan),
        cmocka_unit_test(test_a_loss_that_is_read),
        cmocka_unit_test(test_fusion_changes_no_bit),
        cmocka_unit_test(test_norms_within_their_bound),
        cmocka_unit_test(test_an_overflow_of_backward),
        cmocka_unit_test(test_a_fault_of_forward),
        cmocka_unit_test(test_meters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
