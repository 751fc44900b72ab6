#include "run/plateau.h"

#include <math.h>

enum {
    WINDOW_MIN = 50,
    WINDOWS = 20, /* of a run */
    /* Half of what ends a run (run/train.c): said while it can still be watched. */
    SKIPS = 32,
    INPUTS = 2, /* digests at the end of each half */
    /* UNKNOWN wants more evidence, as it rests on the loss alone: halves to compare, at least, and
     * the part of the run that each side of the comparison takes. */
    LONG_MIN = 2,
    LONG_PART = 4
};
/* One fall in 741 is missed by chance when there is noise alone. */
static const double DEVIATIONS = 3.0;
/* Of all that the run has learned: what falls by less in half a window has stopped. */
static const double RESOLUTION = 1e-4;
/* Of the largest loss: a quarter of the run that surely gained less has gained nothing. */
static const double RESTS = 0.005;
static const double UNDERFLOW_SHARE = 0.5, STALLED_SHARE = 0.5;
/* Where a schedule ends the loss rests, and the last updates are tiny, by design: shares of the
 * highest rate. */
static const double RATE_SETTLES = 0.1, RATE_ENDS = 0.01;

const char *mzi_plateau_word(mzi_plateau_cause cause) {
    static const char *const words[] = {
        [MZI_PLATEAU_NONE] = "none",         [MZI_PLATEAU_SKIPPED] = "skipped",
        [MZI_PLATEAU_RATE] = "rate",         [MZI_PLATEAU_FROZEN] = "frozen",
        [MZI_PLATEAU_GRADIENT] = "gradient", [MZI_PLATEAU_STALL] = "stall",
        [MZI_PLATEAU_INPUT] = "input",       [MZI_PLATEAU_UNKNOWN] = "unknown",
    };
    return words[cause];
}

void mzi_plateau_init(mzi_plateau *p, int64_t steps) {
    int64_t window = steps / WINDOWS > WINDOW_MIN ? steps / WINDOWS : WINDOW_MIN;
    *p = (mzi_plateau){.half = steps < WINDOW_MIN ? 0 : window / 2,
                       .highest = -(double)INFINITY,
                       .lowest = (double)INFINITY};
}

bool mzi_plateau_wants_input(const mzi_plateau *p) {
    return p->half > 0 && p->seen.attempts >= p->half - INPUTS;
}

/* Welford's step. */
static void add_loss(mzi_plateau_losses *of, double loss) {
    double from_mean = loss - of->mean;
    of->count += 1.0;
    of->mean += from_mean / of->count;
    of->squares += from_mean * (loss - of->mean);
}

/* The losses of both (Chan and others, 1979). */
static mzi_plateau_losses together(mzi_plateau_losses a, mzi_plateau_losses b) {
    double count = a.count + b.count, apart = b.mean - a.mean;
    if (count == 0.0)
        return a;
    return (mzi_plateau_losses){count, a.mean + apart * b.count / count,
                                a.squares + b.squares + apart * apart * a.count * b.count / count};
}

/* Of the mean, squared. */
static double error(const mzi_plateau_losses *of) {
    return of->squares / (of->count * (of->count - 1.0));
}

static double noise(const mzi_plateau_losses *a, const mzi_plateau_losses *b) {
    return sqrt(error(a) + error(b));
}

static bool falls(const mzi_plateau *p, const mzi_plateau_losses *older,
                  const mzi_plateau_losses *newer) {
    double fall = older->mean - newer->mean;
    return fall > DEVIATIONS * noise(older, newer) && fall > RESOLUTION * (p->highest - p->lowest);
}

/* The `back`-th last half that is over, from 0. */
static const mzi_plateau_losses *half(const mzi_plateau *p, int64_t back) {
    return &p->halves[(p->half_count - 1 - back) % MZI_PLATEAU_HALVES];
}

/* It is certain that the last quarter of the run is no better than the one before: one that is
 * merely noisy does not rest. */
static bool rests(const mzi_plateau *p, double rate) {
    int64_t kept = p->half_count < MZI_PLATEAU_HALVES ? p->half_count : MZI_PLATEAU_HALVES;
    int64_t each = kept / LONG_PART;
    if (each < LONG_MIN || rate < RATE_SETTLES * p->lr_max)
        return false;
    mzi_plateau_losses newer = {0}, older = {0};
    for (int64_t k = 0; k < each; k++) {
        newer = together(newer, *half(p, k));
        older = together(older, *half(p, k + each));
    }
    double least = RESTS * fmax(fabs(p->highest), fabs(p->lowest));
    return older.mean - newer.mean + DEVIATIONS * noise(&older, &newer) < least;
}

static bool input_is_constant(const mzi_plateau_evidence *a, const mzi_plateau_evidence *b) {
    return a->inputs == INPUTS && b->inputs == INPUTS && !a->input_changed && !b->input_changed &&
           a->input == b->input;
}

/* The first cause that there is evidence for. */
static mzi_plateau_cause cause_of(const mzi_plateau *p, const mzi_plateau_facts *facts) {
    const mzi_plateau_evidence *now = &p->seen, *before = &p->seen_before;
    double rate = fmax(now->lr_max, before->lr_max);
    if (rate == 0.0)
        return MZI_PLATEAU_RATE;
    if (!facts->any_trained)
        return MZI_PLATEAU_FROZEN;
    if (fmax(now->grad_max, before->grad_max) == 0.0 || facts->underflow > UNDERFLOW_SHARE)
        return MZI_PLATEAU_GRADIENT;
    if (facts->stalled > STALLED_SHARE && rate >= RATE_ENDS * p->lr_max)
        return MZI_PLATEAU_STALL;
    if (input_is_constant(now, before))
        return MZI_PLATEAU_INPUT;
    return rests(p, rate) ? MZI_PLATEAU_UNKNOWN : MZI_PLATEAU_NONE;
}

static void observe(mzi_plateau *p, const mzi_plateau_facts *facts) {
    mzi_plateau_evidence *seen = &p->seen;
    if (isfinite(facts->loss))
        add_loss(&p->losses, facts->loss);
    p->lr_max = fmax(p->lr_max, facts->lr);
    seen->attempts++;
    seen->lr_max = fmax(seen->lr_max, facts->lr);
    seen->grad_max = fmax(seen->grad_max, facts->grad_norm);
    if (facts->has_input) {
        seen->input_changed |= seen->inputs > 0 && seen->input != facts->input;
        seen->input = facts->input;
        seen->inputs++;
    }
}

static void end_half(mzi_plateau *p) {
    if (p->losses.count > 0.0) {
        p->highest = fmax(p->highest, p->losses.mean);
        p->lowest = fmin(p->lowest, p->losses.mean);
    }
    p->halves[p->half_count++ % MZI_PLATEAU_HALVES] = p->losses;
    p->losses = (mzi_plateau_losses){0};
}

static bool judge(mzi_plateau *p, const mzi_plateau_facts *facts, mzi_plateau_finding *out) {
    if (p->half_count < 2 || half(p, 0)->count < 2.0 || half(p, 1)->count < 2.0)
        return false;
    const mzi_plateau_losses newer = *half(p, 0), older = *half(p, 1);
    if (falls(p, &older, &newer)) {
        if (p->reported && falls(p, &p->level, &newer)) /* not the way down from a bump */
            p->reported = MZI_PLATEAU_NONE;
        return false;
    }
    mzi_plateau_cause cause = cause_of(p, facts);
    if (!cause || cause == p->reported || (p->reported && p->reported != MZI_PLATEAU_UNKNOWN))
        return false;
    p->reported = cause;
    p->level = newer;
    *out = (mzi_plateau_finding){.cause = cause,
                                 .attempts = 2 * p->half,
                                 .loss = newer.mean,
                                 .fall = older.mean - newer.mean,
                                 .noise = noise(&older, &newer),
                                 .last = *facts,
                                 .had_rate = p->lr_max > 0.0};
    return true;
}

/* Skips say by themselves that nothing is learned: the loss need not even be finite. */
static bool only_skips(mzi_plateau *p, const mzi_plateau_facts *facts, mzi_plateau_finding *out) {
    p->skips_in_a_row = facts->skipped ? p->skips_in_a_row + 1 : 0;
    if (!facts->skipped && p->reported == MZI_PLATEAU_SKIPPED)
        p->reported = MZI_PLATEAU_NONE;
    if (p->skips_in_a_row < SKIPS || p->reported == MZI_PLATEAU_SKIPPED)
        return false;
    p->reported = MZI_PLATEAU_SKIPPED;
    *out = (mzi_plateau_finding){.cause = MZI_PLATEAU_SKIPPED,
                                 .attempts = p->skips_in_a_row,
                                 .loss = facts->loss,
                                 .fall = (double)NAN,
                                 .noise = (double)NAN,
                                 .last = *facts,
                                 .had_rate = p->lr_max > 0.0};
    return true;
}

bool mzi_plateau_step(mzi_plateau *p, const mzi_plateau_facts *facts, mzi_plateau_finding *out) {
    if (p->half == 0)
        return false;
    observe(p, facts);
    if (only_skips(p, facts, out))
        return true;
    if (p->seen.attempts < p->half)
        return false;
    end_half(p);
    bool found = p->reported != MZI_PLATEAU_SKIPPED && judge(p, facts, out);
    p->seen_before = p->seen;
    p->seen = (mzi_plateau_evidence){0};
    return found;
}
