/* A growing arena: many small things that die together (a graph's nodes and names). */
#ifndef MZI_BASE_ARENA_H
#define MZI_BASE_ARENA_H

#include "base/ctx.h"

typedef struct mzi_arena_block mzi_arena_block;
typedef struct mzi_arena {
    mezzo_ctx *ctx;
    mzi_arena_block *last;
    bool exhausted; /* a push has failed: what was made since may lack names */
} mzi_arena;

void mzi_arena_init(mzi_arena *arena, mezzo_ctx *ctx);
/* Zeroed, aligned to 16; null when memory is exhausted, and from then on. */
void *mzi_arena_push(mzi_arena *arena, size_t bytes);
char *mzi_arena_text(mzi_arena *arena, const char *format, ...) MEZZO_PRINTF(2, 3);
void mzi_arena_deinit(mzi_arena *arena);

#endif
