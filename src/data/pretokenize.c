/* The patterns of GPT-2 and GPT-4, by PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string.h>

#include "data/pretokenize.h"

struct mzi_pretokenizer {
    mezzo_ctx *ctx;
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code;
    pcre2_match_data *match;
    bool has_jit;
    const char *text;
    size_t bytes, at, offset;
};

static const char *const patterns[] = {
    [MEZZO_PATTERN_GPT2] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
                           "|\\s+(?!\\S)|\\s+",
    [MEZZO_PATTERN_GPT4] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
                           "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
};

const char *mzi_pattern_text(mezzo_pattern pattern) {
    return patterns[pattern];
}

/* PCRE2 frees without a size; mezzo's allocator needs one, so it is kept in front of the block. */
static void *take(size_t bytes, void *user) {
    uint8_t *block = bytes < SIZE_MAX - MZI_ALIGN ? mzi_alloc(user, MZI_ALIGN + bytes) : NULL;
    if (!block)
        return NULL;
    memcpy(block, &bytes, sizeof bytes);
    return block + MZI_ALIGN;
}

static void give_back(void *memory, void *user) {
    if (!memory)
        return;
    uint8_t *block = (uint8_t *)memory - MZI_ALIGN;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    mzi_free(user, block, MZI_ALIGN + bytes);
}

static mezzo_status compile(mzi_pretokenizer *p, const char *pattern) {
    p->memory = pcre2_general_context_create(take, give_back, p->ctx);
    if (!p->memory)
        return mzi_out_of_memory(p->ctx, 0, "a pattern");
    pcre2_compile_context *settings = pcre2_compile_context_create(p->memory);
    if (!settings)
        return mzi_out_of_memory(p->ctx, 0, "a pattern");
    int code = 0;
    PCRE2_SIZE at = 0;
    p->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                            &code, &at, settings);
    pcre2_compile_context_free(settings);
    if (!p->code && code == PCRE2_ERROR_HEAP_FAILED)
        return mzi_out_of_memory(p->ctx, strlen(pattern), "a pattern");
    if (!p->code)
        MZI_FAIL(p->ctx, MEZZO_UNSUPPORTED,
                 "this PCRE2 does not take the pattern %s (error %d at offset %zu): it must be "
                 "built with Unicode support",
                 pattern, code, at);
    /* Where the system forbids making code at run time, PCRE2 interprets: slower, the same. */
    p->has_jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    p->match = pcre2_match_data_create(1, p->memory);
    p->limits = pcre2_match_context_create(p->memory);
    if (!p->match || !p->limits)
        return mzi_out_of_memory(p->ctx, 0, "a pattern");
    /* The patterns take time in proportion to the piece; the limit would be one on its length. */
    pcre2_set_match_limit(p->limits, UINT32_MAX);
    return MEZZO_OK;
}

mezzo_status mzi_pretokenizer_create(mzi_pretokenizer **out, mezzo_ctx *ctx,
                                     mezzo_pattern pattern) {
    mzi_pretokenizer *p = mzi_alloc(ctx, sizeof *p);
    if (!p)
        return mzi_out_of_memory(ctx, sizeof *p, "a pattern");
    p->ctx = ctx;
    mezzo_status status = compile(p, patterns[pattern]);
    if (status != MEZZO_OK)
        mzi_pretokenizer_destroy(p);
    else
        *out = p;
    return status;
}

void mzi_pretokenizer_destroy(mzi_pretokenizer *p) {
    if (!p)
        return;
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->limits);
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->memory);
    mzi_free(p->ctx, p, sizeof *p);
}

void mzi_pretokenizer_start(mzi_pretokenizer *p, const char *text, size_t bytes, size_t offset) {
    p->text = text;
    p->bytes = bytes;
    p->at = 0;
    p->offset = offset;
}

static mezzo_status explain(const mzi_pretokenizer *p, int code) {
    if (code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAPLIMIT ||
        code == PCRE2_ERROR_JIT_STACKLIMIT)
        return mzi_out_of_memory(p->ctx, p->bytes, "cutting a text into pieces");
    if (code <= PCRE2_ERROR_UTF8_ERR1 && code >= PCRE2_ERROR_UTF8_ERR21) {
        size_t place = pcre2_get_startchar(p->match);
        MZI_FAIL(p->ctx, MEZZO_DATA,
                 "the text is not UTF-8 at offset %zu (byte 0x%02x); convert it (iconv -t UTF-8), "
                 "or use the bytes tokenizer, which takes any bytes",
                 p->offset + place, (uint8_t)p->text[place]);
    }
    char reason[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)reason, sizeof reason);
    MZI_FAIL(p->ctx, MEZZO_FAILURE, "no piece of text at offset %zu: PCRE2 says %s (%d)",
             p->offset + p->at, reason, code);
}

mezzo_status mzi_pretokenizer_next(mzi_pretokenizer *p, const uint8_t **piece, size_t *bytes) {
    *bytes = 0;
    if (p->at == p->bytes)
        return MEZZO_OK;
    int found;
    if (p->at == 0)
        found = pcre2_match(p->code, (PCRE2_SPTR)p->text, p->bytes, 0, 0, p->match, p->limits);
    else if (p->has_jit)
        found =
            pcre2_jit_match(p->code, (PCRE2_SPTR)p->text, p->bytes, p->at, 0, p->match, p->limits);
    else
        found = pcre2_match(p->code, (PCRE2_SPTR)p->text, p->bytes, p->at, PCRE2_NO_UTF_CHECK,
                            p->match, p->limits);
    if (found <= 0)
        return explain(p, found);
    /* Every character is in one of the alternatives, so a piece starts where the last one ended. */
    size_t end = pcre2_get_ovector_pointer(p->match)[1];
    *piece = (const uint8_t *)p->text + p->at;
    *bytes = end - p->at;
    p->at = end;
    return MEZZO_OK;
}
