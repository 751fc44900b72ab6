/* The progress of a run on stderr: a bar on a terminal, else a line now and then; and the log. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <mezzo/run.h>

#include "term.h"

typedef struct progress {
    term term;
    bool quiet, verbose;
    bool drawn;      /* the bar stands in the terminal's last line */
    bool told;       /* that a signal has come                     */
    double drawn_at; /* seconds, monotonic                         */
} progress;

void progress_init(progress *p, bool quiet, bool verbose);
/* The hooks of a run; `stop` answers to signals (signals.h). */
mezzo_run_hooks progress_hooks(progress *p);
/* End the bar's line, before something else is printed. */
void progress_end(progress *p);
/* A mezzo_log_fn: `user` is the progress. */
void progress_log(void *user, mezzo_log_level level, const char *text);

#endif
