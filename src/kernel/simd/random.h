/* Philox for a vector of blocks: the words of mzi_rng4, bit for bit. */
#ifndef MZK_SIMD_RANDOM_H
#define MZK_SIMD_RANDOM_H

#include "base/rng.h"
#include "kernel/simd/inline.h"

/* Random words are made for a group of VL blocks at once, one block of 4 words a lane.  Groups
 * start at multiples of VL blocks, so that the low counter word never carries inside of one. */
enum {
    GROUP = 4 * VL
};

typedef struct random_stream {
    uint32_t key[2], step, stream_high;
} random_stream;

/* Of a key operand: seed low, seed high, step. */
INLINE random_stream random_stream_of(const int32_t *key, uint64_t stream) {
    return (random_stream){{(uint32_t)key[0], (uint32_t)key[1] ^ (uint32_t)stream},
                           (uint32_t)key[2],
                           (uint32_t)(stream >> 32)};
}

/* The words of mzi_rng4 for blocks [block, block + VL): word k of each in words[k], a block a lane,
 * in the order that vi_interleave4 undoes. */
INLINE void random_blocks(vi words[4], const random_stream *s, uint64_t block) {
    vi c0 = vi_add(vi_set((int32_t)(uint32_t)block), vi_block_order());
    vi c1 = vi_set((int32_t)(uint32_t)(block >> 32));
    vi c2 = vi_set((int32_t)s->step), c3 = vi_set((int32_t)s->stream_high);
    uint32_t k0 = s->key[0], k1 = s->key[1];
    for (int round = 0; round < 10; round++) { /* as mzi_philox */
        vi high0, low0, high1, low1;
        vi_multiply(c0, 0xD2511F53u, &high0, &low0);
        vi_multiply(c2, 0xCD9E8D57u, &high1, &low1);
        c0 = vi_xor(vi_xor(high1, c1), vi_set((int32_t)k0));
        c2 = vi_xor(vi_xor(high0, c3), vi_set((int32_t)k1));
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* Likewise in the order of elements. */
INLINE void random_words(uint32_t *out, const random_stream *s, uint64_t block) {
    vi blocks[4], words[4];
    random_blocks(blocks, s, block);
    vi_interleave4(words, blocks[0], blocks[1], blocks[2], blocks[3]);
    for (int q = 0; q < 4; q++)
        vi_store(out + q * VL, words[q]);
}

#endif
