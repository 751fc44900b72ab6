/* What a tokenizer is made of: tokens by id, and those that are found as a whole. */
#include <string.h>

#include "data/byte_letters.h"
#include "data/tokenizer.h"

mezzo_status mzi_tokenizer_create(mezzo_tokenizer **out, mezzo_ctx *ctx, int32_t vocab) {
    mezzo_tokenizer *t = mzi_alloc(ctx, sizeof *t);
    if (!t)
        return mzi_out_of_memory(ctx, sizeof *t, "a tokenizer");
    t->ctx = ctx;
    t->vocab = vocab;
    t->end_of_text = -1;
    mzi_arena_init(&t->arena, ctx);
    t->tokens = mzi_alloc(ctx, (size_t)vocab * sizeof *t->tokens);
    if (!t->tokens) {
        mezzo_tokenizer_destroy(t);
        return mzi_out_of_memory(ctx, (size_t)vocab * sizeof *t->tokens, "a vocabulary");
    }
    *out = t;
    return MEZZO_OK;
}

void mezzo_tokenizer_destroy(mezzo_tokenizer *t) {
    if (!t)
        return;
    mzi_pretokenizer_destroy(t->split);
    mzi_bpe_destroy(t->bpe);
    mzi_free(t->ctx, t->tokens, (size_t)t->vocab * sizeof *t->tokens);
    mzi_free(t->ctx, t->added, (size_t)t->added_count * sizeof *t->added);
    mzi_arena_deinit(&t->arena);
    mzi_free(t->ctx, t, sizeof *t);
}

mezzo_status mzi_tokenizer_set(mezzo_tokenizer *t, int32_t id, const uint8_t *bytes, size_t size,
                               bool added, bool special) {
    uint8_t *copy = mzi_arena_push(&t->arena, size);
    if (!copy)
        return mzi_out_of_memory(t->ctx, size, "a token");
    memcpy(copy, bytes, size);
    t->tokens[id] = (mzi_token){copy, (int32_t)size, added, special};
    return MEZZO_OK;
}

mezzo_status mzi_tokenizer_set_bytes(mezzo_tokenizer *t, int32_t byte_ids[256]) {
    uint8_t order[256];
    mzi_byte_order(order);
    for (int32_t id = 0; id < 256; id++) {
        byte_ids[order[id]] = id;
        MZI_TRY(mzi_tokenizer_set(t, id, &order[id], 1, false, false));
    }
    return MEZZO_OK;
}

static mezzo_status list_added(mezzo_tokenizer *t) {
    int32_t count = 0;
    for (int32_t id = 0; id < t->vocab; id++)
        count += t->tokens[id].added;
    t->added = mzi_alloc(t->ctx, (size_t)count * sizeof *t->added);
    if (!t->added)
        return mzi_out_of_memory(t->ctx, (size_t)count * sizeof *t->added, "a vocabulary");
    t->added_count = count;
    int32_t filled = 0;
    for (int32_t id = 0; id < t->vocab; id++) {
        const mzi_token *token = &t->tokens[id];
        if (!token->added)
            continue;
        int32_t at = filled++;
        for (; at > 0 && t->tokens[t->added[at - 1]].size < token->size; at--)
            t->added[at] = t->added[at - 1];
        t->added[at] = id;
        t->begins[1][token->bytes[0]] = true;
        t->begins[0][token->bytes[0]] |= !token->special;
        if (token->special && (size_t)token->size == strlen(MZI_END_OF_TEXT) &&
            memcmp(token->bytes, MZI_END_OF_TEXT, (size_t)token->size) == 0)
            t->end_of_text = id;
    }
    return MEZZO_OK;
}

mezzo_status mzi_tokenizer_finish(mezzo_tokenizer *t, mezzo_pattern pattern) {
    t->pattern = pattern;
    MZI_TRY(list_added(t));
    return mzi_pretokenizer_create(&t->split, t->ctx, pattern);
}
