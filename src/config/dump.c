/* The configuration as YAML that loads back to the same values. */
#include <ctype.h>
#include <string.h>

#include "base/json.h"
#include "config/config.h"

enum {
    ORIGIN_COLUMN = 46, /* where comments start, if the value leaves room */
    SECTION_BYTES = 64,
    ESCAPE_BYTES = 16
};

/* Counts first, with `data` null; writes then. */
typedef struct writer {
    char *data;
    size_t bytes;
    size_t line_start;
} writer;

static void put(writer *w, const char *text, size_t bytes) {
    if (w->data)
        memcpy(w->data + w->bytes, text, bytes);
    w->bytes += bytes;
    if (bytes > 0 && text[bytes - 1] == '\n')
        w->line_start = w->bytes;
}

static void put_text(writer *w, const char *text) {
    put(w, text, strlen(text));
}

static void put_blanks(writer *w, size_t count) {
    for (size_t i = 0; i < count; i++)
        put(w, " ", 1);
}

/* Characters that stand for themselves between double quotes; what YAML calls printable, without
 * its line breaks and the byte order mark. */
static bool is_literal(uint32_t code) {
    if (code < 0x7f)
        return code >= 0x20 && code != '"' && code != '\\';
    return code >= 0xa0 && code <= 0x10ffff && code != 0x2028 && code != 0x2029 && code != 0xfeff &&
           code != 0xfffe && code != 0xffff;
}

/* The code of a UTF-8 character of `length` bytes: 0xxxxxxx, 110xxxxx, 1110xxxx or 11110xxx, then
 * 10xxxxxx. */
static uint32_t decode(const char *text, size_t length) {
    uint32_t code = (uint8_t)text[0] & (length > 1 ? 0xffu >> (length + 1) : 0x7fu);
    for (size_t i = 1; i < length; i++)
        code = code << 6 | ((uint8_t)text[i] & 0x3fu);
    return code;
}

static void put_quoted(writer *w, const char *text) {
    size_t length; /* never 0 before the end: texts are UTF-8 from the moment they are set */
    put(w, "\"", 1);
    for (; (length = mzi_utf8_character(text)) > 0; text += length) {
        char escape[ESCAPE_BYTES];
        uint32_t code = decode(text, length);
        if (is_literal(code))
            put(w, text, length);
        else
            put(w, escape, mzi_format(escape, sizeof escape, "\\U%08x", code));
    }
    put(w, "\"", 1);
}

/* A letter or slash, then what no reader of YAML takes for syntax or for another type. */
static bool is_plain(const char *text) {
    static const char *const words[] = {"true", "false", "yes", "no", "on",
                                        "off",  "null",  "y",   "n"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(text, words[i]) == 0)
            return false;
    const char *c = text;
    if (!isalpha((unsigned char)*c) && *c != '/')
        return false;
    while (isalnum((unsigned char)*c) || (*c != '\0' && strchr("/_.-", *c)))
        c++;
    return *c == '\0';
}

static void put_scalar(writer *w, mezzo_config_type type, const mzi_scalar *scalar) {
    if (type == MEZZO_CONFIG_TEXT && !is_plain(scalar->text))
        put_quoted(w, scalar->text);
    else
        put_text(w, scalar->text);
}

static void put_record(writer *w, const mzi_config_field *fields, int count,
                       const mzi_scalar *items) {
    const char *separator = "{";
    for (int i = 0; i < count; i++) {
        if (!items[i].text)
            continue;
        put_text(w, separator);
        put(w, fields[i].name.text, fields[i].name.bytes);
        put_text(w, ": ");
        put_scalar(w, fields[i].type, &items[i]);
        separator = ", ";
    }
    put_text(w, "}");
}

static void put_value(writer *w, const mezzo_config_key *key, const mzi_setting *setting) {
    mzi_config_field fields[MZI_CONFIG_FIELD_MAX];
    int field_count = mzi_config_fields(key, fields);
    if (key->type != MEZZO_CONFIG_INT_LIST && key->type != MEZZO_CONFIG_RECORD_LIST) {
        put_scalar(w, key->type, setting->items);
        return;
    }
    put_text(w, "[");
    for (int i = 0; i < setting->count; i++) {
        put_text(w, i > 0 ? ", " : "");
        if (field_count > 0)
            put_record(w, fields, field_count, &setting->items[(ptrdiff_t)i * setting->width]);
        else
            put_text(w, setting->items[i].text);
    }
    put_text(w, "]");
}

/* `origin` may hold what ends a comment: a path is any bytes. */
static void put_origin(writer *w, const char *origin) {
    size_t column = w->bytes - w->line_start;
    put_blanks(w, column < ORIGIN_COLUMN ? ORIGIN_COLUMN - column : 1);
    put_text(w, "# ");
    for (; *origin != '\0'; origin++)
        put(w, *origin > 0x1f && *origin < 0x7f ? origin : "?", 1);
}

/* The headings between the sections of the key before and of this one. */
static void put_sections(writer *w, const char *before, const char *path) {
    size_t level = 0;
    for (const char *dot = strchr(path, '.'); dot; dot = strchr(dot + 1, '.'), level++) {
        size_t bytes = (size_t)(dot - path) + 1;
        if (strncmp(before, path, bytes) == 0)
            continue;
        const char *name = dot;
        while (name > path && name[-1] != '.')
            name--;
        put_text(w, level == 0 && w->bytes > 0 ? "\n" : "");
        put_blanks(w, 2 * level);
        put(w, name, (size_t)(dot - name));
        put_text(w, ":\n");
    }
}

static void put_all(writer *w, const mezzo_config *config, bool origins) {
    const char *before = "";
    const mezzo_config_key *key;
    for (int i = 0; (key = mezzo_config_key_at(i)) != NULL; i++) {
        put_sections(w, before, key->path);
        size_t level = 0;
        for (const char *c = key->path; *c != '\0'; c++)
            level += *c == '.';
        put_blanks(w, 2 * level);
        put_text(w, strrchr(key->path, '.') + 1);
        put_text(w, ": ");
        put_value(w, key, &config->settings[i]);
        if (origins)
            put_origin(w, config->settings[i].origin);
        put_text(w, "\n");
        before = key->path;
    }
}

mezzo_status mezzo_config_dump(const mezzo_config *config, bool origins, char **out) {
    mzi_error_clear(config->ctx);
    writer w = {NULL, 0, 0};
    put_all(&w, config, origins);
    char *text = mzi_alloc(config->ctx, w.bytes + 1);
    if (!text)
        return mzi_out_of_memory(config->ctx, w.bytes + 1, "the configuration as text");
    w = (writer){text, 0, 0};
    put_all(&w, config, origins);
    *out = text;
    return MEZZO_OK;
}
