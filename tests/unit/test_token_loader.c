/* Windows over tokens: every one once an epoch, labels one token further on, and in evaluation
 * every token but the first predicted once. */
#include <string.h>

#include "mezzo/data.h"
#include "unit/failing_alloc.h"
#include "unit/fixture.h"

/* Token i is id i + 1: none is the 0 of padding. */
#define COUNT 200
static mezzo_tokens *numbered(mezzo_ctx *own) {
    int32_t ids[COUNT];
    for (int i = 0; i < COUNT; i++)
        ids[i] = i + 1;
    mezzo_tokens *tokens = NULL;
    mezzo_status status = mezzo_tokens_from_memory(&tokens, own, ids, COUNT, 0, -1, 0);
    return status == MEZZO_OK ? tokens : NULL;
}

typedef struct window {
    int64_t begin, end, context;
} window;

static mezzo_loader *loader_of(const mezzo_tokens *tokens, window w, mezzo_loader_config config,
                               int64_t position) {
    mezzo_loader *loader = NULL;
    if (mezzo_loader_create_tokens(&loader, ctx, tokens, w.begin, w.end, w.context, &config,
                                   position) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    return loader;
}

static mezzo_batch next(mezzo_loader *loader) {
    mezzo_batch batch;
    assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
    assert_null(batch.x);
    assert_non_null(batch.tokens);
    return batch;
}

/* Row `row` is sample `sample`: its inputs, and labels one further on; padding where they end. */
static void expect_sample(const mezzo_batch *batch, int64_t row, window w, int64_t sample) {
    int64_t at = w.begin + sample * w.context;
    for (int64_t k = 0; k < w.context; k++) {
        bool is_padding = at + k + 1 >= w.end;
        assert_int_equal(batch->tokens[row * w.context + k], is_padding ? 0 : at + k + 1);
        assert_int_equal(batch->labels[row * w.context + k], is_padding ? -1 : at + k + 2);
    }
}

/* 200 - 14 - 1 labels in windows of 8: 23, and one label left over. */
static void test_every_window_once_an_epoch(void **state) {
    (void)state;
    enum {
        WINDOWS = 23,
        BATCH = 5,
        EPOCHS = 10
    };
    const window w = {10, 196, 8};
    mezzo_tokens *tokens = numbered(ctx);
    mezzo_loader *loader =
        loader_of(tokens, w, (mezzo_loader_config){.batch = BATCH, .seed = 3, .shuffle = true}, 0);
    int64_t orders[EPOCHS][WINDOWS];
    int seen[EPOCHS][WINDOWS] = {{0}};
    mezzo_batch batch = {0};
    for (int64_t drawn = 0; drawn < WINDOWS * EPOCHS; drawn++) {
        if (drawn % BATCH == 0) {
            batch = next(loader);
            assert_int_equal(batch.valid, BATCH);
            assert_int_equal(batch.position, drawn);
        }
        int64_t sample = mezzo_loader_sample(loader, drawn);
        assert_in_range(sample, 0, WINDOWS - 1);
        expect_sample(&batch, drawn % BATCH, w, sample);
        orders[drawn / WINDOWS][drawn % WINDOWS] = sample;
        seen[drawn / WINDOWS][sample]++;
    }
    for (int e = 0; e < EPOCHS; e++)
        for (int i = 0; i < WINDOWS; i++)
            assert_int_equal(seen[e][i], 1);
    for (int e = 1; e < EPOCHS; e++) /* two equal orders: once in 23! */
        assert_memory_not_equal(orders[e], orders[e - 1], sizeof orders[e]);
    mezzo_loader_destroy(loader);
    mezzo_tokens_destroy(tokens);
}

/* Two passes; within each, token t > begin is a label exactly once, and every input is used. */
static void check_passes(const mezzo_tokens *tokens, window w, int64_t batch_size, int prefetch) {
    int64_t count = (w.end - w.begin - 1 + w.context - 1) / w.context;
    mezzo_loader *loader =
        loader_of(tokens, w, (mezzo_loader_config){.batch = batch_size, .prefetch = prefetch}, 0);
    for (int64_t pass = 0; pass < 2; pass++) {
        int labelled[COUNT + 2] = {0};
        for (int64_t at = 0; at < count; at += batch_size) {
            mezzo_batch batch = next(loader);
            int64_t left = count - at < batch_size ? count - at : batch_size;
            assert_int_equal(batch.valid, left);
            assert_int_equal(batch.position, pass * count + at);
            for (int64_t row = 0; row < left; row++)
                expect_sample(&batch, row, w, at + row);
            for (int64_t i = 0; i < batch_size * w.context; i++) {
                assert_true(i < left * w.context || batch.tokens[i] == 0);
                assert_true(i < left * w.context || batch.labels[i] == -1);
                labelled[batch.labels[i] + 1]++;
            }
        }
        for (int64_t id = 1; id <= COUNT; id++)
            assert_int_equal(labelled[id + 1], id > w.begin + 1 && id <= w.end);
        mezzo_batch batch = next(loader);
        assert_int_equal(batch.valid, 0);
        for (int64_t i = 0; i < batch_size * w.context; i++)
            assert_int_equal(batch.labels[i], -1);
    }
    mezzo_loader_destroy(loader);
}

static void test_evaluation_predicts_every_token_but_the_first(void **state) {
    (void)state;
    mezzo_tokens *tokens = numbered(ctx);
    for (int64_t length = 2; length < 40; length++)
        for (int64_t context = 1; context <= 12; context++)
            check_passes(tokens, (window){7, 7 + length, context}, 3, length % 3 == 0);
    check_passes(tokens, (window){0, COUNT, 16}, 4, 2);
    check_passes(tokens, (window){0, COUNT, 1000}, 2, 0); /* one window, longer than the text */
    check_passes(tokens, (window){COUNT - 2, COUNT, 1}, 1, 1);
    mezzo_tokens_destroy(tokens);
}

static void test_limit_uses_the_first_windows(void **state) {
    (void)state;
    const window w = {0, COUNT, 8};
    mezzo_tokens *tokens = numbered(ctx);
    mezzo_loader *loader = loader_of(tokens, w, (mezzo_loader_config){.batch = 4, .limit = 6}, 0);
    mezzo_batch batch = next(loader);
    assert_int_equal(batch.valid, 4);
    batch = next(loader);
    assert_int_equal(batch.valid, 2);
    expect_sample(&batch, 1, w, 5);
    mezzo_loader_destroy(loader);
    mezzo_loader_config config = {.batch = 4, .limit = 6, .shuffle = true, .seed = 5};
    loader = loader_of(tokens, w, config, 0);
    for (int64_t i = 0; i < 60; i++)
        assert_in_range(mezzo_loader_sample(loader, i), 0, 5);
    mezzo_loader_destroy(loader);
    mezzo_tokens_destroy(tokens);
}

/* Any start, with and without a thread, gives the stream that was started at 0. */
static void test_start_position_and_prefetch_change_nothing(void **state) {
    (void)state;
    const window w = {3, 190, 8}; /* 23 windows shuffled, 24 in order */
    mezzo_tokens *tokens = numbered(ctx);
    for (int64_t position = 0; position < 60; position += 5)
        for (int kind = 0; kind < 6; kind++) {
            static const int depths[] = {0, 1, 4};
            mezzo_loader_config config = {
                .batch = 6, .seed = 4, .shuffle = kind >= 3, .prefetch = depths[kind % 3]};
            mezzo_loader *loader = loader_of(tokens, w, config, position);
            int64_t at = position;
            for (int k = 0; k < 12; k++) {
                mezzo_batch batch = next(loader);
                assert_int_equal(batch.position, at);
                assert_true(batch.valid == 6 || !config.shuffle);
                for (int64_t row = 0; row < batch.valid; row++, at++)
                    expect_sample(&batch, row, w, mezzo_loader_sample(loader, at));
            }
            mezzo_loader_destroy(loader);
        }
    mezzo_tokens_destroy(tokens);
}

/* A step's bits as figures: the order is part of what a run's seed stands for. */
static void test_random_stream_is_pinned(void **state) {
    (void)state;
    mezzo_tokens *tokens;
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, 9, 50257, 42), MEZZO_OK);
    static const int32_t ids[] = {42522, 48952, 33494, 41118, 27026, 36540, 24290, 25143, 38832};
    mezzo_loader *loader =
        loader_of(tokens, (window){1, 9, 3}, (mezzo_loader_config){.batch = 3}, 0);
    mezzo_batch batch = next(loader);
    assert_int_equal(batch.valid, 3);
    for (int k = 0; k < 9; k++) {
        assert_int_equal(batch.tokens[k], k < 7 ? ids[1 + k] : 0);
        assert_int_equal(batch.labels[k], k < 7 ? ids[2 + k] : -1);
    }
    mezzo_loader_destroy(loader);
    mezzo_tokens_destroy(tokens);
}

static void expect_refused(const mezzo_tokens *tokens, window w, mezzo_loader_config config,
                           int64_t position, const char *text) {
    mezzo_loader *loader = (mezzo_loader *)&ctx;
    assert_int_equal(mezzo_loader_create_tokens(&loader, ctx, tokens, w.begin, w.end, w.context,
                                                &config, position),
                     MEZZO_INVALID_ARGUMENT);
    assert_ptr_equal(loader, &ctx);
    if (!strstr(mezzo_ctx_error(ctx)->text, text))
        fail_msg("'%s' lacks '%s'", mezzo_ctx_error(ctx)->text, text);
}

static void test_refuses_bad_arguments(void **state) {
    (void)state;
    const mezzo_loader_config ordered = {.batch = 1}, shuffled = {.batch = 1, .shuffle = true};
    mezzo_tokens *tokens = numbered(ctx);
    expect_refused(tokens, (window){-1, 10, 2}, ordered, 0, "tokens -1 to 10 of 200");
    expect_refused(tokens, (window){0, 201, 2}, ordered, 0, "tokens 0 to 201 of 200");
    expect_refused(tokens, (window){10, 9, 2}, ordered, 0, "tokens 10 to 9 of 200");
    expect_refused(tokens, (window){0, 10, 0}, ordered, 0, "context of 0");
    expect_refused(tokens, (window){0, 10, INT64_MAX}, ordered, 0,
                   "context of 9223372036854775807");
    expect_refused(tokens, (window){10, 10, 2}, ordered, 0, "takes at least 2");
    expect_refused(tokens, (window){10, 11, 2}, ordered, 0, "takes at least 2");
    expect_refused(tokens, (window){10, 18, 8}, shuffled, 0, "are 8, and a sample");
    expect_refused(tokens, (window){10, 18, 8}, shuffled, 0, "takes at least 9");
    mezzo_loader_destroy(loader_of(tokens, (window){10, 19, 8}, shuffled, 0));
    const window w = {0, 10, 2};
    expect_refused(NULL, w, ordered, 0, "tokens is null");
    expect_refused(tokens, w, (mezzo_loader_config){.batch = 0}, 0, "batch is 0");
    expect_refused(tokens, w, (mezzo_loader_config){.batch = INT64_MAX}, 0, "samples of 8 bytes");
    expect_refused(tokens, w, (mezzo_loader_config){.batch = 1, .prefetch = 65}, 0, "prefetch");
    expect_refused(tokens, w, (mezzo_loader_config){.batch = 1, .limit = -1}, 0, "limit");
    expect_refused(tokens, w, ordered, -1, "position");
    mezzo_loader *loader = NULL;
    assert_int_equal(mezzo_loader_create_tokens(&loader, ctx, tokens, 0, 10, 2, NULL, 0),
                     MEZZO_INVALID_ARGUMENT);
    mezzo_tokens_destroy(tokens);
}

static void test_allocates_at_creation_only(void **state) {
    (void)state;
    mezzo_tokens *tokens = numbered(ctx);
    mezzo_loader_config config = {.batch = 8, .shuffle = true, .prefetch = 3};
    mezzo_loader *loader = loader_of(tokens, (window){0, COUNT, 8}, config, 0);
    uint64_t calls = mezzo_ctx_memory(ctx).alloc_count;
    for (int k = 0; k < 100; k++)
        (void)next(loader);
    assert_int_equal(mezzo_ctx_memory(ctx).alloc_count, calls);
    mezzo_loader_destroy(loader);
    mezzo_tokens_destroy(tokens);
}

static void test_destroy_at_any_moment(void **state) {
    (void)state;
    mezzo_tokens *tokens = numbered(ctx);
    for (int k = 0; k < 50; k++) {
        mezzo_loader_config config = {.batch = 8, .shuffle = true, .prefetch = 1 + k % 5};
        mezzo_loader *loader = loader_of(tokens, (window){0, COUNT, 4}, config, k);
        for (int taken = 0; taken < k % 4; taken++)
            (void)next(loader);
        mezzo_loader_destroy(loader);
    }
    mezzo_tokens_destroy(tokens);
}

static mezzo_status load(mezzo_ctx *own) {
    mezzo_tokens *tokens = numbered(own);
    if (!tokens)
        return mezzo_ctx_error(own)->status;
    mezzo_loader *loader = NULL;
    mezzo_loader_config config = {.batch = 2, .prefetch = 1};
    mezzo_status status = mezzo_loader_create_tokens(&loader, own, tokens, 0, COUNT, 8, &config, 0);
    mezzo_loader_destroy(loader);
    mezzo_tokens_destroy(tokens);
    return status;
}
static void test_survives_failed_allocations(void **state) {
    (void)state;
    /* The tokens 2; source, loader and slots 3; two batches, inputs and labels each, 4. */
    assert_int_equal(failing_alloc_sweep(load), 9);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_begin, fixture_end)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_every_window_once_an_epoch),
        TEST(test_evaluation_predicts_every_token_but_the_first),
        TEST(test_limit_uses_the_first_windows),
        TEST(test_start_position_and_prefetch_change_nothing),
        TEST(test_random_stream_is_pinned),
        TEST(test_refuses_bad_arguments),
        TEST(test_allocates_at_creation_only),
        TEST(test_destroy_at_any_moment),
        TEST(test_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
