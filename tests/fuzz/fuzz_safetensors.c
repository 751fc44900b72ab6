/* libFuzzer entry: any bytes as a safetensors file.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -std=c11 -Iinclude -Isrc \
 *       -Itests tests/fuzz/fuzz_safetensors.c src/checkpoint/safetensors_*.c src/base/?*.c
 * src/num/?*.c \ -ljansson -lsodium -lpthread -lm -o fuzz_safetensors
 *   ./fuzz_safetensors -max_len=4096 CORPUS tests/data */
#include "checkpoint/safetensors_format.h"
#include "fuzz/fuzz.h"

static void read_all(const mezzo_safetensors *file) {
    const uint8_t *end = NULL;
    volatile uint8_t sum = 0;
    for (int i = 0; i < mezzo_safetensors_count(file); i++) {
        mezzo_safetensors_item item = mezzo_safetensors_at(file, i);
        int64_t bytes;
        require(mzi_safetensors_bytes(&item.shape, item.dtype, &bytes));
        require(mezzo_safetensors_find(file, item.name) == i);
        const uint8_t *values = item.data;
        require(i == 0 || values == end);
        for (int64_t k = 0; k < bytes; k++)
            sum ^= values[k];
        end = values + bytes;
    }
    (void)sum;
    (void)mezzo_safetensors_note_value(file, "format");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_file(data, size);
    uint64_t held = mezzo_ctx_memory(ctx).bytes_used;
    mezzo_safetensors *file;
    mezzo_status status = mezzo_safetensors_open(&file, ctx, path);
    if (status == MEZZO_OK) {
        read_all(file);
        mezzo_safetensors_close(file);
    } else {
        require(status == MEZZO_DATA && mezzo_ctx_error(ctx)->text[0] != '\0');
    }
    require(mezzo_ctx_memory(ctx).bytes_used == held);
    return 0;
}
