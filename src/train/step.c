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

#include "train/average.h"
#include "train/scaler.h"
#include "train/trainer.h"

/* The norm, and the first gradient or statistic that is not finite. */
static mezzo_status read_norms(mezzo_trainer *t, mezzo_step_result *r) {
    const mezzo_graph *graph = mzi_trainer_graph(t);
    double squares = 0.0, found = 0.0;
    r->reason = MEZZO_SKIP_NONE;
    for (int32_t k = 0; k < t->update.norm_count; k++) {
        bool is_gradient = k < graph->grad_count;
        int32_t of =
            is_gradient ? graph->grads[k].param : graph->commits[k - graph->grad_count].state;
        mzi_stats stats = {0};
        MZI_TRY(mzi_meter_read(t, t->update.norms[k], of, &stats));
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

/* Clips to the norm; the 1e-6 is PyTorch's. */
static double factor_of(const mezzo_trainer *t, double grad_norm, int32_t exponent) {
    double clip =
        t->config.clip > 0.0f ? fmin(1.0, (double)t->config.clip / (grad_norm + 1e-6)) : 1;
    return ldexp(clip * t->grad_factor, -exponent);
}

/* The update multiplies gradients by this, in FP32: it must neither overflow nor lose digits. */
static bool factors_are_normal(const mezzo_trainer *t, double grad_norm) {
    bool normal = true;
    for (int32_t k = 0; k < t->update.scalars_count; k++)
        normal &= isnormal((float)factor_of(t, grad_norm, t->update.exponents[k])) != 0;
    return normal;
}

static void judge(const mezzo_trainer *t, mezzo_step_result *r) {
    if (!isfinite(r->loss)) {
        r->reason = MEZZO_SKIP_FORWARD;
        r->where = NULL; /* no gradient is to blame: they all come from the loss */
    } else if (r->reason == MEZZO_SKIP_NONE &&
               (!(r->grad_norm < 0x1p60) || !factors_are_normal(t, r->grad_norm))) {
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
    const mezzo_graph *graph = mzi_trainer_graph(t);
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
        MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, mzi_trainer_graph(t)->loss, &loss,
                                   sizeof loss));
        MZI_TRY(read_rows(t, &rows));
        if (r->measured)
            MZI_TRY(mzi_meters_add(t));
        loss_sum += (double)loss * (double)rows;
        row_sum += (double)rows;
        first = false;
    }
    bool one = t->config.accumulate == 1; /* its gradients are means already */
    t->rows = row_sum;
    row_sum = one || row_sum < 1.0 ? 1.0 : row_sum;
    r->loss = isnan(loss_sum) ? (double)NAN : loss_sum / row_sum; /* of one sign, in any build */
    t->grad_factor = 1.0 / ((double)r->loss_scale * row_sum);
    MZI_TRY(mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_CHECK, MZI_PHASE_CHECK, false));
    MZI_TRY(read_norms(t, r));
    judge(t, r);
    return MEZZO_OK;
}

/* Two findings are not what they seem.  An Inf that forward reads or makes may be meant, and do no
 * harm.  And an operation that keeps gradients to itself makes NaN of an overflow that nothing else
 * shows: Inf - Inf behind a fused loss.  What is gone at a scale where nothing overflows was an
 * overflow of gradients. */
static mezzo_status look_closer(mezzo_trainer *t, const mezzo_binding *inputs, int count, int32_t k,
                                mzi_fault *fault) {
    const double scale = t->state.scaler.scale;
    mzi_fault first, at_least;
    MZI_TRY(mzi_meters_fault(t, true, &first));
    if (!first.reason) {
        *fault = first;
        return MEZZO_OK;
    }
    t->state.scaler.scale = 0x1p-14;
    mezzo_status status = mzi_trainer_run(t, inputs, count, k, true, true);
    t->state.scaler.scale = scale;
    MZI_TRY(status);
    MZI_TRY(mzi_meters_fault(t, true, &at_least));
    if (!at_least.reason)
        *fault = (mzi_fault){MEZZO_SKIP_GRADIENT, first.where, false};
    return MEZZO_OK;
}

/* Each micro-batch again, by itself.  Of several faults an overflow of gradients is told, because
 * the scale has to move; else the first. */
static mezzo_status find_faults(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                                mezzo_step_result *r) {
    mezzo_skip_reason told = MEZZO_SKIP_NONE;
    for (int32_t k = 0; k < t->config.accumulate; k++) {
        mzi_fault *fault = &t->faults[k];
        MZI_TRY(mzi_trainer_run(t, inputs, count, k, true, true));
        MZI_TRY(mzi_meters_fault(t, false, fault));
        if (fault->reason == MEZZO_SKIP_NAN || fault->may_be_meant)
            MZI_TRY(look_closer(t, inputs, count, k, fault));
        r->dropped += fault->reason != MEZZO_SKIP_NONE;
        bool overflows = fault->reason == MEZZO_SKIP_GRADIENT && told != MEZZO_SKIP_GRADIENT;
        if (!fault->reason || (told && !overflows))
            continue;
        told = r->reason = fault->reason;
        r->where = fault->where;
        r->micro_batch = k;
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
    if (isinf(r->loss_scale)) { /* the seed of backward: its overflow is the scale's */
        r->reason = MEZZO_SKIP_GRADIENT;
        return MEZZO_OK;
    }
    MZI_TRY(find_faults(t, inputs, count, r));
    bool some_are_good = r->dropped > 0 && r->dropped < t->config.accumulate;
    if (t->config.no_salvage || !some_are_good || r->reason == MEZZO_SKIP_GRADIENT) {
        r->dropped = 0;
        return MEZZO_OK;
    }
    MZI_TRY(run_window(t, inputs, count, &again));
    if (again.skipped || t->rows == 0.0) {
        if (again.skipped && again.reason == MEZZO_SKIP_GRADIENT) {
            r->reason = again.reason; /* what is good by itself overflows together */
            r->where = again.where;
        }
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
    double number = (double)(t->state.step + 1 - t->state.moments_from);
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
        scalars[1] = (float)factor_of(t, r->grad_norm, t->update.exponents[k]);
        MZI_TRY(give(t, t->update.scalars[k], scalars, sizeof scalars));
    }
    MZI_TRY(give(t, t->update.key, key, sizeof key));
    bool measures = mzi_meters_due_for_record(t);
    MZI_TRY(
        mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_UPDATE, MZI_PHASE_UPDATE, measures));
    t->model->version++;
    t->state.step++;
    t->state.averaged += t->config.ema > 0.0f;
    /* A rate of 0 is meant to leave the weights as they are. */
    return measures && r->lr > 0.0 ? mzi_stall_read(t->model, &t->update.stall, &r->stalled)
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
    mezzo_step_result r = {.measured = mzi_meters_due_for_scale(t) || mzi_meters_due_for_record(t),
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
    mezzo_scale_evidence own = evidence;
    own.measured &= mzi_meters_due_for_scale(t);
    if (!mzi_scaler_step(&t->state.scaler, &own))
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
