#include "run/utf8_stream.h"

#include <string.h>

#include "base/json.h"

#define REPLACEMENT "\xef\xbf\xbd"

static void flush(mzi_utf8_stream *s) {
    if (s->ready_bytes > 0)
        s->emit(s->user, s->ready, s->ready_bytes);
    s->ready_bytes = 0;
}

static void add(mzi_utf8_stream *s, const char *character, size_t bytes) {
    if (s->ready_bytes + bytes > sizeof s->ready)
        flush(s);
    memcpy(s->ready + s->ready_bytes, character, bytes);
    s->ready_bytes += bytes;
}

static void let_go(mzi_utf8_stream *s) {
    memset(s->held, 0, sizeof s->held);
    s->count = 0;
}

/* Can more bytes make a character of what is held?  The last bytes of a character may be any of
 * 80..BF; the second one is bound from below or from above by the first, never both. */
static bool may_become_one(const mzi_utf8_stream *s) {
    char low[5], high[5];
    memset(low, 0x80, sizeof low);
    memset(high, 0xbf, sizeof high);
    memcpy(low, s->held, s->count);
    memcpy(high, s->held, s->count);
    return mzi_utf8_character(low) > s->count || mzi_utf8_character(high) > s->count;
}

static void put_byte(mzi_utf8_stream *s, char byte) {
    s->held[s->count++] = byte;
    size_t length = byte == '\0' && s->count == 1 ? 1 : mzi_utf8_character(s->held);
    if (length > 0)
        add(s, s->held, length);
    else if (may_become_one(s))
        return;
    else
        add(s, REPLACEMENT, sizeof REPLACEMENT - 1);
    bool again = length == 0 && s->count > 1; /* the byte may start a character of its own */
    let_go(s);
    if (again)
        put_byte(s, byte);
}

void mzi_utf8_stream_put(mzi_utf8_stream *stream, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        put_byte(stream, bytes[i]);
    flush(stream);
}

void mzi_utf8_stream_end(mzi_utf8_stream *stream) {
    if (stream->count > 0)
        add(stream, REPLACEMENT, sizeof REPLACEMENT - 1);
    let_go(stream);
    flush(stream);
}
