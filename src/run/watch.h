/* Watches a run for steps that teach nothing: stalled updates and plateaus, as events and warnings.
 */
#ifndef MZI_RUN_WATCH_H
#define MZI_RUN_WATCH_H

#include "observe/run_dir.h"
#include "run/plateau.h"
#include "run/runner.h"

typedef struct mzi_watch {
    const mzi_experiment *e;
    mzi_plateau plateau;
    double stalled; /* at the last measurement; NaN before the first */
    double lr_max;
    bool has_warned; /* of stalled updates */
    bool has_input;
    uint64_t input; /* digest of this attempt's batch */
} mzi_watch;

void mzi_watch_init(mzi_watch *watch, const mzi_experiment *e);
/* Before the step: what it is fed, of which a digest is taken now and then. */
void mzi_watch_feed(mzi_watch *watch, const mzi_feed *feed);
/* After it. */
mezzo_status mzi_watch_step(mzi_watch *watch, mzi_run_dir *dir, const mezzo_step_result *r);

#endif
