/* The training step.
 *
 *   for each micro-batch: in -> forward, backward -> read loss
 *   norms -> read them -> decide
 *     commit: scalars in -> optimizer on every master, statistics -> step + 1
 *     skip:   nothing is written; the scale moves
 *
 * A commit cannot fail half-way: finite gradients whose unscaled norm is below 2^60, with finite
 * moments, give finite updates (g^2 < 2^120 is far below FP32's 2^128; docs/numerics.md has the
 * whole argument), and the next statistics are known to be finite.  So all writes follow one
 * decision. */
#include <math.h>
#include <string.h>

#include "base/digest.h"
#include "train/scaler.h"
#include "train/update.h"

enum {
    ACCUMULATE_MAX = 1 << 20
};

struct mezzo_trainer {
    mezzo_model *model;
    mezzo_trainer_config config;
    mezzo_trainer_state state;
    const mzi_optim_def *optim;
    mzi_update update;
    double *norm_host; /* as many as the largest gradient has parts, twice */
    size_t norm_bytes;
    double grad_factor;                  /* of this step: unscaling, without clipping */
    mezzo_skip ledger[MEZZO_LEDGER_MAX]; /* skip k in slot k mod MEZZO_LEDGER_MAX */
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
        "accumulate %d; optimizer %s lr %a decay %a betas %a %a eps %a momentum %a %d; clip %a; "
        "scale %d %a %a %a %d %a %d %d %d; schedule %d warmup %lld steps %lld min %a decay %lld",
        t->config.accumulate, o->kind, (double)o->lr, (double)o->weight_decay, (double)o->beta1,
        (double)o->beta2, (double)o->eps, (double)o->momentum, o->nesterov, (double)t->config.clip,
        (int)s->mode, (double)s->init, (double)s->growth, (double)s->backoff, s->growth_interval,
        (double)s->min, s->hysteresis, s->consecutive_hysteresis, s->skip_at_min, (int)c->kind,
        (long long)c->warmup, (long long)c->steps, (double)c->lr_min, (long long)c->decay);
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
    if (config->accumulate < 0 || config->accumulate > ACCUMULATE_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "accumulate %d: 1 to %d micro-batches",
                 config->accumulate, (int)ACCUMULATE_MAX);
    const mezzo_schedule *s = &config->schedule;
    if (s->warmup < 0 || s->steps < 0 || s->decay < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "schedule: warmup %lld and decay %lld of %lld steps",
                 (long long)s->warmup, (long long)s->decay, (long long)s->steps);
    return MEZZO_OK;
}

static mezzo_status append_tail(mezzo_trainer *t, mezzo_graph *graph) {
    if (t->config.accumulate > 1)
        MZI_TRY(mzi_pass_accumulate(graph, &t->update.window));
    return mzi_update_append(graph, t->optim, &t->config.optimizer, &t->update);
}

static mezzo_status plan(mezzo_trainer *t) {
    mezzo_graph *graph;
    char recipe[600];
    MZI_TRY(mzi_model_graph(t->model, MEZZO_ENTRY_TRAIN, &graph));
    mezzo_status status = append_tail(t, graph);
    if (status != MEZZO_OK) {
        mzi_graph_destroy(graph);
        return status;
    }
    recipe_of(t, recipe, sizeof recipe);
    MZI_TRY(mzi_model_install(t->model, MEZZO_ENTRY_TRAIN, graph, recipe));
    for (int32_t k = 0; k < t->update.norm_count; k++) {
        size_t bytes = mzi_value_bytes(&graph->values[t->update.norms[k]]);
        t->norm_bytes = bytes > t->norm_bytes ? bytes : t->norm_bytes;
    }
    t->norm_host = mzi_alloc(t->model->ctx, t->norm_bytes);
    if (!t->norm_host)
        return mzi_out_of_memory(t->model->ctx, t->norm_bytes, "gradient norms");
    return MEZZO_OK;
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
        scaler.mode = computes_f16(&t->model->precision) ? MEZZO_SCALE_PYTORCH : MEZZO_SCALE_NONE;
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
    mzi_free(t->model->ctx, t->norm_host, t->norm_bytes);
    mzi_free(t->model->ctx, t, sizeof *t);
}

static const mezzo_graph *graph_of(const mezzo_trainer *t) {
    return t->model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
}

/* One tensor's parts, in their order: the same sum on every run. */
static mezzo_status read_norm(mezzo_trainer *t, int32_t index, double *squares, double *nonfinite) {
    uint64_t bytes = mzi_value_bytes(&graph_of(t)->values[t->update.norms[index]]);
    MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, t->update.norms[index], t->norm_host,
                               bytes));
    *nonfinite = 0.0;
    for (size_t part = 0; part < bytes / (2 * sizeof(double)); part++) {
        *squares += t->norm_host[2 * part];
        *nonfinite += t->norm_host[2 * part + 1];
    }
    return MEZZO_OK;
}

/* The norm, and the first gradient or statistic that is not finite. */
static mezzo_status read_norms(mezzo_trainer *t, mezzo_step_result *r) {
    const mezzo_graph *graph = graph_of(t);
    double total = 0.0, unused = 0.0, nonfinite;
    for (int32_t k = 0; k < t->update.norm_count; k++) {
        bool is_gradient = k < graph->grad_count;
        MZI_TRY(read_norm(t, k, is_gradient ? &total : &unused, &nonfinite));
        if (nonfinite == 0.0 || r->where)
            continue;
        int32_t of =
            is_gradient ? graph->grads[k].param : graph->commits[k - graph->grad_count].state;
        r->where = graph->values[of].name;
        r->reason = is_gradient ? MEZZO_SKIP_GRADIENT : MEZZO_SKIP_STATISTIC;
    }
    r->grad_norm =
        r->reason == MEZZO_SKIP_GRADIENT ? (double)INFINITY : sqrt(total) * t->grad_factor;
    return MEZZO_OK;
}

static void judge(mezzo_step_result *r) {
    if (!isfinite(r->loss)) {
        r->reason = MEZZO_SKIP_LOSS;
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

static mezzo_status run_micro_batch(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                                    int32_t k) {
    const mezzo_graph *graph = graph_of(t);
    const mzi_window *window = &t->update.window;
    const float one = 1.0f;
    const float scale = (float)t->state.scaler.scale; /* from 2^128 on infinite: an overflow */
    const int32_t first = k == 0;
    MZI_TRY(mzi_model_bind(t->model, MEZZO_ENTRY_TRAIN, inputs, count, k, t->config.accumulate));
    MZI_TRY(give(t, graph->loss_scale, &scale, sizeof scale));
    MZI_TRY(give(t, window->first, &first, sizeof first));
    MZI_TRY(give(t, window->one, &one, sizeof one));
    /* A try's own number and the sample in its window: neither workers nor the cut into
     * micro-batches change it. */
    uint64_t seed = t->model->seed;
    const uint32_t key[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)t->state.attempt,
                             (uint32_t)(k * samples(graph))};
    MZI_TRY(give(t, graph->rng, key, sizeof key));
    return mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD);
}

/* All micro-batches.  The loss is their mean by rows. */
static mezzo_status run_window(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                               mezzo_step_result *r) {
    const mezzo_graph *graph = graph_of(t);
    double loss_sum = 0.0, row_sum = 0.0;
    for (int32_t k = 0; k < t->config.accumulate; k++) {
        float loss, rows = 1.0f;
        MZI_TRY(run_micro_batch(t, inputs, count, k));
        MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, graph->loss, &loss, sizeof loss));
        if (t->update.window.rows && !t->update.window.one)
            MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, t->update.window.rows, &rows,
                                       sizeof rows));
        loss_sum += (double)loss * (double)rows;
        row_sum += (double)rows;
    }
    bool one = t->config.accumulate == 1; /* its gradients are means already */
    row_sum = one || row_sum < 1.0 ? 1.0 : row_sum;
    r->loss = loss_sum / row_sum;
    t->grad_factor = 1.0 / ((double)r->loss_scale * row_sum);
    return mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_CHECK, MZI_PHASE_CHECK);
}

static mezzo_status write_update(mezzo_trainer *t, const mezzo_step_result *r) {
    const mezzo_optimizer_config *o = &t->config.optimizer;
    double number = (double)(t->state.step + 1), clip = 1.0;
    if (t->config.clip > 0.0f) /* the 1e-6 is PyTorch's */
        clip = fmin(1.0, (double)t->config.clip / (r->grad_norm + 1e-6));
    const float scalars[MZI_OPTIM_SCALARS] = {(float)r->lr, (float)(clip * t->grad_factor),
                                              (float)(1.0 / (1.0 - pow((double)o->beta1, number))),
                                              (float)(1.0 / (1.0 - pow((double)o->beta2, number)))};
    MZI_TRY(
        mzi_model_upload(t->model, MEZZO_ENTRY_TRAIN, t->update.scalars, scalars, sizeof scalars));
    MZI_TRY(mzi_model_run(t->model, MEZZO_ENTRY_TRAIN, MZI_PHASE_UPDATE, MZI_PHASE_UPDATE));
    t->model->version++;
    t->state.step++;
    return MEZZO_OK;
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

static void set_metrics(const mezzo_trainer *t, const mezzo_step_result *r) {
    mzi_metrics *m = &t->model->ctx->metrics;
    mzi_metric_set(m, MZI_METRIC_step, (double)r->step);
    mzi_metric_set(m, MZI_METRIC_attempts, (double)r->attempt);
    mzi_metric_set(m, MZI_METRIC_skipped_steps, (double)t->state.skipped);
    mzi_metric_set(m, MZI_METRIC_loss, r->loss);
    mzi_metric_set(m, MZI_METRIC_grad_norm, r->grad_norm);
    mzi_metric_set(m, MZI_METRIC_loss_scale, (double)r->loss_scale);
    mzi_metric_set(m, MZI_METRIC_lr, r->lr);
    if (r->reason == MEZZO_SKIP_GRADIENT || r->reason == MEZZO_SKIP_NORM)
        mzi_metric_add(m, MZI_METRIC_overflow_events, 1.0);
}

mezzo_status mezzo_trainer_step(mezzo_trainer *t, const mezzo_binding *inputs, int count,
                                mezzo_step_result *result) {
    mzi_error_clear(t->model->ctx);
    mezzo_step_result r = {.loss_scale = (float)t->state.scaler.scale,
                           .lr = mezzo_schedule_lr(&t->config.schedule,
                                                   (double)t->config.optimizer.lr, t->state.step)};
    MZI_TRY(run_window(t, inputs, count, &r));
    MZI_TRY(read_norms(t, &r));
    judge(&r);
    if (!r.skipped)
        MZI_TRY(write_update(t, &r));
    if (!mzi_scaler_step(&t->state.scaler, r.skipped))
        return fail_at_min(t, &r);
    t->state.attempt++;
    if (r.skipped)
        t->ledger[t->state.skipped++ % MEZZO_LEDGER_MAX] =
            (mezzo_skip){t->state.attempt, t->state.step, r.reason, r.loss_scale, r.where};
    r.step = t->state.step;
    r.attempt = t->state.attempt;
    set_metrics(t, &r);
    *result = r;
    return MEZZO_OK;
}

bool mezzo_trainer_skip(const mezzo_trainer *t, int64_t back, mezzo_skip *out) {
    if (back < 0 || back >= t->state.skipped || back >= MEZZO_LEDGER_MAX)
        return false;
    *out = t->ledger[(t->state.skipped - 1 - back) % MEZZO_LEDGER_MAX];
    return true;
}

mezzo_trainer_state mezzo_trainer_get_state(const mezzo_trainer *t) {
    return t->state;
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
        uint64_t bytes = state->buffer.bytes;
        void *host = mzi_alloc(model->ctx, bytes);
        if (!host)
            return mzi_out_of_memory(model->ctx, bytes, state->name);
        mezzo_status status =
            model->backend->download(model->backend, &state->buffer, 0, host, bytes);
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
        for (int64_t i = 0; i < count; i++)
            out[i] *= (float)t->grad_factor;
        return MEZZO_OK;
    }
    MZI_FAIL(t->model->ctx, MEZZO_INVALID_ARGUMENT, "there is no trained parameter `%s`", param);
}
