/* Hugging Face's tokenizer.json, written. */
#include <string.h>

#include "base/json.h"
#include "data/byte_letters.h"
#include "data/tokenizer.h"

/* What one pass writes with: the first without room, to learn the size. */
typedef struct writer {
    const mezzo_tokenizer *t;
    mzi_json json;
    char *letters; /* room for two tokens, a blank and a NUL */
} writer;

static void put_added(writer *w) {
    mzi_json_raw(&w->json, "[");
    bool first = true;
    for (int32_t id = 0; id < w->t->vocab; id++) {
        const mzi_token *token = &w->t->tokens[id];
        if (!token->added)
            continue;
        mzi_json_raw(&w->json, first ? "{\"id\":" : ",{\"id\":");
        mzi_json_integer(&w->json, id);
        memcpy(w->letters, token->bytes, (size_t)token->size);
        w->letters[token->size] = '\0';
        mzi_json_raw(&w->json, ",\"content\":");
        mzi_json_string(&w->json, w->letters);
        mzi_json_raw(&w->json, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                               "\"normalized\":false,\"special\":");
        mzi_json_raw(&w->json, token->special ? "true}" : "false}");
        first = false;
    }
    mzi_json_raw(&w->json, "]");
}

static void put_pre_tokenizer(writer *w) {
    if (w->t->pattern == MEZZO_PATTERN_GPT2) {
        mzi_json_raw(&w->json, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                               "\"trim_offsets\":true,\"use_regex\":true}");
        return;
    }
    mzi_json_raw(&w->json, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                           "\"pattern\":{\"Regex\":");
    mzi_json_string(&w->json, mzi_pattern_text(w->t->pattern));
    mzi_json_raw(&w->json, "},\"behavior\":\"Isolated\",\"invert\":false},"
                           "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                           "\"trim_offsets\":true,\"use_regex\":false}]}");
}

/* Added tokens too, by their own characters: so readers give them the same ids, wherever they
 * stand. */
static void put_vocab(writer *w) {
    mzi_json_raw(&w->json, "{");
    for (int32_t id = 0; id < w->t->vocab; id++) {
        const mzi_token *token = &w->t->tokens[id];
        if (token->added) {
            memcpy(w->letters, token->bytes, (size_t)token->size);
            w->letters[token->size] = '\0';
        } else {
            mzi_letters_of_bytes(w->letters, token->bytes, (size_t)token->size);
        }
        mzi_json_key(&w->json, w->letters);
        mzi_json_integer(&w->json, id);
    }
    mzi_json_raw(&w->json, "}");
}

static void put_merges(writer *w) {
    mzi_json_raw(&w->json, "[");
    for (int32_t rank = 0; rank < mzi_bpe_merge_count(w->t->bpe); rank++) {
        mzi_merge m = mzi_bpe_merge(w->t->bpe, rank);
        const mzi_token *left = &w->t->tokens[m.left], *right = &w->t->tokens[m.right];
        size_t used = mzi_letters_of_bytes(w->letters, left->bytes, (size_t)left->size);
        w->letters[used] = ' ';
        mzi_letters_of_bytes(w->letters + used + 1, right->bytes, (size_t)right->size);
        if (rank > 0)
            mzi_json_raw(&w->json, ",");
        mzi_json_string(&w->json, w->letters);
    }
    mzi_json_raw(&w->json, "]");
}

static void put_file(writer *w) {
    mzi_json_raw(&w->json, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
                           "\"added_tokens\":");
    put_added(w);
    mzi_json_raw(&w->json, ",\"normalizer\":null,\"pre_tokenizer\":");
    put_pre_tokenizer(w);
    mzi_json_raw(&w->json, ",\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\","
                           "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
                           "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                           "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                           "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,"
                           "\"vocab\":");
    put_vocab(w);
    mzi_json_raw(&w->json, ",\"merges\":");
    put_merges(w);
    mzi_json_raw(&w->json, "}}\n");
}

static mezzo_status write_with(writer *w, const mzi_fs *fs, const char *path) {
    put_file(w);
    size_t bytes = w->json.size;
    char *text = mzi_alloc(w->t->ctx, bytes);
    if (!text)
        return mzi_out_of_memory(w->t->ctx, bytes, "a tokenizer file");
    w->json = (mzi_json){text, bytes, 0, 0};
    put_file(w);
    mezzo_status status = mzi_fs_replace(w->t->ctx, fs, path, text, bytes);
    mzi_free(w->t->ctx, text, bytes);
    return status;
}

mezzo_status mzi_tokenizer_save(const mezzo_tokenizer *t, const mzi_fs *fs, const char *path) {
    if (!t->bpe)
        MZI_FAIL(t->ctx, MEZZO_INVALID_ARGUMENT,
                 "the bytes tokenizer has no vocabulary to save in '%s': it is known by its name",
                 path);
    size_t longest = 0;
    for (int32_t id = 0; id < t->vocab; id++)
        if ((size_t)t->tokens[id].size > longest)
            longest = (size_t)t->tokens[id].size;
    size_t bytes = 2 * (2 * longest) + 2;
    writer w = {t, {NULL, 0, 0, 0}, mzi_alloc(t->ctx, bytes)};
    mezzo_status status =
        w.letters ? write_with(&w, fs, path) : mzi_out_of_memory(t->ctx, bytes, "a tokenizer file");
    mzi_free(t->ctx, w.letters, bytes);
    return status;
}
