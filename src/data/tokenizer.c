/* Making tokenizers, encoding, decoding. */
#include "data/tokenizer.h"

#include <inttypes.h>
#include <string.h>

mezzo_status mezzo_tokenizer_bytes(mezzo_tokenizer **out, mezzo_ctx *ctx) {
    mzi_error_clear(ctx);
    mezzo_tokenizer *t = NULL;
    MZI_TRY(mzi_tokenizer_create(&t, ctx, 256));
    for (int32_t id = 0; id < 256; id++) {
        uint8_t byte = (uint8_t)id;
        mezzo_status status = mzi_tokenizer_set(t, id, &byte, 1, false, false);
        if (status != MEZZO_OK) {
            mezzo_tokenizer_destroy(t);
            return status;
        }
    }
    *out = t;
    return MEZZO_OK;
}

static mezzo_status train(mezzo_tokenizer *t, const char *text, size_t bytes,
                          const mezzo_tokenizer_train_config *config, mzi_merge *merges) {
    int32_t byte_ids[256], special = config->end_of_text;
    int32_t wanted = config->vocab - 256 - special, count = wanted;
    MZI_TRY(mzi_tokenizer_set_bytes(t, byte_ids));
    if (config->end_of_text)
        MZI_TRY(mzi_tokenizer_set(t, config->vocab - 1, (const uint8_t *)MZI_END_OF_TEXT,
                                  strlen(MZI_END_OF_TEXT), true, true));
    MZI_TRY(mzi_tokenizer_finish(t, config->pattern));
    MZI_TRY(mzi_bpe_learn(t->ctx, t->split, text, bytes, byte_ids, merges, &count));
    if (count < wanted)
        MZI_FAIL(t->ctx, MEZZO_DATA,
                 "after %" PRId32
                 " merges no pair comes twice in this text of %zu bytes: ask for a "
                 "vocabulary of at most %" PRId32 " (not %" PRId32 "), or give more text",
                 count, bytes, 256 + special + count, config->vocab);
    MZI_TRY(mzi_bpe_create(&t->bpe, t->ctx, byte_ids, count));
    for (int32_t i = 0; i < count; i++) {
        const mzi_token *left = &t->tokens[merges[i].left], *right = &t->tokens[merges[i].right];
        uint8_t *whole = mzi_arena_push(&t->arena, (size_t)left->size + (size_t)right->size);
        if (!whole)
            return mzi_out_of_memory(t->ctx, (size_t)left->size + (size_t)right->size, "a token");
        memcpy(whole, left->bytes, (size_t)left->size);
        memcpy(whole + left->size, right->bytes, (size_t)right->size);
        t->tokens[256 + i] = (mzi_token){whole, left->size + right->size, false, false};
        mzi_bpe_add(t->bpe, merges[i]);
    }
    return MEZZO_OK;
}

static mezzo_status check_text(mezzo_ctx *ctx, const char *text, size_t bytes) {
    if (!text && bytes > 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "text is null, and has %zu bytes", bytes);
    if (bytes >= MEZZO_TOKENIZER_TEXT_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "a text of %zu bytes; one call takes less than %zu: cut it at the ends of "
                 "documents",
                 bytes, MEZZO_TOKENIZER_TEXT_MAX);
    return MEZZO_OK;
}

mezzo_status mezzo_tokenizer_train(mezzo_tokenizer **out, mezzo_ctx *ctx, const char *text,
                                   size_t bytes, const mezzo_tokenizer_train_config *config) {
    mzi_error_clear(ctx);
    if (!config)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "config is null");
    MZI_TRY(check_text(ctx, text, bytes));
    int32_t least = 256 + config->end_of_text;
    if (config->vocab < least || config->vocab > MZI_TOKENIZER_VOCAB_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "a vocabulary of %" PRId32 ": give %" PRId32 " (the bytes%s) to %d", config->vocab,
                 least, config->end_of_text ? " and " MZI_END_OF_TEXT : "",
                 MZI_TOKENIZER_VOCAB_MAX);
    if (config->pattern != MEZZO_PATTERN_GPT2 && config->pattern != MEZZO_PATTERN_GPT4)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "pattern is %d, which is none", (int)config->pattern);
    mezzo_tokenizer *t = NULL;
    MZI_TRY(mzi_tokenizer_create(&t, ctx, config->vocab));
    size_t merge_bytes = (size_t)config->vocab * sizeof(mzi_merge);
    mzi_merge *merges = mzi_alloc(ctx, merge_bytes);
    mezzo_status status = merges ? train(t, text, bytes, config, merges)
                                 : mzi_out_of_memory(ctx, merge_bytes, "the merges");
    mzi_free(ctx, merges, merge_bytes);
    if (status != MEZZO_OK)
        mezzo_tokenizer_destroy(t);
    else
        *out = t;
    return status;
}

mezzo_status mezzo_tokenizer_save(mezzo_tokenizer *t, const char *path) {
    mzi_error_clear(t->ctx);
    if (!path)
        MZI_FAIL(t->ctx, MEZZO_INVALID_ARGUMENT, "path is null");
    return mzi_tokenizer_save(t, &mzi_fs_real, path);
}

int32_t mezzo_tokenizer_vocab(const mezzo_tokenizer *t) {
    return t->vocab;
}

int32_t mezzo_tokenizer_end_of_text(const mezzo_tokenizer *t) {
    return t->end_of_text;
}

int64_t mezzo_tokenizer_token_bytes(const mezzo_tokenizer *t, int32_t id) {
    if (id < 0 || id >= t->vocab)
        return -1;
    return t->tokens[id].special ? 0 : t->tokens[id].size;
}

/* What a call of mezzo_tokenizer_encode works with. */
typedef struct encoding {
    mezzo_tokenizer *t;
    mzi_bpe_scratch scratch;
    mzi_ids ids;
} encoding;

static mezzo_status encode_plain(encoding *e, const char *text, size_t bytes, size_t offset) {
    const uint8_t *piece = NULL;
    size_t size = 0;
    mzi_pretokenizer_start(e->t->split, text, bytes, offset);
    for (;;) {
        MZI_TRY(mzi_pretokenizer_next(e->t->split, &piece, &size));
        if (size == 0)
            return MEZZO_OK;
        MZI_TRY(mzi_bpe_encode(e->t->bpe, &e->scratch, piece, size, &e->ids));
    }
}

/* The added token that the text starts with, or -1. */
static int32_t added_at(const mezzo_tokenizer *t, const char *text, size_t bytes, bool specials) {
    for (int32_t i = 0; i < t->added_count; i++) {
        const mzi_token *token = &t->tokens[t->added[i]];
        if ((size_t)token->size <= bytes && (specials || !token->special) &&
            memcmp(token->bytes, text, (size_t)token->size) == 0)
            return t->added[i];
    }
    return -1;
}

static mezzo_status encode(encoding *e, const char *text, size_t bytes, bool specials) {
    const bool *begins = e->t->begins[specials];
    size_t begin = 0, at = 0;
    mezzo_ctx *ctx = e->t->ctx;
    while (at < bytes && e->t->added_count > 0) {
        int32_t id = -1;
        if (begins[(uint8_t)text[at]])
            id = added_at(e->t, text + at, bytes - at, specials);
        if (id < 0) {
            at++;
            continue;
        }
        MZI_TRY(encode_plain(e, text + begin, at - begin, begin));
        MZI_TRY(mzi_grow(ctx, (void **)&e->ids.ids, &e->ids.capacity, e->ids.count + 1,
                         sizeof *e->ids.ids));
        e->ids.ids[e->ids.count++] = id;
        at += (size_t)e->t->tokens[id].size;
        begin = at;
    }
    return encode_plain(e, text + begin, bytes - begin, begin);
}

static mezzo_status encode_bpe(mezzo_tokenizer *t, const char *text, size_t bytes, bool specials,
                               int32_t **ids, size_t *count) {
    encoding e = {.t = t};
    mezzo_status status = encode(&e, text, bytes, specials);
    size_t size = (size_t)e.ids.count * sizeof **ids;
    int32_t *exact = status == MEZZO_OK ? mzi_alloc(t->ctx, size) : NULL;
    if (exact) {
        if (size > 0)
            memcpy(exact, e.ids.ids, size);
        *ids = exact;
        *count = (size_t)e.ids.count;
    } else if (status == MEZZO_OK) {
        status = mzi_out_of_memory(t->ctx, size, "tokens");
    }
    mzi_free(t->ctx, e.ids.ids, (size_t)e.ids.capacity * sizeof *e.ids.ids);
    mzi_bpe_scratch_deinit(t->ctx, &e.scratch);
    return status;
}

mezzo_status mezzo_tokenizer_encode(mezzo_tokenizer *t, const char *text, size_t bytes,
                                    bool specials, int32_t **ids, size_t *count) {
    mzi_error_clear(t->ctx);
    if (!ids || !count)
        MZI_FAIL(t->ctx, MEZZO_INVALID_ARGUMENT, "%s is null", ids ? "count" : "ids");
    MZI_TRY(check_text(t->ctx, text, bytes));
    if (t->bpe)
        return encode_bpe(t, text ? text : "", bytes, specials, ids, count);
    int32_t *list = mzi_alloc(t->ctx, bytes * sizeof *list);
    if (!list)
        return mzi_out_of_memory(t->ctx, bytes * sizeof *list, "tokens");
    for (size_t i = 0; i < bytes; i++)
        list[i] = (uint8_t)text[i];
    *ids = list;
    *count = bytes;
    return MEZZO_OK;
}

void mezzo_tokenizer_free_ids(mezzo_tokenizer *t, int32_t *ids, size_t count) {
    mzi_free(t->ctx, ids, count * sizeof *ids);
}

mezzo_status mezzo_tokenizer_decode(mezzo_tokenizer *t, const int32_t *ids, size_t count,
                                    char **text, size_t *bytes) {
    mzi_error_clear(t->ctx);
    if (!text || !bytes || (!ids && count > 0))
        MZI_FAIL(t->ctx, MEZZO_INVALID_ARGUMENT, "%s is null",
                 !text    ? "text"
                 : !bytes ? "bytes"
                          : "ids");
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab)
            MZI_FAIL(t->ctx, MEZZO_DATA,
                     "token %zu is %" PRId32 ", and this tokenizer has the ids 0 to %" PRId32
                     "; take the tokenizer that made the tokens",
                     i, ids[i], t->vocab - 1);
        size += (size_t)t->tokens[ids[i]].size;
    }
    char *out = mzi_alloc(t->ctx, size + 1);
    if (!out)
        return mzi_out_of_memory(t->ctx, size + 1, "the text of tokens");
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const mzi_token *token = &t->tokens[ids[i]];
        memcpy(out + used, token->bytes, (size_t)token->size);
        used += (size_t)token->size;
    }
    *text = out;
    *bytes = size;
    return MEZZO_OK;
}

void mezzo_tokenizer_free_text(mezzo_tokenizer *t, char *text, size_t bytes) {
    mzi_free(t->ctx, text, bytes + 1);
}
