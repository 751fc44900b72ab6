/* Scalar conversions of the 8-bit formats, held to the definition of the formats (reference.h).
 *
 * Without arguments: all patterns, all FP32 values next to theirs and to ties, and every 251st of
 * the 2^32 single-precision patterns.  With --all: all 2^32 as well, in under a minute of a CPU. */
#include <float.h>
#include <string.h>

#include "base/rng.h"
#include "num/number.h"
#include "unit/cmocka_all.h"
#include "unit/reference.h"

static const uint64_t pattern_stride = 251;
static bool every_input;

/* One format under test.  `infinity` is the pattern behind the largest value; `quiet` is or'ed into
 * a NaN that was there. */
typedef struct format8 {
    mezzo_dtype type;
    narrow_format reference;
    uint8_t infinity, nan, quiet;
    float (*widen)(uint8_t bits);
    uint8_t (*nearest)(float x);
    uint8_t (*saturating)(float x);
    uint8_t (*stochastic)(float x, uint32_t random);
} format8;

static float e4m3_widen(uint8_t bits) {
    return mezzo_f8_e4m3_to_f32((mezzo_f8_e4m3){bits});
}
static uint8_t e4m3_nearest(float x) {
    return mezzo_f8_e4m3_from_f32(x).bits;
}
static uint8_t e4m3_saturating(float x) {
    return mezzo_f8_e4m3_from_f32_saturating(x).bits;
}
static uint8_t e4m3_stochastic(float x, uint32_t random) {
    return mezzo_f8_e4m3_from_f32_stochastic(x, random).bits;
}
static float e5m2_widen(uint8_t bits) {
    return mezzo_f8_e5m2_to_f32((mezzo_f8_e5m2){bits});
}
static uint8_t e5m2_nearest(float x) {
    return mezzo_f8_e5m2_from_f32(x).bits;
}
static uint8_t e5m2_saturating(float x) {
    return mezzo_f8_e5m2_from_f32_saturating(x).bits;
}
static uint8_t e5m2_stochastic(float x, uint32_t random) {
    return mezzo_f8_e5m2_from_f32_stochastic(x, random).bits;
}

static const format8 formats[] = {
    {MEZZO_F8_E4M3,
     {4, 3, true},
     0x7f,
     0x7f,
     0,
     e4m3_widen,
     e4m3_nearest,
     e4m3_saturating,
     e4m3_stochastic},
    {MEZZO_F8_E5M2,
     {5, 2, false},
     0x7c,
     0x7e,
     0x02,
     e5m2_widen,
     e5m2_nearest,
     e5m2_saturating,
     e5m2_stochastic},
};
enum {
    FORMATS = sizeof formats / sizeof *formats
};

/* The definition itself, at its corners: value by pattern, from the OFP8 tables. */
static void test_corners(void **state) {
    (void)state;
    static const struct {
        uint8_t bits;
        float e4m3, e5m2;
    } corners[] = {{0x00, 0.0f, 0.0f},         {0x80, -0.0f, -0.0f},
                   {0x01, 0x1p-9f, 0x1p-16f},  {0x07, 0x1.cp-7f, 0x1.cp-14f},
                   {0x08, 0x1p-6f, 0x1p-13f},  {0x38, 1.0f, 0.5f},
                   {0x3c, 1.5f, 1.0f},         {0x7b, 352.0f, 57344.0f},
                   {0xfb, -352.0f, -57344.0f}, {0x7c, 384.0f, INFINITY},
                   {0x7e, 448.0f, NAN},        {0xfe, -448.0f, NAN},
                   {0x7f, NAN, NAN},           {0xff, NAN, NAN}};
    for (size_t i = 0; i < sizeof corners / sizeof *corners; i++) {
        assert_true(same_value((double)e4m3_widen(corners[i].bits), (double)corners[i].e4m3));
        assert_true(same_value((double)e5m2_widen(corners[i].bits), (double)corners[i].e5m2));
    }
}

/* To FP32 and back nothing changes, but that a NaN is quiet and keeps its sign. */
static void test_all_patterns(void **state) {
    (void)state;
    for (const format8 *f = formats; f < formats + FORMATS; f++) {
        for (uint32_t i = 0; i <= 0xff; i++) {
            uint8_t bits = (uint8_t)i;
            float x = f->widen(bits);
            bool is_nan = (i & 0x7f) >= f->infinity && isnan(x);
            uint32_t want = is_nan ? i | f->quiet : i;
            assert_true(same_value((double)x, format_value(f->reference, bits)));
            assert_true(!signbit(x) == (i < 0x80));
            if (is_nan)
                assert_true(mzi_f32_bits(x) & 1u << 22);
            assert_int_equal(f->nearest(x), want);
            assert_int_equal(f->saturating(x), want);
            assert_true(same_value(mzi_load(&bits, f->type, 0), (double)x));
        }
    }
}

static double saturated(const format8 *f, double x, double rounded) {
    bool overflowed = isfinite(x) && !isfinite(rounded);
    return overflowed ? copysign(format_largest(f->reference), x) : rounded;
}

static bool rounds_right(const format8 *f, uint32_t bits) {
    float x = mzi_f32_from_bits(bits);
    uint8_t near = f->nearest(x), saturating = f->saturating(x);
    uint32_t payload = bits >> (23 - f->reference.fraction_bits);
    uint32_t fraction = (1u << f->reference.fraction_bits) - 1;
    if (isnan(x)) {
        uint32_t want = bits >> 31 << 7 | f->nan | (payload & fraction);
        return near == want && saturating == want;
    }
    double rounded = format_round(f->reference, (double)x);
    return same_value(format_value(f->reference, near), rounded) &&
           same_value(format_value(f->reference, saturating), saturated(f, (double)x, rounded)) &&
           near >> 7 == bits >> 31 && saturating >> 7 == bits >> 31;
}

static void test_sampled_patterns(void **state) {
    (void)state;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += pattern_stride)
        for (const format8 *f = formats; f < formats + FORMATS; f++)
            if (!rounds_right(f, (uint32_t)bits))
                fail_msg("%s: pattern 0x%08x", mezzo_dtype_name(f->type), (unsigned)bits);
}

/* Half way from the value of pattern i to the next value. */
static double tie_behind(const format8 *f, uint8_t i) {
    double low = format_value(f->reference, i);
    return low + format_step(f->reference, low > 0 ? low : DBL_MIN) / 2;
}

/* All FP32 magnitudes in rising order: the nearest pattern rises with them, and moves on at a tie,
 * from an even pattern behind it. */
static void check_every_number(const format8 *f) {
    const uint32_t f32_infinity = 0x7f800000;
    uint8_t nearest = 0;
    double tie = tie_behind(f, 0);
    for (uint32_t bits = 0; bits <= f32_infinity; bits++) {
        float x = mzi_f32_from_bits(bits);
        if (nearest < f->infinity && ((double)x > tie || ((double)x == tie && nearest % 2 == 1)))
            tie = tie_behind(f, ++nearest);
        bool overflows = nearest == f->infinity && bits < f32_infinity;
        uint8_t most = (uint8_t)(overflows ? nearest - 1 : nearest);
        if (f->nearest(x) != nearest || f->nearest(-x) != (nearest | 0x80) ||
            f->saturating(x) != most || f->saturating(-x) != (most | 0x80))
            fail_msg("%s: pattern 0x%08x", mezzo_dtype_name(f->type), bits);
    }
}

static void test_every_input(void **state) {
    (void)state;
    if (!every_input)
        skip();
    for (const format8 *f = formats; f < formats + FORMATS; f++) {
        check_every_number(f);
        for (uint32_t nan = 0x7f800001; nan <= 0x7fffffff; nan++)
            if (!rounds_right(f, nan) || !rounds_right(f, nan | 0x80000000u))
                fail_msg("%s: pattern 0x%08x", mezzo_dtype_name(f->type), nan);
    }
}

/* FP64 values next to a tie by less than FP32 can tell: mzi_store rounds once. */
static void check_store(const format8 *f, double tie) {
    static const double nudges[] = {-0x1p-30, -0x1p-45, -0x1p-52, 0, 0x1p-52, 0x1p-45, 0x1p-30};
    for (size_t k = 0; k < sizeof nudges / sizeof *nudges; k++)
        for (int sign = -1; sign <= 1; sign += 2) {
            double value = sign * tie * (1 + nudges[k]);
            uint8_t stored[3] = {1, 2, 3};
            mzi_store(stored, f->type, 1, value);
            assert_true(same_value(format_value(f->reference, stored[1]),
                                   format_round(f->reference, value)));
            assert_true(stored[0] == 1 && stored[2] == 3);
        }
}

/* Around every value and every tie, the one behind the largest value among them. */
static void test_ties_and_neighbours(void **state) {
    (void)state;
    for (const format8 *f = formats; f < formats + FORMATS; f++)
        for (uint8_t i = 0; i < f->infinity; i++) {
            double tie = tie_behind(f, i);
            float places[2] = {(float)format_value(f->reference, i), (float)tie};
            for (int k = 0; k < 2; k++)
                for (int d = -2; d <= 2; d++) {
                    uint32_t near = mzi_f32_bits(places[k]) + (uint32_t)d;
                    if (!rounds_right(f, near) || !rounds_right(f, near ^ 0x80000000u))
                        fail_msg("%s: pattern 0x%08x", mezzo_dtype_name(f->type), near);
                }
            check_store(f, tie);
        }
}

/* Beyond the largest value: e4m3 has NaN there, and NaN for infinity in every form. */
static void test_overflow(void **state) {
    (void)state;
    assert_int_equal(e4m3_nearest(464), 0x7e); /* the tie: 448 is even */
    assert_int_equal(e4m3_nearest(nextafterf(464, 465)), 0x7f);
    assert_int_equal(e4m3_nearest(-FLT_MAX), 0xff);
    assert_int_equal(e4m3_nearest(INFINITY), 0x7f);
    assert_int_equal(e4m3_saturating(nextafterf(464, 465)), 0x7e);
    assert_int_equal(e4m3_saturating(-FLT_MAX), 0xfe);
    assert_int_equal(e4m3_saturating(-INFINITY), 0xff);
    assert_int_equal(e5m2_nearest(nextafterf(61440, 0)), 0x7b);
    assert_int_equal(e5m2_nearest(61440), 0x7c); /* the tie: infinity is even */
    assert_int_equal(e5m2_nearest(-INFINITY), 0xfc);
    assert_int_equal(e5m2_saturating(-FLT_MAX), 0xfb);
    assert_int_equal(e5m2_saturating(INFINITY), 0x7c);
    for (uint32_t word = 0; word < 1u << 8; word++) {
        uint32_t random = word << 24 | word << 13 | word;
        assert_int_equal(e4m3_stochastic(480, random), 0x7f);
        assert_int_equal(e4m3_stochastic(-500, random), 0xff);
        assert_int_equal(e4m3_stochastic(INFINITY, random), 0x7f);
        assert_int_equal(e5m2_stochastic(65536, random), 0x7c);
        assert_int_equal(e5m2_stochastic(-INFINITY, random), 0xfc);
    }
}

/* Of the words that differ in the bits used, as many round up as the dropped part has units: the
 * mean over all of them is the input, exactly. */
static void check_mean(const format8 *f, float x, int dropped) {
    double sum = 0, low = DBL_MAX, high = -DBL_MAX;
    for (uint32_t word = 0; word < 1u << dropped; word++) {
        double got = format_value(f->reference, f->stochastic(x, word | 0xabu << 24));
        sum += got;
        low = got < low ? got : low;
        high = got > high ? got : high;
    }
    assert_true(ldexp(sum, -dropped) == (double)x);
    assert_true(high - low <= format_step(f->reference, (double)x));
    assert_true(low <= (double)x && high >= (double)x);
}

static void test_stochastic_mean_is_exact(void **state) {
    (void)state;
    static const float normal[] = {1.0f, 1.2345678f, -3.1415927f, 0.1f, -440.12345f, 0.0313f};
    for (size_t i = 0; i < sizeof normal / sizeof *normal; i++)
        for (const format8 *f = formats; f < formats + FORMATS; f++)
            check_mean(f, normal[i], 23 - f->reference.fraction_bits);
    /* Subnormals drop one bit more for each halving. */
    check_mean(&formats[0], 0x1.fffffep-7f, 21);
    check_mean(&formats[0], -0x1.abcdeep-8f, 22);
    check_mean(&formats[0], 0x1.234566p-9f, 23);
    check_mean(&formats[0], 0x1.8p-10f, 24);
    check_mean(&formats[1], 0x1.fffffep-15f, 22);
    check_mean(&formats[1], 0x1.234566p-16f, 23);
    check_mean(&formats[1], -0x1.8p-17f, 24);
}

/* Far below the least step the chance is m / 2^32: the words below m, from the top, round up. */
static void test_stochastic_tiny(void **state) {
    (void)state;
    float x = 0x1.8p-35f, y = 0x1.8p-42f; /* 3 2^-27 of a step: a chance of 96 2^-32 */
    assert_int_equal(e4m3_stochastic(x, UINT32_MAX - 95), 1);
    assert_int_equal(e4m3_stochastic(x, UINT32_MAX - 96), 0);
    assert_int_equal(e5m2_stochastic(y, UINT32_MAX - 95), 1);
    assert_int_equal(e5m2_stochastic(y, UINT32_MAX - 96), 0);
    assert_int_equal(e5m2_stochastic(-y, UINT32_MAX), 0x81);
    assert_int_equal(e4m3_stochastic(FLT_TRUE_MIN, UINT32_MAX), 0);
    assert_int_equal(e4m3_stochastic(-0.0f, UINT32_MAX), 0x80);
}

static void test_stochastic_keeps_exact_values(void **state) {
    (void)state;
    static const uint32_t words[] = {0, 1, 0x1fffff, 0xffffff, 0x7fffffff, 0x80000000, UINT32_MAX};
    for (const format8 *f = formats; f < formats + FORMATS; f++)
        for (uint32_t i = 0; i <= 0xff; i++) {
            float x = f->widen((uint8_t)i);
            uint32_t drawn[4], want = isnan(x) ? i | f->quiet : i;
            mzi_rng4(drawn, 3, 0, i, 0);
            for (size_t k = 0; k < 11; k++)
                assert_int_equal(f->stochastic(x, k < 7 ? words[k] : drawn[k - 7]), want);
        }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corners),
        cmocka_unit_test(test_all_patterns),
        cmocka_unit_test(test_sampled_patterns),
        cmocka_unit_test(test_ties_and_neighbours),
        cmocka_unit_test(test_every_input),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_stochastic_mean_is_exact),
        cmocka_unit_test(test_stochastic_tiny),
        cmocka_unit_test(test_stochastic_keeps_exact_values),
    };
    every_input = argc > 1 && strcmp(argv[1], "--all") == 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
