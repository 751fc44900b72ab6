/* Counter-based random numbers: a value is a pure function of (seed, stream, index, step), so that
 * workers, ranks, recompute and accumulation cannot change it. */
#ifndef MZI_BASE_RNG_H
#define MZI_BASE_RNG_H

#include <stdint.h>

/* Philox4x32-10; header-only because dropout kernels and stochastic rounding inline it. */
static inline void mzi_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0; /* the constants of Salmon et al., table 2 */
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u; /* golden ratio  */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1   */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Bits for element block `block` (4 words each) of a stream at a step. */
static inline void mzi_rng4(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t block,
                            uint32_t step) {
    /* Seed and stream keep words of their own as far as both are small or hashed: only a seed
     * beyond 32 bits is mixed with the stream. */
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), step,
                           (uint32_t)(stream >> 32)};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32) ^ (uint32_t)stream};
    mzi_philox(out, counter, key);
}

/* FNV-1a, 64 bits: a stream number from a name. */
static inline uint64_t mzi_name_hash(const char *name) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h;
}

/* [0, 1), 24 bits: exact in FP32. */
static inline float mzi_uniform(uint32_t bits) {
    return (float)(bits >> 8) * 0x1p-24f;
}

/* Position `index` of a keyed permutation of 0..count-1 (a balanced Feistel network with cycle
 * walking): random access into a shuffle without storing it. */
uint64_t mzi_permute(uint64_t index, uint64_t count, uint64_t seed, uint64_t stream);

#endif
