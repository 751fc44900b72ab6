/* FP32 against the configured type: same model, data, seeds and code; only the type differs. */
#include <stdio.h>
#include <time.h>

#include "run/runner.h"

/* "fp32" and "fp16" are what people say; "bf16" is. */
static const char *spoken(mezzo_dtype dtype) {
    return dtype == MEZZO_F32 ? "fp32" : dtype == MEZZO_F16 ? "fp16" : mezzo_dtype_name(dtype);
}

static mezzo_status assign(mezzo_config *config, const char *format, ...) MEZZO_PRINTF(2, 3);
static mezzo_status assign(mezzo_config *config, const char *format, ...) {
    char text[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return mezzo_config_set(config, text, "compare");
}

typedef struct plan_of_runs {
    mezzo_runner *runner;
    const mezzo_config *config;
    const mezzo_run_hooks *hooks;
    char dir[900];
} plan_of_runs;

static mezzo_status configure(mezzo_config *config, mezzo_dtype dtype, int64_t seed,
                              const char *dir) {
    MZI_TRY(assign(config, "precision.compute=%s", mezzo_dtype_name(dtype)));
    MZI_TRY(assign(config, "train.seed=%lld", (long long)seed));
    if (dtype == MEZZO_F32) /* the reference is FP32 throughout */
        MZI_TRY(assign(config, "precision.overrides=[]"));
    return assign(config, "run.dir=\"%s\"", dir);
}

static mezzo_status one(const plan_of_runs *p, mezzo_dtype dtype, int index, mezzo_summary *out) {
    mezzo_config *config;
    char dir[1000], label[40];
    int64_t seed = mezzo_config_int(p->config, "train.seed") + index;
    mzi_format(label, sizeof label, index ? "%s seed %lld" : "%s", spoken(dtype), (long long)seed);
    mzi_format(dir, sizeof dir, index ? "%s/%s-seed%d" : "%s/%s", p->dir, spoken(dtype), index + 1);
    MZI_TRY(mezzo_config_copy(&config, p->config));
    mezzo_status status = configure(config, dtype, seed, dir);
    if (status == MEZZO_OK)
        status = mzi_run_train_as(p->runner, config, label, p->hooks, out);
    mezzo_config_destroy(config);
    return status;
}

static void choose_dir(plan_of_runs *p) {
    const char *dir = mezzo_config_text(p->config, "run.dir");
    if (dir[0]) {
        mzi_format(p->dir, sizeof p->dir, "%s", dir);
        return;
    }
    time_t now = time(NULL);
    struct tm utc;
    char stamp[32];
    gmtime_r(&now, &utc);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &utc);
    mzi_format(p->dir, sizeof p->dir, "runs/%s-compare-%s",
               mezzo_config_text(p->config, "run.name"), stamp);
}

mezzo_status mezzo_run_compare(mezzo_runner *runner, const mezzo_config *config,
                               const mezzo_run_hooks *hooks, int seeds, mezzo_summary *fp32,
                               mezzo_summary *candidate) {
    mzi_error_clear(runner->ctx);
    mezzo_dtype dtype = mezzo_dtype_from_name(mezzo_config_text(config, "precision.compute"));
    if (seeds < 1 || seeds > 1000)
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT, "%d seeds; 1 to 1000", seeds);
    if (dtype == MEZZO_F32)
        MZI_FAIL(runner->ctx, MEZZO_CONFIG,
                 "%s: precision.compute is f32: there is nothing to compare it with; set bf16 or "
                 "f16",
                 mezzo_config_origin(config, "precision.compute"));
    plan_of_runs p = {.runner = runner, .config = config, .hooks = hooks};
    choose_dir(&p);
    for (int k = 0; k < seeds; k++) {
        MZI_TRY(one(&p, MEZZO_F32, k, &fp32[k]));
        MZI_TRY(one(&p, dtype, k, &candidate[k]));
    }
    return MEZZO_OK;
}
