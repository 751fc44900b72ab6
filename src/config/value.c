/* Scalars: from a text to what the schema says it is. */
#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/value.h"
#include "config/words.h"
#include "mezzo/number.h"

enum {
    EXPECTED_BYTES = 200
};

static const char *skip_digits(const char *text) {
    while (isdigit((unsigned char)*text))
        text++;
    return text;
}

/* [+-] (0 | 1..9 digits): "010" is 8 to some readers of YAML and 10 to others. */
static bool is_integer(const char *text) {
    text += *text == '-' || *text == '+';
    const char *end = skip_digits(text);
    return end > text && *end == '\0' && (text[0] != '0' || end == text + 1);
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before the e. */
static bool is_real(const char *text) {
    text += *text == '-' || *text == '+';
    const char *end = skip_digits(text);
    ptrdiff_t digits = end - text;
    if (*end == '.') {
        const char *fraction = end + 1;
        end = skip_digits(fraction);
        digits += end - fraction;
    }
    if (digits == 0)
        return false;
    if (*end == 'e' || *end == 'E') {
        const char *exponent = end + 1;
        exponent += *exponent == '-' || *exponent == '+';
        end = skip_digits(exponent);
        if (end == exponent)
            return false;
    }
    return *end == '\0';
}

/* strtod reads the decimal point of the process's locale, and a file has none. */
double mzi_real_parse(const char *text) {
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain)
        return strtod(text, NULL);
    double value = strtod_l(text, NULL, plain);
    freelocale(plain);
    return value;
}

static void describe(const mzi_scalar_rule *rule, char *out, size_t capacity) {
    int choices = (int)rule->choices.bytes;
    const char *words = rule->choices.text;
    switch (rule->type) {
    case MEZZO_CONFIG_INT:
    case MEZZO_CONFIG_INT_LIST:
        mzi_format(out, capacity, "an integer from %.17g to %.17g%s%.*s", rule->min, rule->max,
                   choices ? ", or " : "", choices, words);
        return;
    case MEZZO_CONFIG_REAL:
        mzi_format(out, capacity, "a number from %g to %.9g%s%.*s", rule->min, rule->max,
                   choices ? ", or " : "", choices, words);
        return;
    case MEZZO_CONFIG_BOOL:
        mzi_format(out, capacity, "true or false");
        return;
    case MEZZO_CONFIG_CHOICE:
        mzi_format(out, capacity, "%s%.*s",
                   memchr(words, '|', rule->choices.bytes) ? "one of " : "", choices, words);
        return;
    case MEZZO_CONFIG_TEXT:
    case MEZZO_CONFIG_RECORD_LIST:
        break;
    }
    mzi_format(out, capacity, "a text");
}

static bool choose(const mzi_scalar_rule *rule, const char *text, mzi_slice *chosen) {
    mzi_slice rest = rule->choices;
    while (mzi_slice_next(&rest, '|', chosen))
        if (mzi_slice_equal(*chosen, text))
            return true;
    return false;
}

/* An 8-bit format where a type to compute in is chosen. */
static bool names_storage_type(const mzi_scalar_rule *rule, const char *text) {
    mzi_slice word;
    mezzo_dtype dtype = mezzo_dtype_from_name(text);
    return (dtype == MEZZO_F8_E4M3 || dtype == MEZZO_F8_E5M2) &&
           choose(rule, mezzo_dtype_name(MEZZO_F32), &word);
}

static mezzo_status fail_value(const mzi_config_source *source, const mzi_scalar_rule *rule,
                               const mzi_yaml_node *node) {
    char expected[EXPECTED_BYTES];
    describe(rule, expected, sizeof expected);
    if (node->kind != MZI_YAML_SCALAR)
        MZI_CONFIG_FAIL(source, node->spot, "%s: expected %s, got a %s", rule->where, expected,
                        node->kind == MZI_YAML_LIST ? "list" : "map");
    if (node->plain && node->text[0] == '\0')
        MZI_CONFIG_FAIL(source, node->spot, "%s: expected %s, got nothing", rule->where, expected);
    const char *quote = node->plain ? "" : "the quoted text ";
    if (rule->type == MEZZO_CONFIG_CHOICE && names_storage_type(rule, node->text))
        MZI_CONFIG_FAIL(
            source, node->spot,
            "%s: expected %s, got \"%.60s\", which is only for storage: nothing computes in it",
            rule->where, expected, node->text);
    mzi_slice near = mzi_words_nearest(node->text, rule->choices);
    if (rule->type == MEZZO_CONFIG_CHOICE && near.bytes > 0)
        MZI_CONFIG_FAIL(source, node->spot,
                        "%s: expected %s, got %s\"%.60s\"; did you mean \"%.*s\"?", rule->where,
                        expected, quote, node->text, (int)near.bytes, near.text);
    MZI_CONFIG_FAIL(source, node->spot, "%s: expected %s, got %s\"%.60s\"", rule->where, expected,
                    quote, node->text);
}

static mezzo_status keep_text(const mzi_config_source *source, mzi_arena *arena, mzi_slice text,
                              mzi_scalar *out) {
    char *copy = mzi_arena_push(arena, text.bytes + 1);
    if (!copy)
        return mzi_out_of_memory(source->ctx, text.bytes + 1, "a value of the configuration");
    memcpy(copy, text.text, text.bytes);
    out->text = copy;
    return MEZZO_OK;
}

static bool read_integer(const mzi_scalar_rule *rule, const mzi_yaml_node *node,
                         mzi_scalar *value) {
    mzi_slice word;
    if (choose(rule, node->text, &word))
        return true; /* "auto" is 0 */
    if (!node->plain || !is_integer(node->text))
        return false;
    errno = 0;
    value->integer = strtoll(node->text, NULL, 10);
    value->real = (double)value->integer;
    return errno == 0 && value->real >= rule->min && value->real <= rule->max;
}

static bool read_real(const mzi_scalar_rule *rule, const mzi_yaml_node *node, mzi_scalar *value) {
    mzi_slice word;
    if (choose(rule, node->text, &word)) {
        value->real = -1.0; /* below the range of every number that has a word */
        return true;
    }
    if (!node->plain || !is_real(node->text))
        return false;
    value->real = mzi_real_parse(node->text);
    return isfinite(value->real) && value->real >= rule->min && value->real <= rule->max;
}

/* The other spellings of number formats ("fp32") become ours. */
static bool read_choice(const mzi_scalar_rule *rule, const mzi_yaml_node *node, mzi_slice *kept) {
    if (choose(rule, node->text, kept))
        return true;
    mezzo_dtype type = mezzo_dtype_from_name(node->text);
    return type != MEZZO_DTYPE_NONE && choose(rule, mezzo_dtype_name(type), kept);
}

static bool is_nothing(const mzi_yaml_node *node) {
    return node->plain && (node->text[0] == '\0' || strcmp(node->text, "~") == 0 ||
                           strcmp(node->text, "null") == 0);
}

mezzo_status mzi_scalar_read(const mzi_config_source *source, mzi_arena *arena,
                             const mzi_scalar_rule *rule, const mzi_yaml_node *node,
                             mzi_scalar *out) {
    if (node->kind != MZI_YAML_SCALAR || is_nothing(node))
        return fail_value(source, rule, node);
    mzi_scalar value = {.text = NULL};
    mzi_slice kept = {node->text, strlen(node->text)};
    bool fits = true;
    switch (rule->type) {
    case MEZZO_CONFIG_INT:
    case MEZZO_CONFIG_INT_LIST:
        fits = read_integer(rule, node, &value);
        break;
    case MEZZO_CONFIG_REAL:
        fits = read_real(rule, node, &value);
        break;
    case MEZZO_CONFIG_BOOL:
        value.integer = strcmp(node->text, "true") == 0;
        fits = node->plain && (value.integer == 1 || strcmp(node->text, "false") == 0);
        break;
    case MEZZO_CONFIG_CHOICE:
        fits = read_choice(rule, node, &kept);
        break;
    case MEZZO_CONFIG_TEXT:
    case MEZZO_CONFIG_RECORD_LIST:
        break;
    }
    if (!fits)
        return fail_value(source, rule, node);
    MZI_TRY(keep_text(source, arena, kept, &value));
    *out = value;
    return MEZZO_OK;
}
