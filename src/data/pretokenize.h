/* Cutting text into the pieces that BPE works on. */
#ifndef MZI_DATA_PRETOKENIZE_H
#define MZI_DATA_PRETOKENIZE_H

#include "base/ctx.h"
#include "mezzo/tokenizer.h"

typedef struct mzi_pretokenizer mzi_pretokenizer;

/* The regular expression of a pattern, as tokenizer.json has it. */
const char *mzi_pattern_text(mezzo_pattern pattern);

mezzo_status mzi_pretokenizer_create(mzi_pretokenizer **out, mezzo_ctx *ctx, mezzo_pattern pattern);
void mzi_pretokenizer_destroy(mzi_pretokenizer *p);

/* Start on a text, which must stay where it is; `offset` is added to the places in messages. */
void mzi_pretokenizer_start(mzi_pretokenizer *p, const char *text, size_t bytes, size_t offset);
/* The next piece; its size is 0 at the end.  The first call refuses a text that is not UTF-8, all
 * of it, as DATA. */
mezzo_status mzi_pretokenizer_next(mzi_pretokenizer *p, const uint8_t **piece, size_t *bytes);

#endif
