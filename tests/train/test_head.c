/* A head whose logits come in several chunks has the gradients of logits that come at once. */
#include <math.h>
#include <stdlib.h>

#include "train/small_gpt.h"
#include "train/small_net.h"

enum {
    ROWS = 100, /* 7 chunks of 16 rows in FP32: three pairs, and one that has no other */
    CLASSES = 70000,
    DEPTH = 3
};

typedef enum form {
    AT_ONCE,
    CHUNKS,
    CHUNKS_FUSED,
    FORMS
} form;

static mezzo_status build(mezzo_graph *graph, void *user) {
    const form *f = user;
    const mezzo_init init = {MEZZO_INIT_UNIFORM, 1.0f};
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(ROWS)), none = {0};
    mezzo_value x = mezzo_param(graph, "x", mezzo_shape2(ROWS, DEPTH), init);
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape2(CLASSES, DEPTH), init);
    if (*f == AT_ONCE) {
        mezzo_value logits = mezzo_linear_with(graph, "logits", x, w, none);
        mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, logits, labels, NULL, NULL));
    } else {
        mezzo_loss(graph, mezzo_linear_cross_entropy(graph, "head", x, w, labels, NULL, NULL));
    }
    return MEZZO_OK;
}

static void gradients_of(form f, const char *device, float *dx, float *dw) {
    int32_t labels[ROWS];
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    mezzo_step_result result;
    mezzo_ctx *ctx = net_ctx(2);
    const mezzo_model_config about = {
        .build = build, .user = &f, .device = device, .seed = 5, .no_fuse = f != CHUNKS_FUSED};
    const mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default("sgd")};
    const mezzo_binding inputs[] = {{"labels", labels, sizeof labels}};
    for (int32_t m = 0; m < ROWS; m++)
        labels[m] = m * (CLASSES / ROWS);
    GPT_OK(ctx, mezzo_model_create(&model, ctx, &about, MEZZO_ENTRY_TRAIN));
    GPT_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    GPT_OK(ctx, mezzo_trainer_step(trainer, inputs, 1, &result));
    assert_false(result.skipped);
    GPT_OK(ctx, mezzo_trainer_read_gradient(trainer, "x", dx, ROWS * DEPTH));
    GPT_OK(ctx, mezzo_trainer_read_gradient(trainer, "w", dw, CLASSES * DEPTH));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

static double farthest(const float *a, const float *b, int64_t count) {
    double most = 0.0;
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
    return most;
}

/* With u = 2^-24 and |x|, |w| at most 1: two logits differ by 2 K^2 u at most and two lse, near 11,
 * by 22 u more, so a probability by less than 100 u of itself, rounded exponentials counted; a row
 * has dlogits of at most 2 / M together in magnitude.  Then the sums: over M rows for dw, over V
 * classes for dx, gamma_n of each form.  A chunk that is left out or taken twice changes rows of dx
 * and of dw by 1 / M. */
static void test_chunks(void **state) {
    (void)state;
    static float dx[FORMS][ROWS * DEPTH], dw[FORMS][CLASSES * DEPTH];
    static const char *const devices[] = {"cpu", "ref"};
    const double u = 0x1p-24, M = ROWS, V = CLASSES;
    for (int d = 0; d < 2; d++) {
        for (form f = AT_ONCE; f < FORMS; f++)
            gradients_of(f, devices[d], dx[f], dw[f]);
        for (form f = CHUNKS; f < FORMS; f++) {
            assert_true(farthest(dw[f], dw[AT_ONCE], CLASSES * DEPTH) <= (104 + 2 * M) * u);
            assert_true(farthest(dx[f], dx[AT_ONCE], ROWS * DEPTH) <= (104 + 2 * V) * u * 2 / M);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chunks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
