/* mezzo config: the configuration as it would be used, and every key there is. */
#include <stdio.h>
#include <string.h>

#include "result.h"
#include "session.h"

enum {
    TYPE_BYTES = 80
};

static const char *describe_type(const mezzo_config_key *key, char out[TYPE_BYTES]) {
    switch (key->type) {
    case MEZZO_CONFIG_INT:
        snprintf(out, TYPE_BYTES, "%.10g..%.10g%s%s", key->min, key->max, key->choices ? "|" : "",
                 key->choices ? key->choices : "");
        return out;
    case MEZZO_CONFIG_REAL:
        snprintf(out, TYPE_BYTES, "%g..%.7g%s%s", key->min, key->max, key->choices ? "|" : "",
                 key->choices ? key->choices : "");
        return out;
    case MEZZO_CONFIG_BOOL:
        return "true|false";
    case MEZZO_CONFIG_TEXT:
        return "text";
    case MEZZO_CONFIG_CHOICE:
        return key->choices;
    case MEZZO_CONFIG_INT_LIST:
        snprintf(out, TYPE_BYTES, "list of %.10g..%.10g", key->min, key->max);
        return out;
    case MEZZO_CONFIG_RECORD_LIST:
        return "list of records";
    }
    return "";
}

static int print_keys(void) {
    term t = term_of(stdout);
    const mezzo_config_key *key;
    char type[TYPE_BYTES];
    printf("%s%-30s %-12s %s%s\n", term_style(&t, STYLE_BOLD), "key", "default", "values",
           term_style(&t, STYLE_PLAIN));
    for (int i = 0; (key = mezzo_config_key_at(i)) != NULL; i++) {
        printf("%-30s %-12s %s\n", key->path, key->initial, describe_type(key, type));
        if (key->type == MEZZO_CONFIG_RECORD_LIST)
            printf("%31s{%s}\n", "", key->choices);
        printf("%s    %s%s\n", term_style(&t, STYLE_DIM), key->help, term_style(&t, STYLE_PLAIN));
    }
    return EXIT_OK;
}

static int show(const cli_options *options) {
    progress log;
    mezzo_ctx *ctx;
    int code = create_small_ctx(&ctx, options, &log);
    if (code != EXIT_OK)
        return code;
    mezzo_config *config = NULL;
    char *text = NULL;
    mezzo_status status = load_config(&config, ctx, options, options->words[1], true);
    if (status == MEZZO_OK)
        status = mezzo_config_dump(config, options->resolved, &text);
    code = print_text(ctx, status, text);
    mezzo_config_destroy(config);
    mezzo_ctx_destroy(ctx);
    return code;
}

static int run(const cli_options *options) {
    const char *word = options->words[0];
    if (word && strcmp(word, "show") == 0)
        return show(options);
    if (word && strcmp(word, "keys") == 0 && !options->words[1])
        return print_keys();
    print_error("config: expected show [CONFIG] or keys");
    return EXIT_USAGE;
}

const cli_command command_config = {
    .name = "config",
    .words = "show [CONFIG] | keys",
    .help = "show a configuration as it would be used, or every key there is",
    .details =
        "show prints the configuration that a run would use; with --resolved, each value with\n"
        "its origin: default, FILE:LINE, MEZZO_SECTION__KEY, or the option.  keys prints\n"
        "every key with its default, values and meaning.",
    .groups = OPTIONS_CONFIG | OPTIONS_RUN | OPTIONS_SHOW,
    .words_max = 2,
    .run = run,
};
