/* Recomputation that a memory budget asks for: the plan keeps to it, and no bit changes. */
#include "train/model.h"
#include "train/small_gpt.h"
#include "train/small_net.h"

enum {
    STEPS = 3
};

typedef struct fitted {
    char hash[65];
    uint64_t bytes; /* of the training plan, with its state */
    int recomputed; /* operations of backward that the budget made */
    bool repeats_gelu;
} fitted;

/* Besides the budget. */
typedef struct choices {
    const char *const *recompute;
    int count;
    mezzo_master master;
    bool no_fuse;
} choices;

static mezzo_model *model_of(mezzo_ctx *ctx, gpt *n, const choices *c) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {.build = gpt_build,
                                       .user = n,
                                       .precision.compute = MEZZO_BF16,
                                       .precision.master = c->master,
                                       .seed = 3,
                                       .recompute = c->recompute,
                                       .recompute_count = c->count,
                                       .no_fuse = c->no_fuse};
    GPT_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    return model;
}

static mezzo_status trainer_of(mezzo_trainer **out, mezzo_model *model, uint64_t budget) {
    mezzo_trainer_config config = {
        .optimizer = mezzo_optimizer_default("adamw"), .clip = 1.0f, .memory_bytes = budget};
    config.optimizer.lr = 0.01f;
    return mezzo_trainer_create(out, model, &config);
}

static void look(mezzo_ctx *ctx, mezzo_model *model, fitted *out) {
    mezzo_plan_info info;
    GPT_OK(ctx, mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info));
    out->bytes = info.state_bytes + info.weight_bytes + info.activation_bytes + info.scratch_bytes;
    for (int k = 0; k < info.op_count; k++) {
        mezzo_plan_op op;
        GPT_OK(ctx, mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, k, &op));
        out->recomputed += strcmp(op.reason, "recomputed to fit train.memory_mib") == 0;
        out->repeats_gelu |= strstr(op.name, "gelu") && strstr(op.name, "/again");
    }
}

static fitted train_as(uint64_t budget, const choices *c) {
    static gpt_batch batch;
    fitted f = {.recomputed = 0};
    gpt n = {.batch = GPT_SAMPLES, .dropout = 0.2f};
    mezzo_trainer *trainer = NULL;
    mezzo_ctx *ctx = net_ctx(2);
    mezzo_model *model = model_of(ctx, &n, c);
    GPT_OK(ctx, trainer_of(&trainer, model, budget));
    for (int64_t s = 0; s < STEPS; s++) {
        gpt_fill(&batch, s, 30);
        assert_false(gpt_step(ctx, trainer, &batch).skipped);
    }
    GPT_OK(ctx, mezzo_trainer_state_hash(trainer, f.hash));
    look(ctx, model, &f);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    return f;
}

static fitted train(uint64_t budget, const char *const *recompute, int count) {
    return train_as(budget, &(choices){.recompute = recompute, .count = count});
}

static void test_the_plan_keeps_to_the_budget(void **state) {
    (void)state;
    fitted all = train(0, NULL, 0);
    assert_int_equal(all.recomputed, 0);
    fitted enough = train(all.bytes, NULL, 0);
    assert_int_equal(enough.recomputed, 0);
    int before = 0;
    for (uint64_t cut = 1; cut <= 3; cut++) {
        uint64_t budget = all.bytes - cut * all.bytes / 36;
        fitted f = train(budget, NULL, 0);
        assert_true(f.bytes <= budget);
        assert_true(f.recomputed > before);
        assert_string_equal(f.hash, all.hash);
        before = f.recomputed;
    }
}

/* Trials must count what the plan will hold: both halves of a master, operations that stay apart.
 */
static void test_every_form_keeps_to_the_budget(void **state) {
    (void)state;
    for (int master = MEZZO_MASTER_F32; master <= MEZZO_MASTER_BF16; master++)
        for (int apart = 0; apart < 2; apart++) {
            const choices c = {.master = (mezzo_master)master, .no_fuse = apart};
            fitted all = train_as(0, &c);
            uint64_t budget = all.bytes - 1;
            fitted f = train_as(budget, &c);
            assert_true(f.bytes <= budget && f.recomputed > 0);
            assert_string_equal(f.hash, all.hash);
        }
}

static void test_patterns_stand(void **state) {
    (void)state;
    static const char *const keep[] = {"!*gelu*"};
    fitted all = train(0, NULL, 0);
    uint64_t budget = all.bytes - all.bytes / 12;
    assert_true(train(budget, NULL, 0).repeats_gelu);
    fitted f = train(budget, keep, 1);
    assert_true(f.bytes <= budget && f.recomputed > 0);
    assert_false(f.repeats_gelu);
    assert_string_equal(f.hash, all.hash);
}

static void test_what_cannot_fit_says_so(void **state) {
    (void)state;
    gpt n = {.batch = GPT_SAMPLES};
    mezzo_trainer *trainer = NULL;
    mezzo_ctx *ctx = net_ctx(1);
    static float before[GPT_V * GPT_C], after[GPT_V * GPT_C];
    mezzo_model *model = model_of(ctx, &n, &(choices){.master = MEZZO_MASTER_BF16});
    int table = mezzo_model_state_find(model, "wte");
    GPT_OK(ctx, mezzo_model_read(model, table, before, GPT_V * GPT_C));
    assert_int_equal(trainer_of(&trainer, model, 4096), MEZZO_OUT_OF_MEMORY);
    assert_null(trainer);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "with all of forward recomputed"));
    GPT_OK(ctx, mezzo_model_read(model, table, after, GPT_V * GPT_C));
    assert_memory_equal(before, after, sizeof before); /* not rounded to BF16 either */
    GPT_OK(ctx, trainer_of(&trainer, model, 0));       /* nothing is left of the try */
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_plan_keeps_to_the_budget),
        cmocka_unit_test(test_every_form_keeps_to_the_budget),
        cmocka_unit_test(test_patterns_stand),
        cmocka_unit_test(test_what_cannot_fit_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
