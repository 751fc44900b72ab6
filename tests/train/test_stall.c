/* The stall meter against weights read before and after a step, and that it changes nothing. */
#include <math.h>
#include <stdlib.h>

#include "graph/plan.h"
#include "train/model.h"
#include "train/small_net.h"

enum {
    PARAMS_MAX = 16
};

typedef struct bench {
    mezzo_ctx *ctx;
    net net;
    mezzo_model *model;
    mezzo_trainer *trainer;
} bench;

static bench begin(const mezzo_trainer_config *config) {
    bench b = {.ctx = net_ctx(2)};
    b.model = net_model(b.ctx, &b.net, MEZZO_F32);
    NET_OK(b.ctx, mezzo_trainer_create(&b.trainer, b.model, config));
    return b;
}

static void end(bench *b) {
    mezzo_trainer_destroy(b->trainer);
    mezzo_model_destroy(b->model);
    mezzo_ctx_destroy(b->ctx);
}

static mezzo_trainer_config meters(const char *kind, float lr) {
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default(kind), .meter_every = 1};
    config.optimizer.lr = lr;
    return config;
}

static int64_t divisor(int64_t a, int64_t b) {
    return b ? divisor(b, a % b) : a;
}

/* The distance of samples: docs/numerics.md, "Stalled updates". */
static int64_t stride_of(int64_t elements) {
    int64_t stride = (elements + 4095) / 4096;
    while (stride > 1 && divisor(elements, stride) > 1)
        stride++;
    return stride;
}

typedef struct tensor {
    float before[NET_TENSOR_MAX], after[NET_TENSOR_MAX], gradient[NET_TENSOR_MAX];
} tensor;
static tensor tensors[PARAMS_MAX];

static void read_all(bench *b, bool after) {
    mezzo_stall s;
    for (int k = 0; mezzo_trainer_stall(b->trainer, k, &s); k++) {
        assert_in_range(k, 0, PARAMS_MAX - 1);
        int index = mezzo_model_state_find(b->model, s.param);
        NET_OK(b->ctx, mezzo_model_read(b->model, index,
                                        after ? tensors[k].after : tensors[k].before, s.elements));
        if (after)
            NET_OK(b->ctx, mezzo_trainer_read_gradient(b->trainer, s.param, tensors[k].gradient,
                                                       s.elements));
    }
}

/* Counts of every parameter and the share of all, made again; returns how many were sampled. */
static int check_counts(bench *b, double share) {
    double counted_all = 0.0, stalled_all = 0.0;
    int k = 0, sampled = 0;
    for (mezzo_stall s; mezzo_trainer_stall(b->trainer, k, &s); k++) {
        int64_t stride = stride_of(s.elements), counted = 0, stalled = 0;
        double weight = (double)s.elements / (double)s.sampled;
        assert_int_equal(s.sampled, (s.elements + stride - 1) / stride);
        assert_true(s.sampled <= 4096);
        sampled += s.sampled < s.elements;
        for (int64_t i = 0; i < s.elements; i += stride) {
            if (tensors[k].gradient[i] == 0.0f)
                continue;
            counted++;
            stalled += tensors[k].before[i] == tensors[k].after[i];
        }
        assert_int_equal(s.counted, counted);
        assert_int_equal(s.stalled, stalled);
        counted_all += weight * (double)counted;
        stalled_all += weight * (double)stalled;
    }
    assert_true(fabs(share - stalled_all / counted_all) <= 1e-12);
    return sampled;
}

/* A rate at which some updates vanish: half an ulp of 0.01 to 0.1 is 5e-10 to 4e-9. */
static void test_counts_are_those_of_the_weights(void **state) {
    (void)state;
    static net_batch batch;
    static const char *const kinds[] = {"adamw", "lion", "sgd", "muon"};
    static const float rates[] = {1e-9f, 1e-9f, 1e-7f, 1e-8f};
    net_fill(&batch, 1);
    for (int o = 0; o < 4; o++) {
        mezzo_trainer_config config = meters(kinds[o], rates[o]);
        bench b = begin(&config);
        for (int step = 0; step < 3; step++) {
            read_all(&b, false);
            mezzo_step_result r = net_step(b.ctx, b.trainer, &batch);
            read_all(&b, true);
            assert_true(check_counts(&b, r.stalled) > 0);
            assert_true(r.stalled > 0.01 && r.stalled < 0.99);
        }
        end(&b);
    }
}

static void test_share_follows_the_rate(void **state) {
    (void)state;
    static net_batch batch;
    net_fill(&batch, 1);
    static const float rates[] = {1e-2f, 1e-14f};
    for (int k = 0; k < 2; k++) {
        mezzo_trainer_config config = meters("adamw", rates[k]);
        config.optimizer.weight_decay = 0.0f;
        bench b = begin(&config);
        mezzo_step_result r = net_step(b.ctx, b.trainer, &batch);
        assert_true(k == 0 ? r.stalled < 0.01 : r.stalled > 0.99);
        end(&b);
    }
}

/* Measured at every third commit; not at a rate of 0, nor in a step that is skipped. */
static void test_measured_when_it_is_due(void **state) {
    (void)state;
    static net_batch batch, bad;
    net_fill(&batch, 1);
    bad = batch;
    bad.x[7] = (float)NAN;
    mezzo_trainer_config config = meters("adamw", 1e-3f);
    config.meter_every = 3;
    bench b = begin(&config);
    for (int64_t step = 1; step <= 9; step++) {
        mezzo_step_result r = net_step(b.ctx, b.trainer, &bad);
        assert_true(r.skipped && isnan(r.stalled));
        r = net_step(b.ctx, b.trainer, &batch);
        assert_int_equal(r.step, step);
        assert_int_equal(!isnan(r.stalled), step % 3 == 0);
    }
    end(&b);
    config = meters("adamw", 0.0f);
    b = begin(&config);
    assert_true(isnan(net_step(b.ctx, b.trainer, &batch).stalled));
    end(&b);
    mezzo_model *model = NULL;
    b = (bench){.ctx = net_ctx(1)};
    model = net_model(b.ctx, &b.net, MEZZO_F32);
    config.meter_every = -1;
    assert_int_equal(mezzo_trainer_create(&b.trainer, model, &config), MEZZO_INVALID_ARGUMENT);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(b.ctx);
}

static void test_frozen_parameters_are_left_out(void **state) {
    (void)state;
    static const mezzo_param_group groups[] = {{"conv*", 0.0f, 0.0f}, {"norm1*", 0.0f, 0.0f}};
    static const mezzo_param_group all[] = {{"*", 0.0f, 0.0f}};
    mezzo_trainer_config config = meters("adamw", 1e-3f);
    mezzo_stall s;
    config.optimizer.groups = groups;
    config.optimizer.group_count = 2;
    bench b = begin(&config);
    int count = 0;
    for (; mezzo_trainer_stall(b.trainer, count, &s); count++)
        assert_true(strncmp(s.param, "fc", 2) == 0 || strncmp(s.param, "head", 4) == 0);
    assert_int_equal(count, 4); /* two weights, two biases */
    assert_false(mezzo_trainer_stall(b.trainer, -1, &s));
    end(&b);
    config.optimizer.groups = all;
    config.optimizer.group_count = 1;
    b = begin(&config);
    assert_false(mezzo_trainer_stall(b.trainer, 0, &s));
    end(&b);
}

/* Bits of the state, and both hashes of the plan, are those of a run without. */
static void test_meters_change_nothing(void **state) {
    (void)state;
    static net_batch batch;
    char hex[2][65];
    mezzo_plan_info info[2];
    for (int k = 0; k < 2; k++) {
        mezzo_trainer_config config = meters("muon", 1e-2f);
        config.meter_every = k;
        bench b = begin(&config);
        for (int step = 0; step < 5; step++) {
            net_fill(&batch, step);
            net_step(b.ctx, b.trainer, &batch);
        }
        NET_OK(b.ctx, mezzo_trainer_state_hash(b.trainer, hex[k]));
        NET_OK(b.ctx, mezzo_model_plan_info(b.model, MEZZO_ENTRY_TRAIN, &info[k]));
        end(&b);
    }
    assert_string_equal(hex[0], hex[1]);
    assert_string_equal(info[0].numerics_hash, info[1].numerics_hash);
    assert_string_equal(info[0].execution_hash, info[1].execution_hash);
}

/* What the meters' calls would overwrite is left alone by a run without them. */
static void test_calls_are_left_out(void **state) {
    (void)state;
    static net_batch batch;
    const float mark[2] = {-5.0f, -6.0f};
    net_fill(&batch, 1);
    mezzo_trainer_config config = meters("adamw", 1e-2f);
    bench b = begin(&config);
    net_step(b.ctx, b.trainer, &batch);
    const mezzo_graph *graph = b.model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    int seen = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (!node->is_meter || node->phase != MZI_PHASE_UPDATE ||
            !graph->values[node->out[0]].is_output)
            continue;
        for (int with = 0; with < 2; with++) {
            float found[2];
            NET_OK(b.ctx,
                   mzi_model_upload(b.model, MEZZO_ENTRY_TRAIN, node->out[0], mark, sizeof mark));
            NET_OK(b.ctx, mzi_model_run(b.model, MEZZO_ENTRY_TRAIN, MZI_PHASE_UPDATE,
                                        MZI_PHASE_UPDATE, with == 1));
            NET_OK(b.ctx, mzi_model_download(b.model, MEZZO_ENTRY_TRAIN, node->out[0], found,
                                             sizeof found));
            assert_int_equal(found[0] == mark[0] && found[1] == mark[1], with == 0);
        }
        seen++;
    }
    assert_int_equal(seen, 9);
    end(&b);
}

/* A meter is no part of the numerics hash, nor an operation of the plan that is shown. */
static void test_meters_are_not_in_the_plan(void **state) {
    (void)state;
    mezzo_trainer_config config = meters("adamw", 1e-2f);
    bench b = begin(&config);
    mezzo_graph *graph = b.model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    mezzo_plan_info info;
    mezzo_plan_op op;
    char with[65], without[65];
    int nodes = 0, params = 0;
    mzi_hash_numerics(graph, "", with);
    for (int32_t n = 0; n < graph->node_count; n++) {
        if (!graph->nodes[n].is_meter)
            continue;
        nodes++;
        graph->nodes[n].name = "another";
    }
    mzi_hash_numerics(graph, "", without);
    assert_string_equal(with, without);
    for (mezzo_stall s; mezzo_trainer_stall(b.trainer, params, &s); params++)
        continue;
    assert_int_equal(params, 9);
    const int of_step = b.model->entries[MEZZO_ENTRY_TRAIN].plan->meter_count;
    assert_int_equal(nodes, 2 * params + of_step);
    NET_OK(b.ctx, mezzo_model_plan_info(b.model, MEZZO_ENTRY_TRAIN, &info));
    assert_int_equal(info.meter_count, params + of_step);
    assert_int_equal(info.op_count, graph->node_count - nodes);
    for (int k = 0; k < info.op_count; k++) {
        NET_OK(b.ctx, mezzo_model_plan_op(b.model, MEZZO_ENTRY_TRAIN, k, &op));
        assert_string_not_equal(op.name, "another");
    }
    assert_int_equal(mezzo_model_plan_op(b.model, MEZZO_ENTRY_TRAIN, info.op_count, &op),
                     MEZZO_INVALID_ARGUMENT);
    end(&b);
}

/* Weights of BF16, as they are stored: w - 2^-10 w rounds back to w, w - 2^-7 w does not. */
static void test_kernel_on_bf16(void **state) {
    (void)state;
    enum {
        N = 8,
        STRIDE = 3
    };
    uint16_t weight[N * STRIDE] = {0}, old[N];
    float gradient[N * STRIDE] = {0}, counts[2];
    mzk_args args = {.out = {old}, .in = {weight}};
    args.p.sample.n = N;
    args.p.sample.stride = STRIDE;
    args.out_type[0] = args.in_type[0] = MEZZO_BF16;
    for (int i = 0; i < N; i++) {
        weight[i * STRIDE] = 0x3f80; /* 1 */
        gradient[i * STRIDE] = i < 2 ? 0.0f : 1.0f;
    }
    mzk_pick(MZK_sample, MEZZO_ISA_REF)->fn(&args, 0, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(old[i], 0x3f80);
    weight[4 * STRIDE] = 0x3f7e; /* 1 - 2^-7 */
    mzk_args compare = {.out = {counts}, .in = {gradient, weight, old}, .p = args.p};
    compare.out_type[0] = compare.in_type[0] = MEZZO_F32;
    compare.in_type[1] = compare.in_type[2] = MEZZO_BF16;
    mzk_pick(MZK_stalled, MEZZO_ISA_REF)->fn(&compare, 0, 1);
    assert_true(counts[0] == N - 2 && counts[1] == N - 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_are_those_of_the_weights),
        cmocka_unit_test(test_share_follows_the_rate),
        cmocka_unit_test(test_measured_when_it_is_due),
        cmocka_unit_test(test_frozen_parameters_are_left_out),
        cmocka_unit_test(test_meters_change_nothing),
        cmocka_unit_test(test_calls_are_left_out),
        cmocka_unit_test(test_meters_are_not_in_the_plan),
        cmocka_unit_test(test_kernel_on_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
