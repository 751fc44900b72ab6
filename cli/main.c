/* mezzo: finds the command, and says what there is. */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "term.h"

static const cli_command *const commands[] = {
#define COMMAND(name) &command_##name,
#include "commands.def"
#undef COMMAND
};
enum {
    COMMAND_COUNT = sizeof commands / sizeof commands[0]
};

static const char *command_name(int index) {
    return index < COMMAND_COUNT ? commands[index]->name : NULL;
}

static const cli_command *find_command(const char *name) {
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static void print_help(FILE *file) {
    fprintf(file,
            "mezzo %s: mixed-precision training\n\n"
            "usage: mezzo COMMAND [CONFIG] [--set KEY=VALUE ...] [--json] [-q|-v]\n\n",
            mezzo_version());
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(file, "  %-9s %s\n", commands[i]->name, commands[i]->help);
    fprintf(file, "\n`mezzo help COMMAND` tells more; `mezzo config keys` lists what a "
                  "configuration may say.\n");
}

static int print_command_help(const cli_command *c) {
    printf("usage: mezzo %s%s%s [options]\n\n%s\n\noptions:\n", c->name,
           c->words[0] == '\0' ? "" : " ", c->words, c->details);
    options_print(c->groups | OPTIONS_ALWAYS);
    return EXIT_OK;
}

static int fail_command(const char *name) {
    const char *near = nearest_word(name, command_name);
    print_error("unknown command %s%s%s%s", name, near ? "; did you mean " : "", near ? near : "",
                near ? "?" : "");
    fprintf(stderr, "`mezzo help` lists the commands\n");
    return EXIT_USAGE;
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c) {
    return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

static int run_command(const cli_command *c, int count, char **arguments) {
    cli_options options;
    int code = options_parse(c, count, arguments, &options);
    if (code == EXIT_OK)
        code = options.help ? print_command_help(c) : c->run(&options);
    options_free(&options);
    return code;
}

static int dispatch(int count, char **arguments) {
    if (count < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const char *word = arguments[1];
    if (is_one_of(word, "version", "--version", "-V")) {
        printf("mezzo %s\n", mezzo_version());
        return EXIT_OK;
    }
    bool help = is_one_of(word, "help", "--help", "-h");
    if (help && count < 3) {
        print_help(stdout);
        return EXIT_OK;
    }
    const char *name = help ? arguments[2] : word;
    const cli_command *c = find_command(name);
    if (!c)
        return fail_command(name);
    return help ? print_command_help(c) : run_command(c, count - 2, arguments + 2);
}

int main(int count, char **arguments) {
    int code = dispatch(count, arguments);
    /* A result that did not reach its file is no success. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == EXIT_OK) {
        print_error("the output could not be written");
        return EXIT_FAILED;
    }
    return code;
}
