/* Finds out that the loss has stopped falling, and from which cause.
 *
 *   attempts    |---- half ----|---- half ----|---- half ----|
 *                                   older          newer          means m, variances of them s^2
 *
 *   falls       m_older - m_newer > 3 sqrt(s_older^2 + s_newer^2)
 *               and > 1e-4 (highest m - lowest m)
 *
 * A pure function of what it is told of each attempt; nothing is allocated.  docs/numerics.md,
 * "Plateaus", has the rules in words. */
#ifndef MZI_RUN_PLATEAU_H
#define MZI_RUN_PLATEAU_H

#include <stdbool.h>
#include <stdint.h>

/* In the order in which evidence is looked at. */
typedef enum mzi_plateau_cause {
    MZI_PLATEAU_NONE,     /* there is no plateau */
    MZI_PLATEAU_SKIPPED,  /* every step was skipped */
    MZI_PLATEAU_RATE,     /* the learning rate is 0 */
    MZI_PLATEAU_FROZEN,   /* no parameter is trained */
    MZI_PLATEAU_GRADIENT, /* gradients are 0, or underflow */
    MZI_PLATEAU_STALL,    /* updates of less than half an ulp */
    MZI_PLATEAU_INPUT,    /* the batch is always the same */
    MZI_PLATEAU_UNKNOWN   /* nothing of that: converged, or the rate is too small or too large */
} mzi_plateau_cause;
/* One word, for events. */
const char *mzi_plateau_word(mzi_plateau_cause cause);

/* What is known of an attempt. */
typedef struct mzi_plateau_facts {
    bool skipped;
    double loss; /* not finite: not counted */
    double lr, grad_norm;
    double underflow; /* share of the gradients' elements; NaN: not measured yet */
    double stalled;   /* share of updates; NaN: not measured yet */
    bool any_trained; /* a parameter that is not frozen */
    bool has_input;   /* `input` is a digest of the batch */
    uint64_t input;
} mzi_plateau_facts;

typedef struct mzi_plateau_finding {
    mzi_plateau_cause cause;
    int64_t attempts; /* of the window */
    double loss;      /* its newer mean  */
    double fall;      /* from the older  */
    double noise;     /* standard error of that */
    mzi_plateau_facts last;
    bool had_rate; /* the learning rate was above 0 earlier in the run */
} mzi_plateau_finding;

/* Losses of some attempts: sum (x - mean)^2 is `squares`. */
typedef struct mzi_plateau_losses {
    double count, mean, squares;
} mzi_plateau_losses;

/* What a half saw besides. */
typedef struct mzi_plateau_evidence {
    int64_t attempts;
    double lr_max, grad_max;
    int inputs; /* digests */
    bool input_changed;
    uint64_t input;
} mzi_plateau_evidence;

enum {
    MZI_PLATEAU_HALVES = 64
};
typedef struct mzi_plateau {
    int64_t half; /* attempts; 0: never finds any */
    int64_t skips_in_a_row;
    double lr_max, highest, lowest;
    mzi_plateau_losses losses;                     /* of the half that is going on */
    mzi_plateau_losses halves[MZI_PLATEAU_HALVES]; /* that are over, half k in k mod HALVES */
    int64_t half_count;
    mzi_plateau_evidence seen, seen_before;
    mzi_plateau_cause reported;
    mzi_plateau_losses level; /* where the loss was then */
} mzi_plateau;

/* For a run of `steps`: the window is max(50, steps / 20) attempts.  A run that is shorter than one
 * is not looked at. */
void mzi_plateau_init(mzi_plateau *plateau, int64_t steps);
/* True if the next attempt should come with a digest of its input. */
bool mzi_plateau_wants_input(const mzi_plateau *plateau);
/* True, and the finding, once for each plateau; for a second time if a cause is found after
 * UNKNOWN. */
bool mzi_plateau_step(mzi_plateau *plateau, const mzi_plateau_facts *facts,
                      mzi_plateau_finding *out);

#endif
