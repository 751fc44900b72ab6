/* Every operation's gradient against central differences, in FP64 on the device `ref`.
 *
 * The loss is L = sum(y r) with fixed random r.  With D(h) = (L(x+h) - L(x-h)) / 2h the error of
 * D(h/2) is about a third of |D(h) - D(h/2)| (truncation falls as h^2) plus the rounding of L,
 * about u S / h with S = sum |y r|; the tolerance is the sum of both, with the rounding of a few
 * hundred operations allowed for.  Inputs are distinct and away from zero by more than h, so that
 * no kink of ReLU or max pooling lies between two evaluations. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "mezzo/ops.h"
#include "train/model.h"
#include "unit/cmocka_all.h"

enum {
    STEPS_OF_ROUNDING = 256,
    SEEN_MAX = 256
};

typedef struct subject {
    const mezzo_op_def *op;
    const mezzo_op_case *example;
} subject;

static const char *seen[SEEN_MAX];
static int seen_count;

static mezzo_init none(void) {
    return (mezzo_init){MEZZO_INIT_CONSTANT, 0.0f};
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const subject *s = user;
    mezzo_value in[MEZZO_OP_IN_MAX];
    for (int k = 0; k < s->op->in_max; k++) {
        char name[16];
        snprintf(name, sizeof name, "in%d", k);
        mezzo_shape shape = s->example->in[k];
        if (shape.rank < 0)
            in[k] = (mezzo_value){0};
        else if (s->op->in_int & MEZZO_BIT(k))
            in[k] = mezzo_input(graph, name, MEZZO_I32, shape);
        else if (s->op->constant_in & MEZZO_BIT(k))
            in[k] = mzi_graph_state(graph, name, MZI_VALUE_STATE, shape, none());
        else
            in[k] = mezzo_param(graph, name, shape, none());
    }
    mezzo_value y =
        mezzo_apply(graph, s->op, "subject", in, s->op->in_max, &s->example->attrs, NULL);
    mezzo_value r =
        mzi_graph_state(graph, "r", MZI_VALUE_STATE, mezzo_value_shape(graph, y), none());
    mezzo_loss(graph, mezzo_sum(graph, mezzo_mul(graph, y, r)));
    return MEZZO_OK;
}

/* Distinct values in (-1.6, 1.6), in a shuffled order, at least 0.5/n from zero and 1/n apart. */
static void fill(double *x, int64_t n, uint64_t stream) {
    for (int64_t i = 0; i < n; i++) {
        double place = (double)mzi_permute((uint64_t)i, (uint64_t)n, 7, stream);
        x[i] = 3.2 * ((place + 0.5 - floor((double)n / 2)) / (double)(n + 1)) + 0.01;
    }
}

static void put(mezzo_model *model, const char *name, const double *x, int64_t n) {
    mzi_state *state = &model->states[mzi_model_find(model, name)];
    assert_int_equal(mzi_model_settle(model), MEZZO_OK); /* the first run would, over `x` */
    assert_int_equal(
        model->backend->upload(model->backend, &state->buffer, 0, x, (uint64_t)n * sizeof *x),
        MEZZO_OK);
    model->version++;
}

static void note_operations(const mezzo_graph *graph) {
    for (int32_t n = 0; n < graph->node_count; n++) {
        bool known = false;
        for (int k = 0; k < seen_count; k++)
            known |= seen[k] == graph->nodes[n].op->name;
        if (!known && seen_count < SEEN_MAX)
            seen[seen_count++] = graph->nodes[n].op->name;
    }
}

/* The loss scale 1, and integers of 0 and 1: labels, rows of a table, a start, or a dropout key. */
static void upload_inputs(mezzo_model *model) {
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    const double one = 1.0;
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->kind != MZI_VALUE_INPUT)
            continue;
        if (v == graph->loss_scale) {
            assert_int_equal(mzi_model_upload(model, MEZZO_ENTRY_TRAIN, v, &one, sizeof one),
                             MEZZO_OK);
            continue;
        }
        int32_t integers[64];
        int64_t n = mezzo_shape_count(value->tensor.shape);
        assert_true(n <= 64);
        for (int64_t i = 0; i < n; i++)
            integers[i] = (int32_t)((i + 1) % 2);
        assert_int_equal(
            mzi_model_upload(model, MEZZO_ENTRY_TRAIN, v, integers, (uint64_t)n * sizeof *integers),
            MEZZO_OK);
    }
}

static double evaluate(mezzo_model *model) {
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    double loss;
    upload_inputs(model); /* a run may use their memory for something else afterwards */
    assert_int_equal(
        mzi_model_run(model, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD, false),
        MEZZO_OK);
    assert_int_equal(mzi_model_download(model, MEZZO_ENTRY_TRAIN, graph->loss, &loss, sizeof loss),
                     MEZZO_OK);
    return loss;
}

/* The number of elements of a gradient that differ by more than the tolerance. */
static int compare(mezzo_model *model, int32_t grad_index, double sum_abs) {
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    const mzi_grad *pair = &graph->grads[grad_index];
    const char *name = graph->values[pair->param].name;
    int64_t n = mezzo_shape_count(graph->values[pair->param].tensor.shape);
    double *x = malloc((size_t)n * sizeof *x), *g = malloc((size_t)n * sizeof *g);
    fill(x, n, mzi_name_hash(name));
    put(model, name, x, n);
    evaluate(model);
    assert_int_equal(
        mzi_model_download(model, MEZZO_ENTRY_TRAIN, pair->grad, g, (uint64_t)n * sizeof *g),
        MEZZO_OK);
    int wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        double d[2], at = x[i];
        for (int k = 0; k < 2; k++) {
            const double h = 1e-4 / (k + 1);
            x[i] = at + h;
            put(model, name, x, n);
            double above = evaluate(model);
            x[i] = at - h;
            put(model, name, x, n);
            d[k] = (above - evaluate(model)) / (2 * h);
        }
        x[i] = at;
        double tolerance = fabs(d[0] - d[1]) + STEPS_OF_ROUNDING * 0x1p-53 * sum_abs / 0.5e-4;
        if (!(fabs(g[i] - d[1]) <= tolerance) && wrong++ < 3)
            print_error("  %s[%lld]: %.15g, by differences %.15g +- %.2g\n", name, (long long)i,
                        g[i], d[1], tolerance);
    }
    put(model, name, x, n);
    free(x);
    free(g);
    return wrong;
}

/* Wrong elements over all gradients of a graph, of which there must be `wanted`. */
static int check_graph(mezzo_ctx *ctx, const char *name, mezzo_build_fn *of, void *user,
                       int wanted) {
    const mezzo_model_config config = {
        .build = of, .user = user, .device = "ref", .precision.compute = MEZZO_F64};
    mezzo_model *model = NULL;
    int wrong = 0;
    mezzo_status status = mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN);
    if (status != MEZZO_OK)
        fail_msg("%s: %s", name, mezzo_ctx_error(ctx)->text);
    assert_int_equal(mzi_model_ensure(model, MEZZO_ENTRY_TRAIN), MEZZO_OK);
    double sum_abs = 1.0;
    for (int32_t k = 0; k < model->state_count; k++) {
        const mzi_state *state = &model->states[k];
        int64_t n = mezzo_shape_count(state->shape);
        double *x = malloc((size_t)n * sizeof *x);
        fill(x, n, mzi_name_hash(state->name));
        put(model, state->name, x, n);
        sum_abs += 4.0 * (double)n;
        free(x);
    }
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    note_operations(graph);
    assert_int_equal(graph->grad_count, wanted);
    for (int32_t g = 0; g < graph->grad_count; g++)
        wrong += compare(model, g, sum_abs);
    mezzo_model_destroy(model);
    return wrong;
}

/* One example; every differentiable input must have a gradient. */
static int check(mezzo_ctx *ctx, const mezzo_op_def *op, const mezzo_op_case *example) {
    subject s = {op, example};
    int wanted = 0;
    for (int k = 0; k < op->in_max; k++)
        wanted += example->in[k].rank >= 0 && !((op->in_int | op->constant_in) & MEZZO_BIT(k));
    return check_graph(ctx, op->name, build, &s, wanted);
}

/* A table that is embedding and head, and nothing behind the loss: both are fused. */
static mezzo_status build_tied(mezzo_graph *graph, void *user) {
    const mezzo_value no_table = {0};
    (void)user;
    mezzo_value ids = mezzo_input(graph, "ids", MEZZO_I32, mezzo_shape1(5));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(5));
    mezzo_value table = mezzo_param(graph, "table", mezzo_shape2(4, 3), none());
    mezzo_value x = mezzo_embedding(graph, "embedding", ids, table, no_table, no_table);
    mezzo_label_smoothing(graph, 0.25f);
    mezzo_loss(graph, mezzo_linear_cross_entropy(graph, "head", x, table, labels, NULL, NULL));
    return MEZZO_OK;
}

static void test_fused(void **state) {
    assert_int_equal(check_graph(*state, "a tied table", build_tied, NULL, 1), 0);
}

static void test_every_operation(void **state) {
    mezzo_ctx *ctx = *state;
    const mezzo_op_def *op;
    int examples = 0, bad = 0;
    for (int k = 0; (op = mezzo_op_at(k)) != NULL; k++) {
        if (op->not_differentiable)
            continue;
        if (op->case_count < 1)
            fail_msg("%s is differentiable but has no example", op->name);
        for (int c = 0; c < op->case_count; c++, examples++) {
            int wrong = check(ctx, op, &op->cases[c]);
            if (wrong)
                print_error("%s, example %d: %d wrong elements\n", op->name, c, wrong);
            bad += wrong != 0;
        }
    }
    assert_int_equal(bad, 0);
    assert_true(examples >= 25);
}

/* What has no gradient of its own must have been reached as part of another's, but for the forms
 * that only passes make, the evaluation form of batch norm, decoding, a table that depends on no
 * parameter, and a product that no kernel of FP64 makes: train.fuse holds it to linear_dw. */
static void test_every_backward_was_reached(void **state) {
    static const char *const without[] = {
        "cast", "pack", "batch_norm_eval", "attention_decode", "rope_table", "linear_dw_stats"};
    const mezzo_op_def *op;
    (void)state;
    for (int k = 0; (op = mezzo_op_at(k)) != NULL; k++) {
        bool ok = false;
        for (int s = 0; s < seen_count; s++)
            ok |= strcmp(seen[s], op->name) == 0;
        for (size_t w = 0; w < sizeof without / sizeof *without; w++)
            ok |= strcmp(without[w], op->name) == 0;
        if (!ok)
            fail_msg("%s was not run by any gradient check", op->name);
    }
}

/* The checker itself: a ReLU whose gradient is 1 % too large, and one that lets all pass. */
static mezzo_status one_percent_gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->out[0]};
    mezzo_value right = mezzo_apply(use->graph, &mzi_op_relu_bwd, "dx", in, 2, NULL, NULL);
    use->din[0] = mezzo_scale(use->graph, right, 1.01f);
    return MEZZO_OK;
}

static mezzo_status straight_gradient(const mezzo_op_gradient *use) {
    use->din[0] = use->dout[0];
    return MEZZO_OK;
}

static void test_planted_errors_are_found(void **state) {
    mezzo_op_def wrong = mzi_op_relu;
    wrong.gradient = one_percent_gradient;
    assert_true(check(*state, &wrong, &wrong.cases[1]) > 0);
    wrong.gradient = straight_gradient;
    assert_true(check(*state, &wrong, &wrong.cases[1]) > 0);
}

static int setup(void **state) {
    const mezzo_ctx_config config = {.threads = 1};
    return mezzo_ctx_create((mezzo_ctx **)state, &config, NULL) == MEZZO_OK ? 0 : -1;
}

static int teardown(void **state) {
    mezzo_memory_use use = mezzo_ctx_memory(*state);
    mezzo_ctx_destroy(*state);
    (void)use;
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation),
        cmocka_unit_test(test_fused),
        cmocka_unit_test(test_every_backward_was_reached),
        cmocka_unit_test(test_planted_errors_are_found),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
