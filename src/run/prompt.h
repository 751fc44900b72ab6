/* A prompt as tokens. */
#ifndef MZI_RUN_PROMPT_H
#define MZI_RUN_PROMPT_H

#include "base/ctx.h"
#include "mezzo/tokenizer.h"

typedef struct mzi_prompt {
    mezzo_ctx *ctx;
    mezzo_tokenizer *tokenizer;
    int32_t *ids;
    size_t count, capacity;
} mzi_prompt;

/* With a tokenizer: `text` in its tokens, names of special tokens among them; end_of_text for an
 * empty one, or a newline if there is none.  Without: ids below `vocab` with blanks between them.
 * DATA, naming the word, if one is no such id; CONFIG if there is none.  `tokenizer` may be null,
 * and outlives the prompt; freed in any case. */
mezzo_status mzi_prompt_read(mzi_prompt *out, mezzo_ctx *ctx, mezzo_tokenizer *tokenizer,
                             int32_t vocab, const char *text, size_t bytes);
void mzi_prompt_free(mzi_prompt *prompt);

#endif
