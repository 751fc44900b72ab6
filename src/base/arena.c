#include "base/arena.h"

#include <stdalign.h>
#include <stdio.h>

#define ARENA_ALIGN 16
/* With its head: small enough to waste nothing that matters, large enough for hundreds of nodes. */
#define BLOCK_BYTES ((size_t)1 << 16)

struct mzi_arena_block {
    mzi_arena_block *before;
    size_t capacity;
    size_t used;
    alignas(ARENA_ALIGN) unsigned char data[];
};

void mzi_arena_init(mzi_arena *arena, mezzo_ctx *ctx) {
    arena->ctx = ctx;
    arena->last = NULL;
    arena->exhausted = false;
}

static bool add_block(mzi_arena *arena, size_t bytes) {
    size_t capacity = BLOCK_BYTES - sizeof(mzi_arena_block);
    if (capacity < bytes)
        capacity = bytes;
    mzi_arena_block *block = mzi_alloc(arena->ctx, sizeof *block + capacity);
    if (!block)
        return false;
    block->before = arena->last;
    block->capacity = capacity;
    arena->last = block;
    return true;
}

void *mzi_arena_push(mzi_arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX - sizeof(mzi_arena_block) - ARENA_ALIGN)
        return NULL;
    size_t whole = bytes > 0 ? (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN : ARENA_ALIGN;
    const mzi_arena_block *last = arena->last;
    if (!arena->exhausted && (!last || last->capacity - last->used < whole))
        arena->exhausted = !add_block(arena, whole);
    if (arena->exhausted)
        return NULL;
    void *memory = arena->last->data + arena->last->used;
    arena->last->used += whole;
    return memory;
}

char *mzi_arena_text(mzi_arena *arena, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : mzi_arena_push(arena, (size_t)length + 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void mzi_arena_deinit(mzi_arena *arena) {
    while (arena->last) {
        mzi_arena_block *block = arena->last;
        arena->last = block->before;
        mzi_free(arena->ctx, block, sizeof *block + block->capacity);
    }
}
