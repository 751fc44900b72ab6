/* Sequences of token ids: in memory, drawn at random, copied and split. */
#include "data/tokens.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/fs.h"
#include "base/rng.h"

static mezzo_status check_count(mezzo_ctx *ctx, int64_t count, int64_t count_max) {
    if (count < 1 || count > count_max)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%" PRId64 " tokens; give 1 to %" PRId64, count,
                 count_max);
    return MEZZO_OK;
}

static mezzo_status check_ids(mezzo_ctx *ctx, const int32_t *ids, mezzo_tokens_info *info) {
    int32_t limit = info->vocab > 0 ? info->vocab : INT32_MAX;
    int32_t largest = 0;
    for (int64_t i = 0; i < info->count; i++) {
        if (ids[i] < 0 || ids[i] >= limit)
            MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                     "token %" PRId64 " is id %" PRId32 ", expected 0 to %" PRId32, i, ids[i],
                     limit - 1);
        if (ids[i] > largest)
            largest = ids[i];
    }
    if (info->vocab == 0)
        info->vocab = largest + 1;
    return MEZZO_OK;
}

mezzo_status mzi_tokens_check(mezzo_ctx *ctx, const int32_t *ids, mezzo_tokens_info *info) {
    if (!ids)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "the ids are null");
    MZI_TRY(check_count(ctx, info->count, INT64_MAX / (int64_t)sizeof(int32_t)));
    if (info->vocab < 0 || info->text_bytes < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "a vocabulary of %" PRId32 " ids and a text of %" PRId64
                 " bytes; give neither less than 0 (vocabulary 0: the largest id + 1, text 0: "
                 "unknown)",
                 info->vocab, info->text_bytes);
    mezzo_tokens_info checked = *info;
    MZI_TRY(check_ids(ctx, ids, &checked));
    if (info->end_of_text < -1 || info->end_of_text >= checked.vocab)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "the end of a text is id %" PRId32 ", and the vocabulary has %" PRId32
                 " ids; give one of them, or -1 for none",
                 info->end_of_text, checked.vocab);
    *info = checked;
    return MEZZO_OK;
}

mezzo_status mezzo_tokens_from_memory(mezzo_tokens **out, mezzo_ctx *ctx, const int32_t *ids,
                                      int64_t count, int32_t vocab, int32_t end_of_text,
                                      int64_t text_bytes) {
    mzi_error_clear(ctx);
    mezzo_tokens_info info = {count, vocab, end_of_text, text_bytes, "memory"};
    MZI_TRY(mzi_tokens_check(ctx, ids, &info));
    mezzo_tokens *tokens = mzi_alloc(ctx, sizeof *tokens);
    if (!tokens)
        return mzi_out_of_memory(ctx, sizeof *tokens, "a sequence of tokens");
    size_t bytes = (size_t)count * sizeof *ids;
    void *copy = mzi_alloc(ctx, bytes);
    if (!copy) {
        mzi_free(ctx, tokens, sizeof *tokens);
        return mzi_out_of_memory(ctx, bytes, "token ids");
    }
    memcpy(copy, ids, bytes);
    *tokens = (mezzo_tokens){.ctx = ctx,
                             .info = info,
                             .ids = copy,
                             .element_bytes = sizeof *ids,
                             .block = copy,
                             .block_bytes = bytes};
    *out = tokens;
    return MEZZO_OK;
}

mezzo_status mezzo_tokens_random(mezzo_tokens **out, mezzo_ctx *ctx, int64_t count, int32_t vocab,
                                 uint64_t seed) {
    mzi_error_clear(ctx);
    MZI_TRY(check_count(ctx, count, INT64_MAX));
    if (vocab < 1)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "a vocabulary of %" PRId32 " ids; random ones need at least 1", vocab);
    mezzo_tokens *tokens = mzi_alloc(ctx, sizeof *tokens);
    if (!tokens)
        return mzi_out_of_memory(ctx, sizeof *tokens, "a sequence of tokens");
    *tokens = (mezzo_tokens){.ctx = ctx, .info = {count, vocab, -1, 0, "random"}, .seed = seed};
    *out = tokens;
    return MEZZO_OK;
}

/* Token i is word i % 4 of block i / 4, brought to [0, vocab) by its upper bits. */
static void draw(const mezzo_tokens *tokens, int64_t begin, int64_t count, int32_t *out) {
    uint64_t stream = mzi_name_hash("data.random_tokens");
    uint32_t words[4];
    for (int64_t i = 0; i < count; i++) {
        uint64_t at = (uint64_t)(begin + i);
        if (i == 0 || at % 4 == 0)
            mzi_rng4(words, tokens->seed, stream, at / 4, 0);
        out[i] = (int32_t)((uint64_t)words[at % 4] * (uint64_t)tokens->info.vocab >> 32);
    }
}

void mzi_tokens_copy(const mezzo_tokens *tokens, int64_t begin, int64_t count, int32_t *out) {
    assert(begin >= 0 && count >= 0 && begin <= tokens->info.count - count);
    if (!tokens->ids) {
        draw(tokens, begin, count, out);
    } else if (tokens->element_bytes == 2) {
        const uint16_t *ids = (const uint16_t *)tokens->ids + begin;
        for (int64_t i = 0; i < count; i++)
            out[i] = ids[i];
    } else {
        memcpy(out, (const int32_t *)tokens->ids + begin, (size_t)count * sizeof *out);
    }
}

mezzo_tokens_info mezzo_tokens_get_info(const mezzo_tokens *tokens) {
    return tokens->info;
}

int32_t mezzo_tokens_at(const mezzo_tokens *tokens, int64_t index) {
    int32_t id;
    mzi_tokens_copy(tokens, index, 1, &id);
    return id;
}

/* The first start of a document at `cut` or behind it, or `cut` if there is none. */
static int64_t next_document(const mezzo_tokens *tokens, int64_t cut) {
    int32_t end_of_text = tokens->info.end_of_text;
    for (int64_t i = cut; end_of_text >= 0 && i > 0 && i < tokens->info.count; i++)
        if (mezzo_tokens_at(tokens, i - 1) == end_of_text)
            return i;
    return cut;
}

mezzo_status mezzo_tokens_split(const mezzo_tokens *tokens, double fraction, int64_t least,
                                int64_t *first_validation) {
    mezzo_ctx *ctx = tokens->ctx;
    mzi_error_clear(ctx);
    if (!first_validation)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "first_validation is null");
    if (!(fraction > 0.0 && fraction < 1.0) || least < 1)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "a fraction of %g for validation, and at least %" PRId64
                 " tokens; give a fraction above 0 and below 1, and at least 1 token",
                 fraction, least);
    int64_t count = tokens->info.count;
    double wanted = round(fraction * (double)count);
    /* A count beyond 2^53 may have been rounded up: the part is never more than the whole. */
    int64_t validation = wanted < (double)count ? (int64_t)wanted : count;
    int64_t cut = next_document(tokens, count - validation);
    if (cut < least || count - cut < least)
        MZI_FAIL(ctx, MEZZO_DATA,
                 "a fraction of %g for validation cuts %" PRId64 " tokens into %" PRId64
                 " to train and %" PRId64 " to validate, and each side needs at least %" PRId64
                 "; use another fraction, a shorter context or more text",
                 fraction, count, cut, count - cut, least);
    *first_validation = cut;
    return MEZZO_OK;
}

void mezzo_tokens_destroy(mezzo_tokens *tokens) {
    if (!tokens)
        return;
    mezzo_ctx *ctx = tokens->ctx;
    if (tokens->is_mapped)
        mzi_fs_unmap(tokens->block, tokens->block_bytes);
    else
        mzi_free(ctx, tokens->block, tokens->block_bytes);
    mzi_free(ctx, tokens, sizeof *tokens);
}
