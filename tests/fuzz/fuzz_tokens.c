/* libFuzzer entry: any bytes as a file of tokens, and as a text.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -std=c11 -Iinclude -Isrc \
 *       -Itests tests/fuzz/fuzz_tokens.c src/data/?*.c src/base/?*.c src/num/?*.c \
 *       -lsodium -lz -lpthread -lm -o fuzz_tokens
 *   ./fuzz_tokens -max_len=4096 CORPUS */
#include <string.h>

#include "base/digest.h"
#include "data/tokens.h"
#include "fuzz/fuzz.h"
#include "mezzo/data.h"

/* One pass over the windows of an evaluation meets every token but the first as a label. */
static void load_all(const mezzo_tokens *tokens, int64_t count) {
    const mezzo_loader_config config = {.batch = 2};
    mezzo_loader *loader;
    mezzo_batch batch = {.valid = 1};
    int64_t labels = 0;
    require(mezzo_loader_create_tokens(&loader, ctx, tokens, 0, count, 7, &config, 0) == MEZZO_OK);
    while (batch.valid > 0) {
        require(mezzo_loader_next(loader, &batch) == MEZZO_OK);
        for (int i = 0; i < 14; i++)
            labels += batch.labels[i] >= 0;
    }
    require(labels == count - 1);
    mezzo_loader_destroy(loader);
}

static void check_tokens(const mezzo_tokens *tokens, size_t size) {
    mezzo_tokens_info info = mezzo_tokens_get_info(tokens);
    int64_t cut;
    require(info.count >= 1 && info.count <= (int64_t)size / 2);
    require(info.end_of_text >= -1 && info.end_of_text < info.vocab && info.text_bytes >= 0);
    for (int64_t i = 0; i < info.count; i++)
        require(mezzo_tokens_at(tokens, i) >= 0 && mezzo_tokens_at(tokens, i) < info.vocab);
    if (info.count > 1)
        load_all(tokens, info.count);
    if (mezzo_tokens_split(tokens, 0.25, 1, &cut) == MEZZO_OK)
        require(cut >= 1 && cut < info.count);
}

static void open_as_tokens(size_t size, int32_t vocab) {
    mezzo_tokens *tokens;
    mezzo_status status = mezzo_tokens_open(&tokens, ctx, path, vocab);
    if (status == MEZZO_OK) {
        require(vocab == 0 || mezzo_tokens_get_info(tokens).vocab == vocab);
        check_tokens(tokens, size);
        mezzo_tokens_destroy(tokens);
    } else {
        require(status == MEZZO_DATA && mezzo_ctx_error(ctx)->text[0] != '\0');
    }
}

static void open_as_text(void) {
    char *text;
    size_t bytes;
    mezzo_status status = mezzo_text_read(ctx, path, &text, &bytes);
    if (status == MEZZO_OK) {
        require(bytes > 0 && text[bytes] == '\0');
        mezzo_text_release(ctx, text, bytes);
    } else {
        require(status == MEZZO_DATA && mezzo_ctx_error(ctx)->text[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_file(data, size);
    uint64_t held = mezzo_ctx_memory(ctx).bytes_used;
    open_as_text();
    uint32_t magic = 0;
    if (size >= MZI_TOKENS_HEAD)
        memcpy(&magic, data, sizeof magic);
    if (magic == MZI_TOKENS_MAGIC) { /* any change would be refused for its digest alone */
        char hex[MZI_DIGEST_HEX];
        mzi_tokens_digest(data, data + MZI_TOKENS_HEAD, size - MZI_TOKENS_HEAD, hex);
        require(pwrite(fd, hex, MZI_DIGEST_HEX - 1, MZI_TOKENS_FIELDS) == MZI_DIGEST_HEX - 1);
    }
    open_as_tokens(size, 0);
    open_as_tokens(size, 50257);
    require(mezzo_ctx_memory(ctx).bytes_used == held);
    return 0;
}
