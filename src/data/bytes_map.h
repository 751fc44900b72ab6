/* A table from byte strings to numbers.  The strings are the caller's and are not copied. */
#ifndef MZI_DATA_BYTES_MAP_H
#define MZI_DATA_BYTES_MAP_H

#include <string.h>

#include "base/ctx.h"

typedef struct mzi_bytes_entry {
    const uint8_t *bytes;
    int32_t size, value;
    uint64_t hash; /* 0: free */
} mzi_bytes_entry;
typedef struct mzi_bytes_map {
    mezzo_ctx *ctx;
    mzi_bytes_entry *slots;
    size_t capacity; /* a power of two, at least twice the entries */
    size_t count;
} mzi_bytes_map;

/* Eight bytes a step by a multiplication with 2^64 / golden ratio; never 0. */
static inline uint64_t mzi_bytes_hash(const uint8_t *bytes, size_t size) {
    const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t hash = size * factor, word;
    for (; size >= 8; size -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * factor;
        hash ^= hash >> 29;
    }
    word = 0;
    for (size_t i = 0; i < size; i++)
        word = word << 8 | bytes[i];
    hash = (hash ^ word) * factor;
    hash ^= hash >> 32;
    return hash ? hash : 1;
}

/* The value of a string, by its hash; -1 if it is not there. */
int32_t mzi_bytes_map_find(const mzi_bytes_map *map, const uint8_t *bytes, size_t size,
                           uint64_t hash);
/* Add a string that is not there. */
mezzo_status mzi_bytes_map_add(mzi_bytes_map *map, const uint8_t *bytes, size_t size, uint64_t hash,
                               int32_t value);
void mzi_bytes_map_deinit(mzi_bytes_map *map);

#endif
