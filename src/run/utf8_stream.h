/* Bytes into whole UTF-8 characters, as they come. */
#ifndef MZI_RUN_UTF8_STREAM_H
#define MZI_RUN_UTF8_STREAM_H

#include "mezzo/base.h"

typedef struct mzi_utf8_stream {
    void (*emit)(void *user, const char *text, size_t bytes);
    void *user;
    char held[5]; /* a character's first bytes, and zeros */
    size_t count;
    char ready[256]; /* whole characters on their way to `emit` */
    size_t ready_bytes;
} mzi_utf8_stream;

/* Hands on every character that is complete.  Bytes that belong to none (RFC 3629) become U+FFFD,
 * one for each longest start of a character. */
void mzi_utf8_stream_put(mzi_utf8_stream *stream, const char *bytes, size_t count);
/* A character that nothing completes any more is U+FFFD too. */
void mzi_utf8_stream_end(mzi_utf8_stream *stream);

#endif
