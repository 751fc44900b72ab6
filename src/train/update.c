#include "train/update.h"

#include <string.h>

#include "base/glob.h"
#include "graph/stats.h"
#include "graph/write.h"
#include "train/average.h"

mezzo_status mzi_update_write(mezzo_graph *graph, const mezzo_op_def *op, const char *name,
                              const int32_t *in, int count, const mezzo_attrs *attrs) {
    MZI_TRY(graph->status);
    MZI_TRY(mzi_grow(graph->ctx, (void **)&graph->nodes, &graph->node_capacity,
                     graph->node_count + 1, sizeof *graph->nodes));
    mzi_node node = mzi_write_node(graph, op, MZI_PHASE_UPDATE, name,
                                   "updates are computed in FP32", in, count);
    if (!node.name)
        return mzi_out_of_memory(graph->ctx, 0, "the names of a graph");
    if (attrs)
        node.attrs = *attrs;
    graph->nodes[graph->node_count++] = node;
    return MEZZO_OK;
}

/* Norms and biases are vectors: they do not decay unless a group says so. */
static void group_of(const mezzo_optimizer_config *config, const mzi_value *param,
                     mezzo_attrs *attrs) {
    double decay = param->tensor.shape.rank > 1 ? (double)config->weight_decay : 0.0;
    double lr_scale = 1.0;
    for (int k = 0; k < config->group_count; k++) {
        if (!mzi_glob_match(config->groups[k].match, param->name))
            continue;
        decay = (double)config->groups[k].weight_decay;
        lr_scale = (double)config->groups[k].lr_scale;
    }
    attrs->f[MZI_OPTIM_WEIGHT_DECAY] = decay;
    attrs->f[MZI_OPTIM_LR_SCALE] = lr_scale;
}

static mezzo_status add_norm(mezzo_graph *graph, int32_t of, int32_t value, mzi_update *out) {
    graph->origin = graph->values[of].name;
    mezzo_value in = {value};
    mezzo_value norm = mezzo_apply(graph, &mzi_op_stats, "norm", &in, 1, NULL, NULL);
    MZI_TRY(graph->status);
    graph->values[norm.id].is_output = true;
    graph->nodes[graph->node_count - 1].rule = MZI_RULE_REDUCE;
    graph->nodes[graph->node_count - 1].reason = "every step is checked, in every type";
    out->norms[out->norm_count++] = norm.id;
    return MEZZO_OK;
}

static mezzo_status add_norms(mezzo_graph *graph, mzi_update *out) {
    int32_t count = graph->grad_count + graph->commit_count;
    out->norms = mzi_arena_push(&graph->arena, (size_t)count * sizeof *out->norms);
    if (!out->norms)
        return mzi_out_of_memory(graph->ctx, (size_t)count * sizeof *out->norms, "norms");
    out->norm_count = 0;
    graph->phase = MZI_PHASE_CHECK;
    for (int32_t g = 0; g < graph->grad_count; g++)
        MZI_TRY(add_norm(graph, graph->grads[g].param, graph->grads[g].grad, out));
    for (int32_t c = 0; c < graph->commit_count; c++)
        MZI_TRY(add_norm(graph, graph->commits[c].state, graph->commits[c].next, out));
    return MEZZO_OK;
}

typedef struct tail {
    mezzo_graph *graph;
    const mezzo_optimizer_config *config;
    const mezzo_precision *precision;
    mzi_update *out;
    int32_t scalars; /* of the parameter at hand */
} tail;

static int32_t add_moment(const tail *t, const mzi_value *param, const char *slot) {
    mezzo_graph *graph = t->graph;
    const char *name = mzi_arena_text(&graph->arena, "optimizer/%s.%s", param->name, slot);
    int32_t moment = mzi_graph_state(graph, name ? name : "", MZI_VALUE_STATE, param->tensor.shape,
                                     (mezzo_init){MEZZO_INIT_CONSTANT, 0.0f})
                         .id;
    if (moment && t->config->state == MEZZO_BF16)
        graph->values[moment].tensor.dtype = MEZZO_BF16;
    return moment;
}

/* Random bits for what is rounded stochastically; 0 if nothing is. */
static int32_t add_key(const tail *t, mezzo_master form) {
    bool master = form == MEZZO_MASTER_BF16 && !t->precision->master_nearest;
    if (!master && t->config->state != MEZZO_BF16)
        return 0;
    if (!t->out->key)
        t->out->key = mzi_graph_add_value(t->graph, "", MZI_VALUE_INPUT,
                                          (mezzo_tensor){MEZZO_I32, mezzo_shape1(4)});
    return t->out->key;
}

static mezzo_status add_optimizer(const tail *t, const mzi_optim_def *optim, const mzi_grad *grad) {
    mezzo_graph *graph = t->graph;
    mezzo_attrs attrs = {0};
    bool is_other = optim->applies && !optim->applies(graph, grad->param);
    optim = is_other ? optim->otherwise : optim;
    MZI_TRY(optim->attrs(graph->ctx, t->config, &attrs));
    const mzi_value param = graph->values[grad->param];
    bool low = param.tensor.dtype == MEZZO_BF16;
    mezzo_master form = low ? t->precision->master : MEZZO_MASTER_F32;
    attrs.i[MZI_OPTIM_MASTER] = form;
    attrs.i[MZI_OPTIM_NEAREST] = form == MEZZO_MASTER_BF16 && t->precision->master_nearest;
    int32_t in[MEZZO_OP_IN_MAX] = {grad->grad, grad->param};
    int count = 2, slots = mzi_optim_slot_count(optim);
    for (int s = 0; s < slots; s++)
        in[count++] = add_moment(t, &param, optim->slots[s]);
    in[count++] = t->scalars;
    in[count] = add_key(t, form);
    count += in[count] != 0;
    group_of(t->config, &param, &attrs);
    if (is_other)
        attrs.f[MZI_OPTIM_LR_SCALE] *= (double)t->config->other_lr_scale;
    return mzi_update_write(graph, &optim->update, param.name, in, count, &attrs);
}

static bool is_split(const tail *t, const mzi_grad *grad) {
    return t->graph->values[grad->param].tensor.dtype == MEZZO_BF16 &&
           t->precision->master == MEZZO_MASTER_SPLIT;
}

/* The scalars of updates whose gradient has this exponent. */
static mezzo_status scalars_of(mezzo_graph *graph, int32_t exponent, mzi_update *out,
                               int32_t *scalars) {
    int32_t k = 0;
    while (k < out->scalars_count && out->exponents[k] != exponent)
        k++;
    if (k == out->scalars_count) {
        out->scalars[k] = mzi_graph_add_value(
            graph, "", MZI_VALUE_INPUT, (mezzo_tensor){MEZZO_F32, mezzo_shape1(MZI_OPTIM_SCALARS)});
        out->exponents[k] = exponent;
        out->scalars_count++;
    }
    *scalars = out->scalars[k];
    return graph->status;
}

mezzo_status mzi_update_append(mezzo_graph *graph, const mzi_optim_def *optim,
                               const mezzo_optimizer_config *config,
                               const mezzo_precision *precision, mzi_update *out) {
    tail t = {graph, config, precision, out, 0};
    MZI_TRY(add_norms(graph, out));
    graph->phase = MZI_PHASE_UPDATE;
    out->key = 0;
    size_t bytes = (size_t)graph->grad_count * sizeof *out->scalars;
    out->scalars = mzi_arena_push(&graph->arena, bytes);
    out->exponents = mzi_arena_push(&graph->arena, bytes);
    if (!out->scalars || !out->exponents)
        return mzi_out_of_memory(graph->ctx, bytes, "the scalars of an update");
    out->scalars_count = out->trained = 0;
    for (int32_t g = 0; g < graph->grad_count; g++) {
        const mzi_grad *grad = &graph->grads[g];
        MZI_TRY(scalars_of(graph, grad->exponent, out, &t.scalars));
        MZI_TRY(add_optimizer(&t, optim, grad));
        out->trained += graph->nodes[graph->node_count - 1].attrs.f[MZI_OPTIM_LR_SCALE] != 0.0;
        MZI_TRY(mzi_stall_watch(graph, grad, &out->stall));
        if (out->average_decay > 0.0)
            MZI_TRY(mzi_average_append(graph, grad->param, t.scalars, out->average_decay,
                                       is_split(&t, grad)));
    }
    for (int32_t c = 0; c < graph->commit_count; c++) {
        const int32_t in[] = {graph->commits[c].next, graph->commits[c].state};
        MZI_TRY(mzi_update_write(graph, &mzi_op_assign, graph->values[in[1]].name, in, 2, NULL));
    }
    return graph->status;
}
