/* libFuzzer entry: any bytes as a tokenizer file, and as text for the tokenizer that it is.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -std=c11 -Iinclude -Isrc \
 *       -Itests tests/fuzz/fuzz_tokenizer.c src/data/{tokenizer,bpe,byte,pretok}*.c src/base/?*.c \
 *       -lpcre2-8 -ljansson -lsodium -lpthread -lm -o fuzz_tokenizer
 *   python3 tests/fuzz/seeds_tokenizer.py CORPUS && ./fuzz_tokenizer -max_len=4096 CORPUS */
#include <string.h>

#include "fuzz/fuzz.h"
#include "mezzo/tokenizer.h"

static void round_trip(mezzo_tokenizer *t, const char *text, size_t bytes, bool specials) {
    int32_t *ids;
    size_t count, back_bytes;
    char *back;
    mezzo_status status = mezzo_tokenizer_encode(t, text, bytes, specials, &ids, &count);
    if (status != MEZZO_OK) {
        require(status == MEZZO_DATA && strstr(mezzo_ctx_error(ctx)->text, "not UTF-8"));
        return;
    }
    require(mezzo_tokenizer_decode(t, ids, count, &back, &back_bytes) == MEZZO_OK);
    require(back_bytes == bytes && memcmp(back, text, bytes) == 0);
    for (size_t i = 0; i < count; i++)
        require(mezzo_tokenizer_token_bytes(t, ids[i]) >= 0);
    mezzo_tokenizer_free_text(t, back, back_bytes);
    mezzo_tokenizer_free_ids(t, ids, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_file(data, size);
    uint64_t held = mezzo_ctx_memory(ctx).bytes_used;
    mezzo_tokenizer *t;
    mezzo_status status = mezzo_tokenizer_open(&t, ctx, path);
    if (status == MEZZO_OK) {
        require(mezzo_tokenizer_end_of_text(t) < mezzo_tokenizer_vocab(t));
        round_trip(t, (const char *)data, size, true);
        round_trip(t, (const char *)data, size, false);
        mezzo_tokenizer_destroy(t);
    } else {
        require(status == MEZZO_DATA && mezzo_ctx_error(ctx)->text[0] != '\0');
    }
    require(mezzo_ctx_memory(ctx).bytes_used == held);
    return 0;
}
