/* How products are cut: every element of c is in one tile, and tiles keep to what kernels pack. */
#include "cmocka_all.h"
#include "kernel/families.h"

static const int64_t sizes[] = {1, 15, 16, 47, 48, 49, 80, 256, 768, 1000, 1024, 3072, 50304};
enum {
    SIZES = sizeof sizes / sizeof sizes[0]
};

static void check(int64_t M, int64_t N, int64_t K, int transpose_a) {
    mzk_params p = {.matmul = {.M = M, .N = N, .K = K, .transpose_a = transpose_a}};
    int64_t tiles = mzk_matmul_cut(&p.matmul);
    const mzk_matmul_params *c = &p.matmul;
    int64_t down = (M + c->tile_m - 1) / c->tile_m, across = (N + c->tile_n - 1) / c->tile_n;
    assert_int_equal(tiles, down * across);
    assert_int_equal(c->tile_m % 16, 0);
    assert_int_equal(c->tile_n % 48, 0);
    assert_int_equal(c->band_n % 48, 0);
    assert_in_range(c->band_n, 48, c->tile_n);
    /* Workspace is bounded whatever the shape is: a few times what an L2 holds. */
    assert_in_range(mzk_scratch_bytes(MZK_matmul, &p), 1, 16 << 20);
    /* A large product leaves a few workers something to do. */
    if (M >= 1024 && N >= 768)
        assert_true(tiles >= 6);
}

static void test_every_shape(void **state) {
    (void)state;
    for (int m = 0; m < SIZES; m++)
        for (int n = 0; n < SIZES; n++)
            for (int k = 0; k < SIZES; k++)
                for (int transpose_a = 0; transpose_a < 2; transpose_a++)
                    check(sizes[m], sizes[n], sizes[k], transpose_a);
}

static void test_other_families_need_nothing(void **state) {
    (void)state;
    const mzk_params p = {.matmul = {.M = 100, .N = 100, .K = 100}};
    assert_int_equal(mzk_scratch_bytes(MZK_relu, &p), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shape),
        cmocka_unit_test(test_other_families_need_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
