/* Scalar conversions, held to the definition of the formats (reference.h).
 *
 * Without arguments: all 16-bit patterns, all ties with their neighbours, and every 251st of the
 * 2^32 single-precision patterns (251 is prime, so that all low bits occur).  With --all: all 2^32,
 * which takes some five minutes. */
#include <float.h>
#include <string.h>

#include "base/rng.h"
#include "num/number.h"
#include "unit/cmocka_all.h"
#include "unit/reference.h"

static uint64_t pattern_stride = 251;

static double double_of_f16(mezzo_f16 x) {
    return format_value(reference_f16, x.bits);
}

static double double_of_bf16(mezzo_bf16 x) {
    return format_value(reference_bf16, x.bits);
}

static void check_nan_f32(float got, uint32_t wanted_top) {
    uint32_t bits = mzi_f32_bits(got);
    assert_true(isnan(got));
    assert_int_equal(bits >> 13, wanted_top);
}

static void test_load_all_patterns(void **state) {
    (void)state;
    for (uint32_t i = 0; i <= 0xffff; i++) {
        float half = mezzo_f16_to_f32((mezzo_f16){(uint16_t)i});
        float brain = mezzo_bf16_to_f32((mezzo_bf16){(uint16_t)i});
        assert_true(same_value((double)half, format_value(reference_f16, (uint16_t)i)));
        assert_true(same_value((double)brain, format_value(reference_bf16, (uint16_t)i)));
        if (isnan(half)) /* sign, exponent, quiet bit and payload, aligned at the top */
            check_nan_f32(half, (i & 0x8000u) << 3 | 0xff << 10 | 0x200 | (i & 0x3ffu));
    }
}

/* To FP32 and back nothing changes, but that a NaN is quiet. */
static void test_round_trip_all_patterns(void **state) {
    (void)state;
    for (uint32_t i = 0; i <= 0xffff; i++) {
        uint32_t quiet16 = (i & 0x7fff) > 0x7c00 ? 0x200 : 0;
        uint32_t quietb = (i & 0x7fff) > 0x7f80 ? 0x40 : 0;
        float half = mezzo_f16_to_f32((mezzo_f16){(uint16_t)i});
        float brain = mezzo_bf16_to_f32((mezzo_bf16){(uint16_t)i});
        assert_int_equal(mezzo_f16_from_f32(half).bits, i | quiet16);
        assert_int_equal(mezzo_bf16_from_f32(brain).bits, i | quietb);
        assert_int_equal(mezzo_f16_from_f32_saturating(half).bits, i | quiet16);
        assert_int_equal(mezzo_bf16_from_f32_saturating(brain).bits, i | quietb);
    }
}

/* A NaN keeps its sign and the upper bits of its payload, whatever the rounding. */
static bool nan_kept(uint32_t bits, uint16_t f16, uint16_t bf16) {
    uint32_t sign = bits >> 31 << 15;
    return f16 == (sign | 0x7e00u | (bits >> 13 & 0x3ffu)) &&
           bf16 == (sign | 0x7fc0u | (bits >> 16 & 0x7fu));
}

static double saturated(narrow_format f, double x, double rounded) {
    return isinf(rounded) && !isinf(x) ? copysign(format_largest(f), x) : rounded;
}

static bool rounds_right(uint32_t bits) {
    float x = mzi_f32_from_bits(bits);
    mezzo_f16 h = mezzo_f16_from_f32(x), hs = mezzo_f16_from_f32_saturating(x);
    mezzo_bf16 b = mezzo_bf16_from_f32(x), bs = mezzo_bf16_from_f32_saturating(x);
    if (isnan(x))
        return nan_kept(bits, h.bits, b.bits) && nan_kept(bits, hs.bits, bs.bits);
    double half = format_round(reference_f16, (double)x);
    double brain = format_round(reference_bf16, (double)x);
    return same_value(double_of_f16(h), half) && same_value(double_of_bf16(b), brain) &&
           same_value(double_of_f16(hs), saturated(reference_f16, (double)x, half)) &&
           same_value(double_of_bf16(bs), saturated(reference_bf16, (double)x, brain));
}

static void test_round_sampled_patterns(void **state) {
    (void)state;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += pattern_stride)
        if (!rounds_right((uint32_t)bits))
            fail_msg("pattern 0x%08x", (unsigned)bits);
}

/* Around every tie between neighbouring values, the one between the largest value and what would
 * follow it among them, and around every value itself. */
static void check_ties(narrow_format f, uint16_t infinity) {
    for (uint16_t i = 0; i < infinity; i++) {
        double low = format_value(f, i);
        double step = format_step(f, low > 0 ? low : DBL_MIN);
        float places[2] = {(float)low, (float)(low + step / 2)};
        for (int k = 0; k < 2; k++) {
            uint32_t bits = mzi_f32_bits(places[k]);
            for (int d = -2; d <= 2; d++) {
                uint32_t near = bits + (uint32_t)d;
                if (!rounds_right(near) || !rounds_right(near ^ 0x80000000u))
                    fail_msg("pattern 0x%08x near 0x%04x", near, i);
            }
        }
    }
}

static void test_ties_and_neighbours(void **state) {
    (void)state;
    check_ties(reference_f16, 0x7c00);
    check_ties(reference_bf16, 0x7f80);
}

static void test_saturating_keeps_infinity(void **state) {
    (void)state;
    assert_int_equal(mezzo_f16_from_f32_saturating(INFINITY).bits, 0x7c00);
    assert_int_equal(mezzo_f16_from_f32_saturating(-INFINITY).bits, 0xfc00);
    assert_int_equal(mezzo_bf16_from_f32_saturating(INFINITY).bits, 0x7f80);
    assert_int_equal(mezzo_f16_from_f32_saturating(1e30f).bits, 0x7bff);
    assert_int_equal(mezzo_bf16_from_f32_saturating(-FLT_MAX).bits, 0xff7f);
}

/* mzi_store rounds once: FP64 values next to the ties of each format by less than FP32 can tell,
 * where rounding by way of FP32 would take the tie's side. */
static void check_store(narrow_format f, mezzo_dtype type, uint16_t infinity) {
    static const double nudges[] = {-0x1p-30, -0x1p-45, -0x1p-52, 0, 0x1p-52, 0x1p-45, 0x1p-30};
    for (uint32_t i = 0; i < infinity; i++) {
        double low = format_value(f, (uint16_t)i);
        double tie = low + format_step(f, low > 0 ? low : DBL_MIN) / 2;
        for (size_t k = 0; k < sizeof nudges / sizeof *nudges; k++) {
            double value = tie * (1 + nudges[k]);
            for (int sign = -1; sign <= 1; sign += 2) {
                uint16_t stored[3] = {1, 2, 3};
                mzi_store(stored, type, 1, sign * value);
                assert_true(same_value(format_value(f, stored[1]), format_round(f, sign * value)));
                assert_true(same_value(mzi_load(stored, type, 1), format_value(f, stored[1])));
                assert_true(stored[0] == 1 && stored[2] == 3);
            }
        }
    }
}

static void test_store_rounds_once(void **state) {
    (void)state;
    check_store(reference_f16, MEZZO_F16, 0x7c00);
    check_store(reference_bf16, MEZZO_BF16, 0x7f80);
    /* The textbook case: above a tie by 2^-40, and FP32 drops that. */
    mezzo_bf16 b;
    mzi_store(&b, MEZZO_BF16, 0, 1 + 0x1p-8 + 0x1p-40);
    assert_int_equal(b.bits, 0x3f81);
}

static void test_store_random_doubles(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 2000000; i++) {
        uint32_t words[4];
        mzi_rng4(words, 5, 0, i, 0);
        /* Any significand; exponents from far below to far above both formats. */
        double x =
            ldexp((double)words[0] + (double)words[1] * 0x1p-32, (int)(words[2] % 400) - 232);
        mezzo_f16 h;
        mezzo_bf16 b;
        mzi_store(&h, MEZZO_F16, 0, x);
        mzi_store(&b, MEZZO_BF16, 0, x);
        if (!same_value(double_of_f16(h), format_round(reference_f16, x)) ||
            !same_value(double_of_bf16(b), format_round(reference_bf16, x)))
            fail_msg("%a", x);
    }
}

static void check_store_value(mezzo_dtype type, double value, double wanted) {
    double raw[2] = {0, 0};
    mzi_store(raw, type, 1, value);
    assert_true(same_value(mzi_load(raw, type, 1), wanted));
}

static void test_load_and_store_all_types(void **state) {
    (void)state;
    for (mezzo_dtype type = MEZZO_F32; type < MEZZO_DTYPE_COUNT; type++) {
        check_store_value(type, 0, 0);
        check_store_value(type, 192, 192);
        if (!mezzo_dtype_is_float(type))
            continue;
        check_store_value(type, -0.0, -0.0);
        check_store_value(type, -1.5, -1.5);
        check_store_value(type, (double)INFINITY,
                          type == MEZZO_F8_E4M3 ? (double)NAN : (double)INFINITY);
        check_store_value(type, (double)NAN, (double)NAN);
        check_store_value(type, mzi_tiny(type), mzi_tiny(type));
        check_store_value(type, mzi_largest(type), mzi_largest(type));
        check_store_value(type, mzi_tiny(type) / 2, type == MEZZO_F64 ? 0x1p-1074 / 2 : 0);
        check_store_value(type, 1 + mzi_unit_roundoff(type), 1);
        check_store_value(type, 1 + 2 * mzi_unit_roundoff(type), 1 + 2 * mzi_unit_roundoff(type));
    }
    check_store_value(MEZZO_F32, 0.1, (double)0.1f);
    check_store_value(MEZZO_F64, 0.1, 0.1);
    check_store_value(MEZZO_I32, INT32_MIN, INT32_MIN);
    check_store_value(MEZZO_I32, INT32_MAX, INT32_MAX);
    check_store_value(MEZZO_I32, 1e12, INT32_MAX);
    check_store_value(MEZZO_I32, (double)NAN, 0);
    check_store_value(MEZZO_U8, 255, 255);
    check_store_value(MEZZO_U8, -3, 0);
    assert_true(isnan(mzi_load("", MEZZO_DTYPE_NONE, 0)));
}

/* Every random word that differs in the bits used, so that the mean is exact and not estimated: of
 * the 2^d words, as many round up as the dropped part has units. */
static void check_stochastic_f16(float x, int dropped) {
    double sum = 0, low = DBL_MAX, high = -DBL_MAX;
    for (uint32_t word = 0; word < 1u << dropped; word++) {
        double got = double_of_f16(mezzo_f16_from_f32_stochastic(x, word | 0xabu << 24));
        sum += got;
        low = got < low ? got : low;
        high = got > high ? got : high;
    }
    double step = format_step(reference_f16, (double)x);
    assert_true(ldexp(sum, -dropped) == (double)x);
    assert_true(high - low <= step && low <= (double)x && high >= (double)x);
}

static void check_stochastic_bf16(float x) {
    double sum = 0;
    for (uint32_t word = 0; word <= 0xffff; word++)
        sum += double_of_bf16(mezzo_bf16_from_f32_stochastic(x, word | 0xabu << 24));
    assert_true(ldexp(sum, -16) == (double)x);
}

static void test_stochastic_mean_is_exact(void **state) {
    (void)state;
    static const float values[] = {1.0f,      1.2345678f, -3.1415927f, 0.1f,
                                   -1000.25f, 65503.9f,   6.2e-5f,     -0.33333334f};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        check_stochastic_f16(values[i], 13);
        check_stochastic_bf16(values[i]);
    }
    check_stochastic_bf16(1e-39f); /* subnormal */
    /* Subnormals of f16 drop 13 + k bits from 2^-14 / 2^k down. */
    check_stochastic_f16(0x1.fffffep-15f, 14);
    check_stochastic_f16(-0x1.234566p-17f, 16);
    check_stochastic_f16(0x1.abcdeep-23f, 22);
    check_stochastic_f16(0x1.8p-25f, 24);
}

/* Far below the least step the chance is m / 2^32: the words below m, from the top, round up. */
static void test_stochastic_tiny_f16(void **state) {
    (void)state;
    float x = 0x1.8p-50f; /* 2^-24 times 3 2^-27: a chance of 96 2^-32 */
    assert_int_equal(mezzo_f16_from_f32_stochastic(x, UINT32_MAX).bits, 1);
    assert_int_equal(mezzo_f16_from_f32_stochastic(x, UINT32_MAX - 95).bits, 1);
    assert_int_equal(mezzo_f16_from_f32_stochastic(x, UINT32_MAX - 96).bits, 0);
    assert_int_equal(mezzo_f16_from_f32_stochastic(-x, UINT32_MAX).bits, 0x8001);
    assert_int_equal(mezzo_f16_from_f32_stochastic(FLT_TRUE_MIN, UINT32_MAX).bits, 0);
    assert_int_equal(mezzo_f16_from_f32_stochastic(-0.0f, UINT32_MAX).bits, 0x8000);
}

static void test_stochastic_keeps_exact_values(void **state) {
    (void)state;
    static const uint32_t words[] = {0, 1, 0x1fff, 0xffff, 0x7fffffff, 0x80000000, UINT32_MAX};
    for (uint32_t i = 0; i <= 0xffff; i++) {
        uint32_t quiet16 = (i & 0x7fff) > 0x7c00 ? 0x200 : 0;
        uint32_t quietb = (i & 0x7fff) > 0x7f80 ? 0x40 : 0;
        float half = mezzo_f16_to_f32((mezzo_f16){(uint16_t)i});
        float brain = mezzo_bf16_to_f32((mezzo_bf16){(uint16_t)i});
        uint32_t drawn[4];
        mzi_rng4(drawn, 3, 0, i, 0);
        for (size_t k = 0; k < 11; k++) {
            uint32_t word = k < 7 ? words[k] : drawn[k - 7];
            assert_int_equal(mezzo_f16_from_f32_stochastic(half, word).bits, i | quiet16);
            assert_int_equal(mezzo_bf16_from_f32_stochastic(brain, word).bits, i | quietb);
        }
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_all_patterns),
        cmocka_unit_test(test_round_trip_all_patterns),
        cmocka_unit_test(test_round_sampled_patterns),
        cmocka_unit_test(test_ties_and_neighbours),
        cmocka_unit_test(test_saturating_keeps_infinity),
        cmocka_unit_test(test_store_rounds_once),
        cmocka_unit_test(test_store_random_doubles),
        cmocka_unit_test(test_load_and_store_all_types),
        cmocka_unit_test(test_stochastic_mean_is_exact),
        cmocka_unit_test(test_stochastic_tiny_f16),
        cmocka_unit_test(test_stochastic_keeps_exact_values),
    };
    if (argc > 1 && strcmp(argv[1], "--all") == 0)
        pattern_stride = 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
