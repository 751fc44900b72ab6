#include "base/rng.h"

/* A Feistel network over numbers of 2 `half` bits, (L, R) -> (R, L ^ F(R)).  Four rounds make a
 * pseudo-random permutation of a pseudo-random F (Luby and Rackoff 1988); small domains mix less a
 * round, so six are taken.  F is Philox, keyed by the seed, counted by (R, round, stream). */
#define ROUNDS 6

static uint64_t feistel(uint64_t x, int half, uint64_t seed, uint64_t stream) {
    uint32_t mask = (uint32_t)(((uint64_t)1 << half) - 1);
    uint32_t left = (uint32_t)(x >> half) & mask, right = (uint32_t)x & mask;
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t counter[4] = {right, round, (uint32_t)stream, (uint32_t)(stream >> 32)};
        uint32_t bits[4];
        mzi_philox(bits, counter, key);
        uint32_t next = left ^ (bits[0] & mask);
        left = right;
        right = next;
    }
    return (uint64_t)left << half | right;
}

uint64_t mzi_permute(uint64_t index, uint64_t count, uint64_t seed, uint64_t stream) {
    if (count < 2)
        return 0;
    /* The smallest domain of an even number of bits that holds count - 1: less than 4 count. */
    int half = 1;
    while (half < 32 && (count - 1) >> (2 * half))
        half++;
    /* Walking on along the cycle until it is back below `count` maps 0..count-1 onto itself; it
     * ends, since the cycle contains `index`, and takes fewer than 4 steps on average. */
    uint64_t x = index;
    do
        x = feistel(x, half, seed, stream);
    while (x >= count);
    return x;
}
