#include "run/prompt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t\r\n"
enum {
    SHOWN_BYTES = 40
};

static mezzo_status encode(mzi_prompt *p, const char *text, size_t bytes) {
    MZI_TRY(mezzo_tokenizer_encode(p->tokenizer, text, bytes, true, &p->ids, &p->count));
    p->capacity = p->count;
    return MEZZO_OK;
}

static mezzo_status allocate(mzi_prompt *p, size_t capacity) {
    p->ids = mzi_alloc(p->ctx, capacity * sizeof *p->ids);
    if (!p->ids)
        return mzi_out_of_memory(p->ctx, capacity * sizeof *p->ids, "the prompt");
    p->capacity = capacity;
    return MEZZO_OK;
}

static mezzo_status start(mzi_prompt *p) {
    int32_t end_of_text = mezzo_tokenizer_end_of_text(p->tokenizer);
    if (end_of_text < 0)
        return encode(p, "\n", 1);
    MZI_TRY(allocate(p, 1));
    p->ids[p->count++] = end_of_text;
    return MEZZO_OK;
}

/* `text` ends with a NUL. */
static mezzo_status parse(mzi_prompt *p, const char *text, int32_t vocab) {
    for (text += strspn(text, BLANKS); *text != '\0'; text += strspn(text, BLANKS)) {
        size_t length = strcspn(text, BLANKS);
        char *end;
        errno = 0;
        long long id = strtoll(text, &end, 10);
        if (end != text + length || errno || id < 0 || id >= vocab)
            MZI_FAIL(p->ctx, MEZZO_DATA,
                     "the prompt has \"%.*s\": there is no tokenizer for these tokens, so a prompt "
                     "is ids, 0 to %d, with blanks between them; or set data.tokenizer",
                     (int)(length < SHOWN_BYTES ? length : SHOWN_BYTES), text, (int)vocab - 1);
        p->ids[p->count++] = (int32_t)id;
        text = end;
    }
    return MEZZO_OK;
}

/* An id takes a digit and, but for the last one, a blank. */
static mezzo_status read_ids(mzi_prompt *p, int32_t vocab, const char *text, size_t bytes) {
    MZI_TRY(allocate(p, (bytes + 1) / 2 + 1));
    char *copy = mzi_alloc(p->ctx, bytes + 1);
    if (!copy)
        return mzi_out_of_memory(p->ctx, bytes + 1, "the prompt");
    if (bytes > 0)
        memcpy(copy, text, bytes);
    mezzo_status status = parse(p, copy, vocab);
    mzi_free(p->ctx, copy, bytes + 1);
    if (status == MEZZO_OK && p->count == 0)
        MZI_FAIL(p->ctx, MEZZO_CONFIG,
                 "the prompt is empty, and there is no tokenizer that says how a text starts: give "
                 "ids, or set data.tokenizer");
    return status;
}

mezzo_status mzi_prompt_read(mzi_prompt *out, mezzo_ctx *ctx, mezzo_tokenizer *tokenizer,
                             int32_t vocab, const char *text, size_t bytes) {
    *out = (mzi_prompt){.ctx = ctx, .tokenizer = tokenizer};
    if (!tokenizer)
        return read_ids(out, vocab, text, bytes);
    return bytes > 0 ? encode(out, text, bytes) : start(out);
}

void mzi_prompt_free(mzi_prompt *prompt) {
    if (prompt->ctx)
        mzi_free(prompt->ctx, prompt->ids, prompt->capacity * sizeof *prompt->ids);
}
