/* Warnings of too many threads. */
#include <string.h>

#include "cmocka_all.h"
#include "run/load.h"

static void expect(mzi_load load, bool threads, bool quota, bool others) {
    const bool want[MZI_LOAD_WARNINGS] = {threads, quota, others};
    for (int k = 0; k < MZI_LOAD_WARNINGS; k++) {
        char text[MZI_LOAD_TEXT];
        assert_int_equal(mzi_load_warning(&load, (mzi_load_kind)k, text), want[k]);
    }
}

static void test_warnings(void **state) {
    (void)state;
    mzi_load quiet = {4, 4, 4, UINT64_MAX, 0.3};
    expect(quiet, false, false, false);
    mzi_load crowded = quiet;
    crowded.threads = 5;
    expect(crowded, true, false, false);
    mzi_load busy = quiet;
    busy.average = 4.0;
    expect(busy, false, false, false);
    busy.average = 4.1;
    expect(busy, false, false, true);
    /* One CPU of four, by affinity, on a busy machine. */
    expect((mzi_load){1, 1, 4, UINT64_MAX, 3.9}, false, false, false);
}

static void test_quota(void **state) {
    (void)state;
    char text[MZI_LOAD_TEXT];
    mzi_load load = {2, 2, 4, 1500, 0};
    expect(load, false, true, false);
    assert_true(mzi_load_warning(&load, MZI_LOAD_QUOTA, text));
    assert_non_null(strstr(text, "1.50 CPUs"));
    assert_non_null(strstr(text, "train.threads to 1"));
    load.quota_milli = 2000;
    expect(load, false, false, false);
    /* Less than one CPU: fewer threads than one there are not. */
    expect((mzi_load){1, 1, 4, 500, 0}, false, false, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_warnings),
                                       cmocka_unit_test(test_quota)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
