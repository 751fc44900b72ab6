#include "train/average.h"

#include <string.h>

#include "train/update.h"

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t n = mezzo_shape_count(use->in[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_ema, n, MZI_GRAIN);
    call->out[0] = mzi_in(lowering, 1);
    for (int k = 0; k < 3; k++)
        call->in[k] = mzi_in(lowering, k);
    if (use->attrs->i[0]) /* lower halves follow the upper ones */
        call->in[3] = mzi_from(call->in[0], n);
    call->p.e.n = n;
    call->p.e.alpha = (float)use->attrs->f[0];
    return MEZZO_OK;
}

static double flops(const mezzo_op_use *use) {
    return 3.0 * (double)mezzo_shape_count(use->in[0].shape);
}

/* in: master, average, scalars. */
static const mezzo_op_def average = {.name = "ema",
                                     .help = "in 1 = decay in 1 + (1 - decay) in 0",
                                     .ints = "split",
                                     .reals = "decay",
                                     .in_min = 3,
                                     .in_max = 3,
                                     .cast = MEZZO_CAST_FULL,
                                     .not_differentiable = true,
                                     .lower = lower,
                                     .flops = flops};

mezzo_status mzi_average_append(mezzo_graph *graph, int32_t param, int32_t scalars, double decay,
                                bool is_split) {
    const mzi_value value = graph->values[param];
    const mezzo_attrs attrs = {.i = {is_split}, .f = {decay}};
    const char *name = mzi_arena_text(&graph->arena, MZI_AVERAGE_PREFIX "%s", value.name);
    mezzo_value state =
        mzi_graph_state(graph, name ? name : "", MZI_VALUE_STATE, value.tensor.shape,
                        (mezzo_init){MEZZO_INIT_CONSTANT, 0.0f});
    const int32_t in[] = {param, state.id, scalars};
    return mzi_update_write(graph, &average, value.name, in, 3, &attrs);
}

int32_t mzi_average_of(const mezzo_model *model, int32_t index) {
    const size_t prefix = strlen(MZI_AVERAGE_PREFIX);
    for (int32_t s = 0; s < model->state_count; s++)
        if (model->states[s].kind == MEZZO_STATE_AVERAGE &&
            strcmp(model->states[s].name + prefix, model->states[index].name) == 0)
            return s;
    return -1;
}

int64_t mzi_average_count(const mezzo_model *model) {
    int64_t sum = 0, largest = 0;
    for (int32_t s = 0; s < model->state_count; s++) {
        int64_t count = mezzo_shape_count(model->states[s].shape);
        if (model->states[s].kind != MEZZO_STATE_AVERAGE)
            continue;
        sum += count;
        largest = count > largest ? count : largest;
    }
    return sum + largest;
}

mezzo_status mzi_average_show(mezzo_model *model, float *masters) {
    int64_t at = 0;
    for (int32_t s = 0; s < model->state_count; s++) {
        int64_t count = mezzo_shape_count(model->states[s].shape);
        if (mzi_average_of(model, s) < 0)
            continue;
        MZI_TRY(mezzo_model_read(model, s, masters + at, count));
        at += count;
    }
    float *spare = masters + at; /* as large as the largest */
    for (int32_t s = 0; s < model->state_count; s++) {
        int64_t count = mezzo_shape_count(model->states[s].shape);
        int32_t from = mzi_average_of(model, s);
        if (from < 0)
            continue;
        MZI_TRY(mezzo_model_read(model, from, spare, count));
        MZI_TRY(mezzo_model_write(model, s, spare, count));
    }
    return MEZZO_OK;
}

mezzo_status mzi_average_hide(mezzo_model *model, const float *masters) {
    for (int32_t s = 0; s < model->state_count; s++) {
        int64_t count = mezzo_shape_count(model->states[s].shape);
        if (mzi_average_of(model, s) < 0)
            continue;
        MZI_TRY(mezzo_model_write(model, s, masters, count));
        masters += count;
    }
    return MEZZO_OK;
}
