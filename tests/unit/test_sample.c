/* Whole samples from a model whose next token is known: logits = table[token] + places[position].
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/ctx.h"
#include "mezzo/models.h"
#include "mezzo/ops.h"
#include "mezzo/safetensors.h"
#include "mezzo/tokenizer.h"
#include "unit/tempdir.h"

enum {
    PADDING = 64, /* rows beyond the vocabulary, whose logits are the largest */
    ROWS_MAX = 257 + PADDING,
    CONTEXT_MAX = 32
};

static mezzo_ctx *ctx;
static mezzo_runner *runner;
static mezzo_config *config;
static char folder[256], weights[320], warning[1000];
static uint64_t held;

static float table[ROWS_MAX][ROWS_MAX], places[CONTEXT_MAX][ROWS_MAX];

static mezzo_status build(mezzo_graph *graph, const mezzo_data_shape *shape, const char *output) {
    const mezzo_init zero = {MEZZO_INIT_CONSTANT, 0.0f};
    int64_t rows = shape->classes + PADDING;
    mezzo_value tokens = mezzo_input(graph, "tokens", MEZZO_I32, mezzo_shape2(shape->batch, 1));
    mezzo_value of_token = mezzo_param(graph, "table", mezzo_shape2(rows, rows), zero);
    mezzo_value of_place = mezzo_param(graph, "places", mezzo_shape2(shape->context, rows), zero);
    mezzo_value y =
        mezzo_embedding(graph, "sum", tokens, of_token, of_place, mezzo_position(graph));
    mezzo_output(graph, output, y);
    return MEZZO_OK;
}

static mezzo_status build_table(mezzo_graph *graph, const mezzo_config *settings,
                                const mezzo_data_shape *shape) {
    (void)settings;
    return build(graph, shape, "logits");
}

static mezzo_status build_mute(mezzo_graph *graph, const mezzo_config *settings,
                               const mezzo_data_shape *shape) {
    (void)settings;
    return build(graph, shape, "other");
}

static void on_log(void *user, mezzo_log_level level, const char *text) {
    (void)user;
    if (level == MEZZO_LOG_WARNING)
        snprintf(warning, sizeof warning, "%s", text);
}

#define OK(expression)                                                                             \
    do {                                                                                           \
        if ((expression) != MEZZO_OK)                                                              \
            fail_msg("%s: %s", #expression, mezzo_ctx_error(ctx)->text);                           \
    } while (0)

static void set(const char *assignment) {
    OK(mezzo_config_set(config, assignment, "test"));
}

static int begin(void **state) {
    (void)state;
    static const mezzo_model_kind known = {
        .name = "table", .help = "", .data = MEZZO_DATA_TOKENS, .build = build_table};
    static const mezzo_model_kind mute = {
        .name = "mute", .help = "", .data = MEZZO_DATA_TOKENS, .build = build_mute};
    const mezzo_ctx_config settings = {.threads = 1, .log = on_log};
    tempdir_make(folder);
    snprintf(weights, sizeof weights, "%s/weights.safetensors", folder);
    warning[0] = '\0';
    memset(table, 0, sizeof table);
    memset(places, 0, sizeof places);
    if (mezzo_ctx_create(&ctx, &settings, NULL) != MEZZO_OK)
        return -1;
    OK(mezzo_runner_create(&runner, ctx));
    OK(mezzo_models_register(runner));
    OK(mezzo_runner_add_kind(runner, &known));
    OK(mezzo_runner_add_kind(runner, &mute));
    OK(mezzo_config_create(&config, ctx));
    set("model.kind=table");
    set("model.context=16");
    set("data.kind=text");
    set("data.path=/nowhere/at/all"); /* sampling opens no data */
    set("precision.compute=f32");
    held = mezzo_ctx_memory(ctx).bytes_used;
    return 0;
}

static int end(void **state) {
    (void)state;
    mezzo_config_destroy(config);
    mezzo_runner_destroy(runner);
    mezzo_ctx_destroy(ctx);
    tempdir_remove(folder);
    return 0;
}

/* Behind `from` comes `to`, wherever. */
static void follow(int32_t from, int32_t to) {
    table[from][to] = 10.0f;
}

/* The tables as weights of `vocab` tokens. */
static void save(int64_t vocab, int64_t positions) {
    static float cut[2][ROWS_MAX * ROWS_MAX];
    int64_t n = vocab + PADDING;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            cut[0][i * n + j] = j < vocab ? table[i][j] : 100.0f;
    for (int64_t i = 0; i < positions; i++)
        memcpy(cut[1] + i * n, places[i], (size_t)n * sizeof(float));
    const mezzo_safetensors_item items[] = {
        {"table", MEZZO_F32, mezzo_shape2(n, n), cut[0]},
        {"places", MEZZO_F32, mezzo_shape2(positions, n), cut[1]}};
    OK(mezzo_safetensors_write(ctx, weights, items, 2, NULL, 0));
}

typedef struct heard {
    char text[1000];
    size_t bytes;
    int calls;
} heard;

static void hear(void *user, const char *text, size_t bytes) {
    heard *h = user;
    assert_true(h->bytes + bytes < sizeof h->text);
    memcpy(h->text + h->bytes, text, bytes);
    h->bytes += bytes;
    h->text[h->bytes] = '\0';
    h->calls++;
}

static mezzo_sample_config greedy(const char *prompt, int64_t tokens) {
    return (mezzo_sample_config){
        .prompt = prompt, .prompt_bytes = strlen(prompt), .tokens = tokens, .top_p = 1.0};
}

static void check_sample(const char *prompt, int64_t tokens, const char *text, int64_t drawn,
                         const char *ended_by) {
    heard h = {.bytes = 0};
    mezzo_sample_config sample = greedy(prompt, tokens);
    mezzo_sample_result result;
    OK(mezzo_run_sample(runner, config, weights, &sample, hear, &h, &result));
    assert_string_equal(h.text, text);
    assert_int_equal(result.tokens, drawn);
    assert_string_equal(result.ended_by, ended_by);
    assert_true(result.seconds > 0 && result.tokens_per_s > 0);
    assert_int_equal(mezzo_ctx_memory(ctx).bytes_used, held);
}

static void refuse(mezzo_status expected, mezzo_sample_config sample, const char *a,
                   const char *b) {
    heard h = {.bytes = 0};
    mezzo_sample_result result = {.tokens = -5};
    assert_int_equal(mezzo_run_sample(runner, config, weights, &sample, hear, &h, &result),
                     expected);
    const char *text = mezzo_ctx_error(ctx)->text;
    if (!strstr(text, a) || !strstr(text, b))
        fail_msg("\"%s\" does not say \"%s\" and \"%s\"", text, a, b);
    assert_int_equal(result.tokens, -5);
    assert_int_equal(h.calls, 0);
    assert_int_equal(mezzo_ctx_memory(ctx).bytes_used, held);
}

static void test_text(void **state) {
    (void)state;
    follow('\n', 'n'); /* the start, if there is no end_of_text */
    follow('n', 0xc3);
    follow(0xc3, 0xa9);
    follow(0xa9, ' ');
    follow(' ', 'n');
    save(256, 16);
    check_sample("", 4, "né ", 4, "tokens");
    check_sample("", 2, "n\xef\xbf\xbd", 2, "tokens");
    check_sample("é", 3, " n\xef\xbf\xbd", 3, "tokens");
    check_sample("what\nn", 2, "é", 2, "tokens");
    assert_string_equal(warning, "");
    heard h = {.bytes = 0};
    mezzo_sample_config sample = greedy("", 4);
    mezzo_sample_result result;
    OK(mezzo_run_sample(runner, config, weights, &sample, hear, &h, &result));
    assert_int_equal(h.calls, 3); /* the first byte of the letter waits */
    assert_int_equal(result.prompt_tokens, 1);
}

static void test_seed(void **state) {
    (void)state;
    save(256, 16);
    heard h[3] = {{.bytes = 0}};
    for (int k = 0; k < 3; k++) {
        mezzo_sample_result result;
        mezzo_sample_config sample = greedy("a", 12);
        sample.temperature = 1.0;
        sample.seed = k == 2;
        OK(mezzo_run_sample(runner, config, weights, &sample, hear, &h[k], &result));
    }
    assert_string_equal(h[0].text, h[1].text);
    assert_string_not_equal(h[0].text, h[2].text);
}

static void test_context(void **state) {
    (void)state;
    for (int p = 0; p < 4; p++) /* position p is followed by the letter of p */
        places[p]['A' + p] = 10.0f;
    set("model.context=4");
    save(256, 4);
    check_sample("zz", 3, "BCD", 3, "tokens");
    assert_string_equal(warning, "");
    check_sample("zz", 10, "BCD", 3, "context");
    assert_non_null(strstr(warning, "after 3 of 10 tokens"));
    assert_non_null(strstr(warning, "model.context, 4"));
    check_sample("zzzz", 10, "D", 1, "context");
    check_sample("zzzz", 1, "D", 1, "tokens");
    refuse(MEZZO_CONFIG, greedy("zzzzz", 1), "the prompt has 5 tokens", "model.context is 4");
}

static void test_end_of_text(void **state) {
    (void)state;
    char path[320], assignment[400];
    const mezzo_tokenizer_train_config learn = {
        .vocab = 257, .pattern = MEZZO_PATTERN_GPT2, .end_of_text = true};
    mezzo_tokenizer *tokenizer;
    int32_t *ids;
    size_t count;
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    OK(mezzo_tokenizer_train(&tokenizer, ctx, "AB", 2, &learn));
    OK(mezzo_tokenizer_save(tokenizer, path));
    OK(mezzo_tokenizer_encode(tokenizer, "AB<|endoftext|>", 15, true, &ids, &count));
    assert_int_equal(count, 3);
    follow(ids[2], ids[0]);
    follow(ids[0], ids[1]);
    follow(ids[1], ids[2]);
    save(257, 16);
    mezzo_tokenizer_free_ids(tokenizer, ids, count);
    mezzo_tokenizer_destroy(tokenizer);
    snprintf(assignment, sizeof assignment, "data.tokenizer=%s", path);
    set(assignment);
    held = mezzo_ctx_memory(ctx).bytes_used;
    check_sample("", 10, "AB", 3, "end_of_text");
    check_sample("", 2, "AB", 2, "tokens");
    check_sample("B<|endoftext|>A", 10, "B", 2, "end_of_text");
    set("data.kind=tokens");
    held = mezzo_ctx_memory(ctx).bytes_used;
    check_sample("", 10, "AB", 3, "end_of_text");
}

static void test_ids(void **state) {
    (void)state;
    for (int32_t i = 0; i < 10; i++)
        follow(i, (i + 1) % 10);
    save(10, 16);
    set("data.kind=tokens");
    set("data.vocab=10");
    held = mezzo_ctx_memory(ctx).bytes_used;
    check_sample("3 4", 4, "5 6 7 8", 4, "tokens");
    check_sample("\t9\n", 1, "0", 1, "tokens");
    refuse(MEZZO_DATA, greedy("3 x4 5", 4), "\"x4\"", "0 to 9");
    refuse(MEZZO_DATA, greedy("3 10", 4), "\"10\"", "0 to 9");
    refuse(MEZZO_DATA, greedy("-1", 4), "\"-1\"", "0 to 9");
    refuse(MEZZO_CONFIG, greedy(" ", 4), "the prompt is empty", "data.tokenizer");
    set("data.kind=random");
    held = mezzo_ctx_memory(ctx).bytes_used;
    check_sample("3 4", 2, "5 6", 2, "tokens");
    set("data.vocab=0");
    refuse(MEZZO_CONFIG, greedy("1", 1), "data.vocab is 0", "data.tokenizer");
}

static void test_models_that_do_not_decode(void **state) {
    (void)state;
    save(256, 16);
    set("model.kind=cnn");
    refuse(MEZZO_CONFIG, greedy("", 1), "model.kind cnn", "images");
    set("model.kind=mute");
    refuse(MEZZO_CONFIG, greedy("", 1), "model.kind mute does not decode", "256 tokens");
    set("model.kind=table");
    set("data.kind=idx");
    refuse(MEZZO_CONFIG, greedy("", 1), "data.kind is idx", "table");
}

static void test_settings_outside(void **state) {
    (void)state;
    save(256, 16);
    mezzo_sample_config sample = greedy("", 0);
    refuse(MEZZO_INVALID_ARGUMENT, sample, "tokens is 0", "at least 1");
    sample.tokens = 1;
    sample.temperature = -0.5;
    refuse(MEZZO_INVALID_ARGUMENT, sample, "temperature is -0.5", "0 or more");
    sample.temperature = (double)NAN;
    refuse(MEZZO_INVALID_ARGUMENT, sample, "temperature is", "0 or more");
    sample.temperature = 1;
    sample.top_k = -3;
    refuse(MEZZO_INVALID_ARGUMENT, sample, "top_k is -3", "all");
    sample.top_k = 0;
    sample.top_p = 0;
    refuse(MEZZO_INVALID_ARGUMENT, sample, "top_p is 0", "at most 1");
    sample.top_p = 1.5;
    refuse(MEZZO_INVALID_ARGUMENT, sample, "top_p is 1.5", "at most 1");
}

static void test_bad_weights(void **state) {
    (void)state;
    save(256, 15);
    refuse(MEZZO_DATA, greedy("", 1), "\"places\"", "shape");
    table['b'][7] = NAN;
    follow('a', 'b');
    save(256, 16);
    heard h = {.bytes = 0};
    mezzo_sample_config sample = greedy("za", 3);
    mezzo_sample_result result;
    assert_int_equal(mezzo_run_sample(runner, config, weights, &sample, hear, &h, &result),
                     MEZZO_NUMERICS);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "position 3"));
    assert_string_equal(h.text, "b"); /* what came before stays */
    assert_int_equal(mezzo_ctx_memory(ctx).bytes_used, held);
}

static void test_json(void **state) {
    (void)state;
    const mezzo_sample_result result = {3, 5, 0.5, 14, "tokens"};
    char *text;
    OK(mezzo_sample_json(ctx, &result, "a\"\0\n\xc3\xa9", 6, &text));
    assert_string_equal(text, "{\"text\":\"a\\\"\\u0000\\n\xc3\xa9\",\"prompt_tokens\":3,"
                              "\"tokens\":5,\"seconds\":0.5,\"tokens_per_s\":14.0,"
                              "\"ended_by\":\"tokens\"}");
    mezzo_text_free(ctx, text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_text),
                                       TEST(test_seed),
                                       TEST(test_context),
                                       TEST(test_end_of_text),
                                       TEST(test_ids),
                                       TEST(test_models_that_do_not_decode),
                                       TEST(test_settings_outside),
                                       TEST(test_bad_weights),
                                       TEST(test_json)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
