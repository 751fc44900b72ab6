/* mezzo export: trained weights in Hugging Face's format. */
#include <stdio.h>

#include "result.h"
#include "session.h"

static int fail_usage(const char *message) {
    print_error("%s", message);
    fprintf(stderr, "`mezzo help export` lists what it takes\n");
    return EXIT_USAGE;
}

static int export_weights(const session *s, const cli_options *options, mezzo_dtype dtype) {
    int code = report_status(
        s->ctx, mezzo_run_export(s->runner, s->config, options->weights, options->out, dtype));
    if (code == EXIT_OK)
        printf("%s/model.safetensors and %s/config.json are written, in %s\n", options->out,
               options->out, precision_label(dtype));
    return code;
}

static int run(const cli_options *options) {
    mezzo_dtype dtype = options->dtype ? mezzo_dtype_from_name(options->dtype) : MEZZO_F32;
    if (!options->weights)
        return fail_usage("export needs --weights PATH: a safetensors file, or a run directory");
    if (!options->out || options->out[0] == '\0')
        return fail_usage("export needs --out DIR: the directory to write");
    if (dtype != MEZZO_F32 && dtype != MEZZO_BF16 && dtype != MEZZO_F16)
        return fail_usage("--dtype: expected f32, bf16 or f16");
    session s;
    int code = session_open(&s, options);
    if (code == EXIT_OK)
        code = export_weights(&s, options, dtype);
    session_close(&s);
    return code;
}

const cli_command command_export = {
    .name = "export",
    .words = "[CONFIG] --weights PATH --out DIR",
    .help = "write trained weights in Hugging Face's format",
    .details =
        "Writes DIR/model.safetensors and DIR/config.json, which transformers' from_pretrained\n"
        "loads, from the weights of a model that CONFIG describes (of a run: its config.yaml).",
    .groups = OPTIONS_CONFIG | OPTIONS_WEIGHTS | OPTIONS_FOLDER | OPTIONS_DTYPE,
    .words_max = 1,
    .run = run,
};
