/* Merging the bytes of a piece into tokens. */
#ifndef MZI_DATA_BPE_H
#define MZI_DATA_BPE_H

#include "base/ctx.h"

/* Ids, growing; freed with mzi_free(ctx, ids, capacity * sizeof(int32_t)). */
typedef struct mzi_ids {
    int32_t *ids;
    int32_t count, capacity;
} mzi_ids;

typedef struct mzi_merge {
    int32_t left, right, result;
} mzi_merge;

typedef struct mzi_bpe mzi_bpe;

/* Room for `merges` of them.  `byte_ids`[b] is the token of byte b. */
mezzo_status mzi_bpe_create(mzi_bpe **out, mezzo_ctx *ctx, const int32_t byte_ids[256],
                            int32_t merges);
void mzi_bpe_destroy(mzi_bpe *bpe);

/* A merge's rank is its number, in the order in which they are added; -1: there is none. */
int32_t mzi_bpe_rank(const mzi_bpe *bpe, int32_t left, int32_t right);
/* The pair must not be there, and there must be room. */
void mzi_bpe_add(mzi_bpe *bpe, mzi_merge merge);
int32_t mzi_bpe_merge_count(const mzi_bpe *bpe);
mzi_merge mzi_bpe_merge(const mzi_bpe *bpe, int32_t rank);

/* Working memory for pieces, kept from one to the next; zeroed at first. */
typedef struct mzi_bpe_node mzi_bpe_node;
typedef struct mzi_bpe_scratch {
    mzi_bpe_node *nodes;
    uint64_t *heap;
    int32_t node_capacity, heap_capacity;
} mzi_bpe_scratch;
void mzi_bpe_scratch_deinit(mezzo_ctx *ctx, mzi_bpe_scratch *scratch);

/* Append the tokens of a piece of 1 to INT32_MAX / 4 bytes. */
mezzo_status mzi_bpe_encode(mzi_bpe *bpe, mzi_bpe_scratch *scratch, const uint8_t *piece,
                            size_t bytes, mzi_ids *out);

#endif
