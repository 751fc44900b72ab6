/* Autocast: which type each operation computes in, by one table for all devices.
 *
 * An operation's class (mezzo_cast_class, a field of its constant) says what it does under a low
 * compute type T:
 *
 *   low      data operands are T
 *   follow   the narrowest type among its data inputs
 *   reduce   likewise for storage; sums accumulate in FP32 or wider inside the kernel
 *   full     FP32
 *
 * An override by name comes before the class, and the types that an operation declares come before
 * both.  The speed gate gives class low FP32 where BF16 is slower.  Operands marked in_f32 /
 * out_f32 (statistics, scalars, parameters of a norm, gradients of parameters) are FP32 always, but
 * for gradients that mezzo_precision wants in BF16; integers stay.  A cast is put before the first
 * use that needs one and shared by later uses; a cast of a parameter belongs to the phase
 * `prepare`, which runs once after each update. */
#include <string.h>

#include "base/glob.h"
#include "graph/plan.h"
#include "graph/rewrite.h"

typedef struct autocast {
    mezzo_graph *graph;
    const mezzo_precision *precision;
    const char *no_bf16; /* of the target */
    mezzo_dtype low;
    mzi_rewrite list;
    int32_t (*casts)[MEZZO_DTYPE_COUNT]; /* by value and type: the value that holds it; 0: none */
    int32_t value_count;
} autocast;

static bool is_data(const mzi_node *node, int k) {
    return !((node->op->in_f32 | node->op->in_int) & MEZZO_BIT(k)) && node->in[k];
}

/* The narrowest type among the data inputs; `*from` gets its input.  Of two 16-bit types, the
 * first. */
static mezzo_dtype narrowest(const autocast *pass, const mzi_node *node, int *from) {
    mezzo_dtype found = MEZZO_DTYPE_NONE;
    for (int k = 0; k < node->in_count; k++) {
        if (!is_data(node, k))
            continue;
        mezzo_dtype dtype = pass->graph->values[node->in[k]].tensor.dtype;
        if (found == MEZZO_DTYPE_NONE || mezzo_dtype_bytes(dtype) < mezzo_dtype_bytes(found)) {
            found = dtype;
            *from = k;
        }
    }
    return found == MEZZO_DTYPE_NONE ? MEZZO_F32 : found;
}

enum {
    NAME_MAX_BYTES = 512
};

/* "conv1/dw" follows what is said of "conv1". */
static void forward_name(const mzi_node *node, char out[NAME_MAX_BYTES]) {
    mzi_format(out, NAME_MAX_BYTES, "%s", node->name);
    out[strcspn(out, "/")] = '\0';
}

static const mezzo_override *find_override(const autocast *pass, const mzi_node *node) {
    char forward[NAME_MAX_BYTES];
    forward_name(node, forward);
    for (int k = pass->precision->override_count - 1; k >= 0; k--)
        if (mzi_glob_match(pass->precision->overrides[k].match, forward))
            return &pass->precision->overrides[k];
    return NULL;
}

static void choose_by_class(const autocast *pass, mzi_node *node) {
    mezzo_graph *graph = pass->graph;
    int from = 0;
    mezzo_dtype follow = narrowest(pass, node, &from);
    const char *source = node->in_count ? graph->values[node->in[from]].name : "";
    switch (node->op->cast) {
    case MEZZO_CAST_LOW:
        node->compute = pass->low;
        node->rule = pass->low == MEZZO_F32 ? MZI_RULE_FULL : MZI_RULE_LOW;
        node->reason = mzi_arena_text(&graph->arena, "%s is of class low: precision.compute is %s",
                                      node->op->name, mezzo_dtype_name(pass->low));
        break;
    case MEZZO_CAST_FOLLOW:
        node->compute = follow;
        node->rule = MZI_RULE_FOLLOW;
        node->reason = mzi_arena_text(&graph->arena, "follows `%s`", source);
        break;
    case MEZZO_CAST_REDUCE:
        node->compute = follow;
        node->rule = MZI_RULE_REDUCE;
        node->reason = mzi_arena_text(&graph->arena, "stored as `%s`, summed in FP32", source);
        break;
    case MEZZO_CAST_FULL:
        node->compute = MEZZO_F32;
        node->rule = MZI_RULE_FULL;
        node->reason = mzi_arena_text(&graph->arena, "%s always computes in FP32", node->op->name);
        break;
    }
}

/* The widest of the declared types if the chosen one is not among them. */
static mezzo_status apply_contract(const autocast *pass, mzi_node *node) {
    uint32_t types = node->op->types;
    if (!types || (types & MEZZO_BIT(node->compute)))
        return MEZZO_OK;
    static const mezzo_dtype order[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        if (!(types & MEZZO_BIT(order[k])))
            continue;
        if (pass->precision->strict)
            MZI_FAIL(pass->graph->ctx, MEZZO_DOWNGRADE,
                     "`%s`: %s does not take %s, only other types; precision.strict forbids the "
                     "change to %s",
                     node->name, node->op->name, mezzo_dtype_name(node->compute),
                     mezzo_dtype_name(order[k]));
        node->reason = mzi_arena_text(&pass->graph->arena, "%s does not take %s", node->op->name,
                                      mezzo_dtype_name(node->compute));
        node->compute = order[k];
        node->rule = MZI_RULE_CONTRACT;
        return MEZZO_OK;
    }
    MZI_FAIL(pass->graph->ctx, MEZZO_UNSUPPORTED, "`%s`: %s declares none of f32, bf16, f16",
             node->name, node->op->name);
}

/* Names may have a `/` of their own. */
static bool is_of_layer(const mzi_node *node, const char *layer) {
    size_t size = strlen(layer);
    return strncmp(node->name, layer, size) == 0 &&
           (node->name[size] == '\0' || node->name[size] == '/');
}

/* Why BF16 is slower than FP32 there; null: it is not, or nobody asked. */
static const char *why_slow(const autocast *pass, const mzi_node *node) {
    const mezzo_precision *precision = pass->precision;
    if (precision->speed_gate != MEZZO_SPEED_GATE_AUTO)
        return NULL;
    if (pass->no_bf16)
        return pass->no_bf16;
    for (int k = 0; k < precision->slow_count; k++) {
        const mezzo_slow_layer *layer = &precision->slow[k];
        if (is_of_layer(node, layer->name))
            return layer->bf16_us > 0.0 ? mzi_arena_text(&pass->graph->arena,
                                                         "measured: %.0f us in bf16, %.0f in f32",
                                                         layer->bf16_us, layer->f32_us)
                                        : "pinned: measured to be slower in bf16";
    }
    return NULL;
}

/* Products in BF16 that are slower than in FP32 are not what BF16 was asked for. */
static mezzo_status apply_speed_gate(const autocast *pass, mzi_node *node) {
    mezzo_graph *graph = pass->graph;
    const char *why =
        node->rule == MZI_RULE_LOW && node->compute == MEZZO_BF16 ? why_slow(pass, node) : NULL;
    if (!why)
        return MEZZO_OK;
    if (pass->precision->strict)
        MZI_FAIL(graph->ctx, MEZZO_DOWNGRADE,
                 "`%s`: %s: computing in f32 is faster, and precision.strict forbids the change; "
                 "precision.speed_gate: off keeps bf16",
                 node->name, why);
    node->compute = MEZZO_F32;
    node->rule = MZI_RULE_SPEED;
    node->reason = why;
    graph->slow_count++;
    return MEZZO_OK;
}

static bool is_layer(const mzi_node *node, const char *name) {
    return node->phase == MZI_PHASE_FORWARD && node->op->cast == MEZZO_CAST_LOW &&
           strcmp(node->name, name) == 0;
}

/* Of the layers that are said to be slow; forward has all of them. */
static mezzo_status check_slow(const autocast *pass) {
    const mezzo_graph *graph = pass->graph;
    for (int k = 0; k < pass->precision->slow_count; k++) {
        const char *name = pass->precision->slow[k].name;
        int32_t n = 0;
        while (n < graph->node_count && !is_layer(&graph->nodes[n], name))
            n++;
        if (n == graph->node_count && graph->entry == MEZZO_ENTRY_TRAIN)
            MZI_FAIL(graph->ctx, MEZZO_CONFIG,
                     "speed gate: no operation `%s` of forward, of class low, is there to hold in "
                     "f32; mezzo plan lists them",
                     name);
    }
    return MEZZO_OK;
}

static mezzo_status choose(const autocast *pass, mzi_node *node) {
    const mezzo_override *override = find_override(pass, node);
    if (pass->low == MEZZO_F64) {
        node->compute = MEZZO_F64;
        node->rule = MZI_RULE_FULL;
        node->reason = "precision.compute is f64";
        return MEZZO_OK;
    }
    if (override) {
        node->compute = override->compute;
        node->rule = MZI_RULE_OVERRIDE;
        node->override = (int32_t)(override - pass->precision->overrides) + 1;
        node->reason = mzi_arena_text(&pass->graph->arena, "override \"%s\"", override->match);
    } else {
        choose_by_class(pass, node);
        MZI_TRY(apply_speed_gate(pass, node));
    }
    return apply_contract(pass, node);
}

/* The value that holds `v` as `dtype`, made by a cast if there is none yet. */
static mezzo_status cast_to(autocast *pass, const mzi_node *user, int32_t v, mezzo_dtype dtype,
                            int32_t *out) {
    mezzo_graph *graph = pass->graph;
    if (v < pass->value_count && pass->casts[v][dtype]) {
        *out = pass->casts[v][dtype];
        return MEZZO_OK;
    }
    const mzi_value *value = &graph->values[v];
    bool prepare = value->kind == MZI_VALUE_PARAM;
    const char *name = mzi_arena_text(&graph->arena, "%s:%s", value->name, mezzo_dtype_name(dtype));
    mzi_node node = {.op = &mzi_op_cast,
                     .name = name ? name : "",
                     .attrs.i = {dtype, prepare && dtype == MEZZO_BF16},
                     .in_count = 1,
                     .out_count = 1,
                     .in[0] = v,
                     .phase = prepare ? MZI_PHASE_PREPARE : user->phase,
                     .compute = dtype,
                     .rule = MZI_RULE_CAST};
    node.reason = mzi_arena_text(&graph->arena, "`%s` computes in %s (%s)", user->name,
                                 mezzo_dtype_name(user->compute), mzi_rule_name(user->rule));
    int32_t source = v;
    *out = mzi_graph_add_value(graph, node.name, prepare ? MZI_VALUE_DERIVED : MZI_VALUE_TEMP,
                               (mezzo_tensor){dtype, value->tensor.shape});
    if (!*out)
        return graph->status;
    graph->values[*out].source = prepare ? source : 0;
    node.out[0] = *out;
    if (v < pass->value_count)
        pass->casts[v][dtype] = *out;
    return mzi_rewrite_append(&pass->list, &node);
}

static mezzo_dtype operand_type(const mzi_node *node, uint32_t f32_mask, int k) {
    if (node->compute == MEZZO_F64)
        return MEZZO_F64;
    return f32_mask & MEZZO_BIT(k) ? MEZZO_F32 : node->compute;
}

static bool is_gradient(const mezzo_graph *graph, int32_t value) {
    for (int32_t g = 0; g < graph->grad_count; g++)
        if (graph->grads[g].grad == value)
            return true;
    return false;
}

/* The gradient of a weight may be BF16 where its operation computes in that, and rounds once. */
static mezzo_dtype result_type(const autocast *pass, const mzi_node *node, int k) {
    bool low = pass->precision->gradients == MEZZO_BF16 && node->compute == MEZZO_BF16 &&
               (node->op->out_gradient & MEZZO_BIT(k));
    return low && is_gradient(pass->graph, node->out[k]) ? MEZZO_BF16
                                                         : operand_type(node, node->op->out_f32, k);
}

static mezzo_status visit(autocast *pass, mzi_node node) {
    mezzo_graph *graph = pass->graph;
    MZI_TRY(choose(pass, &node));
    for (int k = 0; k < node.in_count; k++) {
        if (!node.in[k] || (node.op->in_int & MEZZO_BIT(k)))
            continue;
        mezzo_dtype want = operand_type(&node, node.op->in_f32, k);
        if (graph->values[node.in[k]].tensor.dtype != want)
            MZI_TRY(cast_to(pass, &node, node.in[k], want, &node.in[k]));
    }
    for (int k = 0; k < node.out_count; k++) {
        mzi_value *out = &graph->values[node.out[k]];
        if (mezzo_dtype_is_float(out->tensor.dtype))
            out->tensor.dtype = result_type(pass, &node, k);
    }
    return mzi_rewrite_append(&pass->list, &node);
}

/* Gradients of parameters are FP32, or BF16 if the precision says so and they come out like that.
 */
static mezzo_status widen_grads(autocast *pass) {
    mezzo_graph *graph = pass->graph;
    mzi_node update = {.name = "the update", .phase = MZI_PHASE_BACKWARD, .compute = MEZZO_F32};
    for (int32_t g = 0; g < graph->grad_count && pass->low != MEZZO_F64; g++) {
        int32_t grad = graph->grads[g].grad;
        mezzo_dtype dtype = graph->values[grad].tensor.dtype;
        if (dtype == MEZZO_F32 || dtype == pass->precision->gradients)
            continue;
        MZI_TRY(cast_to(pass, &update, grad, MEZZO_F32, &graph->grads[g].grad));
        graph->values[graph->grads[g].grad].is_output = true;
    }
    return MEZZO_OK;
}

/* Prepared weights come first: stable, by phase. */
static void order_by_phase(mezzo_graph *graph, mzi_node *sorted) {
    int32_t at = 0;
    for (int phase = MZI_PHASE_PREPARE; phase <= MZI_PHASE_UPDATE; phase++)
        for (int32_t n = 0; n < graph->node_count; n++)
            if ((int)graph->nodes[n].phase == phase)
                sorted[at++] = graph->nodes[n];
    memcpy(graph->nodes, sorted, (size_t)graph->node_count * sizeof *sorted);
    for (int32_t n = 0; n < graph->node_count; n++)
        for (int k = 0; k < graph->nodes[n].out_count; k++)
            graph->values[graph->nodes[n].out[k]].producer = n;
}

static mezzo_status run(autocast *pass) {
    mezzo_graph *graph = pass->graph;
    for (int32_t v = 1; v < graph->value_count && pass->low == MEZZO_F64; v++) {
        mzi_value *value = &graph->values[v];
        if (mezzo_dtype_is_float(value->tensor.dtype) && value->producer < 0)
            value->tensor.dtype = MEZZO_F64;
    }
    for (int32_t n = 0; n < graph->node_count; n++)
        MZI_TRY(visit(pass, graph->nodes[n]));
    return widen_grads(pass);
}

mezzo_status mzi_pass_autocast(mezzo_graph *graph, const mezzo_precision *precision,
                               const char *no_bf16) {
    MZI_TRY(graph->status);
    autocast pass = {.graph = graph,
                     .precision = precision,
                     .no_bf16 = no_bf16,
                     .list.graph = graph,
                     .value_count = graph->value_count};
    MZI_TRY(check_slow(&pass));
    pass.low = precision->compute == MEZZO_DTYPE_NONE ? MEZZO_F32 : precision->compute;
    size_t bytes = (size_t)graph->value_count * sizeof *pass.casts;
    pass.casts = mzi_alloc(graph->ctx, bytes);
    if (!pass.casts)
        return mzi_out_of_memory(graph->ctx, bytes, "autocast");
    mezzo_status status = mzi_rewrite_end(&pass.list, run(&pass));
    mzi_free(graph->ctx, pass.casts, bytes);
    MZI_TRY(status);
    bytes = (size_t)graph->node_count * sizeof(mzi_node);
    mzi_node *sorted = mzi_alloc(graph->ctx, bytes);
    if (!sorted)
        return mzi_out_of_memory(graph->ctx, bytes, "autocast");
    order_by_phase(graph, sorted);
    mzi_free(graph->ctx, sorted, bytes);
    return MEZZO_OK;
}

mezzo_status mzi_pass_check_casts(mezzo_graph *graph) {
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (node->op != &mzi_op_cast)
            continue;
        const mzi_value *in = &graph->values[node->in[0]];
        const mzi_value *out = &graph->values[node->out[0]];
        if (in->tensor.dtype == out->tensor.dtype)
            MZI_FAIL(graph->ctx, MEZZO_FAILURE, "redundant cast `%s`: `%s` is %s already",
                     node->name, in->name, mezzo_dtype_name(in->tensor.dtype));
        for (int32_t m = 0; m < n; m++)
            if (graph->nodes[m].op == &mzi_op_cast && graph->nodes[m].in[0] == node->in[0] &&
                graph->nodes[m].compute == node->compute)
                MZI_FAIL(graph->ctx, MEZZO_FAILURE, "redundant cast `%s`: `%s` gives the same",
                         node->name, graph->nodes[m].name);
        if (in->producer >= 0 && graph->nodes[in->producer].op == &mzi_op_cast &&
            graph->values[graph->nodes[in->producer].in[0]].tensor.dtype == out->tensor.dtype)
            MZI_FAIL(graph->ctx, MEZZO_FAILURE, "redundant cast `%s`: `%s` was %s before",
                     node->name, in->name, mezzo_dtype_name(out->tensor.dtype));
    }
    return MEZZO_OK;
}
