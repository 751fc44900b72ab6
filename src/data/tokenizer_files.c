/* Tokenizer files: which format, and GPT-2's vocab.bpe. */
#include "data/tokenizer_files.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "data/byte_letters.h"

#define FILE_MAX ((size_t)64 << 20) /* the largest in use have half of that */
#define HEADER "#version: 0.2"

mezzo_status mzi_tokenizer_name(mzi_tokenizer_reader *r, int32_t id) {
    const mzi_token *token = &r->t->tokens[id];
    size_t size = (size_t)token->size;
    return mzi_bytes_map_add(&r->ids, token->bytes, size, mzi_bytes_hash(token->bytes, size), id);
}

static int32_t find(const mzi_tokenizer_reader *r, int32_t begin, int32_t end) {
    const uint8_t *bytes = r->parts + begin;
    size_t size = (size_t)(end - begin);
    return mzi_bytes_map_find(&r->ids, bytes, size, mzi_bytes_hash(bytes, size));
}

mezzo_status mzi_tokenizer_read_merge(mzi_tokenizer_reader *r, const char *where, const char *left,
                                      size_t left_size, const char *right, size_t right_size,
                                      mzi_merge_read *out) {
    MZI_TRY(mzi_grow(r->ctx, (void **)&r->parts, &r->parts_capacity,
                     (int32_t)(left_size + right_size) + 1, 1));
    int32_t a = mzi_bytes_of_letters(r->parts, left, left_size);
    int32_t b = a < 0 ? -1 : mzi_bytes_of_letters(r->parts + a, right, right_size);
    if (b < 0)
        MZI_REFUSE(r, "%s: the %s part has a character that stands for no byte", where,
                   a < 0 ? "left" : "right");
    if (a == 0 || b == 0)
        MZI_REFUSE(r, "%s: the %s part is empty", where, a == 0 ? "left" : "right");
    *out = (mzi_merge_read){{find(r, 0, a), find(r, a, a + b), find(r, 0, a + b)}, a, a + b};
    return MEZZO_OK;
}

/* One merge; its token gets the next id. */
static mezzo_status read_line(mzi_tokenizer_reader *r, int32_t line, const char *text,
                              size_t size) {
    char where[32];
    mzi_format(where, sizeof where, "line %" PRId32, line);
    const char *blank = memchr(text, ' ', size);
    if (!blank)
        MZI_REFUSE(r, "%s: expected LEFT RIGHT, two parts with a blank between them", where);
    size_t left = (size_t)(blank - text);
    mzi_merge_read read = {0};
    MZI_TRY(mzi_tokenizer_read_merge(r, where, text, left, blank + 1, size - left - 1, &read));
    mzi_merge *m = &read.merge;
    if (m->result >= 0 && mzi_bpe_rank(r->t->bpe, m->left, m->right) >= 0)
        MZI_REFUSE(r, "%s: the merge of line %" PRId32 " again; each may come once", where,
                   2 + mzi_bpe_rank(r->t->bpe, m->left, m->right));
    if (m->result >= 0)
        MZI_REFUSE(r, "%s: makes token %" PRId32 " a second time", where, m->result);
    if (m->left < 0 || m->right < 0)
        MZI_REFUSE(r,
                   "%s: the %s part is no token yet; a merge stands behind those that make its "
                   "parts: are the lines out of order?",
                   where, m->left < 0 ? "left" : "right");
    m->result = 256 + mzi_bpe_merge_count(r->t->bpe);
    MZI_TRY(mzi_tokenizer_set(r->t, m->result, r->parts, (size_t)read.bytes, false, false));
    MZI_TRY(mzi_tokenizer_name(r, m->result));
    mzi_bpe_add(r->t->bpe, *m);
    return MEZZO_OK;
}

/* The line at `text`, without its end; false behind the last one. */
static bool next_line(const char **text, const char *end, const char **line, size_t *size) {
    if (*text == end)
        return false;
    const char *stop = memchr(*text, '\n', (size_t)(end - *text));
    *line = *text;
    *size = (size_t)((stop ? stop : end) - *text);
    *text = stop ? stop + 1 : end;
    return true;
}

static mezzo_status read_vocab_bpe(mzi_tokenizer_reader *r) {
    const char *text = r->text, *end = r->text + r->bytes, *line = NULL;
    size_t size = 0;
    if (!next_line(&text, end, &line, &size) || size != strlen(HEADER) ||
        memcmp(line, HEADER, size) != 0)
        MZI_REFUSE(r, "line 1: expected \"%s\", the header of a list of merges", HEADER);
    int64_t count = 0;
    for (const char *rest = text; next_line(&rest, end, &line, &size);)
        count++;
    if (count > MZI_TOKENIZER_VOCAB_MAX - 257)
        MZI_REFUSE(r, "has %" PRId64 " merges; at most %d are read", count,
                   MZI_TOKENIZER_VOCAB_MAX - 257);
    int32_t merges = (int32_t)count;
    MZI_TRY(mzi_tokenizer_create(&r->t, r->ctx, 256 + merges + 1));
    MZI_TRY(mzi_tokenizer_set_bytes(r->t, r->byte_ids));
    for (int32_t id = 0; id < 256; id++)
        MZI_TRY(mzi_tokenizer_name(r, id));
    MZI_TRY(mzi_bpe_create(&r->t->bpe, r->ctx, r->byte_ids, merges));
    for (int32_t i = 0; next_line(&text, end, &line, &size); i++)
        MZI_TRY(read_line(r, 2 + i, line, size));
    const uint8_t *special = (const uint8_t *)MZI_END_OF_TEXT;
    const size_t special_size = strlen(MZI_END_OF_TEXT);
    if (mzi_bytes_map_find(&r->ids, special, special_size, mzi_bytes_hash(special, special_size)) >=
        0)
        MZI_REFUSE(r, "a merge makes " MZI_END_OF_TEXT ", which is the special token's name");
    MZI_TRY(mzi_tokenizer_set(r->t, 256 + merges, special, special_size, true, true));
    return mzi_tokenizer_finish(r->t, MEZZO_PATTERN_GPT2);
}

static mezzo_status check_utf8(const mzi_tokenizer_reader *r) {
    int64_t line = 1;
    for (size_t at = 0; at < r->bytes;) {
        size_t size = mzi_utf8_character(r->text + at);
        if (size == 0)
            MZI_REFUSE(r,
                       "line %" PRId64 ", offset %zu: byte 0x%02x is not UTF-8, or a NUL; fetch "
                       "the file again",
                       line, at, (uint8_t)r->text[at]);
        line += r->text[at] == '\n';
        at += size;
    }
    return MEZZO_OK;
}

static mezzo_status read_any(mzi_tokenizer_reader *r) {
    MZI_TRY(check_utf8(r));
    if (r->text[0] == '#')
        return read_vocab_bpe(r);
    size_t first = strspn(r->text, " \t\r\n");
    if (r->text[first] == '{')
        return mzi_tokenizer_read_json(r);
    MZI_REFUSE(r, "is neither a tokenizer.json, which starts with {, nor a vocab.bpe, which starts "
                  "with \"" HEADER "\"");
}

mezzo_status mezzo_tokenizer_open(mezzo_tokenizer **out, mezzo_ctx *ctx, const char *path) {
    mzi_error_clear(ctx);
    if (!path)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "path is null");
    mzi_tokenizer_reader r = {.ctx = ctx, .path = path, .ids = {.ctx = ctx}};
    void *text = NULL;
    if (access(path, F_OK) != 0)
        MZI_FAIL(ctx, MEZZO_DATA,
                 "there is no '%s'; a tokenizer is a vocab.bpe or a tokenizer.json (mezzo tokenize "
                 "--train makes one)",
                 path);
    MZI_TRY(mzi_fs_read_file(ctx, path, FILE_MAX, &text, &r.bytes));
    r.text = text;
    mezzo_status status = read_any(&r);
    mzi_bytes_map_deinit(&r.ids);
    mzi_free(ctx, r.parts, (size_t)r.parts_capacity);
    mzi_free(ctx, text, r.bytes + 1);
    if (status != MEZZO_OK)
        mezzo_tokenizer_destroy(r.t);
    else
        *out = r.t;
    return status;
}
