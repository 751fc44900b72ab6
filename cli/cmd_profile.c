/* mezzo profile: where the time of a step goes. */
#include "result.h"
#include "session.h"

enum {
    STEPS = 10
};

static int run(const cli_options *options) {
    session s;
    int code = session_open(&s, options);
    if (code == EXIT_OK) {
        int steps = options->measure ? (int)options->measure : STEPS;
        char *text = NULL;
        mezzo_status status = mezzo_run_profile(s.runner, s.config, steps, options->json, &text);
        code = print_text(s.ctx, status, text);
    }
    session_close(&s);
    return code;
}

const cli_command command_profile = {
    .name = "profile",
    .words = "[CONFIG]",
    .help = "show where the time of a training step goes",
    .details =
        "Trains for two steps to warm up and ten to measure, and writes nothing.  Shows the\n"
        "time of phases, kinds of operations and single operations, the longest first, with\n"
        "FLOP/s and bytes/s: each operand counts once.",
    .groups = OPTIONS_CONFIG | OPTIONS_PROFILE | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
