/* Which parameters Muon trains, and that the number of workers does not matter.  Its numbers are
 * test_optim_torch.c's business. */
#include "train/model.h"
#include "train/small_gpt.h"
#include "train/small_net.h"

/* The update of each parameter, in some order; null ends the list. */
static const char *const of_gpt[] = {"h.0.qkv.weight/muon", "h.0.proj.weight/muon",
                                     "h.0.fc.weight/muon",  "h.0.out.weight/muon",
                                     "h.1.qkv.weight/muon", "h.1.proj.weight/muon",
                                     "h.1.fc.weight/muon",  "h.1.out.weight/muon",
                                     "wte/adamw",           "wpe/adamw",
                                     "h.0.qkv.bias/adamw",  "h.1.ln_2.weight/adamw",
                                     "ln_f.bias/adamw",     NULL};
/* The head's output goes to the loss; convolutions have four axes. */
static const char *const of_net[] = {"fc.weight/muon",
                                     "head.weight/adamw",
                                     "conv1.weight/adamw",
                                     "conv2.weight/adamw",
                                     "norm1.weight/adamw",
                                     "fc.bias/adamw",
                                     NULL};
/* `twice` is read by two layers, `logits` by a layer whose output is reshaped and then compared. */
static const char *const of_shared[] = {"twice/adamw", "logits/adamw", "once/muon", NULL};

static mezzo_status build_shared(mezzo_graph *graph, void *user) {
    const mezzo_init init = {MEZZO_INIT_UNIFORM, 0.5f};
    const mezzo_value none = {0};
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(4, 8));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape2(2, 2));
    mezzo_value twice = mezzo_param(graph, "twice", mezzo_shape2(8, 8), init);
    mezzo_value once = mezzo_param(graph, "once", mezzo_shape2(12, 8), init);
    mezzo_value logits = mezzo_param(graph, "logits", mezzo_shape2(6, 12), init);
    x = mezzo_linear_with(graph, "first", x, twice, none);
    x = mezzo_linear_with(graph, "second", mezzo_relu(graph, x), twice, none);
    x = mezzo_linear_with(graph, "third", mezzo_relu(graph, x), once, none);
    x = mezzo_linear_with(graph, "fourth", mezzo_relu(graph, x), logits, none);
    x = mezzo_reshape(graph, x, mezzo_shape3(2, 2, 6));
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL));
    return MEZZO_OK;
}

static mezzo_trainer_config muon(void) {
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default("muon")};
    assert_true(config.optimizer.momentum == 0.95f && config.optimizer.other_lr_scale == 0.015f);
    config.optimizer.lr = 0.02f;
    return config;
}

static bool has_node(const mezzo_graph *graph, const char *name) {
    for (int32_t n = 0; n < graph->node_count; n++)
        if (strcmp(graph->nodes[n].name, name) == 0)
            return true;
    return false;
}

static void check_choice(mezzo_build_fn *build, void *user, const char *const *expected) {
    static const mezzo_dtype types[] = {MEZZO_F32, MEZZO_BF16}; /* with casts between */
    mezzo_ctx *ctx = net_ctx(2);
    for (int t = 0; t < 2; t++) {
        const mezzo_model_config config = {
            .build = build, .user = user, .precision.compute = types[t]};
        const mezzo_trainer_config trainer_config = muon();
        mezzo_model *model = NULL;
        mezzo_trainer *trainer = NULL;
        NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
        NET_OK(ctx, mezzo_trainer_create(&trainer, model, &trainer_config));
        const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
        for (int k = 0; expected[k]; k++)
            if (!has_node(graph, expected[k]))
                fail_msg("%s: no %s", mezzo_dtype_name(types[t]), expected[k]);
        mezzo_trainer_destroy(trainer);
        mezzo_model_destroy(model);
    }
    mezzo_ctx_destroy(ctx);
}

static void test_choice(void **state) {
    gpt g = {.batch = 2};
    net n = {0};
    (void)state;
    check_choice(gpt_build, &g, of_gpt);
    check_choice(net_build, &n, of_net);
    check_choice(build_shared, NULL, of_shared);
}

static void train(int threads, char hash[65]) {
    static gpt_batch batch;
    gpt g = {.batch = GPT_SAMPLES};
    mezzo_ctx *ctx = net_ctx(threads);
    const mezzo_model_config config = {
        .build = gpt_build, .user = &g, .precision.compute = MEZZO_BF16, .seed = 5};
    const mezzo_trainer_config trainer_config = muon();
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    double first = 0, last = 0;
    NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN));
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &trainer_config));
    for (int64_t step = 0; step < 10; step++) {
        gpt_fill(&batch, step, 0);
        mezzo_step_result r = gpt_step(ctx, trainer, &batch);
        assert_false(r.skipped);
        first = step == 0 ? r.loss : first;
        last = r.loss;
    }
    assert_true(last < first);
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, hash));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

static void test_workers(void **state) {
    char one[65], other[65];
    (void)state;
    train(1, one);
    for (int threads = 2; threads <= 3; threads++) {
        train(threads, other);
        assert_string_equal(one, other);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
