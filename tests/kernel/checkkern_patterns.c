/* Every bit pattern of the 16-bit formats as first operand of the elementwise families, and as many
 * patterns of FP32 as time allows through the casts. */
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"

enum {
    PATTERNS16 = 1 << 16
};

static bool is_float16(mezzo_dtype type) {
    return type == MEZZO_F16 || type == MEZZO_BF16;
}

static void patterns_16(ck_run *run, mezzo_dtype out, mezzo_dtype in) {
    mezzo_dtype types[3] = {out, in, in};
    ck_case c = {.elements = PATTERNS16};
    ck_case_make(&c, run->about, CK_BENCH_SHAPE, CK_NORMAL, types, run->seed);
    for (int64_t i = 0; i < PATTERNS16; i++)
        ((uint16_t *)c.in[0].data)[i] = (uint16_t)i;
    ck_case_poison(&c);
    ck_case_run(&c, run->kernel->fn);
    run->calls++;
    /* Among all patterns there are those whose intermediate results leave FP32. */
    const char *wrong =
        ck_case_compare(&c, run->kernel->equality == MZK_EXACT ? CK_BITS : CK_OVERFLOW);
    if (wrong)
        ck_fail(run, &c, wrong);
    if (out == MEZZO_F32)
        run->worst = fmax(run->worst, c.worst);
    ck_case_free(&c);
}

/* Pattern number i of a block: all values of the upper 24 bits are met once, with low bits that
 * decide roundings: none, the least, all, and random ones. */
static uint32_t sample(uint32_t i, uint64_t *state) {
    static const uint32_t low[4] = {0, 1, 0xff, 0};
    uint32_t kind = (uint32_t)(ck_random(state) * 4);
    return i << 8 | (kind == 3 ? (uint32_t)(ck_random(state) * 256) : low[kind]);
}

/* The same bits, NaN payloads included, except for the sign of NaN. */
static bool same_half(uint16_t a, uint16_t b, mezzo_dtype type) {
    uint16_t infinity = type == MEZZO_BF16 ? 0x7f80 : 0x7c00;
    return a == b || ((a & 0x7fff) > infinity && (a & 0x7fff) == (b & 0x7fff));
}

static void patterns_32(ck_run *run, mezzo_dtype out) {
    const uint32_t blocks = run->all ? 1u << 16 : 1u << 8;
    mezzo_dtype types[2] = {out, MEZZO_F32};
    mzk_fn *reference = mzk_pick(run->about->family, MEZZO_ISA_REF)->fn;
    uint64_t state = run->seed;
    ck_case c = {.elements = PATTERNS16};
    ck_case_make(&c, run->about, CK_BENCH_SHAPE, CK_NORMAL, types, run->seed);
    uint16_t *want = malloc(PATTERNS16 * sizeof *want);
    if (!want)
        abort();
    for (uint32_t block = 0; block < blocks; block++) {
        uint32_t *x = c.in[0].data;
        for (uint32_t i = 0; i < PATTERNS16; i++)
            x[i] = run->all ? block << 16 | i : sample(block << 16 | i, &state);
        ck_case_run(&c, run->kernel->fn);
        run->calls++;
        mzk_args args = ck_case_args(&c);
        args.out[0] = want;
        reference(&args, 0, PATTERNS16);
        const uint16_t *got = c.out[0].data;
        for (int i = 0; i < PATTERNS16; i++)
            if (!same_half(got[i], want[i], out)) {
                ck_fail(run, &c, "a bit pattern is converted differently");
                break;
            }
    }
    free(want);
    ck_case_free(&c);
}

void ck_patterns(ck_run *run) {
    static const mezzo_dtype storage[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    if (run->about->family == MZK_cast_away && run->kernel->needs != MEZZO_ISA_REF)
        patterns_32(run, MEZZO_BF16);
    bool elementwise = run->about->outs[0] == 'x' && run->about->ins[0] == 'x' &&
                       run->about->shape == ck_family_of(MZK_cast)->shape;
    if (!elementwise || run->kernel->needs == MEZZO_ISA_REF)
        return;
    for (int o = 0; o < 3; o++)
        for (int i = 0; i < 3; i++)
            if (is_float16(storage[i]))
                patterns_16(run, storage[o], storage[i]);
    if (run->about->family == MZK_cast) {
        patterns_32(run, MEZZO_BF16);
        patterns_32(run, MEZZO_F16);
    }
}
