/* Drawing from logits: frequencies, filters, ties, the same draw again, bad logits; and bytes into
 * whole characters. */
#include "run/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "run/utf8_stream.h"
#include "unit/cmocka_all.h"

enum {
    V_MAX = 1000,
    DRAWS = 20000
};

static mezzo_ctx *ctx;
static double weights[V_MAX];
static int32_t heap[V_MAX];

static int begin(void **state) {
    (void)state;
    const mezzo_ctx_config config = {.threads = 1};
    return mezzo_ctx_create(&ctx, &config, NULL) == MEZZO_OK ? 0 : -1;
}
static int end(void **state) {
    (void)state;
    mezzo_ctx_destroy(ctx);
    return 0;
}

static const mezzo_sample_config plain = {.temperature = 1.0, .top_p = 1.0, .seed = 3};

static int32_t draw(const float *logits, int32_t vocab, const mezzo_sample_config *config,
                    uint64_t position) {
    int32_t token = -1;
    const mzi_sampler_work work = {weights, heap};
    if (mzi_sample(ctx, logits, vocab, config, position, &work, &token) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    assert_in_range(token, 0, vocab - 1);
    return token;
}

/* How often each token comes in DRAWS positions. */
static void count(const float *logits, int32_t vocab, const mezzo_sample_config *config,
                  int64_t *counts) {
    memset(counts, 0, (size_t)vocab * sizeof *counts);
    for (uint64_t position = 0; position < DRAWS; position++)
        counts[draw(logits, vocab, config, position)]++;
}

/* Pearson's X^2 of k + 1 classes has about the chi-square distribution with k degrees of freedom,
 * which is beyond k + 2 sqrt(k x) + 2 x with a probability below e^-x (Laurent and Massart 2000,
 * lemma 1).  x = 20: 2e-9. */
static void check_frequencies(const int64_t *counts, const double *p, int32_t vocab) {
    double chi = 0, k = -1;
    for (int32_t i = 0; i < vocab; i++) {
        double expected = p[i] * DRAWS;
        if (p[i] <= 0) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        assert_true(expected > 20); /* enough for the approximation */
        chi += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
        k++;
    }
    if (chi > k + 2 * sqrt(k * 20) + 2 * 20)
        fail_msg("X^2 is %g with %g degrees of freedom", chi, k);
}

/* exp(logit / T) over the sum, of the tokens that are kept. */
static void probabilities(const float *logits, const bool *kept, int32_t vocab, double T,
                          double *p) {
    double sum = 0;
    for (int32_t i = 0; i < vocab; i++)
        sum += p[i] = kept[i] ? exp((double)logits[i] / T) : 0;
    for (int32_t i = 0; i < vocab; i++)
        p[i] /= sum;
}

static void test_frequencies(void **state) {
    (void)state;
    enum {
        V = 12
    };
    const float logits[V] = {0.3f, -1.2f, 2.0f,  0.0f, 1.1f,  -INFINITY,
                             1.9f, 0.7f,  -0.5f, 1.1f, -0.9f, 0.2f};
    static const double temperatures[] = {0.7, 1.0, 2.5};
    int64_t counts[V];
    double p[V];
    for (size_t t = 0; t < 3; t++) {
        mezzo_sample_config config = plain;
        bool all[V], five[V] = {false};
        memset(all, true, sizeof all);
        config.temperature = temperatures[t];
        count(logits, V, &config, counts);
        probabilities(logits, all, V, config.temperature, p);
        check_frequencies(counts, p, V);
        config.top_k = 5; /* 2.0, 1.9, 1.1, 1.1, 0.7 */
        five[2] = five[6] = five[4] = five[9] = five[7] = true;
        count(logits, V, &config, counts);
        probabilities(logits, five, V, config.temperature, p);
        check_frequencies(counts, p, V);
    }
}

/* The tokens that are drawn, as bits.  A token of probability 0.08 is missed by 2,000 draws with a
 * probability of 0.92^2000 = 4e-73. */
static uint32_t set_of(const float *logits, int32_t vocab, int32_t top_k, double top_p) {
    uint32_t found = 0;
    mezzo_sample_config config = plain;
    config.top_k = top_k;
    config.top_p = top_p;
    for (uint64_t position = 0; position < 2000; position++)
        found |= 1u << draw(logits, vocab, &config, position);
    return found;
}

static void test_top_k_sets(void **state) {
    (void)state;
    const float logits[] = {1.0f, 2.0f, 2.0f, 1.5f, 2.0f, 1.0f};
    assert_int_equal(set_of(logits, 6, 1, 1), 0x02);
    assert_int_equal(set_of(logits, 6, 2, 1), 0x06); /* of equal ones the lower ids */
    assert_int_equal(set_of(logits, 6, 3, 1), 0x16);
    assert_int_equal(set_of(logits, 6, 4, 1), 0x1e);
    assert_int_equal(set_of(logits, 6, 5, 1), 0x1f);
    assert_int_equal(set_of(logits, 6, 6, 1), 0x3f);
    assert_int_equal(set_of(logits, 6, 0, 1), 0x3f);
    assert_int_equal(set_of(logits, 6, 99, 1), 0x3f);
}

static void test_top_p_sets(void **state) {
    (void)state;
    const float equal[] = {0.5f, 0.5f, 0.5f, 0.5f}; /* weights of exactly 1 */
    assert_int_equal(set_of(equal, 4, 0, 1e-300), 0x1);
    assert_int_equal(set_of(equal, 4, 0, 0.25), 0x1);
    assert_int_equal(set_of(equal, 4, 0, 0.25 + 0x1p-50), 0x3);
    assert_int_equal(set_of(equal, 4, 0, 0.5), 0x3);
    assert_int_equal(set_of(equal, 4, 0, 0.75 + 0x1p-50), 0xf);
    assert_int_equal(set_of(equal, 4, 0, 1), 0xf);
    assert_int_equal(set_of(equal, 4, 2, 0.5), 0x1); /* of what top_k left */
    assert_int_equal(set_of(equal, 4, 2, 0.5 + 0x1p-50), 0x3);
    float skewed[4]; /* 0.1, 0.4, 0.2, 0.3 */
    for (int i = 0; i < 4; i++)
        skewed[i] = (float)log((double[]){0.1, 0.4, 0.2, 0.3}[i]);
    assert_int_equal(set_of(skewed, 4, 0, 0.39), 0x2);
    assert_int_equal(set_of(skewed, 4, 0, 0.41), 0xa);
    assert_int_equal(set_of(skewed, 4, 0, 0.69), 0xa);
    assert_int_equal(set_of(skewed, 4, 0, 0.71), 0xe);
    assert_int_equal(set_of(skewed, 4, 0, 0.91), 0xf);
}

static const float *sorted_logits;
static int by_logit(const void *a, const void *b) {
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    float x = sorted_logits[i], y = sorted_logits[j];
    return x != y ? (x < y ? 1 : -1) : i < j ? -1 : 1;
}

/* A large vocabulary with many ties, against sorting it all. */
static void test_against_sorting(void **state) {
    (void)state;
    static float logits[V_MAX];
    static int32_t order[V_MAX];
    static bool kept[V_MAX];
    for (int32_t i = 0; i < V_MAX; i++) {
        uint32_t words[4];
        mzi_rng4(words, 5, 0, (uint64_t)i, 0);
        logits[i] = (float)(words[0] % 40) * 0.05f;
        order[i] = i;
    }
    sorted_logits = logits;
    qsort(order, V_MAX, sizeof *order, by_logit);
    for (int32_t k = 1; k < V_MAX; k = k * 3 + 1) {
        mezzo_sample_config config = plain;
        config.top_k = k;
        memset(kept, 0, sizeof kept);
        for (int32_t i = 0; i < k; i++)
            kept[order[i]] = true;
        for (uint64_t position = 0; position < 500; position++)
            assert_true(kept[draw(logits, V_MAX, &config, position)]);
        for (int32_t i = 0; i < V_MAX; i++)
            assert_int_equal(weights[i] > 0, kept[i]);
    }
}

static void test_temperature_zero(void **state) {
    (void)state;
    const float logits[] = {-3.0f, 2.0f, -INFINITY, 2.0f, 1.0f};
    mezzo_sample_config config = plain;
    config.temperature = 0;
    for (uint64_t position = 0; position < 50; position++)
        assert_int_equal(draw(logits, 5, &config, position), 1);
    config.temperature = 5e-324; /* all but the largest underflow; of equal ones each comes */
    uint32_t found = 0;
    for (uint64_t position = 0; position < 200; position++)
        found |= 1u << draw(logits, 5, &config, position);
    assert_int_equal(found, 0xa);
}

/* With equal logits the token is u V: here from the random words themselves. */
static void test_random_words(void **state) {
    (void)state;
    enum {
        V = 64
    };
    const float logits[V] = {0};
    for (uint64_t position = 0; position < 200; position++) {
        uint32_t words[4];
        mezzo_sample_config config = plain;
        config.seed = 0x123456789abcdefu + position % 3;
        mzi_rng4(words, config.seed, mzi_name_hash("sample"), position, 0);
        assert_int_equal(draw(logits, V, &config, position), words[0] / (1u << 26));
    }
}

static void test_filters_that_leave_all(void **state) {
    (void)state;
    const float logits[] = {0.1f, 0.9f, 0.5f, 0.4f};
    mezzo_sample_config k = plain, p = plain;
    k.top_k = 4;
    p.top_p = 1 - 0x1p-53;
    for (uint64_t position = 0; position < 500; position++) {
        int32_t token = draw(logits, 4, &plain, position);
        assert_int_equal(token, draw(logits, 4, &k, position));
        assert_int_equal(token, draw(logits, 4, &p, position));
    }
}

static void refuse(const float *logits, int32_t vocab, double temperature, const char *part) {
    int32_t token = -7;
    const mzi_sampler_work work = {weights, heap};
    mezzo_sample_config config = plain;
    config.temperature = temperature;
    mzi_error_clear(ctx);
    assert_int_equal(mzi_sample(ctx, logits, vocab, &config, 1234, &work, &token), MEZZO_NUMERICS);
    assert_int_equal(token, -7);
    if (!strstr(mezzo_ctx_error(ctx)->text, "position 1234") ||
        !strstr(mezzo_ctx_error(ctx)->text, part))
        fail_msg("\"%s\" does not say \"%s\"", mezzo_ctx_error(ctx)->text, part);
}

static void test_bad_logits(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        refuse((const float[]){1.0f, NAN, 2.0f}, 3, t, "token 1 is nan");
        refuse((const float[]){NAN, 0.0f}, 2, t, "token 0 is nan");
        refuse((const float[]){0.0f, INFINITY}, 2, t, "token 1 is inf");
        refuse((const float[]){-INFINITY, -INFINITY}, 2, t, "all 2 tokens");
    }
}

static void test_no_allocation(void **state) {
    (void)state;
    static float logits[V_MAX];
    mezzo_sample_config config = plain;
    config.top_k = 100;
    config.top_p = 0.5;
    uint64_t before = mezzo_ctx_memory(ctx).alloc_count;
    draw(logits, V_MAX, &config, 0);
    assert_int_equal(mezzo_ctx_memory(ctx).alloc_count, before);
}

typedef struct heard {
    char text[2000];
    size_t bytes;
} heard;

static void hear(void *user, const char *text, size_t bytes) {
    heard *h = user;
    assert_true(bytes > 0);
    assert_true(h->bytes + bytes < sizeof h->text);
    memcpy(h->text + h->bytes, text, bytes);
    h->bytes += bytes;
}

/* Fed `step` bytes at a time. */
static void check_stream(const char *bytes, size_t count_in, const char *expected,
                         size_t expected_bytes) {
    for (size_t step = 1; step <= count_in; step++) {
        heard h = {.bytes = 0};
        mzi_utf8_stream stream = {.emit = hear, .user = &h};
        for (size_t i = 0; i < count_in; i += step)
            mzi_utf8_stream_put(&stream, bytes + i, count_in - i < step ? count_in - i : step);
        mzi_utf8_stream_end(&stream);
        assert_int_equal(h.bytes, expected_bytes);
        assert_memory_equal(h.text, expected, expected_bytes);
    }
}

#define BAD "\xef\xbf\xbd"
#define CHECK_STREAM(in, out) check_stream(in, sizeof(in) - 1, out, sizeof(out) - 1)

static void test_characters(void **state) {
    (void)state;
    CHECK_STREAM("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\0z", "aé€😀\0z");
    CHECK_STREAM("\xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf",
                 "\xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    CHECK_STREAM("\xff\x80 ", BAD BAD " ");
    CHECK_STREAM("\xe2\x82 A", BAD " A");
    CHECK_STREAM("\xe2\xc3\xa9", BAD "é");
    CHECK_STREAM("\xed\xa0\x80", BAD BAD BAD); /* a surrogate */
    CHECK_STREAM("\xc0\xaf\xe0\x80\xaf", BAD BAD BAD BAD BAD);
    CHECK_STREAM("\xf4\x90\x80\x80", BAD BAD BAD BAD);
    CHECK_STREAM("x\xf0\x9f\x98", "x" BAD);
}

static void test_characters_wait(void **state) {
    (void)state;
    heard h = {.bytes = 0};
    mzi_utf8_stream stream = {.emit = hear, .user = &h};
    mzi_utf8_stream_put(&stream, "n\xc3", 2);
    assert_int_equal(h.bytes, 1);
    mzi_utf8_stream_put(&stream, "\xa9", 1);
    assert_int_equal(h.bytes, 3);
    char long_text[1500];
    memset(long_text, 'y', sizeof long_text);
    mzi_utf8_stream_put(&stream, long_text, sizeof long_text);
    assert_int_equal(h.bytes, 1503);
    assert_memory_equal(h.text + 3, long_text, sizeof long_text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_frequencies),
                                       cmocka_unit_test(test_top_k_sets),
                                       cmocka_unit_test(test_top_p_sets),
                                       cmocka_unit_test(test_against_sorting),
                                       cmocka_unit_test(test_temperature_zero),
                                       cmocka_unit_test(test_random_words),
                                       cmocka_unit_test(test_filters_that_leave_all),
                                       cmocka_unit_test(test_bad_logits),
                                       cmocka_unit_test(test_no_allocation),
                                       cmocka_unit_test(test_characters),
                                       cmocka_unit_test(test_characters_wait)};
    return cmocka_run_group_tests(tests, begin, end);
}
