/* The average of the weights: its formula, its part in commits and skips, and what is evaluated. */
#include <math.h>
#include <stdlib.h>

#include "num/number.h"
#include "train/average.h"
#include "train/bench.h"

/* The tensors of a kind, one behind the other; averages are in the order of their parameters. */
static void take(bench *b, snapshot *out, mezzo_state_kind kind) {
    out->count = 0;
    for (int s = 0; s < mezzo_model_state_count(b->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(b->model, s);
        int64_t n = mezzo_shape_count(info.shape);
        int32_t from = kind == MEZZO_STATE_AVERAGE ? mzi_average_of(b->model, s) : s;
        if (info.kind != (kind == MEZZO_STATE_AVERAGE ? MEZZO_STATE_PARAM : kind))
            continue;
        assert_true(from >= 0 && out->count + n <= SNAPSHOT);
        NET_OK(b->ctx, mezzo_model_read(b->model, from, out->values + out->count, n));
        out->count += n;
    }
}

/* e = d e + k w in FP32 against FP64, from the weights that there were.  The kernel's k = fl(1 - d)
 * has one rounding, the product k w one, the sum with d e (fused, or of a product that has one)
 * two: at most four on each term.  The error so far shrinks by d. */
static void check_formula(mezzo_dtype compute, float decay) {
    static net_batch batch;
    static snapshot w, e;
    static double twin[SNAPSHOT], wrong[SNAPSHOT];
    const double d = (double)decay, u = 0x1p-24;
    mezzo_trainer_config config = net_trainer_config();
    config.ema = decay;
    bench *b = bench_make(compute, (net){0}, &config);
    double used = 0.0;
    for (int s = 0; s < 100; s++) {
        net_fill(&batch, s % 4);
        assert_false(net_step(b->ctx, b->trainer, &batch).skipped);
        take(b, &w, MEZZO_STATE_PARAM);
        take(b, &e, MEZZO_STATE_AVERAGE);
        assert_int_equal(w.count, e.count);
        for (int64_t i = 0; i < w.count; i++) {
            double now = (double)w.values[i], of_e = d * twin[i], of_w = (1 - d) * now;
            wrong[i] = d * wrong[i] + mzi_gamma(4, u) * (fabs(of_e) + fabs(of_w)) + 0x1p-148;
            twin[i] = of_e + of_w;
            if (s == 0) { /* the first is the weight itself */
                twin[i] = now;
                wrong[i] = 0.0;
            }
            double off = fabs((double)e.values[i] - twin[i]);
            if (off > wrong[i])
                fail_msg("step %d, element %lld: %.9g is %.3g from %.17g, and %.3g is allowed", s,
                         (long long)i, (double)e.values[i], off, twin[i], wrong[i]);
            used = wrong[i] > 0.0 && off / wrong[i] > used ? off / wrong[i] : used;
        }
    }
    assert_true(used > 0.02); /* the bound is no mere formality */
    assert_false(same(&w, &e));
    bench_end(b);
}

static void test_formula(void **state) {
    (void)state;
    check_formula(MEZZO_F32, 0.9f);
    check_formula(MEZZO_BF16, 0.999f);
}

/* FP16 with a scale that grows at every clean step overflows again and again. */
static mezzo_trainer_config overflow_config(const char *optimizer) {
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default(optimizer), .ema = 0.9f};
    config.optimizer.lr = 0.001f;
    config.scaler =
        (mezzo_scaler_config){MEZZO_SCALE_PYTORCH, .init = 0x1p30f, .growth_interval = 1};
    return config;
}

/* An average commits with its weights, whatever made them. */
static void test_skips(void **state) {
    (void)state;
    static const char *const optimizers[] = {"adamw", "lion", "muon", "sgd"};
    static net_batch batch;
    static snapshot before, after, w;
    char hash_before[65], hash_after[65];
    for (size_t o = 0; o < sizeof optimizers / sizeof optimizers[0]; o++) {
        mezzo_trainer_config config = overflow_config(optimizers[o]);
        int skips_first = 0, skips_later = 0, commits = 0;
        bench *b = bench_make(MEZZO_F16, (net){0}, &config);
        for (int s = 0; s < 40; s++) {
            net_fill(&batch, s);
            take(b, &before, MEZZO_STATE_AVERAGE);
            NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_before));
            bool skipped = net_step(b->ctx, b->trainer, &batch).skipped;
            take(b, &after, MEZZO_STATE_AVERAGE);
            NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash_after));
            assert_int_equal(same(&before, &after), skipped);
            assert_int_equal(strcmp(hash_before, hash_after) == 0, skipped);
            skips_first += skipped && commits == 0;
            skips_later += skipped && commits > 0;
            commits += !skipped;
            take(b, &w, MEZZO_STATE_PARAM);
            if (!skipped && commits == 1)
                assert_true(same(&w, &after));
            assert_int_equal(mezzo_trainer_get_state(b->trainer).averaged, commits);
        }
        if (skips_first < 1 || skips_later < 2 || commits < 5)
            fail_msg("%s: %d and %d skips, %d commits", optimizers[o], skips_first, skips_later,
                     commits);
        bench_end(b);
    }
}

/* The state hash sees the average, and the weights do not. */
static void test_hash_and_weights(void **state) {
    (void)state;
    static net_batch batch;
    static snapshot with, without;
    char hash[65], changed[65];
    mezzo_plan_info info_with, info_without;
    mezzo_trainer_config config = net_trainer_config();
    bench *off = bench_make(MEZZO_BF16, (net){0}, &config);
    config.ema = 0.5f;
    bench *on = bench_make(MEZZO_BF16, (net){0}, &config);
    for (int s = 0; s < 3; s++) {
        net_fill(&batch, s);
        net_step(off->ctx, off->trainer, &batch);
        net_step(on->ctx, on->trainer, &batch);
    }
    take(off, &without, MEZZO_STATE_PARAM);
    take(on, &with, MEZZO_STATE_PARAM);
    assert_true(same(&with, &without));
    NET_OK(off->ctx, mezzo_model_plan_info(off->model, MEZZO_ENTRY_TRAIN, &info_without));
    NET_OK(on->ctx, mezzo_model_plan_info(on->model, MEZZO_ENTRY_TRAIN, &info_with));
    assert_int_equal(info_with.state_bytes - info_without.state_bytes,
                     (uint64_t)with.count * sizeof(float));
    assert_string_not_equal(info_with.numerics_hash, info_without.numerics_hash);
    assert_int_equal(mezzo_trainer_get_state(off->trainer).averaged, 0);
    int index = mezzo_model_state_find(on->model, "ema/fc.bias");
    float values[144];
    assert_true(index >= 0);
    assert_int_equal(mezzo_model_state_at(on->model, index).kind, MEZZO_STATE_AVERAGE);
    NET_OK(on->ctx, mezzo_trainer_state_hash(on->trainer, hash));
    NET_OK(on->ctx, mezzo_model_read(on->model, index, values, 144));
    values[7] += 1.0f;
    NET_OK(on->ctx, mezzo_model_write(on->model, index, values, 144));
    NET_OK(on->ctx, mezzo_trainer_state_hash(on->trainer, changed));
    assert_string_not_equal(hash, changed);
    bench_end(on);
    bench_end(off);
}

static void logits(bench *b, const net_batch *batch, float *out) {
    const mezzo_binding inputs[] = {{"x", batch->x, sizeof batch->x},
                                    {"labels", batch->labels, sizeof batch->labels}};
    NET_OK(b->ctx, mezzo_model_evaluate(b->model, inputs, 2));
    NET_OK(b->ctx, mezzo_model_output(b->model, MEZZO_ENTRY_EVAL, "logits", out,
                                      (int64_t)NET_BATCH * NET_CLASSES));
}

/* Shown, the average computes what a model that has it for weights computes; hidden again, the
 * model computes and trains on as if nothing had been. */
static void check_show(mezzo_dtype compute) {
    static net_batch batch;
    static snapshot kept, again;
    static float mine[NET_BATCH * NET_CLASSES], shown[NET_BATCH * NET_CLASSES],
        other[NET_BATCH * NET_CLASSES];
    static float values[NET_TENSOR_MAX];
    char hash[65], hash_other[65];
    mezzo_trainer_config config = net_trainer_config();
    config.ema = 0.9f;
    bench *b = bench_make(compute, (net){0}, &config);
    bench *twin = bench_make(compute, (net){0}, &config);
    for (int s = 0; s < 5; s++) {
        net_fill(&batch, s);
        net_step(b->ctx, b->trainer, &batch);
        net_step(twin->ctx, twin->trainer, &batch);
    }
    float *masters = malloc((size_t)mzi_average_count(b->model) * sizeof *masters);
    assert_non_null(masters);
    logits(b, &batch, mine);
    take(b, &kept, MEZZO_STATE_AVERAGE);
    NET_OK(b->ctx, mzi_average_show(b->model, masters));
    logits(b, &batch, shown);
    NET_OK(b->ctx, mzi_average_hide(b->model, masters));
    take(b, &again, MEZZO_STATE_AVERAGE);
    assert_true(same(&kept, &again));
    logits(b, &batch, other);
    assert_memory_equal(mine, other, sizeof mine);
    assert_memory_not_equal(mine, shown, sizeof mine);
    net_fill(&batch, 5);
    for (int s = 0; s < 2; s++) {
        net_step(b->ctx, b->trainer, &batch);
        net_step(twin->ctx, twin->trainer, &batch);
    }
    NET_OK(b->ctx, mezzo_trainer_state_hash(b->trainer, hash));
    NET_OK(twin->ctx, mezzo_trainer_state_hash(twin->trainer, hash_other));
    assert_string_equal(hash, hash_other);
    net_fill(&batch, 4);
    NET_OK(b->ctx, mzi_average_show(b->model, masters));
    logits(b, &batch, shown);
    for (int s = 0; s < mezzo_model_state_count(twin->model); s++) {
        int64_t n = mezzo_shape_count(mezzo_model_state_at(twin->model, s).shape);
        int32_t from = mzi_average_of(twin->model, s);
        if (from < 0)
            continue;
        NET_OK(twin->ctx, mezzo_model_read(twin->model, from, values, n));
        NET_OK(twin->ctx, mezzo_model_write(twin->model, s, values, n));
    }
    logits(twin, &batch, other);
    assert_memory_equal(shown, other, sizeof shown);
    free(masters);
    bench_end(twin);
    bench_end(b);
}

static void test_show(void **state) {
    (void)state;
    check_show(MEZZO_F32);
    check_show(MEZZO_BF16);
}

static void test_decays(void **state) {
    (void)state;
    static const float bad[] = {1.0f, -0.5f, 2.0f, NAN, INFINITY};
    net n = {0};
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        mezzo_trainer *trainer = NULL;
        mezzo_trainer_config config = net_trainer_config();
        config.ema = bad[k];
        assert_int_equal(mezzo_trainer_create(&trainer, model, &config), MEZZO_INVALID_ARGUMENT);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "ema"));
        assert_null(trainer);
    }
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_formula), cmocka_unit_test(test_skips),
                                       cmocka_unit_test(test_hash_and_weights),
                                       cmocka_unit_test(test_show), cmocka_unit_test(test_decays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
