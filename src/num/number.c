/* Scalar conversions between FP32 and the narrower formats.
 *
 *   f32       s eeeeeeee fffffffffffffffffffffff    bias 127
 *   bf16      s eeeeeeee fffffff                    bias 127: the upper half of f32
 *   f16       s eeeee ffffffffff                    bias 15
 *   f8_e5m2   s eeeee ff                            bias 15: the upper half of f16
 *   f8_e4m3   s eeee fff                            bias 7; s 1111 111 is NaN, no infinity
 *
 * A nonzero f32 of magnitude bits `abs` is m 2^(e - 150) with e = max(abs >> 23, 1) and the 24-bit
 * significand m.  A format of bias b and p fraction bits has subnormals in steps of 2^(1 - b - p):
 * in those it is m 2^-(151 - b - p - e). */
#include "num/number.h"

#define F32_SIGN 0x80000000u
#define F32_INFINITY 0x7f800000u
#define F32_QUIET (1u << 22)

/* Of the narrower formats but bf16.  `beyond` is the pattern behind the largest value, to which
 * whatever overflows goes: infinity, or in e4m3 the NaN. */
typedef struct format {
    uint32_t width, fraction, bias;
    uint32_t beyond, nan; /* magnitude bits; nan: the quiet one with an empty payload */
} format;

#define F16 ((format){16, 10, 15, 0x7c00, 0x7e00})
#define F8_E4M3 ((format){8, 3, 7, 0x7f, 0x7f})
#define F8_E5M2 ((format){8, 2, 15, 0x7c, 0x7e})

static bool is_nan(uint32_t abs) {
    return abs > F32_INFINITY;
}

static uint32_t dropped_bits(format f) {
    return 23 - f.fraction;
}

static uint32_t fraction_of(format f, uint32_t bits) {
    return bits & ((1u << f.fraction) - 1);
}

static inline float widen(format f, uint32_t bits) {
    uint32_t sign = bits >> (f.width - 1) << 31;
    uint32_t abs = bits & ((1u << (f.width - 1)) - 1);
    if (abs >= f.beyond) {
        /* Quieted, as the hardware conversion does. */
        uint32_t quiet = abs > f.beyond || f.beyond == f.nan ? F32_QUIET : 0;
        return mzi_f32_from_bits(sign | F32_INFINITY | quiet |
                                 fraction_of(f, abs) << dropped_bits(f));
    }
    if (abs >> f.fraction == 0) {
        float step = mzi_f32_from_bits((128 - f.bias - f.fraction) << 23);
        return mzi_f32_from_bits(sign | mzi_f32_bits((float)abs * step));
    }
    return mzi_f32_from_bits(sign | ((abs << dropped_bits(f)) + ((127 - f.bias) << 23)));
}

static bool is_subnormal(format f, uint32_t abs) {
    return abs < (128 - f.bias) << 23; /* 2^(1 - bias) */
}

/* The significand of a subnormal result, and how many of its bits are dropped. */
static uint32_t split(format f, uint32_t abs, uint32_t *significand) {
    uint32_t exponent = abs >> 23;
    *significand = (abs & 0x7fffffu) | (exponent ? 0x800000u : 0);
    return 151 - f.bias - f.fraction - (exponent ? exponent : 1);
}

/* From shift 25 on the value is under half a step. */
static inline uint32_t round_subnormal(format f, uint32_t abs) {
    uint32_t m, shift = split(f, abs, &m);
    if (shift > 24)
        return 0;
    uint32_t half = 1u << (shift - 1);
    return (m + half - 1 + ((m >> shift) & 1u)) >> shift;
}

/* The random word has 32 bits.  Below 2^-32 of a step (shift over 32 with a short significand) the
 * chance to round up is cut to a multiple of 2^-32. */
static inline uint32_t stochastic_subnormal(format f, uint32_t abs, uint32_t random) {
    uint32_t m, shift = split(f, abs, &m);
    if (shift > 32) {
        uint32_t excess = shift - 32;
        m = excess < 32 ? m >> excess : 0;
        shift = 32;
    }
    uint64_t mask = ((uint64_t)1 << shift) - 1;
    return (uint32_t)((m + (random & mask)) >> shift);
}

/* A normal result: `up` is added below the kept fraction.  A carry out of the fraction moves the
 * exponent on, up to `beyond`; so does every larger exponent, infinity's included. */
static inline uint32_t cut(format f, uint32_t abs, uint32_t up) {
    uint32_t out = (abs - ((127 - f.bias) << 23) + up) >> dropped_bits(f);
    return out < f.beyond ? out : f.beyond;
}

static inline uint32_t with_sign(format f, uint32_t f32_bits, uint32_t abs) {
    return f32_bits >> 31 << (f.width - 1) | abs;
}

static uint32_t nan_of(format f, uint32_t abs) {
    return f.nan | fraction_of(f, abs >> dropped_bits(f));
}

static inline uint32_t nearest(format f, float x) {
    uint32_t bits = mzi_f32_bits(x), abs = bits & ~F32_SIGN;
    uint32_t below_half = (1u << (dropped_bits(f) - 1)) - 1;
    uint32_t out = is_nan(abs)            ? nan_of(f, abs)
                   : is_subnormal(f, abs) ? round_subnormal(f, abs)
                                          : cut(f, abs, below_half + (abs >> dropped_bits(f) & 1u));
    return with_sign(f, bits, out);
}

static inline uint32_t stochastic(format f, float x, uint32_t random) {
    uint32_t bits = mzi_f32_bits(x), abs = bits & ~F32_SIGN;
    uint32_t used = random & ((1u << dropped_bits(f)) - 1);
    uint32_t out = is_nan(abs)            ? nan_of(f, abs)
                   : is_subnormal(f, abs) ? stochastic_subnormal(f, abs, random)
                                          : cut(f, abs, used);
    return with_sign(f, bits, out);
}

/* One below `beyond` is the largest finite value, in every format. */
static uint32_t saturate(uint32_t rounded, uint32_t width, uint32_t beyond, float x) {
    uint32_t abs = rounded & ((1u << (width - 1)) - 1);
    return abs == beyond && isfinite(x) ? rounded - 1 : rounded;
}

static inline uint32_t saturating(format f, float x) {
    return saturate(nearest(f, x), f.width, f.beyond, x);
}

float mzi_f16_load(mezzo_f16 x) {
    return widen(F16, x.bits);
}
float mzi_f8_e4m3_load(mezzo_f8_e4m3 x) {
    return widen(F8_E4M3, x.bits);
}
float mzi_f8_e5m2_load(mezzo_f8_e5m2 x) {
    return widen(F8_E5M2, x.bits);
}

mezzo_f16 mzi_f16_round(float x) {
    return (mezzo_f16){(uint16_t)nearest(F16, x)};
}
mezzo_f8_e4m3 mzi_f8_e4m3_round(float x) {
    return (mezzo_f8_e4m3){(uint8_t)nearest(F8_E4M3, x)};
}
mezzo_f8_e5m2 mzi_f8_e5m2_round(float x) {
    return (mezzo_f8_e5m2){(uint8_t)nearest(F8_E5M2, x)};
}

float mezzo_f16_to_f32(mezzo_f16 x) {
    return mzi_f16_load(x);
}
float mezzo_bf16_to_f32(mezzo_bf16 x) {
    return mzi_bf16_load(x);
}
float mezzo_f8_e4m3_to_f32(mezzo_f8_e4m3 x) {
    return mzi_f8_e4m3_load(x);
}
float mezzo_f8_e5m2_to_f32(mezzo_f8_e5m2 x) {
    return mzi_f8_e5m2_load(x);
}

mezzo_f16 mezzo_f16_from_f32(float x) {
    return mzi_f16_round(x);
}
mezzo_bf16 mezzo_bf16_from_f32(float x) {
    return mzi_bf16_round(x);
}
mezzo_f8_e4m3 mezzo_f8_e4m3_from_f32(float x) {
    return mzi_f8_e4m3_round(x);
}
mezzo_f8_e5m2 mezzo_f8_e5m2_from_f32(float x) {
    return mzi_f8_e5m2_round(x);
}

mezzo_f16 mezzo_f16_from_f32_saturating(float x) {
    return (mezzo_f16){(uint16_t)saturating(F16, x)};
}
mezzo_bf16 mezzo_bf16_from_f32_saturating(float x) {
    return (mezzo_bf16){(uint16_t)saturate(mzi_bf16_round(x).bits, 16, 0x7f80, x)};
}
mezzo_f8_e4m3 mezzo_f8_e4m3_from_f32_saturating(float x) {
    return (mezzo_f8_e4m3){(uint8_t)saturating(F8_E4M3, x)};
}
mezzo_f8_e5m2 mezzo_f8_e5m2_from_f32_saturating(float x) {
    return (mezzo_f8_e5m2){(uint8_t)saturating(F8_E5M2, x)};
}

mezzo_f16 mezzo_f16_from_f32_stochastic(float x, uint32_t random) {
    return (mezzo_f16){(uint16_t)stochastic(F16, x, random)};
}
mezzo_bf16 mezzo_bf16_from_f32_stochastic(float x, uint32_t random) {
    uint32_t bits = mzi_f32_bits(x);
    if (is_nan(bits & ~F32_SIGN))
        return mzi_bf16_round(x);
    return (mezzo_bf16){(uint16_t)((bits + (random & 0xffffu)) >> 16)};
}
mezzo_f8_e4m3 mezzo_f8_e4m3_from_f32_stochastic(float x, uint32_t random) {
    return (mezzo_f8_e4m3){(uint8_t)stochastic(F8_E4M3, x, random)};
}
mezzo_f8_e5m2 mezzo_f8_e5m2_from_f32_stochastic(float x, uint32_t random) {
    return (mezzo_f8_e5m2){(uint8_t)stochastic(F8_E5M2, x, random)};
}
