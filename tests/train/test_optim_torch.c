/* Optimizers and smoothed labels against PyTorch, Lion and Muon against their sources: the
 * figures of tests/parity/optim_torch.py.
 *
 * The gradients are given: the loss is sum(y r) with y = I a^T for a matrix a, so that its gradient
 * is r^T, and sum(b r) for a vector, all exact in FP32.  The FP64 formulas of optim_twin.h run
 * beside the trainer.  Their bound for u = 2^-24 holds for FP32; the same for 2^-53, twice, for
 * FP64 here and there. */
#include <jansson.h>
#include <stdlib.h>

#include "mezzo/ops.h"
#include "train/model.h"
#include "train/optim_twin.h"

enum {
    PARAMS = 3,
    ELEMENTS_MAX = 24,
    START = 1000,
    LOGITS = 2000,
    ROWS = 5,
    CLASSES = 7
};

/* In the order of their elements in a stream. */
static const struct param {
    const char *name, *input;
    int64_t rows, columns; /* rows 0: a vector */
} params[PARAMS] = {{"a", "ra", 6, 4}, {"c", "rc", 3, 5}, {"b", "rb", 0, 5}};

static json_t *peer;

static int64_t count_of(const struct param *p) {
    return p->columns * (p->rows ? p->rows : 1);
}

/* [-1, 1), 24 bits: element `i` of `stream`, hashed by the finalizer of MurmurHash3. */
static double uniform(uint32_t stream, uint32_t i) {
    uint32_t x = i * 0x9E3779B1u + stream * 0x85EBCA77u;
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    return (double)((x ^ x >> 16) >> 8) * 0x1p-23 - 1.0;
}

static const json_t *at(const json_t *object, const char *key) {
    const json_t *found = json_object_get(object, key);
    if (!found)
        fail_msg("the figures have no %s", key);
    return found;
}

static double number_at(const json_t *object, const char *key) {
    return json_number_value(at(object, key));
}

static void check(mezzo_ctx *ctx, mezzo_status status) {
    if (status != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
}

static mezzo_ctx *make_ctx(void) {
    mezzo_ctx *ctx = NULL;
    const mezzo_ctx_config config = {.threads = 2};
    assert_int_equal(mezzo_ctx_create(&ctx, &config, NULL), MEZZO_OK);
    return ctx;
}

static mezzo_model *make_model(mezzo_ctx *ctx, mezzo_build_fn *build, void *user) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {
        .build = build, .user = user, .precision.compute = MEZZO_F32, .seed = 1};
    check(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    return model;
}

static mezzo_status build_params(mezzo_graph *graph, void *user) {
    const mezzo_init zero = {MEZZO_INIT_CONSTANT, 0.0f};
    mezzo_value loss = {0};
    (void)user;
    for (int k = 0; k < PARAMS; k++) {
        const struct param *p = &params[k];
        bool matrix = p->rows > 0;
        mezzo_shape shape = matrix ? mezzo_shape2(p->rows, p->columns) : mezzo_shape1(p->columns);
        mezzo_shape turned = matrix ? mezzo_shape2(p->columns, p->rows) : shape;
        mezzo_value y = mezzo_param(graph, p->name, shape, zero);
        if (matrix) {
            mezzo_value one = mezzo_input(graph, p->rows == 6 ? "one4" : "one5", MEZZO_F32,
                                          mezzo_shape2(p->columns, p->columns));
            y = mezzo_linear_with(graph, NULL, one, y, (mezzo_value){0});
        }
        mezzo_value r = mezzo_input(graph, p->input, MEZZO_F32, turned);
        mezzo_value term = mezzo_sum(graph, mezzo_mul(graph, y, r));
        loss = k == 0 ? term : mezzo_add(graph, loss, term);
    }
    mezzo_loss(graph, loss);
    return MEZZO_OK;
}

static void fill_identity(float *x, int64_t n) {
    memset(x, 0, (size_t)(n * n) * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i * n + i] = 1.0f;
}

/* Gradients of a step, and what the graph takes to have them. */
typedef struct step_data {
    float g[PARAMS][ELEMENTS_MAX], r[PARAMS][ELEMENTS_MAX], one4[16], one5[25];
} step_data;

static void fill_step(step_data *d, uint32_t step) {
    uint32_t index = 0;
    for (int k = 0; k < PARAMS; k++)
        for (int64_t i = 0; i < count_of(&params[k]); i++, index++) {
            int64_t rows = params[k].rows, columns = params[k].columns;
            d->g[k][i] = (float)((uniform(0, index) + uniform(step, index)) / 2);
            d->r[k][rows ? i % columns * rows + i / columns : i] = d->g[k][i];
        }
    fill_identity(d->one4, 4);
    fill_identity(d->one5, 5);
}

static void run_step(mezzo_ctx *ctx, mezzo_trainer *trainer, const step_data *d) {
    const mezzo_binding inputs[] = {{"one4", d->one4, sizeof d->one4},
                                    {"one5", d->one5, sizeof d->one5},
                                    {"ra", d->r[0], 24 * sizeof(float)},
                                    {"rc", d->r[1], 15 * sizeof(float)},
                                    {"rb", d->r[2], 5 * sizeof(float)}};
    float g[ELEMENTS_MAX];
    mezzo_step_result result;
    check(ctx, mezzo_trainer_step(trainer, inputs, 5, &result));
    assert_false(result.skipped);
    for (int k = 0; k < PARAMS; k++) {
        int64_t n = count_of(&params[k]);
        check(ctx, mezzo_trainer_read_gradient(trainer, params[k].name, g, n));
        assert_memory_equal(g, d->g[k], (size_t)n * sizeof *g);
    }
}

static mezzo_optimizer_config optimizer_of(const json_t *run) {
    mezzo_optimizer_config o = mezzo_optimizer_default(json_string_value(at(run, "kind")));
    o.lr = (float)number_at(run, "lr");
    o.weight_decay = (float)number_at(run, "weight_decay");
    if (json_object_get(run, "beta1")) {
        o.beta1 = (float)number_at(run, "beta1");
        o.beta2 = (float)number_at(run, "beta2");
    }
    if (json_object_get(run, "eps"))
        o.eps = (float)number_at(run, "eps");
    if (json_object_get(run, "momentum")) {
        o.momentum = (float)number_at(run, "momentum");
        o.nesterov = json_is_true(json_object_get(run, "nesterov"));
    }
    if (json_object_get(run, "other_lr_scale"))
        o.other_lr_scale = (float)number_at(run, "other_lr_scale");
    return o;
}

/* One parameter beside the peer's; returns the largest share of the bound that FP32 used. */
static double compare(const twin *t, const float *w, const json_t *theirs, const char *where) {
    double worst = 0;
    assert_int_equal(json_array_size(theirs), t->count);
    for (int64_t i = 0; i < t->count; i++) {
        double want = json_number_value(json_array_get(theirs, (size_t)i));
        if (!(fabs(t->w[i] - want) <= t->ew[i] * 2 * 0x1p-29))
            fail_msg("%s[%lld]: the formula gives %.17g, the peer %.17g", where, (long long)i,
                     t->w[i], want);
        if (!(fabs((double)w[i] - want) <= t->ew[i]))
            fail_msg("%s[%lld]: %.9g, the peer's %.17g +- %.3g", where, (long long)i, (double)w[i],
                     want, t->ew[i]);
        worst = fmax(worst, fabs((double)w[i] - want) / t->ew[i]);
    }
    return worst;
}

static void replay(mezzo_ctx *ctx, const json_t *run) {
    const mezzo_trainer_config config = {.optimizer = optimizer_of(run)};
    const mezzo_optimizer_config *o = &config.optimizer;
    const json_t *list = at(run, "steps");
    mezzo_model *model = make_model(ctx, build_params, NULL);
    mezzo_trainer *trainer = NULL;
    twin *twins = calloc(PARAMS, sizeof *twins);
    float w[ELEMENTS_MAX];
    uint32_t index = 0;
    double worst = 0;
    check(ctx, mezzo_trainer_create(&trainer, model, &config));
    for (int k = 0; k < PARAMS; k++) {
        twins[k].count = count_of(&params[k]);
        twins[k].rows = params[k].rows;
        twins[k].columns = params[k].columns;
        for (int64_t i = 0; i < twins[k].count; i++)
            twins[k].w[i] = (double)(w[i] = (float)uniform(START, index++));
        int state = mezzo_model_state_find(model, params[k].name);
        check(ctx, mezzo_model_write(model, state, w, twins[k].count));
    }
    int64_t step = 0;
    for (size_t mark = 0; mark < json_array_size(list); mark++) {
        const json_t *figures = json_array_get(list, mark);
        while (step < json_integer_value(at(figures, "step"))) {
            step_data d;
            fill_step(&d, (uint32_t)++step);
            run_step(ctx, trainer, &d);
            for (int k = 0; k < PARAMS; k++) {
                double decay = params[k].rows ? (double)o->weight_decay : 0;
                const twin_update s = {(double)o->lr, decay, 1, step};
                twin_step(&twins[k], d.g[k], &s, o);
            }
        }
        for (int k = 0; k < PARAMS; k++) {
            int state = mezzo_model_state_find(model, params[k].name);
            check(ctx, mezzo_model_read(model, state, w, twins[k].count));
            worst = fmax(worst, compare(&twins[k], w, at(figures, params[k].name), o->kind));
        }
    }
    assert_int_equal(step, 100);
    print_message("  %s: up to %.0f %% of the bound\n", o->kind, 100 * worst);
    free(twins);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

static void test_optimizers(void **state) {
    const json_t *runs = at(peer, "runs");
    mezzo_ctx *ctx = make_ctx();
    (void)state;
    assert_true(json_array_size(runs) >= 6);
    for (size_t k = 0; k < json_array_size(runs); k++)
        replay(ctx, json_array_get(runs, k));
    mezzo_ctx_destroy(ctx);
}

/* A cross-entropy whose logits are a parameter, or a product of one. */
typedef struct smoothed_loss {
    float amount;
    bool product; /* logits = I w^T, w [V,rows] */
} smoothed_loss;

static mezzo_status build_loss(mezzo_graph *graph, void *user) {
    const smoothed_loss *l = user;
    const mezzo_init zero = {MEZZO_INIT_CONSTANT, 0.0f};
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(ROWS));
    mezzo_shape shape = l->product ? mezzo_shape2(CLASSES, ROWS) : mezzo_shape2(ROWS, CLASSES);
    mezzo_value w = mezzo_param(graph, "w", shape, zero), loss;
    mezzo_label_smoothing(graph, l->amount);
    if (l->product) {
        mezzo_value one = mezzo_input(graph, "one", MEZZO_F32, mezzo_shape2(ROWS, ROWS));
        loss = mezzo_linear_cross_entropy(graph, "head", one, w, labels, NULL, NULL);
    } else {
        loss = mezzo_softmax_cross_entropy(graph, w, labels, NULL, NULL);
    }
    mezzo_loss(graph, loss);
    return MEZZO_OK;
}

/* Errors of FP32, with |logit| < 4, so |logit - lse| < 10, and 7 classes: lse is within
 * (10 + 4 + 7) u, the loss adds its own rounding and the mean's (2 u of the loss); a gradient has
 * (10 + 4) u of p <= 1, and four roundings of at most 2 (checkkern_bound.c).  Both are below 32 u
 * of 1 + |loss|. */
static void compare_loss(mezzo_ctx *ctx, const json_t *figures, const json_t *plain, bool product) {
    static const int32_t labels[ROWS] = {3, 0, -1, 6, 6};
    const smoothed_loss l = {(float)number_at(figures, "amount"), product};
    const mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default("sgd")};
    const json_t *gradient = at(figures, "gradient");
    float w[ROWS * CLASSES], g[ROWS * CLASSES], one[ROWS * ROWS], loss;
    mezzo_model *model = make_model(ctx, build_loss, (void *)(uintptr_t)&l);
    mezzo_trainer *trainer = NULL;
    mezzo_step_result r;
    fill_identity(one, ROWS);
    for (uint32_t i = 0; i < ROWS * CLASSES; i++) {
        uint32_t turned = i % CLASSES * ROWS + i / CLASSES;
        w[product ? turned : i] = (float)(4 * uniform(LOGITS, i));
    }
    const mezzo_binding inputs[] = {{"labels", labels, sizeof labels}, {"one", one, sizeof one}};
    int count = product ? 2 : 1;
    check(ctx, mezzo_trainer_create(&trainer, model, &config));
    check(ctx, mezzo_model_write(model, mezzo_model_state_find(model, "w"), w, ROWS * CLASSES));
    double want = number_at(plain, "loss"), allowed = 32 * twin_u * (1 + want);
    check(ctx, mezzo_model_evaluate(model, inputs, count));
    check(ctx, mezzo_model_output(model, MEZZO_ENTRY_EVAL, "loss", &loss, 1));
    assert_true(fabs((double)loss - want) <= allowed); /* never smoothed */
    want = number_at(figures, "loss");
    allowed = 32 * twin_u * (1 + want);
    check(ctx, mezzo_trainer_step(trainer, inputs, count, &r));
    if (!(fabs(r.loss - want) <= allowed))
        fail_msg("smoothing %g: loss %.9g, PyTorch's %.9g", (double)l.amount, r.loss, want);
    check(ctx, mezzo_trainer_read_gradient(trainer, "w", g, ROWS * CLASSES));
    for (uint32_t i = 0; i < ROWS * CLASSES; i++) {
        double found = (double)g[product ? i % CLASSES * ROWS + i / CLASSES : i];
        want = json_number_value(json_array_get(gradient, i));
        if (!(fabs(found - want) <= 32 * twin_u))
            fail_msg("smoothing %g, gradient %u: %.9g, PyTorch's %.9g", (double)l.amount, i, found,
                     want);
    }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

static void test_label_smoothing(void **state) {
    const json_t *list = at(peer, "smoothing");
    mezzo_ctx *ctx = make_ctx();
    (void)state;
    assert_int_equal(json_array_size(list), 3);
    for (size_t k = 0; k < 3; k++)
        for (int product = 0; product < 2; product++)
            compare_loss(ctx, json_array_get(list, k), json_array_get(list, 0), product == 1);
    mezzo_ctx_destroy(ctx);
}

static void test_bad_smoothing(void **state) {
    static const float bad[] = {-0.1f, 1.5f, (float)NAN};
    (void)state;
    mezzo_ctx *ctx = make_ctx();
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        const smoothed_loss l = {bad[k], false};
        const mezzo_model_config config = {.build = build_loss, .user = (void *)(uintptr_t)&l};
        mezzo_model *model = NULL;
        assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN),
                         MEZZO_INVALID_ARGUMENT);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "is not in [0, 1]"));
    }
    mezzo_ctx_destroy(ctx);
}

static int setup(void **state) {
    const char *root = getenv("MEZZO_SOURCE_DIR");
    char path[1024];
    (void)state;
    if (!root)
        return -1;
    snprintf(path, sizeof path, "%s/tests/parity/optim_torch.json", root);
    peer = json_load_file(path, 0, NULL);
    return peer ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    json_decref(peer);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_optimizers),
        cmocka_unit_test(test_label_smoothing),
        cmocka_unit_test(test_bad_smoothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
