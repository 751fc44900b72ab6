/* Backward of attention in one pass and, where dq does not fit, in passes: the same bits.
 *
 * A head of 128 elements and the same head with 128 zeros behind it have the same scores, sums and
 * gradients; in AVX512_BF16's kernel the second is too long for one pass at T = 1100 (windows of
 * 1024 queries), the first is not. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "cmocka_all.h"
#include "kernel/families.h"
#include "num/number.h"

enum {
    T = 1100,
    SMALL = 128,
    LARGE = 256
};

typedef struct head {
    int64_t D;
    uint16_t *qkv, *y, *dy, *dqkv; /* BF16 */
    float *lse;
} head;

static uint16_t *numbers(int64_t count) {
    uint16_t *x = calloc((size_t)count, sizeof *x);
    assert_non_null(x);
    return x;
}

static head head_make(int64_t D) {
    head h = {D, numbers(T * 3 * D), numbers(T * D), numbers(T * D), numbers(T * 3 * D), NULL};
    h.lse = calloc(T, sizeof *h.lse);
    assert_non_null(h.lse);
    uint32_t state = 1;
    for (int64_t row = 0; row < 4 * T; row++) { /* q, k, v of each token, then dy */
        uint16_t *x = row < 3 * T ? h.qkv + row * D : h.dy + (row - 3 * T) * D;
        for (int64_t d = 0; d < SMALL; d++) {
            state = state * 1664525u + 1013904223u;
            mzi_store(x, MEZZO_BF16, d, (double)(state >> 8) * 0x1p-22 - 2);
        }
    }
    return h;
}

static void head_free(head *h) {
    free(h->qkv);
    free(h->y);
    free(h->dy);
    free(h->dqkv);
    free(h->lse);
}

static void run(head *h) {
    void *scratch = aligned_alloc(64, MZK_ATTENTION_BWD_SCRATCH); /* the larger of the two */
    assert_non_null(scratch);
    mzk_args args = {.scratch = scratch,
                     .out = {h->y, h->lse},
                     .in = {h->qkv},
                     .out_type = {MEZZO_BF16, MEZZO_F32},
                     .in_type = {MEZZO_BF16}};
    args.p.attention.B = args.p.attention.H = args.p.attention.G = 1;
    args.p.attention.T = T;
    args.p.attention.D = h->D;
    args.p.attention.scale = 0.0625f;
    mzk_pick(MZK_attention, MEZZO_ISA_AVX512_BF16)->fn(&args, 0, 1);
    mzk_args back = {.out = {h->dqkv},
                     .in = {h->dy, h->qkv, h->y, h->lse},
                     .out_type = {MEZZO_BF16},
                     .in_type = {MEZZO_BF16, MEZZO_BF16, MEZZO_BF16, MEZZO_F32},
                     .p = args.p,
                     .scratch = scratch};
    mzk_pick(MZK_attention_bwd, MEZZO_ISA_AVX512_BF16)->fn(&back, 0, 1);
    free(scratch);
}

static void windows_do_not_show(void **state) {
    (void)state;
    if (mzi_cpu_isa() < MEZZO_ISA_AVX512_BF16)
        skip();
    head small = head_make(SMALL), large = head_make(LARGE);
    run(&small);
    run(&large);
    assert_memory_equal(small.lse, large.lse, T * sizeof *small.lse);
    for (int64_t row = 0; row < 3 * T; row++) {
        assert_memory_equal(small.dqkv + row * SMALL, large.dqkv + row * LARGE,
                            SMALL * sizeof *small.dqkv);
        for (int64_t d = SMALL; d < LARGE; d++)
            assert_true(mzi_load(large.dqkv, MEZZO_BF16, row * LARGE + d) == 0);
    }
    double last = mzi_load(small.dqkv, MEZZO_BF16, (T - 1) * 3 * SMALL);
    assert_true(isfinite(last) && last != 0);
    head_free(&small);
    head_free(&large);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(windows_do_not_show)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
