/* State by name: creation, initial values, reading and writing. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "train/average.h"
#include "train/initial.h"
#include "train/masters.h"

int32_t mzi_model_find(const mezzo_model *model, const char *name) {
    for (int32_t s = 0; s < model->state_count; s++)
        if (strcmp(model->states[s].name, name) == 0)
            return s;
    return -1;
}

static mezzo_state_kind kind_of(const mzi_value *value) {
    if (value->kind == MZI_VALUE_PARAM)
        return MEZZO_STATE_PARAM;
    if (value->is_cache)
        return MEZZO_STATE_CACHE;
    if (strncmp(value->name, MZI_AVERAGE_PREFIX, strlen(MZI_AVERAGE_PREFIX)) == 0)
        return MEZZO_STATE_AVERAGE;
    return strncmp(value->name, "optimizer/", 10) == 0 ? MEZZO_STATE_MOMENT : MEZZO_STATE_STATISTIC;
}

/* As buffers are. */
static bool is_zero(const mezzo_init *init) {
    return init->kind == MEZZO_INIT_CONSTANT && init->a == 0.0f && !signbit(init->a);
}

/* A new state: a moment of BF16 has that form, a parameter gets its form later. */
static mezzo_status add_state(mezzo_model *model, const mzi_value *value) {
    mezzo_ctx *ctx = model->ctx;
    bool bf16 = value->tensor.dtype == MEZZO_BF16;
    MZI_TRY(mzi_grow(ctx, (void **)&model->states, &model->state_capacity, model->state_count + 1,
                     sizeof *model->states));
    mzi_state state = {.kind = kind_of(value),
                       .shape = value->tensor.shape,
                       .dtype = bf16 ? MEZZO_F32 : value->tensor.dtype,
                       .compute = value->tensor.dtype,
                       .form = bf16 ? MEZZO_MASTER_BF16 : MEZZO_MASTER_F32,
                       .init = value->init,
                       .is_unset = !is_zero(&value->init)};
    state.name = mzi_copy_text(ctx, value->name);
    if (!state.name)
        return mzi_out_of_memory(ctx, strlen(value->name) + 1, "a name");
    mezzo_status status =
        model->backend->buffer_create(model->backend, mzi_value_bytes(value), &state.buffer);
    if (status != MEZZO_OK) {
        mzi_free_text(ctx, state.name);
        return status;
    }
    model->states[model->state_count++] = state;
    model->unset_count += state.is_unset;
    return MEZZO_OK;
}

static void note_set(mezzo_model *model, mzi_state *state) {
    model->unset_count -= state->is_unset;
    state->is_unset = false;
}

mezzo_status mzi_model_settle(mezzo_model *model) {
    for (int32_t s = 0; s < model->state_count && model->unset_count > 0; s++) {
        if (!model->states[s].is_unset)
            continue;
        MZI_TRY(mzi_state_initialise(model, &model->states[s]));
        note_set(model, &model->states[s]);
    }
    return MEZZO_OK;
}

static mezzo_status check_state(mezzo_model *model, const mzi_value *value,
                                const mzi_state *state) {
    mezzo_dtype dtype = state->form == MEZZO_MASTER_F32 ? state->dtype : MEZZO_BF16;
    if (mezzo_shape_equal(state->shape, value->tensor.shape) && dtype == value->tensor.dtype)
        return MEZZO_OK;
    MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT,
             "`%s` has another shape or type in another entry point of the model", value->name);
}

mezzo_status mzi_model_register(mezzo_model *model, const mezzo_graph *graph) {
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->kind != MZI_VALUE_PARAM && value->kind != MZI_VALUE_STATE)
            continue;
        int32_t found = mzi_model_find(model, value->name);
        if (found < 0)
            MZI_TRY(add_state(model, value));
        else
            MZI_TRY(check_state(model, value, &model->states[found]));
    }
    /* The type that a parameter is read in: its narrowest derived form. */
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->kind != MZI_VALUE_DERIVED)
            continue;
        mzi_state *state = &model->states[mzi_model_find(model, graph->values[value->source].name)];
        if (mezzo_dtype_bytes(value->tensor.dtype) < mezzo_dtype_bytes(state->compute))
            state->compute = value->tensor.dtype;
    }
    return MEZZO_OK;
}

static mezzo_status find_derived(mezzo_model *model, const mzi_value *value, int32_t state,
                                 mzi_buffer *out) {
    for (int32_t d = 0; d < model->derived_count; d++) {
        const mzi_derived *derived = &model->derived[d];
        if (derived->state == state && derived->dtype == value->tensor.dtype &&
            derived->layout == value->layout) {
            *out = derived->buffer;
            return MEZZO_OK;
        }
    }
    MZI_TRY(mzi_grow(model->ctx, (void **)&model->derived, &model->derived_capacity,
                     model->derived_count + 1, sizeof *model->derived));
    mzi_derived derived = {.state = state, .dtype = value->tensor.dtype, .layout = value->layout};
    MZI_TRY(model->backend->buffer_create(model->backend, mzi_value_bytes(value), &derived.buffer));
    model->derived[model->derived_count++] = derived;
    *out = derived.buffer;
    return MEZZO_OK;
}

mezzo_status mzi_model_own(mezzo_model *model, const mzi_plan *plan, mzi_buffer *own) {
    const mezzo_graph *graph = plan->graph;
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->kind == MZI_VALUE_PARAM || value->kind == MZI_VALUE_STATE)
            own[v] = model->states[mzi_model_find(model, value->name)].buffer;
        else if (value->kind == MZI_VALUE_DERIVED)
            MZI_TRY(find_derived(
                model, value, mzi_model_find(model, graph->values[value->source].name), &own[v]));
    }
    /* A view of state has the memory of what it shows. */
    for (int32_t n = 0; n < graph->node_count; n++)
        if (graph->nodes[n].op->view && !plan->places[graph->nodes[n].out[0]].in_arena)
            own[graph->nodes[n].out[0]] = own[graph->nodes[n].in[0]];
    return MEZZO_OK;
}

uint64_t mzi_model_state_bytes(const mezzo_model *model) {
    uint64_t bytes = 0;
    for (int32_t s = 0; s < model->state_count; s++)
        bytes += model->states[s].buffer.bytes;
    return bytes;
}

uint64_t mzi_model_weight_bytes(const mezzo_model *model) {
    uint64_t bytes = 0;
    for (int32_t d = 0; d < model->derived_count; d++)
        bytes += model->derived[d].buffer.bytes;
    return bytes;
}

int mezzo_model_state_count(const mezzo_model *model) {
    return model->state_count;
}

int mezzo_model_state_find(const mezzo_model *model, const char *name) {
    return mzi_model_find(model, name);
}

mezzo_state_info mezzo_model_state_at(const mezzo_model *model, int index) {
    if (index < 0 || index >= model->state_count)
        return (mezzo_state_info){.name = ""};
    const mzi_state *s = &model->states[index];
    return (mezzo_state_info){s->name, s->kind, s->shape,       s->compute,
                              s->form, s->why,  s->buffer.bytes};
}

static mezzo_status check_access(mezzo_model *model, int index, int64_t count) {
    if (index < 0 || index >= model->state_count)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "tensor %d: the model has %d", index,
                 model->state_count);
    const mzi_state *state = &model->states[index];
    if (mezzo_shape_count(state->shape) != count)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT, "`%s` has %lld elements, not %lld",
                 state->name, (long long)mezzo_shape_count(state->shape), (long long)count);
    if (state->dtype != MEZZO_F32)
        MZI_FAIL(model->ctx, MEZZO_UNSUPPORTED, "`%s` is %s: only FP32 state is copied out",
                 state->name, mezzo_dtype_name(state->dtype));
    return MEZZO_OK;
}

mezzo_status mezzo_model_read(mezzo_model *model, int index, float *out, int64_t count) {
    mzi_error_clear(model->ctx);
    MZI_TRY(check_access(model, index, count));
    return mzi_model_read_part(model, index, 0, count, out);
}

mezzo_status mzi_model_read_part(mezzo_model *model, int32_t index, int64_t first, int64_t count,
                                 float *out) {
    MZI_TRY(mzi_model_settle(model));
    return mzi_state_read(model, &model->states[index], first, count, out);
}

/* A worker reads what fits on its stack and the first cache, FILL_PARTS times for a chunk. */
enum {
    FILL_PART = 4096,
    FILL_PARTS = 16
};

typedef struct filling {
    mezzo_model *model;
    mzi_state *state;
    mzi_part_fn *read;
    const void *user;
    _Atomic int failure; /* the mezzo_status of a chunk that failed */
} filling;

static void fill_chunk(void *arg, int worker, int64_t begin, int64_t end) {
    filling *f = arg;
    float part[FILL_PART];
    (void)worker;
    for (int64_t i = begin; i < end; i += FILL_PART) {
        int64_t count = end - i < FILL_PART ? end - i : FILL_PART;
        f->read(f->user, i, count, part);
        mezzo_status status = mzi_state_write(f->model, f->state, i, count, part);
        if (status != MEZZO_OK)
            atomic_store(&f->failure, (int)status);
    }
}

mezzo_status mzi_model_fill(mezzo_model *model, int32_t index, mzi_part_fn *read,
                            const void *user) {
    mzi_state *state = &model->states[index];
    filling f = {.model = model, .state = state, .read = read, .user = user};
    note_set(model, state);
    model->version++;
    mzi_team_run(model->ctx->team, fill_chunk, &f, mezzo_shape_count(state->shape),
                 FILL_PART * FILL_PARTS);
    return (mezzo_status)atomic_load(&f.failure);
}

static void read_array(const void *user, int64_t first, int64_t count, float *out) {
    memcpy(out, (const float *)user + first, (size_t)count * sizeof *out);
}

mezzo_status mezzo_model_write(mezzo_model *model, int index, const float *in, int64_t count) {
    mzi_error_clear(model->ctx);
    MZI_TRY(check_access(model, index, count));
    return mzi_model_fill(model, index, read_array, in);
}
