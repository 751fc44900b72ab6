/* Files of tokens: mezzo's own, llm.c's and nanoGPT's read, mezzo's own written.
 *
 *   mezzo     | fields, 64 | digest, 64 hex digits | ids, 2 or 4 bytes each |
 *   llm.c     | 256 x int32: magic, version, count, unused ... | ids, 2 or 4 bytes each |
 *   nanoGPT   | ids, 2 bytes each |
 *
 * All of them are little-endian, and are used where they are mapped. */
#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
#include "base/fs.h"
#include "data/tokens.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ids are used as they are mapped");
_Static_assert(MZI_TOKENS_FIELDS + MZI_DIGEST_HEX - 1 == MZI_TOKENS_HEAD, "the digest fits");

#define LLMC_HEAD 1024
#define LLMC_MAGIC_16 20240520u
#define LLMC_VERSION_16 1u
#define LLMC_MAGIC_32 20240801u
#define LLMC_VERSION_32 7u
#define LLMC_DATE_FIRST 20240101u
#define LLMC_DATE_LAST 20241231u

typedef struct token_file {
    mezzo_ctx *ctx;
    const char *path;
    const uint8_t *bytes;
    int64_t size;
    /* From the head: */
    mezzo_tokens_info info; /* its vocabulary is 0 if the file declares none */
    int64_t head_bytes;
    int element_bytes;
} token_file;

static uint32_t word_at(const token_file *file, int64_t offset) {
    uint32_t word;
    memcpy(&word, file->bytes + offset, sizeof word);
    return word;
}

static uint64_t long_at(const token_file *file, int64_t offset) {
    uint64_t value;
    memcpy(&value, file->bytes + offset, sizeof value);
    return value;
}

/* Ids up to the end of the file, neither more nor fewer than the head announces. */
static mezzo_status check_size(const token_file *file, uint64_t announced) {
    uint64_t bytes = (uint64_t)(file->size - file->head_bytes);
    uint64_t element = (uint64_t)file->element_bytes;
    if (announced == 0)
        MZI_REFUSE(file, "is empty: its header announces 0 tokens");
    if (announced > bytes / element)
        MZI_REFUSE(file,
                   "is truncated: its header announces %" PRIu64 " tokens of %d bytes, and %" PRIu64
                   " bytes follow it; fetch the file again",
                   announced, file->element_bytes, bytes);
    if (announced * element != bytes)
        MZI_REFUSE(file,
                   "is too long: its header announces %" PRIu64
                   " tokens of %d bytes, which end at offset %" PRIu64 ", and the file at %" PRId64,
                   announced, file->element_bytes, (uint64_t)file->head_bytes + announced * element,
                   file->size);
    return MEZZO_OK;
}

static mezzo_status check_head(const token_file *file, int64_t bytes, const char *format) {
    if (file->size < bytes)
        MZI_REFUSE(file,
                   "is truncated: the header of %s tokens has %" PRId64
                   " bytes, and the file has %" PRId64,
                   format, bytes, file->size);
    return MEZZO_OK;
}

static mezzo_status read_llmc(token_file *file, bool is_wide) {
    MZI_TRY(check_head(file, LLMC_HEAD, "llm.c"));
    uint32_t version = is_wide ? LLMC_VERSION_32 : LLMC_VERSION_16;
    if (word_at(file, 4) != version)
        MZI_REFUSE(file, "at offset 4: llm.c tokens of version %" PRIu32 ", expected %" PRIu32,
                   word_at(file, 4), version);
    file->head_bytes = LLMC_HEAD;
    file->element_bytes = is_wide ? 4 : 2;
    file->info.format = "llm.c";
    file->info.count = word_at(file, 8);
    return check_size(file, word_at(file, 8));
}

static mezzo_status read_nanogpt(token_file *file) {
    if (file->size % 2 != 0)
        MZI_REFUSE(file,
                   "has an odd size, %" PRId64
                   " bytes; without a header it must be tokens of 2 bytes each",
                   file->size);
    file->head_bytes = 0;
    file->element_bytes = 2;
    file->info.format = "nanoGPT";
    file->info.count = file->size / 2;
    return MEZZO_OK;
}

void mzi_tokens_digest(const uint8_t *fields, const void *ids, size_t bytes, char *hex) {
    mzi_digest digest;
    mzi_digest_init(&digest);
    mzi_digest_add(&digest, fields, MZI_TOKENS_FIELDS);
    mzi_digest_add(&digest, ids, bytes);
    mzi_digest_end(&digest, hex);
}

static mezzo_status check_digest(const token_file *file) {
    char hex[MZI_DIGEST_HEX];
    mzi_tokens_digest(file->bytes, file->bytes + MZI_TOKENS_HEAD,
                      (size_t)(file->size - MZI_TOKENS_HEAD), hex);
    if (memcmp(hex, file->bytes + MZI_TOKENS_FIELDS, MZI_DIGEST_HEX - 1) != 0)
        MZI_REFUSE(file,
                   "is damaged: its digest is %s, and another one stands at offset %d; make or "
                   "fetch the file again",
                   hex, MZI_TOKENS_FIELDS);
    return MEZZO_OK;
}

static mezzo_status read_own(token_file *file) {
    MZI_TRY(check_head(file, MZI_TOKENS_HEAD, "mezzo"));
    uint32_t version = word_at(file, 4), element = word_at(file, 8), vocab = word_at(file, 12);
    int64_t end_of_text = (int32_t)word_at(file, 16);
    if (version != MZI_TOKENS_VERSION)
        MZI_REFUSE(file, "at offset 4: tokens of version %" PRIu32 ", and this mezzo reads %u",
                   version, MZI_TOKENS_VERSION);
    if (element != 2 && element != 4)
        MZI_REFUSE(file, "at offset 8: ids of %" PRIu32 " bytes, expected 2 or 4", element);
    if (vocab < 1 || vocab > INT32_MAX)
        MZI_REFUSE(file, "at offset 12: a vocabulary of %" PRIu32 " ids, expected 1 to %d", vocab,
                   INT32_MAX);
    if (end_of_text < -1 || end_of_text >= (int64_t)vocab)
        MZI_REFUSE(file,
                   "at offset 16: the end of a text is id %" PRId64
                   ", expected -1 (none) to %" PRIu32,
                   end_of_text, vocab - 1);
    if (long_at(file, 32) > INT64_MAX)
        MZI_REFUSE(file, "at offset 32: a text of %" PRIu64 " bytes, which is negative",
                   long_at(file, 32));
    for (int64_t i = 40; i < MZI_TOKENS_FIELDS; i++)
        if (file->bytes[i] != 0)
            MZI_REFUSE(file, "at offset %" PRId64 ": 0x%02x, expected 0", i, file->bytes[i]);
    if (word_at(file, 20) != 0)
        MZI_REFUSE(file, "at offset 20: 0x%" PRIx32 ", expected 0", word_at(file, 20));
    file->head_bytes = MZI_TOKENS_HEAD;
    file->element_bytes = (int)element;
    MZI_TRY(check_size(file, long_at(file, 24)));
    file->info = (mezzo_tokens_info){(int64_t)long_at(file, 24), (int32_t)vocab,
                                     (int32_t)end_of_text, (int64_t)long_at(file, 32), "mezzo"};
    return check_digest(file);
}

static mezzo_status read_head(token_file *file) {
    uint32_t magic = file->size >= 4 ? word_at(file, 0) : 0;
    file->info = (mezzo_tokens_info){.end_of_text = -1};
    if (magic == MZI_TOKENS_MAGIC)
        return read_own(file);
    if (magic == LLMC_MAGIC_16 || magic == LLMC_MAGIC_32)
        return read_llmc(file, magic == LLMC_MAGIC_32);
    if (magic >= LLMC_DATE_FIRST && magic <= LLMC_DATE_LAST)
        MZI_REFUSE(file,
                   "at offset 0: magic %" PRIu32
                   " is that of an llm.c file which holds no tokens; expected %u or %u",
                   magic, LLMC_MAGIC_16, LLMC_MAGIC_32);
    return read_nanogpt(file);
}

static mezzo_status check_ids(token_file *file, int32_t vocab) {
    if (vocab > 0 && file->info.vocab > vocab)
        MZI_REFUSE(file,
                   "at offset 12: made with a vocabulary of %" PRId32 " ids, and %" PRId32
                   " are expected; tokenize the text again, or use a model "
                   "for this vocabulary",
                   file->info.vocab, vocab);
    if (vocab > 0)
        file->info.vocab = vocab;
    uint32_t limit = file->info.vocab > 0 ? (uint32_t)file->info.vocab : INT32_MAX;
    uint32_t largest = 0;
    const uint8_t *ids = file->bytes + file->head_bytes;
    for (int64_t i = 0; i < file->info.count; i++) {
        uint32_t id = file->element_bytes == 2 ? ((const uint16_t *)(const void *)ids)[i]
                                               : ((const uint32_t *)(const void *)ids)[i];
        if (id >= limit)
            MZI_REFUSE(file,
                       "at offset %" PRId64 ": id %" PRIu32 " of token %" PRId64
                       ", expected 0 to %" PRIu32
                       "; is it a file of tokens, and of this vocabulary?",
                       file->head_bytes + i * file->element_bytes, id, i, limit - 1);
        largest = id > largest ? id : largest;
    }
    if (file->info.vocab == 0)
        file->info.vocab = (int32_t)(largest + 1);
    return MEZZO_OK;
}

static mezzo_status open_file(token_file *file) {
    void *map;
    size_t bytes;
    MZI_TRY(mzi_fs_map(file->ctx, file->path, &map, &bytes));
    if (bytes == 0)
        MZI_REFUSE(file, "is empty");
    file->bytes = map;
    file->size = (int64_t)bytes;
    return MEZZO_OK;
}

mezzo_status mezzo_tokens_open(mezzo_tokens **out, mezzo_ctx *ctx, const char *path,
                               int32_t vocab) {
    mzi_error_clear(ctx);
    if (!path)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "the path of the tokens is null");
    if (vocab < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "a vocabulary of %" PRId32 " ids; give at least 1, or 0 for any", vocab);
    mezzo_tokens *tokens = mzi_alloc(ctx, sizeof *tokens);
    if (!tokens)
        return mzi_out_of_memory(ctx, sizeof *tokens, "a sequence of tokens");
    token_file file = {.ctx = ctx, .path = path};
    mezzo_status status = open_file(&file);
    if (status == MEZZO_OK)
        status = read_head(&file);
    if (status == MEZZO_OK)
        status = check_ids(&file, vocab);
    if (status != MEZZO_OK) {
        mzi_fs_unmap((void *)(uintptr_t)file.bytes, (size_t)file.size);
        mzi_free(ctx, tokens, sizeof *tokens);
        return status;
    }
    *tokens = (mezzo_tokens){.ctx = ctx,
                             .info = file.info,
                             .ids = file.bytes + file.head_bytes,
                             .element_bytes = file.element_bytes,
                             .block = (void *)(uintptr_t)file.bytes,
                             .block_bytes = (size_t)file.size,
                             .is_mapped = true};
    *out = tokens;
    return MEZZO_OK;
}
