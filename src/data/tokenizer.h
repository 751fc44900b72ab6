/* A tokenizer as its readers, its trainer and its writer see it. */
#ifndef MZI_DATA_TOKENIZER_H
#define MZI_DATA_TOKENIZER_H

#include "base/arena.h"
#include "base/fs.h"
#include "data/bpe.h"
#include "data/pretokenize.h"

#define MZI_TOKENIZER_VOCAB_MAX (1 << 20)
#define MZI_END_OF_TEXT "<|endoftext|>"

typedef struct mzi_token {
    const uint8_t *bytes; /* null: this id has no token yet */
    int32_t size;
    bool added;   /* matched as a whole, before the text is cut into pieces */
    bool special; /* only where the caller asks for special tokens; stands for no text */
} mzi_token;

struct mezzo_tokenizer {
    mezzo_ctx *ctx;
    mzi_arena arena; /* the tokens' bytes */
    mzi_token *tokens;
    int32_t vocab, end_of_text;
    mezzo_pattern pattern;
    mzi_bpe *bpe; /* null: every byte is a token */
    mzi_pretokenizer *split;
    int32_t *added; /* ids, the longest first */
    int32_t added_count;
    bool begins[2][256]; /* first bytes of added tokens that are found without and with specials */
};

/* One of `vocab` ids without tokens. */
mezzo_status mzi_tokenizer_create(mezzo_tokenizer **out, mezzo_ctx *ctx, int32_t vocab);
/* Give an id its token; copies the bytes. */
mezzo_status mzi_tokenizer_set(mezzo_tokenizer *t, int32_t id, const uint8_t *bytes, size_t size,
                               bool added, bool special);
/* Ids 0 to 255 become the bytes in GPT-2's order; `byte_ids`[b] is the id of byte b. */
mezzo_status mzi_tokenizer_set_bytes(mezzo_tokenizer *t, int32_t byte_ids[256]);
/* When all tokens and merges are there. */
mezzo_status mzi_tokenizer_finish(mezzo_tokenizer *t, mezzo_pattern pattern);

/* Learn up to `*count` merges from text, which `split` cuts into pieces; their results are
 * 256, 257, ...  `*count` becomes how many pairs there were that come at least twice. */
mezzo_status mzi_bpe_learn(mezzo_ctx *ctx, mzi_pretokenizer *split, const char *text, size_t bytes,
                           const int32_t byte_ids[256], mzi_merge *merges, int32_t *count);

/* mezzo_tokenizer_save through a file-system table. */
mezzo_status mzi_tokenizer_save(const mezzo_tokenizer *t, const mzi_fs *fs, const char *path);

#endif
