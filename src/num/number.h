/* Scalar conversions as inline code (the public functions of mezzo/number.h wrap them), and the
 * error bounds that kernels are held to. */
#ifndef MZI_NUM_NUMBER_H
#define MZI_NUM_NUMBER_H

#include <math.h>
#include <string.h>

#include "mezzo/number.h"

static inline uint32_t mzi_f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float mzi_f32_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline bool mzi_is_power_of_two(double x) {
    int exponent;
    return x > 0.0 && isfinite(x) && frexp(x, &exponent) == 0.5;
}

static inline float mzi_bf16_load(mezzo_bf16 x) {
    return mzi_f32_from_bits((uint32_t)x.bits << 16);
}
/* Round to nearest even: adding 0x7fff plus the last kept bit carries exactly when the dropped half
 * is above the tie, or on it with an odd last bit.  NaN is quieted instead: the carry could turn
 * its payload into infinity. */
static inline mezzo_bf16 mzi_bf16_round(float x) {
    uint32_t bits = mzi_f32_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (mezzo_bf16){(uint16_t)((bits >> 16) | 0x40u)};
    return (mezzo_bf16){(uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
float mzi_f16_load(mezzo_f16 x);
float mzi_f8_e4m3_load(mezzo_f8_e4m3 x);
float mzi_f8_e5m2_load(mezzo_f8_e5m2 x);
mezzo_f16 mzi_f16_round(float x);
mezzo_f8_e4m3 mzi_f8_e4m3_round(float x);
mezzo_f8_e5m2 mzi_f8_e5m2_round(float x);

/* Element `i` of a buffer of `type`, in FP64 (exact for every type), and stored back with one
 * rounding to nearest even.  The reference kernels' only way to memory. */
double mzi_load(const void *data, mezzo_dtype type, int64_t i);
void mzi_store(void *data, mezzo_dtype type, int64_t i, double value);

/* "[2,3]" in `out`, which it returns. */
enum {
    MZI_SHAPE_TEXT = 160
};
const char *mzi_shape_text(char out[MZI_SHAPE_TEXT], mezzo_shape shape);

/* Unit roundoff of a type: half the distance from 1 to the next value (2^-8 for bf16). */
double mzi_unit_roundoff(mezzo_dtype type);
/* gamma_n = n u / (1 - n u): the relative bound on a sum of n products accumulated in a type with
 * unit roundoff u, in any order (Higham, Accuracy and Stability, section 3.1). */
double mzi_gamma(int64_t n, double u);
/* Smallest positive subnormal, smallest normal and largest finite value of a floating-point type.
 */
double mzi_tiny(mezzo_dtype type);
double mzi_smallest_normal(mezzo_dtype type);
double mzi_largest(mezzo_dtype type);

#endif
