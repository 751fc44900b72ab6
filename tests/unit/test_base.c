/* The context: creation, error messages, log, metric slots, digests. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/digest.h"
#include "unit/cmocka_all.h"

static mezzo_ctx *create(const mezzo_ctx_config *config) {
    mezzo_ctx *ctx = NULL;
    mezzo_error error;
    assert_int_equal(mezzo_ctx_create(&ctx, config, &error), MEZZO_OK);
    assert_int_equal(error.status, MEZZO_OK);
    return ctx;
}

static void refuses(const mezzo_ctx_config *config, mezzo_status status, const char *words) {
    mezzo_ctx *untouched = (mezzo_ctx *)(void *)&status;
    mezzo_ctx *out = untouched;
    mezzo_error error;
    assert_int_equal(mezzo_ctx_create(&out, config, &error), status);
    assert_ptr_equal(out, untouched);
    assert_int_equal(error.status, status);
    assert_non_null(strstr(error.text, words));
    assert_true(error.line > 0 && strlen(error.file) > 0);
    assert_int_equal(mezzo_ctx_create(&out, config, NULL), status);
}

static void test_names(void **state) {
    (void)state;
    assert_string_equal(mezzo_status_name(MEZZO_OK), "OK");
    assert_string_equal(mezzo_status_name(MEZZO_INTERRUPTED), "INTERRUPTED");
    assert_string_equal(mezzo_status_text(MEZZO_INTERRUPTED), "stopped on request");
    assert_string_equal(mezzo_status_name((mezzo_status)99), "UNKNOWN");
    assert_string_equal(mezzo_status_name((mezzo_status)-1), "UNKNOWN");
    assert_non_null(mezzo_status_text((mezzo_status)99));
    assert_string_equal(mezzo_isa_name(MEZZO_ISA_AVX512_BF16), "avx512_bf16");
    assert_string_equal(mezzo_isa_name(MEZZO_ISA_REF), "ref");
    assert_string_equal(mezzo_isa_name((mezzo_isa)99), "unknown");
    assert_string_equal(mezzo_version(), "0.1.0");
}

static void test_create_defaults(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(NULL);
    assert_int_equal(mezzo_ctx_isa(ctx), mzi_cpu_isa());
    assert_int_equal(mezzo_ctx_threads(ctx), mzi_cpu_count());
    assert_int_equal(mezzo_ctx_error(ctx)->status, MEZZO_OK);
    assert_string_equal(mezzo_ctx_error(ctx)->text, "");
    mezzo_ctx_destroy(ctx);
    mezzo_ctx_destroy(NULL);
}

static void test_create_validates(void **state) {
    (void)state;
    refuses(&(mezzo_ctx_config){.threads = -1}, MEZZO_INVALID_ARGUMENT, "-1");
    refuses(&(mezzo_ctx_config){.threads = 1025}, MEZZO_INVALID_ARGUMENT, "1025");
    refuses(&(mezzo_ctx_config){.isa = (mezzo_isa)17}, MEZZO_INVALID_ARGUMENT, "17");
    refuses(&(mezzo_ctx_config){.isa = (mezzo_isa)-1}, MEZZO_INVALID_ARGUMENT, "-1");
    mezzo_ctx_config half = {.allocator.free = (void (*)(void *, void *, size_t))1};
    refuses(&half, MEZZO_INVALID_ARGUMENT, "allocator");
    if (mzi_cpu_isa() < MEZZO_ISA_AVX512_BF16)
        refuses(&(mezzo_ctx_config){.isa = MEZZO_ISA_AVX512_BF16}, MEZZO_UNSUPPORTED,
                "avx512_bf16");
    mezzo_ctx *ctx = create(&(mezzo_ctx_config){.isa = MEZZO_ISA_REF, .threads = 3});
    assert_int_equal(mezzo_ctx_isa(ctx), MEZZO_ISA_REF);
    assert_int_equal(mezzo_ctx_threads(ctx), 3);
    mezzo_ctx_destroy(ctx);
}

static void test_error_first_stays(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(&(mezzo_ctx_config){.threads = 1});
    assert_int_equal(mzi_fail_at(ctx, "a.c", 7, MEZZO_DATA, "label %d of %d", 11, 10), MEZZO_DATA);
    assert_int_equal(mzi_fail_at(ctx, "b.c", 9, MEZZO_IO, "later"), MEZZO_IO);
    const mezzo_error *error = mezzo_ctx_error(ctx);
    assert_int_equal(error->status, MEZZO_DATA);
    assert_string_equal(error->text, "label 11 of 10");
    assert_string_equal(error->file, "a.c");
    assert_int_equal(error->line, 7);
    mzi_error_clear(ctx);
    assert_int_equal(error->status, MEZZO_OK);
    assert_int_equal(mzi_fail_at(ctx, "b.c", 9, MEZZO_IO, "the next call's"), MEZZO_IO);
    assert_string_equal(error->text, "the next call's");
    mezzo_ctx_destroy(ctx);
}

static void test_error_long_text(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(&(mezzo_ctx_config){.threads = 1});
    char longer[3000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    mzi_fail_at(ctx, "a.c", 1, MEZZO_IO, "%s", longer);
    assert_int_equal(strlen(mezzo_ctx_error(ctx)->text), sizeof ctx->error.text - 1);
    mezzo_ctx_destroy(ctx);
}

static mezzo_status forward(mezzo_ctx *ctx, int *reached) {
    MZI_TRY(MEZZO_OK);
    ++*reached;
    MZI_TRY(mzi_fail_at(ctx, "a.c", 1, MEZZO_BUSY, "taken"));
    ++*reached;
    return MEZZO_OK;
}

static void test_try_forwards(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(&(mezzo_ctx_config){.threads = 1});
    int reached = 0;
    assert_int_equal(forward(ctx, &reached), MEZZO_BUSY);
    assert_int_equal(reached, 1);
    mezzo_ctx_destroy(ctx);
}

typedef struct logged {
    int count;
    mezzo_log_level level;
    char text[64];
} logged;

static void keep_log(void *user, mezzo_log_level level, const char *text) {
    logged *l = user;
    l->count++;
    l->level = level;
    mzi_format(l->text, sizeof l->text, "%s", text);
}

static void test_log(void **state) {
    (void)state;
    logged l = {0, MEZZO_LOG_DEBUG, ""};
    mezzo_ctx *ctx = create(&(mezzo_ctx_config){.threads = 1, .log = keep_log, .log_user = &l});
    mzi_log(ctx, MEZZO_LOG_WARNING, "scale %g", 0.5);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.level, MEZZO_LOG_WARNING);
    assert_string_equal(l.text, "scale 0.5");
    mezzo_ctx_destroy(ctx);
    ctx = create(&(mezzo_ctx_config){.threads = 1});
    mzi_log(ctx, MEZZO_LOG_WARNING, "nobody listens");
    assert_int_equal(l.count, 1);
    mezzo_ctx_destroy(ctx);
}

static void test_format(void **state) {
    (void)state;
    char text[4] = "abc";
    assert_int_equal(mzi_format(text, sizeof text, "%d", 123456), 3);
    assert_string_equal(text, "123");
    assert_int_equal(mzi_format(text, sizeof text, "%d", 7), 1);
    assert_string_equal(text, "7");
    assert_int_equal(mzi_format(text, 0, "%d", 99), 0);
    assert_string_equal(text, "7");
}

#define ADDS 20000

static void *add_ones(void *arg) {
    for (int i = 0; i < ADDS; i++)
        mzi_metric_add(arg, MZI_METRIC_attempts, 1);
    return NULL;
}

static void test_metrics(void **state) {
    (void)state;
    mzi_metrics *metrics = calloc(1, sizeof *metrics);
    assert_non_null(metrics);
    mzi_metric_set(metrics, MZI_METRIC_loss, 2.5);
    assert_true(mzi_metric_get(metrics, MZI_METRIC_loss) == 2.5);
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, add_ones, metrics), 0);
    add_ones(metrics);
    pthread_join(other, NULL);
    assert_true(mzi_metric_get(metrics, MZI_METRIC_attempts) == 2.0 * ADDS);
    assert_string_equal(mzi_metric_infos[MZI_METRIC_step_ns].name, "step_ns");
    assert_string_equal(mzi_metric_infos[MZI_METRIC_step_ns].unit, "ns");
    assert_int_equal(mzi_metric_infos[MZI_METRIC_step].kind, MZI_COUNTER);
    free(metrics);
}

static void digest_of(const char *text, size_t bytes, char hex[MZI_DIGEST_HEX]) {
    mzi_digest digest;
    mzi_digest_init(&digest);
    mzi_digest_add(&digest, text, bytes);
    mzi_digest_end(&digest, hex);
}

/* The first two from `b2sum -l 256`. */
static void test_digest(void **state) {
    (void)state;
    char hex[MZI_DIGEST_HEX], other[MZI_DIGEST_HEX];
    digest_of("abc", 3, hex);
    assert_string_equal(hex, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
    digest_of("", 0, hex);
    assert_string_equal(hex, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    mzi_digest digest;
    mzi_digest_init(&digest);
    mzi_digest_add_text(&digest, "ab");
    mzi_digest_add_text(&digest, "c");
    mzi_digest_add_i64(&digest, -2);
    mzi_digest_add_f64(&digest, 1.0);
    mzi_digest_end(&digest, hex);
    digest_of("ab\0c\0\xfe\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\xf0\x3f", 21, other);
    assert_string_equal(hex, other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_create_defaults),
        cmocka_unit_test(test_create_validates),
        cmocka_unit_test(test_error_first_stays),
        cmocka_unit_test(test_error_long_text),
        cmocka_unit_test(test_try_forwards),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
