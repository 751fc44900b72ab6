#include "train/masters.h"

#include "num/split.h"

enum {
    PART = 4096 /* elements on the stack at once */
};

uint64_t mzi_form_bytes(mezzo_master form, mezzo_dtype dtype, int64_t count) {
    size_t element = form == MEZZO_MASTER_BF16 ? sizeof(mezzo_bf16) : mezzo_dtype_bytes(dtype);
    return (uint64_t)count * element;
}

static uint64_t low_offset(const mzi_state *state) {
    return (uint64_t)mezzo_shape_count(state->shape) * sizeof(mezzo_bf16);
}

/* At most PART elements. */
static mezzo_status write_part(mezzo_model *model, mzi_state *state, int64_t first, int64_t count,
                               const float *in) {
    mzi_backend *backend = model->backend;
    mezzo_bf16 high[PART];
    uint16_t low[PART];
    uint64_t at = (uint64_t)first * sizeof *high, bytes = (uint64_t)count * sizeof *high;
    for (int64_t i = 0; i < count; i++) {
        high[i] = mzi_bf16_round_away(in[i]);
        low[i] = mzi_split_low(in[i]);
    }
    MZI_TRY(backend->upload(backend, &state->buffer, at, high, bytes));
    if (state->form == MEZZO_MASTER_SPLIT)
        MZI_TRY(backend->upload(backend, &state->buffer, low_offset(state) + at, low, bytes));
    return MEZZO_OK;
}

static mezzo_status read_part(mezzo_model *model, const mzi_state *state, int64_t first,
                              int64_t count, float *out) {
    mzi_backend *backend = model->backend;
    mezzo_bf16 high[PART];
    uint16_t low[PART];
    uint64_t at = (uint64_t)first * sizeof *high, bytes = (uint64_t)count * sizeof *high;
    bool split = state->form == MEZZO_MASTER_SPLIT;
    MZI_TRY(backend->download(backend, &state->buffer, at, high, bytes));
    if (split)
        MZI_TRY(backend->download(backend, &state->buffer, low_offset(state) + at, low, bytes));
    for (int64_t i = 0; i < count; i++)
        out[i] = split ? mzi_join(high[i], low[i]) : mzi_bf16_load(high[i]);
    return MEZZO_OK;
}

mezzo_status mzi_state_write(mezzo_model *model, mzi_state *state, int64_t first, int64_t count,
                             const float *in) {
    if (state->form == MEZZO_MASTER_F32)
        return model->backend->upload(model->backend, &state->buffer, (uint64_t)first * sizeof *in,
                                      in, (uint64_t)count * sizeof *in);
    for (int64_t i = 0; i < count; i += PART) {
        int64_t part = count - i < PART ? count - i : PART;
        MZI_TRY(write_part(model, state, first + i, part, in + i));
    }
    return MEZZO_OK;
}

mezzo_status mzi_state_read(mezzo_model *model, const mzi_state *state, int64_t first,
                            int64_t count, float *out) {
    if (state->form == MEZZO_MASTER_F32)
        return model->backend->download(model->backend, &state->buffer,
                                        (uint64_t)first * sizeof *out, out,
                                        (uint64_t)count * sizeof *out);
    for (int64_t i = 0; i < count; i += PART) {
        int64_t part = count - i < PART ? count - i : PART;
        MZI_TRY(read_part(model, state, first + i, part, out + i));
    }
    return MEZZO_OK;
}

/* From FP32 to `form`, by way of the host; on failure the state is as it was.  Zeros, which an
 * unset state still has, are zeros in every form. */
static mezzo_status convert(mezzo_model *model, mzi_state *state, mezzo_master form) {
    mzi_backend *backend = model->backend;
    int64_t count = mezzo_shape_count(state->shape);
    mzi_state made = *state;
    float part[PART];
    made.form = form;
    MZI_TRY(backend->buffer_create(backend, mzi_form_bytes(form, MEZZO_F32, count), &made.buffer));
    mezzo_status status = MEZZO_OK;
    for (int64_t i = 0; i < count && status == MEZZO_OK && !state->is_unset; i += PART) {
        int64_t n = count - i < PART ? count - i : PART;
        status = mzi_state_read(model, state, i, n, part);
        if (status == MEZZO_OK)
            status = mzi_state_write(model, &made, i, n, part);
    }
    if (status != MEZZO_OK) {
        backend->buffer_destroy(backend, &made.buffer);
        return status;
    }
    mzi_model_drop_plans(model);
    backend->buffer_destroy(backend, &state->buffer);
    *state = made;
    return MEZZO_OK;
}

/* The reader for whose sake a parameter does not get `form`; null if it does, or nothing reads it.
 */
static const mzi_node *objection(const mzi_master_readers *readers, mezzo_master form) {
    if (readers->f32)
        return readers->f32;
    if (form == MEZZO_MASTER_BF16)
        return readers->wide;
    if (readers->cast) /* halves are for the sake of the weight in BF16 */
        return NULL;
    return readers->low ? readers->low : readers->wide;
}

static void say_why(mzi_state *state, const mzi_node *reader) {
    if (!reader)
        mzi_format(state->why, sizeof state->why, "nothing computes with it");
    else if (reader->op == &mzi_op_cast)
        mzi_format(state->why, sizeof state->why, "read in %s", mezzo_dtype_name(reader->compute));
    else
        mzi_format(state->why, sizeof state->why, "%s reads it in f32", reader->op->name);
}

mezzo_status mzi_masters_choose(mezzo_model *model, mezzo_graph *graph, bool is_trial) {
    mezzo_master form = model->precision.master;
    for (int32_t v = 1; v < graph->value_count && form != MEZZO_MASTER_F32; v++) {
        if (graph->values[v].kind != MZI_VALUE_PARAM || graph->values[v].tensor.dtype != MEZZO_F32)
            continue;
        mzi_state *state = &model->states[mzi_model_find(model, graph->values[v].name)];
        const mzi_master_readers readers = mzi_master_readers_of(graph, v);
        const mzi_node *reader = objection(&readers, form);
        if (reader || graph->values[v].is_output || !(readers.cast || readers.low)) {
            say_why(state, reader);
            continue;
        }
        if (!is_trial) {
            MZI_TRY(convert(model, state, form));
            state->compute = MEZZO_BF16;
        }
        mzi_master_lower(graph, v, form == MEZZO_MASTER_SPLIT);
    }
    return MEZZO_OK;
}

mezzo_status mzi_masters_follow(mezzo_model *model, mezzo_graph *graph) {
    for (int32_t v = 1; v < graph->value_count; v++) {
        mzi_value *value = &graph->values[v];
        int32_t s = value->kind == MZI_VALUE_PARAM ? mzi_model_find(model, value->name) : -1;
        if (s < 0 || model->states[s].form == MEZZO_MASTER_F32)
            continue;
        const mzi_node *reader = mzi_master_readers_of(graph, v).f32;
        if (reader)
            MZI_FAIL(model->ctx, MEZZO_UNSUPPORTED,
                     "`%s` reads `%s`, whose master is kept for readers in bf16: "
                     "precision.master f32 has it for all",
                     reader->name, value->name);
        mzi_master_lower(graph, v, model->states[s].form == MEZZO_MASTER_SPLIT);
    }
    return MEZZO_OK;
}
