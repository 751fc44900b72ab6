/* Sampling at temperature 0 over the cache gives the tokens that evaluations of the growing text
 * give, in which what comes behind the text is something else each time. */
#include <math.h>

#include "run/sampler.h"
#include "train/small_gpt.h"

/* small_gpt.h's network for one sequence, with logits. */
static mezzo_status build(mezzo_graph *graph, void *user) {
    const gpt *n = user;
    int64_t T = mezzo_graph_entry(graph) == MEZZO_ENTRY_DECODE ? 1 : GPT_T;
    const mezzo_init start = {MEZZO_INIT_NORMAL, 0.3f};
    mezzo_value tokens = mezzo_input(graph, "tokens", MEZZO_I32, mezzo_shape2(1, T)), none = {0};
    mezzo_value wte = mezzo_param(graph, "wte", mezzo_shape2(GPT_V, GPT_C), start);
    mezzo_value wpe = mezzo_param(graph, "wpe", mezzo_shape2(GPT_T, GPT_C), start);
    mezzo_value x = mezzo_embedding(graph, "embedding", tokens, wte, wpe, mezzo_position(graph));
    for (int layer = 0; layer < GPT_LAYERS; layer++) {
        char name[16];
        snprintf(name, sizeof name, "h.%d", layer);
        mezzo_scope_push(graph, name);
        x = gpt_block(graph, x, n);
        mezzo_scope_pop(graph);
    }
    x = mezzo_layer_norm(graph, "ln_f", x, 0.0f, true);
    /* A head of its own: with wte a random network says each token again. */
    mezzo_value head = mezzo_param(graph, "head", mezzo_shape2(GPT_V, GPT_C), start);
    mezzo_output(graph, "logits", mezzo_linear_with(graph, "head", x, head, none));
    return MEZZO_OK;
}

static int32_t draw(mezzo_ctx *ctx, const float *logits, uint64_t position) {
    static double weights[GPT_V];
    static int32_t heap[GPT_V];
    const mzi_sampler_work work = {weights, heap};
    const mezzo_sample_config config = {.top_p = 1.0};
    int32_t token = -1;
    GPT_OK(ctx, mzi_sample(ctx, logits, GPT_V, &config, position, &work, &token));
    return token;
}

/* The text so far, and others behind it; the logits of its last token. */
static void evaluate(mezzo_model *model, mezzo_ctx *ctx, const int32_t *text, int64_t count,
                     float *logits) {
    static float all[GPT_T][GPT_V];
    int32_t tokens[GPT_T];
    for (int64_t t = 0; t < GPT_T; t++)
        tokens[t] = t < count ? text[t] : (int32_t)((t * 31 + count * 17) % GPT_V);
    const mezzo_binding input = {"tokens", tokens, sizeof tokens};
    GPT_OK(ctx, mezzo_model_evaluate(model, &input, 1));
    GPT_OK(ctx, mezzo_model_output(model, MEZZO_ENTRY_EVAL, "logits", all[0], GPT_T * GPT_V));
    memcpy(logits, all[count - 1], sizeof all[0]);
}

static void decode(mezzo_model *model, mezzo_ctx *ctx, int32_t token, int32_t position,
                   float *logits) {
    const mezzo_binding inputs[] = {{"tokens", &token, sizeof token},
                                    {"position", &position, sizeof position}};
    GPT_OK(ctx, mezzo_model_decode(model, inputs, 2));
    GPT_OK(ctx, mezzo_model_output(model, MEZZO_ENTRY_DECODE, "logits", logits, GPT_V));
}

/* How far the largest logit is above the next one, and above which the two can differ: by more than
 * half of it neither can take another's place. */
static void check_margin(const float *a, const float *b, int32_t token) {
    float margin = INFINITY, change = 0.0f;
    for (int32_t i = 0; i < GPT_V; i++) {
        if (i != token)
            margin = fminf(margin, a[token] - a[i]);
        change = fmaxf(change, fabsf(a[i] - b[i]));
    }
    assert_true(margin > 2.0f * change);
}

static void check_start(mezzo_model *model, mezzo_ctx *ctx, int32_t first, bool *seen) {
    int32_t text[GPT_T + 1] = {first};
    for (int32_t t = 0; t < GPT_T; t++) {
        float decoded[GPT_V], evaluated[GPT_V];
        decode(model, ctx, text[t], t, decoded);
        evaluate(model, ctx, text, t + 1, evaluated);
        text[t + 1] = draw(ctx, decoded, (uint64_t)t + 1);
        assert_int_equal(text[t + 1], draw(ctx, evaluated, (uint64_t)t + 1));
        check_margin(decoded, evaluated, text[t + 1]);
        seen[text[t + 1]] = true;
    }
}

static void check_same_tokens(const gpt net) {
    const mezzo_model_config config = {
        .build = build, .user = (void *)(uintptr_t)&net, .precision.compute = MEZZO_F32, .seed = 3};
    bool seen[GPT_V] = {false};
    int different = 0;
    mezzo_ctx *ctx = NULL;
    mezzo_model *model = NULL;
    assert_int_equal(mezzo_ctx_create(&ctx, NULL, NULL), MEZZO_OK);
    GPT_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_DECODE));
    for (int32_t first = 0; first < 3; first++) /* the second and third find a used cache */
        check_start(model, ctx, first * 20, seen);
    for (int32_t i = 0; i < GPT_V; i++)
        different += seen[i];
    assert_true(different > GPT_T / 2); /* no text of one word */
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

static void test_same_tokens(void **state) {
    (void)state;
    check_same_tokens((gpt){.batch = 1});
}

static void test_same_tokens_with_rotary_positions(void **state) {
    (void)state;
    check_same_tokens((gpt){.batch = 1, .llama = true});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_tokens),
                                       cmocka_unit_test(test_same_tokens_with_rotary_positions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
