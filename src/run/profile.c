/* `mezzo profile`: where the time of a step goes, by phase, by kind of operation, by operation.
 *
 * Times are those of the calls, taken on the calling thread; what a step spends outside of them
 * (batch, inputs, decisions) is `other`.  FLOP/s and bytes/s are of useful work: an operation's own
 * count, and each of its operands once. */
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/text.h"
#include "graph/graph.h"
#include "run/report.h"
#include "run/runner.h"

enum {
    WARM_UP = 2,
    TOP = 20 /* single operations in the text */
};

typedef struct line {
    const char *phase, *op, *type, *kernel;
    const char *name; /* of a single operation */
    int count;
    double seconds, flops, bytes; /* a step */
} line;

typedef struct profile {
    mzi_experiment e;
    int steps, op_count;
    double step_seconds, wait_seconds;
    line *ops, *kinds; /* op_count each; the kinds' are used up to kind_count */
    int kind_count;
} profile;

static mezzo_status run_steps(profile *p, int count) {
    for (int k = 0; k < count; k++) {
        mezzo_step_result result;
        mzi_feed feed;
        int64_t begin = mzi_clock_ns();
        MZI_TRY(mzi_dataset_next_step(&p->e.data, &feed));
        p->wait_seconds += (double)(mzi_clock_ns() - begin) * 1e-9;
        MZI_TRY(mezzo_trainer_step(p->e.trainer, feed.inputs, 2, &result));
        p->step_seconds += (double)(mzi_clock_ns() - begin) * 1e-9;
    }
    return MEZZO_OK;
}

/* Add what the operations have taken so far, times `sign`. */
static mezzo_status add_times(profile *p, double sign) {
    for (int k = 0; k < p->op_count; k++) {
        mezzo_plan_op op;
        MZI_TRY(mezzo_model_plan_op(p->e.model, MEZZO_ENTRY_TRAIN, k, &op));
        p->ops[k].seconds += sign * op.seconds / p->steps;
    }
    return MEZZO_OK;
}

static mezzo_status describe(profile *p) {
    int64_t windows = mezzo_config_int(p->e.config, "train.accumulate");
    for (int k = 0; k < p->op_count; k++) {
        mezzo_plan_op op;
        MZI_TRY(mezzo_model_plan_op(p->e.model, MEZZO_ENTRY_TRAIN, k, &op));
        bool often = strcmp(op.phase, "forward") == 0 || strcmp(op.phase, "backward") == 0;
        double runs = often ? (double)windows : 1.0;
        p->ops[k] = (line){.phase = op.phase,
                           .op = op.op,
                           .type = mezzo_dtype_name(op.compute),
                           .kernel = op.kernel,
                           .name = op.name,
                           .count = 1,
                           .flops = op.flops * runs,
                           .bytes = (double)op.bytes * runs};
    }
    return MEZZO_OK;
}

static void add(line *sum, const line *l) {
    sum->count += l->count;
    sum->seconds += l->seconds;
    sum->flops += l->flops;
    sum->bytes += l->bytes;
}

static bool alike(const line *a, const line *b) {
    return strcmp(a->phase, b->phase) == 0 && strcmp(a->op, b->op) == 0 &&
           strcmp(a->type, b->type) == 0 && strcmp(a->kernel, b->kernel) == 0;
}

static int by_time(const void *a, const void *b) {
    double x = ((const line *)a)->seconds, y = ((const line *)b)->seconds;
    return (x < y) - (x > y);
}

static void sum_up(profile *p) {
    for (int k = 0; k < p->op_count; k++) {
        int found = 0;
        while (found < p->kind_count && !alike(&p->kinds[found], &p->ops[k]))
            found++;
        if (found < p->kind_count) {
            add(&p->kinds[found], &p->ops[k]);
            continue;
        }
        p->kinds[p->kind_count] = p->ops[k];
        p->kinds[p->kind_count++].name = NULL;
    }
    qsort(p->kinds, (size_t)p->kind_count, sizeof *p->kinds, by_time);
}

/* All lines of a phase in one; false if there is none. */
static bool phase_of(const profile *p, const char *phase, line *out) {
    *out = (line){.phase = phase};
    for (int k = 0; k < p->kind_count; k++)
        if (strcmp(p->kinds[k].phase, phase) == 0)
            add(out, &p->kinds[k]);
    return out->count > 0;
}

static void put_figures(mzi_text *text, const profile *p, const line *l) {
    double ms = l->seconds * 1e3, share = 100.0 * l->seconds / p->step_seconds;
    mzi_text_put(text, "%10.3f %6.1f", ms, share);
    if (l->seconds > 0.0)
        mzi_text_put(text, " %9.1f %8.1f", l->flops / l->seconds * 1e-9,
                     l->bytes / l->seconds * 1e-9);
    else
        mzi_text_put(text, " %9s %8s", "", "");
}

static void put_head(mzi_text *text, const char *first) {
    mzi_text_put(text, "%10s %6s %9s %8s  %s\n", "ms", "%", "GFLOP/s", "GB/s", first);
}

static void put_text(profile *p, mzi_text *text) {
    line l, all = {0};
    mzi_text_put(text, "%s, batch %lld, %s, %s, %d workers: %.3f ms a step, over %d steps\n\n",
                 p->e.kind->name, (long long)p->e.data.step_batch, mezzo_dtype_name(p->e.precision),
                 mezzo_isa_name(mezzo_ctx_isa(p->e.ctx)), mezzo_ctx_threads(p->e.ctx),
                 p->step_seconds * 1e3, p->steps);
    put_head(text, "phase");
    for (int phase = MZI_PHASE_PREPARE; phase <= MZI_PHASE_UPDATE; phase++) {
        if (!phase_of(p, mzi_phase_name((mzi_phase)phase), &l))
            continue;
        put_figures(text, p, &l);
        mzi_text_put(text, "  %s\n", l.phase);
        add(&all, &l);
    }
    l = (line){.seconds = p->wait_seconds};
    put_figures(text, p, &l);
    mzi_text_put(text, "  waiting for data\n");
    l.seconds = p->step_seconds - all.seconds - p->wait_seconds;
    put_figures(text, p, &l);
    mzi_text_put(text, "  other\n\n");
    put_head(text, "operations");
    for (int k = 0; k < p->kind_count; k++) {
        put_figures(text, p, &p->kinds[k]);
        mzi_text_put(text, "  %-9s %4d x %s, %s, %s\n", p->kinds[k].phase, p->kinds[k].count,
                     p->kinds[k].op, p->kinds[k].type, p->kinds[k].kernel);
    }
    mzi_text_put(text, "\n");
    put_head(text, "the longest single ones");
    for (int k = 0; k < p->op_count && k < TOP; k++) {
        put_figures(text, p, &p->ops[k]);
        mzi_text_put(text, "  %s\n", p->ops[k].name);
    }
}

static json_t *line_json(const line *l) {
    return json_pack("{s:s,s:s?,s:s?,s:s?,s:s?,s:i,s:f,s:f,s:f}", "phase", l->phase, "name",
                     l->name, "op", l->op, "type", l->type, "kernel", l->kernel, "count", l->count,
                     "ms", l->seconds * 1e3, "flops", l->flops, "bytes", l->bytes);
}

static json_t *as_json(const profile *p) {
    json_t *phases = json_array(), *kinds = json_array(), *ops = json_array();
    for (int phase = MZI_PHASE_PREPARE; phase <= MZI_PHASE_UPDATE; phase++) {
        line l;
        if (phase_of(p, mzi_phase_name((mzi_phase)phase), &l))
            json_array_append_new(phases, line_json(&l));
    }
    for (int k = 0; k < p->kind_count; k++)
        json_array_append_new(kinds, line_json(&p->kinds[k]));
    for (int k = 0; k < p->op_count; k++)
        json_array_append_new(ops, line_json(&p->ops[k]));
    return json_pack("{s:i,s:s,s:s,s:s,s:i,s:i,s:f,s:f,s:o,s:o,s:o}", "schema_version", 1, "model",
                     p->e.kind->name, "precision", mezzo_dtype_name(p->e.precision), "isa",
                     mezzo_isa_name(mezzo_ctx_isa(p->e.ctx)), "threads",
                     mezzo_ctx_threads(p->e.ctx), "steps", p->steps, "step_ms",
                     p->step_seconds * 1e3, "data_wait_ms", p->wait_seconds * 1e3, "phases", phases,
                     "kinds", kinds, "operations", ops);
}

static mezzo_status measure(profile *p) {
    mezzo_plan_info info;
    MZI_TRY(mezzo_model_plan_info(p->e.model, MEZZO_ENTRY_TRAIN, &info));
    p->op_count = info.op_count;
    size_t bytes = (size_t)p->op_count * sizeof *p->ops;
    p->ops = mzi_alloc(p->e.ctx, bytes);
    p->kinds = mzi_alloc(p->e.ctx, bytes);
    if (!p->ops || !p->kinds)
        return mzi_out_of_memory(p->e.ctx, 2 * bytes, "a profile");
    MZI_TRY(describe(p));
    MZI_TRY(run_steps(p, WARM_UP));
    MZI_TRY(add_times(p, -1.0));
    p->step_seconds = p->wait_seconds = 0.0;
    MZI_TRY(run_steps(p, p->steps));
    MZI_TRY(add_times(p, 1.0));
    p->step_seconds /= p->steps;
    p->wait_seconds /= p->steps;
    sum_up(p);
    qsort(p->ops, (size_t)p->op_count, sizeof *p->ops, by_time);
    return MEZZO_OK;
}

static mezzo_status report(profile *p, bool json, char **out) {
    if (json)
        return mzi_report_json(p->e.ctx, as_json(p), out);
    mzi_text text = {.ctx = p->e.ctx};
    put_text(p, &text);
    return mzi_text_take(&text, out);
}

mezzo_status mezzo_run_profile(mezzo_runner *runner, const mezzo_config *config, int steps,
                               bool json, char **out) {
    profile p = {.steps = steps};
    mzi_error_clear(runner->ctx);
    if (steps < 1)
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT, "a profile of %d steps: it takes 1 or more",
                 steps);
    mezzo_status status = mzi_experiment_create(&p.e, runner, config, NULL);
    if (status == MEZZO_OK)
        status = measure(&p);
    if (status == MEZZO_OK)
        status = report(&p, json, out);
    mzi_free(runner->ctx, p.ops, (size_t)p.op_count * sizeof *p.ops);
    mzi_free(runner->ctx, p.kinds, (size_t)p.op_count * sizeof *p.kinds);
    mzi_experiment_destroy(&p.e);
    return status;
}
