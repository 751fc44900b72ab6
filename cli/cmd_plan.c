/* mezzo plan: what a run would do, without doing it. */
#include "result.h"
#include "session.h"

static mezzo_status diff(session *s, const cli_options *options, char **text) {
    mezzo_config *other = NULL;
    mezzo_status status = load_config(&other, s->ctx, options, options->other, false);
    if (status == MEZZO_OK)
        status = mezzo_run_plan_diff(s->runner, s->config, other, options->json, text);
    mezzo_config_destroy(other);
    return status;
}

static int print_plan(session *s, const cli_options *options) {
    char *text = NULL;
    mezzo_status status = options->other
                              ? diff(s, options, &text)
                              : mezzo_run_plan(s->runner, s->config, options->json, &text);
    return print_text(s->ctx, status, text);
}

static int run(const cli_options *options) {
    session s;
    int code = session_open(&s, options);
    if (code == EXIT_OK)
        code = print_plan(&s, options);
    session_close(&s);
    return code;
}

const cli_command command_plan = {
    .name = "plan",
    .words = "[CONFIG]",
    .help = "show operations, types, casts with their reasons, memory and kernels",
    .details =
        "Shows what training would do: each operation with its type and the rule behind it,\n"
        "casts, masters, loss scale, segments, memory, kernels, fallbacks and hashes.  With "
        "--diff, only what differs from\n"
        "another configuration; the options apply to CONFIG, and OTHER is taken as it is.",
    .groups = OPTIONS_CONFIG | OPTIONS_PLAN | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
