#include "run/runner.h"

#include <string.h>

mezzo_status mezzo_runner_create(mezzo_runner **out, mezzo_ctx *ctx) {
    mzi_error_clear(ctx);
    mezzo_runner *runner = mzi_alloc(ctx, sizeof *runner);
    if (!runner)
        return mzi_out_of_memory(ctx, sizeof *runner, "a runner");
    runner->ctx = ctx;
    *out = runner;
    return MEZZO_OK;
}

void mezzo_runner_destroy(mezzo_runner *runner) {
    if (runner)
        mzi_free(runner->ctx, runner, sizeof *runner);
}

mezzo_status mezzo_runner_add_kind(mezzo_runner *runner, const mezzo_model_kind *kind) {
    mzi_error_clear(runner->ctx);
    if (!kind->name || !kind->build)
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT, "a model kind needs a name and a build");
    for (int k = 0; k < runner->kind_count; k++)
        if (strcmp(runner->kinds[k].name, kind->name) == 0)
            MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT, "model kind \"%s\" is there already",
                     kind->name);
    if (runner->kind_count == MZI_KIND_MAX)
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT, "model kind \"%s\": there are %d already",
                 kind->name, (int)MZI_KIND_MAX);
    runner->kinds[runner->kind_count++] = *kind;
    return MEZZO_OK;
}

mezzo_status mzi_runner_kind(const mezzo_runner *runner, const mezzo_config *config,
                             const mezzo_model_kind **out) {
    const char *name = mezzo_config_text(config, "model.kind");
    char known[256] = "";
    size_t used = 0;
    for (int k = 0; k < runner->kind_count; k++) {
        if (strcmp(runner->kinds[k].name, name) == 0) {
            *out = &runner->kinds[k];
            return MEZZO_OK;
        }
        used += mzi_format(known + used, sizeof known - used, "%s%s", k ? ", " : "",
                           runner->kinds[k].name);
    }
    MZI_FAIL(runner->ctx, MEZZO_CONFIG, "%s: model.kind: unknown kind \"%s\"; there are: %s",
             mezzo_config_origin(config, "model.kind"), name, known);
}
