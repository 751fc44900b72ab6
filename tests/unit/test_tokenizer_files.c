/* Tokenizer files: every kind of bad one refused, good ones kept; nothing lost when memory or the
 * disk fails. */
#include "data/tokenizer.h"
#include "unit/failing_alloc.h"
#include "unit/failing_fs.h"
#include "unit/tokenizer_tools.h"

static void expect_refused(const char *text, size_t bytes, const char *part) {
    mezzo_tokenizer *t = (mezzo_tokenizer *)&ctx;
    write_file(text, bytes);
    mezzo_status status = mezzo_tokenizer_open(&t, ctx, path);
    if (status != MEZZO_DATA || t != (mezzo_tokenizer *)&ctx)
        fail_msg("%.200s: accepted, or not refused as data (%s)", text, mezzo_status_name(status));
    const char *message = mezzo_ctx_error(ctx)->text;
    if (!strstr(message, part) || !strstr(message, path))
        fail_msg("'%s' lacks '%s' or the path", message, part);
}

static void test_refuses_bad_merge_lists(void **state) {
    (void)state;
#define H "#version: 0.2\n"
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "neither"},
        {"a b\n", "neither"},
        {"#", "line 1: expected \"#version: 0.2\""},
        {"#version: 0.3\na b\n", "line 1"},
        {"#version: 0.2 \na b\n", "line 1"},
        {"#version: 0.2\r\na b\r\n", "line 1"},
        {H "ab c\na b\n", "line 2: the left part is no token yet"},
        {H "a b\nc ac\n", "line 3: the right part is no token yet"},
        {H "a b\nb c\na b\n", "line 4: the merge of line 2 again"},
        {H "a b\nb c\nab c\na bc\n", "line 5: makes token 258 a second time"},
        {H "a\n", "line 2: expected LEFT RIGHT"},
        {H "a b\n\n", "line 3: expected LEFT RIGHT"},
        {H "a \n", "line 2: the right part is empty"},
        {H " a\n", "line 2: the left part is empty"},
        {H "a b c\n", "line 2: the right part has a character"},
        {H "a\tb c\n", "line 2: the left part has a character"},
        {H "a \u0144\n", "line 2: the right part has a character"}, /* one beyond the last */
        {H "a \u00ad\n", "line 2: the right part has a character"},
        {H "a \u20ac\n", "line 2: the right part has a character"},
        {H "a b\nc \xff\n", "line 3, offset 20: byte 0xff"},
        {H "a b\nc \xc3\n", "line 3, offset 20: byte 0xc3"},
        {H "< |\n<| e\n<|e n\n<|en d\n<|end o\n<|endo f\n<|endof t\n<|endoft e\n<|endofte x\n"
           "<|endoftex t\n<|endoftext |\n<|endoftext| >\n",
         "the special token's name"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused(bad[i].text, strlen(bad[i].text), bad[i].part);
    expect_refused(H "a b\n\0", sizeof(H "a b\n\0") - 1, "line 3, offset 18: byte 0x00");
    mezzo_tokenizer_destroy(open_text(H "a b")); /* without a newline at the end */
    mezzo_tokenizer_destroy(open_text(H));
}

/* One place of a good file changed. */
typedef struct change {
    const char *from, *to, *part;
} change;
#define SEQUENCE(regex, behavior, invert, use)                                                     \
    "\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex          \
    "\"},\"behavior\":\"" behavior "\",\"invert\":" invert                                         \
    "},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":" use "}],\"x\":\"\""
static const change changes[] = {
    {"{\"version\"", "{\"version", "line 1, column"},
    {"{\"version\":\"1.0\"", "{\"version\":\"1.0\",\"version\":\"1.0\"", "duplicate"},
    {"\"model\":{", "\"modle\":{", "model.type is \"\""},
    {"\"BPE\"", "\"WordPiece\"", "model.type is \"WordPiece\"; supported is \"BPE\""},
    {"\"BPE\"", "\"Unigram\\u001b[31m\"", "\"Unigram\\u001b[31m\""},
    {"\"dropout\":null", "\"dropout\":0.1", "model.dropout is set"},
    {"\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"",
     "model.continuing_subword_prefix"},
    {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"", "end_of_word_suffix is set"},
    {"\"byte_fallback\":false", "\"byte_fallback\":true", "byte_fallback is true"},
    {"\"ignore_merges\":false", "\"ignore_merges\":true", "ignore_merges is true"},
    {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", "normalizer is \"NFC\""},
    {"\"ByteLevel\",\"add_prefix_space\":false", "\"Whitespace\",\"add_prefix_space\":false",
     "type \"Whitespace\"; supported are ByteLevel"},
    {"\"pre_tokenizer\":{", "\"pre_tokenizer\":null,\"x\":{", "type \"\""},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "add_prefix_space true"},
    {"\"add_prefix_space\":false", "\"add_prefix\":false", "add_prefix_space true"},
    {"\"use_regex\":true}", "\"use_regex\":false}", "use_regex false"},
    {"\"ByteLevel\"", SEQUENCE("\\\\s+", "Isolated", "false", "false"), "splits by \"\\\\s+\""},
    {"\"ByteLevel\"", SEQUENCE("", "Removed", "false", "false"), "another Sequence"},
    {"\"ByteLevel\"", SEQUENCE("", "Isolated", "true", "false"), "another Sequence"},
    {"\"added_tokens\":[", "\"added_tokens\":{},\"x\":[", "added_tokens a list"},
    {"\"content\":\"<|endoftext|>\"", "\"content\":\"\"", "without content"},
    {"\"content\":\"<|endoftext|>\"", "\"content\":7", "without content"},
    {"\"id\":262", "\"id\":261", "\"<|endoftext|>\" has id 261 in added_tokens, and another"},
    {"\"id\":262", "\"id\":263", "\"<|endoftext|>\" has id 263"},
    {"\"id\":262", "\"id\":-1", "has id -1"},
    {"\"id\":262", "\"id\":\"262\"", "no whole number"},
    {"\"added_tokens\":[", "\"added_tokens\":[{\"id\":262,\"content\":\"a\"},",
     "token \"a\" has id 262 in added_tokens, and another in model.vocab"},
    {"\"added_tokens\":[", "\"added_tokens\":[{\"id\":262,\"content\":\"a b\"},",
     "id 262 comes twice, the second time for \"<|endoftext|>\""},
    {"\"single_word\":false", "\"single_word\":true", "single_word"},
    {"\"lstrip\":false", "\"lstrip\":true", "lstrip"},
    {"\"rstrip\":false", "\"rstrip\":true", "rstrip"},
    {"\"vocab\":{", "\"vocab\":[],\"x\":{", "model.vocab must be an object"},
    {"\"\\\"\":1,", "\"\\\"\":2,", "token \"#\" has id 2, which another one has already"},
    {"\"\\\"\":1,", "\"\\\"\":1.0,", "no whole number"},
    {"\"\\\"\":1,", "\"\\\"\":1,\"\\\"\":1,", "duplicate"},
    {"\"\\\"\":1,", "\"\\\"\":4000000000,", "ids are 0 to 262 without a gap"},
    {"\"\\\"\":1,", "\"\\\"\":262,", "which an added token has"},
    {"\"\\\"\":1,", "\"aa\":1,", "no token for byte 0x22"},
    {"\"\\\"\":1,", "\"\u20ac\":1,", "a character that stands for no byte"},
    {"\"\\\"\":1,", "\"\":1,", "is empty"},
    {"\"\\\"\":1,", "\"\xff\":1,", "byte 0xff is not UTF-8"},
    {"\"\\\"\":1,", "\"\\ud800\":1,", "line 1, column"},
    {"\"merges\":[", "\"merges\":{},\"x\":[", "model.merges must be a list"},
    {"\"a b\",", "\"a b\",\"a b\",", "model.merges[1]: the same as model.merges[0]"},
    {"\"a b\",", "\"a b\",[\"a\",\"b\"],", "model.merges[1]: the same as model.merges[0]"},
    {"\"a b\",", "\"a b c\",", "model.merges[0]: expected"},
    {"\"a b\",", "\"ab\",", "model.merges[0]: expected"},
    {"\"a b\",", "[\"a\"],", "model.merges[0]: expected"},
    {"\"a b\",", "[\"a\",\"b\",\"c\"],", "model.merges[0]: expected"},
    {"\"a b\",", "[\"a\",1],", "model.merges[0]: expected"},
    {"\"a b\",", "7,", "model.merges[0]: expected"},
    {"\"a b\",", "\"a \",", "model.merges[0]: the right part is empty"},
    {"\"a b\",", "\"a \u20ac\",", "model.merges[0]: the right part has a character"},
    {"\"a b\",", "\"xy b\",", "model.merges[0]: its left part is no token"},
    {"\"a b\",", "\"a xy\",", "model.merges[0]: its right part is no token"},
    {"\"a b\",", "\"a c\",", "model.merges[0]: what it makes is no token"},
};

/* The text of small_vocab's tokenizer.json with a change; freed with free. */
static char *changed(const change *c) {
    mezzo_tokenizer *t = open_text(small_vocab);
    assert_int_equal(mezzo_tokenizer_save(t, path), MEZZO_OK);
    mezzo_tokenizer_destroy(t);
    size_t bytes;
    char *text = read_file(&bytes), *out = calloc(1, bytes + 500);
    const char *place = strstr(text, c->from);
    assert_non_null(place);
    snprintf(out, bytes + 500, "%.*s%s%s", (int)(place - text), text, c->to,
             place + strlen(c->from));
    free(text);
    return out;
}

static void test_refuses_bad_json(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char *text = changed(&changes[i]);
        expect_refused(text, strlen(text), changes[i].part);
        free(text);
    }
    expect_refused("{}", 2, "model.type");
    expect_refused(" \n[]", 4, "neither");
    expect_refused("{\"model\":{\"type\":\"BPE\"}}{", 25, "line 1");
}

static void test_accepts_other_forms_of_json(void **state) {
    (void)state;
    static const change legal[] = {
        {"\"a b\",", "[\"a\",\"b\"],", NULL},
        {"\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}",
         "\"add_prefix_space\":false}", NULL},
        {"{\"version\"", "\n {\"x\":[null],\"version\"", NULL},
        {"\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,", "", NULL},
        {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"\"", NULL},
        {"\"<|endoftext|>\":262", "\"\u0121\u0121\":262", "263"}, /* then it is the next id's */
        {"\"post_processor\":null", "\"post_processor\":{\"type\":\"TemplateProcessing\"}", NULL},
        {"\"ByteLevel\"",
         SEQUENCE("'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| ?[^\\\\s\\\\p{L}\\\\p{N}]+"
                  "|\\\\s+(?!\\\\S)|\\\\s+",
                  "Isolated", "false", "false"),
         NULL},
    };
    for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++) {
        char *text = changed(&legal[i]), *special = strstr(text, "\"id\":262");
        if (legal[i].part)
            special[7] = '3';
        mezzo_tokenizer *t = open_text(text);
        assert_int_equal(mezzo_tokenizer_end_of_text(t), legal[i].part ? 263 : 262);
        expect_ids(t, "abcbc d dd", false, IDS(257, 258, 220, 67, 220, 259));
        mezzo_tokenizer_destroy(t);
        free(text);
    }
}

static void test_saving_keeps_everything(void **state) {
    (void)state;
    const char *sample =
        "abc abc \"\\\" \"\\\" \u00e9\u00e9 \u00e9\u00e9 DON'T DON'T 123 123\n\n\n\n";
    for (int pattern = 0; pattern < 2; pattern++) {
        mezzo_tokenizer *t = learn(sample, strlen(sample), 266, (mezzo_pattern)pattern, true);
        assert_int_equal(mezzo_tokenizer_save(t, path), MEZZO_OK);
        size_t bytes, again_bytes;
        char *text = read_file(&bytes);
        mezzo_tokenizer *again = open_text(text);
        assert_int_equal(mezzo_tokenizer_vocab(again), 266);
        assert_int_equal(mezzo_tokenizer_end_of_text(again), 265);
        assert_int_equal(again->pattern, pattern);
        for (int32_t id = 0; id < 266; id++) {
            assert_int_equal(t->tokens[id].size, again->tokens[id].size);
            assert_memory_equal(t->tokens[id].bytes, again->tokens[id].bytes,
                                (size_t)t->tokens[id].size);
        }
        assert_int_equal(mezzo_tokenizer_save(again, path), MEZZO_OK);
        char *again_text = read_file(&again_bytes);
        assert_int_equal(again_bytes, bytes);
        assert_memory_equal(again_text, text, bytes);
        free(text);
        free(again_text);
        mezzo_tokenizer_destroy(t);
        mezzo_tokenizer_destroy(again);
    }
}

static void test_failing_writes_leave_the_old_file(void **state) {
    (void)state;
    mezzo_tokenizer *t = open_text(small_vocab);
    size_t bytes;
    bool done = false;
    int failures = 0;
    for (int nth = 0; !done; nth++) {
        failing_fs f = {.calls_left = nth, .code = ENOSPC};
        mzi_fs fs = failing_fs_table(&f);
        write_file("old", 3);
        mzi_error_clear(ctx);
        mezzo_status status = mzi_tokenizer_save(t, &fs, path);
        done = f.calls_left >= 0;
        failures += status != MEZZO_OK;
        char *text = read_file(&bytes);
        assert_int_equal(strcmp(text, "old") == 0, !f.renamed);
        assert_true(f.renamed || status == MEZZO_IO);
        free(text);
    }
    assert_true(failures >= 7); /* unlink, open, write, fsync, close, open, rename */
    mezzo_tokenizer_destroy(t);
}

static mezzo_status make(mezzo_tokenizer **t, mezzo_ctx *own, int kind) {
    const mezzo_tokenizer_train_config config = {260, MEZZO_PATTERN_GPT4, true};
    if (kind == 0)
        return mezzo_tokenizer_bytes(t, own);
    if (kind == 1)
        return mezzo_tokenizer_train(t, own, "abc abc abcd", 12, &config);
    return mezzo_tokenizer_open(t, own, path);
}
static mezzo_status use(mezzo_tokenizer *t) {
    static const char text[] = "abcabc abc <|endoftext|> \u00e9";
    int32_t *ids;
    size_t count, bytes;
    char *back;
    MZI_TRY(mezzo_tokenizer_encode(t, text, sizeof text - 1, true, &ids, &count));
    mezzo_status status = mezzo_tokenizer_decode(t, ids, count, &back, &bytes);
    if (status == MEZZO_OK) {
        assert_string_equal(back, text);
        mezzo_tokenizer_free_text(t, back, bytes);
    }
    mezzo_tokenizer_free_ids(t, ids, count);
    return status;
}

/* Every allocation fails once. */
static void test_survives_failed_allocations(void **state) {
    (void)state;
    failing_alloc f = {.calls_left = INT32_MAX};
    mezzo_ctx_config config = {.threads = 1,
                               .allocator = {failing_alloc_take, failing_alloc_return, &f}};
    mezzo_ctx *own;
    assert_int_equal(mezzo_ctx_create(&own, &config, NULL), MEZZO_OK);
    uint64_t own_held = mezzo_ctx_memory(own).bytes_used;
    for (int kind = 0; kind < 4; kind++) { /* bytes, learned, vocab.bpe, tokenizer.json */
        bool done = false;
        int failures = 0;
        mezzo_tokenizer *source = open_text(small_vocab);
        if (kind == 3)
            assert_int_equal(mezzo_tokenizer_save(source, path), MEZZO_OK);
        mezzo_tokenizer_destroy(source);
        for (int nth = 0; !done; nth++) {
            f.calls_left = nth;
            mezzo_tokenizer *t = NULL;
            mezzo_status status = make(&t, own, kind);
            if (status == MEZZO_OK)
                status = use(t);
            if (status == MEZZO_OK && kind == 1)
                status = mezzo_tokenizer_save(t, path);
            done = f.calls_left >= 0;
            /* Without memory for compiled patterns PCRE2 interprets them: that is no failure. */
            assert_true(status == MEZZO_OUT_OF_MEMORY || status == MEZZO_OK);
            assert_true(!done || status == MEZZO_OK);
            failures += status != MEZZO_OK;
            mezzo_tokenizer_destroy(t);
            assert_int_equal(mezzo_ctx_memory(own).bytes_used, own_held);
        }
        assert_true(failures >= (kind == 0 ? 5 : 15));
    }
    mezzo_ctx_destroy(own);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_refuses_bad_merge_lists),           TEST(test_refuses_bad_json),
        TEST(test_accepts_other_forms_of_json),       TEST(test_saving_keeps_everything),
        TEST(test_failing_writes_leave_the_old_file), TEST(test_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
