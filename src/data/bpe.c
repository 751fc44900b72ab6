/* A piece is a list of tokens, and a heap has the pairs that could be merged:
 *
 *   key = rank << 32 | position of the left token's first byte
 *
 * so that the least key is the merge that stands first, at its leftmost place.  Keys of pairs that
 * are gone stay in the heap, and are known by their rank.  n bytes make at most n - 1 merges and
 * each brings two pairs at most: fewer than 3 n keys, and n log n time.
 *
 * Most pieces are words that come again: a table remembers the tokens of short ones. */
#include "data/bpe.h"

#include <string.h>

#include "data/bytes_map.h"

#define NONE (-1)
#define CACHE_SLOTS 32768
#define CACHED_BYTES 30
#define CACHED_IDS 8

/* One cache line; the last piece that met a slot stays in it. */
typedef struct cached {
    uint8_t bytes[CACHED_BYTES];
    uint8_t size; /* 0: free */
    uint8_t count;
    int32_t ids[CACHED_IDS];
} cached;
_Static_assert(sizeof(cached) == 64, "a slot is a cache line");

typedef struct ranked {
    uint64_t pair; /* left << 32 | right, plus 1; 0: free */
    int32_t rank;
} ranked;

struct mzi_bpe {
    mezzo_ctx *ctx;
    int32_t byte_ids[256];
    mzi_merge *merges;
    int32_t count, capacity;
    ranked *table;
    size_t table_size; /* a power of two, at least twice the capacity */
    cached *cache;
};

struct mzi_bpe_node {
    int32_t id, rank;         /* rank: of the pair with the next one */
    int32_t previous, follow; /* positions */
};

static mezzo_status make_tables(mzi_bpe *bpe) {
    size_t merges = (size_t)bpe->capacity * sizeof *bpe->merges;
    bpe->table_size = 16;
    while (bpe->table_size < 2 * (size_t)bpe->capacity)
        bpe->table_size *= 2;
    bpe->merges = mzi_alloc(bpe->ctx, merges);
    bpe->table = mzi_alloc(bpe->ctx, bpe->table_size * sizeof *bpe->table);
    bpe->cache = mzi_alloc(bpe->ctx, CACHE_SLOTS * sizeof *bpe->cache);
    if (!bpe->merges || !bpe->table || !bpe->cache)
        return mzi_out_of_memory(bpe->ctx, merges + bpe->table_size * sizeof *bpe->table,
                                 "a tokenizer");
    return MEZZO_OK;
}

mezzo_status mzi_bpe_create(mzi_bpe **out, mezzo_ctx *ctx, const int32_t byte_ids[256],
                            int32_t merges) {
    mzi_bpe *bpe = mzi_alloc(ctx, sizeof *bpe);
    if (!bpe)
        return mzi_out_of_memory(ctx, sizeof *bpe, "a tokenizer");
    bpe->ctx = ctx;
    bpe->capacity = merges;
    memcpy(bpe->byte_ids, byte_ids, sizeof bpe->byte_ids);
    mezzo_status status = make_tables(bpe);
    if (status != MEZZO_OK)
        mzi_bpe_destroy(bpe);
    else
        *out = bpe;
    return status;
}

void mzi_bpe_destroy(mzi_bpe *bpe) {
    if (!bpe)
        return;
    mzi_free(bpe->ctx, bpe->merges, (size_t)bpe->capacity * sizeof *bpe->merges);
    mzi_free(bpe->ctx, bpe->table, bpe->table_size * sizeof *bpe->table);
    mzi_free(bpe->ctx, bpe->cache, CACHE_SLOTS * sizeof *bpe->cache);
    mzi_free(bpe->ctx, bpe, sizeof *bpe);
}

static ranked *slot_of(const mzi_bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    uint64_t hash = pair * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(hash >> 32) & (bpe->table_size - 1);
    while (bpe->table[at].pair != 0 && bpe->table[at].pair != pair)
        at = (at + 1) & (bpe->table_size - 1);
    return &bpe->table[at];
}

int32_t mzi_bpe_rank(const mzi_bpe *bpe, int32_t left, int32_t right) {
    const ranked *slot = slot_of(bpe, left, right);
    return slot->pair ? slot->rank : NONE;
}

void mzi_bpe_add(mzi_bpe *bpe, mzi_merge merge) {
    ranked *slot = slot_of(bpe, merge.left, merge.right);
    slot->pair = ((uint64_t)(uint32_t)merge.left << 32 | (uint32_t)merge.right) + 1;
    slot->rank = bpe->count;
    bpe->merges[bpe->count++] = merge;
}

int32_t mzi_bpe_merge_count(const mzi_bpe *bpe) {
    return bpe->count;
}

mzi_merge mzi_bpe_merge(const mzi_bpe *bpe, int32_t rank) {
    return bpe->merges[rank];
}

void mzi_bpe_scratch_deinit(mezzo_ctx *ctx, mzi_bpe_scratch *scratch) {
    mzi_free(ctx, scratch->nodes, (size_t)scratch->node_capacity * sizeof *scratch->nodes);
    mzi_free(ctx, scratch->heap, (size_t)scratch->heap_capacity * sizeof *scratch->heap);
    *scratch = (mzi_bpe_scratch){0};
}

static void heap_push(uint64_t *heap, int32_t *count, uint64_t key) {
    int32_t at = (*count)++;
    for (int32_t parent; at > 0 && heap[parent = (at - 1) / 2] > key; at = parent)
        heap[at] = heap[parent];
    heap[at] = key;
}

static uint64_t heap_pop(uint64_t *heap, int32_t *count) {
    uint64_t least = heap[0], last = heap[--*count];
    int32_t at = 0;
    for (int32_t child = 1; child < *count; child = 2 * at + 1) {
        if (child + 1 < *count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return least;
}

/* The pair that starts at `at` has changed. */
static void rank_pair(const mzi_bpe *bpe, mzi_bpe_scratch *s, int32_t *waiting, int32_t at) {
    mzi_bpe_node *node = &s->nodes[at];
    node->rank =
        node->follow == NONE ? NONE : mzi_bpe_rank(bpe, node->id, s->nodes[node->follow].id);
    if (node->rank != NONE)
        heap_push(s->heap, waiting, (uint64_t)node->rank << 32 | (uint32_t)at);
}

static void merge_piece(const mzi_bpe *bpe, mzi_bpe_scratch *s, const uint8_t *piece, int32_t n) {
    int32_t waiting = 0;
    for (int32_t i = 0; i < n; i++)
        s->nodes[i] =
            (mzi_bpe_node){bpe->byte_ids[piece[i]], NONE, i - 1, i + 1 < n ? i + 1 : NONE};
    for (int32_t i = 0; i + 1 < n; i++)
        rank_pair(bpe, s, &waiting, i);
    while (waiting > 0) {
        uint64_t key = heap_pop(s->heap, &waiting);
        int32_t at = (int32_t)(key & UINT32_MAX), rank = (int32_t)(key >> 32);
        mzi_bpe_node *node = &s->nodes[at];
        if (node->rank != rank)
            continue;
        mzi_bpe_node *gone = &s->nodes[node->follow];
        gone->rank = NONE;
        node->id = bpe->merges[rank].result;
        node->follow = gone->follow;
        if (node->follow != NONE)
            s->nodes[node->follow].previous = at;
        rank_pair(bpe, s, &waiting, at);
        if (node->previous != NONE)
            rank_pair(bpe, s, &waiting, node->previous);
    }
}

static mezzo_status encode_piece(const mzi_bpe *bpe, mzi_bpe_scratch *s, const uint8_t *piece,
                                 int32_t n, mzi_ids *out) {
    MZI_TRY(mzi_grow(bpe->ctx, (void **)&s->nodes, &s->node_capacity, n, sizeof *s->nodes));
    MZI_TRY(mzi_grow(bpe->ctx, (void **)&s->heap, &s->heap_capacity, 3 * n, sizeof *s->heap));
    MZI_TRY(
        mzi_grow(bpe->ctx, (void **)&out->ids, &out->capacity, out->count + n, sizeof *out->ids));
    merge_piece(bpe, s, piece, n);
    for (int32_t at = 0; at != NONE; at = s->nodes[at].follow)
        out->ids[out->count++] = s->nodes[at].id;
    return MEZZO_OK;
}

static mezzo_status append(mezzo_ctx *ctx, mzi_ids *out, const int32_t *ids, int32_t count) {
    if (count > out->capacity - out->count)
        MZI_TRY(mzi_grow(ctx, (void **)&out->ids, &out->capacity, out->count + count,
                         sizeof *out->ids));
    for (int32_t i = 0; i < count; i++)
        out->ids[out->count++] = ids[i];
    return MEZZO_OK;
}

mezzo_status mzi_bpe_encode(mzi_bpe *bpe, mzi_bpe_scratch *scratch, const uint8_t *piece,
                            size_t bytes, mzi_ids *out) {
    if (bytes > INT32_MAX / 4)
        MZI_FAIL(bpe->ctx, MEZZO_DATA,
                 "a word of %zu bytes, the longest possible has %d: is this text?", bytes,
                 INT32_MAX / 4);
    if (bytes == 1)
        return append(bpe->ctx, out, &bpe->byte_ids[piece[0]], 1);
    if (bytes > CACHED_BYTES)
        return encode_piece(bpe, scratch, piece, (int32_t)bytes, out);
    cached *slot = &bpe->cache[mzi_bytes_hash(piece, bytes) % CACHE_SLOTS];
    if (slot->size == bytes && memcmp(slot->bytes, piece, bytes) == 0)
        return append(bpe->ctx, out, slot->ids, slot->count);
    int32_t begin = out->count;
    MZI_TRY(encode_piece(bpe, scratch, piece, (int32_t)bytes, out));
    int32_t count = out->count - begin;
    if (count <= CACHED_IDS) {
        memcpy(slot->bytes, piece, bytes);
        slot->size = (uint8_t)bytes;
        slot->count = (uint8_t)count;
        memcpy(slot->ids, out->ids + begin, (size_t)count * sizeof *slot->ids);
    }
    return MEZZO_OK;
}
