/* The plateau detector by itself: runs that are told to it attempt by attempt. */
#include <math.h>

#include "base/rng.h"
#include "run/plateau.h"
#include "unit/cmocka_all.h"

enum {
    STEPS = 1000 /* a window of 50 */
};

/* Nearly normal, variance 1: the sum of twelve uniform values. */
static double random_normal(uint64_t seed, uint64_t index) {
    uint32_t words[4];
    double sum = -6.0;
    for (uint64_t k = 0; k < 3; k++) {
        mzi_rng4(words, seed, 1, 3 * index + k, 0);
        for (int w = 0; w < 4; w++)
            sum += (double)mzi_uniform(words[w]);
    }
    return sum;
}

/* A healthy attempt of a run whose loss does not move. */
static mzi_plateau_facts flat(uint64_t seed, int64_t attempt) {
    return (mzi_plateau_facts){.loss = 2.3 + 0.05 * random_normal(seed, (uint64_t)attempt),
                               .lr = 1e-3,
                               .grad_norm = 1.0,
                               .underflow = 0.1,
                               .stalled = 0.01,
                               .any_trained = true,
                               .has_input = true,
                               .input = (uint64_t)attempt};
}

typedef void change_fn(mzi_plateau_facts *facts, int64_t attempt);

typedef struct outcome {
    int count;
    int64_t first; /* attempt, from 1 */
    mzi_plateau_finding findings[8];
} outcome;

static outcome run(uint64_t seed, int64_t steps, int64_t attempts, change_fn *change) {
    mzi_plateau plateau;
    outcome o = {0};
    mzi_plateau_init(&plateau, steps);
    for (int64_t k = 1; k <= attempts; k++) {
        mzi_plateau_facts facts = flat(seed, k);
        facts.has_input = mzi_plateau_wants_input(&plateau);
        if (change)
            change(&facts, k);
        mzi_plateau_finding found;
        if (!mzi_plateau_step(&plateau, &facts, &found))
            continue;
        o.first = o.count ? o.first : k;
        assert_in_range(o.count, 0, 7);
        o.findings[o.count++] = found;
    }
    return o;
}

static void skipped(mzi_plateau_facts *f, int64_t k) {
    (void)k;
    f->skipped = true;
    f->loss = f->grad_norm = (double)INFINITY;
}
static void no_rate(mzi_plateau_facts *f, int64_t k) {
    (void)k;
    f->lr = 0.0;
}
static void frozen(mzi_plateau_facts *f, int64_t k) {
    (void)k;
    f->any_trained = false;
}
static void no_gradient(mzi_plateau_facts *f, int64_t k) {
    (void)k;
    f->grad_norm = 0.0;
}
static void underflow(mzi_plateau_facts *f, int64_t k) {
    (void)k;
    f->underflow = 0.51;
}
static void stall(mzi_plateau_facts *f, int64_t k) {
    (void)k;
    f->stalled = 0.51;
}
static void same_input(mzi_plateau_facts *f, int64_t k) {
    (void)k;
    f->input = 7;
}

/* Each has the evidence of all causes behind it too: the first in the order is named. */
static void test_causes_in_their_order(void **state) {
    (void)state;
    static change_fn *const all[] = {skipped,   no_rate, frozen,    no_gradient,
                                     underflow, stall,   same_input};
    static const mzi_plateau_cause causes[] = {
        MZI_PLATEAU_SKIPPED,  MZI_PLATEAU_RATE,  MZI_PLATEAU_FROZEN, MZI_PLATEAU_GRADIENT,
        MZI_PLATEAU_GRADIENT, MZI_PLATEAU_STALL, MZI_PLATEAU_INPUT};
    for (int from = 0; from < 7; from++) {
        for (int alone = 0; alone < 2; alone++) {
            mzi_plateau plateau;
            mzi_plateau_finding found = {0};
            mzi_plateau_init(&plateau, STEPS);
            int64_t k = 1;
            for (bool is_found = false; !is_found && k <= 50; k++) {
                mzi_plateau_facts facts = flat(3, k);
                facts.has_input = mzi_plateau_wants_input(&plateau);
                for (int c = from; c < (alone ? from + 1 : 7); c++)
                    all[c](&facts, k);
                is_found = mzi_plateau_step(&plateau, &facts, &found);
            }
            assert_int_equal(found.cause, causes[from]);
            assert_int_equal(k - 1, from == 0 ? 32 : 50);
        }
    }
}

/* A flat run of each cause is told once, whatever its noise. */
static void test_once_for_each_plateau(void **state) {
    (void)state;
    static change_fn *const all[] = {no_rate, frozen, no_gradient, underflow, stall, same_input};
    for (int c = 0; c < 6; c++) {
        outcome o = run(5, STEPS, STEPS, all[c]);
        assert_int_equal(o.count, 1);
        assert_int_equal(o.first, 50);
        assert_int_equal(o.findings[0].attempts, 50);
        assert_true(fabs(o.findings[0].fall) < 3.0 * o.findings[0].noise);
        /* Two means of 25 values of deviation 0.05. */
        assert_true(o.findings[0].noise > 0.007 && o.findings[0].noise < 0.028);
    }
}

/* Falls for 200 attempts in the middle of a stall. */
static void two_plateaus(mzi_plateau_facts *f, int64_t k) {
    f->stalled = 0.9;
    if (k > 400)
        f->loss -= 0.005 * (double)(k < 600 ? k - 400 : 200);
}

static void test_armed_again_when_the_loss_falls(void **state) {
    (void)state;
    outcome o = run(6, STEPS, STEPS, two_plateaus);
    assert_int_equal(o.count, 2);
    assert_int_equal(o.findings[0].cause, MZI_PLATEAU_STALL);
    assert_int_equal(o.findings[1].cause, MZI_PLATEAU_STALL);
    assert_true(o.findings[1].loss < o.findings[0].loss - 0.9);
}

/* No cause but the loss: said late, and again with the cause as soon as there is one. */
static void stall_later(mzi_plateau_facts *f, int64_t k) {
    f->stalled = k > 3000 ? 0.9 : 0.0;
}

static void test_unknown_then_a_cause(void **state) {
    (void)state;
    outcome o = run(7, 4000, 4000, stall_later);
    assert_int_equal(o.count, 2);
    assert_int_equal(o.findings[0].cause, MZI_PLATEAU_UNKNOWN);
    assert_true(o.first >= 800); /* two of four parts of at least eight halves of 100 */
    assert_int_equal(o.findings[1].cause, MZI_PLATEAU_STALL);
}

/* c t^-a above a floor, with noise: what learning looks like. */
static void learns(mzi_plateau_facts *f, int64_t k) {
    f->loss = f->loss - 2.3 + 0.3 + 4.0 * pow((double)k, -0.3);
}

static void test_runs_that_learn_give_none(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++)
        assert_int_equal(run(seed, STEPS, STEPS, learns).count, 0);
}

/* A schedule's end: the loss rests, and updates stall, since the rate goes to 0. */
static void ends(mzi_plateau_facts *f, int64_t k) {
    f->lr = k > 500 ? 1e-6 : 1e-3;
    f->stalled = k > 500 ? 0.9 : 0.0;
    f->loss = k > 500 ? f->loss : f->loss + 0.01 * (double)(500 - k);
}

/* The same, at a rate that should still do something. */
static void stalls_early(mzi_plateau_facts *f, int64_t k) {
    ends(f, k);
    f->lr = k > 500 ? 2e-5 : 1e-3;
}

static void test_the_end_of_a_schedule_is_no_plateau(void **state) {
    (void)state;
    assert_int_equal(run(8, STEPS, STEPS, ends).count, 0);
    outcome o = run(8, STEPS, STEPS, stalls_early);
    assert_int_equal(o.count, 1);
    assert_int_equal(o.findings[0].cause, MZI_PLATEAU_STALL);
}

/* One skip in two, and 31 in a row, are no plateau while the loss falls. */
static void skips_and_learns(mzi_plateau_facts *f, int64_t k) {
    learns(f, k);
    f->skipped = k % 2 == 0 || k % 200 < 30;
    if (f->skipped && k % 4 == 0)
        f->loss = (double)NAN;
}

static void test_some_skips_are_no_plateau(void **state) {
    (void)state;
    assert_int_equal(run(9, STEPS, STEPS, skips_and_learns).count, 0);
}

/* The batch changes in each half, or from half to half. */
static void two_inputs(mzi_plateau_facts *f, int64_t k) {
    f->input = k % 25 == 0;
}
static void an_input_a_half(mzi_plateau_facts *f, int64_t k) {
    f->input = (uint64_t)(k - 1) / 25;
}

static void test_the_input_must_be_the_same_throughout(void **state) {
    (void)state;
    assert_int_equal(run(10, STEPS, 200, two_inputs).count, 0);
    assert_int_equal(run(10, STEPS, 200, an_input_a_half).count, 0);
}

static void test_windows(void **state) {
    (void)state;
    static const int64_t steps[] = {0, 49, 50, 999, 1000, 2000, 100000};
    static const int64_t firsts[] = {0, 0, 50, 50, 50, 100, 5000};
    for (int k = 0; k < 7; k++) {
        outcome o = run(11, steps[k], steps[k], no_rate);
        assert_int_equal(o.count, firsts[k] > 0);
        assert_int_equal(o.first, firsts[k]);
    }
}

/* A digest is asked for at the last two attempts of each half. */
static void test_inputs_are_asked_for_seldom(void **state) {
    (void)state;
    mzi_plateau plateau;
    mzi_plateau_init(&plateau, STEPS);
    for (int64_t k = 1; k <= 200; k++) {
        mzi_plateau_finding found;
        mzi_plateau_facts facts = flat(12, k);
        assert_int_equal(mzi_plateau_wants_input(&plateau), k % 25 == 24 || k % 25 == 0);
        mzi_plateau_step(&plateau, &facts, &found);
    }
    mzi_plateau_init(&plateau, 0);
    assert_false(mzi_plateau_wants_input(&plateau));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_causes_in_their_order),
        cmocka_unit_test(test_once_for_each_plateau),
        cmocka_unit_test(test_armed_again_when_the_loss_falls),
        cmocka_unit_test(test_unknown_then_a_cause),
        cmocka_unit_test(test_runs_that_learn_give_none),
        cmocka_unit_test(test_the_end_of_a_schedule_is_no_plateau),
        cmocka_unit_test(test_some_skips_are_no_plateau),
        cmocka_unit_test(test_the_input_must_be_the_same_throughout),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_inputs_are_asked_for_seldom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
