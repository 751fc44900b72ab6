/* Attention where keys, values and dq fit its workspace, and where they do not: the same bits.
 *
 * A head of 128 elements and the same head with 128 zeros behind it have the same scores, sums and
 * gradients.  At T = 1100 the second is too long for the fast kernels: forward packs keys again for
 * every tile, backward goes over the queries in windows of 1024. */
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
    mezzo_dtype type;
    void *qkv, *y, *dy, *dqkv;
    float *lse;
} head;

static void *numbers(int64_t count, mezzo_dtype type) {
    void *x = calloc((size_t)count, mezzo_dtype_bytes(type));
    assert_non_null(x);
    return x;
}

static head head_make(int64_t D, mezzo_dtype type) {
    head h = {.D = D, .type = type};
    h.qkv = numbers(T * 3 * D, type);
    h.y = numbers(T * D, type);
    h.dy = numbers(T * D, type);
    h.dqkv = numbers(T * 3 * D, type);
    h.lse = numbers(T, MEZZO_F32);
    uint32_t state = 1;
    for (int64_t row = 0; row < 4 * T; row++) { /* q, k, v of each token, then dy */
        bool last = row >= 3 * T;
        for (int64_t d = 0; d < SMALL; d++) {
            state = state * 1664525u + 1013904223u;
            mzi_store(last ? h.dy : h.qkv, type, (last ? row - 3 * T : row) * D + d,
                      (double)(state >> 8) * 0x1p-22 - 2);
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

static void run(head *h, mezzo_isa isa) {
    mzk_args args = {.out = {h->y, h->lse},
                     .in = {h->qkv},
                     .out_type = {(uint8_t)h->type, MEZZO_F32},
                     .in_type = {(uint8_t)h->type}};
    args.p.attention.B = args.p.attention.H = args.p.attention.G = 1;
    args.p.attention.T = T;
    args.p.attention.D = h->D;
    args.p.attention.scale = 0.0625f;
    args.scratch = aligned_alloc(64, mzk_scratch_bytes(MZK_attention, &args.p));
    assert_non_null(args.scratch);
    mzk_pick(MZK_attention, isa)->fn(&args, 0, 1);
    free(args.scratch);
    uint8_t type = (uint8_t)h->type;
    mzk_args back = {.out = {h->dqkv},
                     .in = {h->dy, h->qkv, h->y, h->lse},
                     .out_type = {type},
                     .in_type = {type, type, type, MEZZO_F32},
                     .p = args.p};
    back.scratch = aligned_alloc(64, mzk_scratch_bytes(MZK_attention_bwd, &args.p));
    assert_non_null(back.scratch);
    mzk_pick(MZK_attention_bwd, isa)->fn(&back, 0, 1);
    free(back.scratch);
}

static void same_rows(const void *small, const void *large, mezzo_dtype type, int64_t rows) {
    size_t size = mezzo_dtype_bytes(type);
    for (int64_t row = 0; row < rows; row++) {
        const char *a = (const char *)small + (size_t)(row * SMALL) * size;
        const char *b = (const char *)large + (size_t)(row * LARGE) * size;
        assert_memory_equal(a, b, SMALL * size);
        for (int64_t d = SMALL; d < LARGE; d++)
            assert_true(mzi_load(large, type, row * LARGE + d) == 0);
    }
}

static void check(mezzo_isa isa, mezzo_dtype type) {
    if (mzi_cpu_isa() < isa)
        skip();
    head small = head_make(SMALL, type), large = head_make(LARGE, type);
    run(&small, isa);
    run(&large, isa);
    assert_memory_equal(small.lse, large.lse, T * sizeof *small.lse);
    same_rows(small.y, large.y, type, T);
    same_rows(small.dqkv, large.dqkv, type, (int64_t)3 * T);
    double last = mzi_load(small.dqkv, type, (T - 1) * 3 * SMALL);
    assert_true(isfinite(last) && last != 0);
    head_free(&small);
    head_free(&large);
}

static void bf16_dots(void **state) {
    (void)state;
    check(MEZZO_ISA_AVX512_BF16, MEZZO_BF16);
}
static void f32_avx512(void **state) {
    (void)state;
    check(MEZZO_ISA_AVX512, MEZZO_F32);
}
static void f32_avx2(void **state) {
    (void)state;
    check(MEZZO_ISA_AVX2, MEZZO_F32);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_dots), cmocka_unit_test(f32_avx512),
                                       cmocka_unit_test(f32_avx2)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
