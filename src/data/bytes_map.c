/* Open addressing with linear probing. */
#include "data/bytes_map.h"

static mzi_bytes_entry *slot_of(mzi_bytes_entry *slots, size_t capacity, const uint8_t *bytes,
                                size_t size, uint64_t hash) {
    size_t at = (size_t)hash & (capacity - 1);
    while (slots[at].hash != 0 && (slots[at].hash != hash || (size_t)slots[at].size != size ||
                                   memcmp(slots[at].bytes, bytes, size) != 0))
        at = (at + 1) & (capacity - 1);
    return &slots[at];
}

int32_t mzi_bytes_map_find(const mzi_bytes_map *map, const uint8_t *bytes, size_t size,
                           uint64_t hash) {
    if (map->count == 0)
        return -1;
    const mzi_bytes_entry *slot = slot_of(map->slots, map->capacity, bytes, size, hash);
    return slot->hash ? slot->value : -1;
}

static mezzo_status enlarge(mzi_bytes_map *map) {
    size_t capacity = map->capacity ? 2 * map->capacity : 1024;
    mzi_bytes_entry *slots = mzi_alloc(map->ctx, capacity * sizeof *slots);
    if (!slots)
        return mzi_out_of_memory(map->ctx, capacity * sizeof *slots, "a table of texts");
    for (size_t i = 0; i < map->capacity; i++) {
        const mzi_bytes_entry *old = &map->slots[i];
        if (old->hash)
            *slot_of(slots, capacity, old->bytes, (size_t)old->size, old->hash) = *old;
    }
    mzi_free(map->ctx, map->slots, map->capacity * sizeof *slots);
    map->slots = slots;
    map->capacity = capacity;
    return MEZZO_OK;
}

mezzo_status mzi_bytes_map_add(mzi_bytes_map *map, const uint8_t *bytes, size_t size, uint64_t hash,
                               int32_t value) {
    if (2 * (map->count + 1) > map->capacity)
        MZI_TRY(enlarge(map));
    *slot_of(map->slots, map->capacity, bytes, size, hash) =
        (mzi_bytes_entry){bytes, (int32_t)size, value, hash};
    map->count++;
    return MEZZO_OK;
}

void mzi_bytes_map_deinit(mzi_bytes_map *map) {
    mzi_free(map->ctx, map->slots, map->capacity * sizeof *map->slots);
    map->slots = NULL;
    map->capacity = map->count = 0;
}
