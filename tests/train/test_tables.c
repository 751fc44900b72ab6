/* Tables whose masters are in halves or in BF16, read by an embedding and by a head.  Training,
 * evaluation and decoding have one state, and read it alike: y is the sum of what mezzo_model_read
 * gives, in FP32, rounded to BF16 once. */
#include "num/number.h"
#include "train/small_net.h"

enum {
    B = 2,
    T = 11,
    C = 21,
    V = 30
};

static mezzo_status build(mezzo_graph *graph, void *user) {
    bool decodes = mezzo_graph_entry(graph) == MEZZO_ENTRY_DECODE;
    mezzo_shape shape = mezzo_shape2(B, decodes ? 1 : T);
    mezzo_value ids = mezzo_input(graph, "ids", MEZZO_I32, shape), start = {0};
    mezzo_value wte =
        mezzo_param(graph, "wte", mezzo_shape2(V, C), (mezzo_init){MEZZO_INIT_NORMAL, 1.0f});
    mezzo_value wpe =
        mezzo_param(graph, "wpe", mezzo_shape2(T, C), (mezzo_init){MEZZO_INIT_NORMAL, 1.0f});
    (void)user;
    if (decodes)
        start = mezzo_position(graph);
    mezzo_value y = mezzo_embedding(graph, "embedding", ids, wte, wpe, start);
    mezzo_output(graph, "y", y);
    if (decodes)
        return MEZZO_OK;
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, shape);
    mezzo_loss(graph, mezzo_linear_cross_entropy(graph, "head", y, wte, labels, NULL, NULL));
    return MEZZO_OK;
}

typedef struct tables {
    float wte[V * C], wpe[T * C];
} tables;

static void read_tables(mezzo_ctx *ctx, mezzo_model *model, tables *out) {
    NET_OK(ctx, mezzo_model_read(model, mezzo_model_state_find(model, "wte"), out->wte, V * C));
    NET_OK(ctx, mezzo_model_read(model, mezzo_model_state_find(model, "wpe"), out->wpe, T * C));
}

static void check_row(const float *y, const tables *t, int32_t id, int64_t place) {
    for (int64_t c = 0; c < C; c++) {
        float sum = t->wte[id * C + c] + t->wpe[place * C + c];
        assert_true(y[c] == mzi_bf16_load(mzi_bf16_round(sum)));
    }
}

static void fill(int32_t ids[B * T]) {
    for (int32_t i = 0; i < B * T; i++)
        ids[i] = i * 7 % V;
}

static void check_reading(mezzo_ctx *ctx, mezzo_model *model) {
    int32_t ids[B * T], token[B];
    static float y[B * T * C];
    static tables values;
    fill(ids);
    read_tables(ctx, model, &values);
    const mezzo_binding inputs[] = {{"ids", ids, sizeof ids}, {"labels", ids, sizeof ids}};
    NET_OK(ctx, mezzo_model_evaluate(model, inputs, 2));
    NET_OK(ctx, mezzo_model_output(model, MEZZO_ENTRY_EVAL, "y", y, B * T * C));
    for (int64_t r = 0; r < B * T; r++)
        check_row(y + r * C, &values, ids[r], r % T);
    for (int32_t place = 0; place < T; place += 5) {
        for (int b = 0; b < B; b++)
            token[b] = ids[b * T + place];
        const mezzo_binding one[] = {{"ids", token, sizeof token},
                                     {"position", &place, sizeof place}};
        NET_OK(ctx, mezzo_model_decode(model, one, 2));
        NET_OK(ctx, mezzo_model_output(model, MEZZO_ENTRY_DECODE, "y", y, B * C));
        for (int b = 0; b < B; b++)
            check_row(y + b * C, &values, token[b], place);
    }
}

static void train(mezzo_ctx *ctx, mezzo_trainer *trainer, int steps) {
    int32_t ids[B * T];
    mezzo_step_result result;
    fill(ids);
    const mezzo_binding inputs[] = {{"ids", ids, sizeof ids}, {"labels", ids, sizeof ids}};
    for (int s = 0; s < steps; s++) {
        NET_OK(ctx, mezzo_trainer_step(trainer, inputs, 2, &result));
        assert_false(result.skipped);
    }
}

static void check(const char *device, mezzo_master form, tables *after) {
    const mezzo_model_config config = {.build = build,
                                       .device = device,
                                       .precision = {.compute = MEZZO_BF16, .master = form},
                                       .seed = 8};
    const mezzo_trainer_config how = net_trainer_config();
    mezzo_ctx *ctx = net_ctx(2);
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_DECODE));
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &how));
    mezzo_state_info wte = mezzo_model_state_at(model, mezzo_model_state_find(model, "wte"));
    mezzo_state_info wpe = mezzo_model_state_at(model, mezzo_model_state_find(model, "wpe"));
    assert_int_equal(wte.master, form);
    assert_int_equal(wpe.master, form == MEZZO_MASTER_BF16 ? form : MEZZO_MASTER_F32);
    assert_string_equal(wpe.why, form == MEZZO_MASTER_SPLIT ? "embedding reads it in f32" : "");
    check_reading(ctx, model);
    train(ctx, trainer, 3);
    check_reading(ctx, model);
    read_tables(ctx, model, after);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

static void check_forms(const char *device) {
    static tables f32, split, bf16;
    check(device, MEZZO_MASTER_F32, &f32);
    check(device, MEZZO_MASTER_SPLIT, &split);
    check(device, MEZZO_MASTER_BF16, &bf16);
    assert_memory_equal(&f32, &split, sizeof f32);
    assert_memory_not_equal(&f32, &bf16, sizeof f32);
}

static void test_cpu(void **state) {
    (void)state;
    check_forms("cpu");
}

static void test_ref(void **state) {
    (void)state;
    check_forms("ref");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_ref),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
