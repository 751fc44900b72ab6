/* The options of the command line: one table. */
#include <errno.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "term.h"

typedef enum option_kind {
    OPTION_FLAG,   /* sets the bool at `place`              */
    OPTION_TEXT,   /* sets the text at `place`              */
    OPTION_SET,    /* VALUE is KEY=VALUE                    */
    OPTION_KEY,    /* sets `key` to VALUE                   */
    OPTION_TRUE,   /* sets `key` to true                    */
    OPTION_EPOCHS, /* sets `key`, and train.steps to 0, since that one goes first */
    OPTION_INT,    /* sets the int64_t at `place`           */
    OPTION_REAL,   /* sets the double at `place`            */
    OPTION_DEVICE
} option_kind;

typedef struct option {
    unsigned group;
    const char *name; /* without the dashes */
    char letter;
    const char *value; /* what stands for it in the help; null if it takes none */
    option_kind kind;
    size_t place;
    const char *key;
    const char *help;
} option;

#define AT(field) offsetof(cli_options, field)
static const option table[] = {
    {OPTIONS_CONFIG, "set", 0, "KEY=VALUE", OPTION_SET, 0, NULL,
     "set a key of the configuration (mezzo config keys lists them)"},
    {OPTIONS_CONFIG, "precision", 0, "TYPE", OPTION_KEY, 0, "precision.compute",
     "f32, bf16 or f16"},
    {OPTIONS_CONFIG, "steps", 0, "N", OPTION_KEY, 0, "train.steps", "steps to train"},
    {OPTIONS_CONFIG, "epochs", 0, "N", OPTION_EPOCHS, 0, "train.epochs",
     "train this many epochs, whatever train.steps is"},
    {OPTIONS_CONFIG, "seed", 0, "N", OPTION_KEY, 0, "train.seed",
     "of weights, order of samples, dropout and drawn tokens"},
    {OPTIONS_CONFIG, "device", 0, "NAME", OPTION_DEVICE, 0, NULL, "cpu or auto"},
    {OPTIONS_CONFIG, "threads", 0, "N", OPTION_KEY, 0, "train.threads", "workers, or auto"},
    {OPTIONS_CONFIG, "isa", 0, "NAME", OPTION_KEY, 0, "train.isa",
     "highest instruction set: auto, ref, avx2, avx512, avx512_bf16"},
    {OPTIONS_RUN, "run-dir", 0, "DIR", OPTION_KEY, 0, "run.dir", "directory of the run"},
    {OPTIONS_RUN, "overwrite", 0, NULL, OPTION_TRUE, 0, "run.overwrite",
     "use it although it holds a run"},
    {OPTIONS_SEEDS, "seeds", 0, "N", OPTION_INT, AT(seeds), NULL,
     "repeat with N seeds each, from train.seed on"},
    {OPTIONS_WEIGHTS, "weights", 0, "PATH", OPTION_TEXT, AT(weights), NULL,
     "a safetensors file, or a run directory"},
    {OPTIONS_START, "weights", 0, "PATH", OPTION_KEY, 0, "train.weights",
     "start from a run directory, or from a safetensors file"},
    {OPTIONS_START, "continue", 0, "RUN", OPTION_KEY, 0, "train.continue",
     "go on with the training of a run, in the same or another precision"},
    {OPTIONS_DTYPE, "dtype", 0, "TYPE", OPTION_TEXT, AT(dtype), NULL,
     "f32 (the default), bf16 or f16"},
    {OPTIONS_FOLDER, "out", 0, "DIR", OPTION_TEXT, AT(out), NULL, "directory to write"},
    {OPTIONS_SAMPLE, "prompt", 0, "TEXT", OPTION_TEXT, AT(prompt), NULL,
     "what the sample goes on from; empty: the start of a text"},
    {OPTIONS_SAMPLE, "prompt-file", 0, "FILE", OPTION_TEXT, AT(prompt_file), NULL,
     "likewise, the text of a file"},
    {OPTIONS_SAMPLE, "tokens", 0, "N", OPTION_INT, AT(tokens), NULL,
     "tokens to draw at most (256)"},
    {OPTIONS_SAMPLE, "temperature", 0, "X", OPTION_REAL, AT(temperature), NULL,
     "divides the logits (1); 0: always the most probable token"},
    {OPTIONS_SAMPLE, "top-k", 0, "K", OPTION_INT, AT(top_k), NULL,
     "only the K most probable tokens (0: all)"},
    {OPTIONS_SAMPLE, "top-p", 0, "P", OPTION_REAL, AT(top_p), NULL,
     "only the most probable tokens that make up P of the probability (1: all)"},
    {OPTIONS_PLAN, "diff", 0, "OTHER", OPTION_TEXT, AT(other), NULL,
     "what differs from the plan of OTHER, a configuration"},
    {OPTIONS_PLAN, "strict", 0, NULL, OPTION_TRUE, 0, "precision.strict",
     "fail (exit 7) if a kernel would not compute in the type asked for"},
    {OPTIONS_PROFILE, "measure", 0, "N", OPTION_INT, AT(measure), NULL, "steps to measure (10)"},
    {OPTIONS_LINT, "rules", 0, NULL, OPTION_FLAG, AT(rules), NULL, "list the rules instead"},
    {OPTIONS_SHOW, "resolved", 0, NULL, OPTION_FLAG, AT(resolved), NULL,
     "with the origin of each value"},
    {OPTIONS_TOKENIZE, "tokenizer", 0, "NAME", OPTION_TEXT, AT(tokenizer), NULL,
     "bytes (the default), or a vocab.bpe or tokenizer.json"},
    {OPTIONS_TOKENIZE, "train", 0, "VOCAB", OPTION_TEXT, AT(train), NULL,
     "learn a tokenizer of VOCAB tokens from FILE instead"},
    {OPTIONS_TOKENIZE, "pattern", 0, "NAME", OPTION_TEXT, AT(pattern), NULL,
     "gpt2 (the default) or gpt4: how --train cuts text into words"},
    {OPTIONS_TOKENIZE, "save", 0, "PATH", OPTION_TEXT, AT(save), NULL,
     "write the tokenizer, as tokenizer.json"},
    {OPTIONS_TOKENIZE, "out", 0, "PATH", OPTION_TEXT, AT(out), NULL, "write the tokens"},
    {OPTIONS_JSON, "json", 0, NULL, OPTION_FLAG, AT(json), NULL, "the result as JSON"},
    {OPTIONS_ALWAYS, "quiet", 'q', NULL, OPTION_FLAG, AT(quiet), NULL,
     "no progress, and warnings only"},
    {OPTIONS_ALWAYS, "verbose", 'v', NULL, OPTION_FLAG, AT(verbose), NULL, "more messages"},
    {OPTIONS_ALWAYS, "help", 'h', NULL, OPTION_FLAG, AT(help), NULL, "what this command does"},
};
#undef AT
enum {
    OPTION_COUNT = sizeof table / sizeof table[0]
};

/* What OPTION_INT and OPTION_REAL take. */
static const struct range {
    const char *name;
    double min, max;
    const char *expected;
} ranges[] = {
    {"seeds", 1, 1000, "an integer from 1 to 1000"},
    {"measure", 1, 1e6, "an integer from 1 to 1000000"},
    {"tokens", 1, 1e9, "an integer from 1 to 1000000000"},
    {"temperature", 0, DBL_MAX, "a number from 0 on"},
    {"top-k", 0, INT32_MAX, "an integer from 0 (all) on"},
    {"top-p", DBL_TRUE_MIN, 1, "a number above 0 and at most 1"},
};

typedef struct parser {
    const cli_command *command;
    int left; /* arguments not read yet */
    char **next;
    cli_options *out;
} parser;

static const char *option_name(int index) {
    return index < OPTION_COUNT ? table[index].name : NULL;
}

void options_print(unsigned groups) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option *o = &table[i];
        if (!(o->group & groups))
            continue;
        char left[48], letter[8] = "    ";
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-23s %s\n", left, o->help);
    }
}

static int fail_usage(const parser *p) {
    fprintf(stderr, "`mezzo help %s` lists what it takes\n", p->command->name);
    return EXIT_USAGE;
}

static int add_assignment(cli_options *out, const char *key, const char *value,
                          const char *origin) {
    size_t bytes = strlen(key) + strlen(value) + 2;
    char *text = malloc(bytes);
    if (!text) {
        print_error("no memory for the options");
        return EXIT_FAILED;
    }
    snprintf(text, bytes, "%s%s%s", key, key[0] == '\0' ? "" : "=", value);
    out->assignments[out->assignment_count++] = (assignment){text, origin};
    return EXIT_OK;
}

static const struct range *range_of(const option *o) {
    const struct range *range = ranges;
    while (strcmp(range->name, o->name) != 0)
        range++;
    return range;
}

/* `value` as a number in its range, which NaN is in none of. */
static int set_number(const parser *p, const option *o, const char *value, void *place) {
    const struct range *range = range_of(o);
    bool whole = o->kind == OPTION_INT;
    char *end;
    errno = 0;
    long long integer = whole ? strtoll(value, &end, 10) : 0;
    double number = whole ? (double)integer : strtod(value, &end);
    bool overflow = whole && errno;
    if (end == value || *end != '\0' || overflow ||
        !(number >= range->min && number <= range->max)) {
        print_error("--%s: expected %s, got \"%s\"", o->name, range->expected, value);
        return fail_usage(p);
    }
    if (whole)
        *(int64_t *)place = integer;
    else
        *(double *)place = number;
    return EXIT_OK;
}

static int check_device(const parser *p, const char *value) {
    if (strcmp(value, "cpu") == 0 || strcmp(value, "auto") == 0)
        return EXIT_OK;
    if (strcmp(value, "cuda") == 0) {
        print_error("--device cuda: this build has no CUDA backend; use --device cpu");
        return EXIT_CONFIG;
    }
    print_error("--device: expected cpu or auto, got \"%s\"", value);
    return fail_usage(p);
}

/* The origin of a value, as in messages: the option as it is written. */
static const char *origin_of(const option *o) {
    static char origins[OPTION_COUNT][24];
    char *origin = origins[o - table];
    snprintf(origin, sizeof origins[0], "--%s", o->name);
    return origin;
}

static int apply(const parser *p, const option *o, const char *value) {
    cli_options *out = p->out;
    char *place = (char *)out + o->place;
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)(void *)place = true;
        return EXIT_OK;
    case OPTION_TEXT:
        *(const char **)(void *)place = value;
        return EXIT_OK;
    case OPTION_SET:
        return add_assignment(out, "", value, origin_of(o));
    case OPTION_KEY:
        return add_assignment(out, o->key, value, origin_of(o));
    case OPTION_TRUE:
        return add_assignment(out, o->key, "true", origin_of(o));
    case OPTION_EPOCHS:
        if (add_assignment(out, "train.steps", "0", origin_of(o)) != EXIT_OK)
            return EXIT_FAILED;
        return add_assignment(out, o->key, value, origin_of(o));
    case OPTION_INT:
    case OPTION_REAL:
        return set_number(p, o, value, place);
    case OPTION_DEVICE:
        return check_device(p, value);
    }
    return EXIT_FAILED;
}

static bool is_taken(const parser *p, const option *o) {
    return (o->group & (p->command->groups | OPTIONS_ALWAYS)) != 0;
}

/* The option that `text` ("steps" of "--steps=5", or "q" of "-q") names: of several, the one that
 * the command takes. */
static const option *find_option(const parser *p, const char *text, size_t bytes, bool is_letter) {
    const option *found = NULL;
    for (int i = 0; i < OPTION_COUNT; i++) {
        const option *o = &table[i];
        bool named = is_letter ? bytes == 1 && o->letter == text[0]
                               : strlen(o->name) == bytes && memcmp(o->name, text, bytes) == 0;
        if (named && (!found || is_taken(p, o)))
            found = o;
    }
    return found;
}

static int parse_option(parser *p, const char *argument) {
    bool is_letter = argument[1] != '-';
    const char *text = argument + (is_letter ? 1 : 2);
    size_t bytes = strcspn(text, "=");
    const char *value = text[bytes] == '=' ? text + bytes + 1 : NULL;
    const option *o = find_option(p, text, bytes, is_letter);
    if (!o) {
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)bytes, text);
        const char *near = is_letter ? NULL : nearest_word(name, option_name);
        print_error("unknown option %s%s%s%s", argument, near ? "; did you mean --" : "",
                    near ? near : "", near ? "?" : "");
        return fail_usage(p);
    }
    if (!is_taken(p, o)) {
        print_error("--%s is no option of %s", o->name, p->command->name);
        return fail_usage(p);
    }
    if (!o->value && value) {
        print_error("--%s takes no value", o->name);
        return fail_usage(p);
    }
    if (o->value && !value) {
        if (p->left == 0) {
            print_error("--%s needs a value: --%s %s", o->name, o->name, o->value);
            return fail_usage(p);
        }
        value = *p->next++;
        p->left--;
    }
    return apply(p, o, value ? value : "");
}

static int add_word(const parser *p, const char *word) {
    for (int i = 0; i < p->command->words_max; i++)
        if (!p->out->words[i]) {
            p->out->words[i] = word;
            return EXIT_OK;
        }
    print_error("%s: one word too many: %s", p->command->name, word);
    return fail_usage(p);
}

int options_parse(const cli_command *command, int count, char **arguments, cli_options *out) {
    *out = (cli_options){.seeds = 1, .tokens = 256, .temperature = 1.0, .top_p = 1.0};
    /* An option gives two assignments at most. */
    out->assignments = calloc(2 * (size_t)count + 1, sizeof *out->assignments);
    if (!out->assignments) {
        print_error("no memory for the options");
        return EXIT_FAILED;
    }
    parser p = {command, count, arguments, out};
    bool only_words = false;
    while (p.left > 0) {
        const char *argument = *p.next++;
        p.left--;
        int code;
        if (!only_words && strcmp(argument, "--") == 0) {
            only_words = true;
            continue;
        }
        if (!only_words && argument[0] == '-' && argument[1] != '\0')
            code = parse_option(&p, argument);
        else
            code = add_word(&p, argument);
        if (code != EXIT_OK)
            return code;
    }
    return EXIT_OK;
}

void options_free(cli_options *options) {
    for (int i = 0; i < options->assignment_count; i++)
        free(options->assignments[i].text);
    free(options->assignments);
}
