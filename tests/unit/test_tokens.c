/* Every kind of token file is read for what it is, and every kind of damage is refused with the
 * place where it is; what is written is read back as it was. */
#include "data/tokens.h"
#include "unit/failing_alloc.h"
#include "unit/failing_fs.h"
#include "unit/fixture.h"

static char path[300];

static int begin(void **state) {
    int code = fixture_begin(state);
    snprintf(path, sizeof path, "%s/tokens", folder);
    return code;
}
/* A file that stays mapped is memory that no allocator counts. */
static bool is_mapped(const char *name) {
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        found = found || strstr(line, name);
    if (maps)
        (void)fclose(maps);
    return found || !maps;
}
static int end(void **state) {
    bool mapped = is_mapped(folder);
    int code = fixture_end(state);
    return mapped ? -1 : code;
}

static void write_bytes(const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static size_t read_bytes(uint8_t *data, size_t capacity) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t bytes = fread(data, 1, capacity, file);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void put(uint8_t *data, size_t offset, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        data[offset + i] = (uint8_t)(value >> (8 * i));
}

static mezzo_tokens *open_good(int32_t vocab) {
    mezzo_tokens *tokens = NULL;
    if (mezzo_tokens_open(&tokens, ctx, path, vocab) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    return tokens;
}

static void expect_info(const mezzo_tokens *tokens, mezzo_tokens_info want) {
    mezzo_tokens_info info = mezzo_tokens_get_info(tokens);
    assert_int_equal(info.count, want.count);
    assert_int_equal(info.vocab, want.vocab);
    assert_int_equal(info.end_of_text, want.end_of_text);
    assert_int_equal(info.text_bytes, want.text_bytes);
    assert_string_equal(info.format, want.format);
}

static void expect_ids(const mezzo_tokens *tokens, const int32_t *ids, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(mezzo_tokens_at(tokens, i), ids[i]);
}

/* The error of the last call must be `status`, name the file, and hold both texts. */
static void expect_error(mezzo_status status, const char *text, const char *more) {
    const mezzo_error *error = mezzo_ctx_error(ctx);
    assert_int_equal(error->status, status);
    if (!strstr(error->text, text) || !strstr(error->text, more))
        fail_msg("'%s' lacks '%s' or '%s'", error->text, text, more);
}

static void expect_refused(int32_t vocab, const char *text, const char *more) {
    mezzo_tokens *tokens = (mezzo_tokens *)&ctx;
    assert_int_equal(mezzo_tokens_open(&tokens, ctx, path, vocab), MEZZO_DATA);
    assert_ptr_equal(tokens, &ctx);
    expect_error(MEZZO_DATA, text, more);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "/tokens'"));
}

/* llm.c: 256 words, and `count` ids of `element` bytes. */
#define LLMC_HEAD 1024
static const int32_t some_ids[] = {50256, 0, 17, 50255, 262, 1};
#define SOME 6

static size_t make_llmc(uint8_t *data, size_t element) {
    memset(data, 0, LLMC_HEAD);
    put(data, 0, element == 2 ? 20240520 : 20240801, 4);
    put(data, 4, element == 2 ? 1 : 7, 4);
    put(data, 8, SOME, 4);
    for (size_t i = 0; i < SOME; i++)
        put(data, LLMC_HEAD + i * element, (uint64_t)some_ids[i], element);
    return LLMC_HEAD + SOME * element;
}

static void test_reads_llmc(void **state) {
    (void)state;
    uint8_t data[2048];
    for (size_t element = 2; element <= 4; element += 2) {
        write_bytes(data, make_llmc(data, element));
        mezzo_tokens *tokens = open_good(0);
        expect_info(tokens, (mezzo_tokens_info){SOME, 50257, -1, 0, "llm.c"});
        expect_ids(tokens, some_ids, SOME);
        mezzo_tokens_destroy(tokens);
        tokens = open_good(50304);
        expect_info(tokens, (mezzo_tokens_info){SOME, 50304, -1, 0, "llm.c"});
        mezzo_tokens_destroy(tokens);
        expect_refused(50256, "id 50256 of token 0", "offset 1024");
        put(data, LLMC_HEAD + 3 * element, 60000, element);
        write_bytes(data, LLMC_HEAD + SOME * element);
        expect_refused(50257, "id 60000 of token 3", element == 2 ? "offset 1030" : "offset 1036");
    }
    put(data, LLMC_HEAD + 20, UINT32_MAX, 4); /* no int32 */
    write_bytes(data, LLMC_HEAD + SOME * 4);
    expect_refused(0, "id 4294967295 of token 5", "offset 1044");
    put(data, LLMC_HEAD + 20, INT32_MAX, 4); /* its vocabulary would be none */
    write_bytes(data, LLMC_HEAD + SOME * 4);
    expect_refused(0, "id 2147483647 of token 5", "expected 0 to 2147483646");
}

static void test_refuses_damaged_llmc(void **state) {
    (void)state;
    uint8_t data[2048] = {0};
    for (size_t element = 2; element <= 4; element += 2) {
        size_t size = make_llmc(data, element);
        for (size_t n = 4; n < size; n++) {
            write_bytes(data, n);
            expect_refused(0, "truncated", n < LLMC_HEAD ? "1024" : "announces 6 tokens");
        }
        for (size_t n = 1; n <= element; n++) {
            write_bytes(data, size + n);
            expect_refused(0, "too long", element == 2 ? "offset 1036" : "offset 1048");
        }
        put(data, 4, element == 2 ? 7 : 1, 4);
        write_bytes(data, size);
        expect_refused(0, "offset 4", element == 2 ? "expected 1" : "expected 7");
        make_llmc(data, element);
        put(data, 8, 0, 4);
        write_bytes(data, LLMC_HEAD);
        expect_refused(0, "empty", "0 tokens");
        put(data, 8, UINT32_MAX, 4);
        write_bytes(data, size);
        expect_refused(0, "truncated", "4294967295 tokens");
    }
}

/* llm.c's evaluation sets, models and tokenizers begin with other dates. */
static void test_refuses_other_magics(void **state) {
    (void)state;
    static const uint32_t magics[] = {20240101, 20240326, 20240328, 20240519,
                                      20240521, 20240522, 20240527, 20241231};
    uint8_t data[2048];
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        size_t size = make_llmc(data, 2);
        char text[32];
        put(data, 0, magics[i], 4);
        write_bytes(data, size);
        snprintf(text, sizeof text, "magic %u", magics[i]);
        expect_refused(0, "offset 0", text);
    }
    put(data, 0, 20241232, 4); /* a day that is none: two ids */
    write_bytes(data, 8);
    mezzo_tokens *tokens = open_good(0);
    expect_info(tokens, (mezzo_tokens_info){4, 56145, -1, 0, "nanoGPT"});
    mezzo_tokens_destroy(tokens);
}

static void test_reads_nanogpt(void **state) {
    (void)state;
    uint8_t data[32];
    for (size_t i = 0; i < SOME; i++)
        put(data, 2 * i, (uint64_t)some_ids[i], 2);
    for (size_t n = 1; n <= SOME; n++) {
        write_bytes(data, 2 * n);
        mezzo_tokens *tokens = open_good(0);
        expect_info(tokens, (mezzo_tokens_info){(int64_t)n, 50257, -1, 0, "nanoGPT"});
        expect_ids(tokens, some_ids, (int64_t)n);
        mezzo_tokens_destroy(tokens);
        write_bytes(data, 2 * n - 1);
        expect_refused(0, "odd size", "bytes");
    }
    expect_refused(50256, "odd size", "11 bytes");
    write_bytes(data, 12);
    expect_refused(50256, "id 50256 of token 0", "offset 0");
    mezzo_tokens_destroy(open_good(50257));
    put(data, 6, UINT16_MAX, 2);
    write_bytes(data, 12);
    expect_refused(50257, "id 65535 of token 3", "offset 6");
    mezzo_tokens *tokens = open_good(0);
    assert_int_equal(mezzo_tokens_get_info(tokens).vocab, 65536);
    mezzo_tokens_destroy(tokens);
}

static void test_refuses_missing_and_odd_files(void **state) {
    (void)state;
    mezzo_tokens *tokens = NULL;
    expect_refused(0, "cannot be opened", "No such file");
    write_bytes("", 0);
    expect_refused(0, "is empty", "");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused(0, "no regular file", "");
    assert_int_equal(mezzo_tokens_open(&tokens, ctx, folder, 0), MEZZO_DATA);
    assert_int_equal(mezzo_tokens_open(&tokens, ctx, NULL, 0), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_tokens_open(&tokens, ctx, path, -1), MEZZO_INVALID_ARGUMENT);
    assert_null(tokens);
}

/* Both widths of id, and more of them than the writer narrows at a time. */
static void test_own_format_round_trip(void **state) {
    (void)state;
    enum {
        COUNT = 10001
    };
    static const int32_t vocabs[5] = {1, 256, 65536, 65537, INT32_MAX};
    static int32_t ids[COUNT];
    for (int v = 0; v < 5; v++)
        for (int64_t count = 1; count <= COUNT; count += COUNT - 1) {
            for (int64_t i = 0; i < count; i++)
                ids[i] = (int32_t)(i * 7919 * 65537 % vocabs[v]);
            ids[0] = vocabs[v] - 1;
            assert_int_equal(mezzo_tokens_write(ctx, path, ids, count, vocabs[v], ids[0], 77 * v),
                             MEZZO_OK);
            struct stat info;
            assert_int_equal(stat(path, &info), 0);
            assert_int_equal(info.st_size, 128 + count * (v < 3 ? 2 : 4));
            mezzo_tokens *tokens = open_good(v % 2 ? vocabs[v] : 0);
            expect_info(tokens,
                        (mezzo_tokens_info){count, vocabs[v], vocabs[v] - 1, 77 * v, "mezzo"});
            expect_ids(tokens, ids, count);
            mezzo_tokens_destroy(tokens);
        }
}

/* The bytes that docs/token-format.md promises. */
static void test_own_format_bytes(void **state) {
    (void)state;
    static const uint8_t head[64] = {0x4d, 0xee, 0x5a, 0x5a, 1, 0, 0, 0, 2, 0, 0, 0, 0x51, 0xc4,
                                     0,    0,    0x50, 0xc4, 0, 0, 0, 0, 0, 0, 3, 0, 0,    0,
                                     0,    0,    0,    0,    5, 0, 0, 0, 0, 0, 0, 0};
    /* hashlib.blake2b(head + ids, digest_size=32).hexdigest() */
    static const char digest[] = "5d5c8a1b02403ed8d916ed62ce6ceb83d86ef7728705305983be5a1d712fa095";
    static const uint8_t values[] = {0x50, 0xc4, 0, 0, 0x11, 0};
    uint8_t data[256];
    assert_int_equal(mezzo_tokens_write(ctx, path, some_ids, 3, 50257, 50256, 5), MEZZO_OK);
    assert_int_equal(read_bytes(data, sizeof data), 134);
    assert_memory_equal(data, head, 64);
    assert_memory_equal(data + 64, digest, 64);
    assert_memory_equal(data + 128, values, 6);
}

/* A file of three ids, changed: without a new digest to be refused for that, with one for what was
 * changed. */
static void expect_field_refused(size_t offset, uint64_t value, size_t bytes, const char *text,
                                 const char *more) {
    uint8_t data[256];
    char hex[65];
    assert_int_equal(mezzo_tokens_write(ctx, path, some_ids, 3, 50257, 50256, 5), MEZZO_OK);
    size_t size = read_bytes(data, sizeof data);
    put(data, offset, value, bytes);
    mzi_tokens_digest(data, data + MZI_TOKENS_HEAD, size - MZI_TOKENS_HEAD, hex);
    memcpy(data + MZI_TOKENS_FIELDS, hex, 64);
    write_bytes(data, size);
    expect_refused(0, text, more);
}

static void test_refuses_wrong_fields(void **state) {
    (void)state;
    expect_field_refused(4, 2, 4, "offset 4", "version 2");
    expect_field_refused(8, 3, 4, "offset 8", "3 bytes");
    expect_field_refused(8, 4, 4, "truncated", "3 tokens of 4 bytes");
    expect_field_refused(12, 0, 4, "offset 12", "vocabulary of 0");
    expect_field_refused(12, 0x80000000, 4, "offset 12", "vocabulary of 2147483648");
    expect_field_refused(12, 50256, 4, "offset 16", "id 50256");
    expect_field_refused(16, 50257, 4, "offset 16", "id 50257");
    expect_field_refused(16, (uint32_t)-2, 4, "offset 16", "id -2");
    expect_field_refused(20, 1, 4, "offset 20", "expected 0");
    expect_field_refused(24, 0, 8, "empty", "0 tokens");
    expect_field_refused(24, 2, 8, "too long", "offset 132");
    expect_field_refused(24, 4, 8, "truncated", "4 tokens");
    expect_field_refused(24, UINT64_MAX, 8, "truncated", "18446744073709551615 tokens");
    expect_field_refused(24, ((uint64_t)1 << 63) + 3, 8, "truncated", "tokens");
    expect_field_refused(32, (uint64_t)1 << 63, 8, "offset 32", "negative");
    for (size_t i = 40; i < 64; i++) {
        char where[32];
        snprintf(where, sizeof where, "offset %zu", i);
        expect_field_refused(i, 255, 1, where, "0xff, expected 0");
    }
    expect_field_refused(132, 50257, 2, "id 50257 of token 2", "offset 132");
}

static void test_refuses_any_damage(void **state) {
    (void)state;
    uint8_t data[256] = {0};
    assert_int_equal(mezzo_tokens_write(ctx, path, some_ids, 3, 50257, 50256, 5), MEZZO_OK);
    size_t size = read_bytes(data, sizeof data);
    for (size_t n = 4; n < size; n++) {
        write_bytes(data, n);
        expect_refused(0, "truncated", "");
    }
    write_bytes(data, size + 1);
    expect_refused(0, "too long", "offset 134");
    for (size_t bit = 4 * 8; bit < size * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_bytes(data, size);
        expect_refused(0, "/tokens'", "");
        if (bit / 8 >= 64)
            expect_error(MEZZO_DATA, "damaged", "digest");
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    write_bytes(data, size);
    expect_refused(50256, "vocabulary of 50257 ids", "50256 are expected");
    mezzo_tokens_destroy(open_good(50257));
}

static void test_from_memory(void **state) {
    (void)state;
    int32_t ids[] = {3, 1, 4, 1, 5};
    mezzo_tokens *tokens;
    assert_int_equal(mezzo_tokens_from_memory(&tokens, ctx, ids, 5, 0, 4, 9), MEZZO_OK);
    ids[0] = 0; /* they were copied */
    expect_info(tokens, (mezzo_tokens_info){5, 6, 4, 9, "memory"});
    assert_int_equal(mezzo_tokens_at(tokens, 0), 3);
    assert_int_equal(mezzo_tokens_at(tokens, 4), 5);
    mezzo_tokens_destroy(tokens);
    mezzo_tokens_destroy(NULL);
}

/* The same arguments are refused by both calls that take ids. */
static void test_refuses_bad_arguments(void **state) {
    (void)state;
    static const struct {
        int32_t ids[3];
        int64_t count;
        int32_t vocab, end_of_text;
        int64_t text_bytes;
        const char *text;
    } bad[] = {
        {{0, 1, 2}, 0, 3, -1, 0, "0 tokens"},
        {{0, 1, 2}, -1, 3, -1, 0, "-1 tokens"},
        {{0, 1, 2}, INT64_MAX, 3, -1, 0, "tokens; give 1 to"},
        {{0, 1, 3}, 3, 3, -1, 0, "token 2 is id 3, expected 0 to 2"},
        {{0, -1, 2}, 3, 0, -1, 0, "token 1 is id -1"},
        {{0, INT32_MAX, 2}, 3, 0, -1, 0, "token 1 is id 2147483647"},
        {{0, 1, 2}, 3, -3, -1, 0, "-3 ids"},
        {{0, 1, 2}, 3, 3, 3, 0, "id 3, and the vocabulary has 3"},
        {{0, 1, 2}, 3, 0, 3, 0, "id 3, and the vocabulary has 3"},
        {{0, 1, 2}, 3, 3, -2, 0, "id -2"},
        {{0, 1, 2}, 3, 3, -1, -1, "-1 bytes"},
    };
    mezzo_tokens *tokens = (mezzo_tokens *)&ctx;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mezzo_tokens_from_memory(&tokens, ctx, bad[i].ids, bad[i].count,
                                                  bad[i].vocab, bad[i].end_of_text,
                                                  bad[i].text_bytes),
                         MEZZO_INVALID_ARGUMENT);
        expect_error(MEZZO_INVALID_ARGUMENT, bad[i].text, "");
        assert_int_equal(mezzo_tokens_write(ctx, path, bad[i].ids, bad[i].count, bad[i].vocab,
                                            bad[i].end_of_text, bad[i].text_bytes),
                         MEZZO_INVALID_ARGUMENT);
        expect_error(MEZZO_INVALID_ARGUMENT, bad[i].text, "");
        assert_int_equal(access(path, F_OK), -1);
    }
    assert_int_equal(mezzo_tokens_from_memory(&tokens, ctx, NULL, 1, 1, -1, 0),
                     MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_tokens_write(ctx, NULL, some_ids, 1, 0, -1, 0), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, 0, 5, 1), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, 5, 0, 1), MEZZO_INVALID_ARGUMENT);
    assert_ptr_equal(tokens, &ctx);
}

/* From a second implementation of Philox4x32-10 and of the mapping, in Python. */
static void test_random_tokens_are_pinned(void **state) {
    (void)state;
    static const int32_t first[] = {42522, 48952, 33494, 41118, 27026, 36540, 24290, 25143, 38832};
    static const int32_t far[] = {45972, 4677, 24870}, bytes[] = {190, 94, 144, 205};
    mezzo_tokens *tokens;
    uint64_t before = mezzo_ctx_memory(ctx).bytes_used;
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, (int64_t)1 << 60, 50257, 42), MEZZO_OK);
    assert_true(mezzo_ctx_memory(ctx).bytes_used - before < 4096);
    expect_info(tokens, (mezzo_tokens_info){(int64_t)1 << 60, 50257, -1, 0, "random"});
    expect_ids(tokens, first, 9);
    for (int i = 0; i < 3; i++)
        assert_int_equal(mezzo_tokens_at(tokens, 1000000000000 + i), far[i]);
    for (int64_t from = 0; from < 9; from++) { /* a copy may start and end anywhere in a block */
        int32_t copy[9];
        mzi_tokens_copy(tokens, from, 9 - from, copy);
        assert_memory_equal(copy, first + from, (size_t)(9 - from) * sizeof *copy);
    }
    mezzo_tokens_destroy(tokens);
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, 4, 256, ((uint64_t)1 << 40) + 7), MEZZO_OK);
    expect_ids(tokens, bytes, 4);
    mezzo_tokens_destroy(tokens);
}

/* 4,096 draws for each of 16 ids: a count has a standard deviation of sqrt(65536 * 15) / 16 = 62;
 * six of them are passed once in 500 million. */
static void test_random_tokens_are_uniform(void **state) {
    (void)state;
    int64_t counts[16] = {0};
    mezzo_tokens *tokens;
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, 65536, 16, 1), MEZZO_OK);
    for (int64_t i = 0; i < 65536; i++)
        counts[mezzo_tokens_at(tokens, i)]++;
    for (int id = 0; id < 16; id++)
        assert_in_range(counts[id], 4096 - 372, 4096 + 372);
    mezzo_tokens_destroy(tokens);
}

static int64_t split_of(const mezzo_tokens *tokens, double fraction, int64_t least) {
    int64_t cut = -1;
    if (mezzo_tokens_split(tokens, fraction, least, &cut) != MEZZO_OK)
        assert_int_equal(cut, -1);
    return cut;
}

static void test_split_by_position(void **state) {
    (void)state;
    mezzo_tokens *tokens;
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, 1000, 10, 1), MEZZO_OK);
    assert_int_equal(split_of(tokens, 0.1, 1), 900);
    assert_int_equal(split_of(tokens, 0.1, 100), 900);
    assert_int_equal(split_of(tokens, 0.1, 101), -1);
    expect_error(MEZZO_DATA, "900 to train and 100 to validate", "at least 101");
    assert_int_equal(split_of(tokens, 0.9, 100), 100);
    assert_int_equal(split_of(tokens, 0.9, 101), -1);
    expect_error(MEZZO_DATA, "100 to train and 900 to validate", "at least 101");
    assert_int_equal(split_of(tokens, 0.0004, 1), -1);
    assert_int_equal(split_of(tokens, 0.0006, 1), 999);
    assert_int_equal(split_of(tokens, 0.9996, 1), -1);
    static const double bad[] = {0.0, 1.0, -0.5, 2.0, 0.0 / 0.0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(split_of(tokens, bad[i], 1), -1);
        expect_error(MEZZO_INVALID_ARGUMENT, "above 0 and below 1", "");
    }
    assert_int_equal(split_of(tokens, 0.5, 0), -1);
    assert_int_equal(mezzo_tokens_split(tokens, 0.5, 1, NULL), MEZZO_INVALID_ARGUMENT);
    mezzo_tokens_destroy(tokens);
    assert_int_equal(mezzo_tokens_random(&tokens, ctx, INT64_MAX, 10, 1), MEZZO_OK);
    assert_int_equal(split_of(tokens, 0.5, 1), INT64_MAX - ((int64_t)1 << 62));
    assert_int_equal(split_of(tokens, 1.0 - 0x1p-53, 1), 1023); /* 2^63 - 2^10 to validate */
    mezzo_tokens_destroy(tokens);
}

/* Twenty ids, 9 behind each document: they start at 0, 6, 12 and 13. */
static void test_split_moves_to_a_document(void **state) {
    (void)state;
    const int32_t ids[20] = {1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5, 9, 9, 1, 2, 3, 4, 5, 6, 7};
    /* by position: 20 - n of 20.  Behind 13 no document starts, and the last one is cut. */
    static const int cuts[20] = {-1, 6,  6,  6,  6,  6,  6,  12, 12, 12,
                                 12, 12, 12, 13, 14, 15, 16, 17, 18, 19};
    mezzo_tokens *tokens;
    assert_int_equal(mezzo_tokens_from_memory(&tokens, ctx, ids, 20, 10, 9, 0), MEZZO_OK);
    for (int at = 1; at < 20; at++)
        assert_int_equal(split_of(tokens, (20 - at) / 20.0, 1), cuts[at]);
    /* What the move leaves is what counts. */
    assert_int_equal(split_of(tokens, 13 / 20.0, 8), 12);
    assert_int_equal(split_of(tokens, 13 / 20.0, 9), -1);
    expect_error(MEZZO_DATA, "12 to train and 8 to validate", "at least 9");
    mezzo_tokens_destroy(tokens);
    /* The end of the last document starts none. */
    assert_int_equal(mezzo_tokens_from_memory(&tokens, ctx, ids, 12, 10, 9, 0), MEZZO_OK);
    assert_int_equal(split_of(tokens, 0.25, 1), 9);
    mezzo_tokens_destroy(tokens);
}

/* Whichever call fails, the old file stands whole or the new one does, and nothing else is left. */
static void test_survives_a_failing_file_system(void **state) {
    (void)state;
    const mezzo_tokens_info info = {SOME, 50257, -1, 0, ""};
    static const int codes[] = {ENOSPC, EIO};
    uint8_t old[256], new[256], found[256];
    char tmp[310];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    assert_int_equal(mezzo_tokens_write(ctx, path, some_ids, SOME, 50257, -1, 0), MEZZO_OK);
    size_t new_size = read_bytes(new, sizeof new);
    for (size_t c = 0; c < 2; c++) {
        bool done = false;
        int failures = 0;
        for (int nth = 0; !done; nth++, failures += !done) {
            assert_int_equal(mezzo_tokens_write(ctx, path, some_ids, 2, 60000, -1, 0), MEZZO_OK);
            size_t old_size = read_bytes(old, sizeof old);
            failing_fs f = {.calls_left = nth, .code = codes[c], .write_max = 50};
            mzi_fs fs = failing_fs_table(&f);
            mezzo_status status = mzi_tokens_write(ctx, &fs, path, some_ids, &info);
            done = f.calls_left >= 0;
            assert_int_equal(status, done ? MEZZO_OK : MEZZO_IO);
            size_t size = read_bytes(found, sizeof found);
            assert_int_equal(size, f.renamed ? new_size : old_size);
            assert_memory_equal(found, f.renamed ? new : old, size);
            assert_int_equal(access(tmp, F_OK), -1);
        }
        assert_true(failures >= 9); /* unlink, open, 4 writes, fsync, close, open, rename ... */
    }
}

static mezzo_status use_all(mezzo_ctx *own) {
    const int32_t ids[] = {1, 2, 3};
    mezzo_tokens *copied = NULL, *random = NULL, *opened = NULL;
    mezzo_status status = mezzo_tokens_write(own, path, ids, 3, 0, -1, 0);
    if (status == MEZZO_OK)
        status = mezzo_tokens_from_memory(&copied, own, ids, 3, 0, -1, 0);
    if (status == MEZZO_OK)
        status = mezzo_tokens_random(&random, own, 3, 5, 1);
    if (status == MEZZO_OK)
        status = mezzo_tokens_open(&opened, own, path, 0);
    mezzo_tokens_destroy(copied);
    mezzo_tokens_destroy(random);
    mezzo_tokens_destroy(opened);
    return status;
}
static void test_survives_failed_allocations(void **state) {
    (void)state;
    assert_int_equal(failing_alloc_sweep(use_all), 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_reads_llmc),
        TEST(test_refuses_damaged_llmc),
        TEST(test_refuses_other_magics),
        TEST(test_reads_nanogpt),
        TEST(test_refuses_missing_and_odd_files),
        TEST(test_own_format_round_trip),
        TEST(test_own_format_bytes),
        TEST(test_refuses_wrong_fields),
        TEST(test_refuses_any_damage),
        TEST(test_from_memory),
        TEST(test_refuses_bad_arguments),
        TEST(test_random_tokens_are_pinned),
        TEST(test_random_tokens_are_uniform),
        TEST(test_split_by_position),
        TEST(test_split_moves_to_a_document),
        TEST(test_survives_a_failing_file_system),
        TEST(test_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
