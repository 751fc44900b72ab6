/* mezzo sample: text from trained weights. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mezzo/tokens.h>

#include "result.h"
#include "session.h"

enum {
    PATH_BYTES = 4096
};

/* Text that is kept for JSON, or printed as it comes. */
typedef struct sink {
    bool is_kept, is_full;
    char *text;
    size_t bytes, capacity;
    char last;
} sink;

static void keep(sink *s, const char *text, size_t bytes) {
    if (s->bytes + bytes > s->capacity) {
        size_t capacity = 2 * (s->bytes + bytes);
        char *larger = realloc(s->text, capacity);
        if (!larger) {
            s->is_full = true;
            return;
        }
        s->text = larger;
        s->capacity = capacity;
    }
    memcpy(s->text + s->bytes, text, bytes);
    s->bytes += bytes;
}

static void on_text(void *user, const char *text, size_t bytes) {
    sink *s = user;
    if (s->is_kept) {
        keep(s, text, bytes);
        return;
    }
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    s->last = text[bytes - 1];
}

static bool is_folder(const char *path) {
    struct stat info;
    return path && stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* A run directory stands for its configuration and for its weights, whichever is not given. */
static int find_run(cli_options *options, char config[PATH_BYTES]) {
    const char *run = options->words[0] ? options->words[0] : options->weights;
    if (is_folder(run)) {
        snprintf(config, PATH_BYTES, "%s/config.yaml", run);
        options->words[0] = config;
        if (!options->weights)
            options->weights = run;
    }
    if (run && access(run, F_OK) != 0) {
        print_error("there is no '%s'; give a run directory, or a safetensors file", run);
        return EXIT_DATA;
    }
    if (options->weights)
        return EXIT_OK;
    print_error("sample needs a run directory, or --weights PATH: a safetensors file");
    return EXIT_USAGE;
}

static int check_prompt(const cli_options *options) {
    if (!options->prompt || !options->prompt_file)
        return EXIT_OK;
    print_error("--prompt and --prompt-file are two prompts: choose");
    return EXIT_USAGE;
}

static int print_result(session *s, const sink *out, const mezzo_sample_result *r, bool json) {
    char tokens[NUMBER_BYTES], time[NUMBER_BYTES];
    if (json) {
        char *text = NULL;
        mezzo_status status =
            mezzo_sample_json(s->ctx, r, out->text ? out->text : "", out->bytes, &text);
        return print_text(s->ctx, status, text);
    }
    if (out->last != '\n')
        putchar('\n');
    fflush(stdout);
    if (!s->progress.quiet)
        fprintf(stderr, "%s tokens in %s, %.1f tokens/s with the prompt's %lld; ended by %s\n",
                format_count(tokens, (double)r->tokens), format_time(time, r->seconds),
                r->tokens_per_s, (long long)r->prompt_tokens, r->ended_by);
    return EXIT_OK;
}

static int sample(session *s, const cli_options *options, const char *prompt, size_t bytes) {
    const mezzo_sample_config config = {.prompt = prompt,
                                        .prompt_bytes = bytes,
                                        .tokens = options->tokens,
                                        .temperature = options->temperature,
                                        .top_k = (int32_t)options->top_k,
                                        .top_p = options->top_p,
                                        .seed =
                                            (uint64_t)mezzo_config_int(s->config, "train.seed")};
    sink out = {.is_kept = options->json};
    mezzo_sample_result result;
    mezzo_status status =
        mezzo_run_sample(s->runner, s->config, options->weights, &config, on_text, &out, &result);
    int code = report_status(s->ctx, status);
    if (status == MEZZO_OK && out.is_full) {
        print_error("no memory for the text");
        code = EXIT_FAILED;
    } else if (status == MEZZO_OK) {
        code = print_result(s, &out, &result, options->json);
    }
    free(out.text);
    return code;
}

static int sample_file(session *s, const cli_options *options) {
    char *text;
    size_t bytes;
    mezzo_status status = mezzo_text_read(s->ctx, options->prompt_file, &text, &bytes);
    if (status != MEZZO_OK)
        return report_status(s->ctx, status);
    int code = sample(s, options, text, bytes);
    mezzo_text_release(s->ctx, text, bytes);
    return code;
}

static int run(const cli_options *given) {
    char config[PATH_BYTES];
    cli_options options = *given;
    int code = check_prompt(&options);
    if (code == EXIT_OK)
        code = find_run(&options, config);
    if (code != EXIT_OK)
        return code;
    session s;
    const char *prompt = options.prompt ? options.prompt : "";
    code = session_open(&s, &options);
    if (code == EXIT_OK)
        code = options.prompt_file ? sample_file(&s, &options)
                                   : sample(&s, &options, prompt, strlen(prompt));
    session_close(&s);
    return code;
}

const cli_command command_sample = {
    .name = "sample",
    .words = "[CONFIG] --weights PATH",
    .help = "continue a prompt with trained weights",
    .details =
        "Draws tokens from the model of CONFIG with the weights of PATH, and prints their text as\n"
        "it comes; the prompt is not printed.  A run directory alone, as CONFIG or as PATH, gives\n"
        "both.  The same seed, prompt and weights give the same text.  It ends after N tokens,\n"
        "at an <|endoftext|>, or at the end of model.context.  Without a tokenizer, prompt and\n"
        "text are ids with blanks between them.",
    .groups = OPTIONS_CONFIG | OPTIONS_WEIGHTS | OPTIONS_SAMPLE | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
