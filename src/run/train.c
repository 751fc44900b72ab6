/* The training loop: batch, step, metrics, evaluation now and then, state at the end.
 *
 * `train.steps` counts commits.  A skipped step draws its batch and is not repeated, so attempts
 * run ahead of steps; after SKIPS_MAX skips in a row training has failed, and says so. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "observe/run_dir.h"
#include "run/runner.h"
#include "run/watch.h"

/* PyTorch's scale falls from 2^16 to 2^-48 in as many: no gradient can still overflow there. */
enum {
    SKIPS_MAX = 64
};

typedef struct training {
    mzi_experiment e;
    mzi_run_dir *dir;
    mzi_watch watch;
    const mezzo_run_hooks *hooks;
    const char *label;
    mezzo_summary summary;
    mezzo_plan_info plan;
    int64_t *step_ns; /* by attempt, a ring */
    int64_t ring, attempts, skips_in_a_row, last_eval_step;
    int64_t started_ns, train_ns;
    mezzo_progress progress;
    bool stopped;
} training;

enum {
    RING_MAX = 1 << 20
}; /* step times kept for the median */

static mezzo_status event(training *t, const mezzo_step_result *r, const char *kind,
                          const mzi_field *fields, int count) {
    return mzi_run_dir_event(t->dir, r->step, r->attempt, kind, fields, count);
}

static mezzo_status write_plan(training *t) {
    char *text = NULL;
    MZI_TRY(mzi_plan_report(&t->e, true, &text));
    mezzo_status status = mzi_run_dir_write(t->dir, MZI_RUN_PLAN, text);
    mezzo_text_free(t->e.ctx, text);
    MZI_TRY(status);
    MZI_TRY(mezzo_config_dump(t->e.config, false, &text));
    status = mzi_run_dir_write(t->dir, MZI_RUN_CONFIG, text);
    mezzo_text_free(t->e.ctx, text);
    return status;
}

static mezzo_status open_run(training *t) {
    const mezzo_config *c = t->e.config;
    const char *dir = mezzo_config_text(c, "run.dir");
    const mzi_run_dir_config config = {.name = mezzo_config_text(c, "run.name"),
                                       .path = dir[0] ? dir : NULL,
                                       .overwrite = mezzo_config_bool(c, "run.overwrite")};
    MZI_TRY(mzi_run_dir_open(&t->dir, t->e.ctx, &mzi_fs_real, &config));
    mezzo_summary *s = &t->summary;
    mzi_format(s->run_id, sizeof s->run_id, "%s", mzi_run_dir_id(t->dir));
    mzi_format(s->run_dir, sizeof s->run_dir, "%s", mzi_run_dir_path(t->dir));
    return write_plan(t);
}

static mezzo_status prepare(training *t) {
    mezzo_summary *s = &t->summary;
    mzi_metrics *m = &t->e.ctx->metrics;
    MZI_TRY(mezzo_model_plan_info(t->e.model, MEZZO_ENTRY_TRAIN, &t->plan));
    MZI_TRY(mzi_experiment_prepare_average(&t->e));
    MZI_TRY(mzi_experiment_planned_bytes(&t->e, &s->planned_bytes));
    s->precision = t->e.precision;
    s->skipped_steps = mezzo_trainer_get_state(t->e.trainer).skipped;
    s->overflow_events = t->e.overflow_events;
    s->fallback_kernels = t->plan.fallback_count;
    s->seed = (uint64_t)mezzo_config_int(t->e.config, "train.seed");
    mzi_format(s->plan_hash, sizeof s->plan_hash, "%s", t->plan.numerics_hash);
    mzi_format(s->status, sizeof s->status, "failed");
    mzi_metric_set(m, MZI_METRIC_planned_bytes, (double)s->planned_bytes);
    mzi_metric_set(m, MZI_METRIC_fallback_kernels, (double)s->fallback_kernels);
    mzi_metric_set(m, MZI_METRIC_overflow_events, (double)t->e.overflow_events);
    mzi_metric_set(m, MZI_METRIC_data_wait_ns, 0.0);
    t->ring = t->e.steps + SKIPS_MAX < RING_MAX ? t->e.steps + SKIPS_MAX : RING_MAX;
    t->step_ns = mzi_alloc(t->e.ctx, (size_t)t->ring * sizeof *t->step_ns);
    if (!t->step_ns)
        return mzi_out_of_memory(t->e.ctx, (size_t)t->ring * sizeof *t->step_ns, "step times");
    if (t->plan.fallback_count)
        mzi_log(t->e.ctx, MEZZO_LOG_WARNING,
                "%d kernels do not compute in the type asked for; `mezzo plan` says which and why",
                t->plan.fallback_count);
    return MEZZO_OK;
}

static mezzo_status note_skip(training *t, const mezzo_step_result *r) {
    const char *reason = mezzo_skip_reason_name(r->reason);
    const mzi_field fields[] = {{"reason", reason, 0.0},
                                {"where", r->where ? r->where : "", 0.0},
                                {"micro_batch", NULL, (double)r->micro_batch},
                                {"loss", NULL, r->loss},
                                {"loss_scale", NULL, (double)r->loss_scale}};
    MZI_TRY(event(t, r, "skip", fields, 5));
    if (++t->skips_in_a_row < SKIPS_MAX)
        return MEZZO_OK;
    MZI_FAIL(t->e.ctx, MEZZO_NUMERICS,
             "%d steps in a row were skipped (last: %s%s%s, loss %g, loss scale %g): nothing is "
             "learned; look for NaN in the data, lower optimizer.lr, or set precision.compute to "
             "bf16 or f32",
             (int)SKIPS_MAX, reason, r->where ? " of " : "", r->where ? r->where : "", r->loss,
             (double)r->loss_scale);
}

static mezzo_status note_salvage(training *t, const mezzo_step_result *r) {
    const mzi_field fields[] = {{"reason", mezzo_skip_reason_name(r->reason), 0.0},
                                {"where", r->where ? r->where : "", 0.0},
                                {"micro_batch", NULL, (double)r->micro_batch},
                                {"dropped", NULL, (double)r->dropped}};
    return event(t, r, "salvage", fields, 4);
}

static mezzo_status note_scale(training *t, const mezzo_step_result *r) {
    double scale = mezzo_trainer_get_state(t->e.trainer).scaler.scale;
    if (scale == (double)r->loss_scale)
        return MEZZO_OK;
    const mzi_field fields[] = {{"from", NULL, (double)r->loss_scale}, {"to", NULL, scale}};
    return event(t, r, "scale", fields, 2);
}

static void note_progress(training *t, const mezzo_step_result *r) {
    mezzo_progress *p = &t->progress;
    double seconds = (double)t->train_ns * 1e-9;
    double samples = (double)(t->attempts * t->e.data.step_batch); /* of this run */
    p->label = t->label;
    p->step = r->step;
    p->steps = t->e.steps;
    p->epoch = (double)t->e.samples / (double)t->e.data.train_count;
    p->loss = r->loss;
    p->lr = r->lr;
    p->grad_norm = r->grad_norm;
    p->loss_scale = r->loss_scale;
    p->skipped = t->summary.skipped_steps;
    p->samples_per_s = seconds > 0.0 ? samples / seconds : 0.0;
    p->seconds_left =
        t->attempts ? seconds / (double)t->attempts * (double)(t->e.steps - r->step) : 0.0;
    if (t->hooks && t->hooks->progress)
        t->hooks->progress(t->hooks->user, p);
}

static mezzo_status evaluate(training *t, const mezzo_step_result *r) {
    mezzo_summary *s = &t->summary;
    mzi_metrics *m = &t->e.ctx->metrics;
    MZI_TRY(mzi_experiment_summarise(&t->e, s));
    MZI_TRY(mzi_experiment_summarise_average(&t->e, s));
    mzi_metric_set(m, MZI_METRIC_peak_rss_bytes, (double)mzi_memory_resident_max());
    mzi_metric_set(m, MZI_METRIC_eval_loss, s->eval_loss);
    mzi_metric_set(m, MZI_METRIC_eval_value, s->eval_value);
    if (s->has_average) {
        mzi_metric_set(m, MZI_METRIC_ema_eval_loss, s->ema_eval_loss);
        mzi_metric_set(m, MZI_METRIC_ema_eval_value, s->ema_eval_value);
    }
    t->last_eval_step = r->step;
    const mzi_field fields[] = {{"eval_loss", NULL, s->eval_loss},
                                {s->eval_metric, NULL, s->eval_value},
                                {"ema_eval_loss", NULL, s->ema_eval_loss},
                                {"ema_eval_value", NULL, s->ema_eval_value}};
    MZI_TRY(event(t, r, "eval", fields, s->has_average ? 4 : 2));
    if (t->hooks && t->hooks->evaluated)
        t->hooks->evaluated(t->hooks->user, &t->progress, s);
    return MEZZO_OK;
}

/* At every train.eval_every commits; else where an epoch ends. */
static bool evaluation_is_due(const training *t, const mezzo_step_result *r) {
    int64_t every = mezzo_config_int(t->e.config, "train.eval_every");
    if (r->skipped || r->step == t->last_eval_step || r->step >= t->e.steps)
        return false;
    if (every > 0)
        return r->step % every == 0;
    int64_t batch = t->e.data.step_batch, count = t->e.data.train_count;
    return t->e.samples / count > (t->e.samples - batch) / count;
}

static mezzo_status note_tensors(training *t, const mezzo_step_result *r) {
    for (int k = 0; k < mezzo_trainer_meter_count(t->e.trainer); k++) {
        mezzo_meter m = mezzo_trainer_meter(t->e.trainer, k);
        const mzi_field fields[] = {{"name", m.name, 0.0},
                                    {"pass", m.is_gradient ? "backward" : "forward", 0.0},
                                    {"type", mezzo_dtype_name(m.dtype), 0.0},
                                    {"max", NULL, m.max},
                                    {"underflow", NULL, m.underflow},
                                    {"overflow", NULL, m.overflow},
                                    {"zeros", NULL, m.zeros}};
        MZI_TRY(mzi_run_dir_tensor(t->dir, r->step, r->attempt, fields, 7));
    }
    return MEZZO_OK;
}

static bool meters_are_due(const training *t, const mezzo_step_result *r) {
    int64_t every = mezzo_config_int(t->e.config, "train.meter_every");
    return r->measured && every > 0 && (r->step + r->skipped) % every == 0;
}

static mezzo_status one_step(training *t, mezzo_step_result *r) {
    const mzi_dataset *data = &t->e.data;
    int64_t begin = mzi_clock_ns();
    mzi_feed feed;
    MZI_TRY(mzi_dataset_next_step(&t->e.data, &feed));
    mzi_watch_feed(&t->watch, &feed);
    MZI_TRY(mezzo_trainer_step(t->e.trainer, feed.inputs, 2, r));
    int64_t ns = mzi_clock_ns() - begin;
    t->step_ns[t->attempts++ % t->ring] = ns;
    t->train_ns += ns;
    t->e.samples += data->step_batch;
    mzi_metrics *m = &t->e.ctx->metrics;
    mzi_metric_set(m, MZI_METRIC_step_ns, (double)ns);
    mzi_metric_set(m, MZI_METRIC_samples_per_s, (double)data->step_batch / ((double)ns * 1e-9));
    mzi_metric_set(m, MZI_METRIC_epoch, (double)t->e.samples / (double)data->train_count);
    if (t->attempts == 1)
        t->summary.loss_first = r->loss;
    t->summary.loss_last = r->loss;
    t->summary.skipped_steps += r->skipped;
    t->e.overflow_events += r->skipped && r->reason == MEZZO_SKIP_GRADIENT;
    t->summary.overflow_events = t->e.overflow_events;
    return MEZZO_OK;
}

static mezzo_status note_continue(training *t, const mezzo_step_result *r) {
    const mzi_field fields[] = {{"run", mezzo_config_text(t->e.config, "train.continue"), 0.0}};
    return event(t, r, "continue", fields, 1);
}

static mezzo_status note_slow(training *t, const mezzo_step_result *r) {
    for (int k = 0; k < mezzo_model_slow_count(t->e.model); k++) {
        mezzo_slow_layer layer = mezzo_model_slow_at(t->e.model, k);
        const mzi_field fields[] = {{"layer", layer.name, 0.0},
                                    {"bf16_us", NULL, layer.bf16_us},
                                    {"f32_us", NULL, layer.f32_us}};
        MZI_TRY(event(t, r, "speed", fields, 3));
    }
    return MEZZO_OK;
}

static mezzo_status loop(training *t) {
    const mezzo_trainer_state from = mezzo_trainer_get_state(t->e.trainer);
    mezzo_step_result r = {.step = from.step, .attempt = from.attempt};
    MZI_TRY(note_slow(t, &r));
    if (from.attempt > 0)
        MZI_TRY(note_continue(t, &r));
    t->progress = (mezzo_progress){.label = t->label, .step = r.step, .steps = t->e.steps};
    t->summary.start_ms = (double)(mzi_clock_ns() - t->started_ns) * 1e-6;
    while (r.step < t->e.steps && !t->stopped) {
        MZI_TRY(one_step(t, &r));
        note_progress(t, &r);
        MZI_TRY(mzi_run_dir_metrics(t->dir, &t->e.ctx->metrics));
        MZI_TRY(note_scale(t, &r));
        MZI_TRY(mzi_watch_step(&t->watch, t->dir, &r));
        if (r.skipped)
            MZI_TRY(note_skip(t, &r));
        else
            t->skips_in_a_row = 0;
        if (r.dropped)
            MZI_TRY(note_salvage(t, &r));
        if (meters_are_due(t, &r))
            MZI_TRY(note_tensors(t, &r));
        if (evaluation_is_due(t, &r))
            MZI_TRY(evaluate(t, &r));
        t->stopped = t->hooks && t->hooks->stop && t->hooks->stop(t->hooks->user);
    }
    if (r.step != t->last_eval_step && !t->stopped)
        MZI_TRY(evaluate(t, &r));
    return MEZZO_OK;
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* State and summary: of a run that failed numerically too, whose state is as its last commit left
 * it. */
static mezzo_status finish(training *t, const char *how) {
    mezzo_summary *s = &t->summary;
    char folder[1200], *text = NULL;
    int64_t kept = t->attempts < t->ring ? t->attempts : t->ring;
    if (kept > 0) {
        qsort(t->step_ns, (size_t)kept, sizeof *t->step_ns, by_value);
        int64_t middle = kept / 2;
        s->step_ms_median = (double)t->step_ns[middle] * 1e-6;
    }
    mezzo_trainer_state state = mezzo_trainer_get_state(t->e.trainer);
    s->steps = state.step;
    s->loss_scale_last = (float)state.scaler.scale;
    s->train_s = (double)t->train_ns * 1e-9;
    s->samples_per_s =
        t->train_ns > 0 ? (double)(t->attempts * t->e.data.step_batch) / s->train_s : 0.0;
    if (t->e.data.kind == MEZZO_DATA_TOKENS)
        s->tokens_per_s = s->samples_per_s * (double)mzi_dataset_rows(&t->e.data);
    mzi_format(folder, sizeof folder, "%s/" MZI_RUN_FINAL, s->run_dir);
    MZI_TRY(mzi_experiment_save(&t->e, folder, s->plan_hash));
    MZI_TRY(mzi_run_dir_event(t->dir, state.step, state.attempt, "save", NULL, 0));
    mzi_format(s->status, sizeof s->status, "%s", how);
    s->peak_rss_bytes = mzi_memory_resident_max();
    s->wall_s = (double)(mzi_clock_ns() - t->started_ns) * 1e-9;
    MZI_TRY(mezzo_summary_json(t->e.ctx, s, &text));
    mezzo_status status = mzi_run_dir_write(t->dir, MZI_RUN_SUMMARY, text);
    mezzo_text_free(t->e.ctx, text);
    return status;
}

static mezzo_status run(training *t, mezzo_runner *runner, const mezzo_config *config) {
    MZI_TRY(mzi_experiment_create(&t->e, runner, config, NULL));
    MZI_TRY(mzi_experiment_start(&t->e));
    MZI_TRY(prepare(t));
    mzi_watch_init(&t->watch, &t->e);
    MZI_TRY(open_run(t));
    mezzo_status status = loop(t);
    if (status == MEZZO_NUMERICS) {
        const mezzo_error why = t->e.ctx->error; /* finishing makes public calls, which clear it */
        MZI_TRY(finish(t, "failed"));
        t->e.ctx->error = why;
    }
    MZI_TRY(status);
    MZI_TRY(finish(t, t->stopped ? "stopped" : "completed"));
    if (t->stopped)
        MZI_FAIL(t->e.ctx, MEZZO_INTERRUPTED, "stopped at step %lld of %lld; the state is in %s",
                 (long long)t->summary.steps, (long long)t->e.steps, t->summary.run_dir);
    return MEZZO_OK;
}

mezzo_status mzi_run_train_as(mezzo_runner *runner, const mezzo_config *config, const char *label,
                              const mezzo_run_hooks *hooks, mezzo_summary *out) {
    training t = {.hooks = hooks, .label = label, .last_eval_step = -1};
    mzi_memory_resident_reset();
    t.started_ns = mzi_clock_ns();
    mezzo_status status = run(&t, runner, config);
    if (status == MEZZO_OK || status == MEZZO_INTERRUPTED)
        *out = t.summary;
    mzi_run_dir_close(t.dir);
    mzi_free(runner->ctx, t.step_ns, (size_t)t.ring * sizeof *t.step_ns);
    mzi_experiment_destroy(&t.e);
    return status;
}

mezzo_status mezzo_run_train(mezzo_runner *runner, const mezzo_config *config,
                             const mezzo_run_hooks *hooks, mezzo_summary *out) {
    mzi_error_clear(runner->ctx);
    return mzi_run_train_as(runner, config, mezzo_config_text(config, "precision.compute"), hooks,
                            out);
}
