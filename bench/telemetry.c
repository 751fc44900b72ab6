/* What always-on telemetry costs: on and off by turns, step for step in one process.
 *
 *   telemetry CONFIG [--pairs N] [--dir DIR] [--set KEY=VALUE]...
 *
 * On: the clock of every kernel call, the metric slots of the loop, a line of metrics.jsonl, the
 * watch over stalls and plateaus, and tensor meters every METER_EVERY commits.  Off: none of these.
 * A pair is a step with and a step without, in alternating order, so that a drift of the clock rate
 * cancels.  Metered steps are rare by default (train.meter_every): they have a figure of their own,
 * spread over that many steps.  The statistics that decide whether a step commits are part of the
 * step, and so are in both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/host.h"
#include "base/cpu.h"
#include "mezzo/models.h"
#include "observe/run_dir.h"
#include "run/runner.h"
#include "run/watch.h"
#include "train/trainer.h"

enum {
    WARM_UP = 6,
    METER_EVERY = 20, /* of steps with telemetry */
    PAIRS_MAX = 100000
};

typedef struct telemetry {
    mezzo_ctx *ctx;
    mezzo_config *config;
    mezzo_runner *runner;
    mzi_experiment e;
    mzi_run_dir *dir;
    mzi_watch watch;
    int pairs;
    const char *path;
    double *on, *off, *apart, *metered; /* ms; of pairs, and of metered steps */
    int metered_count;
} telemetry;

static mezzo_status write_tensors(telemetry *t, const mezzo_step_result *r) {
    for (int k = 0; k < mezzo_trainer_meter_count(t->e.trainer); k++) {
        mezzo_meter m = mezzo_trainer_meter(t->e.trainer, k);
        const mzi_field fields[] = {{"name", m.name, 0.0},
                                    {"max", NULL, m.max},
                                    {"underflow", NULL, m.underflow},
                                    {"overflow", NULL, m.overflow},
                                    {"zeros", NULL, m.zeros}};
        MZI_TRY(mzi_run_dir_tensor(t->dir, r->step, r->attempt, fields, 5));
    }
    return MEZZO_OK;
}

static mezzo_status record(telemetry *t, const mezzo_step_result *r, int64_t ns) {
    mzi_metrics *m = &t->ctx->metrics;
    mzi_metric_set(m, MZI_METRIC_step_ns, (double)ns);
    mzi_metric_set(m, MZI_METRIC_samples_per_s, (double)t->e.data.step_batch / ((double)ns * 1e-9));
    mzi_metric_set(m, MZI_METRIC_epoch, (double)t->e.samples / (double)t->e.data.train_count);
    MZI_TRY(mzi_run_dir_metrics(t->dir, m));
    MZI_TRY(mzi_watch_step(&t->watch, t->dir, r));
    return r->measured ? write_tensors(t, r) : MEZZO_OK;
}

static mezzo_status step(telemetry *t, bool on, bool meters, double *ms) {
    mezzo_step_result r;
    mzi_feed feed;
    ((mzi_host *)t->e.model->backend)->is_timed = on;
    t->e.trainer->config.meter_every = meters ? 1 : 0;
    int64_t begin = mzi_clock_ns();
    MZI_TRY(mzi_dataset_next_step(&t->e.data, &feed));
    if (on)
        mzi_watch_feed(&t->watch, &feed);
    MZI_TRY(mezzo_trainer_step(t->e.trainer, feed.inputs, 2, &r));
    t->e.samples += t->e.data.step_batch;
    if (on)
        MZI_TRY(record(t, &r, mzi_clock_ns() - begin));
    *ms = (double)(mzi_clock_ns() - begin) * 1e-6;
    return MEZZO_OK;
}

static mezzo_status measure(telemetry *t) {
    double ms;
    for (int k = 0; k < WARM_UP; k++)
        MZI_TRY(step(t, k % 2, false, &ms));
    for (int k = 0; k < t->pairs; k++) {
        for (int half = 0; half < 2; half++) {
            bool on = half != k % 2;
            MZI_TRY(step(t, on, false, on ? &t->on[k] : &t->off[k]));
        }
        t->apart[k] = t->on[k] - t->off[k];
        if (k % METER_EVERY == METER_EVERY - 1)
            MZI_TRY(step(t, true, true, &t->metered[t->metered_count++]));
    }
    return MEZZO_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    return count > 0 ? values[count / 2] : 0.0;
}

static void print(telemetry *t) {
    double off = median(t->off, t->pairs), on = median(t->on, t->pairs);
    double apart = median(t->apart, t->pairs);
    double every = (double)mezzo_config_int(t->config, "train.meter_every");
    double metered = t->metered_count ? median(t->metered, t->metered_count) - on : 0.0;
    printf("{\"pairs\":%d,\"off_ms\":%.6f,\"on_ms\":%.6f,\"apart_ms\":%.6f,\"metered_steps\":%d,"
           "\"metered_extra_ms\":%.6f,\"meter_every\":%.0f,\"share\":%.6f}\n",
           t->pairs, off, on, apart, t->metered_count, metered, every,
           (apart + (every > 0.0 ? metered / every : 0.0)) / off);
}

static mezzo_status run(telemetry *t, int argc, char **argv) {
    MZI_TRY(mezzo_config_create(&t->config, t->ctx));
    MZI_TRY(mezzo_config_load(t->config, argv[1]));
    for (int i = 2; i + 1 < argc; i += 2)
        if (strcmp(argv[i], "--set") == 0)
            MZI_TRY(mezzo_config_set(t->config, argv[i + 1], "--set"));
    MZI_TRY(mezzo_config_check(t->config));
    MZI_TRY(mezzo_runner_create(&t->runner, t->ctx));
    MZI_TRY(mezzo_models_register(t->runner));
    MZI_TRY(mzi_experiment_create(&t->e, t->runner, t->config, NULL));
    const mzi_run_dir_config dir = {.name = "telemetry", .path = t->path, .overwrite = true};
    MZI_TRY(mzi_run_dir_open(&t->dir, t->ctx, &mzi_fs_real, &dir));
    mzi_watch_init(&t->watch, &t->e);
    MZI_TRY(measure(t));
    print(t);
    return MEZZO_OK;
}

int main(int argc, char **argv) {
    telemetry t = {.pairs = 100, .path = "runs/telemetry"};
    bool is_right = argc >= 2 && argc % 2 == 0;
    for (int i = 2; is_right && i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--pairs") == 0)
            t.pairs = (int)strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--dir") == 0)
            t.path = argv[i + 1];
        else
            is_right = strcmp(argv[i], "--set") == 0;
    }
    if (!is_right || t.pairs < 1 || t.pairs > PAIRS_MAX) {
        fprintf(stderr, "usage: telemetry CONFIG [--pairs N] [--dir DIR] [--set KEY=VALUE]...\n");
        return 2;
    }
    mezzo_error error;
    double *times = calloc((size_t)t.pairs * 4, sizeof *times);
    if (!times || mezzo_ctx_create(&t.ctx, NULL, &error) != MEZZO_OK) {
        fprintf(stderr, "telemetry: %s\n", times ? error.text : "no memory");
        free(times);
        return 1;
    }
    t.on = times;
    t.off = times + t.pairs;
    t.apart = times + 2 * t.pairs;
    t.metered = times + 3 * t.pairs;
    mezzo_status status = run(&t, argc, argv);
    if (status != MEZZO_OK)
        fprintf(stderr, "telemetry: %s\n", mezzo_ctx_error(t.ctx)->text);
    mzi_run_dir_close(t.dir);
    mzi_experiment_destroy(&t.e);
    mezzo_runner_destroy(t.runner);
    mezzo_config_destroy(t.config);
    mezzo_ctx_destroy(t.ctx);
    free(times);
    return status != MEZZO_OK;
}
