/* A network from scratch: two spirals are told apart by a perceptron that trains in BF16.
 *
 * Build the graph, make a model and a trainer, feed batches: nothing else is needed. */
#include <math.h>
#include <stdio.h>

#include <mezzo/ops.h>
#include <mezzo/train.h>

enum {
    BATCH = 256,
    HIDDEN = 64,
    STEPS = 600
};

/* y = head(relu(fc2(relu(fc1(x))))), a class for each of BATCH points in the plane. */
static mezzo_status build(mezzo_graph *g, void *user) {
    (void)user;
    mezzo_value correct, valid;
    mezzo_value x = mezzo_input(g, "x", MEZZO_F32, mezzo_shape2(BATCH, 2));
    mezzo_value labels = mezzo_input(g, "labels", MEZZO_I32, mezzo_shape1(BATCH));
    x = mezzo_relu(g, mezzo_linear(g, "fc1", x, HIDDEN, true));
    x = mezzo_relu(g, mezzo_linear(g, "fc2", x, HIDDEN, true));
    x = mezzo_linear(g, "head", x, 2, true);
    mezzo_loss(g, mezzo_softmax_cross_entropy(g, x, labels, &correct, &valid));
    mezzo_output(g, "correct", correct);
    return MEZZO_OK;
}

/* Points on two arms that start opposite each other and wind almost twice.  `stream` keys them. */
static void draw(uint32_t stream, float *x, int32_t *labels) {
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t bits[4];
        mezzo_philox(bits, (const uint32_t[4]){i, stream, 0, 0}, (const uint32_t[2]){7, 0});
        double t = 0.25 + 1.75 * bits[0] * 0x1p-32; /* turns from the centre */
        double noise = 0.2 * (bits[1] * 0x1p-32 - 0.5);
        double angle = 6.283185307179586 * t + (i % 2 ? 3.141592653589793 : 0.0);
        x[2 * i] = (float)((t + noise) * cos(angle));
        x[2 * i + 1] = (float)((t + noise) * sin(angle));
        labels[i] = (int32_t)(i % 2);
    }
}

static mezzo_status train(mezzo_model *model, mezzo_trainer *trainer, double *accuracy) {
    float x[2 * BATCH], correct = 0.0f;
    int32_t labels[BATCH];
    const mezzo_binding inputs[] = {{"x", x, sizeof x}, {"labels", labels, sizeof labels}};
    for (uint32_t step = 1; step <= STEPS; step++) {
        mezzo_step_result result;
        draw(step, x, labels);
        mezzo_status status = mezzo_trainer_step(trainer, inputs, 2, &result);
        if (status != MEZZO_OK)
            return status;
        if (step % 100 == 0)
            printf("step %u  loss %.4f  learning rate %.5f\n", step, result.loss, result.lr);
    }
    draw(0, x, labels); /* points that it has not seen */
    mezzo_status status = mezzo_model_evaluate(model, inputs, 2);
    if (status == MEZZO_OK)
        status = mezzo_model_output(model, MEZZO_ENTRY_EVAL, "correct", &correct, 1);
    *accuracy = (double)correct / BATCH;
    return status;
}

int main(void) {
    mezzo_ctx *ctx = NULL;
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    mezzo_error error;
    double accuracy = 0.0;
    if (mezzo_ctx_create(&ctx, NULL, &error) != MEZZO_OK) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    mezzo_model_config model_config = {
        .build = build, .precision = {.compute = MEZZO_BF16}, .seed = 1};
    mezzo_trainer_config trainer_config = {
        .optimizer = mezzo_optimizer_default("adamw"),
        .schedule = {MEZZO_SCHEDULE_COSINE, .warmup = 20, .steps = STEPS}};
    trainer_config.optimizer.lr = 1e-2f;
    mezzo_status status = mezzo_model_create(&model, ctx, &model_config, MEZZO_ENTRY_TRAIN);
    if (status == MEZZO_OK)
        status = mezzo_trainer_create(&trainer, model, &trainer_config);
    if (status == MEZZO_OK)
        status = train(model, trainer, &accuracy);
    if (status != MEZZO_OK)
        fprintf(stderr, "%s\n", mezzo_ctx_error(ctx)->text);
    else
        printf("accuracy on new points: %.3f\n", accuracy);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    return status == MEZZO_OK && accuracy > 0.95 ? 0 : 1;
}
