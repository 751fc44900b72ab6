/* mezzo eval: the accuracy of trained weights. */
#include <stdio.h>

#include "result.h"
#include "session.h"

static int run(const cli_options *options) {
    if (!options->weights) {
        print_error("eval needs --weights PATH: a safetensors file, or a run directory");
        return EXIT_USAGE;
    }
    session s;
    int code = session_open(&s, options);
    if (code == EXIT_OK) {
        mezzo_summary summary;
        mezzo_status status = mezzo_run_evaluate(s.runner, s.config, options->weights, &summary);
        code = report_status(s.ctx, status);
        if (status == MEZZO_OK)
            code = print_summary(s.ctx, &summary, options->json);
    }
    session_close(&s);
    return code;
}

const cli_command command_eval = {
    .name = "eval",
    .words = "[CONFIG] --weights PATH",
    .help = "evaluate trained weights on the test samples",
    .details = "Builds the model of CONFIG, loads weights into it, and evaluates it on the test\n"
               "samples.",
    .groups = OPTIONS_CONFIG | OPTIONS_WEIGHTS | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
