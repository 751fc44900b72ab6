/* The quickstart's network against PyTorch: same weights, same images, and no file between the two
 * but PyTorch's figures, tests/parity/cnn_torch.json.  cnn_torch.py beside it made them, and says
 * what they are.
 *
 *   curve     20 AdamW steps: each loss differs by at most 1e-4 of itself in FP32, 1e-2 in BF16
 *   gradient  |g - g64| / |g64| of each parameter is at most 1.5 times PyTorch's, with channels
 * last and with channels first
 *
 * g64 is made here, in FP64 on the device `ref`.  That its norms are those of PyTorch in FP64 says
 * that both distances are measured from the same point.  Distances are root mean squares over the
 * peer's runs. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mezzo/models.h"
#include "run/runner.h"
#include "train/model.h"
#include "unit/cmocka_all.h"

enum {
    SIDE = 28,
    PIXELS = SIDE * SIDE,
    CLASSES = 10,
    STREAM_NOISE = 100, /* below: parameters, by their order */
    STREAM_PLACE = 101,
    STREAM_CLASS = 102,
    PARAM_MAX = 16,
    RUN_MAX = 8
};

static const double NOISE = 0.5; /* beside blobs of height 1 */
static const double CURVE_F32 = 1e-4, CURVE_BF16 = 1e-2, GRADIENT = 1.5;
/* Both sum at most 1e5 products of either sign, in another order: 2^-53 sqrt(1e5) = 4e-14 of the
 * sum of their sizes, some 1e3 times the sum itself; and that through a dozen layers. */
static const double SAME_NORM = 1e-9;

typedef struct fixture {
    mezzo_ctx *ctx;
    mezzo_runner *runner;
    mezzo_config *config;
    json_t *peer;
    uint32_t seed;
    double *exact[RUN_MAX][PARAM_MAX]; /* g64, in the order of the peer's tensors */
} fixture;

static fixture *the_fixture; /* cmocka's setup takes no argument */

/* A model and the number of images that it is built for. */
typedef struct network {
    const fixture *fixture;
    mezzo_model *model;
    int64_t batch;
} network;

typedef struct images {
    double *exact;
    float *x;
    int32_t *labels;
} images;

static void check(mezzo_ctx *ctx, mezzo_status status) {
    if (status != MEZZO_OK)
        fail_msg("%s: %s", mezzo_status_name(status), mezzo_ctx_error(ctx)->text);
}

/* Word `index` of a stream: Philox with counter (block, stream, 0, 0) and key (seed, 0). */
static uint32_t random_word(uint32_t seed, uint32_t stream, int64_t index) {
    const uint32_t counter[4] = {(uint32_t)(index / 4), stream, 0, 0}, key[2] = {seed, 0};
    uint32_t words[4];
    mezzo_philox(words, counter, key);
    return words[index % 4];
}

/* [-1, 1), 24 bits: exact. */
static double uniform(uint32_t seed, uint32_t stream, int64_t index) {
    return (double)(random_word(seed, stream, index) >> 8) * 0x1p-23 - 1.0;
}

/* 1 - d^2/64 squared, up to 8 pixels from the blob's middle; exact. */
static double blob(uint32_t seed, int64_t sample, int number, int y, int x) {
    int64_t place = 4 * (sample % CLASSES) + 2 * number;
    int away[2] = {y, x}, d2 = 0;
    for (int axis = 0; axis < 2; axis++) {
        away[axis] -= 6 + (int)(random_word(seed, STREAM_CLASS, place + axis) % 16);
        away[axis] -= (int)(random_word(seed, STREAM_PLACE, 2 * sample + axis) % 7) - 3;
        d2 += away[axis] * away[axis];
    }
    return d2 < 64 ? (64 - d2) * (64 - d2) / 4096.0 : 0.0;
}

static images make_images(uint32_t seed, int64_t first, int64_t count) {
    images set = {.exact = calloc((size_t)(count * PIXELS), sizeof *set.exact),
                  .x = calloc((size_t)(count * PIXELS), sizeof *set.x),
                  .labels = calloc((size_t)count, sizeof *set.labels)};
    for (int64_t n = 0; n < count; n++) {
        set.labels[n] = (int32_t)((first + n) % CLASSES);
        for (int p = 0; p < PIXELS; p++) {
            double value = NOISE * uniform(seed, STREAM_NOISE, (first + n) * PIXELS + p);
            for (int number = 0; number < 2; number++)
                value += blob(seed, first + n, number, p / SIDE, p % SIDE);
            set.x[n * PIXELS + p] = (float)value;
            set.exact[n * PIXELS + p] = (double)set.x[n * PIXELS + p];
        }
    }
    return set;
}

static void free_images(images *set) {
    free(set->exact);
    free(set->x);
    free(set->labels);
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const network *net = user;
    const mezzo_runner *runner = net->fixture->runner;
    const int64_t shape[4] = {net->batch, SIDE, SIDE, 1};
    const char *kind = mezzo_config_text(net->fixture->config, "model.kind");
    for (int k = 0; k < runner->kind_count; k++)
        if (strcmp(runner->kinds[k].name, kind) == 0)
            return runner->kinds[k].build(graph, net->fixture->config, shape, CLASSES);
    return MEZZO_FAILURE;
}

/* Matrices start uniform in +-1/sqrt(fan-in), biases likewise, norms at 1 and 0.  A bias is as wide
 * as the weight before it, which `*fan_in` remembers. */
static double initial_value(const fixture *f, const mezzo_state_info *info, uint32_t stream,
                            int64_t index, int64_t *fan_in) {
    if (strncmp(info->name, "norm", 4) == 0)
        return strstr(info->name, ".weight") ? 1.0 : 0.0;
    if (info->shape.rank > 1)
        *fan_in = mezzo_shape_count(info->shape) / info->shape.dim[0];
    return (double)(float)(uniform(f->seed, stream, index) * (1.0 / sqrt((double)*fan_in)));
}

/* The parameters in the order of the graph; those of an FP64 model are doubles. */
static void write_weights(const network *net) {
    uint32_t stream = 0;
    int64_t fan_in = 1;
    for (int s = 0; s < mezzo_model_state_count(net->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(net->model, s);
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        int64_t count = mezzo_shape_count(info.shape);
        double *wide = malloc((size_t)count * sizeof *wide);
        float *narrow = malloc((size_t)count * sizeof *narrow);
        for (int64_t i = 0; i < count; i++) {
            wide[i] = initial_value(net->fixture, &info, stream, i, &fan_in);
            narrow[i] = (float)wide[i];
        }
        stream++;
        if (net->model->precision.compute == MEZZO_F64)
            check(net->model->ctx,
                  net->model->backend->upload(net->model->backend, &net->model->states[s].buffer, 0,
                                              wide, (uint64_t)count * sizeof *wide));
        else
            check(net->model->ctx, mezzo_model_write(net->model, s, narrow, count));
        free(wide);
        free(narrow);
    }
    net->model->version++;
}

/* The peer's figures.  jansson's accessors hand a missing member on as null. */
static const json_t *peer_at(const fixture *f, const char *part, const char *key) {
    const json_t *found = json_object_get(json_object_get(f->peer, part), key);
    if (!found)
        fail_msg("cnn_torch.json has no %s.%s", part, key);
    return found;
}

static double peer_number(const json_t *object, const char *key) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_number(found))
        fail_msg("cnn_torch.json: %s is no number", key);
    return json_number_value(found);
}

static int64_t peer_batch(const fixture *f, const char *part) {
    return json_integer_value(peer_at(f, part, "batch"));
}

static int peer_runs(const fixture *f) {
    int runs = (int)json_integer_value(peer_at(f, "gradient", "runs"));
    assert_in_range(runs, 1, RUN_MAX);
    return runs;
}

static double element(const json_t *array, size_t index) {
    return json_number_value(json_array_get(array, index));
}

static void create_network(network *net, const fixture *f, mezzo_dtype compute, int64_t batch) {
    const mezzo_model_config config = {.build = build,
                                       .user = net,
                                       .device = compute == MEZZO_F64 ? "ref" : "cpu",
                                       .precision.compute = compute};
    *net = (network){.fixture = f, .batch = batch};
    check(f->ctx, mezzo_model_create(&net->model, f->ctx, &config, MEZZO_ENTRY_TRAIN));
    write_weights(net);
}

static mezzo_trainer *create_trainer(const network *net) {
    const mezzo_config *c = net->fixture->config;
    const mezzo_trainer_config config = {
        .optimizer = mezzo_optimizer_default(mezzo_config_text(c, "optimizer.kind")),
        .schedule.warmup = json_integer_value(peer_at(net->fixture, "train", "warmup")),
        .clip = 1.0f};
    mezzo_trainer *trainer = NULL;
    check(net->model->ctx, mezzo_trainer_create(&trainer, net->model, &config));
    return trainer;
}

static mezzo_step_result train_step(mezzo_trainer *trainer, const network *net, int64_t first) {
    images set = make_images(net->fixture->seed, first, net->batch);
    const mezzo_binding inputs[] = {
        {"x", set.x, (size_t)(net->batch * PIXELS) * sizeof *set.x},
        {"labels", set.labels, (size_t)net->batch * sizeof *set.labels}};
    mezzo_step_result result;
    check(net->model->ctx, mezzo_trainer_step(trainer, inputs, 2, &result));
    free_images(&set);
    return result;
}

static double norm_of(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* Keep g64 of one parameter; returns how far its norm is from PyTorch's, relative. */
static double keep_gradient(fixture *f, const network *net, const mzi_grad *pair, int run) {
    const mzi_value *param =
        &net->model->entries[MEZZO_ENTRY_TRAIN].plan->graph->values[pair->param];
    const json_t *tensors = peer_at(f, "gradient", "tensors");
    int64_t n = mezzo_shape_count(param->tensor.shape);
    for (size_t at = 0; at < json_array_size(tensors); at++) {
        const json_t *peer = json_array_get(tensors, at);
        if (strcmp(json_string_value(json_object_get(peer, "name")), param->name) != 0)
            continue;
        double *exact = malloc((size_t)n * sizeof *exact);
        f->exact[run][at] = exact;
        check(f->ctx, mzi_model_download(net->model, MEZZO_ENTRY_TRAIN, pair->grad, exact,
                                         (uint64_t)n * sizeof *exact));
        return fabs(element(json_object_get(peer, "norm"), (size_t)run) / norm_of(exact, n) - 1.0);
    }
    fail_msg("cnn_torch.json has no gradient of %s", param->name);
    return 0.0;
}

static void run_exact(const network *net, int run) {
    const mezzo_graph *graph = net->model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    mezzo_ctx *ctx = net->model->ctx;
    images set = make_images(net->fixture->seed, run * net->batch, net->batch);
    const mezzo_binding inputs[] = {
        {"x", set.exact, (size_t)(net->batch * PIXELS) * sizeof *set.exact},
        {"labels", set.labels, (size_t)net->batch * sizeof *set.labels}};
    const double one = 1.0;
    check(ctx, mzi_model_bind(net->model, MEZZO_ENTRY_TRAIN, inputs, 2));
    check(ctx,
          mzi_model_upload(net->model, MEZZO_ENTRY_TRAIN, graph->loss_scale, &one, sizeof one));
    check(ctx, mzi_model_run(net->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD));
    free_images(&set);
}

static void test_same_point(void **state) {
    fixture *f = *state;
    double apart = 0.0;
    network net;
    create_network(&net, f, MEZZO_F64, peer_batch(f, "gradient"));
    check(f->ctx, mzi_model_ensure(net.model, MEZZO_ENTRY_TRAIN));
    const mezzo_graph *graph = net.model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    assert_int_equal(graph->grad_count, json_array_size(peer_at(f, "gradient", "tensors")));
    assert_in_range(graph->grad_count, 1, PARAM_MAX);
    for (int run = 0; run < peer_runs(f); run++) {
        run_exact(&net, run);
        for (int32_t g = 0; g < graph->grad_count; g++) {
            double found = keep_gradient(f, &net, &graph->grads[g], run);
            if (!(found <= apart))
                apart = found;
        }
    }
    mezzo_model_destroy(net.model);
    print_message("  norms of g64: at most %.1e of them from PyTorch's\n", apart);
    assert_true(apart <= SAME_NORM);
}

/* |g - g64| / |g64| */
static double distance(mezzo_trainer *trainer, mezzo_ctx *ctx, const char *name,
                       const double *exact, int64_t n) {
    float *g = malloc((size_t)n * sizeof *g);
    double *error = malloc((size_t)n * sizeof *error);
    check(ctx, mezzo_trainer_read_gradient(trainer, name, g, n));
    for (int64_t i = 0; i < n; i++)
        error[i] = (double)g[i] - exact[i];
    double found = norm_of(error, n) / norm_of(exact, n);
    free(g);
    free(error);
    return found;
}

/* Mean square over the runs, by parameter. */
static void mean_squares(const fixture *f, mezzo_dtype compute, double *squares) {
    const json_t *tensors = peer_at(f, "gradient", "tensors");
    int runs = peer_runs(f);
    network net;
    create_network(&net, f, compute, peer_batch(f, "gradient"));
    mezzo_trainer *trainer = create_trainer(&net);
    for (int run = 0; run < runs; run++) {
        write_weights(&net); /* the last step moved them */
        train_step(trainer, &net, run * net.batch);
        for (size_t at = 0; at < json_array_size(tensors); at++) {
            const json_t *peer = json_array_get(tensors, at);
            const char *name = json_string_value(json_object_get(peer, "name"));
            int index = mezzo_model_state_find(net.model, name);
            int64_t n = mezzo_shape_count(mezzo_model_state_at(net.model, index).shape);
            double d = distance(trainer, f->ctx, name, f->exact[run][at], n);
            squares[at] += d * d / runs;
        }
    }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(net.model);
}

/* `same`: the peer with mezzo's layout of images; `other`: with channels first. */
static void compare_gradients(const fixture *f, mezzo_dtype compute, const char *same,
                              const char *other) {
    const json_t *tensors = peer_at(f, "gradient", "tensors");
    double squares[PARAM_MAX] = {0};
    int far = 0;
    /* PyTorch's figures are from a CPU with AVX-512, whose channels-first kernels sum in blocks. */
    bool like = compute != MEZZO_F32 || mezzo_ctx_isa(f->ctx) >= MEZZO_ISA_AVX512;
    mean_squares(f, compute, squares);
    print_message("  %s: |g - g64| / |g64|; over PyTorch's, channels last and channels first\n",
                  mezzo_dtype_name(compute));
    for (size_t at = 0; at < json_array_size(tensors); at++) {
        const json_t *peer = json_array_get(tensors, at);
        double ours = sqrt(squares[at]);
        double ratios[] = {ours / peer_number(peer, same), ours / peer_number(peer, other)};
        bool near = ratios[0] <= GRADIENT && (!like || ratios[1] <= GRADIENT);
        print_message("    %-13s %.2e  %.2f  %.2f%s\n",
                      json_string_value(json_object_get(peer, "name")), ours, ratios[0], ratios[1],
                      near ? "" : "  too far");
        far += !near;
    }
    assert_int_equal(far, 0);
}

static void test_gradients_f32(void **state) {
    compare_gradients(*state, MEZZO_F32, "fp32_nhwc", "fp32");
}

static void test_gradients_bf16(void **state) {
    compare_gradients(*state, MEZZO_BF16, "bf16_nhwc", "bf16");
}

static void compare_curve(const fixture *f, mezzo_dtype compute, const char *peer_key,
                          double limit) {
    const json_t *losses = json_object_get(peer_at(f, "train", peer_key), "loss");
    size_t steps = json_array_size(losses), worst = 0;
    double largest = 0.0, last = 0.0;
    network net;
    assert_true(steps >= 20);
    create_network(&net, f, compute, peer_batch(f, "train"));
    mezzo_trainer *trainer = create_trainer(&net);
    for (size_t step = 0; step < steps; step++) {
        double theirs = element(losses, step);
        mezzo_step_result r = train_step(trainer, &net, (int64_t)step * net.batch);
        double apart = fabs(r.loss - theirs) / theirs;
        assert_false(r.skipped);
        if (!(apart <= largest)) {
            largest = apart;
            worst = step;
        }
        last = r.loss;
    }
    print_message("  %s: loss %.4f after %zu steps, at most %.2e from PyTorch's (step %zu)\n",
                  peer_key, last, steps, largest, worst + 1);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(net.model);
    assert_true(largest <= limit);
}

static void test_curve_f32(void **state) {
    compare_curve(*state, MEZZO_F32, "fp32", CURVE_F32);
}

static void test_curve_bf16(void **state) {
    compare_curve(*state, MEZZO_BF16, "bf16", CURVE_BF16);
}

static int setup(void **state) {
    fixture *f = the_fixture;
    const char *root = getenv("MEZZO_SOURCE_DIR");
    char path[1024];
    json_error_t error;
    *state = f;
    if (!root)
        return -1;
    snprintf(path, sizeof path, "%s/tests/parity/cnn_torch.json", root);
    f->peer = json_load_file(path, 0, &error);
    f->seed = (uint32_t)json_integer_value(json_object_get(f->peer, "seed"));
    snprintf(path, sizeof path, "%s/examples/fashion-cnn.yaml", root);
    bool ready = f->peer && mezzo_runner_create(&f->runner, f->ctx) == MEZZO_OK &&
                 mezzo_models_register(f->runner) == MEZZO_OK &&
                 mezzo_config_create(&f->config, f->ctx) == MEZZO_OK &&
                 mezzo_config_load(f->config, path) == MEZZO_OK;
    if (!ready)
        print_error("%s: %s %s\n", path, f->peer ? "" : error.text, mezzo_ctx_error(f->ctx)->text);
    return ready ? 0 : -1;
}

static int teardown(void **state) {
    fixture *f = *state;
    for (int k = 0; k < RUN_MAX * PARAM_MAX; k++)
        free(f->exact[k / PARAM_MAX][k % PARAM_MAX]);
    mezzo_config_destroy(f->config);
    mezzo_runner_destroy(f->runner);
    json_decref(f->peer);
    return 0;
}

static mezzo_isa isa_named(const char *name) {
    mezzo_isa isa = MEZZO_ISA_REF;
    while (isa < MEZZO_ISA_AVX512_BF16 && strcmp(mezzo_isa_name(isa), name) != 0)
        isa++;
    return isa;
}

/* One limit a process: an argument is the highest instruction set to use. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_point), /* first: it makes what the next two measure from */
        cmocka_unit_test(test_gradients_f32), cmocka_unit_test(test_gradients_bf16),
        cmocka_unit_test(test_curve_f32),     cmocka_unit_test(test_curve_bf16),
    };
    const mezzo_ctx_config config = {.isa = argc > 1 ? isa_named(argv[1]) : MEZZO_ISA_AUTO};
    fixture f = {0};
    mezzo_error error;
    mezzo_status status = mezzo_ctx_create(&f.ctx, &config, &error);
    if (status == MEZZO_UNSUPPORTED)
        return 77; /* skipped */
    the_fixture = &f;
    int failed = status == MEZZO_OK ? cmocka_run_group_tests(tests, setup, teardown) : 1;
    mezzo_ctx_destroy(f.ctx);
    return failed;
}
