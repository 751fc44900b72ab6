/* What the 16-bit and 8-bit formats mean, by arithmetic in FP64 on their definition: nothing of the
 * code under test is used. */
#ifndef TESTS_UNIT_REFERENCE_H
#define TESTS_UNIT_REFERENCE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct narrow_format {
    int exponent_bits;
    int fraction_bits;
    bool has_no_infinity; /* the highest exponent holds numbers, and NaN in its last pattern */
} narrow_format;

static const narrow_format reference_f16 = {5, 10, false};
static const narrow_format reference_bf16 = {8, 7, false};

static inline int format_bias(narrow_format f) {
    return (1 << (f.exponent_bits - 1)) - 1;
}

/* (2 - 2^-fraction_bits) 2^bias; without infinity one exponent further, and one step less. */
static inline double format_largest(narrow_format f) {
    if (f.has_no_infinity)
        return ldexp(2 - ldexp(2, -f.fraction_bits), format_bias(f) + 1);
    return ldexp(2 - ldexp(1, -f.fraction_bits), format_bias(f));
}

/* What stands for a value beyond the largest. */
static inline double format_overflow(narrow_format f, double x) {
    return f.has_no_infinity ? (double)NAN : copysign((double)INFINITY, x);
}

/* The value of a pattern; NaN for every NaN. */
static inline double format_value(narrow_format f, uint16_t bits) {
    int fraction = bits & ((1 << f.fraction_bits) - 1);
    int exponent = (bits >> f.fraction_bits) & ((1 << f.exponent_bits) - 1);
    bool is_last = fraction == (1 << f.fraction_bits) - 1;
    double magnitude;
    if (exponent == (1 << f.exponent_bits) - 1 && f.has_no_infinity && is_last)
        magnitude = (double)NAN;
    else if (exponent == (1 << f.exponent_bits) - 1 && !f.has_no_infinity)
        magnitude = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        magnitude = ldexp(fraction, 1 - format_bias(f) - f.fraction_bits);
    else
        magnitude = ldexp(fraction + ldexp(1, f.fraction_bits),
                          exponent - format_bias(f) - f.fraction_bits);
    int sign = bits >> (f.exponent_bits + f.fraction_bits) & 1;
    return sign ? -magnitude : magnitude;
}

/* The spacing of the format's values around x, which is not zero. */
static inline double format_step(narrow_format f, double x) {
    int exponent = ilogb(x);
    int least = 1 - format_bias(f);
    return ldexp(1, (exponent > least ? exponent : least) - f.fraction_bits);
}

/* x rounded once to the format: nearest multiple of the step, ties to the even multiple (rint);
 * beyond the largest value, from half a step on, what stands for that. */
static inline double format_round(narrow_format f, double x) {
    if (x == 0 || isnan(x))
        return x;
    if (isinf(x))
        return format_overflow(f, x);
    double step = format_step(f, x);
    double rounded = rint(x / step) * step; /* both exact: steps are powers of two */
    return fabs(rounded) > format_largest(f) ? format_overflow(f, x) : rounded;
}

/* Same value and same sign; any NaN is any other. */
static inline bool same_value(double a, double b) {
    return (isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b));
}

#endif
