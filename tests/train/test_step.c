/* The optimizers, schedules and clipping against the same formulas in FP64, and bad arguments. */
#include <math.h>
#include <stdlib.h>

#include "train/optim_twin.h"
#include "train/small_net.h"

enum {
    STEPS = 20,
    TENSORS = 9
};

typedef struct bench {
    mezzo_ctx *ctx;
    net net;
    mezzo_model *model;
    mezzo_trainer *trainer;
    twin *twins[TENSORS];
    mezzo_state_info info[TENSORS];
} bench;

static void begin(bench *b, const mezzo_trainer_config *config) {
    static float values[NET_TENSOR_MAX];
    b->net = (net){0};
    b->ctx = net_ctx(2);
    b->model = net_model(b->ctx, &b->net, MEZZO_F32);
    NET_OK(b->ctx, mezzo_trainer_create(&b->trainer, b->model, config));
    int found = 0;
    for (int s = 0; s < mezzo_model_state_count(b->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(b->model, s);
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        twin *t = calloc(1, sizeof *t);
        assert_non_null(t);
        assert_true(found < TENSORS);
        t->count = mezzo_shape_count(info.shape);
        NET_OK(b->ctx, mezzo_model_read(b->model, s, values, t->count));
        for (int64_t i = 0; i < t->count; i++)
            t->w[i] = (double)values[i];
        b->info[found] = info;
        b->twins[found++] = t;
    }
    assert_int_equal(found, TENSORS);
}

static void end(bench *b) {
    for (int k = 0; k < TENSORS; k++)
        free(b->twins[k]);
    mezzo_trainer_destroy(b->trainer);
    mezzo_model_destroy(b->model);
    mezzo_ctx_destroy(b->ctx);
}

/* What the factors of a parameter should be. */
typedef struct expected {
    const char *name;
    float lr_scale, decay;
} expected;

static const expected *find(const expected *list, const char *name) {
    for (; list->name; list++)
        if (strcmp(list->name, name) == 0)
            return list;
    fail_msg("%s is not expected", name);
    return NULL;
}

/* One tensor after a step; the gradient is mezzo's own, so that only the update is compared. */
static double follow(bench *b, int k, twin_update s, const mezzo_optimizer_config *o) {
    static float g[NET_TENSOR_MAX], w[NET_TENSOR_MAX];
    twin *t = b->twins[k];
    double squares = 0;
    const char *name = b->info[k].name;
    NET_OK(b->ctx, mezzo_trainer_read_gradient(b->trainer, name, g, t->count));
    NET_OK(b->ctx, mezzo_model_read(b->model, mezzo_model_state_find(b->model, name), w, t->count));
    twin_step(t, g, &s, o);
    for (int64_t i = 0; i < t->count; i++) {
        squares += (double)g[i] * (double)g[i];
        if (!(fabs((double)w[i] - t->w[i]) <= t->ew[i]))
            fail_msg("%s[%lld] at step %lld: %.9g, in FP64 %.12g +- %.3g", name, (long long)i,
                     (long long)s.step, (double)w[i], t->w[i], t->ew[i]);
        if (s.lr == 0 && (double)w[i] != t->w[i])
            fail_msg("%s is frozen, and moved", name);
    }
    return squares;
}

static int run(const mezzo_trainer_config *config, const expected *list) {
    static net_batch batch;
    bench b;
    int clipped = 0;
    begin(&b, config);
    for (int64_t step = 1; step <= STEPS; step++) {
        net_fill(&batch, step);
        mezzo_step_result r = net_step(b.ctx, b.trainer, &batch);
        assert_false(r.skipped);
        double lr = mezzo_schedule_lr(&config->schedule, (double)config->optimizer.lr, step - 1);
        assert_true(r.lr == lr);
        double clip = (double)config->clip, squares = 0;
        bool over = clip > 0 && r.grad_norm > clip;
        clipped += over;
        for (int k = 0; k < TENSORS; k++) {
            const expected *e = find(list, b.info[k].name);
            twin_update s = {lr * (double)e->lr_scale, (double)e->decay,
                             over ? clip / (r.grad_norm + 1e-6) : 1, step};
            squares += follow(&b, k, s, &config->optimizer);
        }
        /* A few thousand roundings of 2^-53, and, where products give the squares of their results,
         * up to 24 of 2^-24; a root has half of that. */
        double relative = 0x1p-38 + mzi_gamma(24, 0x1p-24) / 2;
        assert_true(fabs(r.grad_norm - sqrt(squares)) <= relative * r.grad_norm);
    }
    end(&b);
    return clipped;
}

/* Rank 1 gets no decay. */
static const expected by_rank[] = {{"conv1.weight", 1, 0.1f}, {"norm1.weight", 1, 0},
                                   {"norm1.bias", 1, 0},      {"conv2.weight", 1, 0.1f},
                                   {"conv2.bias", 1, 0},      {"fc.weight", 1, 0.1f},
                                   {"fc.bias", 1, 0},         {"head.weight", 1, 0.1f},
                                   {"head.bias", 1, 0},       {NULL, 0, 0}};

static mezzo_trainer_config config_of(const char *kind) {
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default(kind)};
    config.optimizer.lr = 0.02f;
    config.optimizer.weight_decay = 0.1f;
    return config;
}

static void test_adamw(void **state) {
    (void)state;
    mezzo_trainer_config config = config_of("adamw");
    config.schedule = (mezzo_schedule){MEZZO_SCHEDULE_COSINE, 5, STEPS, 0.001f, 0};
    run(&config, by_rank);
    config.optimizer.beta1 = 0.0f;
    config.optimizer.beta2 = 0.5f;
    config.optimizer.eps = 1e-3f;
    run(&config, by_rank);
}

static void test_sgd(void **state) {
    (void)state;
    mezzo_trainer_config config = config_of("sgd");
    run(&config, by_rank);
    config.optimizer.nesterov = true;
    run(&config, by_rank);
    config.optimizer.nesterov = false;
    config.optimizer.momentum = 0.0f;
    run(&config, by_rank);
}

static void test_lion(void **state) {
    (void)state;
    mezzo_trainer_config config = config_of("lion");
    assert_true(config.optimizer.beta1 == 0.9f && config.optimizer.beta2 == 0.99f);
    config.schedule = (mezzo_schedule){MEZZO_SCHEDULE_LINEAR, 5, STEPS, 0.001f, 0};
    run(&config, by_rank);
    config.optimizer.beta1 = 0.5f;
    config.optimizer.beta2 = 0.25f;
    run(&config, by_rank);
}

/* The last match wins; a group's decay holds for rank 1 too; 0 freezes. */
static void test_groups(void **state) {
    (void)state;
    static const mezzo_param_group groups[] = {
        {"conv?.*", 0.5f, 0.2f}, {"*.bias", 1.0f, 0.3f}, {"fc.*", 0.0f, 0.4f}, {"norm*", 2.0f, 0}};
    static const expected list[] = {{"conv1.weight", 0.5f, 0.2f}, {"norm1.weight", 2, 0},
                                    {"norm1.bias", 2, 0},         {"conv2.weight", 0.5f, 0.2f},
                                    {"conv2.bias", 1, 0.3f},      {"fc.weight", 0, 0.4f},
                                    {"fc.bias", 0, 0.4f},         {"head.weight", 1, 0.1f},
                                    {"head.bias", 1, 0.3f},       {NULL, 0, 0}};
    static const char *const kinds[] = {"adamw", "lion", "sgd"};
    for (int k = 0; k < 3; k++) {
        mezzo_trainer_config config = config_of(kinds[k]);
        config.optimizer.groups = groups;
        config.optimizer.group_count = 4;
        run(&config, list);
    }
}

static void test_clipping(void **state) {
    (void)state;
    mezzo_trainer_config config = config_of("sgd");
    config.clip = 0.8f; /* between the least and the largest norm of these steps */
    int clipped = run(&config, by_rank);
    assert_true(clipped > 0 && clipped < STEPS);
    config = config_of("adamw");
    config.clip = 0.01f;
    assert_true(run(&config, by_rank) > 3);
    config.clip = 1e6f;
    assert_int_equal(run(&config, by_rank), 0);
}

static void test_schedules(void **state) {
    (void)state;
    const mezzo_schedule constant = {MEZZO_SCHEDULE_CONSTANT, 4, 0, 0.0f, 0};
    const mezzo_schedule plain = {0};
    const mezzo_schedule cosine = {MEZZO_SCHEDULE_COSINE, 10, 110, 0.25f, 0};
    static const double warm[] = {0.25, 0.5, 0.75, 1, 1, 1};
    for (int t = 0; t < 6; t++)
        assert_true(mezzo_schedule_lr(&constant, 1.0, t) == warm[t]);
    assert_true(mezzo_schedule_lr(&constant, 3.0, 1000000) == 3.0);
    assert_true(mezzo_schedule_lr(&plain, 0.5, 0) == 0.5);
    assert_true(mezzo_schedule_lr(&cosine, 1.25, 0) == 0.125);
    assert_true(mezzo_schedule_lr(&cosine, 1.25, 9) == 1.25);
    assert_true(mezzo_schedule_lr(&cosine, 1.25, 10) == 1.25);
    /* cos(pi/3) = 1/2 and cos(pi/2) = 0 at a third and at half of 100 steps; 4 ulp. */
    assert_true(fabs(mezzo_schedule_lr(&cosine, 1.25, 60) - 0.75) < 0x1p-51);
    assert_true(fabs(mezzo_schedule_lr(&cosine, 1.25, 35) - (0.25 + 0.5 + sqrt(0.125))) < 0x1p-50);
    assert_true(mezzo_schedule_lr(&cosine, 1.25, 110) == 0.25);
    assert_true(mezzo_schedule_lr(&cosine, 1.25, 160) == 0.25);
    assert_true(mezzo_schedule_lr(&cosine, 1.25, 500) == 0.25);
    for (int t = 10; t < 110; t++)
        assert_true(mezzo_schedule_lr(&cosine, 1.25, t + 1) < mezzo_schedule_lr(&cosine, 1.25, t));
    const mezzo_schedule short_one = {MEZZO_SCHEDULE_COSINE, 5, 5, 0.0f, 0};
    assert_true(mezzo_schedule_lr(&short_one, 1.0, 7) == 1.0);
}

/* Rates that are exact in FP64: differences of powers of two, and roots of squares. */
static void test_falling_schedules(void **state) {
    (void)state;
    const mezzo_schedule linear = {MEZZO_SCHEDULE_LINEAR, 4, 12, 0.25f, 0};
    static const double fall[] = {1.25, 1.125, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.25};
    assert_true(mezzo_schedule_lr(&linear, 1.25, 3) == 1.25);
    for (int t = 0; t < 10; t++)
        assert_true(mezzo_schedule_lr(&linear, 1.25, 4 + t) == fall[t]);
    const mezzo_schedule wsd = {MEZZO_SCHEDULE_WSD, 10, 100, 0.25f, 64};
    assert_true(mezzo_schedule_lr(&wsd, 1.25, 4) == 0.625);
    for (int t = 9; t <= 36; t++)
        assert_true(mezzo_schedule_lr(&wsd, 1.25, t) == 1.25);
    for (int root = 0; root <= 8; root++) /* a 64th of the way is an 8th of the fall */
        assert_true(mezzo_schedule_lr(&wsd, 1.25, 36 + root * root) == 1.25 - root * 0.125);
    assert_true(mezzo_schedule_lr(&wsd, 1.25, 1000) == 0.25);
    const mezzo_schedule fifth = {MEZZO_SCHEDULE_WSD, 0, 20, 0.0f, 0}; /* 4 steps */
    assert_true(mezzo_schedule_lr(&fifth, 1.0, 16) == 1.0);
    assert_true(mezzo_schedule_lr(&fifth, 1.0, 17) == 0.5);
    const mezzo_schedule longer = {MEZZO_SCHEDULE_WSD, 16, 20, 0.0f, 50}; /* what is left: 4 */
    assert_true(mezzo_schedule_lr(&longer, 1.0, 15) == 1.0);
    assert_true(mezzo_schedule_lr(&longer, 1.0, 17) == 0.5);
}

static void test_raw_gradient_check(void **state) {
    (void)state;
    enum {
        N = 70001 /* more than two chunks, and a rest */
    };
    static float x[N];
    static uint16_t half[N];
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_F16, MEZZO_BF16};
    mezzo_ctx *ctx = net_ctx(2);
    for (int t = 0; t < 3; t++) {
        double squares = 0;
        for (int i = 0; i < N; i++)
            x[i] = 8.0f * net_random(1, (uint64_t)i);
        x[0] = (float)NAN;
        x[32767] = INFINITY;
        x[32768] = -INFINITY;
        x[N - 1] = (float)NAN;
        const void *data = x;
        if (types[t] != MEZZO_F32) {
            NET_OK(ctx,
                   mezzo_convert(ctx, half, types[t], x, MEZZO_F32, N, MEZZO_ROUND_NEAREST, 0));
            data = half;
        }
        for (int i = 0; i < N; i++) {
            double g = mzi_load(data, types[t], i);
            squares += isfinite(g) ? g * g : 0;
        }
        mezzo_gradient_norm norm;
        NET_OK(ctx, mezzo_gradient_check(ctx, data, types[t], N, &norm));
        assert_int_equal(norm.nonfinite, 4);
        assert_true(fabs(norm.sum_of_squares - squares) <= mzi_gamma(N, 0x1p-53) * squares);
        NET_OK(ctx, mezzo_gradient_check(ctx, data, types[t], 0, &norm));
        assert_true(norm.nonfinite == 0 && norm.sum_of_squares == 0);
        assert_int_equal(mezzo_gradient_check(ctx, data, MEZZO_F64, N, &norm),
                         MEZZO_INVALID_ARGUMENT);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "f64"));
    }
    mezzo_ctx_destroy(ctx);
}

static void test_raw_adamw_update(void **state) {
    (void)state;
    enum {
        N = 20001
    };
    static float w[N], m[N], v[N], g[N];
    static uint16_t half[N];
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_F16, MEZZO_BF16};
    mezzo_ctx *ctx = net_ctx(2);
    mezzo_optimizer_config o = mezzo_optimizer_default("adamw");
    o.weight_decay = 0.1f;
    twin *t = calloc(1, sizeof *t);
    for (int k = 0; k < 3; k++) {
        memset(t, 0, sizeof *t);
        memset(m, 0, sizeof m);
        memset(v, 0, sizeof v);
        for (int i = 0; i < N; i++)
            t->w[i] = (double)(w[i] = net_random(2, (uint64_t)i));
        for (int64_t step = 1; step <= STEPS; step++) {
            for (int i = 0; i < N; i++)
                g[i] = 64.0f * net_random(3 + (uint64_t)step, (uint64_t)i);
            const void *data = g;
            if (types[k] != MEZZO_F32) {
                NET_OK(ctx,
                       mezzo_convert(ctx, half, types[k], g, MEZZO_F32, N, MEZZO_ROUND_NEAREST, 0));
                data = half;
            }
            const twin_update s = {1e-3, (double)o.weight_decay, 0x1p-6, step};
            NET_OK(ctx,
                   mezzo_adamw_update(ctx, &o, w, m, v, data, types[k], N, s.lr, s.factor, step));
            for (int i = 0; i < N; i++) {
                twin_adamw(t, i, mzi_load(data, types[k], i), &s, &o);
                assert_true(fabs((double)w[i] - t->w[i]) <= t->ew[i]);
                assert_true(fabs((double)m[i] - t->m[i]) <= t->em[i]);
                assert_true(fabs((double)v[i] - t->v[i]) <= t->ev[i]);
            }
        }
    }
    assert_int_equal(mezzo_adamw_update(ctx, &o, w, m, v, g, MEZZO_F32, N, 1e-3, 1, 0),
                     MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "step 0"));
    assert_int_equal(mezzo_adamw_update(ctx, &o, w, m, v, g, MEZZO_I32, N, 1e-3, 1, 1),
                     MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "i32"));
    o.beta1 = 1.0f;
    assert_int_equal(mezzo_adamw_update(ctx, &o, w, m, v, g, MEZZO_F32, N, 1e-3, 1, 1),
                     MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "betas"));
    free(t);
    mezzo_ctx_destroy(ctx);
}

/* A change that makes a good configuration bad, and what the message names. */
typedef struct mistake {
    const char *kind;
    void (*make)(mezzo_trainer_config *config);
    const char *message;
} mistake;

static void no_kind(mezzo_trainer_config *c) {
    c->optimizer.kind = NULL;
}
static void unknown_kind(mezzo_trainer_config *c) {
    c->optimizer.kind = "adamx";
}
static void beta1_is_1(mezzo_trainer_config *c) {
    c->optimizer.beta1 = 1.0f;
}
static void beta2_is_nan(mezzo_trainer_config *c) {
    c->optimizer.beta2 = (float)NAN;
}
static void eps_is_0(mezzo_trainer_config *c) {
    c->optimizer.eps = 0.0f;
}
static void momentum_is_negative(mezzo_trainer_config *c) {
    c->optimizer.momentum = -0.5f;
}
static void nesterov_alone(mezzo_trainer_config *c) {
    c->optimizer.momentum = 0.0f;
    c->optimizer.nesterov = true;
}
static void rate_is_negative(mezzo_trainer_config *c) {
    c->optimizer.lr = -1.0f;
}
static void rate_is_infinite(mezzo_trainer_config *c) {
    c->optimizer.lr = INFINITY;
}
static void clip_is_negative(mezzo_trainer_config *c) {
    c->clip = -1.0f;
}
static void clip_is_nan(mezzo_trainer_config *c) {
    c->clip = (float)NAN;
}
static void warmup_is_negative(mezzo_trainer_config *c) {
    c->schedule.warmup = -3;
}
static void decay_is_negative(mezzo_trainer_config *c) {
    c->schedule.decay = -2;
}
static void scale_is_3(mezzo_trainer_config *c) {
    c->scaler = (mezzo_scaler_config){MEZZO_SCALE_STATIC, .init = 3.0f};
}

static void test_bad_configurations(void **state) {
    (void)state;
    static const mistake mistakes[] = {{"adamw", no_kind, "(null)"},
                                       {"adamw", unknown_kind, "adamx"},
                                       {"adamw", beta1_is_1, "betas 1"},
                                       {"adamw", beta2_is_nan, "nan"},
                                       {"adamw", eps_is_0, "eps 0"},
                                       {"sgd", momentum_is_negative, "momentum -0.5"},
                                       {"sgd", nesterov_alone, "nesterov"},
                                       {"adamw", rate_is_negative, "rate -1"},
                                       {"adamw", rate_is_infinite, "rate inf"},
                                       {"adamw", clip_is_negative, "clip -1"},
                                       {"adamw", clip_is_nan, "clip nan"},
                                       {"adamw", warmup_is_negative, "warmup -3"},
                                       {"adamw", decay_is_negative, "decay -2"},
                                       {"lion", beta1_is_1, "lion: betas 1"},
                                       {"adamw", scale_is_3, "loss scale 3"}};
    net n = {0};
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
    mezzo_trainer *trainer = NULL;
    for (size_t k = 0; k < sizeof mistakes / sizeof *mistakes; k++) {
        mezzo_trainer_config config = config_of(mistakes[k].kind);
        mistakes[k].make(&config);
        assert_int_equal(mezzo_trainer_create(&trainer, model, &config), MEZZO_INVALID_ARGUMENT);
        if (!strstr(mezzo_ctx_error(ctx)->text, mistakes[k].message))
            fail_msg("\"%s\" does not name %s", mezzo_ctx_error(ctx)->text, mistakes[k].message);
        assert_null(trainer);
    }
    mezzo_trainer_config config = config_of("adamw");
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config)); /* the model is as it was */
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* Inputs of a step, and reading: what is wrong is named, and nothing has happened. */
static void test_bad_inputs(void **state) {
    (void)state;
    static net_batch batch;
    static float out[NET_TENSOR_MAX];
    char before[65], after[65];
    net n = {0};
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
    mezzo_trainer *trainer = NULL;
    mezzo_step_result r = {.step = -7};
    mezzo_trainer_config config = config_of("adamw");
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, before));
    net_fill(&batch, 0);
    const mezzo_binding x = {"x", batch.x, sizeof batch.x};
    const mezzo_binding labels = {"labels", batch.labels, sizeof batch.labels};
    const mezzo_binding small = {"labels", batch.labels, sizeof batch.labels - 4};
    const mezzo_binding other = {"y", batch.x, sizeof batch.x};
    static int32_t beyond[NET_BATCH];
    beyond[9] = NET_CLASSES;
    const mezzo_binding wrong = {"labels", beyond, sizeof beyond};
    const struct {
        mezzo_binding in[3];
        int count;
        const char *message;
    } bad[] = {{{x}, 1, "`labels` is missing"},     {{labels}, 1, "`x` is missing"},
               {{x, small}, 2, "124 bytes"},        {{x, wrong}, 2, "labels"},
               {{x, labels, other}, 3, "3 inputs"}, {{x, labels, x}, 3, "3 inputs"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        mezzo_status status = bad[k].in[1].data == beyond ? MEZZO_DATA : MEZZO_INVALID_ARGUMENT;
        assert_int_equal(mezzo_trainer_step(trainer, bad[k].in, bad[k].count, &r), status);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, bad[k].message));
        assert_int_equal(r.step, -7);
    }
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, after));
    assert_string_equal(before, after);
    assert_int_equal(mezzo_trainer_get_state(trainer).attempt, 0);
    assert_int_equal(mezzo_trainer_read_gradient(trainer, "fc.weigh", out, 1),
                     MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "fc.weigh"));
    assert_int_equal(mezzo_trainer_read_gradient(trainer, "fc.bias", out, 7),
                     MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "144"));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_lion),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_falling_schedules),
        cmocka_unit_test(test_raw_gradient_check),
        cmocka_unit_test(test_raw_adamw_update),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_bad_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
