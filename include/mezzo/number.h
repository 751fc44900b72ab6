/* Number formats and conversions between them.
 *
 *   format    sign exponent fraction   largest      smallest normal   subnormal step
 *   f32          1        8       23   3.403e38     2^-126            2^-149
 *   f16          1        5       10   65504        2^-14             2^-24
 *   bf16         1        8        7   3.390e38     2^-126            2^-133
 *   f8_e4m3      1        4        3   448          2^-6              2^-9
 *   f8_e5m2      1        5        2   57344        2^-14             2^-16
 *
 * Conversions to fewer bits round to nearest, ties to even, keep subnormals, turn values beyond the
 * largest into infinity, and keep NaN a NaN (quieted, upper payload bits kept).  The saturating
 * forms give the largest finite value instead of infinity for every finite input that overflows;
 * infinities stay.  The stochastic form adds the low random bits below the kept fraction and
 * truncates, so that the expected value of the result is the input.
 *
 * The 8-bit formats are those of the Open Compute Project (OFP8).  e5m2 follows IEEE 754.  e4m3 is
 * the kind also called "FN": it has no infinity, and its only NaN is s 1111 111, so that the other
 * patterns with the exponent 1111 are numbers.  Where another format gives an infinity e4m3 gives
 * its NaN: for an infinity in every form, the saturating one too (OFP8 makes it the largest value
 * there, and e5m2's infinity as well: here what was not finite is still seen to be so), and for
 * what rounds beyond 448, from above 464 on, unless it saturates.
 *
 * F64 is a storage type of the `ref` device only.  The 8-bit formats are storage only: values are
 * kept in them and converted, nothing computes in them. */
#ifndef MEZZO_NUMBER_H
#define MEZZO_NUMBER_H

#include "mezzo/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* name, bytes, is a floating-point type */
#define MEZZO_DTYPE_MAP(X)                                                                         \
    X(F32, "f32", 4, 1)                                                                            \
    X(F16, "f16", 2, 1)                                                                            \
    X(BF16, "bf16", 2, 1)                                                                          \
    X(F64, "f64", 8, 1)                                                                            \
    X(I32, "i32", 4, 0)                                                                            \
    X(U8, "u8", 1, 0)                                                                              \
    X(F8_E4M3, "f8_e4m3", 1, 1)                                                                    \
    X(F8_E5M2, "f8_e5m2", 1, 1)

typedef enum mezzo_dtype {
    MEZZO_DTYPE_NONE,
#define X(name, text, bytes, is_float) MEZZO_##name,
    MEZZO_DTYPE_MAP(X)
#undef X
    MEZZO_DTYPE_COUNT
} mezzo_dtype;

MEZZO_API const char *mezzo_dtype_name(mezzo_dtype dtype); /* "bf16"; "none" if it is no type */
MEZZO_API size_t mezzo_dtype_bytes(mezzo_dtype dtype);     /* 2 for bf16; 0 if it is no type   */
MEZZO_API bool mezzo_dtype_is_float(mezzo_dtype dtype);
/* MEZZO_DTYPE_NONE if `name` is none of the names ("fp32", "fp16", "fp64", "fp8_e4m3" and
 * "fp8_e5m2" are taken too). */
MEZZO_API mezzo_dtype mezzo_dtype_from_name(const char *name);

/* Distinct types, so that mixing two formats is a compile error and not a bad loss curve. */
typedef struct mezzo_f16 {
    uint16_t bits;
} mezzo_f16;
typedef struct mezzo_bf16 {
    uint16_t bits;
} mezzo_bf16;
typedef struct mezzo_f8_e4m3 {
    uint8_t bits;
} mezzo_f8_e4m3;
typedef struct mezzo_f8_e5m2 {
    uint8_t bits;
} mezzo_f8_e5m2;

MEZZO_API float mezzo_f16_to_f32(mezzo_f16 x); /* exact */
MEZZO_API float mezzo_bf16_to_f32(mezzo_bf16 x);
MEZZO_API float mezzo_f8_e4m3_to_f32(mezzo_f8_e4m3 x);
MEZZO_API float mezzo_f8_e5m2_to_f32(mezzo_f8_e5m2 x);
MEZZO_API mezzo_f16 mezzo_f16_from_f32(float x);
MEZZO_API mezzo_bf16 mezzo_bf16_from_f32(float x);
MEZZO_API mezzo_f8_e4m3 mezzo_f8_e4m3_from_f32(float x);
MEZZO_API mezzo_f8_e5m2 mezzo_f8_e5m2_from_f32(float x);
MEZZO_API mezzo_f16 mezzo_f16_from_f32_saturating(float x);
MEZZO_API mezzo_bf16 mezzo_bf16_from_f32_saturating(float x);
MEZZO_API mezzo_f8_e4m3 mezzo_f8_e4m3_from_f32_saturating(float x);
MEZZO_API mezzo_f8_e5m2 mezzo_f8_e5m2_from_f32_saturating(float x);
/* `random`: 32 uniform bits, of which as many are used as the format drops, so that NaN, infinity
 * and exactly representable values come out unchanged whatever the bits are (a NaN quieted,
 * infinity in e4m3 NaN).  The chance to round up is exact, but for subnormal results of f16 and the
 * 8-bit formats cut to a multiple of 2^-32, the most that 32 bits can tell apart. */
MEZZO_API mezzo_f16 mezzo_f16_from_f32_stochastic(float x, uint32_t random);
MEZZO_API mezzo_bf16 mezzo_bf16_from_f32_stochastic(float x, uint32_t random);
MEZZO_API mezzo_f8_e4m3 mezzo_f8_e4m3_from_f32_stochastic(float x, uint32_t random);
MEZZO_API mezzo_f8_e5m2 mezzo_f8_e5m2_from_f32_stochastic(float x, uint32_t random);

typedef enum mezzo_rounding {
    MEZZO_ROUND_NEAREST,
    MEZZO_ROUND_SATURATE,
    MEZZO_ROUND_STOCHASTIC
} mezzo_rounding;

/* Convert `count` values of raw buffers.  f32, f16, bf16, f8_e4m3 and f8_e5m2 in any
 * combination; `dst` and `src` do not overlap unless they are the same buffer and the same type.
 * `seed` keys the random bits of STOCHASTIC by (seed, element) and is ignored by the others.
 * INVALID_ARGUMENT for other types. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_convert(mezzo_ctx *ctx, void *dst,
                                                      mezzo_dtype dst_type, const void *src,
                                                      mezzo_dtype src_type, size_t count,
                                                      mezzo_rounding rounding, uint64_t seed);

/* Philox4x32-10 (Salmon et al., SC'11): four random words from a 128-bit counter and a 64-bit key.
 * A pure function: whoever asks for element i of stream k gets the same bits on every machine. */
MEZZO_API void mezzo_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

#define MEZZO_RANK_MAX 6
/* Row-major, outermost first; rank 0 is a scalar. */
typedef struct mezzo_shape {
    int32_t rank;
    int64_t dim[MEZZO_RANK_MAX];
} mezzo_shape;

static inline mezzo_shape mezzo_shape0(void) {
    mezzo_shape s = {0, {0, 0, 0, 0, 0, 0}};
    return s;
}
static inline mezzo_shape mezzo_shape1(int64_t a) {
    mezzo_shape s = {1, {a, 0, 0, 0, 0, 0}};
    return s;
}
static inline mezzo_shape mezzo_shape2(int64_t a, int64_t b) {
    mezzo_shape s = {2, {a, b, 0, 0, 0, 0}};
    return s;
}
static inline mezzo_shape mezzo_shape3(int64_t a, int64_t b, int64_t c) {
    mezzo_shape s = {3, {a, b, c, 0, 0, 0}};
    return s;
}
static inline mezzo_shape mezzo_shape4(int64_t a, int64_t b, int64_t c, int64_t d) {
    mezzo_shape s = {4, {a, b, c, d, 0, 0}};
    return s;
}
/* Product of the dims; 1 for a scalar; -1 if a dim is negative, the rank is outside of
 * 0..MEZZO_RANK_MAX, or the product does not fit. */
MEZZO_API int64_t mezzo_shape_count(mezzo_shape shape);
MEZZO_API bool mezzo_shape_equal(mezzo_shape a, mezzo_shape b);

#ifdef __cplusplus
}
#endif
#endif
