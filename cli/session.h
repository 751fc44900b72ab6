/* What the commands share: a context as configured, the configuration, a runner with models. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "command.h"
#include "progress.h"

typedef struct session {
    mezzo_ctx *ctx;
    mezzo_config *config;
    mezzo_runner *runner;
    progress progress;
} session;

/* The exit code of a status; "mezzo: error: ..." on stderr if it is an error. */
int report_status(const mezzo_ctx *ctx, mezzo_status status);

/* EXIT_OK, or the exit code behind a message. */
int create_ctx(mezzo_ctx **out, const mezzo_ctx_config *wanted);
/* Likewise, for what computes next to nothing: one worker, and messages to `log`, which is made
 * here. */
int create_small_ctx(mezzo_ctx **out, const cli_options *options, progress *log);

/* A configuration from defaults, the user's file, `path` (may be null), the environment and, with
 * `with_assignments`, the command line. */
mezzo_status load_config(mezzo_config **out, mezzo_ctx *ctx, const cli_options *options,
                         const char *path, bool with_assignments);

/* EXIT_OK, or the exit code behind a message.  Closed by session_close in either case. */
int session_open(session *s, const cli_options *options);
void session_close(session *s);

#endif
