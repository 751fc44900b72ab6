/* mezzo train: one run, as configured. */
#include "result.h"
#include "session.h"
#include "signals.h"

static int run(const cli_options *options) {
    session s;
    int code = session_open(&s, options);
    if (code == EXIT_OK) {
        mezzo_summary summary;
        mezzo_run_hooks hooks = progress_hooks(&s.progress);
        signals_catch();
        mezzo_status status = mezzo_run_train(s.runner, s.config, &hooks, &summary);
        progress_end(&s.progress);
        code = report_status(s.ctx, status);
        if (status == MEZZO_OK || status == MEZZO_INTERRUPTED) {
            int printed = print_summary(s.ctx, &summary, options->json);
            code = printed == EXIT_OK ? code : printed;
        }
    }
    session_close(&s);
    return code;
}

const cli_command command_train = {
    .name = "train",
    .words = "[CONFIG]",
    .help = "train a model as CONFIG says",
    .details =
        "Trains a model into a run directory, and ends with a summary.  Ctrl-C, SIGTERM and\n"
        "SIGUSR1 save the state and stop (exit 75); a second Ctrl-C stops at once.  With "
        "--weights,\n"
        "training starts from the tensors of another run, and with a fresh optimizer; with\n"
        "--continue, it goes on where that run stopped, up to train.steps.",
    .groups = OPTIONS_CONFIG | OPTIONS_RUN | OPTIONS_START | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
