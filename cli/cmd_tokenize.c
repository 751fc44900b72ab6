/* mezzo tokenize: text into tokens, with a tokenizer that is given or learned from it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mezzo/tokenizer.h>
#include <mezzo/tokens.h>

#include "result.h"
#include "session.h"

enum {
    FIRST_IDS = 16
};

typedef struct tokenizing {
    const cli_options *options;
    mezzo_ctx *ctx;
    char *text;
    size_t bytes;
    mezzo_tokenizer *tokenizer;
    int32_t *ids;
    size_t count;
    double train_s, encode_s;
} tokenizing;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int read_all(tokenizing *k, FILE *file, const char *path) {
    size_t capacity = 0;
    for (;;) {
        if (k->bytes == capacity) {
            capacity = capacity ? 2 * capacity : (size_t)1 << 16;
            char *larger = realloc(k->text, capacity);
            if (!larger) {
                print_error("no memory for %s: %zu bytes read so far", path, k->bytes);
                return EXIT_FAILED;
            }
            k->text = larger;
        }
        size_t got = fread(k->text + k->bytes, 1, capacity - k->bytes, file);
        k->bytes += got;
        if (got == 0)
            break;
    }
    if (ferror(file)) {
        print_error("cannot read %s to its end", path);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

static int read_text(tokenizing *k) {
    const char *path = k->options->words[0];
    if (strcmp(path, "-") == 0)
        return read_all(k, stdin, "the standard input");
    FILE *file = fopen(path, "rb");
    if (!file) {
        print_error("cannot open '%s': check the path", path);
        return EXIT_FAILED;
    }
    int code = read_all(k, file, path);
    fclose(file);
    return code;
}

static int fail_usage(const char *message) {
    print_error("%s", message);
    fprintf(stderr, "`mezzo help tokenize` lists what it takes\n");
    return EXIT_USAGE;
}

/* What --train and --pattern say. */
static int read_train(const cli_options *o, mezzo_tokenizer_train_config *config) {
    const char *pattern = o->pattern ? o->pattern : "gpt2";
    char *end;
    long vocab = strtol(o->train, &end, 10);
    if (end == o->train || *end != '\0' || vocab < 257 || vocab > 1 << 20)
        return fail_usage("--train: expected a vocabulary of 257 (the bytes and <|endoftext|>) to "
                          "1048576");
    if (strcmp(pattern, "gpt2") != 0 && strcmp(pattern, "gpt4") != 0)
        return fail_usage("--pattern: expected gpt2 or gpt4");
    config->vocab = (int32_t)vocab;
    config->pattern = pattern[3] == '4' ? MEZZO_PATTERN_GPT4 : MEZZO_PATTERN_GPT2;
    config->end_of_text = true;
    return EXIT_OK;
}

static int check_options(const cli_options *o, mezzo_tokenizer_train_config *config) {
    if (!o->words[0])
        return fail_usage("tokenize needs FILE, or - for the standard input");
    if (o->train && o->tokenizer)
        return fail_usage("--train makes a tokenizer and --tokenizer gives one: choose");
    if (o->pattern && !o->train)
        return fail_usage("--pattern belongs to --train; a tokenizer's file has its own");
    return o->train ? read_train(o, config) : EXIT_OK;
}

static mezzo_status make_tokenizer(tokenizing *k, const mezzo_tokenizer_train_config *config) {
    const cli_options *o = k->options;
    if (o->train) {
        double start = now_s();
        mezzo_status status =
            mezzo_tokenizer_train(&k->tokenizer, k->ctx, k->text, k->bytes, config);
        k->train_s = now_s() - start;
        return status;
    }
    if (!o->tokenizer || strcmp(o->tokenizer, "bytes") == 0)
        return mezzo_tokenizer_bytes(&k->tokenizer, k->ctx);
    return mezzo_tokenizer_open(&k->tokenizer, k->ctx, o->tokenizer);
}

static mezzo_status write_files(tokenizing *k) {
    const cli_options *o = k->options;
    if (o->save) {
        mezzo_status status = mezzo_tokenizer_save(k->tokenizer, o->save);
        if (status != MEZZO_OK)
            return status;
    }
    if (!o->out)
        return MEZZO_OK;
    return mezzo_tokens_write(k->ctx, o->out, k->ids, (int64_t)k->count,
                              mezzo_tokenizer_vocab(k->tokenizer),
                              mezzo_tokenizer_end_of_text(k->tokenizer), (int64_t)k->bytes);
}

static mezzo_status tokenize(tokenizing *k, const mezzo_tokenizer_train_config *config) {
    mezzo_status status = make_tokenizer(k, config);
    if (status != MEZZO_OK)
        return status;
    double start = now_s();
    status = mezzo_tokenizer_encode(k->tokenizer, k->text, k->bytes, false, &k->ids, &k->count);
    k->encode_s = now_s() - start;
    return status == MEZZO_OK ? write_files(k) : status;
}

static void print_ids(const tokenizing *k, const char *between) {
    for (size_t i = 0; i < k->count && i < FIRST_IDS; i++)
        printf("%s%" PRId32, i > 0 ? between : "", k->ids[i]);
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

static void print_result(const tokenizing *k) {
    const double each = ratio((double)k->bytes, (double)k->count);
    const double speed = ratio((double)k->bytes * 1e-6, k->encode_s);
    const int32_t vocab = mezzo_tokenizer_vocab(k->tokenizer);
    if (k->options->json) {
        printf("{\"bytes\":%zu,\"tokens\":%zu,\"bytes_per_token\":%.6g,\"vocab\":%" PRId32
               ",\"end_of_text\":%" PRId32
               ",\"train_s\":%.6g,\"encode_s\":%.6g,\"mb_per_s\":%.6g,\"first\":[",
               k->bytes, k->count, each, vocab, mezzo_tokenizer_end_of_text(k->tokenizer),
               k->train_s, k->encode_s, speed);
        print_ids(k, ",");
        printf("]}\n");
        return;
    }
    char bytes[NUMBER_BYTES], tokens[NUMBER_BYTES], of[NUMBER_BYTES];
    printf("%s bytes are %s tokens of %s: %.3f bytes a token\n",
           format_count(bytes, (double)k->bytes), format_count(tokens, (double)k->count),
           format_count(of, vocab), each);
    if (k->options->train)
        printf("  learned in %.2f s\n", k->train_s);
    printf("  encoded in %.3f s, %.1f MB/s\n  first: ", k->encode_s, speed);
    print_ids(k, " ");
    printf("\n");
}

static int run(const cli_options *options) {
    mezzo_tokenizer_train_config config = {0};
    int code = check_options(options, &config);
    if (code != EXIT_OK)
        return code;
    progress log;
    tokenizing k = {.options = options};
    code = create_small_ctx(&k.ctx, options, &log);
    if (code != EXIT_OK)
        return code;
    code = read_text(&k);
    if (code == EXIT_OK)
        code = report_status(k.ctx, tokenize(&k, &config));
    if (code == EXIT_OK)
        print_result(&k);
    if (k.tokenizer)
        mezzo_tokenizer_free_ids(k.tokenizer, k.ids, k.count);
    mezzo_tokenizer_destroy(k.tokenizer);
    mezzo_ctx_destroy(k.ctx);
    free(k.text);
    return code;
}

const cli_command command_tokenize = {
    .name = "tokenize",
    .words = "FILE|-",
    .help = "turn text into tokens, or learn a tokenizer from it",
    .details =
        "Reads FILE, or the standard input, and says how many tokens it is and which come first.\n"
        "With --train, byte-level BPE is learned from it: VOCAB counts 256 bytes, the merges\n"
        "and <|endoftext|>.  --save keeps the tokenizer, --out the tokens for training.  Special\n"
        "tokens' names in the text are text like any other.",
    .groups = OPTIONS_TOKENIZE | OPTIONS_JSON,
    .words_max = 1,
    .run = run,
};
