/* Constants of the formats that error bounds are made of. */
#include <float.h>

#include "num/number.h"

typedef struct format {
    double roundoff, tiny, largest;
} format;

/* p bits of precision: u = 2^-p; the subnormal step is 2^(emin - p + 1); the largest value is
 * (2 - 2^(1 - p)) 2^emax, in e4m3, where that pattern is NaN, (2 - 2^(2 - p)) 2^emax. */
static format format_of(mezzo_dtype type) {
    switch (type) {
    case MEZZO_F32:
        return (format){0x1p-24, 0x1p-149, 0x1.fffffep127};
    case MEZZO_F16:
        return (format){0x1p-11, 0x1p-24, 0x1.ffcp15};
    case MEZZO_BF16:
        return (format){0x1p-8, 0x1p-133, 0x1.fep127};
    case MEZZO_F64:
        return (format){0x1p-53, 0x1p-1074, DBL_MAX};
    case MEZZO_F8_E4M3:
        return (format){0x1p-4, 0x1p-9, 0x1.cp8};
    case MEZZO_F8_E5M2:
        return (format){0x1p-3, 0x1p-16, 0x1.cp15};
    case MEZZO_I32:
    case MEZZO_U8:
    case MEZZO_DTYPE_NONE:
    case MEZZO_DTYPE_COUNT:
        break;
    }
    return (format){0, 0, 0};
}

double mzi_unit_roundoff(mezzo_dtype type) {
    return format_of(type).roundoff;
}

double mzi_gamma(int64_t n, double u) {
    double nu = (double)n * u;
    return nu < 1 ? nu / (1 - nu) : (double)INFINITY;
}

double mzi_tiny(mezzo_dtype type) {
    return format_of(type).tiny;
}

/* Subnormals go up by `tiny`, and a normal number has 1 / (2 roundoff) steps up to its double. */
double mzi_smallest_normal(mezzo_dtype type) {
    return format_of(type).tiny / (2 * format_of(type).roundoff);
}

double mzi_largest(mezzo_dtype type) {
    return format_of(type).largest;
}
