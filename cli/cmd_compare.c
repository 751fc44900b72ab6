/* mezzo compare: FP32 and the configured precision, from the same seeds and data. */
#include <stdlib.h>

#include "result.h"
#include "session.h"
#include "signals.h"

static int compare(session *s, const cli_options *options) {
    int seeds = (int)options->seeds;
    mezzo_summary *fp32 = calloc(2 * (size_t)seeds, sizeof *fp32);
    if (!fp32) {
        print_error("no memory for %d summaries", 2 * seeds);
        return EXIT_FAILED;
    }
    mezzo_summary *candidate = fp32 + seeds;
    mezzo_run_hooks hooks = progress_hooks(&s->progress);
    signals_catch();
    mezzo_status status = mezzo_run_compare(s->runner, s->config, &hooks, seeds, fp32, candidate);
    progress_end(&s->progress);
    int code = report_status(s->ctx, status);
    if (status == MEZZO_OK)
        code = print_comparison(s->ctx, seeds, fp32, candidate, options->json);
    free(fp32);
    return code;
}

static int run(const cli_options *options) {
    session s;
    int code = session_open(&s, options);
    if (code == EXIT_OK)
        code = compare(&s, options);
    session_close(&s);
    return code;
}

const cli_command command_compare = {
    .name = "compare",
    .words = "[CONFIG]",
    .help = "train in FP32 and in the precision of CONFIG, side by side",
    .details = "Trains twice from the same seed and data, in FP32 and in precision.compute, and\n"
               "prints time, memory and accuracy beside each other.  With --seeds N, N times; the\n"
               "difference of the means is then held against FP32's own spread between seeds.",
    .groups = OPTIONS_CONFIG | OPTIONS_RUN | OPTIONS_SEEDS | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
