/* The same seed, data and configuration give the same bits: on every repeat, with any number of
 * workers, however many batches are prepared ahead. */
#include "train/small_net.h"

enum {
    STEPS = 8,
    SAMPLES = 100 /* batches of 32 straddle the epochs */
};

typedef struct variant {
    mezzo_dtype compute;
    int threads, prefetch;
    uint64_t seed; /* of the order of the samples */
    float dropout;
} variant;

/* What a run leaves behind. */
typedef struct trace {
    double loss[STEPS], grad_norm[STEPS];
    float scale[STEPS];
    int64_t skipped;
    char hash[65];
} trace;

static mezzo_images *make_images(mezzo_ctx *ctx) {
    static float pixels[SAMPLES * NET_PIXELS];
    uint8_t labels[SAMPLES];
    for (int k = 0; k < SAMPLES; k++) {
        int32_t label;
        net_sample((uint64_t)k, pixels + k * NET_PIXELS, &label);
        labels[k] = (uint8_t)label;
    }
    mezzo_images *images = NULL;
    NET_OK(ctx,
           mezzo_images_from_floats(&images, ctx, pixels, labels, SAMPLES, NET_SIDE, NET_SIDE, 1));
    return images;
}

static void train(mezzo_ctx *ctx, const variant *v, mezzo_loader *loader, trace *out) {
    net n = {.dropout = v->dropout};
    mezzo_trainer_config config = net_trainer_config();
    config.clip = 1.0f;
    /* So high that FP16 begins with overflows: skipped steps are part of what must repeat. */
    config.scaler =
        (mezzo_scaler_config){MEZZO_SCALE_PYTORCH, .init = 0x1p21f, .growth_interval = 2};
    mezzo_model *model = net_model(ctx, &n, v->compute);
    mezzo_trainer *trainer = NULL;
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    for (int s = 0; s < STEPS; s++) {
        mezzo_batch batch;
        NET_OK(ctx, mezzo_loader_next(loader, &batch));
        mezzo_step_result r = net_step_on(ctx, trainer, batch.x, batch.labels);
        out->loss[s] = r.loss;
        out->grad_norm[s] = r.grad_norm;
        out->scale[s] = r.loss_scale;
        out->skipped += r.skipped;
    }
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, out->hash));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

static trace run(variant v) {
    trace out;
    memset(&out, 0, sizeof out);
    mezzo_ctx *ctx = net_ctx(v.threads);
    mezzo_images *images = make_images(ctx);
    const mezzo_loader_config config = {
        .batch = NET_BATCH, .seed = v.seed, .shuffle = true, .scale = 1.0f, .prefetch = v.prefetch};
    mezzo_loader *loader = NULL;
    NET_OK(ctx, mezzo_loader_create(&loader, ctx, images, &config, 0));
    train(ctx, &v, loader, &out);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
    mezzo_ctx_destroy(ctx);
    return out;
}

static void assert_same(const trace *a, const trace *b) {
    assert_memory_equal(a->loss, b->loss, sizeof a->loss);
    assert_memory_equal(a->grad_norm, b->grad_norm, sizeof a->grad_norm);
    assert_memory_equal(a->scale, b->scale, sizeof a->scale);
    assert_string_equal(a->hash, b->hash);
}

static variant plain(mezzo_dtype compute) {
    return (variant){.compute = compute, .threads = 2, .prefetch = 2, .seed = 5, .dropout = 0.4f};
}

static void check_type(mezzo_dtype compute) {
    variant v = plain(compute);
    trace first = run(v);
    for (int repeat = 0; repeat < 2; repeat++) {
        trace again = run(v);
        assert_same(&first, &again);
    }
    for (v.threads = 1; v.threads <= 3; v.threads++) {
        trace other = run(v);
        assert_same(&first, &other);
    }
    v = plain(compute);
    for (v.prefetch = 0; v.prefetch <= 4; v.prefetch += v.prefetch ? 3 : 1) {
        trace other = run(v);
        assert_same(&first, &other);
    }
    assert_true(compute == MEZZO_F16 ? first.skipped > 0 && first.skipped < STEPS - 2
                                     : first.skipped == 0);
}

static void test_f32(void **state) {
    (void)state;
    check_type(MEZZO_F32);
}

static void test_bf16(void **state) {
    (void)state;
    check_type(MEZZO_BF16);
}

static void test_f16_with_dynamic_scaling(void **state) {
    (void)state;
    check_type(MEZZO_F16);
}

/* Equal hashes say nothing unless they differ when something differs. */
static void test_what_must_differ(void **state) {
    (void)state;
    trace first = run(plain(MEZZO_F32));
    variant v = plain(MEZZO_F32);
    v.seed++;
    trace other = run(v);
    assert_string_not_equal(first.hash, other.hash);
    v = plain(MEZZO_F32);
    v.dropout = 0.41f;
    other = run(v);
    assert_string_not_equal(first.hash, other.hash);
    other = run(plain(MEZZO_BF16));
    assert_string_not_equal(first.hash, other.hash);
}

/* With a rate of 0 nothing moves but the dropout mask: the loss on one batch changes from step to
 * step, and without dropout it does not. */
static void test_every_step_draws_its_own_mask(void **state) {
    (void)state;
    static net_batch batch;
    net_fill(&batch, 0);
    for (int with = 0; with < 2; with++) {
        net n = {.dropout = with ? 0.4f : 0.0f};
        mezzo_ctx *ctx = net_ctx(2);
        mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
        mezzo_trainer_config config = net_trainer_config();
        config.optimizer.lr = 0.0f;
        mezzo_trainer *trainer = NULL;
        NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
        double first = net_step(ctx, trainer, &batch).loss;
        double second = net_step(ctx, trainer, &batch).loss;
        assert_true(with ? first != second : first == second);
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
        mezzo_ctx_destroy(ctx);
    }
}

/* The hash covers the last bit of every tensor: parameters, statistics and moments. */
static void test_hash_covers_all_state(void **state) {
    (void)state;
    static net_batch batch;
    static float values[NET_TENSOR_MAX];
    char before[65], after[65];
    int kinds[3] = {0};
    net n = {0};
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
    mezzo_trainer_config config = net_trainer_config();
    mezzo_trainer *trainer = NULL;
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    net_fill(&batch, 0);
    net_step(ctx, trainer, &batch);
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, before));
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        int64_t count = mezzo_shape_count(info.shape);
        assert_true(count <= NET_TENSOR_MAX);
        NET_OK(ctx, mezzo_model_read(model, s, values, count));
        float last = values[count - 1];
        uint32_t bits;
        memcpy(&bits, &last, sizeof bits);
        bits ^= 1u;
        memcpy(&values[count - 1], &bits, sizeof bits);
        NET_OK(ctx, mezzo_model_write(model, s, values, count));
        NET_OK(ctx, mezzo_trainer_state_hash(trainer, after));
        assert_string_not_equal(before, after);
        values[count - 1] = last;
        NET_OK(ctx, mezzo_model_write(model, s, values, count));
        NET_OK(ctx, mezzo_trainer_state_hash(trainer, after));
        assert_string_equal(before, after);
        kinds[info.kind]++;
    }
    assert_int_equal(kinds[MEZZO_STATE_PARAM], 9);
    assert_int_equal(kinds[MEZZO_STATE_STATISTIC], 2);
    assert_int_equal(kinds[MEZZO_STATE_MOMENT], 18);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f16_with_dynamic_scaling),
        cmocka_unit_test(test_what_must_differ),
        cmocka_unit_test(test_every_step_draws_its_own_mask),
        cmocka_unit_test(test_hash_covers_all_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
