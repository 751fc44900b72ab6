/* An FP32 number in two halves, of which the upper one is a BF16 number on its own.
 *
 *   bits = hi 2^16 + lo mod 2^32,  hi = (bits + 0x8000) >> 16,  lo = the lower 16 bits, signed
 *
 * hi is the number rounded to BF16, ties away from zero.  Every pattern comes back from its halves,
 * but NaN as a quiet one: the carry would make 0x7fff8000 and those above -0, so a NaN keeps its
 * upper half, quieted, beside lo = 0. */
#ifndef MZI_NUM_SPLIT_H
#define MZI_NUM_SPLIT_H

#include "num/number.h"

static inline mezzo_bf16 mzi_bf16_round_away(float x) {
    uint32_t bits = mzi_f32_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (mezzo_bf16){(uint16_t)(bits >> 16 | 0x40u)};
    return (mezzo_bf16){(uint16_t)((bits + 0x8000u) >> 16)};
}

/* bits - hi 2^16 has the lower 16 bits of `bits`: hi 2^16 has none. */
static inline uint16_t mzi_split_low(float x) {
    uint32_t bits = mzi_f32_bits(x);
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0 : (uint16_t)bits;
}

static inline float mzi_join(mezzo_bf16 hi, uint16_t lo) {
    uint32_t borrow = (uint32_t)(lo >> 15) << 16; /* lo is negative: lo - 2^16 */
    return mzi_f32_from_bits(((uint32_t)hi.bits << 16) + lo - borrow);
}

#endif
