/* What doctor says holds together, as text and as JSON. */
#include <jansson.h>
#include <string.h>

#include "base/ctx.h"
#include "mezzo/run.h"
#include "unit/cmocka_all.h"

static json_t *examine(const mezzo_ctx_config *config, char text[8192]) {
    mezzo_ctx *ctx;
    assert_int_equal(mezzo_ctx_create(&ctx, config, NULL), MEZZO_OK);
    uint64_t held = mezzo_ctx_memory(ctx).bytes_used;
    char *out;
    assert_int_equal(mezzo_doctor(ctx, false, &out), MEZZO_OK);
    assert_true(strlen(out) < 8192);
    memcpy(text, out, strlen(out) + 1);
    mzi_free_text(ctx, out);
    assert_int_equal(mezzo_doctor(ctx, true, &out), MEZZO_OK);
    assert_null(strchr(out, '\n'));
    json_t *json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
    mzi_free_text(ctx, out);
    assert_int_equal(mezzo_ctx_memory(ctx).bytes_used, held);
    mezzo_ctx_destroy(ctx);
    assert_non_null(json);
    return json;
}

static const json_t *at(const json_t *json, const char *section, const char *key) {
    const json_t *value = json_object_get(json_object_get(json, section), key);
    assert_non_null(value);
    return value;
}

/* Every warning of the JSON stands in the text, and `part` in one of them if it is `expected`. */
static void check_warnings(const json_t *json, const char *text, const char *part, bool expected) {
    const json_t *warnings = json_object_get(json, "warnings");
    assert_true(json_is_array(warnings));
    bool found = false;
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        const char *warning = json_string_value(json_array_get(warnings, i));
        assert_non_null(strstr(text, warning));
        found = found || strstr(warning, part);
    }
    assert_int_equal(found, expected);
    assert_int_equal(strstr(text, "Nothing to mend") != NULL, json_array_size(warnings) == 0);
}

static void test_this_machine(void **state) {
    (void)state;
    char text[8192];
    json_t *json = examine(NULL, text);
    assert_int_equal(json_integer_value(at(json, "cpu", "cpus")), mzi_cpu_count());
    assert_true(json_integer_value(at(json, "memory", "available_bytes")) > 0);
    assert_string_equal(json_string_value(at(json, "cpu", "isa")), mezzo_isa_name(mzi_cpu_isa()));
    assert_string_equal(json_string_value(at(json, "build", "mezzo")), mezzo_version());
    const char *recommended = json_string_value(at(json, "precision", "recommended"));
    bool bf16 = json_is_true(at(json, "precision", "bf16_native"));
    assert_string_equal(recommended, bf16 ? "bf16" : "fp32");
    check_warnings(json, text, "get in each other's way", false);
    check_warnings(json, text, "slower than fp32", !bf16);
    json_decref(json);
}

static void test_too_many_threads(void **state) {
    (void)state;
    char text[8192];
    const mezzo_ctx_config config = {.threads = mzi_cpu_count() + 1};
    json_t *json = examine(&config, text);
    check_warnings(json, text, "get in each other's way", true);
    json_decref(json);
}

static void test_a_lower_instruction_set(void **state) {
    (void)state;
    char text[8192];
    const mezzo_ctx_config config = {.threads = 1, .isa = MEZZO_ISA_REF};
    json_t *json = examine(&config, text);
    assert_string_equal(json_string_value(at(json, "cpu", "isa")), "ref");
    assert_string_equal(json_string_value(at(json, "precision", "recommended")), "fp32");
    check_warnings(json, text, "held to ref", mzi_cpu_isa() > MEZZO_ISA_REF);
    check_warnings(json, text, "slower than fp32", true);
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_this_machine),
        cmocka_unit_test(test_too_many_threads),
        cmocka_unit_test(test_a_lower_instruction_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
