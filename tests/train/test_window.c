/* Steps of several micro-batches, and activations that are made again. */
#include <math.h>

#include "train/model.h"
#include "train/small_gpt.h"
#include "train/small_net.h"

static mezzo_model *gpt_model(mezzo_ctx *ctx, gpt *n, mezzo_dtype compute, const char *device,
                              const char *const *recompute, int recompute_count) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {.build = gpt_build,
                                       .user = n,
                                       .device = device,
                                       .precision.compute = compute,
                                       .seed = 3,
                                       .recompute = recompute,
                                       .recompute_count = recompute_count};
    GPT_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    return model;
}

static mezzo_trainer *trainer_of(mezzo_ctx *ctx, mezzo_model *model, int32_t accumulate, float lr) {
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = {
        .optimizer = mezzo_optimizer_default("adamw"), .clip = 1.0f, .accumulate = accumulate};
    config.optimizer.lr = lr;
    GPT_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    return trainer;
}

/* --- a classifier without hidden layers: every rounding can be counted ---------------------------
 *
 *   logits = x w^T, x [16,6,K] FP32 numbers, labels with padding in the first samples
 *   dw[v] = sum over the R rows that count of (p_rv - [v = label]) x_r / R
 *
 * The two ways of cutting differ in how they round: each of the terms d_r x_r carries a relative
 * error of at most 8 u in d_r (its exponential 3 u, lse 2 u, difference, factor and its quotient)
 * and u_T, if d_r is stored in the type T; R of them are added in FP32 in one order or another,
 * gamma_R; the sums of four micro-batches take 2 roundings each more.  So |difference| <= 2 (R +
 * 16) u A + 2 u_T A with A_v = sum |d_r| |x_r| / R, where |d_r| is taken as p + [v = label], since
 * lse's own error is relative to p.  Logits in T move p by the same amount on both sides: they are
 * the same products. */
enum {
    ROWS = 6,
    WIDE = 20,
    CLASSES = 9
};

static mezzo_status build_classifier(mezzo_graph *graph, void *user) {
    int64_t batch = *(const int64_t *)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape3(batch, ROWS, WIDE));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape2(batch, ROWS));
    mezzo_value w =
        mezzo_param(graph, "w", mezzo_shape2(CLASSES, WIDE), (mezzo_init){MEZZO_INIT_NORMAL, 0.3f});
    mezzo_loss(graph, mezzo_linear_cross_entropy(graph, "head", x, w, labels, NULL, NULL));
    return MEZZO_OK;
}

typedef struct classifier_data {
    float x[GPT_SAMPLES * ROWS * WIDE];
    int32_t labels[GPT_SAMPLES * ROWS];
} classifier_data;

static void fill_classifier(classifier_data *data) {
    for (int i = 0; i < GPT_SAMPLES * ROWS * WIDE; i++)
        data->x[i] = net_random(1, (uint64_t)i);
    for (int i = 0; i < GPT_SAMPLES * ROWS; i++)
        data->labels[i] = i < 17 ? -1 : i * 5 % CLASSES; /* the first micro-batch has 7 rows left */
}

static double classifier_gradient(mezzo_ctx *ctx, mezzo_dtype compute, int32_t accumulate,
                                  const classifier_data *data, float *w, float *out) {
    int64_t batch = GPT_SAMPLES / accumulate;
    mezzo_model *model = NULL;
    const mezzo_model_config config = {
        .build = build_classifier, .user = &batch, .precision.compute = compute, .seed = 3};
    GPT_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    GPT_OK(ctx, mezzo_model_read(model, 0, w, CLASSES * WIDE));
    mezzo_trainer *trainer = trainer_of(ctx, model, accumulate, 0.0f);
    const mezzo_binding inputs[] = {{"x", data->x, sizeof data->x},
                                    {"labels", data->labels, sizeof data->labels}};
    mezzo_step_result r;
    GPT_OK(ctx, mezzo_trainer_step(trainer, inputs, 2, &r));
    assert_false(r.skipped);
    GPT_OK(ctx, mezzo_trainer_read_gradient(trainer, "w", out, CLASSES * WIDE));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    return r.loss;
}

/* A of the comment above; returns the number of rows that count. */
static int magnitudes(const classifier_data *data, const float *w, double *out) {
    int count = 0;
    memset(out, 0, CLASSES * WIDE * sizeof *out);
    for (int r = 0; r < GPT_SAMPLES * ROWS; r++) {
        double p[CLASSES], sum = 0.0;
        if (data->labels[r] < 0)
            continue;
        for (int v = 0; v < CLASSES; v++) {
            double logit = 0.0;
            for (int k = 0; k < WIDE; k++)
                logit += (double)w[v * WIDE + k] * (double)data->x[r * WIDE + k];
            sum += p[v] = exp(logit);
        }
        for (int v = 0; v < CLASSES; v++)
            for (int k = 0; k < WIDE; k++)
                out[v * WIDE + k] +=
                    (p[v] / sum + (v == data->labels[r])) * fabs((double)data->x[r * WIDE + k]);
        count++;
    }
    for (int i = 0; i < CLASSES * WIDE; i++)
        out[i] /= count;
    return count;
}

static void check_classifier(mezzo_dtype compute, double u_stored) {
    static classifier_data data;
    static float w[CLASSES * WIDE], whole[CLASSES * WIDE], cut[CLASSES * WIDE];
    static double a[CLASSES * WIDE];
    mezzo_ctx *ctx = net_ctx(2);
    fill_classifier(&data);
    double loss = classifier_gradient(ctx, compute, 1, &data, w, whole);
    double cut_loss = classifier_gradient(ctx, compute, 4, &data, w, cut);
    int rows = magnitudes(&data, w, a);
    assert_int_equal(rows, GPT_SAMPLES * ROWS - 17);
    double u = 0x1p-24, most = 0.0;
    for (int i = 0; i < CLASSES * WIDE; i++) {
        double bound = 2.0 * ((rows + 16) * u + u_stored) * a[i];
        double difference = fabs((double)whole[i] - (double)cut[i]);
        most = fmax(most, difference / bound);
        if (difference > bound)
            fail_msg("element %d: %.9g and %.9g; bound %g", i, (double)whole[i], (double)cut[i],
                     bound);
    }
    assert_true(fabs(loss - cut_loss) <= 2.0 * (rows + 16) * u * loss);
    print_message("%s: at most %.3f of the bound\n", mezzo_dtype_name(compute), most);
    mezzo_ctx_destroy(ctx);
}

static void test_a_classifier_however_cut(void **state) {
    (void)state;
    check_classifier(MEZZO_F32, 0.0);
    check_classifier(MEZZO_BF16, 0x1p-8); /* dlogits are BF16, of another size in each cut */
}

/* --- a transformer: the cut gradient is as near to FP64 as the whole one -------------------------
 */

enum {
    TENSORS_MAX = 40
};
typedef struct gradients {
    int count;
    char name[TENSORS_MAX][64];
    int64_t size[TENSORS_MAX];
    double value[TENSORS_MAX][GPT_TENSOR_MAX];
} gradients;

static void add_gradient(gradients *g, const char *name, int64_t size) {
    assert_true(g->count < TENSORS_MAX && size <= GPT_TENSOR_MAX);
    snprintf(g->name[g->count], sizeof g->name[0], "%s", name);
    g->size[g->count++] = size;
}

/* In FP64, on the reference device. */
static void exact_gradients(mezzo_ctx *ctx, const gpt_batch *batch, gradients *out) {
    gpt n = {.batch = GPT_SAMPLES};
    const double one = 1.0;
    out->count = 0;
    mezzo_model *model = gpt_model(ctx, &n, MEZZO_F64, "ref", NULL, 0);
    GPT_OK(ctx, mzi_model_ensure(model, MEZZO_ENTRY_TRAIN));
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    const mezzo_binding inputs[] = {{"tokens", batch->tokens, sizeof batch->tokens},
                                    {"labels", batch->labels, sizeof batch->labels}};
    GPT_OK(ctx, mzi_model_bind(model, MEZZO_ENTRY_TRAIN, inputs, 2, 0, 1));
    GPT_OK(ctx, mzi_model_upload(model, MEZZO_ENTRY_TRAIN, graph->loss_scale, &one, sizeof one));
    GPT_OK(ctx,
           mzi_model_run(model, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD, false));
    for (int32_t g = 0; g < graph->grad_count; g++) {
        const mzi_value *param = &graph->values[graph->grads[g].param];
        add_gradient(out, param->name, mezzo_shape_count(param->tensor.shape));
        GPT_OK(ctx, mzi_model_download(model, MEZZO_ENTRY_TRAIN, graph->grads[g].grad,
                                       out->value[g], (uint64_t)out->size[g] * sizeof(double)));
    }
    mezzo_model_destroy(model);
}

static void trained_gradients(mezzo_ctx *ctx, mezzo_dtype compute, float dropout,
                              int32_t accumulate, const gpt_batch *batch, const gradients *like,
                              gradients *out) {
    static float host[GPT_TENSOR_MAX];
    gpt n = {.batch = GPT_SAMPLES / accumulate, .dropout = dropout};
    out->count = 0;
    mezzo_model *model = gpt_model(ctx, &n, compute, NULL, NULL, 0);
    mezzo_trainer *trainer = trainer_of(ctx, model, accumulate, 0.0f);
    assert_false(gpt_step(ctx, trainer, batch).skipped);
    for (int k = 0; k < like->count; k++) {
        add_gradient(out, like->name[k], like->size[k]);
        GPT_OK(ctx, mezzo_trainer_read_gradient(trainer, like->name[k], host, like->size[k]));
        for (int64_t i = 0; i < like->size[k]; i++)
            out->value[k][i] = (double)host[i];
    }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
}

static double distance(const gradients *a, const gradients *b, int k) {
    double squares = 0.0;
    for (int64_t i = 0; i < a->size[k]; i++)
        squares += (a->value[k][i] - b->value[k][i]) * (a->value[k][i] - b->value[k][i]);
    return sqrt(squares);
}

/* Activations and their gradients are the same numbers in both cuts up to a rounding each, so the
 * distances to FP64 are of one size.  A mean of means is off by a part of the gradient itself. */
static void check_transformer(mezzo_dtype compute) {
    static gpt_batch batch;
    static gradients exact, whole, cut;
    mezzo_ctx *ctx = net_ctx(2);
    gpt_fill(&batch, 0, 30); /* the first micro-batch counts 66 rows, the others 96 */
    exact_gradients(ctx, &batch, &exact);
    trained_gradients(ctx, compute, 0.0f, 1, &batch, &exact, &whole);
    trained_gradients(ctx, compute, 0.0f, 4, &batch, &exact, &cut);
    assert_int_equal(exact.count, 2 + 12 * GPT_LAYERS + 2);
    for (int k = 0; k < exact.count; k++) {
        double of_whole = distance(&whole, &exact, k), of_cut = distance(&cut, &exact, k);
        if (of_cut > 1.5 * of_whole)
            fail_msg("%s: %g from FP64 in four micro-batches, %g in one", exact.name[k], of_cut,
                     of_whole);
    }
    mezzo_ctx_destroy(ctx);
}

static void test_a_transformer_however_cut(void **state) {
    (void)state;
    check_transformer(MEZZO_F32);
    check_transformer(MEZZO_BF16);
}

/* A mask belongs to a sample of the step: another cut draws the same ones.  With other masks the
 * gradients differ by a part of themselves, and so does their norm; with the same by roundings. */
static void test_masks_follow_the_sample(void **state) {
    (void)state;
    static gpt_batch batch;
    static gradients like, whole, cut, zero;
    mezzo_ctx *ctx = net_ctx(2);
    gpt_fill(&batch, 0, 30);
    exact_gradients(ctx, &batch, &like);
    trained_gradients(ctx, MEZZO_F32, 0.3f, 1, &batch, &like, &whole);
    trained_gradients(ctx, MEZZO_F32, 0.3f, 4, &batch, &like, &cut);
    trained_gradients(ctx, MEZZO_F32, 0.0f, 1, &batch, &like, &zero);
    for (int k = 0; k < like.count; k++) {
        double by_masks = distance(&whole, &zero, k);
        if (distance(&whole, &cut, k) > 1e-3 * by_masks)
            fail_msg("%s: %g apart, and the masks make %g", like.name[k], distance(&whole, &cut, k),
                     by_masks);
    }
    mezzo_ctx_destroy(ctx);
}

/* --- bits ---------------------------------------------------------------------------------------
 */

enum {
    STEPS = 5
};

typedef struct variant {
    mezzo_dtype compute;
    int threads;
    int32_t accumulate;
    const char *const *recompute;
    int recompute_count;
    float dropout;
} variant;

/* The state's hash after some steps, and the plan's activations. */
static uint64_t train(const variant *v, char hash[65]) {
    static gpt_batch batch;
    mezzo_plan_info plan;
    gpt n = {.batch = GPT_SAMPLES / v->accumulate, .dropout = v->dropout};
    mezzo_ctx *ctx = net_ctx(v->threads);
    mezzo_model *model = gpt_model(ctx, &n, v->compute, NULL, v->recompute, v->recompute_count);
    mezzo_trainer *trainer = trainer_of(ctx, model, v->accumulate, 0.01f);
    for (int64_t s = 0; s < STEPS; s++) {
        gpt_fill(&batch, s, 30);
        assert_false(gpt_step(ctx, trainer, &batch).skipped);
    }
    GPT_OK(ctx, mezzo_trainer_state_hash(trainer, hash));
    GPT_OK(ctx, mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &plan));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    return plan.activation_bytes;
}

static void test_workers_change_no_bit(void **state) {
    (void)state;
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16};
    for (int k = 0; k < 2; k++) {
        char first[65], other[65];
        variant v = {.compute = types[k], .threads = 1, .accumulate = 4, .dropout = 0.2f};
        train(&v, first);
        for (v.threads = 2; v.threads <= 3; v.threads++) {
            train(&v, other);
            assert_string_equal(first, other);
        }
        v.dropout = 0.21f;
        train(&v, other);
        assert_string_not_equal(first, other);
    }
}

static void test_recomputation_changes_no_bit(void **state) {
    (void)state;
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16};
    static const char *const blocks[] = {"h.*", "!h.*.add*"};
    static const char *const all[] = {"*"};
    static const char *const none[] = {"*", "!*"};
    for (int k = 0; k < 4; k++) {
        char kept[65], again[65];
        variant v = {
            .compute = types[k / 2], .threads = 2, .accumulate = k % 2 ? 4 : 1, .dropout = 0.2f};
        uint64_t bytes = train(&v, kept);
        v.recompute = blocks;
        v.recompute_count = 2;
        assert_true(train(&v, again) < bytes);
        assert_string_equal(kept, again);
        v.recompute = all;
        v.recompute_count = 1;
        train(&v, again);
        assert_string_equal(kept, again);
        v.recompute = none;
        v.recompute_count = 2;
        assert_true(train(&v, again) == bytes);
        assert_string_equal(kept, again);
    }
}

/* --- statistics, faults, other losses -----------------------------------------------------------
 */

enum {
    HALF = NET_BATCH / 2
};

static mezzo_trainer *net_trainer(mezzo_ctx *ctx, mezzo_model *model, int32_t accumulate,
                                  float lr) {
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    config.optimizer.lr = lr;
    config.accumulate = accumulate;
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    return trainer;
}

static void read_statistics(mezzo_ctx *ctx, mezzo_model *model, float *out) {
    NET_OK(ctx,
           mezzo_model_read(model, mezzo_model_state_find(model, "norm1.running_mean"), out, 12));
    NET_OK(ctx, mezzo_model_read(model, mezzo_model_state_find(model, "norm1.running_var"),
                                 out + 12, 12));
}

/* A window moves the statistics as two steps do whose updates are nothing. */
static void test_statistics_move_with_each_micro_batch(void **state) {
    (void)state;
    static net_batch batch;
    float one_by_one[24], window[24], at_first[24];
    mezzo_ctx *ctx = net_ctx(2);
    net n = {.batch = HALF};
    net_fill(&batch, 0);
    for (int accumulate = 1; accumulate <= 2; accumulate++) {
        mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
        mezzo_trainer *trainer = net_trainer(ctx, model, accumulate, 0.0f);
        read_statistics(ctx, model, at_first);
        for (int k = 0; k < 3 - accumulate; k++) {
            mezzo_step_result r;
            size_t samples = (size_t)HALF * (size_t)accumulate, first = (size_t)k * HALF;
            const mezzo_binding inputs[] = {
                {"x", batch.x + first * NET_PIXELS, samples * NET_PIXELS * sizeof(float)},
                {"labels", batch.labels + first, samples * sizeof(int32_t)}};
            NET_OK(ctx, mezzo_trainer_step(trainer, inputs, 2, &r));
            assert_false(r.skipped);
        }
        read_statistics(ctx, model, accumulate == 1 ? one_by_one : window);
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
    }
    assert_memory_equal(one_by_one, window, sizeof window);
    assert_memory_not_equal(at_first, window, sizeof window);
    mezzo_ctx_destroy(ctx);
}

/* A window of NaN is skipped, and the next one knows nothing of it. */
static void test_a_bad_window_leaves_nothing(void **state) {
    (void)state;
    static net_batch good, bad;
    char hash[2][65], before[65], after[65];
    mezzo_ctx *ctx = net_ctx(2);
    net n = {.batch = NET_BATCH / 4};
    net_fill(&good, 0);
    net_fill(&bad, 1);
    for (int k = 0; k < 4; k++)
        bad.x[k * NET_BATCH / 4 * NET_PIXELS + 5] = NAN;
    for (int with = 0; with < 2; with++) {
        mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
        mezzo_trainer *trainer = net_trainer(ctx, model, 4, 0.01f);
        NET_OK(ctx, mezzo_trainer_state_hash(trainer, before));
        if (with)
            assert_true(net_step(ctx, trainer, &bad).skipped);
        NET_OK(ctx, mezzo_trainer_state_hash(trainer, after));
        assert_string_equal(before, after);
        assert_false(net_step(ctx, trainer, &good).skipped);
        NET_OK(ctx, mezzo_trainer_state_hash(trainer, hash[with]));
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
    }
    assert_string_equal(hash[0], hash[1]);
    mezzo_ctx_destroy(ctx);
}

/* loss = mean(x w): its gradient is the mean of x, whatever the micro-batches are. */
static mezzo_status build_mean(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape1(2));
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape1(2), (mezzo_init){MEZZO_INIT_CONSTANT, 1});
    mezzo_loss(graph, mezzo_mean(graph, mezzo_mul(graph, x, w)));
    return MEZZO_OK;
}

static void test_micro_batches_without_rows_count_equally(void **state) {
    (void)state;
    const float x[] = {1, 2, 3, 5, 7, 12, 5, 21};
    float gradient[2];
    mezzo_step_result r;
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = NULL;
    const mezzo_model_config config = {.build = build_mean};
    NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    mezzo_trainer *trainer = net_trainer(ctx, model, 4, 0.0f);
    mezzo_binding input = {"x", x, sizeof x};
    NET_OK(ctx, mezzo_trainer_step(trainer, &input, 1, &r));
    assert_true(r.loss == 7.0); /* 56 / 8 */
    NET_OK(ctx, mezzo_trainer_read_gradient(trainer, "w", gradient, 2));
    assert_true(gradient[0] == 2.0f && gradient[1] == 5.0f); /* 16 / 8, 40 / 8 */
    assert_true(fabs(r.grad_norm - sqrt(29.0)) < 1e-12);
    input.bytes = sizeof x / 2;
    assert_int_equal(mezzo_trainer_step(trainer, &input, 1, &r), MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "has 16 bytes; it takes 32 (4 times 8)"));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_classifier_however_cut),
        cmocka_unit_test(test_a_transformer_however_cut),
        cmocka_unit_test(test_masks_follow_the_sample),
        cmocka_unit_test(test_workers_change_no_bit),
        cmocka_unit_test(test_recomputation_changes_no_bit),
        cmocka_unit_test(test_statistics_move_with_each_micro_batch),
        cmocka_unit_test(test_a_bad_window_leaves_nothing),
        cmocka_unit_test(test_micro_batches_without_rows_count_equally),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
