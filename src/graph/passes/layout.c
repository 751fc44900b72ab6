/* Packed weights: where a kernel wants to read a parameter in a layout of its own, a `pack` node
 * makes that form in the phase `prepare`, once after each update.
 *
 *   weight (f32 master) -> cast (bf16) -> pack -> conv         only the last form is kept
 */
#include "graph/plan.h"
#include "graph/rewrite.h"

/* Parameters that a node reads; there are seldom more than two. */
enum {
    WISH_MAX = 8
};
typedef struct wish {
    int input; /* of the node, counted from 1 */
    int32_t value;
    mzi_layout layout;
    mzi_call call;  /* with the layout filled in at the operand      */
    bool is_shared; /* every call that reads the input wants this one */
} wish;

static bool seldom_changes(const mezzo_graph *graph, const mzi_operand *operand) {
    if (!operand->value || operand->layout || !operand->input)
        return false;
    mzi_value_kind kind = graph->values[operand->value].kind;
    return kind == MZI_VALUE_PARAM || kind == MZI_VALUE_DERIVED;
}

/* Calls that want different layouts of one input all read it as it is: an operation that knows
 * takes the parameter twice. */
static void note(wish *wishes, int *count, const mzi_call *call, int operand, mzi_layout layout) {
    const mzi_operand *in = &call->in[operand];
    for (int w = 0; w < *count; w++)
        if (wishes[w].input == in->input) {
            wishes[w].is_shared &= wishes[w].layout.id == layout.id;
            return;
        }
    if (*count == WISH_MAX)
        return;
    wish *made = &wishes[(*count)++];
    *made = (wish){in->input, in->value, layout, *call, true};
    made->call.in[operand].layout = layout.id;
}

static mezzo_status collect(mezzo_graph *graph, mzi_target *target, int32_t n, wish *wishes,
                            int *count) {
    /* A trial lowering: the workspaces that it declares are forgotten again. */
    int32_t values = graph->value_count;
    mzi_lowering trial = {.graph = graph};
    mezzo_status status = mzi_lower_node(&trial, n);
    *count = 0;
    for (int32_t c = 0; c < trial.call_count && status == MEZZO_OK; c++) {
        for (int k = 0; k < MZK_IN_MAX && status == MEZZO_OK; k++) {
            const mzi_call *call = &trial.calls[c];
            mzi_layout layout = {0};
            if (!seldom_changes(graph, &call->in[k]))
                continue;
            status = target->layout(target, call, k, &layout);
            note(wishes, count, call, k, layout);
        }
    }
    mzi_lowering_deinit(&trial);
    graph->value_count = values;
    return status;
}

/* The packed form of `asked`, made if there is none yet; appended to `packs`. */
static mezzo_status pack(mezzo_graph *graph, const mzi_node *user, const wish *asked,
                         mzi_node **packs, int32_t *count, int32_t *capacity, int32_t *out) {
    for (int32_t p = 0; p < *count; p++) {
        const mzi_value *made = &graph->values[(*packs)[p].out[0]];
        if ((*packs)[p].in[0] == asked->value && made->layout == asked->layout.id) {
            *out = (*packs)[p].out[0];
            return MEZZO_OK;
        }
    }
    const mzi_value *plain = &graph->values[asked->value];
    mzi_call *call = mzi_arena_push(&graph->arena, sizeof *call);
    const char *name = mzi_arena_text(&graph->arena, "%s:packed for %s%s", plain->name, user->name,
                                      asked->input > 2 ? ", too" : "");
    if (!call || !name)
        return mzi_out_of_memory(graph->ctx, sizeof *call, "a packed weight");
    *call = asked->call;
    int32_t source = plain->kind == MZI_VALUE_PARAM ? asked->value : plain->source;
    *out = mzi_graph_add_value(graph, name, MZI_VALUE_DERIVED, plain->tensor);
    if (!*out)
        return graph->status;
    mzi_value *value = &graph->values[*out];
    value->source = source;
    value->layout = asked->layout.id;
    value->bytes = asked->layout.bytes;
    value->packed_for = call;
    MZI_TRY(mzi_grow(graph->ctx, (void **)packs, capacity, *count + 1, sizeof **packs));
    (*packs)[(*count)++] =
        (mzi_node){.op = &mzi_op_pack,
                   .name = name,
                   .in_count = 1,
                   .out_count = 1,
                   .in[0] = asked->value,
                   .out[0] = *out,
                   .phase = MZI_PHASE_PREPARE,
                   .compute = value->tensor.dtype,
                   .rule = MZI_RULE_LAYOUT,
                   .reason = mzi_arena_text(&graph->arena, "`%s` reads it in its kernel's layout",
                                            user->name)};
    return MEZZO_OK;
}

/* A derived form that only other derived forms are made from need not be kept. */
static void drop_intermediate(mezzo_graph *graph) {
    for (int32_t v = 1; v < graph->value_count; v++) {
        if (graph->values[v].kind != MZI_VALUE_DERIVED)
            continue;
        bool kept = false;
        for (int32_t n = 0; n < graph->node_count && !kept; n++)
            for (int k = 0; k < graph->nodes[n].in_count; k++)
                kept |= graph->nodes[n].in[k] == v && graph->nodes[n].phase != MZI_PHASE_PREPARE;
        if (!kept)
            graph->values[v].kind = MZI_VALUE_TEMP;
    }
}

static bool follows(const mzi_node *pack, const mzi_node *node) {
    for (int k = 0; k < node->out_count; k++)
        if (node->out[k] == pack->in[0])
            return true;
    return false;
}

/* A pack goes right behind the cast that it reads, so that a row-major copy need not live long; one
 * of a parameter itself goes in front. */
static mezzo_status insert(mezzo_graph *graph, const mzi_node *packs, int32_t count) {
    int32_t total = graph->node_count + count, at = 0;
    mzi_node *nodes = NULL;
    int32_t capacity = 0;
    MZI_TRY(mzi_grow(graph->ctx, (void **)&nodes, &capacity, total, sizeof *nodes));
    for (int32_t p = 0; p < count; p++)
        if (graph->values[packs[p].in[0]].producer < 0)
            nodes[at++] = packs[p];
    for (int32_t n = 0; n < graph->node_count; n++) {
        nodes[at++] = graph->nodes[n];
        for (int32_t p = 0; p < count; p++)
            if (follows(&packs[p], &graph->nodes[n]))
                nodes[at++] = packs[p];
    }
    mzi_graph_take_nodes(graph, nodes, total, capacity);
    for (int32_t n = 0; n < total; n++)
        for (int k = 0; k < graph->nodes[n].out_count; k++)
            graph->values[graph->nodes[n].out[k]].producer = n;
    drop_intermediate(graph);
    return MEZZO_OK;
}

mezzo_status mzi_pass_layout(mezzo_graph *graph, mzi_target *target) {
    mzi_node *packs = NULL;
    int32_t count = 0, capacity = 0;
    mezzo_status status = MEZZO_OK;
    if (!target->layout)
        return MEZZO_OK;
    for (int32_t n = 0; n < graph->node_count && status == MEZZO_OK; n++) {
        wish wishes[WISH_MAX];
        int wish_count;
        if (graph->nodes[n].phase == MZI_PHASE_PREPARE)
            continue;
        status = collect(graph, target, n, wishes, &wish_count);
        for (int w = 0; w < wish_count && status == MEZZO_OK; w++) {
            mzi_node *node = &graph->nodes[n];
            int32_t packed = 0;
            if (!wishes[w].layout.id || !wishes[w].is_shared)
                continue;
            status = pack(graph, node, &wishes[w], &packs, &count, &capacity, &packed);
            if (status == MEZZO_OK)
                node->in[wishes[w].input - 1] = packed;
        }
    }
    if (status == MEZZO_OK)
        status = insert(graph, packs, count);
    mzi_free(graph->ctx, packs, (size_t)capacity * sizeof *packs);
    return status;
}
