/* Conversion of buffers, and the small facts about types, shapes and bounds. */
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "num/number.h"
#include "unit/cmocka_all.h"

static mezzo_ctx *create(int threads) {
    mezzo_ctx *ctx = NULL;
    assert_int_equal(mezzo_ctx_create(&ctx, &(mezzo_ctx_config){.threads = threads}, NULL),
                     MEZZO_OK);
    return ctx;
}

/* Several chunks, and an end inside of a block of four. */
#define COUNT 50003

static void fill(float *x) {
    for (uint32_t i = 0; i < COUNT; i++)
        x[i] = mzi_f32_from_bits(i * 0x9e3779b9u);
}

static void test_nearest_and_saturate(void **state) {
    (void)state;
    static float x[COUNT], back[COUNT];
    static mezzo_f16 h[COUNT];
    static mezzo_bf16 b[COUNT];
    mezzo_ctx *ctx = create(2);
    fill(x);
    assert_int_equal(mezzo_convert(ctx, h, MEZZO_F16, x, MEZZO_F32, COUNT, MEZZO_ROUND_NEAREST, 0),
                     MEZZO_OK);
    assert_int_equal(
        mezzo_convert(ctx, b, MEZZO_BF16, x, MEZZO_F32, COUNT, MEZZO_ROUND_SATURATE, 0), MEZZO_OK);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(h[i].bits, mezzo_f16_from_f32(x[i]).bits);
        assert_int_equal(b[i].bits, mezzo_bf16_from_f32_saturating(x[i]).bits);
    }
    assert_int_equal(
        mezzo_convert(ctx, back, MEZZO_F32, h, MEZZO_F16, COUNT, MEZZO_ROUND_NEAREST, 0), MEZZO_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(mzi_f32_bits(back[i]), mzi_f32_bits(mezzo_f16_to_f32(h[i])));
    assert_int_equal(mezzo_convert(ctx, h, MEZZO_F16, b, MEZZO_BF16, COUNT, MEZZO_ROUND_NEAREST, 0),
                     MEZZO_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(h[i].bits, mezzo_f16_from_f32(mezzo_bf16_to_f32(b[i])).bits);
    mezzo_ctx_destroy(ctx);
}

static void test_same_type_copies(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(1);
    float x[3] = {1.0f, -0.0f, 3.5f}, y[3] = {0};
    assert_int_equal(mezzo_convert(ctx, y, MEZZO_F32, x, MEZZO_F32, 3, MEZZO_ROUND_NEAREST, 0), 0);
    assert_memory_equal(x, y, sizeof x);
    assert_int_equal(mezzo_convert(ctx, x, MEZZO_F32, x, MEZZO_F32, 3, MEZZO_ROUND_NEAREST, 0), 0);
    assert_memory_equal(x, y, sizeof x);
    assert_int_equal(
        mezzo_convert(ctx, NULL, MEZZO_F16, NULL, MEZZO_F32, 0, MEZZO_ROUND_NEAREST, 0), MEZZO_OK);
    mezzo_ctx_destroy(ctx);
}

/* All three roundings to the 8-bit formats, and back, and from one to the other. */
static void test_eight_bits(void **state) {
    (void)state;
    static float x[COUNT], back[COUNT];
    static mezzo_f8_e4m3 a[COUNT];
    static mezzo_f8_e5m2 b[COUNT];
    mezzo_ctx *ctx = create(2);
    const mezzo_dtype e4m3 = MEZZO_F8_E4M3, e5m2 = MEZZO_F8_E5M2;
    fill(x);
    for (int how = MEZZO_ROUND_NEAREST; how <= MEZZO_ROUND_SATURATE; how++) {
        const mezzo_rounding rounding = (mezzo_rounding)how;
        bool saturates = rounding == MEZZO_ROUND_SATURATE;
        assert_int_equal(mezzo_convert(ctx, a, e4m3, x, MEZZO_F32, COUNT, rounding, 0), MEZZO_OK);
        assert_int_equal(mezzo_convert(ctx, b, e5m2, x, MEZZO_F32, COUNT, rounding, 0), MEZZO_OK);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(a[i].bits, saturates ? mezzo_f8_e4m3_from_f32_saturating(x[i]).bits
                                                  : mezzo_f8_e4m3_from_f32(x[i]).bits);
            assert_int_equal(b[i].bits, saturates ? mezzo_f8_e5m2_from_f32_saturating(x[i]).bits
                                                  : mezzo_f8_e5m2_from_f32(x[i]).bits);
        }
    }
    const mezzo_rounding nearest = MEZZO_ROUND_NEAREST;
    assert_int_equal(mezzo_convert(ctx, back, MEZZO_F32, b, e5m2, COUNT, nearest, 0), MEZZO_OK);
    assert_int_equal(mezzo_convert(ctx, a, e4m3, b, e5m2, COUNT, nearest, 0), MEZZO_OK);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(mzi_f32_bits(back[i]), mzi_f32_bits(mezzo_f8_e5m2_to_f32(b[i])));
        assert_int_equal(a[i].bits, mezzo_f8_e4m3_from_f32(back[i]).bits);
    }
    assert_int_equal(mezzo_convert(ctx, back, MEZZO_F32, a, e4m3, COUNT, nearest, 0), MEZZO_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(mzi_f32_bits(back[i]), mzi_f32_bits(mezzo_f8_e4m3_to_f32(a[i])));
    mezzo_ctx_destroy(ctx);
}

/* The mean of N roundings of x between neighbours q apart, where p is the part of the way: its
 * standard deviation is q sqrt(p (1 - p) / N), and six of those are exceeded with a probability of
 * 2e-9. */
static void check_mean(mezzo_ctx *ctx, mezzo_dtype type, float x, double step) {
    static float many[COUNT], back[COUNT];
    static uint16_t rounded[COUNT];
    for (int i = 0; i < COUNT; i++)
        many[i] = x;
    assert_int_equal(
        mezzo_convert(ctx, rounded, type, many, MEZZO_F32, COUNT, MEZZO_ROUND_STOCHASTIC, 11), 0);
    assert_int_equal(
        mezzo_convert(ctx, back, MEZZO_F32, rounded, type, COUNT, MEZZO_ROUND_NEAREST, 0), 0);
    double off = 0;
    for (int i = 0; i < COUNT; i++)
        off += (double)back[i] - (double)x; /* exact */
    double p = fmod((double)x, step) / step;
    double deviation = step * sqrt(p * (1 - p) / COUNT);
    assert_true(fabs(off / COUNT) <= 6 * deviation);
    assert_true(p == 0 || off != 0);
}

static void test_stochastic_mean(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(2);
    check_mean(ctx, MEZZO_BF16, 1.0f, 0x1p-7);
    check_mean(ctx, MEZZO_BF16, 1.001f, 0x1p-7);
    check_mean(ctx, MEZZO_BF16, 1.4142135f, 0x1p-7);
    check_mean(ctx, MEZZO_F16, 1.0003f, 0x1p-10);
    check_mean(ctx, MEZZO_F16, 1.1e-7f, 0x1p-24);
    check_mean(ctx, MEZZO_F8_E4M3, 1.03f, 0x1p-3);
    check_mean(ctx, MEZZO_F8_E4M3, 447.9f, 0x1p5);
    check_mean(ctx, MEZZO_F8_E4M3, 1e-4f, 0x1p-9);
    check_mean(ctx, MEZZO_F8_E5M2, 1.1f, 0x1p-2);
    check_mean(ctx, MEZZO_F8_E5M2, 1e-7f, 0x1p-16);
    mezzo_ctx_destroy(ctx);
}

/* Keyed by (seed, element): not by the number of workers, the chunk or the count. */
static void test_stochastic_is_keyed(void **state) {
    (void)state;
    static float x[COUNT];
    static mezzo_bf16 one[COUNT], three[COUNT], part[COUNT], other[COUNT];
    for (int i = 0; i < COUNT; i++)
        x[i] = 1.003f;
    mezzo_ctx *a = create(1), *b = create(3);
    const mezzo_rounding how = MEZZO_ROUND_STOCHASTIC;
    assert_int_equal(mezzo_convert(a, one, MEZZO_BF16, x, MEZZO_F32, COUNT, how, 5), 0);
    assert_int_equal(mezzo_convert(b, three, MEZZO_BF16, x, MEZZO_F32, COUNT, how, 5), 0);
    assert_int_equal(mezzo_convert(b, part, MEZZO_BF16, x, MEZZO_F32, 17003, how, 5), 0);
    assert_int_equal(mezzo_convert(b, other, MEZZO_BF16, x, MEZZO_F32, COUNT, how, 6), 0);
    assert_memory_equal(one, three, sizeof one);
    assert_memory_equal(one, part, 17003 * sizeof *one);
    assert_memory_not_equal(one, other, sizeof one);
    mezzo_ctx_destroy(a);
    mezzo_ctx_destroy(b);
}

static void refuses(mezzo_ctx *ctx, void *dst, mezzo_dtype dst_type, const void *src,
                    mezzo_dtype src_type, size_t count, mezzo_rounding rounding) {
    assert_int_equal(mezzo_convert(ctx, dst, dst_type, src, src_type, count, rounding, 0),
                     MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_ctx_error(ctx)->status, MEZZO_INVALID_ARGUMENT);
    assert_true(strlen(mezzo_ctx_error(ctx)->text) > 0);
}

static void test_bad_arguments(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(1);
    const mezzo_rounding nearest = MEZZO_ROUND_NEAREST;
    uint32_t x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, y[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    refuses(ctx, y, MEZZO_F64, x, MEZZO_F32, 2, nearest);
    refuses(ctx, y, MEZZO_F32, x, MEZZO_I32, 2, nearest);
    refuses(ctx, y, MEZZO_DTYPE_NONE, x, MEZZO_F32, 2, nearest);
    refuses(ctx, y, (mezzo_dtype)99, x, MEZZO_F32, 2, nearest);
    refuses(ctx, y, MEZZO_U8, x, MEZZO_F8_E4M3, 2, nearest);
    refuses(ctx, y, MEZZO_F8_E5M2, x, MEZZO_F64, 2, nearest);
    refuses(ctx, y, MEZZO_F16, x, MEZZO_F32, 2, (mezzo_rounding)3);
    refuses(ctx, NULL, MEZZO_F16, x, MEZZO_F32, 2, nearest);
    refuses(ctx, y, MEZZO_F16, NULL, MEZZO_F32, 2, nearest);
    refuses(ctx, y, MEZZO_F16, x, MEZZO_F32, SIZE_MAX / 2, nearest);
    refuses(ctx, x, MEZZO_F16, x, MEZZO_F32, 2, nearest);
    refuses(ctx, x + 1, MEZZO_F32, x, MEZZO_F32, 2, nearest);
    for (uint32_t i = 0; i < 8; i++)
        assert_true(x[i] == i + 1 && y[i] == 9);
    assert_int_equal(mezzo_convert(ctx, x + 4, MEZZO_F32, x, MEZZO_F32, 4, nearest, 0), MEZZO_OK);
    assert_int_equal(mezzo_ctx_error(ctx)->status, MEZZO_OK);
    mezzo_ctx_destroy(ctx);
}

static void test_dtypes(void **state) {
    (void)state;
    assert_string_equal(mezzo_dtype_name(MEZZO_BF16), "bf16");
    assert_string_equal(mezzo_dtype_name(MEZZO_DTYPE_NONE), "none");
    assert_string_equal(mezzo_dtype_name((mezzo_dtype)-1), "none");
    assert_int_equal(mezzo_dtype_bytes(MEZZO_F64), 8);
    assert_int_equal(mezzo_dtype_bytes(MEZZO_DTYPE_COUNT), 0);
    assert_true(mezzo_dtype_is_float(MEZZO_F16));
    assert_false(mezzo_dtype_is_float(MEZZO_I32) || mezzo_dtype_is_float(MEZZO_DTYPE_NONE));
    for (int i = 1; i < MEZZO_DTYPE_COUNT; i++)
        assert_int_equal(mezzo_dtype_from_name(mezzo_dtype_name((mezzo_dtype)i)), i);
    assert_string_equal(mezzo_dtype_name(MEZZO_F8_E4M3), "f8_e4m3");
    assert_string_equal(mezzo_dtype_name(MEZZO_F8_E5M2), "f8_e5m2");
    assert_int_equal(mezzo_dtype_bytes(MEZZO_F8_E4M3), sizeof(mezzo_f8_e4m3));
    assert_int_equal(mezzo_dtype_bytes(MEZZO_F8_E5M2), sizeof(mezzo_f8_e5m2));
    assert_true(mezzo_dtype_is_float(MEZZO_F8_E4M3) && mezzo_dtype_is_float(MEZZO_F8_E5M2));
    assert_int_equal(mezzo_dtype_from_name("fp8_e4m3"), MEZZO_F8_E4M3);
    assert_int_equal(mezzo_dtype_from_name("fp8_e5m2"), MEZZO_F8_E5M2);
    assert_int_equal(mezzo_dtype_from_name("fp16"), MEZZO_F16);
    assert_int_equal(mezzo_dtype_from_name("fp32"), MEZZO_F32);
    assert_int_equal(mezzo_dtype_from_name("fp64"), MEZZO_F64);
    assert_int_equal(mezzo_dtype_from_name("none"), MEZZO_DTYPE_NONE);
    assert_int_equal(mezzo_dtype_from_name("BF16"), MEZZO_DTYPE_NONE);
    assert_int_equal(mezzo_dtype_from_name(NULL), MEZZO_DTYPE_NONE);
}

static void test_shapes(void **state) {
    (void)state;
    const int64_t big = (int64_t)1 << 32;
    assert_int_equal(mezzo_shape_count(mezzo_shape0()), 1);
    assert_int_equal(mezzo_shape_count(mezzo_shape4(2, 3, 4, 5)), 120);
    assert_int_equal(mezzo_shape_count(mezzo_shape3(2, 0, 4)), 0);
    assert_int_equal(mezzo_shape_count(mezzo_shape4(big, big, big, 0)), 0);
    assert_true(mezzo_shape_count(mezzo_shape2(big, big / 2)) == -1);
    assert_true(mezzo_shape_count(mezzo_shape3(big, big, big)) == -1);
    assert_true(mezzo_shape_count(mezzo_shape2(-2, -2)) == -1);
    assert_true(mezzo_shape_count((mezzo_shape){.rank = 7}) == -1);
    assert_true(mezzo_shape_count((mezzo_shape){.rank = -1}) == -1);
    assert_true(mezzo_shape_equal(mezzo_shape2(2, 3), mezzo_shape2(2, 3)));
    assert_true(mezzo_shape_equal(mezzo_shape1(2), (mezzo_shape){1, {2, 9, 9, 9, 9, 9}}));
    assert_false(mezzo_shape_equal(mezzo_shape2(2, 3), mezzo_shape2(3, 2)));
    assert_false(mezzo_shape_equal(mezzo_shape1(2), mezzo_shape2(2, 1)));
}

/* u and the step and largest value, found by counting the format's own patterns. */
static void test_bounds(void **state) {
    (void)state;
    mezzo_f16 one = mezzo_f16_from_f32(1);
    mezzo_f16 next = {(uint16_t)(one.bits + 1)};
    assert_true(mzi_unit_roundoff(MEZZO_F16) == (double)(mzi_f16_load(next) - 1) / 2);
    mezzo_bf16 bone = mezzo_bf16_from_f32(1);
    mezzo_bf16 bnext = {(uint16_t)(bone.bits + 1)};
    assert_true(mzi_unit_roundoff(MEZZO_BF16) == (double)(mzi_bf16_load(bnext) - 1) / 2);
    assert_true(mzi_unit_roundoff(MEZZO_F32) == (double)(nextafterf(1, 2) - 1) / 2);
    assert_true(mzi_unit_roundoff(MEZZO_F64) == (nextafter(1, 2) - 1) / 2);
    assert_true(mzi_tiny(MEZZO_F16) == (double)mzi_f16_load((mezzo_f16){1}));
    assert_true(mzi_tiny(MEZZO_BF16) == (double)mzi_bf16_load((mezzo_bf16){1}));
    assert_true(mzi_tiny(MEZZO_F32) == (double)nextafterf(0, 1));
    assert_true(mzi_tiny(MEZZO_F64) == nextafter(0, 1));
    assert_true(mzi_largest(MEZZO_F16) == (double)mzi_f16_load((mezzo_f16){0x7bff}));
    assert_true(mzi_largest(MEZZO_BF16) == (double)mzi_bf16_load((mezzo_bf16){0x7f7f}));
    assert_true(mzi_largest(MEZZO_F32) == (double)nextafterf(INFINITY, 0));
    assert_true(mzi_largest(MEZZO_F64) == nextafter((double)INFINITY, 0));
    assert_true(mzi_unit_roundoff(MEZZO_I32) == 0);
    assert_true(mzi_gamma(0, 0x1p-24) == 0);
    assert_true(mzi_gamma(1 << 23, 0x1p-24) == 1);
    assert_true(isinf(mzi_gamma(1 << 24, 0x1p-24)));
}

static void test_bounds_of_eight_bits(void **state) {
    (void)state;
    /* the patterns behind 1 */
    float e4m3 = mzi_f8_e4m3_load((mezzo_f8_e4m3){0x39}),
          e5m2 = mzi_f8_e5m2_load((mezzo_f8_e5m2){0x3d});
    assert_true(mzi_unit_roundoff(MEZZO_F8_E4M3) == (double)(e4m3 - 1) / 2);
    assert_true(mzi_unit_roundoff(MEZZO_F8_E5M2) == (double)(e5m2 - 1) / 2);
    assert_true(mzi_tiny(MEZZO_F8_E4M3) == (double)mzi_f8_e4m3_load((mezzo_f8_e4m3){1}));
    assert_true(mzi_tiny(MEZZO_F8_E5M2) == (double)mzi_f8_e5m2_load((mezzo_f8_e5m2){1}));
    assert_true(mzi_largest(MEZZO_F8_E4M3) == (double)mzi_f8_e4m3_load((mezzo_f8_e4m3){0x7e}));
    assert_true(mzi_largest(MEZZO_F8_E5M2) == (double)mzi_f8_e5m2_load((mezzo_f8_e5m2){0x7b}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nearest_and_saturate),
        cmocka_unit_test(test_eight_bits),
        cmocka_unit_test(test_same_type_copies),
        cmocka_unit_test(test_stochastic_mean),
        cmocka_unit_test(test_stochastic_is_keyed),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_bounds_of_eight_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
