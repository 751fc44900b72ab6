/* Initial values: element i of a tensor has its own random number, wherever workers cut. */
#include "kernel/table.h"
#include "train/model.h"
#include "train/small_gpt.h"
#include "train/small_net.h"

enum {
    COUNT = 9001 /* three chunks of 4096, the last one short */
};

static mezzo_status build(mezzo_graph *graph, void *user) {
    (void)user;
    const mezzo_init init = {MEZZO_INIT_NORMAL, 0.5f};
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape1(COUNT), init);
    mezzo_loss(graph, mezzo_sum(graph, w));
    return MEZZO_OK;
}

static void test_normal_values(void **state) {
    (void)state;
    static float got[COUNT], expected[COUNT];
    const uint64_t seed = UINT64_C(0x123456789);
    const int32_t key[4] = {0x23456789, 1, 0, 0};
    const mzk_args args = {.out = {expected},
                           .in = {key},
                           .out_type = {MEZZO_F32},
                           .p.e = {.n = COUNT, .alpha = 0.5f, .stream = mzi_name_hash("w")}};
    mezzo_model *model = NULL;
    mezzo_ctx *ctx = net_ctx(3);
    const mezzo_model_config config = {.build = build, .seed = seed};
    mzk_normal_ref(&args, 0, COUNT);
    GPT_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    GPT_OK(ctx, mezzo_model_read(model, mezzo_model_state_find(model, "w"), got, COUNT));
    assert_memory_equal(got, expected, sizeof got);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_normal_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
