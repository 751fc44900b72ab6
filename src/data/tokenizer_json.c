/* Hugging Face's tokenizer.json, read. */
#include <inttypes.h>
#include <string.h>

#include <jansson.h>

#include "base/json.h"
#include "data/byte_letters.h"
#include "data/tokenizer_files.h"

enum {
    SHOWN_BYTES = 80
};

/* A text of the file as a message may show it: quoted, escaped, cut. */
static const char *shown(char out[SHOWN_BYTES], const char *text) {
    mzi_json json = {out, SHOWN_BYTES - 1, 0, 0};
    mzi_json_string(&json, text ? text : "");
    if (mzi_json_fits(&json))
        out[json.size] = '\0';
    else
        memcpy(out + SHOWN_BYTES - 5, "...\"", 5);
    return out;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* A key that is missing, null or an empty text asks for nothing. */
static bool is_absent(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return !value || json_is_null(value) || (json_is_string(value) && !*json_string_value(value));
}

/* A key that may be true where it is said (`otherwise`: where it is not). */
static bool is_on(const json_t *object, const char *key, bool otherwise) {
    const json_t *value = json_object_get(object, key);
    return value ? json_is_true(value) : otherwise;
}

static mezzo_status check_model(const mzi_tokenizer_reader *r, const json_t *root,
                                const json_t *model) {
    char text[SHOWN_BYTES];
    if (strcmp(text_of(model, "type"), "BPE") != 0)
        MZI_REFUSE(r, "model.type is %s; supported is \"BPE\"",
                   shown(text, text_of(model, "type")));
    static const char *const absent[] = {"dropout", "continuing_subword_prefix",
                                         "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (!is_absent(model, absent[i]))
            MZI_REFUSE(r, "model.%s is set; supported is null", absent[i]);
    static const char *const off[] = {"byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        if (is_on(model, off[i], false))
            MZI_REFUSE(r, "model.%s is true; supported is false", off[i]);
    const json_t *normalizer = json_object_get(root, "normalizer");
    if (normalizer && !json_is_null(normalizer))
        MZI_REFUSE(r, "normalizer is %s; supported is null: the text as it is",
                   shown(text, text_of(normalizer, "type")));
    const json_t *post = json_object_get(root, "post_processor");
    if (post && !json_is_null(post) && strcmp(text_of(post, "type"), "ByteLevel") != 0)
        mzi_log(r->ctx, MEZZO_LOG_WARNING,
                "'%s': its post_processor is not applied: encoding adds no tokens", r->path);
    return MEZZO_OK;
}

#define SUPPORTED                                                                                  \
    "supported are ByteLevel, and a Sequence of Split (pattern: the Regex of GPT-2 or GPT-4, "     \
    "behavior: Isolated, invert: false) and ByteLevel with use_regex false"

static mezzo_status check_byte_level(const mzi_tokenizer_reader *r, const json_t *level,
                                     bool use_regex) {
    char text[SHOWN_BYTES];
    if (strcmp(text_of(level, "type"), "ByteLevel") != 0)
        MZI_REFUSE(r, "pre_tokenizer has type %s; " SUPPORTED, shown(text, text_of(level, "type")));
    if (is_on(level, "add_prefix_space", true))
        MZI_REFUSE(r, "pre_tokenizer ByteLevel has add_prefix_space true; supported is false");
    if (is_on(level, "use_regex", true) != use_regex)
        MZI_REFUSE(r, "pre_tokenizer ByteLevel has use_regex %s; " SUPPORTED,
                   use_regex ? "false" : "true");
    return MEZZO_OK;
}

static mezzo_status read_pattern(const mzi_tokenizer_reader *r, const json_t *root,
                                 mezzo_pattern *pattern) {
    const json_t *pre = json_object_get(root, "pre_tokenizer");
    *pattern = MEZZO_PATTERN_GPT2;
    if (strcmp(text_of(pre, "type"), "Sequence") != 0)
        return check_byte_level(r, pre, true);
    const json_t *list = json_object_get(pre, "pretokenizers");
    const json_t *split = json_array_get(list, 0);
    if (json_array_size(list) != 2 || strcmp(text_of(split, "type"), "Split") != 0 ||
        strcmp(text_of(split, "behavior"), "Isolated") != 0 || is_on(split, "invert", false))
        MZI_REFUSE(r, "pre_tokenizer is another Sequence; " SUPPORTED);
    const char *regex = text_of(json_object_get(split, "pattern"), "Regex");
    char text[SHOWN_BYTES];
    if (strcmp(regex, mzi_pattern_text(MEZZO_PATTERN_GPT4)) == 0)
        *pattern = MEZZO_PATTERN_GPT4;
    else if (strcmp(regex, mzi_pattern_text(MEZZO_PATTERN_GPT2)) != 0)
        MZI_REFUSE(r, "pre_tokenizer splits by %s; " SUPPORTED, shown(text, regex));
    return check_byte_level(r, json_array_get(list, 1), false);
}

static mezzo_status read_id(const mzi_tokenizer_reader *r, const char *name, const json_t *value,
                            int32_t *id) {
    char text[SHOWN_BYTES];
    if (!json_is_integer(value))
        MZI_REFUSE(r, "the id of token %s is no whole number", shown(text, name));
    json_int_t number = json_integer_value(value);
    if (number < 0 || number >= r->t->vocab)
        MZI_REFUSE(r,
                   "token %s has id %" JSON_INTEGER_FORMAT ", and with its %" PRId32
                   " tokens the ids are 0 to %" PRId32 " without a gap",
                   shown(text, name), number, r->t->vocab, r->t->vocab - 1);
    *id = (int32_t)number;
    if (r->t->tokens[*id].bytes && !r->t->tokens[*id].added)
        MZI_REFUSE(r, "token %s has id %" PRId32 ", which another one has already",
                   shown(text, name), *id);
    return MEZZO_OK;
}

static mezzo_status read_added(const mzi_tokenizer_reader *r, const json_t *entry,
                               const json_t *vocab) {
    const char *content = text_of(entry, "content");
    char text[SHOWN_BYTES];
    int32_t id = 0;
    if (content[0] == '\0')
        MZI_REFUSE(r, "added_tokens has an entry without content");
    MZI_TRY(read_id(r, content, json_object_get(entry, "id"), &id));
    if (r->t->tokens[id].bytes)
        MZI_REFUSE(r, "added_tokens: id %" PRId32 " comes twice, the second time for %s", id,
                   shown(text, content));
    const json_t *in_vocab = json_object_get(vocab, content);
    if (in_vocab && json_integer_value(in_vocab) != id)
        MZI_REFUSE(r, "token %s has id %" PRId32 " in added_tokens, and another in model.vocab",
                   shown(text, content), id);
    static const char *const off[] = {"single_word", "lstrip", "rstrip"};
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        if (is_on(entry, off[i], false))
            MZI_REFUSE(r, "added_tokens: %s of %s is true; supported is false", off[i],
                       shown(text, content));
    return mzi_tokenizer_set(r->t, id, (const uint8_t *)content, strlen(content), true,
                             is_on(entry, "special", false));
}

static mezzo_status read_token(mzi_tokenizer_reader *r, const char *letters, const json_t *value) {
    char text[SHOWN_BYTES];
    int32_t id = 0;
    MZI_TRY(read_id(r, letters, value, &id));
    const mzi_token *token = &r->t->tokens[id];
    size_t size = strlen(letters);
    if (token->added && (size_t)token->size == size && memcmp(token->bytes, letters, size) == 0)
        return MEZZO_OK;
    if (token->added)
        MZI_REFUSE(r, "token %s of model.vocab has id %" PRId32 ", which an added token has",
                   shown(text, letters), id);
    MZI_TRY(mzi_grow(r->ctx, (void **)&r->parts, &r->parts_capacity, (int32_t)size, 1));
    int32_t bytes = mzi_bytes_of_letters(r->parts, letters, size);
    if (bytes <= 0)
        MZI_REFUSE(r,
                   "token %s of model.vocab is empty, or has a character that stands for no byte",
                   shown(text, letters));
    MZI_TRY(mzi_tokenizer_set(r->t, id, r->parts, (size_t)bytes, false, false));
    return mzi_tokenizer_name(r, id);
}

/* Ids have no gaps, and every byte is a token. */
static mezzo_status check_tokens(mzi_tokenizer_reader *r) {
    for (int32_t id = 0; id < r->t->vocab; id++)
        if (!r->t->tokens[id].bytes)
            MZI_REFUSE(r, "no token has id %" PRId32 "; ids are 0 to %" PRId32 " without a gap", id,
                       r->t->vocab - 1);
    for (unsigned b = 0; b < 256; b++) {
        uint8_t byte = (uint8_t)b;
        r->byte_ids[b] = mzi_bytes_map_find(&r->ids, &byte, 1, mzi_bytes_hash(&byte, 1));
        if (r->byte_ids[b] < 0)
            MZI_REFUSE(r, "model.vocab has no token for byte 0x%02x; byte-level BPE has all 256",
                       byte);
    }
    return MEZZO_OK;
}

static mezzo_status read_tokens(mzi_tokenizer_reader *r, const json_t *root, json_t *vocab) {
    json_t *added = json_object_get(root, "added_tokens");
    if (!json_is_object(vocab) || (added && !json_is_array(added)))
        MZI_REFUSE(r, "model.vocab must be an object and added_tokens a list");
    size_t count = json_object_size(vocab), index;
    const char *key;
    json_t *value;
    json_array_foreach(added, index, value) {
        if (!json_object_get(vocab, text_of(value, "content")))
            count++;
    }
    if (count > MZI_TOKENIZER_VOCAB_MAX)
        MZI_REFUSE(r, "has %zu tokens; at most %d are read", count, MZI_TOKENIZER_VOCAB_MAX);
    MZI_TRY(mzi_tokenizer_create(&r->t, r->ctx, (int32_t)count));
    json_array_foreach(added, index, value) {
        MZI_TRY(read_added(r, value, vocab));
    }
    json_object_foreach(vocab, key, value) {
        MZI_TRY(read_token(r, key, value));
    }
    return check_tokens(r);
}

/* "LEFT RIGHT" or ["LEFT", "RIGHT"]. */
static mezzo_status read_merge(mzi_tokenizer_reader *r, size_t index, const json_t *entry) {
    char where[48];
    mzi_format(where, sizeof where, "model.merges[%zu]", index);
    const char *left = json_string_value(json_array_get(entry, 0));
    const char *right = json_string_value(json_array_get(entry, 1));
    const char *line = json_string_value(entry), *blank = line ? strchr(line, ' ') : NULL;
    if (blank ? strchr(blank + 1, ' ') != NULL : !left || !right || json_array_size(entry) != 2)
        MZI_REFUSE(r, "%s: expected \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"]", where);
    size_t left_size = blank ? (size_t)(blank - line) : strlen(left);
    if (blank) {
        left = line;
        right = blank + 1;
    }
    mzi_merge_read read = {0};
    MZI_TRY(mzi_tokenizer_read_merge(r, where, left, left_size, right, strlen(right), &read));
    mzi_merge m = read.merge;
    if (m.left < 0 || m.right < 0 || m.result < 0)
        MZI_REFUSE(r, "%s: %s is no token of model.vocab", where,
                   m.left < 0    ? "its left part"
                   : m.right < 0 ? "its right part"
                                 : "what it makes");
    int32_t rank = mzi_bpe_rank(r->t->bpe, m.left, m.right);
    if (rank >= 0)
        MZI_REFUSE(r, "%s: the same as model.merges[%" PRId32 "]; each may come once", where, rank);
    mzi_bpe_add(r->t->bpe, m);
    return MEZZO_OK;
}

static mezzo_status read_root(mzi_tokenizer_reader *r, const json_t *root) {
    const json_t *model = json_object_get(root, "model");
    const json_t *merges = json_object_get(model, "merges");
    mezzo_pattern pattern;
    MZI_TRY(check_model(r, root, model));
    MZI_TRY(read_pattern(r, root, &pattern));
    MZI_TRY(read_tokens(r, root, json_object_get(model, "vocab")));
    if (!json_is_array(merges) || json_array_size(merges) > 8 * MZI_TOKENIZER_VOCAB_MAX)
        MZI_REFUSE(r, "model.merges must be a list of at most %d merges",
                   8 * MZI_TOKENIZER_VOCAB_MAX);
    MZI_TRY(mzi_bpe_create(&r->t->bpe, r->ctx, r->byte_ids, (int32_t)json_array_size(merges)));
    for (size_t i = 0; i < json_array_size(merges); i++)
        MZI_TRY(read_merge(r, i, json_array_get(merges, i)));
    return mzi_tokenizer_finish(r->t, pattern);
}

mezzo_status mzi_tokenizer_read_json(mzi_tokenizer_reader *r) {
    json_error_t error;
    json_t *root = json_loadb(r->text, r->bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return mzi_out_of_memory(r->ctx, r->bytes, "a tokenizer file");
    if (!root)
        MZI_REFUSE(r, "line %d, column %d: %.200s", error.line, error.column, error.text);
    mezzo_status status = read_root(r, root);
    json_decref(root);
    return status;
}
