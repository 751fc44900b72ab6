/* Norms of rows whose squares are beyond FP32, while their elements are not. */
#include "base/cpu.h"
#include "kernel/table.h"
#include "unit/cmocka_all.h"

enum {
    WIDTH = 37 /* more than a vector, and a rest */
};

/* Half of the row is `size`, half -size, of a mean near 0: results are near 1 and -1. */
static void check(mzk_family family, mezzo_isa isa, float size) {
    float x[WIDTH], y[WIDTH], gamma[WIDTH], mean[1], rstd[1];
    mzk_args args = {.out = {y, family == MZK_rms ? rstd : mean, rstd},
                     .in = {x, gamma},
                     .out_type = {MEZZO_F32, MEZZO_F32, MEZZO_F32},
                     .in_type = {MEZZO_F32, MEZZO_F32},
                     .p.norm = {.rows = 1, .C = WIDTH, .grain = 1, .eps = 1e-5f}};
    for (int c = 0; c < WIDTH; c++) {
        x[c] = c % 2 ? size : -size;
        gamma[c] = 1.0f;
    }
    mzk_pick(family, isa)->fn(&args, 0, 1);
    for (int c = 0; c < WIDTH; c++)
        assert_true(y[c] * (c % 2 ? 1.0f : -1.0f) > 0.9f && y[c] * (c % 2 ? 1.0f : -1.0f) < 1.1f);
}

static void test_large_rows(void **state) {
    (void)state;
    const mezzo_isa best = mzi_cpu_isa(), all[] = {MEZZO_ISA_REF, MEZZO_ISA_AVX2, MEZZO_ISA_AVX512};
    for (int k = 0; k < 3; k++)
        if (all[k] <= best || all[k] == MEZZO_ISA_REF) {
            check(MZK_rms, all[k], 1e20f);
            check(MZK_ln, all[k], 1e20f);
            check(MZK_rms, all[k], 1.0f);
            check(MZK_ln, all[k], 1.0f);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_large_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
