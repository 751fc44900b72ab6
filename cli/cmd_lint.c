/* mezzo lint: mistakes that can be told before the run. */
#include "result.h"
#include "session.h"

static int print_findings(session *s, const cli_options *options) {
    char *text = NULL;
    int errors = 0;
    mezzo_status status = mezzo_run_lint(s->runner, s->config, options->json, &text, &errors);
    int code = print_text(s->ctx, status, text);
    return code == EXIT_OK && errors > 0 ? EXIT_CONFIG : code;
}

static int print_rules(session *s, const cli_options *options) {
    char *text = NULL;
    mezzo_status status = mezzo_lint_rules(s->ctx, options->json, &text);
    return print_text(s->ctx, status, text);
}

static int run(const cli_options *options) {
    session s;
    int code = session_open(&s, options);
    if (code == EXIT_OK)
        code = options->rules ? print_rules(&s, options) : print_findings(&s, options);
    session_close(&s);
    return code;
}

const cli_command command_lint = {
    .name = "lint",
    .words = "[CONFIG]",
    .help = "find constants that a type cannot hold, and settings that do not go together",
    .details =
        "Builds the model of CONFIG, trains nothing, and holds it to the rules that --rules\n"
        "lists: a mask of -1e9 in FP16, an epsilon that rounds to 0, a sum beyond 65504, a\n"
        "pattern without a match ...  Exit code 3 if there is an error, 0 if there are only\n"
        "warnings.  Errors of rules L... stop training too, unless precision.lint says warn.",
    .groups = OPTIONS_CONFIG | OPTIONS_LINT | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
