/* Masters in halves, and rounding by random bits.  --all: every FP32 pattern. */
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "kernel/families.h"
#include "num/split.h"
#include "unit/cmocka_all.h"

/* Null, or what is wrong with the halves of this pattern. */
static const char *wrong(uint32_t bits) {
    float x = mzi_f32_from_bits(bits);
    mezzo_bf16 hi = mzi_bf16_round_away(x);
    uint16_t lo = mzi_split_low(x);
    uint32_t back = mzi_f32_bits(mzi_join(hi, lo));
    if (isnan(x)) {
        if (lo != 0 || hi.bits != (bits >> 16 | 0x40u) || back != (uint32_t)hi.bits << 16)
            return "a NaN is not its upper half, quieted";
        return NULL;
    }
    if (back != bits)
        return "it does not come back";
    float up = mzi_f32_from_bits((bits & 0xffff0000u) + 0x10000u);
    float down = mzi_f32_from_bits(bits & 0xffff0000u);
    bool away = (bits & 0xffffu) >= 0x8000u;
    if (mzi_bf16_load(hi) != (away ? up : down))
        return "its upper half is not the nearest, ties away";
    if ((bits & 0xffffu) != 0x8000u && hi.bits != mzi_bf16_round(x).bits)
        return "no tie, and not what nearest even gives";
    return NULL;
}

static void check(uint32_t bits) {
    const char *text = wrong(bits);
    if (text)
        fail_msg("0x%08x: %s", bits, text);
}

static void test_special_patterns(void **state) {
    (void)state;
    static const uint32_t ends[] = {0,          1,          0x7fff,     0x8000,     0x8001,
                                    0xffff,     0x10000,    0x007fffff, 0x00800000, 0x3f800000,
                                    0x3f808000, 0x3f818000, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff,
                                    0x7f800000, 0x7f800001, 0x7fbfffff, 0x7fc00000, 0x7fff7fff,
                                    0x7fff8000, 0x7fffffff};
    for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
        check(ends[k]);
        check(ends[k] | 0x80000000u);
    }
}

/* 2^24 patterns: every upper 16 bits, with lower ones from all over. */
static void test_sampled_patterns(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 1u << 24; i++)
        check(i << 16 | ((i >> 16) * 0x9e37u + (i & 0xffffu) * 0x85ebu) % 0x10000u);
}

static int all_patterns(void) {
    uint64_t nan = 0, ties = 0;
    uint32_t bits = 0;
    do {
        const char *text = wrong(bits);
        if (text) {
            printf("0x%08x: %s\n", bits, text);
            return 1;
        }
        nan += isnan(mzi_f32_from_bits(bits)) != 0;
        ties += (bits & 0xffffu) == 0x8000u;
    } while (++bits);
    printf("All 2^32 FP32 patterns: %llu NaNs stay NaNs, the other %llu come back from their "
           "halves bit for bit; %llu patterns are ties.\n",
           (unsigned long long)nan, (unsigned long long)((1ull << 32) - nan),
           (unsigned long long)ties);
    return 0;
}

enum {
    N = 1 << 18
};

/* One step of Lion with decay 0 in the widest instruction set: w - lr for every element of one
 * sign, and m = beta2 m + (1 - beta2) g.  `mean` gets the mean of each. */
static void lion(float w, float lr, float m, int32_t step, bool nearest, double mean[2]) {
    static float g[N];
    static mezzo_bf16 ws[N], ms[N];
    const float s[8] = {lr, 1.0f, 1.0f, 1.0f};
    const int32_t key[4] = {5, 6, step, 0};
    mzk_args args = {
        .out = {ws, ms},
        .in = {g, ws, ms, s, NULL, key},
        .out_type = {MEZZO_BF16, MEZZO_BF16},
        .in_type = {MEZZO_F32, MEZZO_BF16, MEZZO_BF16, MEZZO_F32, MEZZO_F32, MEZZO_I32}};
    args.p.optim.n = N;
    args.p.optim.beta1 = 0.5f;
    args.p.optim.beta2 = 0.75f;
    args.p.optim.lr_scale = 1.0f;
    args.p.optim.nearest = nearest;
    args.p.optim.streams[0] = 11;
    args.p.optim.streams[1] = 12;
    for (int i = 0; i < N; i++) {
        g[i] = 1.001f * m;
        ws[i] = mzi_bf16_round(w);
        ms[i] = mzi_bf16_round(m);
    }
    mzk_pick(MZK_lion, mzi_cpu_isa())->fn(&args, 0, N);
    mean[0] = mean[1] = 0;
    for (int i = 0; i < N; i++) {
        mean[0] += (double)mzi_bf16_load(ws[i]) / N;
        mean[1] += (double)mzi_bf16_load(ms[i]) / N;
    }
}

/* N roundings between neighbours q apart, p of the way between them: their mean is off by more than
 * six standard deviations, q sqrt(p (1 - p) / N) each, with a probability of 2e-9.  What is rounded
 * is an FP32 number, off the exact one by some units of 2^-24. */
static void expect(double mean, double exact, double q) {
    double p = fmod(fabs(exact), q) / q;
    assert_true(p > 0.01 && p < 0.99); /* or nothing is tested */
    assert_true(fabs(mean - exact) <= 6 * q * sqrt(p * (1 - p) / N) + 4 * fabs(exact) * 0x1p-24);
}

static void test_stochastic_mean(void **state) {
    (void)state;
    static const float lrs[] = {0x1p-10f, 0x1.8p-9f, 0x1p-13f};
    double mean[2];
    for (int k = 0; k < 3; k++) {
        float lr = lrs[k];
        lion(1.0f, lr, 0.75f, 1 + k, false, mean);
        expect(mean[0], 1.0 - (double)lr, 0x1p-8); /* below 1 */
        expect(mean[1], 0.75 * 0.75 + 0.25 * (double)(1.001f * 0.75f), 0x1p-8);
        lion(-1.25f, lr, 0.75f, 1 + k, false, mean);
        expect(mean[0], -1.25 - (double)lr, 0x1p-7);
    }
    /* To nearest, an update below half a unit is lost. */
    lion(1.25f, 0x1p-9f, 0.75f, 1, true, mean);
    assert_true(mean[0] == 1.25);
}

/* Every step has bits of its own, and so have the master and its moment. */
static void test_stochastic_keys(void **state) {
    (void)state;
    double one[2], two[2], again[2];
    lion(1.25f, 0x1p-9f, 0.75f, 1, false, one);
    lion(1.25f, 0x1p-9f, 0.75f, 2, false, two);
    lion(1.25f, 0x1p-9f, 0.75f, 1, false, again);
    assert_true(one[0] == again[0] && one[1] == again[1]);
    assert_true(one[0] != two[0] && one[1] != two[1]);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--all") == 0)
        return all_patterns();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special_patterns),
        cmocka_unit_test(test_sampled_patterns),
        cmocka_unit_test(test_stochastic_mean),
        cmocka_unit_test(test_stochastic_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
