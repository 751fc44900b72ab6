/* Building: values, nodes, names, and the errors that stick. */
#include "graph/graph.h"

#include <stdio.h>
#include <string.h>

#include "graph/plan.h"

const char *mzi_phase_name(mzi_phase phase) {
    static const char *const names[] = {"prepare", "forward", "backward", "check", "update"};
    return names[phase];
}

const char *mzi_rule_name(mzi_rule rule) {
    static const char *const names[] = {"full",     "low",      "follow", "reduce",
                                        "override", "contract", "cast",   "layout",
                                        "segment",  "speed",    "fuse"};
    return names[rule];
}

mezzo_status mzi_graph_create(mezzo_graph **out, mezzo_ctx *ctx, mezzo_entry entry) {
    mezzo_graph *graph = mzi_alloc(ctx, sizeof *graph);
    if (!graph)
        return mzi_out_of_memory(ctx, sizeof *graph, "a graph");
    graph->ctx = ctx;
    graph->entry = entry;
    graph->phase = MZI_PHASE_FORWARD;
    mzi_arena_init(&graph->arena, ctx);
    if (mzi_grow(ctx, (void **)&graph->values, &graph->value_capacity, 1, sizeof *graph->values) !=
        MEZZO_OK) {
        mzi_graph_destroy(graph);
        return MEZZO_OUT_OF_MEMORY;
    }
    graph->values[0] = (mzi_value){.name = "", .producer = -1, .tensor.shape.rank = -1};
    graph->value_count = 1;
    *out = graph;
    return MEZZO_OK;
}

void mzi_graph_destroy(mezzo_graph *graph) {
    if (!graph)
        return;
    mezzo_ctx *ctx = graph->ctx;
    mzi_free(ctx, graph->values, (size_t)graph->value_capacity * sizeof *graph->values);
    mzi_free(ctx, graph->nodes, (size_t)graph->node_capacity * sizeof *graph->nodes);
    mzi_free(ctx, graph->outputs, (size_t)graph->output_capacity * sizeof *graph->outputs);
    mzi_free(ctx, graph->grads, (size_t)graph->grad_capacity * sizeof *graph->grads);
    mzi_free(ctx, graph->commits, (size_t)graph->commit_capacity * sizeof *graph->commits);
    mzi_free(ctx, graph->findings, (size_t)graph->finding_capacity * sizeof *graph->findings);
    mzi_arena_deinit(&graph->arena);
    mzi_free(ctx, graph, sizeof *graph);
}

/* The first error stays. */
static void keep_error(mezzo_graph *graph, mezzo_status status, const char *format, va_list args) {
    if (graph->status == MEZZO_OK)
        graph->status = mzi_fail_va(graph->ctx, __FILE__, __LINE__, status, format, args);
}

mezzo_value mzi_graph_fail(mezzo_graph *graph, mezzo_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    keep_error(graph, status, format, args);
    va_end(args);
    return (mezzo_value){0};
}

mezzo_status mezzo_graph_error(mezzo_graph *graph, mezzo_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    keep_error(graph, status, format, args);
    va_end(args);
    return graph->status;
}

static mezzo_value out_of_memory(mezzo_graph *graph) {
    return mzi_graph_fail(graph, MEZZO_OUT_OF_MEMORY, "no memory left for the graph, at node %d",
                          graph->node_count);
}

/* A name that could not be made is an error of the graph: "" would be the same name as another. */
static const char *named(mezzo_graph *graph, const char *text) {
    if (!text)
        out_of_memory(graph);
    return text ? text : "";
}

mezzo_entry mezzo_graph_entry(const mezzo_graph *graph) {
    return graph->entry;
}

bool mezzo_graph_failed(const mezzo_graph *graph) {
    return graph->status != MEZZO_OK;
}

mezzo_shape mezzo_value_shape(const mezzo_graph *graph, mezzo_value value) {
    return graph->values[value.id].tensor.shape;
}

mezzo_dtype mezzo_value_dtype(const mezzo_graph *graph, mezzo_value value) {
    return graph->values[value.id].tensor.dtype;
}

const char *mzi_graph_name(mezzo_graph *graph, const char *name, const char *part) {
    char prefix[256] = "";
    size_t used = 0;
    for (int s = 0; s < graph->scope_count && s < MZI_SCOPE_MAX; s++)
        used += mzi_format(prefix + used, sizeof prefix - used, "%s.", graph->scopes[s]);
    return named(graph, mzi_arena_text(&graph->arena, "%s%s%s%s", prefix, name, part ? "." : "",
                                       part ? part : ""));
}

void mezzo_scope_push(mezzo_graph *graph, const char *name) {
    if (graph->scope_count >= MZI_SCOPE_MAX) {
        mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "scope `%s` is nested deeper than %d", name,
                       (int)MZI_SCOPE_MAX);
        return;
    }
    graph->scopes[graph->scope_count++] = named(graph, mzi_arena_text(&graph->arena, "%s", name));
}

void mezzo_scope_pop(mezzo_graph *graph) {
    if (graph->scope_count > 0)
        graph->scope_count--;
    else
        mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "scope pop without a push");
}

uint64_t mzi_value_bytes(const mzi_value *value) {
    if (value->layout)
        return value->bytes;
    return (uint64_t)mezzo_shape_count(value->tensor.shape) *
           mezzo_dtype_bytes(value->tensor.dtype);
}

int32_t mzi_graph_add_value(mezzo_graph *graph, const char *name, mzi_value_kind kind,
                            mezzo_tensor tensor) {
    if (mzi_grow(graph->ctx, (void **)&graph->values, &graph->value_capacity,
                 graph->value_count + 1, sizeof *graph->values) != MEZZO_OK) {
        out_of_memory(graph);
        return 0;
    }
    graph->values[graph->value_count] =
        (mzi_value){.name = name, .kind = kind, .tensor = tensor, .producer = -1};
    return graph->value_count++;
}

static int32_t find_named(const mezzo_graph *graph, const char *name) {
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->producer < 0 && strcmp(value->name, name) == 0)
            return v;
    }
    return 0;
}

static bool check_shape(mezzo_graph *graph, const char *name, mezzo_shape shape) {
    if (shape.rank < 0 || shape.rank > MEZZO_RANK_MAX) {
        mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "`%s`: rank %d is not in 0..%d", name,
                       shape.rank, (int)MEZZO_RANK_MAX);
        return false;
    }
    int64_t count = 1;
    for (int d = 0; d < shape.rank; d++) {
        if (shape.dim[d] < 1 || shape.dim[d] > INT32_MAX || count > INT64_MAX / 16 / shape.dim[d]) {
            mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                           "`%s`: dimension %d is %lld; the shape must be positive and fit memory",
                           name, d, (long long)shape.dim[d]);
            return false;
        }
        count *= shape.dim[d];
    }
    return true;
}

mezzo_value mezzo_input(mezzo_graph *graph, const char *name, mezzo_dtype dtype,
                        mezzo_shape shape) {
    if (graph->status != MEZZO_OK || !check_shape(graph, name, shape))
        return (mezzo_value){0};
    if (dtype != MEZZO_F32 && dtype != MEZZO_I32 && dtype != MEZZO_U8)
        return mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                              "input `%s`: type %s; inputs are f32, i32 or u8", name,
                              mezzo_dtype_name(dtype));
    const char *full = mzi_graph_name(graph, name, NULL);
    if (find_named(graph, full))
        return mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "input `%s` exists already", full);
    return (mezzo_value){
        mzi_graph_add_value(graph, full, MZI_VALUE_INPUT, (mezzo_tensor){dtype, shape})};
}

mezzo_value mzi_graph_state(mezzo_graph *graph, const char *name, mzi_value_kind kind,
                            mezzo_shape shape, mezzo_init init) {
    if (graph->status != MEZZO_OK || !check_shape(graph, name, shape))
        return (mezzo_value){0};
    int32_t found = find_named(graph, name);
    if (found) {
        const mzi_value *value = &graph->values[found];
        if (value->kind != kind || !mezzo_shape_equal(value->tensor.shape, shape))
            return mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                                  "`%s` exists already with another shape or kind", name);
        return (mezzo_value){found};
    }
    const char *copy = mzi_arena_text(&graph->arena, "%s", name);
    if (!copy)
        return out_of_memory(graph);
    int32_t id = mzi_graph_add_value(graph, copy, kind, (mezzo_tensor){MEZZO_F32, shape});
    if (id)
        graph->values[id].init = init;
    return (mezzo_value){id};
}

mezzo_value mezzo_param(mezzo_graph *graph, const char *name, mezzo_shape shape, mezzo_init init) {
    return mzi_graph_state(graph, mzi_graph_name(graph, name, NULL), MZI_VALUE_PARAM, shape, init);
}

bool mzi_graph_limit_input(mezzo_graph *graph, mezzo_value value, int64_t from, int64_t below) {
    mzi_value *input = &graph->values[value.id];
    if (input->kind != MZI_VALUE_INPUT)
        return false;
    bool limited = input->int_below != 0;
    input->int_from = limited && input->int_from > from ? input->int_from : from;
    input->int_below = limited && input->int_below < below ? input->int_below : below;
    return true;
}

mezzo_value mzi_graph_cache(mezzo_graph *graph, const char *name, mezzo_shape shape) {
    mezzo_value cache = mzi_graph_state(graph, name, MZI_VALUE_STATE, shape,
                                        (mezzo_init){MEZZO_INIT_CONSTANT, 0.0f});
    graph->values[cache.id].is_cache = cache.id != 0;
    return cache;
}

mezzo_value mezzo_position(mezzo_graph *graph) {
    if (graph->entry != MEZZO_ENTRY_DECODE || graph->status != MEZZO_OK)
        return (mezzo_value){0};
    if (graph->position)
        return (mezzo_value){graph->position};
    if (find_named(graph, "position"))
        return mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                              "a decode graph has an input `position` of its own");
    graph->position = mzi_graph_add_value(graph, "position", MZI_VALUE_INPUT,
                                          (mezzo_tensor){MEZZO_I32, mezzo_shape1(1)});
    mezzo_value position = {graph->position};
    mzi_graph_limit_input(graph, position, 0, INT32_MAX);
    return position;
}

mezzo_value mzi_graph_position(mezzo_graph *graph, int64_t context) {
    mezzo_value position = mezzo_position(graph);
    mzi_graph_limit_input(graph, position, 0, context);
    return position;
}

mezzo_value mzi_graph_rng(mezzo_graph *graph) {
    if (!graph->rng)
        graph->rng = mzi_graph_add_value(graph, "rng", MZI_VALUE_INPUT,
                                         (mezzo_tensor){MEZZO_I32, mezzo_shape1(4)});
    return (mezzo_value){graph->rng};
}

void mezzo_output(mezzo_graph *graph, const char *name, mezzo_value value) {
    if (graph->status != MEZZO_OK || !value.id)
        return;
    if (mzi_grow(graph->ctx, (void **)&graph->outputs, &graph->output_capacity,
                 graph->output_count + 1, sizeof *graph->outputs) != MEZZO_OK) {
        out_of_memory(graph);
        return;
    }
    const char *copy = named(graph, mzi_arena_text(&graph->arena, "%s", name));
    graph->outputs[graph->output_count++] = (mzi_output){copy, value.id};
    graph->values[value.id].is_output = true;
}

void mezzo_loss(mezzo_graph *graph, mezzo_value loss) {
    if (graph->status != MEZZO_OK || !loss.id)
        return;
    if (graph->values[loss.id].tensor.shape.rank != 0) {
        mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                       "the loss `%s` is not a scalar: take its mean or sum",
                       graph->values[loss.id].name);
        return;
    }
    graph->loss = loss.id;
    mezzo_output(graph, "loss", loss);
}

void mzi_graph_add_commit(mezzo_graph *graph, mezzo_value state, mezzo_value next) {
    if (graph->status != MEZZO_OK || !state.id || !next.id)
        return;
    if (mzi_grow(graph->ctx, (void **)&graph->commits, &graph->commit_capacity,
                 graph->commit_count + 1, sizeof *graph->commits) != MEZZO_OK) {
        out_of_memory(graph);
        return;
    }
    graph->commits[graph->commit_count++] = (mzi_commit){state.id, next.id};
    graph->values[next.id].is_output = true;
}

void mzi_node_use(const mezzo_graph *graph, const mzi_node *node, mzi_use *view) {
    view->use = (mezzo_op_use){.ctx = graph->ctx,
                               .name = node->name,
                               .attrs = &node->attrs,
                               .in_count = node->in_count,
                               .in = view->in,
                               .out = view->out};
    for (int k = 0; k < node->in_count; k++)
        view->in[k] = graph->values[node->in[k]].tensor;
    for (int k = 0; k < node->out_count; k++)
        view->out[k] = graph->values[node->out[k]].tensor;
}

double mzi_node_flops(const mezzo_graph *graph, const mzi_node *node) {
    mzi_use view;
    mzi_node_use(graph, node, &view);
    if (node->op->flops)
        return node->op->flops(&view.use);
    return node->op->view ? 0.0 : (double)mezzo_shape_count(view.out[0].shape);
}

/* "relu3": the third operation of its kind; after the forward phase "relu3/dx". */
static const char *node_name(mezzo_graph *graph, const mezzo_op_def *op, const char *name) {
    if (graph->phase != MZI_PHASE_FORWARD) {
        return named(graph,
                     mzi_arena_text(&graph->arena, "%s/%s", graph->origin ? graph->origin : "",
                                    name ? name : op->name));
    }
    if (name)
        return mzi_graph_name(graph, name, NULL);
    int number = 1;
    for (int32_t n = 0; n < graph->node_count; n++)
        number += graph->nodes[n].op == op;
    char text[96];
    mzi_format(text, sizeof text, "%s%d", op->name, number);
    return mzi_graph_name(graph, text, NULL);
}

static bool check_inputs(mezzo_graph *graph, const mezzo_op_def *op, const char *name,
                         const mezzo_value *in, int in_count) {
    if (in_count < op->in_min || in_count > op->in_max || in_count > MEZZO_OP_IN_MAX) {
        mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "%s `%s`: %d inputs; it takes %d to %d",
                       op->name, name, in_count, op->in_min, op->in_max);
        return false;
    }
    for (int k = 0; k < in_count; k++) {
        if (in[k].id < 0 || in[k].id >= graph->value_count) {
            mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                           "%s `%s`: input %d is a value of another graph", op->name, name, k);
            return false;
        }
        if (!in[k].id &&
            k < op->in_min) /* a null value without an error: a mistake of the caller */
            mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "%s `%s`: input %d is the null value",
                           op->name, name, k);
        mezzo_dtype dtype = graph->values[in[k].id].tensor.dtype;
        bool want_int = (op->in_int & MEZZO_BIT(k)) != 0;
        if (in[k].id && mezzo_dtype_is_float(dtype) == want_int) {
            mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "%s `%s`: input %d is %s; it takes %s",
                           op->name, name, k, mezzo_dtype_name(dtype),
                           want_int ? "integers" : "floating-point numbers");
            return false;
        }
    }
    return graph->status == MEZZO_OK;
}

/* Append the node whose outputs have been inferred. */
static mezzo_value append_node(mezzo_graph *graph, mzi_node *node, const mzi_use *view) {
    if (mzi_grow(graph->ctx, (void **)&graph->nodes, &graph->node_capacity, graph->node_count + 1,
                 sizeof *graph->nodes) != MEZZO_OK)
        return out_of_memory(graph);
    for (int k = 0; k < node->out_count; k++) {
        const char *name =
            k ? named(graph, mzi_arena_text(&graph->arena, "%s:%d", node->name, k)) : node->name;
        int32_t id = mzi_graph_add_value(graph, name, MZI_VALUE_TEMP, view->out[k]);
        if (!id)
            return (mezzo_value){0};
        graph->values[id].producer = graph->node_count;
        node->out[k] = id;
    }
    graph->nodes[graph->node_count++] = *node;
    return (mezzo_value){node->out[0]};
}

mezzo_value mezzo_apply(mezzo_graph *graph, const mezzo_op_def *op, const char *name,
                        const mezzo_value *in, int in_count, const mezzo_attrs *attrs,
                        mezzo_value *more) {
    for (int k = 0; more && k + 1 < op->out_count; k++)
        more[k] = (mezzo_value){0};
    if (graph->status != MEZZO_OK)
        return (mezzo_value){0};
    mzi_node node = {.op = op,
                     .name = node_name(graph, op, name),
                     .in_count = in_count,
                     .out_count = op->out_count,
                     .phase = graph->phase,
                     .compute = MEZZO_F32};
    if (attrs)
        node.attrs = *attrs;
    if (!check_inputs(graph, op, node.name, in, in_count))
        return (mezzo_value){0};
    for (int32_t n = 0; name && graph->phase == MZI_PHASE_FORWARD && n < graph->node_count; n++)
        if (strcmp(graph->nodes[n].name, node.name) == 0)
            return mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                                  "the name `%s` is used by two operations", node.name);
    for (int k = 0; k < in_count; k++)
        node.in[k] = in[k].id;
    mzi_use view;
    memset(view.out, 0, sizeof view.out);
    mzi_node_use(graph, &node, &view);
    mezzo_status status = op->infer(&view.use);
    if (status != MEZZO_OK) {
        graph->status = status;
        return (mezzo_value){0};
    }
    for (int k = 0; k < op->out_count; k++)
        if (!check_shape(graph, node.name, view.out[k].shape))
            return (mezzo_value){0};
    mezzo_value first = append_node(graph, &node, &view);
    for (int k = 0; first.id && more && k + 1 < op->out_count; k++)
        more[k] = (mezzo_value){node.out[k + 1]};
    return first;
}

mezzo_status mezzo_op_fail(const mezzo_op_use *use, mezzo_status status, const char *format, ...) {
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return mzi_fail_at(use->ctx, __FILE__, __LINE__, status, "`%s`: %s", use->name, text);
}

static const mezzo_op_def *const builtin[] = {
#define OP(name) &mzi_op_##name,
#include "graph/ops.def"
#undef OP
};

const mezzo_op_def *mezzo_op_at(int index) {
    int count = (int)(sizeof builtin / sizeof *builtin);
    return index >= 0 && index < count ? builtin[index] : NULL;
}
