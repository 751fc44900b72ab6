/* The training step.
 *
 *   for each micro-batch: in -> forward, backward -> read loss
 *   norms -> read them -> decide
 *     commit:   scalars in -> optimizer on every master, statistics -> step + 1
 *     else:     each micro-batch again, with meters: which tensor was the first to be not finite?
 *       salvage: the window again without those whose data or forward is not -> decide
 *       skip:    nothing is written; the scale moves
 *
 * A commit cannot fail half-way: finite gradients whose unscaled norm is below 2^60, with finite
 * moments, give finite updates (g^2 < 2^120 is far below FP32's 2^128; docs/numerics.md has the
 * whole argument), and the next statistics are known to be finite.  So all writes follow one
 * decision. */
#include <math.h>
#include <string.h>

#include "base/digest.h"
#include "train/average.h"
#include "train/masters.h"
#include "train/resume.h"
#include "train/scaler.h"
#include "train/trainer.h"

enum {
    ACCUMULATE_MAX = 1 << 20
};

static bool computes_f16(const mezzo_precision *precision) {
    bool any = precision->compute == MEZZO_F16;
    for (int k = 0; k < precision->override_count; k++)
        any |= precision->overrides[k].compute == MEZZO_F16;
    return any;
}

static void recipe_of(const mezzo_trainer *t, char *out, size_t capacity) {
    const mezzo_optimizer_config *o = &t->config.optimizer;
    const mezzo_scaler_config *s = &t->state.scaler.config;
    const mezzo_schedule *c = &t->config.schedule;
    mzi_format(
        out, capacity,
        "accumulate %d %d; optimizer %s lr %a decay %a betas %a %a eps %a momentum %a %d; clip %a; "
        "scale %d %a %a %a %d %a %a %d %d %d %d; schedule %d warmup %lld steps %lld min %a decay "
        "%lld; master %d %d moments %s",
        t->config.accumulate, t->config.no_salvage, o->kind, (double)o->lr, (double)o->weight_decay,
        (double)o->beta1, (double)o->beta2, (double)o->eps, (double)o->momentum, o->nesterov,
        (double)t->config.clip, (int)s->mode, (double)s->init, (double)s->growth,
        (double)s->backoff, s->growth_interval, (double)s->min, (double)s->max, s->headroom,
        s->hysteresis, s->consecutive_hysteresis, s->skip_at_min, (int)c->kind,
        (long long)c->warmup, (long long)c->steps, (double)c->lr_min, (long long)c->decay,
        (int)t->model->precision.master, t->model->precision.master_nearest,
        mezzo_dtype_name(o->state));
}

static mezzo_status check_config(mezzo_ctx *ctx, const mezzo_trainer_config *config) {
    if (!(config->clip >= 0.0f && isfinite(config->clip)))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "clip %g: a norm, or 0 for none",
                 (double)config->clip);
    if (!(config->optimizer.lr >= 0.0f && isfinite(config->optimizer.lr)))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "learning rate %g: finite and not negative",
                 (double)config->optimizer.lr);
    if (!(config->optimizer.other_lr_scale >= 0.0f && isfinite(config->optimizer.other_lr_scale)))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "other_lr_scale %g: finite and not negative",
                 (double)config->optimizer.other_lr_scale);
    if (!(config->ema >= 0.0f && config->ema < 1.0f))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "ema %g: a decay in [0, 1), or 0 for no average",
                 (double)config->ema);
    if (config->optimizer.state != MEZZO_DTYPE_NONE && config->optimizer.state != MEZZO_F32 &&
        config->optimizer.state != MEZZO_BF16)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "moments of type %s; f32 or bf16",
                 mezzo_dtype_name(config->optimizer.state));
    if (config->accumulate < 0 || config->accumulate > ACCUMULATE_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "accumulate %d: 1 to %d micro-batches",
                 config->accumulate, (int)ACCUMULATE_MAX);
    if (config->meter_every < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "meter_every %lld: commits, or 0 for never",
                 (long long)config->meter_every);
    const mezzo_schedule *s = &config->schedule;
    if (s->warmup < 0 || s->steps < 0 || s->decay < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "schedule: warmup %lld and decay %lld of %lld steps",
                 (long long)s->warmup, (long long)s->decay, (long long)s->steps);
    return MEZZO_OK;
}

static mezzo_status append_tail(mezzo_trainer *t, mezzo_graph *graph) {
    MZI_TRY(mzi_masters_choose(t->model, graph));
    if (t->config.accumulate > 1)
        MZI_TRY(mzi_pass_accumulate(graph, &t->update.window));
    t->update.average_decay = (double)t->config.ema;
    return mzi_update_append(graph, t->optim, &t->config.optimizer, &t->model->precision,
                             &t->update);
}

static void fit(mezzo_trainer *t, const mzi_plan *plan, int32_t value) {
    size_t bytes = mzi_value_bytes(&plan->graph->values[value]);
    t->parts_bytes = bytes > t->parts_bytes ? bytes : t->parts_bytes;
}

static mezzo_status give_memory(mezzo_trainer *t) {
    const mzi_plan *plan = mzi_trainer_plan(t);
    mezzo_ctx *ctx = t->model->ctx;
    for (int32_t k = 0; k < t->update.norm_count; k++)
        fit(t, plan, t->update.norms[k]);
    for (int32_t m = 0; m < plan->meter_count; m++)
        fit(t, plan, plan->meters[m].stats);
    t->meters_bytes = (size_t)plan->meter_count * sizeof *t->meters;
    t->parts = mzi_alloc(ctx, t->parts_bytes);
    t->meters = mzi_alloc(ctx, t->meters_bytes);
    t->faults = mzi_alloc(ctx, (size_t)t->config.accumulate * sizeof *t->faults);
    if (!t->parts || !t->meters || !t->faults)
        return mzi_out_of_memory(ctx, t->parts_bytes + t->meters_bytes, "meters");
    return MEZZO_OK;
}

static mezzo_status plan(mezzo_trainer *t) {
    mezzo_graph *graph;
    char recipe[600];
    MZI_TRY(mzi_model_graph(t->model, MEZZO_ENTRY_TRAIN, &graph));
    graph->metered = true;
    mezzo_status status = append_tail(t, graph);
    if (status != MEZZO_OK) {
        mzi_graph_destroy(graph);
        return status;
    }
    recipe_of(t, recipe, sizeof recipe);
    MZI_TRY(mzi_model_install(t->model, MEZZO_ENTRY_TRAIN, graph, recipe));
    return give_memory(t);
}

static mezzo_status create(mezzo_trainer *t) {
    mezzo_ctx *ctx = t->model->ctx;
    mezzo_scaler_config scaler = t->config.scaler;
    if (t->model->precision.compute == MEZZO_F64)
        MZI_FAIL(ctx, MEZZO_UNSUPPORTED, "f64 is for gradient checks: masters are FP32");
    MZI_TRY(check_config(ctx, &t->config));
    t->optim = mzi_optim_find(t->config.optimizer.kind);
    if (!t->optim)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "optimizer \"%s\": adamw, lion, muon or sgd",
                 t->config.optimizer.kind ? t->config.optimizer.kind : "(null)");
    if (scaler.mode == MEZZO_SCALE_AUTO)
        scaler.mode = computes_f16(&t->model->precision) ? MEZZO_SCALE_HEADROOM : MEZZO_SCALE_NONE;
    MZI_TRY(mezzo_scaler_init(ctx, &t->state.scaler, &scaler));
    return plan(t);
}

mezzo_status mezzo_trainer_create(mezzo_trainer **out, mezzo_model *model,
                                  const mezzo_trainer_config *config) {
    mzi_error_clear(model->ctx);
    mezzo_trainer *t = mzi_alloc(model->ctx, sizeof *t);
    if (!t)
        return mzi_out_of_memory(model->ctx, sizeof *t, "a trainer");
    t->model = model;
    t->config = *config;
    t->config.accumulate = config->accumulate ? config->accumulate : 1;
    if (t->config.optimizer.state == MEZZO_DTYPE_NONE)
        t->config.optimizer.state = MEZZO_F32;
    mezzo_status status = create(t);
    if (status != MEZZO_OK) {
        mezzo_trainer_destroy(t);
        return status;
    }
    /* The groups have been read into the graph; the caller's array is not kept. */
    t->config.optimizer.groups = NULL;
    t->config.optimizer.group_count = 0;
    t->config.optimizer.kind = t->optim->name;
    *out = t;
    return MEZZO_OK;
}

void mezzo_trainer_destroy(mezzo_trainer *t) {
    if (!t)
        return;
    mzi_free(t->model->ctx, t->parts, t->parts_bytes);
    mzi_free(t->model->ctx, t->meters, t->meters_bytes);
    mzi_free(t->model->ctx, t->faults, (size_t)t->config.accumulate * sizeof *t->faults);
    mzi_free(t->model->ctx, t, sizeof *t);
}

static const mezzo_graph *graph_of(const mezzo_trainer *t) {
    return mzi_trainer_plan(t)->graph;
}

mezzo_status mzi_trainer_read_stats(mezzo_trainer *t, int32_t value, int32_t of, mzi_stats *stats) {
    const mzi_value *values = graph_of(t)->values;
    uint64_t bytes = mzi_value_bytes(&values[value]);
    MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, value, t->parts, bytes));
    mzi_stats_add(stats, t->parts, bytes, mezzo_shape_count(values[of].tensor.shape));
    return MEZZO_OK;
}

/* The norm, and the first gradient or statistic that is not finite. */
static mezzo_status read_norms(mezzo_trainer *t, mezzo_step_result *r) {
    const mezzo_graph *graph = graph_of(t);
    double squares = 0.0, found = 0.0;
    r->reason = MEZZO_SKIP_NONE;
    for (int32_t k = 0; k < t->update.norm_count; k++) {
        bool is_gradient = k < graph->grad_count;
        int32_t of =
            is_gradient ? graph->grads[k].param : graph->commits[k - graph->grad_count].state;
        mzi_stats stats = {0};
        MZI_TRY(mzi_trainer_read_stats(t, t->update.norms[k], of, &stats));
        if (is_gradient) /* it holds 2^exponent too much */
            squares += ldexp(stats.squares, -2 * graph->grads[k].exponent);
        found += is_gradient ? stats.inf + stats.nan : 0.0;
        if (stats.inf + stats.nan == 0.0 || r->reason)
            continue;
        r->where = graph->values[of].name;
        r->reason = is_gradient ? MEZZO_SKIP_GRADIENT : MEZZO_SKIP_FORWARD;
    }
    r->grad_norm = found > 0.0 ? (double)INFINITY : sqrt(squares) * t->grad_factor;
    return MEZZO_OK;
}

static void judge(mezzo_step_result *r) {
    if (!isfinite(r->loss)) {
        r->reason = MEZZO_SKIP_FORWARD;
        r->where = NULL; /* no gradient is to blame: they all come from the loss */
    } else if (r->reason == MEZZO_SKIP_NONE && !(r->grad_norm < 0x1p60)) {
        r->reason = MEZZO_SKIP_NORM;
    }
    r->skipped = r->reason != MEZZO_SKIP_NONE;
}

static mezzo_status give(mezzo_trainer *t, int32_t value, const void *data, uint64_t bytes) {
    return value ? mzi_model_upload(t->model, MEZZO_ENTRY_TRAIN, value, data, bytes) : MEZZO_OK;
}

/* Samples of a micro-batch: the first axis of the graph's first input. */
static int64_t samples(const mezzo_graph *graph) {
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->kind == MZI_VALUE_INPUT && value->tensor.shape.rank > 0)
            return value->tensor.shape.dim[0];
    }
    return 0;
}

mezzo_status mzi_trainer_run(mezzo_trainer *t, const mezzo_binding *inputs, int count, int32_t k,
                             bool first, bool meters) {
    const mezzo_graph *graph = graph_of(t);
    const mzi_window *window = &t->update.window;
    const float one = 1.0f;
    const float scale = (float)t->state.scaler.scale; /* from 2^128 on infinite: an overflow */
    const int32_t is_first = first;
    MZI_TRY(mzi_model_bind(t->model, MEZZO_ENTRY_TRAIN, inputs, count, k, t->config.accumulate));
    MZI_TRY(give(t, graph->loss_scale, &scale, sizeof scale));
    MZI_TRY(give(t, window->first, &is_first, sizeof is_first));
    MZI_TRY(give(t, window->one, &one, sizeof one));
    /* A try's own number and the sample in its window: neither workers nor the cut into
     * micro-batches change it. */
    uint64_t seed = t->model->seed;
    const uint32_t key[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)t->state.attempt,
                             (uint32_t)(k * samples(graph))};
    MZI_TRY(give(t, graph->rng, key, sizeof key));
    return mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD,
                         meters);
}

/* Rows that the loss of the last micro-batch is a mean over. */
static mezzo_status read_rows(mezzo_trainer *t, float *rows) {
    const mzi_window *window = &t->update.window;
    *rows = 1.0f;
    if (!window->rows || window->one)
        return MEZZO_OK;
    return mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, window->rows, rows, sizeof *rows);
}

/* The micro-batches without a fault, and the norms.  The loss is their mean by rows. */
static mezzo_status run_window(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                               mezzo_step_result *r) {
    double loss_sum = 0.0, row_sum = 0.0;
    bool first = true;
    if (r->measured)
        mzi_meters_clear(t);
    for (int32_t k = 0; k < t->config.accumulate; k++) {
        float loss, rows;
        if (t->faults[k].reason)
            continue;
        MZI_TRY(mzi_trainer_run(t, inputs, count, k, first, r->measured));
        MZI_TRY(
            mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, graph_of(t)->loss, &loss, sizeof loss));
        MZI_TRY(read_rows(t, &rows));
        if (r->measured)
            MZI_TRY(mzi_meters_add(t));
        loss_sum += (double)loss * (double)rows;
        row_sum += (double)rows;
        first = false;
    }
    bool one = t->config.accumulate == 1; /* its gradients are means already */
    row_sum = one || row_sum < 1.0 ? 1.0 : row_sum;
    r->loss = loss_sum / row_sum;
    t->grad_factor = 1.0 / ((double)r->loss_scale * row_sum);
    MZI_TRY(mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_CHECK, MZI_PHASE_CHECK, false));
    MZI_TRY(read_norms(t, r));
    judge(r);
    return MEZZO_OK;
}

/* Each micro-batch again, by itself. */
static mezzo_status find_faults(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                                mezzo_step_result *r) {
    bool found = false;
    for (int32_t k = 0; k < t->config.accumulate; k++) {
        MZI_TRY(mzi_trainer_run(t, inputs, count, k, true, true));
        MZI_TRY(mzi_meters_fault(t, &t->faults[k]));
        if (!t->faults[k].reason)
            continue;
        r->dropped++;
        if (found && t->faults[k].reason != MEZZO_SKIP_GRADIENT)
            continue;
        if (found && r->reason == MEZZO_SKIP_GRADIENT)
            continue;
        /* An overflow of gradients comes before all others: the scale has to move. */
        r->reason = t->faults[k].reason;
        r->where = t->faults[k].where;
        r->micro_batch = k;
        found = true;
    }
    return MEZZO_OK;
}

/* Why, and whether a part of the window is good.  What single micro-batches do not show, their sum
 * did: then the finding stays as it is. */
static mezzo_status diagnose(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                             mezzo_step_result *r) {
    mezzo_step_result again = *r;
    if (r->reason == MEZZO_SKIP_NORM)
        return MEZZO_OK;
    MZI_TRY(find_faults(t, inputs, count, r));
    bool some_are_good = r->dropped > 0 && r->dropped < t->config.accumulate;
    if (t->config.no_salvage || !some_are_good || r->reason == MEZZO_SKIP_GRADIENT) {
        r->dropped = 0;
        return MEZZO_OK;
    }
    MZI_TRY(run_window(t, inputs, count, &again));
    if (again.skipped) {
        r->dropped = 0;
        return MEZZO_OK;
    }
    r->skipped = false;
    r->loss = again.loss;
    r->grad_norm = again.grad_norm;
    return MEZZO_OK;
}

static mezzo_status write_update(mezzo_trainer *t, mezzo_step_result *r) {
    const mezzo_optimizer_config *o = &t->config.optimizer;
    double number = (double)(t->state.step + 1 - t->state.moments_from), clip = 1.0;
    if (t->config.clip > 0.0f) /* the 1e-6 is PyTorch's */
        clip = fmin(1.0, (double)t->config.clip / (r->grad_norm + 1e-6));
    float scalars[MZI_OPTIM_SCALARS] = {
        (float)r->lr,
        0.0f,
        (float)(1.0 / (1.0 - pow((double)o->beta1, number))),
        (float)(1.0 / (1.0 - pow((double)o->beta2, number))),
        [MZI_AVERAGE_SCALAR] = t->state.averaged > 0 ? 1.0f : 0.0f,
    };
    uint64_t seed = t->model->seed;
    const uint32_t key[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)(t->state.step + 1)};
    for (int32_t k = 0; k < t->update.scalars_count; k++) {
        scalars[1] = (float)ldexp(clip * t->grad_factor, -t->update.exponents[k]);
        MZI_TRY(give(t, t->update.scalars[k], scalars, sizeof scalars));
    }
    MZI_TRY(give(t, t->update.key, key, sizeof key));
    MZI_TRY(mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_UPDATE, MZI_PHASE_UPDATE,
                          r->measured));
    t->model->version++;
    t->state.step++;
    t->state.averaged += t->config.ema > 0.0f;
    /* A rate of 0 is meant to leave the weights as they are. */
    return r->measured && r->lr > 0.0 ? mzi_stall_read(t->model, &t->update.stall, &r->stalled)
                                      : MEZZO_OK;
}

static mezzo_status fail_at_min(const mezzo_trainer *t, const mezzo_step_result *r) {
    MZI_FAIL(t->model->ctx, MEZZO_NUMERICS,
             "loss scale %g is the smallest that its rule allows, and the step still has %s%s "
             "(loss %g): look for NaN in the data, lower the learning rate or the smallest scale, "
             "or compute in bf16 or f32",
             (double)r->loss_scale,
             r->where ? "Inf or NaN in " : "Inf or NaN, or a norm beyond 2^60",
             r->where ? r->where : "", r->loss);
}

static void set_metrics(const mezzo_trainer *t, const mezzo_step_result *r,
                        const mezzo_scale_evidence *evidence) {
    mzi_metrics *m = &t->model->ctx->metrics;
    mzi_metric_set(m, MZI_METRIC_step, (double)r->step);
    mzi_metric_set(m, MZI_METRIC_attempts, (double)r->attempt);
    mzi_metric_set(m, MZI_METRIC_skipped_steps, (double)t->state.skipped);
    mzi_metric_set(m, MZI_METRIC_loss, r->loss);
    mzi_metric_set(m, MZI_METRIC_grad_norm, r->grad_norm);
    mzi_metric_set(m, MZI_METRIC_loss_scale, (double)r->loss_scale);
    mzi_metric_set(m, MZI_METRIC_lr, r->lr);
    if (!isnan(r->stalled))
        mzi_metric_set(m, MZI_METRIC_stalled_updates, r->stalled);
    mzi_metric_add(m, MZI_METRIC_dropped_micro_batches, (double)r->dropped);
    if (r->skipped && r->reason == MEZZO_SKIP_GRADIENT)
        mzi_metric_add(m, MZI_METRIC_overflow_events, 1.0);
    if (!evidence->measured)
        return;
    mzi_metric_set(m, MZI_METRIC_gradient_underflow, (double)evidence->underflow);
    mzi_metric_set(m, MZI_METRIC_gradient_max, (double)evidence->max);
}

mezzo_status mezzo_trainer_step(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                                mezzo_step_result *result) {
    mzi_error_clear(t->model->ctx);
    mezzo_step_result r = {.measured = mzi_meters_due(t),
                           .loss_scale = (float)t->state.scaler.scale,
                           .stalled = (double)NAN,
                           .lr = mezzo_schedule_lr(&t->config.schedule,
                                                   (double)t->config.optimizer.lr, t->state.step)};
    memset(t->faults, 0, (size_t)t->config.accumulate * sizeof *t->faults);
    MZI_TRY(run_window(t, inputs, count, &r));
    if (r.skipped)
        MZI_TRY(diagnose(t, inputs, count, &r));
    mezzo_scale_evidence evidence = {.skipped = r.skipped,
                                     .overflow = r.skipped && r.reason == MEZZO_SKIP_GRADIENT};
    if (r.measured)
        mzi_meters_evidence(t, &evidence);
    if (!r.skipped)
        MZI_TRY(write_update(t, &r));
    if (!mzi_scaler_step(&t->state.scaler, &evidence))
        return fail_at_min(t, &r);
    t->state.attempt++;
    if (r.skipped)
        t->ledger[t->state.skipped++ % MEZZO_LEDGER_MAX] =
            (mezzo_skip){t->state.attempt, t->state.step, r.reason, r.loss_scale, r.where};
    r.step = t->state.step;
    r.attempt = t->state.attempt;
    set_metrics(t, &r, &evidence);
    *result = r;
    return MEZZO_OK;
}

const char *mezzo_skip_reason_name(mezzo_skip_reason reason) {
    static const char *const names[] = {"none", "data", "forward", "gradient", "nan", "norm"};
    return (size_t)reason < sizeof names / sizeof *names ? names[reason] : "?";
}

bool mezzo_trainer_skip(const mezzo_trainer *t, int64_t back, mezzo_skip *out) {
    if (back < 0 || back >= t->state.skipped - t->ledger_from || back >= MEZZO_LEDGER_MAX)
        return false;
    *out = t->ledger[(t->state.skipped - 1 - back) % MEZZO_LEDGER_MAX];
    return true;
}

bool mezzo_trainer_stall(const mezzo_trainer *t, int index, mezzo_stall *out) {
    if (index < 0 || index >= t->update.stall.count)
        return false;
    *out = t->update.stall.of[index];
    return true;
}

mezzo_trainer_state mezzo_trainer_get_state(const mezzo_trainer *t) {
    return t->state;
}

mezzo_status mezzo_trainer_set_state(mezzo_trainer *t, const mezzo_trainer_state *state) {
    mezzo_trainer_state next = *state;
    mzi_error_clear(t->model->ctx);
    if (state->scaler.config.mode != t->state.scaler.config.mode)
        MZI_FAIL(t->model->ctx, MEZZO_INVALID_ARGUMENT,
                 "the state is of loss scale mode %d, the trainer's is %d: keep the trainer's "
                 "scaler",
                 (int)state->scaler.config.mode, (int)t->state.scaler.config.mode);
    next.scaler.config = t->state.scaler.config;
    const char *fault = mzi_trainer_state_fault(&next);
    if (fault)
        MZI_FAIL(t->model->ctx, MEZZO_INVALID_ARGUMENT, "no trainer was in that state: %s", fault);
    t->state = next;
    t->ledger_from = next.skipped;
    return MEZZO_OK;
}

mezzo_status mezzo_trainer_state_hash(mezzo_trainer *t, char *hex) {
    mezzo_model *model = t->model;
    mzi_digest digest;
    mzi_error_clear(model->ctx);
    mzi_digest_init(&digest);
    mzi_digest_add_i64(&digest, t->state.step);
    for (int32_t s = 0; s < model->state_count; s++) {
        const mzi_state *state = &model->states[s];
        if (state->kind == MEZZO_STATE_CACHE)
            continue;
        int64_t count = mezzo_shape_count(state->shape);
        uint64_t bytes = (uint64_t)count * sizeof(float);
        void *host = mzi_alloc(model->ctx, bytes);
        if (!host)
            return mzi_out_of_memory(model->ctx, bytes, state->name);
        mezzo_status status = mzi_state_read(model, state, 0, count, host);
        mzi_digest_add_text(&digest, state->name);
        mzi_digest_add(&digest, host, bytes);
        mzi_free(model->ctx, host, bytes);
        MZI_TRY(status);
    }
    mzi_digest_end(&digest, hex);
    return MEZZO_OK;
}

mezzo_status mezzo_trainer_read_gradient(mezzo_trainer *t, const char *param, float *out,
                                         int64_t count) {
    const mezzo_graph *graph = graph_of(t);
    mzi_error_clear(t->model->ctx);
    for (int32_t g = 0; g < graph->grad_count; g++) {
        const mzi_value *value = &graph->values[graph->grads[g].param];
        if (strcmp(value->name, param) != 0)
            continue;
        if (mezzo_shape_count(value->tensor.shape) != count)
            MZI_FAIL(t->model->ctx, MEZZO_INVALID_ARGUMENT, "`%s` has %lld elements, not %lld",
                     param, (long long)mezzo_shape_count(value->tensor.shape), (long long)count);
        MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, graph->grads[g].grad, out,
                                   (uint64_t)count * sizeof *out));
        float factor = (float)ldexp(t->grad_factor, -graph->grads[g].exponent);
        for (int64_t i = 0; i < count; i++)
            out[i] *= factor;
        return MEZZO_OK;
    }
    MZI_FAIL(t->model->ctx, MEZZO_INVALID_ARGUMENT, "there is no trained parameter `%s`", param);
}
