/* Writing files of tokens in mezzo's own format (docs/token-format.md). */
#include <string.h>

#include "base/digest.h"
#include "data/tokens.h"

#define PART_IDS 4096

/* What is being written: its ids are narrowed in parts, for the digest and again for the file. */
typedef struct content {
    const int32_t *ids;
    int64_t count;
    uint32_t element_bytes;
} content;

/* The bytes of the ids [begin, begin + n), at most PART_IDS: in `part`, or where they are. */
static const void *part_at(const content *c, int64_t begin, int64_t n, uint16_t part[PART_IDS]) {
    if (c->element_bytes == 4)
        return c->ids + begin;
    for (int64_t i = 0; i < n; i++)
        part[i] = (uint16_t)c->ids[begin + i];
    return part;
}

static int64_t part_length(const content *c, int64_t begin) {
    return c->count - begin < PART_IDS ? c->count - begin : PART_IDS;
}

static void put(uint8_t *head, int offset, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        head[offset + i] = (uint8_t)(value >> (8 * i));
}

static void make_head(const content *c, const mezzo_tokens_info *info,
                      uint8_t head[MZI_TOKENS_HEAD]) {
    memset(head, 0, MZI_TOKENS_FIELDS);
    put(head, 0, MZI_TOKENS_MAGIC, 4);
    put(head, 4, MZI_TOKENS_VERSION, 4);
    put(head, 8, c->element_bytes, 4);
    put(head, 12, (uint64_t)info->vocab, 4);
    put(head, 16, (uint64_t)info->end_of_text, 4);
    put(head, 24, (uint64_t)info->count, 8);
    put(head, 32, (uint64_t)info->text_bytes, 8);
    mzi_digest digest;
    char hex[MZI_DIGEST_HEX];
    uint16_t part[PART_IDS];
    mzi_digest_init(&digest);
    mzi_digest_add(&digest, head, MZI_TOKENS_FIELDS);
    for (int64_t i = 0; i < c->count; i += PART_IDS) {
        int64_t n = part_length(c, i);
        mzi_digest_add(&digest, part_at(c, i, n, part), (size_t)n * c->element_bytes);
    }
    mzi_digest_end(&digest, hex);
    memcpy(head + MZI_TOKENS_FIELDS, hex, MZI_DIGEST_HEX - 1);
}

mezzo_status mzi_tokens_write(mezzo_ctx *ctx, const mzi_fs *fs, const char *path,
                              const int32_t *ids, const mezzo_tokens_info *info) {
    mzi_error_clear(ctx);
    if (!path)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "the path for the tokens is null");
    mezzo_tokens_info checked = *info;
    MZI_TRY(mzi_tokens_check(ctx, ids, &checked));
    content c = {ids, checked.count, checked.vocab > UINT16_MAX + 1 ? 4 : 2};
    uint8_t head[MZI_TOKENS_HEAD];
    make_head(&c, &checked, head);
    mzi_atomic_file file;
    MZI_TRY(mzi_atomic_open(ctx, &file, fs, path));
    MZI_TRY(mzi_atomic_write(ctx, &file, head, sizeof head));
    uint16_t part[PART_IDS];
    for (int64_t i = 0; i < c.count; i += PART_IDS) {
        int64_t n = part_length(&c, i);
        MZI_TRY(mzi_atomic_write(ctx, &file, part_at(&c, i, n, part), (size_t)n * c.element_bytes));
    }
    return mzi_atomic_commit(ctx, &file);
}

mezzo_status mezzo_tokens_write(mezzo_ctx *ctx, const char *path, const int32_t *ids, int64_t count,
                                int32_t vocab, int32_t end_of_text, int64_t text_bytes) {
    mezzo_tokens_info info = {count, vocab, end_of_text, text_bytes, "mezzo"};
    return mzi_tokens_write(ctx, &mzi_fs_real, path, ids, &info);
}
