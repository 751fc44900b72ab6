/* Scalar conversions between FP32 and the 16-bit formats.
 *
 *   f32    s eeeeeeee fffffffffffffffffffffff    bias 127
 *   bf16   s eeeeeeee fffffff                    bias 127: the upper half of f32
 *   f16    s eeeee ffffffffff                    bias 15
 *
 * A nonzero f32 of magnitude bits `abs` is m 2^(e - 150) with e = max(abs >> 23, 1) and the 24-bit
 * significand m.  In steps of the f16 subnormals, 2^-24, that is m 2^-(126 - e). */
#include "num/number.h"

#define F32_SIGN 0x80000000u
#define F32_INFINITY 0x7f800000u
#define F16_INFINITY 0x7c00u
#define F16_QUIET 0x200u
#define F16_DROPPED 13                     /* fraction bits: 23 - 10 */
#define F16_NORMAL_MIN ((127u - 14) << 23) /* 2^-14 */
#define F16_BEYOND ((127u + 16) << 23)     /* 2^16  */
#define BIAS_DIFFERENCE (127u - 15)

float mzi_f16_load(mezzo_f16 x) {
    uint32_t sign = (uint32_t)(x.bits & 0x8000u) << 16;
    uint32_t exponent = (x.bits >> 10) & 0x1fu;
    uint32_t fraction = x.bits & 0x3ffu;
    if (exponent == 0x1f) {
        /* Quieted, as the hardware conversion does. */
        uint32_t quiet = fraction ? 1u << 22 : 0;
        return mzi_f32_from_bits(sign | F32_INFINITY | quiet | fraction << F16_DROPPED);
    }
    if (exponent == 0) {
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return mzi_f32_from_bits(sign | (exponent + BIAS_DIFFERENCE) << 23 | fraction << F16_DROPPED);
}

static bool is_nan(uint32_t abs) {
    return abs > F32_INFINITY;
}

static uint32_t f16_nan(uint32_t abs) {
    return F16_INFINITY | F16_QUIET | ((abs >> F16_DROPPED) & 0x3ffu);
}

/* The exponent as if 0 were 1, and the significand that goes with it. */
static uint32_t split(uint32_t abs, uint32_t *significand) {
    uint32_t exponent = abs >> 23;
    *significand = abs & 0x7fffffu;
    if (exponent == 0)
        return 1;
    *significand |= 0x800000u;
    return exponent;
}

/* Below 2^-14.  From shift 25 on the value is under half a step. */
static uint32_t f16_round_subnormal(uint32_t abs) {
    uint32_t m;
    uint32_t shift = 126 - split(abs, &m);
    if (shift > 24)
        return 0;
    uint32_t half = 1u << (shift - 1);
    return (m + half - 1 + ((m >> shift) & 1u)) >> shift;
}

mezzo_f16 mzi_f16_round(float x) {
    uint32_t bits = mzi_f32_bits(x);
    uint32_t sign = (bits & F32_SIGN) >> 16;
    uint32_t abs = bits & ~F32_SIGN;
    uint32_t out;
    if (is_nan(abs))
        out = f16_nan(abs);
    else if (abs >= F16_BEYOND)
        out = F16_INFINITY;
    else if (abs < F16_NORMAL_MIN)
        out = f16_round_subnormal(abs);
    else /* a carry out of the fraction moves the exponent on, up to infinity from 65520 */
        out = (abs - (BIAS_DIFFERENCE << 23) + 0xfffu + ((abs >> F16_DROPPED) & 1u)) >> F16_DROPPED;
    return (mezzo_f16){(uint16_t)(sign | out)};
}

/* The random word has 32 bits.  Below 2^-32 of a step (shift over 32 with a short significand) the
 * chance to round up is cut to a multiple of 2^-32. */
static uint32_t f16_stochastic_subnormal(uint32_t abs, uint32_t random) {
    uint32_t m;
    uint32_t shift = 126 - split(abs, &m);
    if (shift > 32) {
        uint32_t excess = shift - 32;
        m = excess < 32 ? m >> excess : 0;
        shift = 32;
    }
    uint64_t mask = ((uint64_t)1 << shift) - 1;
    return (uint32_t)((m + (random & mask)) >> shift);
}

mezzo_f16 mezzo_f16_from_f32_stochastic(float x, uint32_t random) {
    uint32_t bits = mzi_f32_bits(x);
    uint32_t sign = (bits & F32_SIGN) >> 16;
    uint32_t abs = bits & ~F32_SIGN;
    uint32_t out;
    if (is_nan(abs))
        out = f16_nan(abs);
    else if (abs >= F16_BEYOND)
        out = F16_INFINITY;
    else if (abs < F16_NORMAL_MIN)
        out = f16_stochastic_subnormal(abs, random);
    else
        out = (abs - (BIAS_DIFFERENCE << 23) + (random & 0x1fffu)) >> F16_DROPPED;
    return (mezzo_f16){(uint16_t)(sign | out)};
}

mezzo_bf16 mezzo_bf16_from_f32_stochastic(float x, uint32_t random) {
    uint32_t bits = mzi_f32_bits(x);
    if (is_nan(bits & ~F32_SIGN))
        return mzi_bf16_round(x);
    return (mezzo_bf16){(uint16_t)((bits + (random & 0xffffu)) >> 16)};
}

float mezzo_f16_to_f32(mezzo_f16 x) {
    return mzi_f16_load(x);
}

float mezzo_bf16_to_f32(mezzo_bf16 x) {
    return mzi_bf16_load(x);
}

mezzo_f16 mezzo_f16_from_f32(float x) {
    return mzi_f16_round(x);
}

mezzo_bf16 mezzo_bf16_from_f32(float x) {
    return mzi_bf16_round(x);
}

/* One below infinity, in either format, is the largest finite value. */
static uint16_t saturate(uint16_t rounded, uint16_t infinity, float x) {
    bool overflowed = (rounded & 0x7fffu) == infinity && isfinite(x);
    return overflowed ? (uint16_t)(rounded - 1) : rounded;
}

mezzo_f16 mezzo_f16_from_f32_saturating(float x) {
    return (mezzo_f16){saturate(mzi_f16_round(x).bits, 0x7c00, x)};
}

mezzo_bf16 mezzo_bf16_from_f32_saturating(float x) {
    return (mezzo_bf16){saturate(mzi_bf16_round(x).bits, 0x7f80, x)};
}
