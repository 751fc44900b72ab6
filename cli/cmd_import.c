/* mezzo import: a model in Hugging Face's format as a run directory. */
#include <stdio.h>

#include "session.h"

static int fail_usage(const char *message) {
    print_error("%s", message);
    fprintf(stderr, "`mezzo help import` lists what it takes\n");
    return EXIT_USAGE;
}

static int import_model(mezzo_ctx *ctx, const char *path, const char *folder) {
    mezzo_runner *runner = NULL;
    mezzo_status status = mezzo_runner_create(&runner, ctx);
    if (status == MEZZO_OK)
        status = mezzo_models_register(runner);
    if (status == MEZZO_OK)
        status = mezzo_run_import(runner, path, folder);
    mezzo_runner_destroy(runner);
    int code = report_status(ctx, status);
    if (code == EXIT_OK)
        printf("%s is a run directory with the weights of %s; to train on:\n"
               "  mezzo train %s/config.yaml --weights %s --set data.path=FILE\n",
               folder, path, folder, folder);
    return code;
}

static int run(const cli_options *options) {
    if (!options->words[0])
        return fail_usage("import needs PATH: a directory with model.safetensors and config.json");
    if (!options->out || options->out[0] == '\0')
        return fail_usage("import needs --out DIR: the run directory to make");
    progress log;
    mezzo_ctx *ctx;
    int code = create_small_ctx(&ctx, options, &log);
    if (code != EXIT_OK)
        return code;
    code = import_model(ctx, options->words[0], options->out);
    mezzo_ctx_destroy(ctx);
    return code;
}

const cli_command command_import = {
    .name = "import",
    .words = "PATH --out DIR",
    .help = "take over a model from Hugging Face's format",
    .details =
        "PATH is a directory with config.json and model.safetensors (or its shards and their\n"
        "index), or that file.  DIR becomes a run directory: config.yaml with the sizes of\n"
        "the model, and FP32 masters for train --weights, eval and export.",
    .groups = OPTIONS_FOLDER,
    .words_max = 1,
    .run = run,
};
