#include "session.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "term.h"

enum {
    PATH_BYTES = 4096,
    NAME_BYTES = 64
};

int report_status(const mezzo_ctx *ctx, mezzo_status status) {
    static const int codes[] = {
        [MEZZO_OK] = EXIT_OK,
        [MEZZO_FAILURE] = EXIT_FAILED,
        [MEZZO_INVALID_ARGUMENT] = EXIT_FAILED,
        [MEZZO_OUT_OF_MEMORY] = EXIT_FAILED,
        [MEZZO_IO] = EXIT_FAILED,
        [MEZZO_BUSY] = EXIT_FAILED,
        [MEZZO_CONFIG] = EXIT_CONFIG,
        [MEZZO_DATA] = EXIT_DATA,
        [MEZZO_UNSUPPORTED] = EXIT_CONFIG,
        [MEZZO_NUMERICS] = EXIT_NUMERICS,
        [MEZZO_DOWNGRADE] = EXIT_DOWNGRADE,
        [MEZZO_INTERRUPTED] = EXIT_STOPPED,
    };
    if (status != MEZZO_OK && status != MEZZO_INTERRUPTED) {
        const mezzo_error *error = mezzo_ctx_error(ctx);
        print_error("%s", error->text[0] != '\0' ? error->text : mezzo_status_text(status));
    }
    return codes[status];
}

/* "runs" of one configuration share a name: "examples/fashion-cnn.yaml" gives "fashion-cnn". */
static mezzo_status set_name(mezzo_config *config, const char *path) {
    char text[NAME_BYTES] = "run.name=";
    size_t used = strlen(text), start = used;
    const char *slash = strrchr(path, '/');
    for (const char *c = slash ? slash + 1 : path; *c != '\0' && used + 1 < sizeof text; c++)
        text[used++] = isalnum((unsigned char)*c) || strchr("_.-", *c) ? *c : '-';
    text[used] = '\0';
    char *dot = strrchr(text + start, '.');
    if (dot)
        *dot = '\0';
    if (text[start] == '\0' || text[start] == '.')
        return MEZZO_OK;
    return mezzo_config_set(config, text, path);
}

static mezzo_status load_user_file(mezzo_config *config) {
    char path[PATH_BYTES];
    const char *base = getenv("XDG_CONFIG_HOME"), *below = "";
    if (!base || base[0] != '/') { /* a relative one does not count, says the specification */
        base = getenv("HOME");
        below = "/.config";
    }
    if (!base || base[0] == '\0')
        return MEZZO_OK;
    int bytes = snprintf(path, sizeof path, "%s%s/mezzo/config.yaml", base, below);
    if (bytes < 0 || (size_t)bytes >= sizeof path || access(path, F_OK) != 0)
        return MEZZO_OK;
    return mezzo_config_load(config, path);
}

static mezzo_status fill(mezzo_config *config, const cli_options *options, const char *path,
                         bool with_assignments) {
    mezzo_status status = path ? set_name(config, path) : MEZZO_OK;
    if (status == MEZZO_OK)
        status = load_user_file(config);
    if (status == MEZZO_OK && path)
        status = mezzo_config_load(config, path);
    if (status == MEZZO_OK)
        status = mezzo_config_set_environment(config, (const char *const *)environ);
    for (int i = 0; with_assignments && status == MEZZO_OK && i < options->assignment_count; i++)
        status =
            mezzo_config_set(config, options->assignments[i].text, options->assignments[i].origin);
    return status == MEZZO_OK ? mezzo_config_check(config) : status;
}

mezzo_status load_config(mezzo_config **out, mezzo_ctx *ctx, const cli_options *options,
                         const char *path, bool with_assignments) {
    mezzo_config *config;
    mezzo_status status = mezzo_config_create(&config, ctx);
    if (status != MEZZO_OK)
        return status;
    status = fill(config, options, path, with_assignments);
    if (status != MEZZO_OK)
        mezzo_config_destroy(config);
    else
        *out = config;
    return status;
}

static mezzo_isa isa_of(const char *name) {
    mezzo_isa isa = MEZZO_ISA_AVX512_BF16;
    while (isa > MEZZO_ISA_AUTO && strcmp(mezzo_isa_name(isa), name) != 0)
        isa--;
    return isa;
}

int create_ctx(mezzo_ctx **out, const mezzo_ctx_config *wanted) {
    mezzo_error error;
    mezzo_status status = mezzo_ctx_create(out, wanted, &error);
    if (status == MEZZO_OK)
        return EXIT_OK;
    print_error("%s", error.text);
    return status == MEZZO_UNSUPPORTED ? EXIT_CONFIG : EXIT_FAILED;
}

int create_small_ctx(mezzo_ctx **out, const cli_options *options, progress *log) {
    progress_init(log, options->quiet, options->verbose);
    const mezzo_ctx_config small = {
        .threads = 1, .isa = MEZZO_ISA_REF, .log = progress_log, .log_user = log};
    return create_ctx(out, &small);
}

/* A context needs to know threads and instruction set, which are in the configuration, which needs
 * a context: a small, silent one reads it first. */
static int read_ctx_config(const cli_options *options, const char *path, mezzo_ctx_config *out) {
    mezzo_ctx *ctx = NULL;
    mezzo_config *config = NULL;
    const mezzo_ctx_config small = {.threads = 1, .isa = MEZZO_ISA_REF};
    int code = create_ctx(&ctx, &small);
    if (code == EXIT_OK)
        code = report_status(ctx, load_config(&config, ctx, options, path, true));
    if (code == EXIT_OK) {
        out->threads = (int)mezzo_config_int(config, "train.threads");
        out->isa = isa_of(mezzo_config_text(config, "train.isa"));
    }
    mezzo_config_destroy(config);
    mezzo_ctx_destroy(ctx);
    return code;
}

int session_open(session *s, const cli_options *options) {
    *s = (session){.ctx = NULL};
    progress_init(&s->progress, options->quiet, options->verbose);
    const char *path = options->words[0];
    mezzo_ctx_config wanted = {.log = progress_log, .log_user = &s->progress};
    int code = read_ctx_config(options, path, &wanted);
    if (code == EXIT_OK)
        code = create_ctx(&s->ctx, &wanted);
    if (code != EXIT_OK)
        return code;
    mezzo_status status = load_config(&s->config, s->ctx, options, path, true);
    if (status == MEZZO_OK)
        status = mezzo_runner_create(&s->runner, s->ctx);
    if (status == MEZZO_OK)
        status = mezzo_models_register(s->runner);
    return report_status(s->ctx, status);
}

void session_close(session *s) {
    mezzo_runner_destroy(s->runner);
    mezzo_config_destroy(s->config);
    mezzo_ctx_destroy(s->ctx);
}
