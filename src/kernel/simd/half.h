/* Upper halves of FP32 numbers as BF16, and 16-bit numbers by vectors. */
#ifndef MZK_SIMD_HALF_H
#define MZK_SIMD_HALF_H

#include "kernel/simd/lanes.h"

INLINE vi lanes_load_u16(const uint16_t *p, int64_t n) {
    return n == VL ? vi_load_u16(p) : vi_load_u16_n(p, n);
}
INLINE vi lanes_load_i16(const uint16_t *p, int64_t n) {
    if (n == VL)
        return vi_load_i16(p);
    return vi_add(vi_xor(vi_load_u16_n(p, n), vi_set(0x8000)), vi_set(-0x8000));
}
INLINE void lanes_store_u16(uint16_t *p, vi a, int64_t n) {
    if (n == VL)
        vi_store_u16(p, a);
    else
        vi_store_u16_n(p, a, n);
}

/* Upper halves of `bits`, but those of `x` where it is NaN, quieted. */
INLINE vi upper_half(vi bits, vf x) {
    vi quiet = vi_or(vi_shift_right(vf_bits(x), 16), vi_set(0x40));
    return vi_select(vf_is_nan(x), quiet, vi_shift_right(bits, 16));
}

/* mzi_bf16_round_away. */
INLINE vi half_away(vf x) {
    return upper_half(vi_add(vf_bits(x), vi_set(0x8000)), x);
}

#endif
