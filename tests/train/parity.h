/* What the tests against PyTorch share.  A test says how its network is built and filled; here the
 * peer's figures are read, and mezzo is held to them:
 *
 *   curve     AdamW steps: each loss differs by at most 1e-4 of itself in FP32, 1e-2 in BF16
 *   gradient  |g - g64| / |g64| of each parameter is at most 1.5 times PyTorch's
 *
 * g64 is made here, in FP64 on the device `ref`.  That its norms are those of PyTorch in FP64 says
 * that both distances are measured from the same point.  Distances are root mean squares over the
 * peer's runs. */
#ifndef TESTS_TRAIN_PARITY_H
#define TESTS_TRAIN_PARITY_H

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
    PARITY_PARAM_MAX = 32,
    PARITY_RUN_MAX = 8
};
#define PARITY_CURVE_F32 1e-4
#define PARITY_CURVE_BF16 1e-2
#define PARITY_GRADIENT 1.5
/* Both sum at most 1e5 products of either sign, in another order: 2^-53 sqrt(1e5) = 4e-14 of the
 * sum of their sizes, some 1e3 times the sum itself; and that through a dozen layers. */
#define PARITY_SAME_NORM 1e-9

typedef struct parity parity;

/* A model and the number of samples that its graph takes. */
typedef struct parity_model {
    const parity *p;
    mezzo_model *model;
    int64_t batch;
} parity_model;

/* What differs between the networks. */
typedef struct parity_network {
    const char *figures; /* file of the peer in tests/parity */
    mezzo_status (*configure)(parity *p);
    mezzo_data_shape (*shape)(const parity *p, int64_t batch);
    /* Element `index` of a parameter, the `place`-th of the peer's list. */
    double (*initial)(const parity_model *m, const mezzo_state_info *info, uint32_t place,
                      int64_t index);
    /* Samples first..first+count-1, allocated; with `exact` images are doubles. */
    void (*fill)(const parity *p, int64_t first, int64_t count, bool exact,
                 mezzo_binding inputs[2]);
    mezzo_trainer_config (*trainer)(const parity *p);
} parity_network;

struct parity {
    const parity_network *network;
    mezzo_ctx *ctx;
    mezzo_runner *runner;
    mezzo_config *config;
    json_t *peer;
    uint32_t seed;
    bool at_once; /* a window is one micro-batch, whose gradients are BF16 where it computes in that
                   */
    double *exact[PARITY_RUN_MAX][PARITY_PARAM_MAX]; /* g64, in the order of the peer's tensors */
};

static inline void parity_check(mezzo_ctx *ctx, mezzo_status status) {
    if (status != MEZZO_OK)
        fail_msg("%s: %s", mezzo_status_name(status), mezzo_ctx_error(ctx)->text);
}

/* Word `index` of a stream: Philox with counter (block, stream, 0, 0) and key (seed, 0). */
static inline uint32_t parity_word(const parity *p, uint32_t stream, int64_t index) {
    const uint32_t counter[4] = {(uint32_t)(index / 4), stream, 0, 0}, key[2] = {p->seed, 0};
    uint32_t words[4];
    mezzo_philox(words, counter, key);
    return words[index % 4];
}

/* [-1, 1), 24 bits: exact. */
static inline double parity_uniform(const parity *p, uint32_t stream, int64_t index) {
    return (double)(parity_word(p, stream, index) >> 8) * 0x1p-23 - 1.0;
}

/* The peer's figures.  jansson's accessors hand a missing member on as null. */
static inline const json_t *parity_at(const parity *p, const char *part, const char *key) {
    const json_t *found = json_object_get(json_object_get(p->peer, part), key);
    if (!found)
        fail_msg("%s has no %s.%s", p->network->figures, part, key);
    return found;
}

static inline double parity_number(const parity *p, const json_t *object, const char *key) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_number(found))
        fail_msg("%s: %s is no number", p->network->figures, key);
    return json_number_value(found);
}

static inline int64_t parity_int(const parity *p, const char *part, const char *key) {
    return json_integer_value(parity_at(p, part, key));
}

static inline int parity_runs(const parity *p) {
    int runs = (int)parity_int(p, "gradient", "runs");
    assert_in_range(runs, 1, PARITY_RUN_MAX);
    return runs;
}

static inline double parity_element(const json_t *array, size_t index) {
    return json_number_value(json_array_get(array, index));
}

static inline const char *parity_tensor(const json_t *tensors, size_t place) {
    return json_string_value(json_object_get(json_array_get(tensors, place), "name"));
}

/* The peer's number of a parameter. */
static inline size_t parity_place(const parity *p, const char *name) {
    const json_t *tensors = parity_at(p, "gradient", "tensors");
    for (size_t place = 0; place < json_array_size(tensors); place++)
        if (strcmp(parity_tensor(tensors, place), name) == 0)
            return place;
    fail_msg("%s has no gradient of %s", p->network->figures, name);
    return 0;
}

static inline mezzo_status parity_build(mezzo_graph *graph, void *user) {
    const parity_model *m = user;
    const mezzo_data_shape shape = m->p->network->shape(m->p, m->batch);
    const char *kind = mezzo_config_text(m->p->config, "model.kind");
    for (int k = 0; k < m->p->runner->kind_count; k++)
        if (strcmp(m->p->runner->kinds[k].name, kind) == 0)
            return m->p->runner->kinds[k].build(graph, m->p->config, &shape);
    return MEZZO_FAILURE;
}

/* Parameters of an FP64 model are doubles; their values are FP32's. */
static inline void parity_write(const parity_model *m) {
    mezzo_model *model = m->model;
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        int64_t count = mezzo_shape_count(info.shape);
        uint32_t place = (uint32_t)parity_place(m->p, info.name);
        double *wide = malloc((size_t)count * sizeof *wide);
        float *narrow = malloc((size_t)count * sizeof *narrow);
        for (int64_t i = 0; i < count; i++) {
            narrow[i] = (float)m->p->network->initial(m, &info, place, i);
            wide[i] = (double)narrow[i];
        }
        parity_check(model->ctx, mzi_model_settle(model)); /* the first run would, over these */
        if (model->precision.compute == MEZZO_F64)
            parity_check(model->ctx,
                         model->backend->upload(model->backend, &model->states[s].buffer, 0, wide,
                                                (uint64_t)count * sizeof *wide));
        else
            parity_check(model->ctx, mezzo_model_write(model, s, narrow, count));
        free(wide);
        free(narrow);
    }
    model->version++;
}

static inline void parity_create(parity_model *m, const parity *p, mezzo_dtype compute,
                                 mezzo_dtype gradients, int64_t batch) {
    const mezzo_model_config config = {
        .build = parity_build,
        .user = m,
        .device = compute == MEZZO_F64 ? "ref" : "cpu",
        .precision = {.compute = compute, .master = MEZZO_MASTER_SPLIT, .gradients = gradients}};
    *m = (parity_model){.p = p, .batch = batch};
    parity_check(p->ctx, mezzo_model_create(&m->model, p->ctx, &config, MEZZO_ENTRY_TRAIN));
    parity_write(m);
}

/* A model and its trainer, whose steps take `samples`. */
static inline mezzo_trainer *parity_create_trainer(parity_model *m, const parity *p,
                                                   mezzo_dtype compute, int64_t samples) {
    mezzo_trainer_config config = p->network->trainer(p);
    mezzo_trainer *trainer = NULL;
    if (p->at_once || config.accumulate == 0)
        config.accumulate = 1;
    bool low = compute == MEZZO_BF16 && config.accumulate == 1;
    parity_create(m, p, compute, low ? MEZZO_BF16 : MEZZO_F32, samples / config.accumulate);
    parity_check(p->ctx, mezzo_trainer_create(&trainer, m->model, &config));
    return trainer;
}

static inline void parity_free(mezzo_binding inputs[2]) {
    for (int i = 0; i < 2; i++)
        free((void *)(uintptr_t)inputs[i].data);
}

static inline mezzo_step_result parity_step(mezzo_trainer *trainer, const parity *p, int64_t first,
                                            int64_t samples) {
    mezzo_binding inputs[2];
    mezzo_step_result result;
    p->network->fill(p, first, samples, false, inputs);
    parity_check(p->ctx, mezzo_trainer_step(trainer, inputs, 2, &result));
    parity_free(inputs);
    return result;
}

static inline double parity_norm(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* Keep g64 of one parameter; returns how far its norm is from PyTorch's, relative. */
static inline double parity_keep(parity *p, const parity_model *m, const mzi_grad *pair, int run) {
    const mzi_value *param = &m->model->entries[MEZZO_ENTRY_TRAIN].plan->graph->values[pair->param];
    size_t place = parity_place(p, param->name);
    int64_t n = mezzo_shape_count(param->tensor.shape);
    double *exact = malloc((size_t)n * sizeof *exact);
    p->exact[run][place] = exact;
    parity_check(p->ctx, mzi_model_download(m->model, MEZZO_ENTRY_TRAIN, pair->grad, exact,
                                            (uint64_t)n * sizeof *exact));
    const json_t *peer = json_array_get(parity_at(p, "gradient", "tensors"), place);
    double theirs = parity_element(json_object_get(peer, "norm"), (size_t)run);
    return fabs(theirs / parity_norm(exact, n) - 1.0);
}

static inline void parity_run_exact(const parity_model *m, int run) {
    const mezzo_graph *graph = m->model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    const double one = 1.0;
    mezzo_ctx *ctx = m->model->ctx;
    mezzo_binding inputs[2];
    m->p->network->fill(m->p, run * m->batch, m->batch, true, inputs);
    parity_check(ctx, mzi_model_bind(m->model, MEZZO_ENTRY_TRAIN, inputs, 2, 0, 1));
    parity_check(
        ctx, mzi_model_upload(m->model, MEZZO_ENTRY_TRAIN, graph->loss_scale, &one, sizeof one));
    parity_check(ctx, mzi_model_run(m->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD,
                                    MZI_PHASE_BACKWARD, false));
    parity_free(inputs);
}

/* A test, the first one: it makes what gradients are measured from. */
static inline void parity_test_same_point(void **state) {
    parity *p = *state;
    double apart = 0.0;
    parity_model m;
    parity_create(&m, p, MEZZO_F64, MEZZO_F32, parity_int(p, "gradient", "batch"));
    parity_check(p->ctx, mzi_model_ensure(m.model, MEZZO_ENTRY_TRAIN));
    const mezzo_graph *graph = m.model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    assert_int_equal(graph->grad_count, json_array_size(parity_at(p, "gradient", "tensors")));
    assert_in_range(graph->grad_count, 1, PARITY_PARAM_MAX);
    for (int run = 0; run < parity_runs(p); run++) {
        parity_run_exact(&m, run);
        for (int32_t g = 0; g < graph->grad_count; g++) {
            double found = parity_keep(p, &m, &graph->grads[g], run);
            if (!(found <= apart))
                apart = found;
        }
    }
    mezzo_model_destroy(m.model);
    print_message("  norms of g64: at most %.1e of them from PyTorch's\n", apart);
    assert_true(apart <= PARITY_SAME_NORM);
}

/* |g - g64| / |g64| */
static inline double parity_distance(mezzo_trainer *trainer, mezzo_ctx *ctx, const char *name,
                                     const double *exact, int64_t n) {
    float *g = malloc((size_t)n * sizeof *g);
    double *error = malloc((size_t)n * sizeof *error);
    parity_check(ctx, mezzo_trainer_read_gradient(trainer, name, g, n));
    for (int64_t i = 0; i < n; i++)
        error[i] = (double)g[i] - exact[i];
    double found = parity_norm(error, n) / parity_norm(exact, n);
    free(g);
    free(error);
    return found;
}

/* Mean square over the runs, by parameter. */
static inline void parity_mean_squares(const parity *p, mezzo_dtype compute, double *squares) {
    const json_t *tensors = parity_at(p, "gradient", "tensors");
    int64_t batch = parity_int(p, "gradient", "batch");
    int runs = parity_runs(p);
    parity_model m;
    mezzo_trainer *trainer = parity_create_trainer(&m, p, compute, batch);
    for (int run = 0; run < runs; run++) {
        parity_write(&m); /* the last step moved them */
        parity_step(trainer, p, run * batch, batch);
        for (size_t place = 0; place < json_array_size(tensors); place++) {
            const char *name = parity_tensor(tensors, place);
            int index = mezzo_model_state_find(m.model, name);
            int64_t n = mezzo_shape_count(mezzo_model_state_at(m.model, index).shape);
            double d = parity_distance(trainer, p->ctx, name, p->exact[run][place], n);
            squares[place] += d * d / runs;
        }
    }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(m.model);
}

/* Gradients beside those of two peers, of which the second (may be null) need not bind. */
static inline void parity_gradients(const parity *p, mezzo_dtype compute, const char *first,
                                    const char *second, bool second_binds) {
    const json_t *tensors = parity_at(p, "gradient", "tensors");
    double squares[PARITY_PARAM_MAX] = {0};
    int far = 0;
    parity_mean_squares(p, compute, squares);
    print_message("  %s: |g - g64| / |g64|; over PyTorch's %s%s%s\n", mezzo_dtype_name(compute),
                  first, second ? ", " : "", second ? second : "");
    for (size_t place = 0; place < json_array_size(tensors); place++) {
        const json_t *peer = json_array_get(tensors, place);
        double ours = sqrt(squares[place]), ratio = ours / parity_number(p, peer, first);
        bool near = ratio <= PARITY_GRADIENT;
        print_message("    %-22s %.2e  %.2f", parity_tensor(tensors, place), ours, ratio);
        if (second) {
            ratio = ours / parity_number(p, peer, second);
            near = near && (!second_binds || ratio <= PARITY_GRADIENT);
            print_message("  %.2f", ratio);
        }
        print_message("%s\n", near ? "" : "  too far");
        far += !near;
    }
    assert_int_equal(far, 0);
}

static inline void parity_curve(const parity *p, mezzo_dtype compute, const char *key,
                                double limit) {
    const json_t *losses = json_object_get(parity_at(p, "train", key), "loss");
    size_t steps = json_array_size(losses), worst = 0;
    int64_t batch = parity_int(p, "train", "batch");
    double largest = 0.0, last = 0.0;
    parity_model m;
    assert_true(steps >= 20);
    mezzo_trainer *trainer = parity_create_trainer(&m, p, compute, batch);
    for (size_t step = 0; step < steps; step++) {
        double theirs = parity_element(losses, step);
        mezzo_step_result r = parity_step(trainer, p, (int64_t)step * batch, batch);
        double apart = fabs(r.loss - theirs) / theirs;
        assert_false(r.skipped);
        if (!(apart <= largest)) {
            largest = apart;
            worst = step;
        }
        last = r.loss;
    }
    print_message("  %s: loss %.4f after %zu steps, at most %.2e from PyTorch's (step %zu)\n", key,
                  last, steps, largest, worst + 1);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(m.model);
    assert_true(largest <= limit);
}

static inline void parity_test_curve_f32(void **state) {
    parity_curve(*state, MEZZO_F32, "fp32", PARITY_CURVE_F32);
}

static inline void parity_test_curve_bf16(void **state) {
    parity_curve(*state, MEZZO_BF16, "bf16", PARITY_CURVE_BF16);
}

/* cmocka's setup takes no argument: `*state` comes from the test's own, which hands it on. */
static inline int parity_setup(parity *p) {
    const char *root = getenv("MEZZO_SOURCE_DIR");
    char path[1024];
    json_error_t error;
    if (!root)
        return -1;
    snprintf(path, sizeof path, "%s/tests/parity/%s", root, p->network->figures);
    p->peer = json_load_file(path, 0, &error);
    p->seed = (uint32_t)json_integer_value(json_object_get(p->peer, "seed"));
    bool ready = p->peer && mezzo_runner_create(&p->runner, p->ctx) == MEZZO_OK &&
                 mezzo_models_register(p->runner) == MEZZO_OK &&
                 mezzo_config_create(&p->config, p->ctx) == MEZZO_OK &&
                 p->network->configure(p) == MEZZO_OK;
    if (!ready)
        print_error("%s: %s %s\n", path, p->peer ? "" : error.text, mezzo_ctx_error(p->ctx)->text);
    return ready ? 0 : -1;
}

static inline int parity_teardown(void **state) {
    parity *p = *state;
    for (int k = 0; k < PARITY_RUN_MAX * PARITY_PARAM_MAX; k++)
        free(p->exact[k / PARITY_PARAM_MAX][k % PARITY_PARAM_MAX]);
    mezzo_config_destroy(p->config);
    mezzo_runner_destroy(p->runner);
    json_decref(p->peer);
    return 0;
}

/* One limit a process: an argument is the highest instruction set to use. */
static inline mezzo_status parity_context(parity *p, int argc, char **argv) {
    mezzo_isa isa = argc > 1 ? MEZZO_ISA_REF : MEZZO_ISA_AUTO;
    while (argc > 1 && isa < MEZZO_ISA_AVX512_BF16 && strcmp(mezzo_isa_name(isa), argv[1]) != 0)
        isa++;
    mezzo_error error;
    return mezzo_ctx_create(&p->ctx, &(mezzo_ctx_config){.isa = isa}, &error);
}

#endif
