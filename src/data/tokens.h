/* Sequences of token ids, as their readers, their writer and the loader see them. */
#ifndef MZI_DATA_TOKENS_H
#define MZI_DATA_TOKENS_H

#include "base/ctx.h"
#include "base/fs.h"
#include "mezzo/tokens.h"

struct mezzo_tokens {
    mezzo_ctx *ctx;
    mezzo_tokens_info info;
    const void *ids;   /* [count]; null: drawn from `seed` when they are asked for */
    int element_bytes; /* of an id: 2 (unsigned) or 4 (below 2^31)                 */
    uint64_t seed;
    void *block; /* what `ids` points into: a mapped file, or memory */
    size_t block_bytes;
    bool is_mapped;
};

/* `ids` [count] and what is said about them: INVALID_ARGUMENT if one is outside of the vocabulary.
 * Fills in a vocabulary of 0. */
mezzo_status mzi_tokens_check(mezzo_ctx *ctx, const int32_t *ids, mezzo_tokens_info *info);
/* The tokens [begin, begin + count), which must exist. */
void mzi_tokens_copy(const mezzo_tokens *tokens, int64_t begin, int64_t count, int32_t *out);

/* mezzo_tokens_write over any file system; of `info` all but the format counts. */
mezzo_status mzi_tokens_write(mezzo_ctx *ctx, const mzi_fs *fs, const char *path,
                              const int32_t *ids, const mezzo_tokens_info *info);

/* The head of mezzo's own files; the layout is drawn in docs/token-format.md. */
#define MZI_TOKENS_MAGIC 0x5A5AEE4Du
#define MZI_TOKENS_VERSION 1u
#define MZI_TOKENS_FIELDS 64 /* bytes of the fields, with the ones kept zero */
#define MZI_TOKENS_HEAD 128  /* with the digest's 64 digits                  */
/* The digest of such a file's bytes, without the digits themselves; `hex` has room for a NUL. */
void mzi_tokens_digest(const uint8_t *fields, const void *ids, size_t bytes, char *hex);

#endif
