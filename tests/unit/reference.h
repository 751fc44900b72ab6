/* What the 16-bit formats mean, by arithmetic in FP64 on their definition: nothing of the code
 * under test is used. */
#ifndef TESTS_UNIT_REFERENCE_H
#define TESTS_UNIT_REFERENCE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct format16 {
    int exponent_bits;
    int fraction_bits;
} format16;

static const format16 reference_f16 = {5, 10};
static const format16 reference_bf16 = {8, 7};

static inline int format_bias(format16 f) {
    return (1 << (f.exponent_bits - 1)) - 1;
}

/* (2 - 2^-fraction_bits) 2^bias */
static inline double format_largest(format16 f) {
    return ldexp(2 - ldexp(1, -f.fraction_bits), format_bias(f));
}

/* The value of a pattern; NaN for every NaN. */
static inline double format_value(format16 f, uint16_t bits) {
    int fraction = bits & ((1 << f.fraction_bits) - 1);
    int exponent = (bits >> f.fraction_bits) & ((1 << f.exponent_bits) - 1);
    double magnitude;
    if (exponent == (1 << f.exponent_bits) - 1)
        magnitude = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        magnitude = ldexp(fraction, 1 - format_bias(f) - f.fraction_bits);
    else
        magnitude = ldexp(fraction + ldexp(1, f.fraction_bits),
                          exponent - format_bias(f) - f.fraction_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

/* The spacing of the format's values around x, which is not zero. */
static inline double format_step(format16 f, double x) {
    int exponent = ilogb(x);
    int least = 1 - format_bias(f);
    return ldexp(1, (exponent > least ? exponent : least) - f.fraction_bits);
}

/* x rounded once to the format: nearest multiple of the step, ties to the even multiple (rint);
 * beyond the largest value infinity, from half a step on. */
static inline double format_round(format16 f, double x) {
    if (x == 0 || isnan(x) || isinf(x))
        return x;
    double step = format_step(f, x);
    double rounded = rint(x / step) * step; /* both exact: steps are powers of two */
    return fabs(rounded) > format_largest(f) ? copysign((double)INFINITY, x) : rounded;
}

/* Same value and same sign; any NaN is any other. */
static inline bool same_value(double a, double b) {
    return (isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b));
}

#endif
