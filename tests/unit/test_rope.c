/* Rotary positions: the table against long double at positions of any size, and what the rotation
 * is for: a product of two turned vectors depends on the distance of their positions alone. */
#include <math.h>

#include "kernel/table.h"
#include "num/number.h"
#include "unit/cmocka_all.h"

enum {
    T = 3,
    D = 64
};

static void make_table(mezzo_dtype dtype, void *table, int32_t start, double theta) {
    mzk_args args = {.out = {table}, .in = {&start}, .p.rope = {.T = T, .D = D, .theta = theta}};
    args.out_type[0] = (uint8_t)dtype;
    args.in_type[0] = MEZZO_I32;
    mzk_rope_table_ref(&args, 0, T);
}

/* Rounded once from an angle that is right to FP64's last digits: 4 roundings of it, 2^-53 each. */
static void check_table(int32_t start, double theta) {
    static float table[T * D];
    make_table(MEZZO_F32, table, start, theta);
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < D; i++) {
            long double w = powl((long double)theta, -2.0L * (long double)(i % (D / 2)) / D);
            long double angle = (long double)(start + t) * w;
            double exact = (double)(i < D / 2 ? cosl(angle) : sinl(angle));
            double wrong = 4 * 0x1p-53 * (double)angle + 0x1p-52;
            double allowed = wrong + 0x1p-24 * (fabs(exact) + wrong);
            double apart = fabs((double)table[t * D + i] - exact);
            if (!(apart <= allowed))
                fail_msg("position %d, theta %g, %d: %g apart, %g allowed", (int)(start + t), theta,
                         (int)i, apart, allowed);
        }
}

static void test_table(void **state) {
    (void)state;
    static const int32_t starts[] = {0, 1, 255, 4095, 131072, 1048573};
    for (size_t k = 0; k < sizeof starts / sizeof starts[0]; k++) {
        check_table(starts[k], 10000);
        check_table(starts[k], 500000);
    }
}

/* An angle of 131072 radians in FP32 would be wrong by up to 2^-8: the test above sees that. */
static void test_narrow_angles_would_be_seen(void **state) {
    (void)state;
    static float table[T * D];
    double worst = 0;
    make_table(MEZZO_F32, table, 131072, 10000);
    for (int i = 0; i < D / 2; i++) {
        float angle = 131072.0f * powf(10000.0f, -2.0f * (float)i / D);
        worst = fmax(worst, fabs((double)cosf(angle) - (double)table[i]));
    }
    assert_true(worst > 1e-4);
}

/* q and k of one head each, turned at positions p and p - 7. */
static double product(int32_t p) {
    double q[D], k[D], table[T * D], sum = 0;
    for (int i = 0; i < D; i++) {
        q[i] = sin(1.0 + 3.0 * i);
        k[i] = cos(2.0 + 5.0 * i);
    }
    double *const rows[] = {q, k};
    for (int side = 0; side < 2; side++) {
        make_table(MEZZO_F64, table, p - 7 * side, 10000);
        mzk_args args = {.out = {rows[side]},
                         .in = {rows[side], table},
                         .out_type = {MEZZO_F64},
                         .in_type = {MEZZO_F64, MEZZO_F64},
                         .p.rope = {.T = 1, .n = D, .D = D, .heads = 1}};
        mzk_rope_ref(&args, 0, 1);
    }
    for (int i = 0; i < D; i++)
        sum += q[i] * k[i];
    return sum;
}

static void test_products_depend_on_the_distance(void **state) {
    (void)state;
    double first = product(7);
    assert_true(fabs(first) > 0.1);
    for (int32_t p = 8; p < 5000; p += 311) /* angles of up to 5000 radians, 2^-53 of them each */
        assert_true(fabs(product(p) - first) < 5000 * 4 * 0x1p-53 * D);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_narrow_angles_would_be_seen),
        cmocka_unit_test(test_products_depend_on_the_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
