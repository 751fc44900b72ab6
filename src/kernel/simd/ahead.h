/* Fetching to L2, a few lines at a time between pieces of work, rows that are wanted later: they
 * lie apart in memory, where no hardware expects the next one. */
#ifndef MZK_SIMD_AHEAD_H
#define MZK_SIMD_AHEAD_H

#include <stdint.h>

#include "kernel/simd/inline.h"

enum {
    AHEAD_PLACES = 8,
    AHEAD_ROWS = 3, /* of each place at a time */
    AHEAD_LINE = 64
};

/* `rows` more rows of `bytes` bytes at each of `count` places, `stride` bytes apart. */
typedef struct ahead {
    int count;
    int64_t rows, bytes;
    struct {
        const char *row;
        int64_t stride;
    } place[AHEAD_PLACES];
} ahead;

/* Element `at` of x, whose rows are `stride` elements apart. */
INLINE void ahead_add(ahead *a, const void *x, int64_t at, int64_t stride, int64_t size) {
    a->place[a->count].row = (const char *)x + at * size;
    a->place[a->count++].stride = stride * size;
}

INLINE void ahead_step(ahead *a) {
    for (int n = 0; n < AHEAD_ROWS && a->rows > 0; n++, a->rows--)
        for (int p = 0; p < a->count; p++) {
            const char *row = a->place[p].row;
            for (int64_t at = 0; at < a->bytes; at += AHEAD_LINE)
                __builtin_prefetch(row + at, 0, 2);
            a->place[p].row = row + a->place[p].stride;
        }
}

#endif
