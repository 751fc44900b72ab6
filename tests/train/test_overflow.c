/* Loss scaling and steps that are skipped. */
#include <math.h>
#include <stdlib.h>

#include "train/bench.h"

/* Of the tensors of `kind`, or of all with -1. */
static void take(bench *b, snapshot *out, int kind) {
    out->count = 0;
    for (int s = 0; s < mezzo_model_state_count(b->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(b->model, s);
        int64_t n = mezzo_shape_count(info.shape);
        if (kind >= 0 && (int)info.kind != kind)
            continue;
        assert_true(out->count + n <= SNAPSHOT);
        NET_OK(b->ctx, mezzo_model_read(b->model, s, out->values + out->count, n));
        out->count += n;
    }
}

/* d loss / d logits = (p - [label]) f / B: at most f / 32 = 2^-26 here, which FP16 rounds to zero
 * (2^-25 is half of its least subnormal, and ties go to even).  Every other gradient comes from
 * there. */
static const net underflow = {.loss_factor = 0x1p-21f};

static mezzo_trainer_config underflow_config(mezzo_scale_mode mode) {
    mezzo_trainer_config config = net_trainer_config();
    config.optimizer.weight_decay = 0.0f;
    config.optimizer.eps = 0x1p-100f; /* far below gradients of 2^-26 */
    config.scaler.mode = mode;
    return config;
}

/* Train on three batches in turn; the mean loss of the last three steps over that of the first. */
static double train_underflow(mezzo_dtype compute, mezzo_scale_mode mode, bool *weights_changed,
                              bool *any_gradient) {
    enum {
        STEPS = 30
    };
    static net_batch batch[3];
    static snapshot before, after;
    static float gradient[NET_TENSOR_MAX];
    double first = 0.0, last = 0.0;
    mezzo_trainer_config config = underflow_config(mode);
    bench *b = bench_make(compute, underflow, &config);
    take(b, &before, MEZZO_STATE_PARAM);
    *any_gradient = false;
    for (int s = 0; s < STEPS; s++) {
        net_fill(&batch[s % 3], s % 3);
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch[s % 3]);
        assert_false(r.skipped);
        first += s < 3 ? r.loss / 3 : 0.0;
        last += s >= STEPS - 3 ? r.loss / 3 : 0.0;
        assert_true(mode == MEZZO_SCALE_NONE ? r.loss_scale == 1.0f : r.loss_scale > 1.0f);
        *any_gradient |= r.grad_norm != 0.0;
    }
    NET_OK(b->ctx, mezzo_trainer_read_gradient(b->trainer, "head.bias", gradient, NET_CLASSES));
    for (int k = 0; k < NET_CLASSES; k++)
        *any_gradient |= gradient[k] != 0.0f;
    take(b, &after, MEZZO_STATE_PARAM);
    *weights_changed = !same(&before, &after);
    bench_end(b);
    return last / first;
}

static void test_f16_underflows_unscaled_and_learns_scaled(void **state) {
    (void)state;
    bool changed, gradient;
    train_underflow(MEZZO_F16, MEZZO_SCALE_NONE, &changed, &gradient);
    assert_false(changed);
    assert_false(gradient);
    double scaled = train_underflow(MEZZO_F16, MEZZO_SCALE_PYTORCH, &changed, &gradient);
    assert_true(changed && gradient);
    assert_true(scaled < 0.5);
    /* Static scaling does as well, and it is FP16's range that needs it. */
    assert_true(train_underflow(MEZZO_F16, MEZZO_SCALE_STATIC, &changed, &gradient) < 0.5);
    assert_true(train_underflow(MEZZO_F32, MEZZO_SCALE_NONE, &changed, &gradient) < 0.5);
    assert_true(train_underflow(MEZZO_BF16, MEZZO_SCALE_NONE, &changed, &gradient) < 0.5);
}

/* The scale grows at every clean step, so it runs into FP16's largest value again and again. */
static mezzo_trainer_config overflow_config(void) {
    mezzo_trainer_config config = net_trainer_config();
    config.schedule = (mezzo_schedule){MEZZO_SCHEDULE_COSINE, .warmup = 4, .steps = 40};
    config.scaler =
        (mezzo_scaler_config){MEZZO_SCALE_PYTORCH, .init = 0x1p16f, .growth_interval = 1};
    return config;
}

static void test_overflow_is_skipped_bit_for_bit(void **state) {
    (void)state;
    static net_batch batch;
    static snapshot before, after;
    char hash_before[65], hash_after[65];
    int skips = 0, skips_after_commits = 0;
    mezzo_trainer_config config = overflow_config();
    bench *b = bench_make(MEZZO_F16, (net){.dropout = 0.3f}, &config);
    for (int s = 0; s < 40; s++) {
        net_fill(&batch, s);
        mezzo_trainer_state was = mezzo_trainer_get_state(b->trainer);
        take(b, &before, -1);
        NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_before));
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
        mezzo_trainer_state now = mezzo_trainer_get_state(b->trainer);
        take(b, &after, -1);
        NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_after));
        assert_int_equal(r.attempt, s + 1);
        assert_int_equal(now.attempt, s + 1);
        assert_int_equal(now.step, was.step + !r.skipped);
        assert_int_equal(r.step, now.step);
        assert_int_equal(now.skipped, was.skipped + r.skipped);
        assert_true((double)r.loss_scale == was.scaler.scale);
        assert_true(r.lr ==
                    mezzo_schedule_lr(&config.schedule, (double)config.optimizer.lr, was.step));
        if (r.skipped) {
            assert_int_equal(r.reason, MEZZO_SKIP_GRADIENT);
            assert_non_null(r.where);
            assert_non_null(strchr(r.where, '/')); /* "fc/dx" */
            assert_true(!isfinite(r.grad_norm));
            assert_true(isfinite(r.loss) != 0);
            assert_true(now.scaler.scale == was.scaler.scale * 0.5);
            assert_int_equal(now.scaler.growth_tracker, 0);
            assert_true(same(&before, &after));
            assert_string_equal(hash_before, hash_after);
            skips_after_commits += was.step > 0;
            skips++;
        } else {
            assert_int_equal(r.reason, MEZZO_SKIP_NONE);
            assert_null(r.where);
            assert_false(same(&before, &after));
            assert_string_not_equal(hash_before, hash_after);
        }
    }
    assert_true(skips >= 5 && skips <= 25);
    assert_true(skips_after_commits >= 3);
    bench_end(b);
}

/* The ledger has every skip, newest first, up to its size; what it says is what the step said. */
static void test_ledger(void **state) {
    (void)state;
    static net_batch batch;
    mezzo_skip skip;
    mezzo_step_result last = {0};
    mezzo_trainer_config config = overflow_config();
    config.scaler.init = 0x1p30f;
    bench *b = bench_make(MEZZO_F16, (net){0}, &config);
    assert_false(mezzo_trainer_skip(b->trainer, 0, &skip));
    net_fill(&batch, 0);
    for (int s = 0; s < 40; s++) {
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
        if (!r.skipped)
            continue;
        assert_true(mezzo_trainer_skip(b->trainer, 0, &skip));
        assert_int_equal(skip.attempt, r.attempt);
        assert_int_equal(skip.step, r.step);
        assert_int_equal(skip.reason, MEZZO_SKIP_GRADIENT);
        assert_true(skip.loss_scale == r.loss_scale);
        assert_string_equal(skip.where, r.where);
        if (last.skipped) {
            assert_true(mezzo_trainer_skip(b->trainer, 1, &skip));
            assert_int_equal(skip.attempt, last.attempt);
        }
        last = r;
    }
    int64_t skipped = mezzo_trainer_get_state(b->trainer).skipped;
    assert_true(skipped >= 3);
    assert_true(mezzo_trainer_skip(b->trainer, skipped - 1, &skip));
    assert_false(mezzo_trainer_skip(b->trainer, skipped, &skip));
    batch.x[0] = NAN;
    for (int s = 0; s < MEZZO_LEDGER_MAX + 5; s++)
        last = net_step(b->ctx, b->trainer, &batch);
    assert_true(mezzo_trainer_skip(b->trainer, MEZZO_LEDGER_MAX - 1, &skip));
    assert_int_equal(skip.attempt, last.attempt - MEZZO_LEDGER_MAX + 1);
    assert_int_equal(skip.reason, MEZZO_SKIP_DATA);
    assert_string_equal(skip.where, "x");
    assert_false(mezzo_trainer_skip(b->trainer, MEZZO_LEDGER_MAX, &skip));
    assert_false(mezzo_trainer_skip(b->trainer, -1, &skip));
    bench_end(b);
}

/* A skipped step leaves no trace in what follows: a run that skips its first steps and one that
 * begins with the scale they end at make the same weights. */
static void test_skips_leave_no_trace(void **state) {
    (void)state;
    static net_batch batch;
    static snapshot with, without;
    mezzo_trainer_config config = net_trainer_config();
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_PYTORCH, .init = 0x1p40f};
    bench *b = bench_make(MEZZO_F16, (net){0}, &config);
    net_fill(&batch, 0);
    mezzo_trainer_state now = {0};
    for (int s = 0; s < 60 && now.step < 3; s++) {
        net_step(b->ctx, b->trainer, &batch);
        now = mezzo_trainer_get_state(b->trainer);
    }
    assert_int_equal(now.step, 3);
    assert_true(now.skipped > 5);
    take(b, &with, -1);
    bench_end(b);
    config.scaler.init = (float)now.scaler.scale;
    b = bench_make(MEZZO_F16, (net){0}, &config);
    for (int s = 0; s < 3; s++)
        assert_false(net_step(b->ctx, b->trainer, &batch).skipped);
    take(b, &without, -1);
    assert_true(same(&with, &without));
    bench_end(b);
}

/* A norm beyond 2^60 is skipped though every gradient is finite: the loss is multiplied by 2^66. */
static void test_huge_norm_is_skipped(void **state) {
    (void)state;
    static net_batch batch;
    char before[65], after[65];
    mezzo_trainer_config config = net_trainer_config();
    bench *b = bench_make(MEZZO_F32, (net){.loss_factor = 0x1p66f}, &config);
    net_fill(&batch, 0);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, before));
    mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, after));
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_NORM);
    assert_true(isfinite(r.grad_norm) && r.grad_norm >= 0x1p60);
    assert_string_equal(before, after);
    bench_end(b);
}

/* A variance beyond FP32: the norm turns its channel into zeros, so that loss and gradients stay
 * finite, and the running variance would be infinite for ever. */
static void test_infinite_statistic_is_skipped(void **state) {
    (void)state;
    static net_batch batch;
    static snapshot before, after;
    mezzo_trainer_config config = net_trainer_config();
    bench *b = bench_make(MEZZO_F32, (net){0}, &config);
    net_fill(&batch, 0);
    batch.x[17 * NET_PIXELS + 55] = 1e25f;
    take(b, &before, -1);
    mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
    take(b, &after, -1);
    assert_true(isfinite(r.loss) != 0);
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_FORWARD);
    assert_non_null(r.where);
    assert_string_equal(r.where, "norm1");
    assert_true(same(&before, &after));
    bench_end(b);
}

static void check_bad_data(mezzo_dtype compute, float bad) {
    static net_batch batch;
    static snapshot before, after;
    char hash_before[65], hash_after[65];
    mezzo_trainer_config config = net_trainer_config();
    bench *b = bench_make(compute, (net){.dropout = 0.2f}, &config);
    for (int s = 0; s < 2; s++) {
        net_fill(&batch, s);
        assert_false(net_step(b->ctx, b->trainer, &batch).skipped);
    }
    take(b, &before, -1);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_before));
    const mezzo_scaler scaler = mezzo_trainer_get_state(b->trainer).scaler;
    net_fill(&batch, 2);
    batch.x[17 * NET_PIXELS + 55] = bad; /* one pixel of one image */
    mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
    take(b, &after, -1);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_after));
    assert_true(r.skipped);
    assert_int_equal(r.reason, MEZZO_SKIP_DATA);
    assert_string_equal(r.where, "x");
    assert_int_equal(r.step, 2);
    assert_int_equal(r.attempt, 3);
    assert_true(same(&before, &after));
    assert_string_equal(hash_before, hash_after);
    const mezzo_scaler now = mezzo_trainer_get_state(b->trainer).scaler;
    assert_true(compute == MEZZO_F16 ? now.scale > 1.0 : now.scale == 1.0);
    assert_true(now.measured == scaler.measured && now.scale == scaler.scale);
    net_fill(&batch, 3); /* and the run goes on */
    r = net_step(b->ctx, b->trainer, &batch);
    assert_false(r.skipped);
    assert_int_equal(r.step, 3);
    bench_end(b);
}

static void test_bad_numbers_in_the_data(void **state) {
    (void)state;
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    for (int t = 0; t < 3; t++) {
        check_bad_data(types[t], NAN);
        check_bad_data(types[t], INFINITY);
        check_bad_data(types[t], -INFINITY);
    }
}

static void test_static_and_none_never_move(void **state) {
    (void)state;
    static net_batch batch;
    net_fill(&batch, 0);
    mezzo_trainer_config config = net_trainer_config();
    config.scaler =
        (mezzo_scaler_config){MEZZO_SCALE_STATIC, .init = 0x1p40f, .growth_interval = 1};
    bench *b = bench_make(MEZZO_F16, (net){0}, &config);
    for (int s = 0; s < 3; s++) {
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
        assert_true(r.skipped && r.loss_scale == 0x1p40f);
    }
    bench_end(b);
    config.scaler.init = 0x1p8f;
    b = bench_make(MEZZO_F16, (net){0}, &config);
    for (int s = 0; s < 3; s++) {
        mezzo_step_result r = net_step(b->ctx, b->trainer, &batch);
        assert_true(!r.skipped && r.loss_scale == 0x1p8f);
    }
    bench_end(b);
    /* AUTO: PyTorch's rule with FP16 anywhere, none otherwise. */
    config.scaler = (mezzo_scaler_config){0};
    b = bench_make(MEZZO_F16, (net){0}, &config);
    assert_true(mezzo_trainer_get_state(b->trainer).scaler.scale == 65536.0);
    bench_end(b);
    b = bench_make(MEZZO_BF16, (net){0}, &config);
    assert_int_equal(mezzo_trainer_get_state(b->trainer).scaler.config.mode, MEZZO_SCALE_NONE);
    assert_true(net_step(b->ctx, b->trainer, &batch).loss_scale == 1.0f);
    bench_end(b);
}

/* In FP32 a scale is a power of two, so scaling by it changes no bit of the weights. */
static void test_scaling_is_exact(void **state) {
    (void)state;
    static net_batch batch;
    static snapshot plain, scaled;
    net_fill(&batch, 0);
    for (int k = 0; k < 2; k++) {
        mezzo_trainer_config config = net_trainer_config();
        config.clip = 0.5f;
        config.scaler =
            (mezzo_scaler_config){k ? MEZZO_SCALE_STATIC : MEZZO_SCALE_NONE, .init = 0x1p13f};
        bench *b = bench_make(MEZZO_F32, (net){0}, &config);
        for (int s = 0; s < 4; s++)
            net_step(b->ctx, b->trainer, &batch);
        take(b, k ? &scaled : &plain, -1);
        bench_end(b);
    }
    assert_true(same(&plain, &scaled));
}

/* DeepSpeed's rule ends training at its smallest scale, as an error that names it; or skips on. */
static void test_deepspeed_stops_at_min(void **state) {
    (void)state;
    static net_batch batch;
    static snapshot before, after;
    char hash_before[65], hash_after[65];
    mezzo_step_result r = {.attempt = -7};
    mezzo_trainer_config config = net_trainer_config();
    config.scaler = (mezzo_scaler_config){MEZZO_SCALE_DEEPSPEED, .init = 4.0f, .min = 2.0f};
    net_fill(&batch, 0);
    batch.x[0] = NAN;
    bench *b = bench_make(MEZZO_F16, (net){0}, &config);
    assert_true(net_step(b->ctx, b->trainer, &batch).loss_scale == 4.0f); /* hysteresis 2 -> 1 */
    assert_true(net_step(b->ctx, b->trainer, &batch).loss_scale == 4.0f); /* 4 -> 2            */
    take(b, &before, -1);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_before));
    const mezzo_trainer_state was = mezzo_trainer_get_state(b->trainer);
    const mezzo_binding inputs[] = {{"x", batch.x, sizeof batch.x},
                                    {"labels", batch.labels, sizeof batch.labels}};
    assert_int_equal(mezzo_trainer_step(b->trainer, inputs, 2, &r), MEZZO_NUMERICS);
    assert_non_null(strstr(mezzo_ctx_error(b->ctx)->text, "loss scale 2 is the smallest"));
    assert_int_equal(r.attempt, -7);
    const mezzo_trainer_state now = mezzo_trainer_get_state(b->trainer);
    take(b, &after, -1);
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_after));
    assert_true(same(&before, &after));
    assert_string_equal(hash_before, hash_after);
    assert_true(now.scaler.scale == 2.0 && now.attempt == was.attempt);
    assert_int_equal(now.skipped, 2);
    net_fill(&batch, 1); /* the trainer is as usable as before */
    assert_false(net_step(b->ctx, b->trainer, &batch).skipped);
    bench_end(b);
    config.scaler.skip_at_min = true;
    batch.x[0] = NAN;
    b = bench_make(MEZZO_F16, (net){0}, &config);
    for (int s = 0; s < 6; s++)
        assert_true(net_step(b->ctx, b->trainer, &batch).skipped);
    assert_true(mezzo_trainer_get_state(b->trainer).scaler.scale == 2.0);
    bench_end(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_underflows_unscaled_and_learns_scaled),
        cmocka_unit_test(test_overflow_is_skipped_bit_for_bit),
        cmocka_unit_test(test_ledger),
        cmocka_unit_test(test_skips_leave_no_trace),
        cmocka_unit_test(test_huge_norm_is_skipped),
        cmocka_unit_test(test_infinite_statistic_is_skipped),
        cmocka_unit_test(test_bad_numbers_in_the_data),
        cmocka_unit_test(test_static_and_none_never_move),
        cmocka_unit_test(test_scaling_is_exact),
        cmocka_unit_test(test_deepspeed_stops_at_min),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
