/* Text, and text as token ids.
 *
 * A sequence of tokens is one long row of ids; where documents are marked, `end_of_text` stands
 * behind each of them.  Batches are cut from it by a loader (mezzo/data.h). */
#ifndef MEZZO_TOKENS_H
#define MEZZO_TOKENS_H

#include "mezzo/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mezzo_tokens mezzo_tokens;
typedef struct mezzo_tokens_info {
    int64_t count;
    int32_t vocab;       /* every id is 0 to vocab - 1                                    */
    int32_t end_of_text; /* -1: none, or unknown                                          */
    int64_t text_bytes;  /* of the text that all tokens stand for; 0: unknown             */
    const char *format;  /* "mezzo", "llm.c", "nanoGPT", "memory" or "random"; never null */
} mezzo_tokens_info;

/* A file of tokens, told by its first four bytes (u32, little-endian):
 *
 *   0x5A5AEE4D              mezzo's own (docs/token-format.md)
 *   20240520, 20240801      llm.c's: 256 x int32 (magic, version 1 or 7, count), then uint16 or
 *                           uint32
 *   20240101 to 20241231    refused: llm.c marks all its files by a date, and this is another kind
 *   anything else           nanoGPT's: no header, uint16 from the first byte on
 *
 * A file without a header cannot be told from a file of any other kind; only a vocabulary that is
 * given finds ids that are none.  One whose first two ids spell a magic number would be taken
 * for that format; this needs a first id above 55,000, so it cannot happen with GPT-2's 50,257.
 *
 * `vocab`: ids must be below it; 0: what the file declares, or its largest id + 1.  The whole file
 * is checked once and stays mapped, so it must not be changed in place while it is open.  DATA,
 * naming file, offset and value, if it is missing, empty, of odd size, of another size than its
 * header says, damaged, or if an id is >= `vocab`, or the file declares a larger vocabulary. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokens_open(mezzo_tokens **out, mezzo_ctx *ctx,
                                                          const char *path, int32_t vocab);
/* Copies `ids` [count].  `vocab` 0: the largest id + 1; `end_of_text` -1: none; `text_bytes` 0:
 * unknown.  INVALID_ARGUMENT, naming position and value, if an id is outside. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokens_from_memory(mezzo_tokens **out, mezzo_ctx *ctx,
                                                                 const int32_t *ids, int64_t count,
                                                                 int32_t vocab, int32_t end_of_text,
                                                                 int64_t text_bytes);
/* Uniform ids without memory for them, each a function of (seed, position) alone: for timing.
 * (vocab / 2^32 away from uniform.) */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokens_random(mezzo_tokens **out, mezzo_ctx *ctx,
                                                            int64_t count, int32_t vocab,
                                                            uint64_t seed);
/* `ids` [count] as a file of mezzo's own format, which replaces `path` as a whole or not at all.
 * Arguments as of mezzo_tokens_from_memory; IO if it cannot be written. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokens_write(mezzo_ctx *ctx, const char *path,
                                                           const int32_t *ids, int64_t count,
                                                           int32_t vocab, int32_t end_of_text,
                                                           int64_t text_bytes);
MEZZO_API mezzo_tokens_info mezzo_tokens_get_info(const mezzo_tokens *tokens);
/* `index` is 0 to count - 1. */
MEZZO_API int32_t mezzo_tokens_at(const mezzo_tokens *tokens, int64_t index);
/* The last `fraction` of the tokens, above 0 and below 1, rounded to a whole number, is for
 * validation: `*first_validation` is the index of its first token.  With an `end_of_text` the cut
 * moves on to the next start of a document, if there is one behind it; else it stays where it is,
 * within the last document.  DATA, naming both sizes, if either side would hold less than `least`
 * tokens (at least 1). */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokens_split(const mezzo_tokens *tokens,
                                                           double fraction, int64_t least,
                                                           int64_t *first_validation);
MEZZO_API void mezzo_tokens_destroy(mezzo_tokens *tokens);

/* A whole file of UTF-8 text, plain or gzip, told apart by its first bytes; byte order marks and
 * NULs are text like any other.  A NUL stands behind it, which `*bytes` does not count.  DATA if
 * the file is missing, empty or a damaged gzip stream, or, naming the offset (in the unpacked
 * text), at the first byte of what is no UTF-8. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_text_read(mezzo_ctx *ctx, const char *path,
                                                        char **text, size_t *bytes);
/* Frees what mezzo_text_read gave, `bytes` included (mezzo_text_free would stop at the first NUL).
 * Null is allowed. */
MEZZO_API void mezzo_text_release(mezzo_ctx *ctx, char *text, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
