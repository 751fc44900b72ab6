/* Files equal to the reference's byte for byte; every kind of bad file refused; a save that fails
 * at any call leaves the old file. */
#include <fcntl.h>

#include "base/rng.h"
#include "checkpoint/safetensors_format.h"
#include "checkpoint/weights.h"
#include "num/split.h"
#include "unit/failing_fs.h"
#include "unit/fixture.h"

static char path[320];

static int begin(void **state) {
    int code = fixture_begin(state);
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    return code;
}
static int find_temporary(const char *name, const struct stat *info, int kind, struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, ".tmp") == 0;
}
static int end(void **state) {
    bool left = nftw(folder, find_temporary, 16, FTW_PHYS) != 0;
    int code = fixture_end(state);
    return left ? -1 : code;
}

static size_t read_bytes(const char *name, uint8_t *out, size_t capacity) {
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    size_t bytes = fread(out, 1, capacity, file);
    fclose(file);
    return bytes;
}
/* In place: some file systems write a file that is truncated and filled again to the disk at once,
 * and thousands follow here. */
static void write_bytes(const void *data, size_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, bytes, 0), bytes);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    close(fd);
}

/* As in tests/data/make_golden_safetensors.py: byte i of tensor k is (37 k + 11 i) mod 256. */
#define GOLDEN_COUNT 13
static uint8_t golden_data[GOLDEN_COUNT][64];
static mezzo_safetensors_item golden[GOLDEN_COUNT] = {
    {"fc.weight", MEZZO_BF16, {2, {3, 4}}, golden_data[0]},
    {"fc.bias", MEZZO_F32, {1, {3}}, golden_data[1]},
    {"a scalar", MEZZO_F64, {0, {0}}, golden_data[2]},
    {"no elements", MEZZO_F32, {2, {0, 4}}, NULL},
    {"half", MEZZO_F16, {6, {1, 2, 1, 2, 1, 1}}, golden_data[4]},
    {"labels", MEZZO_I32, {1, {2}}, golden_data[5]},
    {"pixels", MEZZO_U8, {1, {5}}, golden_data[6]},
    {"odd \"name\" \\ \n\t\x01\x7f/ \u00e9\u20ac\U0001f600", MEZZO_U8, {1, {1}}, golden_data[7]},
    {"B", MEZZO_BF16, {1, {1}}, golden_data[8]},
    {"Z", MEZZO_F32, {1, {1}}, golden_data[9]},
    {"eight", MEZZO_F8_E4M3, {2, {3, 2}}, golden_data[10]},
    {"eight 2", MEZZO_F8_E5M2, {1, {7}}, golden_data[11]},
    {"Eight", MEZZO_F8_E4M3, {1, {1}}, golden_data[12]},
};
static void fill_golden(void) {
    for (size_t k = 0; k < GOLDEN_COUNT; k++)
        for (size_t i = 0; i < sizeof golden_data[k]; i++)
            golden_data[k][i] = (uint8_t)(37 * k + 11 * i);
}
static size_t read_golden(uint8_t *out, size_t capacity) {
    const char *root = getenv("MEZZO_SOURCE_DIR");
    char file[512];
    snprintf(file, sizeof file, "%s/tests/data/golden.safetensors", root ? root : ".");
    return read_bytes(file, out, capacity);
}

static void test_writes_the_bytes_of_the_reference(void **state) {
    (void)state;
    fill_golden();
    uint8_t want[2048], got[2048];
    size_t want_bytes = read_golden(want, sizeof want);
    assert_int_equal(mezzo_safetensors_write(ctx, path, golden, GOLDEN_COUNT, NULL, 0), MEZZO_OK);
    assert_int_equal(read_bytes(path, got, sizeof got), want_bytes);
    assert_memory_equal(got, want, want_bytes);
    /* The order of the items changes nothing. */
    mezzo_safetensors_item reversed[GOLDEN_COUNT];
    for (int i = 0; i < GOLDEN_COUNT; i++)
        reversed[i] = golden[GOLDEN_COUNT - 1 - i];
    const mezzo_safetensors_note note = {"format", "pt"};
    assert_int_equal(mezzo_safetensors_write(ctx, path, reversed, GOLDEN_COUNT, &note, 1),
                     MEZZO_OK);
    assert_int_equal(read_bytes(path, got, sizeof got), want_bytes);
    assert_memory_equal(got, want, want_bytes);
}

static void test_reads_what_it_wrote(void **state) {
    (void)state;
    fill_golden();
    const mezzo_safetensors_note notes[] = {{"z", "\"\n\u00e9"}, {"a", ""}, {"", "empty key"}};
    assert_int_equal(mezzo_safetensors_write(ctx, path, golden, GOLDEN_COUNT, notes, 3), MEZZO_OK);
    mezzo_safetensors *file;
    assert_int_equal(mezzo_safetensors_open(&file, ctx, path), MEZZO_OK);
    assert_int_equal(mezzo_safetensors_count(file), GOLDEN_COUNT);
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        int index = mezzo_safetensors_find(file, golden[i].name);
        assert_in_range(index, 0, GOLDEN_COUNT - 1);
        mezzo_safetensors_item item = mezzo_safetensors_at(file, index);
        assert_string_equal(item.name, golden[i].name);
        assert_int_equal(item.dtype, golden[i].dtype);
        assert_true(mezzo_shape_equal(item.shape, golden[i].shape));
        size_t bytes = (size_t)mezzo_shape_count(item.shape) * mezzo_dtype_bytes(item.dtype);
        if (bytes > 0)
            assert_memory_equal(item.data, golden[i].data, bytes);
        assert_int_equal((uintptr_t)item.data % mezzo_dtype_bytes(item.dtype), 0);
    }
    assert_int_equal(mezzo_safetensors_find(file, "no such"), -1);
    assert_null(mezzo_safetensors_at(file, GOLDEN_COUNT).name);
    assert_null(mezzo_safetensors_at(file, -1).name);
    assert_string_equal(mezzo_safetensors_note_value(file, "format"), "pt");
    assert_string_equal(mezzo_safetensors_note_value(file, "z"), "\"\n\u00e9");
    assert_string_equal(mezzo_safetensors_note_value(file, "a"), "");
    assert_string_equal(mezzo_safetensors_note_value(file, ""), "empty key");
    assert_null(mezzo_safetensors_note_value(file, "b"));
    mezzo_safetensors_close(file);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void test_no_tensors(void **state) {
    (void)state;
    assert_int_equal(mezzo_safetensors_write(ctx, path, NULL, 0, NULL, 0), MEZZO_OK);
    mezzo_safetensors *file;
    assert_int_equal(mezzo_safetensors_open(&file, ctx, path), MEZZO_OK);
    assert_int_equal(mezzo_safetensors_count(file), 0);
    assert_int_equal(mezzo_safetensors_find(file, ""), -1);
    mezzo_safetensors_close(file);
    mezzo_safetensors_close(NULL);
}

static void test_refuses_bad_items(void **state) {
    (void)state;
    float x[4] = {0};
    const mezzo_safetensors_item good = {"a", MEZZO_F32, {1, {4}}, x};
    mezzo_safetensors_item bad[9];
    for (size_t i = 0; i < 9; i++)
        bad[i] = good;
    bad[0].name = NULL;
    bad[1].name = "\xff";
    bad[2].name = "__metadata__";
    bad[3].dtype = MEZZO_DTYPE_NONE;
    bad[4].shape.rank = 7;
    bad[5].shape.rank = -1;
    bad[6].shape.dim[0] = -4;
    bad[7].shape = (mezzo_shape){2, {INT64_MAX, 2}};
    bad[8].data = NULL;
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(mezzo_safetensors_write(ctx, path, &bad[i], 1, NULL, 0),
                         MEZZO_INVALID_ARGUMENT);
        assert_true(mezzo_ctx_error(ctx)->text[0] != '\0');
    }
    /* Twice the same name, of different types. */
    mezzo_safetensors_item twice[3] = {good, good, good};
    twice[1].name = "b";
    twice[2].dtype = MEZZO_U8;
    assert_int_equal(mezzo_safetensors_write(ctx, path, twice, 3, NULL, 0), MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "named \"a\""));
    const mezzo_safetensors_note notes[] = {{"k", "1"}, {"l", "2"}, {"k", "3"}};
    assert_int_equal(mezzo_safetensors_write(ctx, path, &good, 1, notes, 3),
                     MEZZO_INVALID_ARGUMENT);
    const mezzo_safetensors_note broken[] = {{"k", "\xc0\x80"}, {NULL, ""}, {"k", NULL}};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(mezzo_safetensors_write(ctx, path, &good, 1, &broken[i], 1),
                         MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_safetensors_write(ctx, path, &good, -1, NULL, 0),
                     MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_safetensors_write(ctx, path, NULL, 1, NULL, 0), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(access(path, F_OK), -1);
}

/* A header, the bytes of data behind it, and a part of the message; T(...) is a tensor "a". */
typedef struct bad_header {
    const char *header;
    size_t data_bytes;
    const char *text;
} bad_header;
#define T(dtype, shape, offsets)                                                                   \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define E(name, shape, offsets)                                                                    \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
static const bad_header bad_headers[] = {
    /* no object, or not one from end to end */
    {"", 8, "start with {"},
    {"{", 8, "start with {"},
    {"[]", 0, "start with {"},
    {"\"a\"", 0, "start with {"},
    {"12", 0, "start with {"},
    {" {}", 0, "start with {"},
    {"\xef\xbb\xbf{}", 0, "start with {"},
    {"{}\n", 0, "end with }"},
    {"{}\t", 0, "end with }"},
    {"{} x", 0, "end with }"},
    {"{}{}", 0, "not JSON"},
    {"{},{}", 0, "not JSON"},
    {"{}}", 0, "nested"},
    {"{{}", 0, "not JSON"},
    {"{{}}", 0, "not JSON"},
    {"{\"a\"}", 0, "not JSON"},
    {"{\"a\":}", 0, "not JSON"},
    {"{\"a\":1,}", 0, "not JSON"},
    {"{,}", 0, "not JSON"},
    {"{\"a:1}", 0, "not JSON"},
    {"{'a':1}", 0, "no place"},
    {"{a:1}", 0, "no place"},
    {"{/**/}", 0, "no place"},
    {"{\"\\x\":1}", 0, "not JSON"},
    {"{\"\\ud800\":1}", 0, "not JSON"},
    {"{\"\xff\":1}", 0, "not JSON"},
    {"{\"\xc0\xaf\":1}", 0, "not JSON"},
    {"{\"a\\u0000\":1}", 0, "not JSON"},
    {"{\"\x01\":1}", 0, "not JSON"},
    /* keys that come twice */
    {"{" E("a", "[1]", "[0,1]") "," E("a", "[1]", "[0,1]") "}", 1, "duplicate"},
    {"{" E("a", "[1]", "[0,1]") "," E("\\u0061", "[1]", "[1,2]") "}", 2, "duplicate"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
     "duplicate"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "duplicate"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate"},
    /* metadata */
    {"{\"__metadata__\":[]}", 0, "no object"},
    {"{\"__metadata__\":\"x\"}", 0, "no object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "no text"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "no text"},
    {"{\"__metadata__\":{\"a\":[\"x\"]}}", 0, "no text"},
    {"{\"__metadata__\":{\"a\":null}}", 0, "no place"},
    /* entries */
    {"{\"a\":1}", 0, "must have"},
    {"{\"a\":[]}", 0, "must have"},
    {"{\"a\":\"U8\"}", 0, "must have"},
    {"{\"a\":{}}", 0, "must have"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "must have"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "must have"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "must have"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1, "must have"},
    {"{\"a\":{\"dtype\":\"U8\",\"Shape\":[1],\"data_offsets\":[0,1]}}", 1, "must have"},
    {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "must have"},
    {"{\"a\":{\"dtype\":[\"U8\"],\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "must have"},
    /* types */
    {T("", "[1]", "[0,1]"), 1, "type \"\""},
    {T("u8", "[1]", "[0,1]"), 1, "type \"u8\""},
    {T("U8 ", "[1]", "[0,1]"), 1, "type \"U8 \""},
    {T("I8", "[1]", "[0,1]"), 1, "type \"I8\""},
    {T("BOOL", "[1]", "[0,1]"), 1, "type \"BOOL\""},
    {T("F8_E8M0", "[1]", "[0,1]"), 1, "type \"F8_E8M0\""},
    {T("I64", "[1]", "[0,8]"), 8, "type \"I64\""},
    {T("float32", "[1]", "[0,4]"), 4, "type \"float32\""},
    {T("\\u001b[31m", "[1]", "[0,1]"), 1, "type \"\\u001b[31m\""},
    /* shapes */
    {T("U8", "1", "[0,1]"), 1, "no list"},
    {T("U8", "{}", "[0,1]"), 1, "no list"},
    {T("U8", "\"[1]\"", "[0,1]"), 1, "no list"},
    {T("U8", "[1,1,1,1,1,1,1]", "[0,1]"), 1, "it has 7"},
    {T("U8", "[\"1\"]", "[0,1]"), 1, "dimension 0"},
    {T("U8", "[1,[1]]", "[0,1]"), 1, "nested"},
    {T("U8", "[-1]", "[0,1]"), 1, "no place"},
    {T("U8", "[-0]", "[0,0]"), 0, "no place"},
    {T("U8", "[1.0]", "[0,1]"), 1, "no place"},
    {T("U8", "[1e0]", "[0,1]"), 1, "no place"},
    {T("U8", "[01]", "[0,1]"), 1, "not JSON"},
    {T("U8", "[null]", "[0,1]"), 1, "no place"},
    {T("U8", "[true]", "[0,1]"), 1, "no place"},
    {T("U8", "[NaN]", "[0,1]"), 1, "no place"},
    {T("U8", "[1,]", "[0,1]"), 1, "not JSON"},
    {T("U8", "[9223372036854775808]", "[0,1]"), 1, "not JSON"},
    {T("U8", "[18446744073709551617]", "[0,1]"), 1, "not JSON"},
    {T("U8", "[9223372036854775807,2]", "[0,1]"), 1, "do not make"},
    {T("U8", "[4294967296,4294967296]", "[0,0]"), 0, "do not make"},
    {T("U8", "[4294967296,4294967296,0]", "[0,0]"), 0, "do not make"},
    {T("F64", "[2305843009213693952]", "[0,0]"), 0, "do not make"},
    {T("F32", "[4611686018427387905]", "[0,4]"), 4, "do not make"},
    {T("U8", "[2]", "[0,1]"), 1, "do not make"},
    {T("U8", "[0]", "[0,1]"), 1, "do not make"},
    {T("U8", "[]", "[0,0]"), 0, "do not make"},
    {T("F32", "[1]", "[0,3]"), 3, "do not make"},
    {T("F16", "[3]", "[0,3]"), 3, "do not make"},
    {T("BF16", "[2,2]", "[0,16]"), 16, "do not make"},
    /* offsets */
    {T("U8", "[1]", "[0]"), 1, "must have"},
    {T("U8", "[1]", "[0,1,2]"), 1, "must have"},
    {T("U8", "[1]", "[]"), 1, "must have"},
    {T("U8", "[1]", "1"), 1, "must have"},
    {T("U8", "[1]", "{\"0\":0,\"1\":1}"), 1, "must have"},
    {T("U8", "[1]", "[\"0\",1]"), 1, "must have"},
    {T("U8", "[1]", "[0,\"1\"]"), 1, "must have"},
    {T("U8", "[1]", "[-1,0]"), 1, "no place"},
    {T("U8", "[1]", "[0,1.0]"), 1, "no place"},
    {T("U8", "[1]", "[1,0]"), 1, "offsets 1 to 0"},
    {T("U8", "[1]", "[1,2]"), 1, "offsets 1 to 2"},
    {T("U8", "[2]", "[0,2]"), 1, "offsets 0 to 2"},
    {T("U8", "[1]", "[9223372036854775806,9223372036854775807]"), 1, "1 bytes of data"},
    {T("U8", "[0]", "[5,5]"), 1, "offsets 5 to 5"},
    /* holes, overlaps, bytes before or behind */
    {T("U8", "[1]", "[1,2]"), 2, "hole"},
    {T("U8", "[0]", "[1,1]"), 1, "hole"},
    {T("U8", "[1]", "[0,1]"), 2, "has 2 bytes"},
    {T("U8", "[0]", "[0,0]"), 1, "has 1 bytes"},
    {"{}", 1, "has 1 bytes"},
    {"{\"__metadata__\":{\"format\":\"pt\"}}", 4, "has 4 bytes"},
    {"{" E("a", "[1]", "[0,1]") "," E("b", "[1]", "[2,3]") "}", 3, "hole"},
    {"{" E("a", "[2]", "[0,2]") "," E("b", "[2]", "[1,3]") "}", 3, "overlap"},
    {"{" E("a", "[2]", "[0,2]") "," E("b", "[2]", "[0,2]") "}", 2, "overlap"},
    {"{" E("a", "[4]", "[0,4]") "," E("b", "[1]", "[1,2]") "}", 4, "overlap"},
    {"{" E("a", "[4]", "[0,4]") "," E("b", "[0]", "[2,2]") "}", 4, "overlap"},
    {"{" E("b", "[1]", "[0,1]") "," E("a", "[1]", "[1,2]") "}", 3, "has 3 bytes"},
    /* depth */
    {"{\"a\":{\"b\":{\"c\":{}}}}", 0, "nested"},
    {"{\"a\":[[[[]]]]}", 0, "nested"},
    {"{]}", 0, "nested"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1, "nested"},
};
#define BAD_HEADERS (sizeof bad_headers / sizeof bad_headers[0])

static void write_file(uint64_t announced, const void *header, size_t header_bytes,
                       size_t data_bytes) {
    uint8_t bytes[1024] = {0};
    assert_true(8 + header_bytes + data_bytes <= sizeof bytes);
    memcpy(bytes, &announced, 8);
    memcpy(bytes + 8, header, header_bytes);
    write_bytes(bytes, 8 + header_bytes + data_bytes);
}

static void expect_refused(const char *what, const char *text) {
    mezzo_safetensors *file = (mezzo_safetensors *)&ctx;
    mezzo_status status = mezzo_safetensors_open(&file, ctx, path);
    if (status != MEZZO_DATA || file != (mezzo_safetensors *)&ctx)
        fail_msg("%s: accepted, or not refused as data (%s)", what, mezzo_status_name(status));
    const char *message = mezzo_ctx_error(ctx)->text;
    if (!strstr(message, text) || !strstr(message, path))
        fail_msg("%s: the message '%s' lacks '%s' or the path", what, message, text);
}

static void test_refuses_bad_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < BAD_HEADERS; i++) {
        const char *header = bad_headers[i].header;
        size_t bytes = strlen(header);
        write_file(bytes, header, bytes, bad_headers[i].data_bytes);
        expect_refused(header, bad_headers[i].text);
    }
    assert_true(BAD_HEADERS >= 100);
}

static void test_accepts_odd_but_legal_headers(void **state) {
    (void)state;
    static const bad_header legal[] = {
        {"{}", 0, ""},
        {"{}      ", 0, ""},
        {"{ \"a\" : { \"data_offsets\" : [ 0 , 1 ] ,\n\t\"dtype\":\"U8\",\r\"shape\":[1]} }", 1,
         ""},
        {"{" E("b", "[1]", "[1,2]") "," E("a", "[1]", "[0,1]") "}", 2, ""},
        {"{" E("b", "[0]", "[1,1]") "," E("a", "[1]", "[0,1]") "," E("c", "[0,7]", "[0,0]") "}", 1,
         ""},
        {"{" E("a", "[0,9223372036854775807,9223372036854775807]", "[0,0]") "}", 0, ""},
        {"{" E("", "[]", "[0,1]") "}", 1, ""},
        {"{" E("a\\\"\\\\{[,-", "[1]", "[0,1]") "}", 1, ""},
        {"{" E("a", "[1]", "[0,1]") ",\"__metadata__\":{\"k\":\"-1.5e3 null {[\"}}", 1, ""},
    };
    for (size_t i = 0; i < sizeof legal / sizeof legal[0]; i++) {
        size_t bytes = strlen(legal[i].header);
        write_file(bytes, legal[i].header, bytes, legal[i].data_bytes);
        mezzo_safetensors *file;
        if (mezzo_safetensors_open(&file, ctx, path) != MEZZO_OK)
            fail_msg("%s: %s", legal[i].header, mezzo_ctx_error(ctx)->text);
        mezzo_safetensors_close(file);
    }
}

static void test_refuses_bad_lengths(void **state) {
    (void)state;
    static const char good[] = T("U8", "[1]", "[0,1]");
    const size_t bytes = sizeof good - 1;
    static const uint64_t announced[] = {0,         1,          100000001,     UINT32_MAX,
                                         INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof announced / sizeof announced[0]; i++) {
        write_file(announced[i], good, bytes, 1);
        expect_refused("a wrong length", i < 2 ? "start with {" : "header of");
    }
    write_file(bytes + 2, good, bytes, 1);
    expect_refused("a header longer than the file", "truncated");
    write_file(bytes + 1, good, bytes, 1); /* the data's NUL becomes part of the header */
    expect_refused("a header one too long", "end with }");
    write_file(bytes - 1, good, bytes, 1);
    expect_refused("a header one too short", "not JSON");
    for (size_t n = 0; n < 10; n++) {
        write_bytes("\2\0\0\0\0\0\0\0{}", n);
        expect_refused("a file without a header", "at least 10");
    }
    unlink(path);
    expect_refused("no file", "No such file");
    mezzo_safetensors *file;
    assert_int_equal(mezzo_safetensors_open(&file, ctx, folder), MEZZO_DATA);
    assert_int_equal(mezzo_safetensors_open(&file, ctx, NULL), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused("a FIFO", "no regular file");
}

/* 65,537 tensors without elements, and commas without end. */
static void test_refuses_too_many(void **state) {
    (void)state;
    enum {
        TENSORS = MZI_SAFETENSORS_COUNT_MAX + 1
    };
    const size_t capacity = (size_t)(TENSORS + 1) * 64;
    char *text = malloc(capacity);
    assert_non_null(text);
    for (int tensors = TENSORS; tensors >= TENSORS - 1; tensors--) {
        size_t used = 9;
        text[8] = '{';
        for (int i = 0; i < tensors; i++)
            used += mzi_format(text + used, 64, "%s" E("%d", "[0]", "[0,0]"), i ? "," : "", i);
        text[used++] = '}';
        uint64_t bytes = used - 8;
        memcpy(text, &bytes, 8);
        write_bytes(text, used);
        mezzo_safetensors *file;
        if (tensors == TENSORS) {
            expect_refused("65,537 tensors", "65537 tensors");
        } else {
            assert_int_equal(mezzo_safetensors_open(&file, ctx, path), MEZZO_OK);
            assert_int_equal(mezzo_safetensors_count(file), tensors);
            mezzo_safetensors_close(file);
        }
    }
    memset(text, ',', capacity);
    uint64_t bytes = capacity - 8;
    memcpy(text, &bytes, 8);
    text[8] = '{';
    text[capacity - 1] = '}';
    write_bytes(text, capacity);
    expect_refused("four million commas", "too many values");
    free(text);
}

/* Whatever the bytes are: refused, or every byte that is handed out can be read. */
static void try_to_read(void) {
    mezzo_safetensors *file;
    mezzo_status status = mezzo_safetensors_open(&file, ctx, path);
    if (status != MEZZO_OK) {
        assert_int_equal(status, MEZZO_DATA);
        return;
    }
    uint32_t sum = 0;
    for (int i = 0; i < mezzo_safetensors_count(file); i++) {
        mezzo_safetensors_item item = mezzo_safetensors_at(file, i);
        assert_int_equal(mezzo_safetensors_find(file, item.name), i);
        int64_t bytes = 0;
        assert_true(mzi_safetensors_bytes(&item.shape, item.dtype, &bytes));
        for (int64_t k = 0; k < bytes; k++)
            sum += ((const uint8_t *)item.data)[k];
    }
    assert_true(sum < UINT32_MAX);
    mezzo_safetensors_close(file);
}

static void test_random_mutations_never_crash(void **state) {
    (void)state;
    static const char pieces[] = "{}[]\",:0123456789\\ -.eaF\0\xff";
    uint8_t good[2048], bytes[2048];
    const size_t size = read_golden(good, sizeof good);
    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t r[4];
        mzi_rng4(r, 1, 0, round, 0);
        memcpy(bytes, good, size);
        size_t kept = r[0] % 8 == 0 ? r[1] % size : size;
        for (uint32_t m = 0; m < 1 + r[0] / 8 % 4; m++) {
            uint32_t q[4];
            mzi_rng4(q, 2, m, round, 0);
            size_t at = q[0] % (q[1] % 4 == 0 ? size : 700);
            bytes[at] = q[2] % 2 ? (uint8_t)pieces[q[3] % (sizeof pieces - 1)] : (uint8_t)q[3];
        }
        write_bytes(bytes, kept);
        try_to_read();
    }
}

/* Every bit of the header flipped alone: refused, or read as another name, note or shape. */
static void test_every_flipped_bit_of_the_header(void **state) {
    (void)state;
    uint8_t bytes[2048];
    const size_t size = read_golden(bytes, sizeof bytes);
    for (size_t bit = 0; bit < (size - 72) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_bytes(bytes, size);
        try_to_read();
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < size; n++) { /* and every truncation, all refused */
        write_bytes(bytes, n);
        expect_refused("a truncated file", "");
    }
}

static void test_failing_writes_leave_the_old_file(void **state) {
    (void)state;
    fill_golden();
    const float old_value = 1.0f;
    const mezzo_safetensors_item old = {"old", MEZZO_F32, {1, {1}}, &old_value};
    uint8_t before[2048], fresh[2048], now[2048];
    assert_int_equal(mezzo_safetensors_write(ctx, path, golden, GOLDEN_COUNT, NULL, 0), MEZZO_OK);
    size_t fresh_bytes = read_bytes(path, fresh, sizeof fresh);
    static const int codes[] = {EIO, ENOSPC};
    for (size_t c = 0; c < 2; c++) {
        bool done = false;
        int failures = 0;
        for (int nth = 0; !done; nth++) {
            failing_fs f;
            mzi_fs fs = patient_fs_table(&f);
            assert_int_equal(mzi_safetensors_write(ctx, &fs, path, &old, NULL, 1, NULL, 0),
                             MEZZO_OK);
            size_t before_bytes = read_bytes(path, before, sizeof before);
            f = (failing_fs){.calls_left = nth, .code = codes[c]};
            mzi_error_clear(ctx);
            mezzo_status status =
                mzi_safetensors_write(ctx, &fs, path, golden, NULL, GOLDEN_COUNT, NULL, 0);
            done = f.calls_left >= 0;
            failures += status != MEZZO_OK;
            if (status != MEZZO_OK) {
                assert_int_equal(status, MEZZO_IO);
                assert_non_null(strstr(mezzo_ctx_error(ctx)->text, folder));
            }
            size_t bytes = read_bytes(path, now, sizeof now);
            assert_int_equal(bytes, f.renamed ? fresh_bytes : before_bytes);
            assert_memory_equal(now, f.renamed ? fresh : before, bytes);
            assert_true(f.renamed || status != MEZZO_OK);
        }
        /* unlink, open, header and nine tensors, fsync, close, open, rename, fsync, close */
        assert_true(failures >= 17);
    }
}

static void test_short_writes_lose_nothing(void **state) {
    (void)state;
    fill_golden();
    failing_fs f = {.calls_left = INT32_MAX, .write_max = 7};
    mzi_fs fs = failing_fs_table(&f);
    assert_int_equal(mzi_safetensors_write(ctx, &fs, path, golden, NULL, GOLDEN_COUNT, NULL, 0),
                     MEZZO_OK);
    uint8_t want[2048], got[2048];
    size_t bytes = read_golden(want, sizeof want);
    assert_int_equal(read_bytes(path, got, sizeof got), bytes);
    assert_memory_equal(got, want, bytes);
    assert_true(f.calls > 100);
}

/* Weights of a small model; more values than one chunk of the rounding writer. */
#define WEIGHTS 3
#define LARGE 20000
typedef struct model {
    float fc[LARGE], bias[2], mean[3];
    mzi_weight weights[WEIGHTS];
} model;
static model *make_model(uint64_t seed) {
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (uint64_t i = 0; i < LARGE; i++) {
        uint32_t r[4];
        mzi_rng4(r, seed, 0, i, 0);
        m->fc[i] = mzi_uniform(r[0]) - 0.5f;
    }
    for (int i = 0; i < 2; i++)
        m->bias[i] = 1e-9f * (float)(i + (int)seed);
    for (int i = 0; i < 3; i++)
        m->mean[i] = 1.0f / (float)(i + (int)seed + 3);
    m->weights[0] = (mzi_weight){"fc.weight", {2, {4, LARGE / 4}}, MEZZO_BF16, m->fc};
    m->weights[1] = (mzi_weight){"fc.bias", {1, {2}}, MEZZO_F16, m->bias};
    m->weights[2] = (mzi_weight){"bn.mean", {1, {3}}, MEZZO_F32, m->mean};
    return m;
}
static mezzo_status save_model(const mzi_fs *fs, const model *m) {
    char into[300];
    snprintf(into, sizeof into, "%s/final", folder);
    const mezzo_safetensors_item moment = {"optimizer/fc.weight.m", MEZZO_F32, m->weights[0].shape,
                                           m->fc};
    const mzi_weights_info info = {.step = 938, .plan_hash = "c0ffee", .precision = MEZZO_BF16};
    mzi_error_clear(ctx);
    return mzi_weights_save(ctx, fs, into, m->weights, WEIGHTS, &moment, 1, NULL, &info);
}
static mezzo_status load_model(const char *name, const model *m, int count) {
    snprintf(path, sizeof path, "%s/final/%s", folder, name);
    return mzi_weights_load(ctx, path, m->weights, count, NULL);
}

static void test_saves_and_loads_weights(void **state) {
    (void)state;
    model *m = make_model(1), *back = make_model(2);
    assert_int_equal(save_model(&mzi_fs_real, m), MEZZO_OK);
    assert_int_equal(load_model(MZI_MASTERS_FILE, back, WEIGHTS), MEZZO_OK);
    assert_memory_equal(back->fc, m->fc, sizeof m->fc);
    assert_memory_equal(back->bias, m->bias, sizeof m->bias);
    assert_memory_equal(back->mean, m->mean, sizeof m->mean);
    assert_int_equal(load_model(MZI_MODEL_FILE, back, WEIGHTS), MEZZO_OK);
    for (int i = 0; i < LARGE; i++)
        assert_true(back->fc[i] == mzi_bf16_load(mzi_bf16_round_away(m->fc[i])));
    for (int i = 0; i < 2; i++)
        assert_true(back->bias[i] == mezzo_f16_to_f32(mezzo_f16_from_f32(m->bias[i])));
    assert_memory_equal(back->mean, m->mean, sizeof m->mean);
    mezzo_safetensors *file;
    assert_int_equal(mezzo_safetensors_open(&file, ctx, path), MEZZO_OK);
    assert_int_equal(mezzo_safetensors_count(file), WEIGHTS); /* no optimizer state here */
    assert_string_equal(mezzo_safetensors_note_value(file, "format"), "pt");
    assert_string_equal(mezzo_safetensors_note_value(file, "mezzo.step"), "938");
    assert_string_equal(mezzo_safetensors_note_value(file, "mezzo.plan_hash"), "c0ffee");
    assert_string_equal(mezzo_safetensors_note_value(file, "mezzo.precision"), "bf16");
    assert_string_equal(mezzo_safetensors_note_value(file, "mezzo.version"), mezzo_version());
    mezzo_safetensors_close(file);
    /* A moment is loaded like a weight, by its name. */
    mzi_weight moment = {"optimizer/fc.weight.m", m->weights[0].shape, MEZZO_F32, back->fc};
    mzi_weight all[WEIGHTS + 1] = {back->weights[0], back->weights[1], back->weights[2], moment};
    snprintf(path, sizeof path, "%s/final/%s", folder, MZI_MASTERS_FILE);
    assert_int_equal(mzi_weights_load(ctx, path, all, WEIGHTS + 1, NULL), MEZZO_OK);
    assert_memory_equal(back->fc, m->fc, sizeof m->fc);
    free(m);
    free(back);
}

static void test_loading_another_model_changes_nothing(void **state) {
    (void)state;
    model *m = make_model(1), *other = make_model(2), *same = make_model(2);
    assert_int_equal(save_model(&mzi_fs_real, m), MEZZO_OK);
    other->weights[2].name = "bn.variance";
    assert_int_equal(load_model(MZI_MASTERS_FILE, other, WEIGHTS), MEZZO_DATA);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "no tensor \"bn.variance\""));
    other->weights[2].name = "bn.mean";
    other->weights[2].shape = mezzo_shape2(1, 3);
    assert_int_equal(load_model(MZI_MASTERS_FILE, other, WEIGHTS), MEZZO_DATA);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "has shape [3], and the model's is [1,3]"));
    assert_int_equal(load_model(MZI_MASTERS_FILE, other, WEIGHTS - 1), MEZZO_DATA);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "has 3 tensors, and the model 2"));
    assert_memory_equal(other->fc, same->fc, sizeof same->fc);
    assert_memory_equal(other->bias, same->bias, sizeof same->bias);
    assert_memory_equal(other->mean, same->mean, sizeof same->mean);
    free(m);
    free(other);
    free(same);
}

static void test_failing_saves_leave_a_whole_model(void **state) {
    (void)state;
    model *old = make_model(1), *fresh = make_model(2), *back = make_model(3);
    bool done = false;
    int failures = 0;
    for (int nth = 0; !done; nth++) {
        failing_fs f;
        mzi_fs fs = patient_fs_table(&f);
        assert_int_equal(save_model(&fs, old), MEZZO_OK);
        f = (failing_fs){.calls_left = nth, .code = ENOSPC};
        mezzo_status status = save_model(&fs, fresh);
        done = f.calls_left >= 0;
        failures += status != MEZZO_OK;
        static const char *const files[] = {MZI_MASTERS_FILE, MZI_MODEL_FILE};
        for (int i = 0; i < 2; i++) {
            assert_int_equal(load_model(files[i], back, WEIGHTS), MEZZO_OK);
            assert_true(back->mean[0] == old->mean[0] || back->mean[0] == fresh->mean[0]);
            if (status == MEZZO_OK)
                assert_true(back->mean[0] == fresh->mean[0]);
        }
    }
    assert_true(failures >= 20);
    free(old);
    free(fresh);
    free(back);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_writes_the_bytes_of_the_reference),
        TEST(test_reads_what_it_wrote),
        TEST(test_no_tensors),
        TEST(test_refuses_bad_items),
        TEST(test_refuses_bad_headers),
        TEST(test_accepts_odd_but_legal_headers),
        TEST(test_refuses_bad_lengths),
        TEST(test_refuses_too_many),
        TEST(test_random_mutations_never_crash),
        TEST(test_every_flipped_bit_of_the_header),
        TEST(test_failing_writes_leave_the_old_file),
        TEST(test_short_writes_lose_nothing),
        TEST(test_saves_and_loads_weights),
        TEST(test_loading_another_model_changes_nothing),
        TEST(test_failing_saves_leave_a_whole_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
