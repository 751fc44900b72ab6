/* Text into tokens and back: bytes, and byte-level BPE, loaded or trained.
 *
 * Byte-level BPE cuts text into pieces by a pattern (words with the blank before them, numbers,
 * punctuation, white space), takes each piece as bytes, and joins neighbours in the order of a list
 * of merges: always the pair that stands first in the list, and the leftmost of equal ones.
 *
 * A tokenizer keeps the pieces it met last, in a table of fixed size, so that one thread at a time
 * may use it.  Letters, numbers and white space are those of the PCRE2 that the library is linked
 * with: characters that a newer Unicode added count as punctuation. */
#ifndef MEZZO_TOKENIZER_H
#define MEZZO_TOKENIZER_H

#include "mezzo/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mezzo_tokenizer mezzo_tokenizer;

/* Texts of one call are smaller than this. */
#define MEZZO_TOKENIZER_TEXT_MAX ((size_t)INT32_MAX)

/* 256 tokens: token i is byte i.  Takes any bytes, UTF-8 or not. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokenizer_bytes(mezzo_tokenizer **out,
                                                              mezzo_ctx *ctx);

/* Read a file, told apart by its first character:
 *
 * '#': GPT-2's vocab.bpe, a line "#version: 0.2" and then a merge a line, "LEFT RIGHT".  Ids 0..255
 *   are the bytes in GPT-2's order (33..126, 161..172, 174..255, then the rest), then the merges in
 *   theirs, and last <|endoftext|>: 50256 for GPT-2's own file.
 * '{': Hugging Face's tokenizer.json with a model of type BPE, no normalizer, and as pre-tokenizer
 *   ByteLevel (GPT-2's pattern) or a Split by the pattern of GPT-2 or GPT-4 and then ByteLevel. Ids
 *   are the file's.  Its post-processor is not applied: encoding adds no tokens.
 *
 * DATA if there is no such file; IO if it cannot be read.  DATA, with the file and the line, offset
 * or entry, if it is none of these, is not UTF-8, has a merge twice, a merge whose parts are no
 * tokens (in vocab.bpe: no tokens yet, so that the merges are out of order), lacks a byte or an id,
 * or asks for what is not supported. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokenizer_open(mezzo_tokenizer **out, mezzo_ctx *ctx,
                                                             const char *path);

/* How text is cut into pieces. */
typedef enum mezzo_pattern {
    MEZZO_PATTERN_GPT2, /* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|... */
    MEZZO_PATTERN_GPT4  /* contractions in any case, at most three digits, newlines apart */
} mezzo_pattern;

typedef struct mezzo_tokenizer_train_config {
    int32_t vocab; /* ids in all: 256 bytes, the merges, and <|endoftext|> */
    mezzo_pattern pattern;
    bool end_of_text; /* <|endoftext|> is the last id */
} mezzo_tokenizer_train_config;

/* Learn merges from `text`, which is not kept: again and again the pair of neighbours that comes
 * most often becomes a token; of equally frequent pairs the one with the smaller left id, then the
 * smaller right id.  Pairs do not reach over pieces.  The bytes have the ids of vocab.bpe.  Same
 * text, same tokens.
 * INVALID_ARGUMENT if vocab is below 256 (257 with end_of_text) or above 2^20.  DATA if the text is
 * not UTF-8 (with the offset), or has fewer pairs that come twice than are asked for (with the
 * largest vocabulary it has them for). */
MEZZO_API MEZZO_MUST_CHECK mezzo_status
mezzo_tokenizer_train(mezzo_tokenizer **out, mezzo_ctx *ctx, const char *text, size_t bytes,
                      const mezzo_tokenizer_train_config *config);

/* Write a tokenizer.json that Hugging Face's tokenizers and mezzo_tokenizer_open read, replaced as
 * a whole or not at all.  INVALID_ARGUMENT for the bytes tokenizer, which has nothing to keep; IO
 * if it cannot be written. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokenizer_save(mezzo_tokenizer *t, const char *path);

/* Ids are 0 .. vocab - 1. */
MEZZO_API int32_t mezzo_tokenizer_vocab(const mezzo_tokenizer *t);
/* The id of <|endoftext|>; -1: there is none. */
MEZZO_API int32_t mezzo_tokenizer_end_of_text(const mezzo_tokenizer *t);
/* Bytes of text that a token stands for: 0 for a special token; -1 if `id` is no id. */
MEZZO_API int64_t mezzo_tokenizer_token_bytes(const mezzo_tokenizer *t, int32_t id);

/* The tokens of a text.  With `specials` a special token's name in the text becomes that token (of
 * several at one place the longest); without, it is text like any other, which is what foreign text
 * needs.  Tokens that a file adds without calling them special are found either way.
 * `*ids` belongs to the caller, who gives it to mezzo_tokenizer_free_ids with the same count.
 * DATA with the offset if the text is not UTF-8 (the bytes tokenizer takes it all the same), or if
 * a single word has 2^29 bytes or more;
 * INVALID_ARGUMENT if it has MEZZO_TOKENIZER_TEXT_MAX bytes or more. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokenizer_encode(mezzo_tokenizer *t, const char *text,
                                                               size_t bytes, bool specials,
                                                               int32_t **ids, size_t *count);
MEZZO_API void mezzo_tokenizer_free_ids(mezzo_tokenizer *t, int32_t *ids, size_t count);

/* The text of tokens, special ones by their names, with a NUL behind it; it may hold others, and
 * need not be UTF-8 if the tokens stop inside a character.  `*text` belongs to the caller, who
 * gives it to mezzo_tokenizer_free_text with the same number of bytes. DATA, with the place, if an
 * id is not one of this tokenizer. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_tokenizer_decode(mezzo_tokenizer *t,
                                                               const int32_t *ids, size_t count,
                                                               char **text, size_t *bytes);
MEZZO_API void mezzo_tokenizer_free_text(mezzo_tokenizer *t, char *text, size_t bytes);

/* Null is allowed.  Ids and texts are freed before it. */
MEZZO_API void mezzo_tokenizer_destroy(mezzo_tokenizer *t);

#ifdef __cplusplus
}
#endif
#endif
