/* Memory from the context's allocator, counted. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/pages.h"

/* An empty block still needs an address of its own: null means that memory is exhausted. */
static size_t held_bytes(size_t bytes) {
    return bytes > 0 ? bytes : 1;
}

static void count_taken(mezzo_ctx *ctx, size_t bytes) {
    uint64_t used = atomic_fetch_add(&ctx->bytes_used, bytes) + bytes;
    uint64_t most = atomic_load(&ctx->bytes_used_max);
    while (used > most && !atomic_compare_exchange_weak(&ctx->bytes_used_max, &most, used))
        continue;
}

void *mzi_alloc(mezzo_ctx *ctx, size_t bytes) {
    size_t held = held_bytes(bytes);
    atomic_fetch_add(&ctx->alloc_count, 1);
    void *memory = ctx->allocator.alloc(ctx->allocator.user, held, MZI_ALIGN);
    if (!memory)
        return NULL;
    count_taken(ctx, held);
    if (ctx->has_pages && mzi_pages_suit(held))
        return memory;
    return memset(memory, 0, held);
}

void mzi_free(mezzo_ctx *ctx, void *memory, size_t bytes) {
    if (!memory)
        return;
    size_t held = held_bytes(bytes);
    ctx->allocator.free(ctx->allocator.user, memory, held);
    atomic_fetch_sub(&ctx->bytes_used, held);
}

mezzo_status mzi_out_of_memory(mezzo_ctx *ctx, size_t bytes, const char *what) {
    MZI_FAIL(ctx, MEZZO_OUT_OF_MEMORY,
             "no memory for %s: %zu bytes, with %" PRIu64
             " already held; use a smaller batch or model, or allow more memory",
             what, bytes, atomic_load(&ctx->bytes_used));
}

mezzo_status mzi_grow(mezzo_ctx *ctx, void **memory, int32_t *capacity, int32_t count,
                      size_t element_bytes) {
    if (count <= *capacity)
        return MEZZO_OK;
    int64_t doubled = 2 * (int64_t)*capacity;
    int64_t wanted = doubled > count ? doubled : count;
    if (wanted > INT32_MAX)
        wanted = count;
    if (element_bytes > 0 && (size_t)wanted > SIZE_MAX / element_bytes)
        return mzi_out_of_memory(ctx, SIZE_MAX, "a growing array");
    size_t bytes = (size_t)wanted * element_bytes;
    void *larger = mzi_alloc(ctx, bytes);
    if (!larger)
        return mzi_out_of_memory(ctx, bytes, "a growing array");
    /* The caller's pointer has the element's type; memcpy reads it without aliasing trouble. */
    void *old;
    memcpy(&old, memory, sizeof old);
    size_t old_bytes = (size_t)*capacity * element_bytes;
    if (old) {
        memcpy(larger, old, old_bytes);
        mzi_free(ctx, old, old_bytes);
    }
    memcpy(memory, &larger, sizeof larger);
    *capacity = (int32_t)wanted;
    return MEZZO_OK;
}

char *mzi_copy_text(mezzo_ctx *ctx, const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = mzi_alloc(ctx, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

void mzi_free_text(mezzo_ctx *ctx, char *text) {
    if (text)
        mzi_free(ctx, text, strlen(text) + 1);
}
