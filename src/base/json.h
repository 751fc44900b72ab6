/* Writing JSON piece by piece into a buffer of fixed size, without allocating.
 *
 * Like snprintf, `size` counts what would have been written: run once without a buffer to learn the
 * size, or check mzi_json_fits at the end.  Numbers do not depend on the locale. */
#ifndef MZI_BASE_JSON_H
#define MZI_BASE_JSON_H

#include "mezzo/base.h"

typedef struct mzi_json {
    char *out; /* may be null if capacity is 0; no NUL is added */
    size_t capacity;
    size_t size;
    char last; /* the byte written last */
} mzi_json;

static inline bool mzi_json_fits(const mzi_json *json) {
    return json->size <= json->capacity;
}
void mzi_json_raw(mzi_json *json, const char *text); /* punctuation and names known to be plain */
/* Quoted and escaped; a byte that is not UTF-8 becomes U+FFFD. */
void mzi_json_string(mzi_json *json, const char *text);
void mzi_json_integer(mzi_json *json, int64_t value);
void mzi_json_natural(mzi_json *json, uint64_t value);
/* 15 digits, or the 16 or 17 that it takes to read back as the same double.  JSON has no word for
 * the rest: they are written as the strings "NaN", "Infinity" and "-Infinity". */
void mzi_json_real(mzi_json *json, double value);
/* `,"name":`, the comma left out behind an opening brace. */
void mzi_json_key(mzi_json *json, const char *name);

/* Bytes of the UTF-8 character at `text` (RFC 3629: no surrogates, no overlong forms), 0 if it is
 * none.  Stops at a NUL. */
size_t mzi_utf8_character(const char *text);
bool mzi_utf8_valid(const char *text);

#endif
