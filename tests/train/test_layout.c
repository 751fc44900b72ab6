/* Packed weights: every call that reads one gets the layout that it would ask for. */
#include "train/model.h"
#include "train/small_gpt.h"

static void test_each_call_gets_its_layout(void **state) {
    (void)state;
    const gpt net = {.batch = GPT_SAMPLES};
    const mezzo_model_config config = {
        .build = gpt_build, .user = (void *)(uintptr_t)&net, .precision.compute = MEZZO_F32};
    mezzo_ctx *ctx = NULL;
    mezzo_model *model = NULL;
    assert_int_equal(mezzo_ctx_create(&ctx, NULL, NULL), MEZZO_OK);
    GPT_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    GPT_OK(ctx, mzi_model_ensure(model, MEZZO_ENTRY_TRAIN));
    const mzi_lowering *lowering = &model->entries[MEZZO_ENTRY_TRAIN].plan->lowering;
    mzi_target *target = &model->backend->target;
    int packed = 0;
    for (int32_t c = 0; c < lowering->call_count; c++)
        for (int k = 0; k < MZK_IN_MAX; k++) {
            mzi_call call = lowering->calls[c];
            uint64_t given = call.in[k].layout;
            mzi_layout asked = {0};
            if (!call.in[k].value || !given)
                continue;
            call.in[k].layout = 0;
            GPT_OK(ctx, target->layout(target, &call, k, &asked));
            assert_true(asked.id == given);
            packed++;
        }
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    if (packed == 0)
        skip(); /* a build without oneDNN packs nothing */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_call_gets_its_layout)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
