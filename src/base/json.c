/* JSON text, piece by piece. */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(mzi_json *json, const char *bytes, size_t count) {
    if (count == 0)
        return;
    json->last = bytes[count - 1];
    if (json->size < json->capacity) {
        size_t room = json->capacity - json->size;
        memcpy(json->out + json->size, bytes, count < room ? count : room);
    }
    json->size += count;
}

void mzi_json_raw(mzi_json *json, const char *text) {
    put(json, text, strlen(text));
}

/* Second bytes that a first byte allows; the third and fourth are always 80..BF. */
static size_t sequence_length(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xbf;
    if (first < 0x80)
        return first ? 1 : 0;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    if (first < 0xe0)
        return 2;
    if (first == 0xe0)
        *low = 0xa0; /* below: an overlong form */
    if (first == 0xed)
        *high = 0x9f; /* above: surrogates */
    if (first == 0xf0)
        *low = 0x90; /* below: an overlong form */
    if (first == 0xf4)
        *high = 0x8f; /* above: beyond U+10FFFF */
    return first < 0xf0 ? 3 : 4;
}

size_t mzi_utf8_character(const char *text) {
    uint8_t low, high;
    size_t length = sequence_length((uint8_t)text[0], &low, &high);
    for (size_t i = 1; i < length; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte < low || byte > high)
            return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

bool mzi_utf8_valid(const char *text) {
    while (*text) {
        size_t length = mzi_utf8_character(text);
        if (length == 0)
            return false;
        text += length;
    }
    return true;
}

static void put_control(mzi_json *json, uint8_t byte) {
    static const char codes[] = "\b\f\n\r\t", letters[] = "bfnrt";
    const char *code = strchr(codes, byte);
    char escape[8];
    if (code)
        snprintf(escape, sizeof escape, "\\%c", letters[code - codes]);
    else
        snprintf(escape, sizeof escape, "\\u%04x", byte);
    put(json, escape, strlen(escape));
}

void mzi_json_string(mzi_json *json, const char *text) {
    put(json, "\"", 1);
    while (*text) {
        size_t length = mzi_utf8_character(text);
        if (length == 0) {
            put(json, "\xef\xbf\xbd", 3);
            length = 1;
        } else if (*text == '"' || *text == '\\') {
            put(json, "\\", 1);
            put(json, text, 1);
        } else if ((uint8_t)*text < 0x20) {
            put_control(json, (uint8_t)*text);
        } else {
            put(json, text, length);
        }
        text += length;
    }
    put(json, "\"", 1);
}

void mzi_json_integer(mzi_json *json, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    mzi_json_raw(json, text);
}

void mzi_json_natural(mzi_json *json, uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    mzi_json_raw(json, text);
}

void mzi_json_real(mzi_json *json, double value) {
    if (!isfinite(value)) {
        mzi_json_raw(json, isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    char text[64];
    for (int digits = 15; digits <= 17; digits++) { /* 17 always suffice */
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    /* A locale's decimal separator, of whatever length, becomes a point. */
    size_t before = strspn(text, "-0123456789");
    size_t after = before + strcspn(text + before, "0123456789e");
    put(json, text, before);
    if (after > before)
        put(json, ".", 1);
    mzi_json_raw(json, text + after);
}

void mzi_json_key(mzi_json *json, const char *name) {
    if (json->last != '{')
        put(json, ",", 1);
    mzi_json_string(json, name);
    put(json, ":", 1);
}
