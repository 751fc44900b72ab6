/* What a command is, and what its line may say. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include <mezzo/models.h>

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_CONFIG = 3,
    EXIT_DATA = 4,
    EXIT_NUMERICS = 5,
    EXIT_DOWNGRADE = 7,
    EXIT_STOPPED = 75,
    EXIT_INTERRUPTED = 130
};

/* Which options a command takes: bits. */
typedef enum option_group {
    OPTIONS_ALWAYS = 1 << 0, /* help, quiet, verbose           */
    OPTIONS_JSON = 1 << 1,
    OPTIONS_CONFIG = 1 << 2, /* --set and its short forms      */
    OPTIONS_RUN = 1 << 3,    /* run directory                  */
    OPTIONS_SEEDS = 1 << 4,
    OPTIONS_WEIGHTS = 1 << 5,
    OPTIONS_PLAN = 1 << 6,
    OPTIONS_SHOW = 1 << 7,
    OPTIONS_TOKENIZE = 1 << 8,
    OPTIONS_SAMPLE = 1 << 9,
    OPTIONS_START = 1 << 10,  /* weights to start from */
    OPTIONS_FOLDER = 1 << 11, /* where to write a model */
    OPTIONS_DTYPE = 1 << 12,
    OPTIONS_LINT = 1 << 13,
    OPTIONS_PROFILE = 1 << 14
} option_group;

typedef struct assignment {
    char *text;         /* "train.steps=100" */
    const char *origin; /* "--steps"         */
} assignment;

enum {
    WORDS_MAX = 2
};
typedef struct cli_options {
    const char *words[WORDS_MAX]; /* what is no option; null where there is none */
    assignment *assignments;      /* in the order of the line */
    int assignment_count;
    bool json, quiet, verbose, help, resolved, rules;
    int64_t seeds, measure;
    const char *weights, *other;
    const char *tokenizer, *train, *pattern, *save; /* of tokenize */
    const char *out, *dtype;
    const char *prompt, *prompt_file; /* of sample */
    int64_t tokens, top_k;
    double temperature, top_p;
} cli_options;

typedef struct cli_command {
    const char *name;
    const char *words; /* "[CONFIG]" */
    const char *help;  /* one line */
    const char *details;
    unsigned groups; /* option_group, or'ed */
    int words_max;
    int (*run)(const cli_options *options); /* gives the exit code */
} cli_command;

#define COMMAND(name) extern const cli_command command_##name;
#include "commands.def"
#undef COMMAND

/* Arguments behind the command's name.  EXIT_OK, or the exit code behind a message on stderr.
 * Freed by options_free in either case. */
int options_parse(const cli_command *command, int count, char **arguments, cli_options *out);
void options_free(cli_options *options);
/* The options of these groups, one a line, on stdout. */
void options_print(unsigned groups);
/* The candidate nearest to `word`, by edit distance; null if none is near.  `next` gives the
 * candidates by index, and null past the end. */
const char *nearest_word(const char *word, const char *(*next)(int index));

#endif
