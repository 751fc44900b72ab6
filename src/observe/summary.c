/* A run's summary as one line of JSON. */
#include "base/ctx.h"
#include "base/json.h"
#include "mezzo/run.h"

static void put_text(mzi_json *json, const char *key, const char *value) {
    mzi_json_key(json, key);
    mzi_json_string(json, value);
}
static void put_integer(mzi_json *json, const char *key, int64_t value) {
    mzi_json_key(json, key);
    mzi_json_integer(json, value);
}
static void put_natural(mzi_json *json, const char *key, uint64_t value) {
    mzi_json_key(json, key);
    mzi_json_natural(json, value);
}
static void put_real(mzi_json *json, const char *key, double value) {
    mzi_json_key(json, key);
    mzi_json_real(json, value);
}

/* What was not evaluated is null, and not a 0 that looks like a result. */
static void put_evaluation(mzi_json *json, const mezzo_summary *s) {
    if (s->eval_metric[0] == '\0') {
        mzi_json_raw(json, ",\"eval_metric\":null,\"eval_value\":null,\"eval_loss\":null");
        return;
    }
    put_text(json, "eval_metric", s->eval_metric);
    put_real(json, "eval_value", s->eval_value);
    put_real(json, "eval_loss", s->eval_loss);
}

static void put_summary(mzi_json *json, const mezzo_summary *s) {
    mzi_json_raw(json, "{");
    put_text(json, "run_id", s->run_id);
    put_text(json, "run_dir", s->run_dir);
    put_text(json, "precision", mezzo_dtype_name(s->precision));
    put_text(json, "status", s->status);
    put_integer(json, "steps", s->steps);
    put_integer(json, "skipped_steps", s->skipped_steps);
    put_real(json, "loss_first", s->loss_first);
    put_real(json, "loss_last", s->loss_last);
    put_evaluation(json, s);
    if (s->has_average) {
        put_real(json, "ema_eval_value", s->ema_eval_value);
        put_real(json, "ema_eval_loss", s->ema_eval_loss);
    }
    put_real(json, "start_ms", s->start_ms);
    put_real(json, "step_ms_median", s->step_ms_median);
    put_real(json, "samples_per_s", s->samples_per_s);
    if (s->tokens_per_s > 0.0)
        put_real(json, "tokens_per_s", s->tokens_per_s);
    put_natural(json, "peak_rss_bytes", s->peak_rss_bytes);
    put_natural(json, "planned_bytes", s->planned_bytes);
    put_real(json, "loss_scale_last", (double)s->loss_scale_last);
    put_integer(json, "overflow_events", s->overflow_events);
    put_integer(json, "fallback_kernels", s->fallback_kernels);
    put_real(json, "wall_s", s->wall_s);
    put_real(json, "train_s", s->train_s);
    put_text(json, "plan_hash", s->plan_hash);
    put_natural(json, "seed", s->seed);
    mzi_json_raw(json, "}");
}

mezzo_status mezzo_summary_json(mezzo_ctx *ctx, const mezzo_summary *summary, char **out) {
    mzi_error_clear(ctx);
    mzi_json measure = {NULL, 0, 0, 0};
    put_summary(&measure, summary);
    char *text = mzi_alloc(ctx, measure.size + 1); /* zeroed, so it ends with a NUL */
    if (!text)
        return mzi_out_of_memory(ctx, measure.size + 1, "a summary");
    mzi_json json = {text, measure.size, 0, 0};
    put_summary(&json, summary);
    *out = text;
    return MEZZO_OK;
}
