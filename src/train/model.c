/* A model's entry points: built, planned, given memory, run. */
#include <string.h>

#include "graph/segments.h"
#include "train/masters.h"

static bool computes(mezzo_dtype dtype) {
    return dtype == MEZZO_F32 || dtype == MEZZO_F16 || dtype == MEZZO_BF16;
}

static mezzo_status copy_overrides(mezzo_model *model, const mezzo_precision *precision) {
    mezzo_ctx *ctx = model->ctx;
    model->precision = *precision;
    model->precision.overrides = NULL;
    model->precision.override_count = 0;
    model->precision.segments = NULL;
    model->precision.segment_count = 0;
    model->precision.slow = NULL;
    model->precision.slow_count = 0;
    if (!precision->override_count)
        return MEZZO_OK;
    size_t bytes = (size_t)precision->override_count * sizeof *model->overrides;
    model->overrides = mzi_alloc(ctx, bytes);
    model->override_capacity = precision->override_count;
    if (!model->overrides)
        return mzi_out_of_memory(ctx, bytes, "precision overrides");
    model->precision.overrides = model->overrides;
    for (int k = 0; k < precision->override_count; k++) {
        mezzo_dtype compute = precision->overrides[k].compute;
        if (!computes(compute))
            MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                     "override \"%s\": compute type %s; f32, bf16, f16",
                     precision->overrides[k].match, mezzo_dtype_name(compute));
        char *match = mzi_copy_text(ctx, precision->overrides[k].match);
        if (!match)
            return mzi_out_of_memory(ctx, bytes, "precision overrides");
        model->overrides[model->precision.override_count++] = (mezzo_override){match, compute};
    }
    return MEZZO_OK;
}

static mezzo_status copy_recompute(mezzo_model *model, const mezzo_model_config *config) {
    size_t bytes = (size_t)config->recompute_count * sizeof *model->recompute;
    if (config->recompute_count == 0)
        return MEZZO_OK;
    model->recompute = mzi_alloc(model->ctx, bytes);
    if (!model->recompute)
        return mzi_out_of_memory(model->ctx, bytes, "patterns");
    model->recompute_count = config->recompute_count;
    for (int k = 0; k < config->recompute_count; k++) {
        model->recompute[k] = mzi_copy_text(model->ctx, config->recompute[k]);
        if (!model->recompute[k])
            return mzi_out_of_memory(model->ctx, bytes, "patterns");
    }
    return MEZZO_OK;
}

static mezzo_status check_config(mezzo_ctx *ctx, const mezzo_model_config *config) {
    mezzo_dtype compute = config->precision.compute;
    if (!config->build)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "the model has no build function");
    if (compute != MEZZO_DTYPE_NONE && compute != MEZZO_F64 && !computes(compute))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "compute type %s, which is only for storage; f32, bf16 or f16",
                 mezzo_dtype_name(compute));
    if (config->precision.master > MEZZO_MASTER_BF16)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "master %d is none of mezzo_master",
                 (int)config->precision.master);
    mezzo_dtype gradients = config->precision.gradients;
    if (gradients != MEZZO_DTYPE_NONE && gradients != MEZZO_F32 && gradients != MEZZO_BF16)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "gradients of type %s; f32 or bf16",
                 mezzo_dtype_name(gradients));
    return MEZZO_OK;
}

/* A type that the device does not have. */
static mezzo_status check_device(const mezzo_model *model) {
    if (model->precision.compute == MEZZO_F64 && !model->backend->target.has_f64)
        MZI_FAIL(model->ctx, MEZZO_UNSUPPORTED, "compute type f64: only the device ref has it");
    return MEZZO_OK;
}

static mezzo_status create(mezzo_model *model, const mezzo_model_config *config,
                           mezzo_entry entry) {
    MZI_TRY(copy_overrides(model, &config->precision));
    MZI_TRY(copy_recompute(model, config));
    MZI_TRY(
        mzi_model_set_segments(model, config->precision.segments, config->precision.segment_count));
    MZI_TRY(mzi_model_set_slow(model, config->precision.slow, config->precision.slow_count));
    MZI_TRY(mzi_backend_create(&model->backend, model->ctx, config->device));
    MZI_TRY(check_device(model));
    mezzo_graph *graph;
    MZI_TRY(mzi_model_graph(model, entry, &graph));
    if (graph->slow_count && model->backend->target.no_bf16)
        mzi_log(model->ctx, MEZZO_LOG_INFO,
                "%s: computing in f32; precision.speed_gate: off keeps bf16 for memory's sake",
                model->backend->target.no_bf16);
    mzi_graph_destroy(graph);
    return MEZZO_OK;
}

mezzo_status mezzo_model_create(mezzo_model **out, mezzo_ctx *ctx, const mezzo_model_config *config,
                                mezzo_entry entry) {
    mzi_error_clear(ctx);
    MZI_TRY(check_config(ctx, config));
    mezzo_model *model = mzi_alloc(ctx, sizeof *model);
    if (!model)
        return mzi_out_of_memory(ctx, sizeof *model, "a model");
    model->ctx = ctx;
    model->build = config->build;
    model->user = config->user;
    model->seed = config->seed;
    model->no_fuse = config->no_fuse;
    model->version = 1;
    mezzo_status status = create(model, config, entry);
    if (status != MEZZO_OK) {
        mezzo_model_destroy(model);
        return status;
    }
    *out = model;
    return MEZZO_OK;
}

static void destroy_entry(mezzo_model *model, mzi_entry *e) {
    if (!e->plan)
        return;
    mzi_backend *backend = model->backend;
    backend->program_destroy(backend, e->program);
    backend->buffer_destroy(backend, &e->arena);
    mzi_free(model->ctx, e->own, (size_t)e->plan->place_count * sizeof *e->own);
    mzi_plan_destroy(e->plan);
    *e = (mzi_entry){0};
}

void mzi_model_drop_plans(mezzo_model *model) {
    for (int e = 0; e < MEZZO_ENTRY_COUNT; e++)
        destroy_entry(model, &model->entries[e]);
    for (int32_t d = 0; d < model->derived_count; d++)
        model->backend->buffer_destroy(model->backend, &model->derived[d].buffer);
    model->derived_count = 0;
}

void mezzo_model_destroy(mezzo_model *model) {
    if (!model)
        return;
    mezzo_ctx *ctx = model->ctx;
    mzi_backend *backend = model->backend;
    mzi_model_drop_plans(model);
    for (int32_t s = 0; s < model->state_count; s++) {
        backend->buffer_destroy(backend, &model->states[s].buffer);
        mzi_free_text(ctx, model->states[s].name);
    }
    mzi_free(ctx, model->states, (size_t)model->state_capacity * sizeof *model->states);
    mzi_free(ctx, model->derived, (size_t)model->derived_capacity * sizeof *model->derived);
    for (int k = 0; k < model->precision.override_count; k++)
        mzi_free_text(ctx, (char *)(uintptr_t)model->overrides[k].match);
    mzi_free(ctx, model->overrides, (size_t)model->override_capacity * sizeof *model->overrides);
    mzi_model_free_segments(model);
    mzi_model_free_slow(model);
    for (int k = 0; k < model->recompute_count; k++)
        mzi_free_text(ctx, model->recompute[k]);
    mzi_free(ctx, model->recompute, (size_t)model->recompute_count * sizeof *model->recompute);
    if (backend)
        backend->destroy(backend);
    mzi_free(ctx, model, sizeof *model);
}

static mezzo_status build(mezzo_model *model, mezzo_graph *graph) {
    mezzo_status status = model->build(graph, model->user);
    MZI_TRY(graph->status); /* its message is the first */
    if (status != MEZZO_OK)
        MZI_FAIL(model->ctx, status, "the model's build function failed");
    if (graph->entry == MEZZO_ENTRY_TRAIN)
        MZI_TRY(mzi_differentiate(graph));
    MZI_TRY(mzi_pass_autocast(graph, &model->precision, model->backend->target.no_bf16));
    if (graph->entry == MEZZO_ENTRY_TRAIN)
        MZI_TRY(
            mzi_pass_segments(graph, model->precision.segments, model->precision.segment_count));
    MZI_TRY(mzi_pass_lint(graph, model->precision.lint, false));
    MZI_TRY(mzi_masters_follow(model, graph));
    if (graph->arena.exhausted)
        return mzi_out_of_memory(model->ctx, 0, "the names of a graph");
    return mzi_model_register(model, graph);
}

mezzo_status mzi_model_graph(mezzo_model *model, mezzo_entry entry, mezzo_graph **out) {
    mezzo_graph *graph;
    MZI_TRY(mzi_graph_create(&graph, model->ctx, entry));
    mezzo_status status = build(model, graph);
    if (status != MEZZO_OK) {
        mzi_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return MEZZO_OK;
}

/* Refuse what would be killed later. */
static mezzo_status check_memory(const mezzo_model *model, const mzi_plan *plan) {
    uint64_t workers = (uint64_t)mzi_team_size(model->ctx->team);
    uint64_t need = plan->arena_bytes + plan->worker_bytes * workers;
    for (int32_t v = 1; v < plan->graph->value_count; v++)
        if (plan->graph->values[v].kind == MZI_VALUE_DERIVED)
            need += mzi_value_bytes(&plan->graph->values[v]);
    uint64_t available = mzi_memory_available();
    if (need > available)
        MZI_FAIL(model->ctx, MEZZO_OUT_OF_MEMORY,
                 "the plan needs %.2f GiB more (%.2f GiB of activations); %.2f GiB are available "
                 "to this process: lower data.batch, or compute in bf16",
                 (double)need / 0x1p30, (double)plan->arena_bytes / 0x1p30,
                 (double)available / 0x1p30);
    return MEZZO_OK;
}

static mezzo_status give_memory(mezzo_model *model, mzi_entry *e) {
    mzi_backend *backend = model->backend;
    MZI_TRY(check_memory(model, e->plan));
    size_t own_bytes = (size_t)e->plan->place_count * sizeof *e->own;
    e->own = mzi_alloc(model->ctx, own_bytes);
    if (!e->own)
        return mzi_out_of_memory(model->ctx, own_bytes, "a plan's buffers");
    MZI_TRY(mzi_model_own(model, e->plan, e->own));
    MZI_TRY(backend->buffer_create(backend, e->plan->arena_bytes, &e->arena));
    return backend->program_create(backend, e->plan, &e->arena, e->own, &e->program);
}

mezzo_status mzi_model_install(mezzo_model *model, mezzo_entry entry, mezzo_graph *graph,
                               const char *recipe) {
    mzi_entry *e = &model->entries[entry];
    mezzo_status status = mzi_model_register(model, graph); /* moments came after the first time */
    if (status != MEZZO_OK) {
        mzi_graph_destroy(graph);
        return status;
    }
    destroy_entry(model, e);
    /* Evaluation repeats what was said of training. */
    bool log = entry == MEZZO_ENTRY_TRAIN || !model->entries[MEZZO_ENTRY_TRAIN].plan;
    status = mzi_pass_lint(graph, model->precision.lint, log);
    if (status != MEZZO_OK) {
        mzi_graph_destroy(graph);
        return status;
    }
    const mzi_plan_config config = {.recipe = recipe,
                                    .strict = model->precision.strict,
                                    .recompute = (const char *const *)model->recompute,
                                    .recompute_count = model->recompute_count,
                                    .recompute_chosen = model->recompute_chosen,
                                    .no_fuse = model->no_fuse};
    MZI_TRY(mzi_plan_create(&e->plan, graph, &model->backend->target, &config));
    status = give_memory(model, e);
    if (status != MEZZO_OK)
        destroy_entry(model, e);
    return status;
}

mezzo_status mzi_model_ensure(mezzo_model *model, mezzo_entry entry) {
    mezzo_graph *graph;
    if (model->entries[entry].plan)
        return MEZZO_OK;
    MZI_TRY(mzi_model_graph(model, entry, &graph));
    return mzi_model_install(model, entry, graph, "");
}

mezzo_status mzi_model_upload(mezzo_model *model, mezzo_entry entry, int32_t value,
                              const void *data, uint64_t bytes) {
    mzi_entry *e = &model->entries[entry];
    return model->backend->upload(model->backend, &e->arena, e->plan->places[value].offset, data,
                                  bytes);
}

mezzo_status mzi_model_download(mezzo_model *model, mezzo_entry entry, int32_t value, void *data,
                                uint64_t bytes) {
    const mzi_entry *e = &model->entries[entry];
    const mzi_place *place = &e->plan->places[value];
    const mzi_buffer *buffer = place->in_arena ? &e->arena : &e->own[value];
    return model->backend->download(model->backend, buffer, place->offset, data, bytes);
}

static bool is_own_input(const mezzo_graph *graph, int32_t v) {
    return v == graph->loss_scale || v == graph->rng || graph->values[v].name[0] == '\0';
}

static const mezzo_binding *find_binding(const mezzo_binding *inputs, int count, const char *name) {
    for (int k = 0; k < count; k++)
        if (strcmp(inputs[k].name, name) == 0)
            return &inputs[k];
    return NULL;
}

static mezzo_status check_integers(mezzo_ctx *ctx, const mzi_value *value, const int32_t *data) {
    int64_t count = mezzo_shape_count(value->tensor.shape);
    for (int64_t i = 0; value->int_below && i < count; i++)
        if (data[i] < value->int_from || data[i] >= value->int_below)
            MZI_FAIL(ctx, MEZZO_DATA, "input `%s`: element %lld is %d; the graph takes %lld..%lld",
                     value->name, (long long)i, data[i],
                     value->int_from > 0 ? (long long)value->int_from : 0LL,
                     (long long)value->int_below - 1);
    return MEZZO_OK;
}

mezzo_status mzi_model_bind(mezzo_model *model, mezzo_entry entry, const mezzo_binding *inputs,
                            int count, int64_t part, int64_t parts) {
    const mezzo_graph *graph = model->entries[entry].plan->graph;
    int used = 0;
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->kind != MZI_VALUE_INPUT || is_own_input(graph, v))
            continue;
        const mezzo_binding *input = find_binding(inputs, count, value->name);
        if (!input)
            MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "input `%s` is missing", value->name);
        uint64_t bytes = mzi_value_bytes(value);
        if (input->bytes != bytes * (uint64_t)parts)
            MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT,
                     "input `%s` has %zu bytes; it takes %llu (%lld times %llu)", value->name,
                     input->bytes, (unsigned long long)bytes * (unsigned long long)parts,
                     (long long)parts, (unsigned long long)bytes);
        const void *data = (const unsigned char *)input->data + bytes * (uint64_t)part;
        MZI_TRY(check_integers(model->ctx, value, data));
        MZI_TRY(mzi_model_upload(model, entry, v, data, bytes));
        used++;
    }
    if (used != count)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT,
                 "%d inputs are given, the graph takes %d: a name is unknown or comes twice", count,
                 used);
    return MEZZO_OK;
}

mezzo_status mzi_model_run(mezzo_model *model, mezzo_entry entry, mzi_phase first, mzi_phase last,
                           bool meters) {
    mzi_backend *backend = model->backend;
    mzi_entry *e = &model->entries[entry];
    const int32_t *end = e->plan->phase_end;
    MZI_TRY(mzi_model_settle(model));
    if (e->prepared_version != model->version && end[MZI_PHASE_PREPARE] > 0)
        MZI_TRY(backend->program_run(backend, e->program, 0, end[MZI_PHASE_PREPARE], meters));
    e->prepared_version = model->version;
    return backend->program_run(backend, e->program, first ? end[first - 1] : 0, end[last], meters);
}

static mezzo_status run_forward(mezzo_model *model, mezzo_entry entry, const mezzo_binding *inputs,
                                int count) {
    mzi_error_clear(model->ctx);
    MZI_TRY(mzi_model_ensure(model, entry));
    MZI_TRY(mzi_model_bind(model, entry, inputs, count, 0, 1));
    return mzi_model_run(model, entry, MZI_PHASE_FORWARD, MZI_PHASE_FORWARD, false);
}

mezzo_status mezzo_model_evaluate(mezzo_model *model, const mezzo_binding *inputs, int count) {
    return run_forward(model, MEZZO_ENTRY_EVAL, inputs, count);
}

mezzo_status mezzo_model_decode(mezzo_model *model, const mezzo_binding *inputs, int count) {
    return run_forward(model, MEZZO_ENTRY_DECODE, inputs, count);
}

mezzo_status mezzo_model_output(mezzo_model *model, mezzo_entry entry, const char *name, float *out,
                                int64_t count) {
    mzi_error_clear(model->ctx);
    const mzi_plan *plan = model->entries[entry].plan;
    for (int32_t k = 0; plan && k < plan->graph->output_count; k++) {
        const mzi_output *output = &plan->graph->outputs[k];
        if (strcmp(output->name, name) != 0)
            continue;
        const mezzo_tensor *tensor = &plan->graph->values[output->value].tensor;
        if (mezzo_shape_count(tensor->shape) != count)
            MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "output `%s` has %lld elements, not %lld",
                     name, (long long)mezzo_shape_count(tensor->shape), (long long)count);
        uint64_t bytes = (uint64_t)count * mezzo_dtype_bytes(tensor->dtype);
        if (tensor->dtype == MEZZO_F32)
            return mzi_model_download(model, entry, output->value, out, bytes);
        void *raw = mzi_alloc(model->ctx, bytes);
        if (!raw)
            return mzi_out_of_memory(model->ctx, bytes, name);
        mezzo_status status = mzi_model_download(model, entry, output->value, raw, bytes);
        if (status == MEZZO_OK)
            status = mezzo_convert(model->ctx, out, MEZZO_F32, raw, tensor->dtype, (size_t)count,
                                   MEZZO_ROUND_NEAREST, 0);
        mzi_free(model->ctx, raw, bytes);
        return status;
    }
    MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "there is no output `%s`, or it has not run",
             name);
}
