/* Gradients held at several powers of two: not one bit changes where FP32's range is, and FP16
 * trains what no single scale can. */
#include "train/calibrate.h"
#include "train/segment_nets.h"

/* --- exactness ------------------------------------------------------------------------------
 *
 * In FP32 and BF16 gradients of these networks are far from 2^-126 and 2^128 (as long as steps are
 * so small that no probability comes near 2^-100), so that a factor of 2^-12..2^12 is exact
 * wherever it stands, and so is every operation on what it scales: parameter gradients, norms and
 * 20 steps of weights and moments must be the same bits. */
enum {
    STEPS = 20,
    DRAWS = 3, /* sets of edges for each network */
    LEAST_SEGMENTS = 4
};

typedef struct setup {
    bool gpt;
    mezzo_dtype compute;
    int32_t accumulate;
    bool recompute;
    const char *optimizer;
} setup;

typedef struct outcome {
    double norm[STEPS], loss[STEPS];
    char hash[65];
    float gradient[GPT_TENSOR_MAX]; /* of one weight, at the last step */
    int rescaled;                   /* operations of the rule `segment` */
} outcome;

static mezzo_model *make(mezzo_ctx *ctx, const setup *s, void *user, const drawn *d) {
    static const char *const again[] = {"*", "!loss"};
    mezzo_model *model = NULL;
    const mezzo_model_config config = {.build = s->gpt ? gpt_build : net_build,
                                       .user = user,
                                       .precision = {.compute = s->compute,
                                                     .segments = d ? d->at : NULL,
                                                     .segment_count = d ? d->count : 0},
                                       .seed = 3,
                                       .recompute = again,
                                       .recompute_count = s->recompute ? 2 : 0};
    NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    return model;
}

static int count_rescaled(mezzo_ctx *ctx, mezzo_model *model) {
    mezzo_plan_info info;
    int found = 0;
    NET_OK(ctx, mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info));
    for (int k = 0; k < info.op_count; k++) {
        mezzo_plan_op op;
        NET_OK(ctx, mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, k, &op));
        found += strcmp(op.rule, "segment") == 0;
    }
    return found;
}

static void train(mezzo_ctx *ctx, const setup *s, void *user, const drawn *d, outcome *out) {
    static gpt_batch tokens;
    static net_batch images;
    mezzo_model *model = make(ctx, s, user, d);
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default(s->optimizer),
                                   .clip = 1.0f,
                                   .accumulate = s->accumulate};
    config.optimizer.lr = 0.001f;
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    out->rescaled = count_rescaled(ctx, model);
    for (int step = 0; step < STEPS; step++) {
        mezzo_step_result r;
        if (s->gpt) {
            gpt_fill(&tokens, step, 30);
            r = gpt_step(ctx, trainer, &tokens);
        } else {
            net_fill(&images, step);
            r = net_step(ctx, trainer, &images);
        }
        assert_false(r.skipped);
        out->norm[step] = r.grad_norm;
        out->loss[step] = r.loss;
    }
    const char *weight = s->gpt ? "wte" : "conv2.weight";
    int64_t n = s->gpt ? GPT_V * GPT_C : 16 * 12 * 9;
    NET_OK(ctx, mezzo_trainer_read_gradient(trainer, weight, out->gradient, n));
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, out->hash));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

static void check_exact(const setup *s) {
    static outcome plain, cut;
    static drawn d;
    mezzo_ctx *ctx = net_ctx(2);
    gpt tokens = {.batch = GPT_SAMPLES / s->accumulate, .dropout = 0.1f};
    net images = {.batch = NET_BATCH / s->accumulate, .dropout = 0.1f};
    void *user = s->gpt ? (void *)&tokens : (void *)&images;
    memset(&plain, 0, sizeof plain);
    train(ctx, s, user, NULL, &plain);
    assert_int_equal(plain.rescaled, 0);
    for (int k = 0; k < DRAWS; k++) {
        mezzo_model *model = make(ctx, s, user, NULL);
        draw_segments(model, (uint64_t)k, &d);
        mezzo_model_destroy(model);
        memset(&cut, 0, sizeof cut);
        train(ctx, s, user, &d, &cut);
        assert_true(d.count >= LEAST_SEGMENTS);
        assert_true(cut.rescaled >= LEAST_SEGMENTS);
        assert_memory_equal(plain.norm, cut.norm, sizeof plain.norm);
        assert_memory_equal(plain.loss, cut.loss, sizeof plain.loss);
        assert_memory_equal(plain.gradient, cut.gradient, sizeof plain.gradient);
        assert_string_equal(plain.hash, cut.hash);
    }
    mezzo_ctx_destroy(ctx);
}

static void exact_cnn(void **state) {
    (void)state;
    check_exact(&(setup){false, MEZZO_F32, 1, false, "adamw"});
    check_exact(&(setup){false, MEZZO_BF16, 1, false, "sgd"});
    check_exact(&(setup){false, MEZZO_F32, 4, false, "lion"});
    check_exact(&(setup){false, MEZZO_BF16, 2, true, "adamw"});
}

static void exact_gpt(void **state) {
    (void)state;
    check_exact(&(setup){true, MEZZO_F32, 1, true, "adamw"});
    check_exact(&(setup){true, MEZZO_BF16, 4, false, "muon"});
    check_exact(&(setup){true, MEZZO_BF16, 1, true, "adamw"});
}

/* --- measuring ---------------------------------------------------------------------------------
 *
 * The first step of a trainer in FP32 with S = 1 has the same gradients, dropout included: those of
 * parameters must have the maxima measured, bit for bit.  fc.weight takes two chunks. */
static double largest(mezzo_ctx *ctx, mezzo_trainer *trainer, const char *param, int64_t n) {
    static float gradient[NET_TENSOR_MAX];
    double found = 0.0;
    NET_OK(ctx, mezzo_trainer_read_gradient(trainer, param, gradient, n));
    for (int64_t i = 0; i < n; i++)
        found = fmax(found, fabs((double)gradient[i]));
    return found;
}

static void measured_maxima(void **state) {
    (void)state;
    static net_batch batch;
    static const struct {
        const char *param, *gradient;
        int64_t count;
    } of[] = {{"conv1.weight", "conv1/dw", 12 * 9},
              {"norm1.weight", "norm1/dx:1", 12},
              {"fc.weight", "fc/dw", 144 * NET_PIXELS},
              {"head.bias", "head/db", NET_CLASSES}};
    mezzo_ctx *ctx = net_ctx(1);
    net n = {.dropout = 0.2f};
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32), *twin = NULL;
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    mzi_maximum *table = NULL;
    int32_t count = 0, compared = 0;
    net_fill(&batch, 0);
    const mezzo_binding inputs[] = {{"x", batch.x, sizeof batch.x},
                                    {"labels", batch.labels, sizeof batch.labels}};
    NET_OK(ctx, mzi_twin_create(&twin, model));
    NET_OK(ctx, mzi_measure_gradients(twin, inputs, 2, &table, &count));
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    assert_false(net_step(ctx, trainer, &batch).skipped);
    for (int32_t k = 0; k < count; k++)
        for (size_t p = 0; p < sizeof of / sizeof *of; p++)
            if (strcmp(table[k].name, of[p].gradient) == 0) {
                assert_true(table[k].maximum > 0.0);
                assert_true(table[k].maximum == largest(ctx, trainer, of[p].param, of[p].count));
                compared++;
            }
    assert_int_equal(compared, sizeof of / sizeof *of);
    mezzo_trainer_destroy(trainer);
    /* Data that is not finite, and a graph that is planned already, are refused. */
    assert_int_equal(mezzo_model_choose_segments(model, inputs, 2, 1.0), MEZZO_INVALID_ARGUMENT);
    batch.x[0] = INFINITY;
    assert_int_equal(mzi_measure_gradients(twin, inputs, 2, &table, &count), MEZZO_NUMERICS);
    mezzo_model_destroy(twin);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* --- the network that one scale cannot hold ------------------------------------------------------
 */
enum {
    WIDE_STEPS = 40,
    SCALE_FROM = -14,
    SCALE_TO = 40,
    WIDE_PARAMS = 10
};

typedef struct wide_result {
    double near[2], far[2]; /* loss of the first and of the last step */
    int64_t skipped;
    int zero;     /* parameters whose gradient was all zero at the last step that committed */
    int segments; /* that the model has */
    double low, high;
} wide_result;

static int count_zero(mezzo_ctx *ctx, mezzo_model *model, mezzo_trainer *trainer) {
    static float gradient[NET_TENSOR_MAX];
    int zero = 0, params = 0;
    for (int k = 0; k < mezzo_model_state_count(model); k++) {
        mezzo_state_info info = mezzo_model_state_at(model, k);
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        int64_t n = mezzo_shape_count(info.shape);
        NET_OK(ctx, mezzo_trainer_read_gradient(trainer, info.name, gradient, n));
        bool any = false;
        for (int64_t i = 0; i < n; i++)
            any |= gradient[i] != 0.0f;
        zero += !any;
        params++;
    }
    assert_int_equal(params, WIDE_PARAMS);
    return zero;
}

static wide_result train_wide(mezzo_dtype compute, mezzo_scaler_config scaler, bool choose) {
    wide_result out = {0};
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    wide_batch batch;
    const mezzo_binding inputs[] = WIDE_INPUTS(&batch);
    const mezzo_model_config config = {
        .build = wide_build, .precision.compute = compute, .seed = 5};
    mezzo_trainer_config training = {.optimizer = mezzo_optimizer_default("adamw"),
                                     .scaler = scaler};
    training.optimizer.lr = 0.005f;
    training.optimizer.eps = 1e-30f; /* far below the smallest gradients */
    NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    wide_fill(&batch, 0);
    if (choose)
        NET_OK(ctx, mezzo_model_choose_segments(model, inputs, 2, 65536.0));
    out.segments = mezzo_model_segment_count(model);
    for (int k = 0; k < out.segments; k++) {
        mezzo_segment s = mezzo_model_segment_at(model, k);
        out.low = k ? fmin(out.low, s.low) : s.low;
        out.high = fmax(out.high, s.high);
    }
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &training));
    for (int step = 0; step < WIDE_STEPS; step++) {
        mezzo_step_result r;
        float near, far;
        wide_fill(&batch, step);
        NET_OK(ctx, mezzo_trainer_step(trainer, inputs, 2, &r));
        NET_OK(ctx, mezzo_model_output(model, MEZZO_ENTRY_TRAIN, "near", &near, 1));
        NET_OK(ctx, mezzo_model_output(model, MEZZO_ENTRY_TRAIN, "far", &far, 1));
        out.near[step > 0] = (double)near;
        out.far[step > 0] = (double)far;
        out.skipped += r.skipped;
        if (!r.skipped)
            out.zero = count_zero(ctx, model, trainer);
    }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    return out;
}

/* Both parts fall to a quarter. */
static bool learns(const wide_result *r) {
    return r->near[1] < r->near[0] / 4 && r->far[1] < r->far[0] / 4;
}

static void wide_trains(void **state) {
    (void)state;
    wide_result exact = train_wide(MEZZO_F32, (mezzo_scaler_config){0}, false);
    wide_result cut = train_wide(MEZZO_F16, (mezzo_scaler_config){0}, true);
    print_message("f32 near %.4f -> %.4f far %.4f -> %.4f; f16 in %d segments %.4f -> %.4f, %.4f "
                  "-> %.4f, skipped %lld, maxima 2^%.1f to 2^%.1f\n",
                  exact.near[0], exact.near[1], exact.far[0], exact.far[1], cut.segments,
                  cut.near[0], cut.near[1], cut.far[0], cut.far[1], (long long)cut.skipped,
                  log2(cut.low), log2(cut.high));
    assert_true(learns(&exact));
    assert_true(cut.high / cut.low > 0x1p30);
    assert_true(cut.segments >= 4); /* two parts, each with a stretch: cuts inside of the chain */
    assert_int_equal(cut.skipped, 0);
    assert_int_equal(cut.zero, 0);
    assert_true(learns(&cut));
    assert_true(cut.near[1] < 1.25 * exact.near[1] && cut.far[1] < 1.25 * exact.far[1]);
}

/* Every single scale fails: it overflows at each step, or gradients of a layer are all zero; either
 * way the loss does not get there. */
static void wide_fails_with_one_scale(void **state) {
    (void)state;
    int overflows = 0, lost = 0;
    for (int e = SCALE_FROM; e <= SCALE_TO; e++) {
        const mezzo_scaler_config scaler = {.mode = MEZZO_SCALE_STATIC, .init = ldexpf(1.0f, e)};
        wide_result r = train_wide(MEZZO_F16, scaler, false);
        assert_int_equal(r.segments, 0);
        if (r.skipped == WIDE_STEPS)
            overflows++;
        else if (r.zero > 0)
            lost++;
        else
            fail_msg("scale 2^%d: %lld skipped, nothing is zero", e, (long long)r.skipped);
        if (learns(&r))
            fail_msg("scale 2^%d trains: %.4f -> %.4f, %.4f -> %.4f", e, r.near[0], r.near[1],
                     r.far[0], r.far[1]);
    }
    print_message("%d scales overflow, %d lose a layer\n", overflows, lost);
    assert_int_equal(overflows + lost, SCALE_TO - SCALE_FROM + 1);
    assert_true(overflows >= 1 && lost >= 1);
}

/* --- overflow --------------------------------------------------------------------------------
 *
 * Inf that a segment's factor makes is found like any other: the step is skipped, nothing of the
 * state changes, and the scale backs off. */
static void overflow_in_segment(void **state) {
    (void)state;
    const char *const where[] = {"head/dx", "fc/dx", "conv2/dx"};
    for (int k = 0; k < 3; k++)
        for (int32_t exponent = 0; exponent <= 40; exponent += 40) {
            static net_batch batch;
            mezzo_ctx *ctx = net_ctx(1);
            net n = {0};
            const mezzo_segment segment = {.from = where[k], .exponent = exponent};
            mezzo_model *model = NULL;
            mezzo_trainer *trainer = NULL;
            const mezzo_model_config config = {
                .build = net_build,
                .user = &n,
                .precision = {.compute = MEZZO_F16, .segments = &segment, .segment_count = 1},
                .seed = 3};
            mezzo_trainer_config training = net_trainer_config();
            training.scaler.mode = MEZZO_SCALE_PYTORCH;
            char before[65], after[65];
            NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
            NET_OK(ctx, mezzo_trainer_create(&trainer, model, &training));
            NET_OK(ctx, mezzo_trainer_state_hash(trainer, before));
            net_fill(&batch, 0);
            mezzo_step_result r = net_step(ctx, trainer, &batch);
            NET_OK(ctx, mezzo_trainer_state_hash(trainer, after));
            bool overflows = exponent > 0;
            assert_int_equal(r.skipped, overflows);
            assert_int_equal(strcmp(before, after) == 0, overflows);
            double scale = mezzo_trainer_get_state(trainer).scaler.scale;
            assert_true(scale == (overflows ? 32768.0 : 65536.0));
            if (overflows)
                assert_int_equal(r.reason, MEZZO_SKIP_GRADIENT);
            mezzo_trainer_destroy(trainer);
            mezzo_model_destroy(model);
            mezzo_ctx_destroy(ctx);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_cnn),           cmocka_unit_test(exact_gpt),
        cmocka_unit_test(overflow_in_segment), cmocka_unit_test(measured_maxima),
        cmocka_unit_test(wide_trains),         cmocka_unit_test(wide_fails_with_one_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
