/* The quickstart's network against PyTorch: same weights, same images, and no file between the two
 * but PyTorch's figures, tests/parity/cnn_torch.json.  cnn_torch.py beside it made them, and says
 * what they are; parity.h says what mezzo is held to.  PyTorch's gradients are those with channels
 * last, as mezzo has them, and with channels first. */
#include "train/parity.h"

enum {
    SIDE = 28,
    PIXELS = SIDE * SIDE,
    CLASSES = 10,
    STREAM_NOISE = 100, /* below: parameters, by their place */
    STREAM_PLACE = 101,
    STREAM_CLASS = 102
};

static const double NOISE = 0.5; /* beside blobs of height 1 */

static parity the_parity;

/* 1 - d^2/64 squared, up to 8 pixels from the blob's middle; exact. */
static double blob(const parity *p, int64_t sample, int number, int y, int x) {
    int64_t place = 4 * (sample % CLASSES) + 2 * number;
    int away[2] = {y, x}, d2 = 0;
    for (int axis = 0; axis < 2; axis++) {
        away[axis] -= 6 + (int)(parity_word(p, STREAM_CLASS, place + axis) % 16);
        away[axis] -= (int)(parity_word(p, STREAM_PLACE, 2 * sample + axis) % 7) - 3;
        d2 += away[axis] * away[axis];
    }
    return d2 < 64 ? (64 - d2) * (64 - d2) / 4096.0 : 0.0;
}

static void fill(const parity *p, int64_t first, int64_t count, bool exact,
                 mezzo_binding inputs[2]) {
    size_t pixels = (size_t)(count * PIXELS);
    double *wide = calloc(pixels, sizeof *wide);
    float *narrow = calloc(pixels, sizeof *narrow);
    int32_t *labels = calloc((size_t)count, sizeof *labels);
    for (int64_t n = 0; n < count; n++) {
        labels[n] = (int32_t)((first + n) % CLASSES);
        for (int k = 0; k < PIXELS; k++) {
            double value = NOISE * parity_uniform(p, STREAM_NOISE, (first + n) * PIXELS + k);
            for (int number = 0; number < 2; number++)
                value += blob(p, first + n, number, k / SIDE, k % SIDE);
            narrow[n * PIXELS + k] = (float)value;
            wide[n * PIXELS + k] = (double)narrow[n * PIXELS + k];
        }
    }
    if (exact)
        inputs[0] = (mezzo_binding){"x", wide, pixels * sizeof *wide};
    else
        inputs[0] = (mezzo_binding){"x", narrow, pixels * sizeof *narrow};
    inputs[1] = (mezzo_binding){"labels", labels, (size_t)count * sizeof *labels};
    if (exact)
        free(narrow);
    else
        free(wide);
}

static mezzo_data_shape shape(const parity *p, int64_t batch) {
    (void)p;
    return (mezzo_data_shape){.batch = batch, .H = SIDE, .W = SIDE, .C = 1, .classes = CLASSES};
}

/* Matrices start uniform in +-1/sqrt(fan-in), biases in that of their layer, norms at 1 and 0. */
static double initial(const parity_model *m, const mezzo_state_info *info, uint32_t place,
                      int64_t index) {
    mezzo_shape weight = info->shape;
    char name[64];
    if (strncmp(info->name, "norm", 4) == 0)
        return strstr(info->name, ".weight") ? 1.0 : 0.0;
    if (info->shape.rank == 1) {
        snprintf(name, sizeof name, "%.*s.weight", (int)strcspn(info->name, "."), info->name);
        weight = mezzo_model_state_at(m->model, mezzo_model_state_find(m->model, name)).shape;
    }
    int64_t fan_in = mezzo_shape_count(weight) / weight.dim[0];
    return parity_uniform(m->p, place, index) * (1.0 / sqrt((double)fan_in));
}

static mezzo_trainer_config trainer(const parity *p) {
    return (mezzo_trainer_config){
        .optimizer = mezzo_optimizer_default(mezzo_config_text(p->config, "optimizer.kind")),
        .schedule.warmup = parity_int(p, "train", "warmup"),
        .clip = 1.0f};
}

static mezzo_status configure(parity *p) {
    char path[1024];
    snprintf(path, sizeof path, "%s/examples/fashion-cnn.yaml", getenv("MEZZO_SOURCE_DIR"));
    return mezzo_config_load(p->config, path);
}

static void test_gradients_f32(void **state) {
    const parity *p = *state;
    /* PyTorch's figures are from a CPU with AVX-512, whose channels-first kernels sum in blocks. */
    bool alike = mezzo_ctx_isa(p->ctx) >= MEZZO_ISA_AVX512;
    parity_gradients(p, MEZZO_F32, "fp32_nhwc", "fp32", alike);
}

static void test_gradients_bf16(void **state) {
    parity_gradients(*state, MEZZO_BF16, "bf16_nhwc", "bf16", true);
}

static int setup(void **state) {
    *state = &the_parity;
    return parity_setup(&the_parity);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parity_test_same_point), /* first */
        cmocka_unit_test(test_gradients_f32),     cmocka_unit_test(test_gradients_bf16),
        cmocka_unit_test(parity_test_curve_f32),  cmocka_unit_test(parity_test_curve_bf16),
    };
    const parity_network network = {.figures = "cnn_torch.json",
                                    .configure = configure,
                                    .shape = shape,
                                    .initial = initial,
                                    .fill = fill,
                                    .trainer = trainer};
    the_parity.network = &network;
    mezzo_status status = parity_context(&the_parity, argc, argv);
    if (status == MEZZO_UNSUPPORTED)
        return 77; /* skipped */
    int failed = status == MEZZO_OK ? cmocka_run_group_tests(tests, setup, parity_teardown) : 1;
    mezzo_ctx_destroy(the_parity.ctx);
    return failed;
}
