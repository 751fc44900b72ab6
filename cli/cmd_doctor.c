/* mezzo doctor: the machine and the build. */
#include <stddef.h>

#include "result.h"
#include "session.h"

static int run(const cli_options *options) {
    progress log;
    progress_init(&log, options->quiet, options->verbose);
    const mezzo_ctx_config config = {.log = progress_log, .log_user = &log};
    mezzo_ctx *ctx;
    int code = create_ctx(&ctx, &config);
    if (code != EXIT_OK)
        return code;
    char *text = NULL;
    mezzo_status status = mezzo_doctor(ctx, options->json, &text);
    code = print_text(ctx, status, text);
    mezzo_ctx_destroy(ctx);
    return code;
}

const cli_command command_doctor = {
    .name = "doctor",
    .words = "",
    .help = "show what this machine and this build can do",
    .details =
        "Shows processor, memory, instruction sets and optional parts, and what they mean for\n"
        "the choice of a precision.",
    .groups = OPTIONS_JSON,
    .words_max = 0,
    .run = run,
};
