/* Elements of a buffer of any type, as FP64. */
#include "num/number.h"

double mzi_load(const void *data, mezzo_dtype type, int64_t i) {
    switch (type) {
    case MEZZO_F32:
        return (double)((const float *)data)[i];
    case MEZZO_F16:
        return (double)mzi_f16_load(((const mezzo_f16 *)data)[i]);
    case MEZZO_BF16:
        return (double)mzi_bf16_load(((const mezzo_bf16 *)data)[i]);
    case MEZZO_F64:
        return ((const double *)data)[i];
    case MEZZO_F8_E4M3:
        return (double)mzi_f8_e4m3_load(((const mezzo_f8_e4m3 *)data)[i]);
    case MEZZO_F8_E5M2:
        return (double)mzi_f8_e5m2_load(((const mezzo_f8_e5m2 *)data)[i]);
    case MEZZO_I32:
        return (double)((const int32_t *)data)[i];
    case MEZZO_U8:
        return (double)((const uint8_t *)data)[i];
    case MEZZO_DTYPE_NONE:
    case MEZZO_DTYPE_COUNT:
        break;
    }
    return (double)NAN;
}

/* FP64 to FP32, rounded to odd: cut towards zero, with the last bit set if anything was cut off.
 * That bit keeps the result off every tie of a format that is at least two bits shorter, on the
 * same side of it as the FP64 value, so that rounding it to that format is as rounding the FP64
 * value itself (Boldo and Melquiond 2008).  This holds in the subnormal range too, and a finite
 * value beyond FP32 becomes the largest FP32, whose last bit is set. */
static float round_to_odd(double value) {
    float nearest = (float)value;
    double back = (double)nearest;
    if (back == value || isnan(value))
        return nearest;
    uint32_t bits = mzi_f32_bits(nearest);
    if (fabs(back) > fabs(value))
        bits--;
    return mzi_f32_from_bits(bits | 1u);
}

/* The nearest integer of lowest..highest; 0 for NaN. */
static double to_integer(double value, double lowest, double highest) {
    if (isnan(value))
        return 0;
    double rounded = rint(value);
    if (rounded < lowest)
        return lowest;
    return rounded > highest ? highest : rounded;
}

void mzi_store(void *data, mezzo_dtype type, int64_t i, double value) {
    switch (type) {
    case MEZZO_F32:
        ((float *)data)[i] = (float)value;
        break;
    case MEZZO_F16:
        ((mezzo_f16 *)data)[i] = mzi_f16_round(round_to_odd(value));
        break;
    case MEZZO_BF16:
        ((mezzo_bf16 *)data)[i] = mzi_bf16_round(round_to_odd(value));
        break;
    case MEZZO_F64:
        ((double *)data)[i] = value;
        break;
    case MEZZO_F8_E4M3:
        ((mezzo_f8_e4m3 *)data)[i] = mzi_f8_e4m3_round(round_to_odd(value));
        break;
    case MEZZO_F8_E5M2:
        ((mezzo_f8_e5m2 *)data)[i] = mzi_f8_e5m2_round(round_to_odd(value));
        break;
    case MEZZO_I32:
        ((int32_t *)data)[i] = (int32_t)to_integer(value, INT32_MIN, INT32_MAX);
        break;
    case MEZZO_U8:
        ((uint8_t *)data)[i] = (uint8_t)to_integer(value, 0, UINT8_MAX);
        break;
    case MEZZO_DTYPE_NONE:
    case MEZZO_DTYPE_COUNT:
        break;
    }
}
