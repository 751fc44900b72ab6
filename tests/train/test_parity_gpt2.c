/* A small GPT-2 against PyTorch: same weights, same tokens, windows of several micro-batches, and
 * no file between the two but PyTorch's figures, tests/parity/gpt2_torch.json.  gpt2_torch.py
 * beside it made them, and says what they are; parity.h says what mezzo is held to.  g64 is that of
 * a whole window at once.  In BF16, the peer that binds is autocast, whose residual stream is FP32;
 * the one with a stream in BF16, as mezzo's is, is printed beside it. */
#include "train/parity.h"

enum {
    STREAM_TOKENS = 100, /* below: parameters, by their place */
    STREAM_KIND = 101,
    SHORT = 1,  /* the micro-batch of few labels... */
    SHORTER = 9 /* ...and how many more each of its rows has than the one before */
};

static const double VECTOR = 0.125; /* biases and norms: this much about 0 and 1 */

static parity the_parity;

/* Token t of a sequence: small ones are frequent, (u^2 V); every second is its predecessor's
 * successor. */
static int32_t next_token(const parity *p, int64_t V, int64_t place, bool is_first, int32_t last) {
    if (!is_first && parity_word(p, STREAM_KIND, place) % 2 == 1)
        return (int32_t)((last + 1) % V);
    uint64_t u = parity_word(p, STREAM_TOKENS, place) >> 8;
    return (int32_t)((u * u >> 24) * (uint64_t)V >> 24);
}

static void fill(const parity *p, int64_t first, int64_t count, bool exact,
                 mezzo_binding inputs[2]) {
    int64_t T = parity_int(p, "shape", "context"), V = parity_int(p, "shape", "vocabulary");
    int64_t micro_batch = parity_int(p, "window", "micro_batch");
    size_t bytes = (size_t)(count * T) * sizeof(int32_t);
    int32_t *tokens = malloc(bytes), *labels = malloc(bytes);
    (void)exact;
    for (int64_t n = 0; n < count; n++) {
        int64_t valid = n / micro_batch == SHORT ? SHORTER * (n % micro_batch) : T;
        int32_t token = 0;
        for (int64_t t = 0; t <= T; t++) {
            token = next_token(p, V, (first + n) * (T + 1) + t, t == 0, token);
            if (t < T)
                tokens[n * T + t] = token;
            if (t > 0)
                labels[n * T + t - 1] = t - 1 < valid ? token : -1;
        }
    }
    inputs[0] = (mezzo_binding){"tokens", tokens, bytes};
    inputs[1] = (mezzo_binding){"labels", labels, bytes};
}

static mezzo_data_shape shape(const parity *p, int64_t batch) {
    return (mezzo_data_shape){.batch = batch,
                              .context = parity_int(p, "shape", "context"),
                              .classes = (int32_t)parity_int(p, "shape", "vocabulary")};
}

/* Matrices start uniform in +-1/sqrt(columns), so that every layer has a say from the first step.
 */
static double initial(const parity_model *m, const mezzo_state_info *info, uint32_t place,
                      int64_t index) {
    double value = parity_uniform(m->p, place, index);
    if (info->shape.rank == 2)
        return value * (1.0 / sqrt((double)info->shape.dim[1]));
    bool is_norm_weight = strstr(info->name, "ln_") && strstr(info->name, ".weight");
    return value * VECTOR + (is_norm_weight ? 1.0 : 0.0);
}

static mezzo_trainer_config trainer(const parity *p) {
    const json_t *train = json_object_get(p->peer, "train");
    mezzo_optimizer_config adamw = mezzo_optimizer_default("adamw");
    adamw.lr = (float)parity_number(p, train, "lr");
    adamw.beta1 = (float)parity_number(p, train, "beta1");
    adamw.beta2 = (float)parity_number(p, train, "beta2");
    adamw.weight_decay = (float)parity_number(p, train, "weight_decay");
    return (mezzo_trainer_config){.optimizer = adamw,
                                  .clip = (float)parity_number(p, train, "clip"),
                                  .accumulate = (int32_t)parity_int(p, "window", "micro_batches")};
}

static mezzo_status configure(parity *p) {
    static const char *const keys[][2] = {{"model.layers", "layers"},
                                          {"model.heads", "heads"},
                                          {"model.channels", "channels"},
                                          {"model.vocab", "vocabulary"}};
    mezzo_status status = mezzo_config_set(p->config, "model.kind=gpt2", "test");
    for (size_t k = 0; k < sizeof keys / sizeof *keys && status == MEZZO_OK; k++) {
        char assignment[64];
        snprintf(assignment, sizeof assignment, "%s=%lld", keys[k][0],
                 (long long)parity_int(p, "shape", keys[k][1]));
        status = mezzo_config_set(p->config, assignment, "test");
    }
    return status;
}

static void test_gradients_f32(void **state) {
    parity_gradients(*state, MEZZO_F32, "fp32", NULL, false);
}

static void test_gradients_bf16(void **state) {
    parity_gradients(*state, MEZZO_BF16, "bf16", "bf16_stream", false);
}

/* The same rows in one micro-batch, whose matrices have gradients of BF16. */
static void test_bf16_at_once(void **state) {
    parity *p = *state;
    p->at_once = true;
    parity_gradients(p, MEZZO_BF16, "bf16", "bf16_stream", false);
    parity_curve(p, MEZZO_BF16, "bf16", PARITY_CURVE_BF16);
    p->at_once = false;
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
        cmocka_unit_test(test_bf16_at_once),
    };
    const parity_network network = {.figures = "gpt2_torch.json",
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
