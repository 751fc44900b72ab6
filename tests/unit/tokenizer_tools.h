/* What the tests of tokenizers share: a context and a file for each, and ids that are expected. */
#ifndef TESTS_UNIT_TOKENIZER_TOOLS_H
#define TESTS_UNIT_TOKENIZER_TOOLS_H

#include "mezzo/tokenizer.h"
#include "unit/fixture.h"

static char path[320];

static inline int begin(void **state) {
    int code = fixture_begin(state);
    snprintf(path, sizeof path, "%s/t", folder);
    return code;
}

static inline void write_file(const char *text, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}
static inline char *read_file(size_t *bytes) { /* freed with free */
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    *bytes = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    return text;
}
static inline mezzo_tokenizer *open_text(const char *text) {
    write_file(text, strlen(text));
    mezzo_tokenizer *t = NULL;
    if (mezzo_tokenizer_open(&t, ctx, path) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    return t;
}
static inline mezzo_tokenizer *learn(const char *text, size_t bytes, int32_t vocab,
                                     mezzo_pattern pattern, bool end_of_text) {
    const mezzo_tokenizer_train_config config = {vocab, pattern, end_of_text};
    mezzo_tokenizer *t = NULL;
    if (mezzo_tokenizer_train(&t, ctx, text, bytes, &config) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    return t;
}

/* The ids of a text, ended by -1; and the text comes back. */
static inline void expect_ids(mezzo_tokenizer *t, const char *text, bool specials,
                              const int32_t *want) {
    int32_t *ids = NULL;
    size_t count = 0, bytes = 0, wanted = 0;
    char *back = NULL;
    if (mezzo_tokenizer_encode(t, text, strlen(text), specials, &ids, &count) != MEZZO_OK)
        fail_msg("'%s': %s", text, mezzo_ctx_error(ctx)->text);
    while (want[wanted] >= 0)
        wanted++;
    if (count != wanted || memcmp(ids, want, count * sizeof *ids) != 0)
        fail_msg("'%s': %zu tokens, the first %d, where %zu were expected, the first %d", text,
                 count, count > 0 ? ids[0] : -1, wanted, want[0]);
    assert_int_equal(mezzo_tokenizer_decode(t, ids, count, &back, &bytes), MEZZO_OK);
    assert_int_equal(bytes, strlen(text));
    assert_string_equal(back, text);
    mezzo_tokenizer_free_text(t, back, bytes);
    mezzo_tokenizer_free_ids(t, ids, count);
}
#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

static inline void expect_error(mezzo_status status, mezzo_status want, const char *part) {
    assert_int_equal(status, want);
    if (!strstr(mezzo_ctx_error(ctx)->text, part))
        fail_msg("'%s' lacks '%s'", mezzo_ctx_error(ctx)->text, part);
}

/* 'a' is 97 - 33 = 64; a blank is the 33rd of the unprintable ones, behind 188 printable: 220. */
static const char small_vocab[] = "#version: 0.2\na b\nab c\nb c\nd d\ndd dd\n\u0120 a\n";

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, fixture_end)

#endif
