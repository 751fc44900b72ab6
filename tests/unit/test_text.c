/* A text is read as it is, or refused with the place of the first byte that is none. */
#include <zlib.h>

#include "mezzo/tokens.h"
#include "unit/failing_alloc.h"
#include "unit/fixture.h"

static char path[300];

static int begin(void **state) {
    int code = fixture_begin(state);
    snprintf(path, sizeof path, "%s/text", folder);
    return code;
}

static void write_bytes(const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Returns the size of the file. */
static size_t write_gzip(const void *data, size_t bytes) {
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    if (bytes > 0)
        assert_int_equal(gzwrite(file, data, (unsigned)bytes), bytes);
    assert_int_equal(gzclose(file), Z_OK);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return (size_t)info.st_size;
}

static void expect_text(const char *want, size_t want_bytes) {
    char *text = NULL;
    size_t bytes = 0;
    if (mezzo_text_read(ctx, path, &text, &bytes) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    assert_int_equal(bytes, want_bytes);
    assert_memory_equal(text, want, want_bytes);
    assert_int_equal(text[bytes], '\0');
    mezzo_text_release(ctx, text, bytes);
}

static void expect_refused(const char *what, const char *more) {
    char *text = (char *)&ctx;
    size_t bytes = 12345;
    assert_int_equal(mezzo_text_read(ctx, path, &text, &bytes), MEZZO_DATA);
    assert_ptr_equal(text, &ctx);
    assert_int_equal(bytes, 12345);
    const char *message = mezzo_ctx_error(ctx)->text;
    if (!strstr(message, "/text'") || !strstr(message, what) || !strstr(message, more))
        fail_msg("'%s' lacks '%s' or '%s'", message, what, more);
}

static void test_reads_plain_and_gzip(void **state) {
    (void)state;
    static char text[100000]; /* of more than one part of the reader's buffers */
    static const size_t sizes[] = {1, 2, 16383, 16384, 16385, 65536, 65537, sizeof text};
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i * i % 26);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        write_bytes(text, sizes[i]);
        expect_text(text, sizes[i]);
        write_gzip(text, sizes[i]);
        expect_text(text, sizes[i]);
    }
    static const char odd[] = "\xef\xbb\xbf"
                              "a\0b\0\0\r\n\x01\xf4\x8f\xbf\xbf\xed\x9f\xbf\0";
    write_bytes(odd, sizeof odd);
    expect_text(odd, sizeof odd);
}

/* The boundaries of RFC 3629: for each lead byte what may follow, and every sequence cut off. */
static void test_names_the_first_byte_that_is_no_utf8(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2 ",
        "\xe0\x9f\xbf",
        "\xe1\x80",
        "\xe1\x80 ",
        "\xed\xa0\x80",
        "\xef\xbf",
        "\xf0\x8f\xbf",
        "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80",
        "\xf1\x80\x80",
        "\xf1\x80\x80 ",
        "\xf5\x80\x80\x80",
        "\xff",
        "\xfe",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int behind = 0; behind < 2; behind++) {
            /* "ä" and a NUL in front: offset 3. */
            char data[32] = "\xc3\xa4\0", where[32];
            size_t bytes = strlen(bad[i]);
            memcpy(data + 3, bad[i], bytes);
            memcpy(data + 3 + bytes, "x", 2);
            snprintf(where, sizeof where, "byte 0x%02x", (uint8_t)bad[i][0]);
            write_bytes(data, 3 + bytes + (size_t)behind);
            expect_refused("offset 3:", where);
            write_gzip(data, 3 + bytes + (size_t)behind);
            expect_refused("offset 3:", where);
        }
    write_bytes("\xc3\0\xa4", 3); /* a NUL inside a character */
    expect_refused("offset 0:", "byte 0xc3");
}

static void test_refuses_missing_empty_and_odd_files(void **state) {
    (void)state;
    char *text;
    size_t bytes;
    expect_refused("cannot open", "No such file");
    write_bytes("", 0);
    expect_refused("is empty", "");
    write_gzip("", 0);
    expect_refused("is empty", "");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused("no regular file", "");
    assert_int_equal(mezzo_text_read(ctx, NULL, &text, &bytes), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_text_read(ctx, path, NULL, &bytes), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_text_read(ctx, path, &text, NULL), MEZZO_INVALID_ARGUMENT);
    mezzo_text_release(ctx, NULL, 0);
}

static void test_refuses_damaged_gzip(void **state) {
    (void)state;
    uint8_t packed[256];
    size_t size = write_gzip("In the beginning", 16);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(packed, 1, sizeof packed, file), size);
    assert_int_equal(fclose(file), 0);
    for (size_t n = 2; n < size; n++) {
        write_bytes(packed, n);
        expect_refused("truncated", "gzip");
    }
    packed[size - 5] ^= 1; /* the last byte of the checksum */
    write_bytes(packed, size);
    expect_refused("damaged", "data check");
    packed[size - 5] ^= 1;
    write_bytes(packed, size);
    expect_text("In the beginning", 16);
}

/* Changes the file when memory for its text is taken: between the first look at it and reading. */
typedef struct meddler {
    size_t text_bytes;
    const char *replacement;
} meddler;
static void *meddle(void *user, size_t bytes, size_t align) {
    const meddler *m = user;
    if (bytes == m->text_bytes + 1)
        write_bytes(m->replacement, strlen(m->replacement));
    return failing_alloc_take(&(failing_alloc){.calls_left = INT32_MAX}, bytes, align);
}
static void test_notices_a_file_that_changes(void **state) {
    (void)state;
    static const char *const others[] = {"In the en", "In the end", "In the end.", "", "\x1f\x8b"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        meddler m = {10, others[i]};
        mezzo_ctx_config config = {.threads = 1, .allocator = {meddle, failing_alloc_return, &m}};
        mezzo_ctx *own;
        char *text = NULL;
        size_t bytes = 0;
        assert_int_equal(mezzo_ctx_create(&own, &config, NULL), MEZZO_OK);
        write_gzip("In the sea", 10);
        mezzo_status status = mezzo_text_read(own, path, &text, &bytes);
        assert_int_equal(status, i == 1 ? MEZZO_OK : MEZZO_DATA);
        if (i != 1 && i != 4)
            assert_non_null(strstr(mezzo_ctx_error(own)->text, "changed while it was read"));
        mezzo_text_release(own, text, bytes);
        mezzo_ctx_destroy(own);
    }
}

static mezzo_status read_it(mezzo_ctx *own) {
    char *text = NULL;
    size_t bytes = 0;
    mezzo_status status = mezzo_text_read(own, path, &text, &bytes);
    mezzo_text_release(own, text, bytes);
    return status;
}
static void test_survives_failed_allocations(void **state) {
    (void)state;
    write_bytes("plain", 5);
    assert_int_equal(failing_alloc_sweep(read_it), 3); /* two readers and the text */
    write_gzip("packed", 6);
    assert_true(failing_alloc_sweep(read_it) > 3); /* and zlib's own */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, fixture_end)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_reads_plain_and_gzip),
        TEST(test_names_the_first_byte_that_is_no_utf8),
        TEST(test_refuses_missing_empty_and_odd_files),
        TEST(test_refuses_damaged_gzip),
        TEST(test_notices_a_file_that_changes),
        TEST(test_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
