/* Why a step is not finite, what is done about it, and what the meters see. */
#include <math.h>
#include <stdlib.h>

#include "mezzo/op.h"
#include "train/bench.h"
#include "train/small_gpt.h"

enum {
    PARTS = 8,
    PART = 4, /* samples of a micro-batch: NET_BATCH = PARTS PART */
    STEPS = 5
};

/* All elements of one parameter. */
static void fill_weight(bench *b, const char *name, float value) {
    static float values[NET_TENSOR_MAX];
    int index = mezzo_model_state_find(b->model, name);
    int64_t count = mezzo_shape_count(mezzo_model_state_at(b->model, index).shape);
    for (int64_t i = 0; i < count; i++)
        values[i] = value;
    NET_OK(b->ctx, mezzo_model_write(b->model, index, values, count));
}

static mezzo_scaler scaler_of(const bench *b) {
    return mezzo_trainer_get_state(b->trainer).scaler;
}

/* The three causes, by the scaler of ours: one moves the scale, and what is told apart says where.
 */
static void test_three_causes(void **state) {
    (void)state;
    static net_batch batch;
    mezzo_trainer_config config = net_trainer_config();
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_HEADROOM, .init = 0x1p30f};
    bench *b = bench_make(MEZZO_F16, (net){0}, &config);
    net_fill(&batch, 0);
    mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_GRADIENT);
    assert_non_null(strchr(r.where, '/'));
    assert_true(scaler_of(b).scale == 0x1p26); /* 65520 is the least that it can have been */
    while (r.skipped)
        r = net_step(b->ctx, b->trainer, &batch);

    mezzo_scaler before = scaler_of(b), after;
    batch.x[700] = NAN;
    r = net_step(b->ctx, b->trainer, &batch);
    after = scaler_of(b);
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_DATA);
    assert_string_equal(r.where, "x");
    assert_true(before.scale == after.scale && before.measured == after.measured);

    net_fill(&batch, 0);
    fill_weight(b, "fc.weight", 60000.0f);
    r = net_step(b->ctx, b->trainer, &batch);
    after = scaler_of(b);
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_FORWARD);
    assert_string_equal(r.where, "fc");
    assert_true(before.scale == after.scale && before.measured == after.measured);
    bench_end(b);
}

/* A peer's rule has one bit: whatever was not finite lowers the scale. */
static void test_a_peer_does_not_ask_why(void **state) {
    (void)state;
    static net_batch batch;
    mezzo_trainer_config config = net_trainer_config();
    config.scaler.mode = MEZZO_SCALE_PYTORCH;
    bench *b = bench_make(MEZZO_F16, (net){0}, &config);
    net_fill(&batch, 0);
    batch.x[700] = NAN;
    mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
    assert_int_equal(r.reason, MEZZO_SKIP_DATA);
    assert_true(scaler_of(b).scale == 0x1p15);
    bench_end(b);
}

/* The fused head keeps its logits' gradients to itself.  They overflow first, and their product
 * with weights of both signs is NaN, not Inf: an overflow all the same, which the scale gets out
 * of. */
static void test_an_overflow_inside(void **state) {
    (void)state;
    static gpt_batch batch;
    gpt n = {.batch = GPT_SAMPLES};
    mezzo_ctx *ctx = net_ctx(2);
    const mezzo_model_config model_config = {
        .build = gpt_build, .user = &n, .precision.compute = MEZZO_F16, .seed = 3};
    mezzo_trainer_config config = net_trainer_config();
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_HEADROOM, .init = 0x1p40f};
    mezzo_model *model;
    mezzo_trainer *trainer;
    NET_OK(ctx, mezzo_model_create(&model, ctx, &model_config, MEZZO_ENTRY_TRAIN));
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    gpt_fill(&batch, 0, 0);
    mezzo_step_result r = gpt_step(ctx, trainer, &batch);
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_GRADIENT);
    assert_string_equal(r.where, "head/dx");
    assert_true(mezzo_trainer_get_state(trainer).scaler.scale == 0x1p36);
    for (int s = 0; s < 10 && r.skipped; s++)
        r = gpt_step(ctx, trainer, &batch);
    assert_false(r.skipped);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* An Inf that is meant: a mask that is added to the logits. */
static mezzo_status masked_build(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x =
        mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(NET_BATCH, NET_SIDE, NET_SIDE, 1));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(NET_BATCH));
    mezzo_value mask = mezzo_input(graph, "mask", MEZZO_F32, mezzo_shape2(NET_BATCH, 5));
    x = mezzo_relu(graph, mezzo_linear(graph, "fc", mezzo_flatten(graph, x), 16, true));
    x = mezzo_add(graph, mezzo_linear(graph, "head", x, 5, true), mask);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL));
    return MEZZO_OK;
}

/* It is no fault of the data: what overflows are the gradients, and the scale gets out of that. */
static void test_a_mask_of_infinity(void **state) {
    (void)state;
    static net_batch batch;
    float mask[NET_BATCH * 5] = {0.0f};
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model;
    mezzo_trainer *trainer;
    mezzo_trainer_config config = net_trainer_config();
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_HEADROOM, .init = 0x1p30f};
    const mezzo_model_config about = {.build = masked_build, .precision.compute = MEZZO_F16};
    NET_OK(ctx, mezzo_model_create(&model, ctx, &about, MEZZO_ENTRY_TRAIN));
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    for (int b = 0; b < NET_BATCH; b++)
        mask[5 * b + 4] = -INFINITY; /* a class that there is not */
    net_fill(&batch, 0);
    const mezzo_binding inputs[] = {{"x", batch.x, sizeof batch.x},
                                    {"labels", batch.labels, sizeof batch.labels},
                                    {"mask", mask, sizeof mask}};
    mezzo_step_result r;
    NET_OK(ctx, mezzo_trainer_step(trainer, inputs, 3, &r));
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_GRADIENT);
    for (int s = 0; s < 10 && r.skipped; s++)
        NET_OK(ctx, mezzo_trainer_step(trainer, inputs, 3, &r));
    assert_false(r.skipped);
    batch.x[9] = NAN;
    NET_OK(ctx, mezzo_trainer_step(trainer, inputs, 3, &r));
    assert_int_equal(r.reason, MEZZO_SKIP_DATA);
    assert_string_equal(r.where, "x");
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* No scale, however small, makes a commit write what is not finite. */
static void test_the_factor_is_finite(void **state) {
    (void)state;
    static net_batch batch;
    char before[65], after[65];
    mezzo_trainer_config config = net_trainer_config();
    config.scaler.mode = MEZZO_SCALE_PYTORCH;
    bench *b = bench_make(MEZZO_F32, (net){0}, &config);
    net_fill(&batch, 0);
    batch.x[0] = NAN;
    for (int s = 0; s < 150; s++)
        net_step(b->ctx, b->trainer, &batch);
    assert_true(scaler_of(b).scale == 0x1p-134);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, before));
    net_fill(&batch, 0);
    mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, after));
    assert_int_equal(r.reason, MEZZO_SKIP_NORM);
    assert_string_equal(before, after);
    bench_end(b);
}

/* An activation that backward makes again is no gradient. */
static void test_recomputation_moves_no_scale(void **state) {
    (void)state;
    static net_batch batch;
    static const char *const all[] = {"*"};
    char hash[2][65];
    double scale[2];
    for (int k = 0; k < 2; k++) {
        mezzo_ctx *ctx = net_ctx(2);
        net n = {0};
        mezzo_model *model;
        mezzo_trainer *trainer;
        mezzo_trainer_config config = net_trainer_config();
        const mezzo_model_config about = {.build = net_build,
                                          .user = &n,
                                          .precision.compute = MEZZO_F16,
                                          .seed = 3,
                                          .recompute = all,
                                          .recompute_count = k};
        NET_OK(ctx, mezzo_model_create(&model, ctx, &about, MEZZO_ENTRY_TRAIN));
        NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
        for (int s = 0; s < 40; s++) {
            net_fill(&batch, s);
            for (int i = 0; i < NET_BATCH * NET_PIXELS; i++)
                batch.x[i] *= 0x1p11f; /* activations that are far above all gradients */
            net_step(ctx, trainer, &batch);
        }
        NET_OK(ctx, mezzo_trainer_state_hash(trainer, hash[k]));
        scale[k] = mezzo_trainer_get_state(trainer).scaler.scale;
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
        mezzo_ctx_destroy(ctx);
    }
    assert_true(scale[0] == scale[1]);
    assert_string_equal(hash[0], hash[1]);
}

static void square_of_minus(const mezzo_op_operands *o, int64_t begin, int64_t end) {
    int64_t row = mezzo_shape_count(o->in_tensor[0].shape) / o->in_tensor[0].shape.dim[0];
    for (int64_t i = begin * row; i < end * row; i++)
        ((float *)o->out[0])[i] = sqrtf(-1.0f - fabsf(((const float *)o->in[0])[i]));
}

static mezzo_status same_shape(const mezzo_op_use *use) {
    use->out[0] = use->in[0];
    return MEZZO_OK;
}

/* Backward makes NaN out of finite numbers. */
static const mezzo_op_def bad_bwd = {.name = "bad_bwd",
                                     .help = "sqrt(-1 - |dy|)",
                                     .in_min = 1,
                                     .in_max = 1,
                                     .out_count = 1,
                                     .cast = MEZZO_CAST_FULL,
                                     .not_differentiable = true,
                                     .infer = same_shape,
                                     .run = square_of_minus};

static mezzo_status bad_gradient(const mezzo_op_gradient *use) {
    use->din[0] = mezzo_apply(use->graph, &bad_bwd, "bad", &use->dout[0], 1, NULL, NULL);
    return MEZZO_OK;
}

static void copy_rows(const mezzo_op_operands *o, int64_t begin, int64_t end) {
    int64_t row = mezzo_shape_count(o->in_tensor[0].shape) / o->in_tensor[0].shape.dim[0];
    memcpy((float *)o->out[0] + begin * row, (const float *)o->in[0] + begin * row,
           (size_t)((end - begin) * row) * sizeof(float));
}

static const mezzo_op_def bad = {.name = "bad",
                                 .help = "y = x",
                                 .in_min = 1,
                                 .in_max = 1,
                                 .out_count = 1,
                                 .cast = MEZZO_CAST_FULL,
                                 .infer = same_shape,
                                 .gradient = bad_gradient,
                                 .run = copy_rows};

static mezzo_status bad_build(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x =
        mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(NET_BATCH, NET_SIDE, NET_SIDE, 1));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(NET_BATCH));
    x = mezzo_relu(graph, mezzo_linear(graph, "fc", mezzo_flatten(graph, x), 16, true));
    x = mezzo_apply(graph, &bad, "bad", &x, 1, NULL, NULL);
    x = mezzo_linear(graph, "head", x, NET_CLASSES, true);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL));
    return MEZZO_OK;
}

static void test_a_nan_of_backward(void **state) {
    (void)state;
    static net_batch batch;
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model;
    mezzo_trainer *trainer;
    mezzo_trainer_config config = net_trainer_config();
    const mezzo_model_config about = {.build = bad_build, .precision.compute = MEZZO_BF16};
    NET_OK(ctx, mezzo_model_create(&model, ctx, &about, MEZZO_ENTRY_TRAIN));
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    net_fill(&batch, 0);
    mezzo_step_result r = net_step(ctx, trainer, &batch);
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_NAN);
    assert_string_equal(r.where, "bad/bad");
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* Seven good micro-batches of eight make the step that a window of those seven makes. */
static void salvage(mezzo_dtype compute, const char *optimizer) {
    static net_batch batch, good;
    char hash[65], want[65];
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default(optimizer)};
    config.clip = 0.5f;
    config.accumulate = PARTS;
    bench *b = bench_make(compute, (net){.batch = PART}, &config);
    config.accumulate = PARTS - 1;
    bench *ref = bench_make(compute, (net){.batch = PART}, &config);
    for (int s = 0; s < STEPS; s++) {
        int lost = (3 * s + 1) % PARTS, kept = 0;
        net_fill(&batch, s);
        for (int k = 0; k < PARTS; k++) {
            if (k == lost)
                continue;
            memcpy(good.x + kept * PART * NET_PIXELS, batch.x + k * PART * NET_PIXELS,
                   (size_t)PART * NET_PIXELS * sizeof(float));
            memcpy(good.labels + kept++ * PART, batch.labels + k * PART, PART * sizeof(int32_t));
        }
        batch.x[lost * PART * NET_PIXELS + 77] = s % 2 ? NAN : INFINITY;
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch), q;
        assert_false(r.skipped);
        assert_int_equal(r.reason, MEZZO_SKIP_DATA);
        assert_int_equal(r.dropped, 1);
        assert_int_equal(r.micro_batch, lost);
        assert_int_equal(r.step, s + 1);
        const mezzo_binding inputs[] = {
            {"x", good.x, (PARTS - 1) * PART * NET_PIXELS * sizeof(float)},
            {"labels", good.labels, (PARTS - 1) * PART * sizeof(int32_t)}};
        NET_OK(ref->ctx, mezzo_trainer_step(ref->trainer, inputs, 2, &q));
        assert_false(q.skipped);
        assert_true(r.loss == q.loss && r.grad_norm == q.grad_norm);
        NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash));
        NET_OK(ref->ctx, mezzo_trainer_state_hash(ref->trainer, want));
        assert_string_equal(hash, want);
    }
    bench_end(b);
    bench_end(ref);
}

static void test_salvage(void **state) {
    (void)state;
    static const char *const optimizers[] = {"adamw", "lion", "muon", "sgd"};
    for (int k = 0; k < 4; k++)
        salvage(MEZZO_BF16, optimizers[k]);
    salvage(MEZZO_F32, "adamw");
    salvage(MEZZO_F16, "adamw");
}

/* Nothing good, or not asked for: the window is skipped as a whole, and nothing is written. */
static void test_what_is_not_salvaged(void **state) {
    (void)state;
    static net_batch batch;
    char before[65], after[65];
    for (int mode = 0; mode < 3; mode++) {
        mezzo_trainer_config config = net_trainer_config();
        config.accumulate = PARTS;
        config.no_salvage = mode == 0;
        if (mode == 2)
            config.scaler = (mezzo_scaler_config){MEZZO_SCALE_STATIC, .init = 0x1p40f};
        bench *b = bench_make(mode == 2 ? MEZZO_F16 : MEZZO_BF16, (net){.batch = PART}, &config);
        net_fill(&batch, 0);
        for (int k = 0; k < PARTS && mode < 2; k++)
            if (mode == 1 || k == 3)
                batch.x[k * PART * NET_PIXELS] = NAN;
        NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, before));
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
        NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, after));
        assert_true(r.skipped);
        assert_int_equal(r.dropped, 0);
        assert_int_equal(r.reason, mode == 2 ? MEZZO_SKIP_GRADIENT : MEZZO_SKIP_DATA);
        assert_int_equal(r.micro_batch, mode == 0 ? 3 : 0);
        assert_string_equal(before, after);
        bench_end(b);
    }
}

/* An overflow of gradients comes first: the scale has to move, whatever else is wrong. */
static void test_overflow_beside_bad_data(void **state) {
    (void)state;
    static net_batch batch;
    mezzo_trainer_config config = net_trainer_config();
    config.accumulate = PARTS;
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_HEADROOM, .init = 0x1p40f};
    bench *b = bench_make(MEZZO_F16, (net){.batch = PART}, &config);
    net_fill(&batch, 0);
    batch.x[0] = NAN;
    mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_GRADIENT);
    assert_int_equal(r.micro_batch, 1);
    assert_true(scaler_of(b).scale < 0x1p40);
    bench_end(b);
}

/* All elements of one parameter times `factor`. */
static void multiply_weight(bench *b, const char *name, float factor) {
    static float values[NET_TENSOR_MAX];
    int index = mezzo_model_state_find(b->model, name);
    int64_t count = mezzo_shape_count(mezzo_model_state_at(b->model, index).shape);
    NET_OK(b->ctx, mezzo_model_read(b->model, index, values, count));
    for (int64_t i = 0; i < count; i++)
        values[i] *= factor;
    NET_OK(b->ctx, mezzo_model_write(b->model, index, values, count));
}

/* Fifteen steps in which the head's weights, and so all gradients behind it, are 2^10 times as
 * large; then as before.  The rate is 0, so that nothing else changes.  Gives the steps until the
 * scale is back, or -1. */
static int regain(mezzo_scale_mode mode, int64_t *skips) {
    enum {
        BEFORE = 640,
        SPIKE = 15,
        AFTER = 500
    };
    static net_batch batch;
    mezzo_trainer_config config = net_trainer_config();
    config.optimizer.lr = 0.0f;
    config.scaler.mode = mode;
    bench *b = bench_make(MEZZO_F16, (net){0}, &config);
    int back = -1;
    double scale = 0.0;
    *skips = 0;
    for (int s = 0; s < BEFORE + SPIKE + AFTER && back < 0; s++) {
        net_fill(&batch, s % 7);
        if (s == BEFORE) {
            scale = scaler_of(b).scale;
            multiply_weight(b, "head.weight", 0x1p10f);
        }
        if (s == BEFORE + SPIKE) {
            assert_true(scaler_of(b).scale < scale);
            multiply_weight(b, "head.weight", 0x1p-10f);
        }
        *skips += net_step(b->ctx, b->trainer, &batch).skipped && s >= BEFORE;
        if (s >= BEFORE + SPIKE && scaler_of(b).scale >= scale)
            back = s - BEFORE - SPIKE;
    }
    bench_end(b);
    return back;
}

static void test_headroom_regains_its_scale(void **state) {
    (void)state;
    int64_t skips, skips_pytorch;
    int steps = regain(MEZZO_SCALE_HEADROOM, &skips);
    print_message("headroom: %d steps, %d skips\n", steps, (int)skips);
    assert_true(steps >= 0 && steps < 500);
    assert_true(regain(MEZZO_SCALE_PYTORCH, &skips_pytorch) < 0);
    assert_true(skips <= skips_pytorch);
}

static mezzo_meter find_meter(const bench *b, const char *name, bool is_gradient) {
    for (int k = 0; k < mezzo_trainer_meter_count(b->trainer); k++) {
        mezzo_meter m = mezzo_trainer_meter(b->trainer, k);
        if (strncmp(m.name, name, strlen(name)) == 0 && m.is_gradient == is_gradient)
            return m;
    }
    fail_msg("there is no meter %s", name);
    return (mezzo_meter){0};
}

/* By hand: an input whose elements are known. */
static void test_meters(void **state) {
    (void)state;
    static net_batch batch;
    mezzo_trainer_config config = net_trainer_config();
    config.meter_every = 2;
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_STATIC, .init = 1.0f};
    bench *b = bench_make(MEZZO_F16, (net){.loss_factor = 0x1p-6f}, &config);
    for (int s = 0; s < 4; s++) {
        net_fill(&batch, s);
        for (int k = 0; k < NET_BATCH * NET_PIXELS / 4; k++)
            batch.x[k] = 0.0f;
        batch.x[5000] = -77.0f;
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
        assert_false(r.skipped);
        assert_int_equal(r.measured, s % 2 == 1);
    }
    mezzo_meter x = find_meter(b, "x", false);
    assert_true(x.max == 77.0 && x.overflow == 0.0 && x.zeros == 0.25);
    assert_int_equal(x.dtype, MEZZO_F32);
    assert_false(x.is_gradient);
    mezzo_meter low = find_meter(b, "x:f16", false);
    assert_true(low.max == 77.0);
    assert_int_equal(low.dtype, MEZZO_F16);
    /* d loss / d logits is at most 2^-6 / 32 = 2^-11; subnormals of FP16 begin below 2^-14. */
    mezzo_meter d = find_meter(b, "softmax_cross_entropy", true);
    assert_true(d.is_gradient && d.max <= 0x1p-11 && d.max > 0x1p-14);
    assert_true(d.underflow > 0.01 && d.underflow < 1.0);
    bench_end(b);
}

static void compare_with_meters(mezzo_dtype compute) {
    static net_batch batch;
    char hash[2][65];
    double scale[2];
    for (int every = 0; every < 2; every++) {
        mezzo_trainer_config config = net_trainer_config();
        config.meter_every = every;
        bench *b = bench_make(compute, (net){.dropout = 0.2f}, &config);
        for (int s = 0; s < 6; s++) {
            net_fill(&batch, s);
            net_step(b->ctx, b->trainer, &batch);
        }
        NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash[every]));
        scale[every] = scaler_of(b).scale;
        bench_end(b);
    }
    assert_string_equal(hash[0], hash[1]);
    assert_true(scale[0] == scale[1]);
}

/* Meters change no bit of a run; nor the loss scale, which takes its own measurements only. */
static void test_meters_only_look(void **state) {
    (void)state;
    compare_with_meters(MEZZO_BF16);
    compare_with_meters(MEZZO_F16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_causes),
        cmocka_unit_test(test_a_peer_does_not_ask_why),
        cmocka_unit_test(test_an_overflow_inside),
        cmocka_unit_test(test_a_nan_of_backward),
        cmocka_unit_test(test_a_mask_of_infinity),
        cmocka_unit_test(test_the_factor_is_finite),
        cmocka_unit_test(test_recomputation_moves_no_scale),
        cmocka_unit_test(test_salvage),
        cmocka_unit_test(test_what_is_not_salvaged),
        cmocka_unit_test(test_overflow_beside_bad_data),
        cmocka_unit_test(test_headroom_regains_its_scale),
        cmocka_unit_test(test_meters),
        cmocka_unit_test(test_meters_only_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
