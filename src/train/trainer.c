/* A trainer: made, asked, set, taken down.  What it does in a step is in step.c. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

#include "base/digest.h"
#include "num/number.h"
#include "train/fit.h"
#include "train/masters.h"
#include "train/resume.h"

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

static mezzo_status append_tail(mezzo_trainer *t, mezzo_graph *graph, bool is_trial) {
    MZI_TRY(mzi_masters_choose(t->model, graph, is_trial));
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

mezzo_status mzi_trainer_graph_create(mezzo_trainer *t, bool is_trial, mezzo_graph **out) {
    mezzo_graph *graph;
    t->update = (mzi_update){0};
    MZI_TRY(mzi_model_graph(t->model, MEZZO_ENTRY_TRAIN, &graph));
    graph->metered = true;
    mezzo_status status = append_tail(t, graph, is_trial);
    if (status != MEZZO_OK)
        mzi_graph_destroy(graph);
    else
        *out = graph;
    return status;
}

static mezzo_status plan(mezzo_trainer *t) {
    mezzo_graph *graph;
    char recipe[600];
    if (t->config.memory_bytes > 0)
        MZI_TRY(mzi_trainer_fit(t, t->config.memory_bytes));
    MZI_TRY(mzi_trainer_graph_create(t, false, &graph));
    recipe_of(t, recipe, sizeof recipe);
    MZI_TRY(mzi_model_install(t->model, MEZZO_ENTRY_TRAIN, graph, recipe));
    return give_memory(t);
}

/* Before masters take their form: a refusal must leave them as they were. */
static mezzo_status check_optimizer(mezzo_ctx *ctx, const mzi_optim_def *optim,
                                    const mezzo_optimizer_config *config) {
    mezzo_attrs unused = {0};
    MZI_TRY(optim->attrs(ctx, config, &unused));
    return optim->otherwise ? optim->otherwise->attrs(ctx, config, &unused) : MEZZO_OK;
}

static mezzo_status create(mezzo_trainer *t) {
    mezzo_ctx *ctx = t->model->ctx;
    mezzo_scaler_config scaler = t->config.scaler;
    if (t->model->precision.compute == MEZZO_F64)
        MZI_FAIL(ctx, MEZZO_UNSUPPORTED, "f64 is for gradient checks: masters are FP32");
    MZI_TRY(check_config(ctx, &t->config));
    if (t->config.accumulate > 1 && t->model->precision.gradients == MEZZO_BF16)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "gradients of bf16 with %d micro-batches a step: their sums are FP32, and so are "
                 "the gradients then",
                 t->config.accumulate);
    t->optim = mzi_optim_find(t->config.optimizer.kind);
    if (!t->optim)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "optimizer \"%s\": adamw, lion, muon or sgd",
                 t->config.optimizer.kind ? t->config.optimizer.kind : "(null)");
    MZI_TRY(check_optimizer(ctx, t->optim, &t->config.optimizer));
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

int mezzo_trainer_trained_count(const mezzo_trainer *t) {
    return t->update.trained;
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
    MZI_TRY(mzi_model_settle(model));
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

/* `count` elements of a value that is FP32 or BF16. */
static mezzo_status read_value(mezzo_trainer *t, int32_t value, float *out, int64_t count) {
    mezzo_dtype dtype = mzi_trainer_graph(t)->values[value].tensor.dtype;
    size_t size = mezzo_dtype_bytes(dtype);
    /* At the end of the room for FP32, so that widening from the front overtakes nothing. */
    char *raw = (char *)out + (size_t)count * (sizeof *out - size);
    MZI_TRY(mzi_model_download(t->model, MEZZO_ENTRY_TRAIN, value, raw, (uint64_t)count * size));
    for (int64_t i = 0; i < count && dtype == MEZZO_BF16; i++) {
        mezzo_bf16 narrow;
        memcpy(&narrow, raw + (size_t)i * sizeof narrow, sizeof narrow);
        out[i] = mzi_bf16_load(narrow);
    }
    return MEZZO_OK;
}

mezzo_status mezzo_trainer_read_gradient(mezzo_trainer *t, const char *param, float *out,
                                         int64_t count) {
    const mezzo_graph *graph = mzi_trainer_graph(t);
    mzi_error_clear(t->model->ctx);
    for (int32_t g = 0; g < graph->grad_count; g++) {
        const mzi_value *value = &graph->values[graph->grads[g].param];
        if (strcmp(value->name, param) != 0)
            continue;
        if (mezzo_shape_count(value->tensor.shape) != count)
            MZI_FAIL(t->model->ctx, MEZZO_INVALID_ARGUMENT, "`%s` has %lld elements, not %lld",
                     param, (long long)mezzo_shape_count(value->tensor.shape), (long long)count);
        MZI_TRY(read_value(t, graph->grads[g].grad, out, count));
        float factor = (float)ldexp(t->grad_factor, -graph->grads[g].exponent);
        for (int64_t i = 0; i < count; i++)
            out[i] *= factor;
        return MEZZO_OK;
    }
    MZI_FAIL(t->model->ctx, MEZZO_INVALID_ARGUMENT, "there is no trained parameter `%s`", param);
}
