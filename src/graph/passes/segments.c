/* Segments: factors of powers of two between parts of backward.
 *
 * Backward is linear in its seed, so that every gradient may be held times a power of two of its
 * own.  A node computes on gradients of one exponent e, that of its segment: a gradient from a
 * segment of another exponent goes through a factor first, shared by all readers there.
 *
 *   fc3/dx (e = 0) --+-- fc2/dw (e = 0)
 *                    +-- x 2^12 -- relu/dx (e = 12) -- ...
 *
 * A parameter's gradient keeps the exponent of the node that made it: the update divides by it. */
#include "graph/segments.h"

#include <math.h>
#include <string.h>

#include "graph/rewrite.h"

/* A gradient brought to another exponent. */
typedef struct rescaled {
    int32_t value, exponent, as;
} rescaled;

typedef struct segments_pass {
    mezzo_graph *graph;
    const mezzo_segment *segments;
    int segment_count;
    bool *is_gradient;
    int32_t *exponent; /* by value */
    mzi_rewrite list;
    rescaled *made;
    int32_t made_count, made_capacity;
} segments_pass;

/* Operations of the forward kind that gradient functions use, and that are linear in each operand.
 * Those that exist for backward alone are linear in the gradient that they take. */
static bool is_linear(const mzi_node *node, int gradients) {
    static const mezzo_op_def *const linear[] = {&mzi_op_add,       &mzi_op_mul,     &mzi_op_scale,
                                                 &mzi_op_dropout,   &mzi_op_reshape, &mzi_op_sum,
                                                 &mzi_op_broadcast, &mzi_op_cast};
    if (gradients > 1)
        return node->op == &mzi_op_add;
    for (size_t k = 0; k < sizeof linear / sizeof *linear; k++)
        if (node->op == linear[k])
            return true;
    return node->op->not_differentiable;
}

static int gradients_of(const mzi_node *node, const bool *is_gradient) {
    int count = 0;
    for (int k = 0; k < node->in_count; k++)
        count += is_gradient[node->in[k]];
    return count;
}

bool mzi_reads_gradient(const mzi_node *node, const bool *is_gradient) {
    return gradients_of(node, is_gradient) > 0;
}

mezzo_status mzi_find_gradients(const mezzo_graph *graph, bool *is_gradient) {
    memset(is_gradient, 0, (size_t)graph->value_count * sizeof *is_gradient);
    is_gradient[graph->loss_scale] = graph->loss_scale != 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        int count = gradients_of(node, is_gradient);
        if (count > 0 && !is_linear(node, count))
            MZI_FAIL(graph->ctx, MEZZO_UNSUPPORTED,
                     "`%s`: %s is not known to be linear in the %d gradients that it reads, so "
                     "that they cannot be scaled in segments: turn segments off, or give a "
                     "gradient by an operation of its own (not_differentiable) that reads one",
                     node->name, node->op->name, count);
        for (int k = 0; count > 0 && k < node->out_count; k++)
            is_gradient[node->out[k]] = node->out[k] != 0;
    }
    return MEZZO_OK;
}

static const char *reason_of(mezzo_graph *graph, const mezzo_segment *segment) {
    if (!segment)
        return "back to the loss scale alone";
    if (segment->high > 0.0)
        return mzi_arena_text(&graph->arena,
                              "segment from `%s`: maxima measured 2^%.1f to 2^%.1f, held 2^%d "
                              "times larger",
                              segment->from, log2(segment->low), log2(segment->high),
                              segment->exponent);
    return mzi_arena_text(&graph->arena, "segment from `%s`: held 2^%d times larger", segment->from,
                          segment->exponent);
}

/* `v` at the exponent of `segment`. */
static mezzo_status rescale(segments_pass *pass, const mezzo_segment *segment, int32_t v,
                            int32_t *out) {
    mezzo_graph *graph = pass->graph;
    int32_t target = segment ? segment->exponent : 0;
    if (pass->exponent[v] == target)
        return MEZZO_OK;
    for (int32_t k = 0; k < pass->made_count; k++)
        if (pass->made[k].value == v && pass->made[k].exponent == target) {
            *out = pass->made[k].as;
            return MEZZO_OK;
        }
    const mzi_value value = graph->values[v];
    int by = target - pass->exponent[v];
    mzi_node node = {.op = &mzi_op_scale,
                     .name = mzi_arena_text(&graph->arena, "%s*2^%d", value.name, by),
                     .attrs.f[0] = ldexp(1.0, by),
                     .in_count = 1,
                     .out_count = 1,
                     .in[0] = v,
                     .phase = MZI_PHASE_BACKWARD,
                     .compute = value.tensor.dtype,
                     .rule = MZI_RULE_SEGMENT,
                     .reason = reason_of(graph, segment)};
    if (!node.name || !node.reason)
        return mzi_out_of_memory(graph->ctx, 0, "the names of a graph");
    MZI_TRY(mzi_grow(graph->ctx, (void **)&pass->made, &pass->made_capacity, pass->made_count + 1,
                     sizeof *pass->made));
    *out = node.out[0] = mzi_graph_add_value(graph, node.name, MZI_VALUE_TEMP, value.tensor);
    if (!*out)
        return graph->status;
    pass->made[pass->made_count++] = (rescaled){v, target, *out};
    return mzi_rewrite_append(&pass->list, &node);
}

static mezzo_status run(segments_pass *pass) {
    mezzo_graph *graph = pass->graph;
    const mezzo_segment *current = NULL, *next = pass->segments;
    const mezzo_segment *end = pass->segments + pass->segment_count;
    MZI_TRY(mzi_find_gradients(graph, pass->is_gradient));
    for (int32_t n = 0; n < graph->node_count; n++) {
        mzi_node node = graph->nodes[n];
        bool reads = mzi_reads_gradient(&node, pass->is_gradient);
        if (reads && next < end && strcmp(next->from, node.name) == 0)
            current = next++;
        for (int k = 0; reads && k < node.in_count; k++)
            if (pass->is_gradient[node.in[k]])
                MZI_TRY(rescale(pass, current, node.in[k], &node.in[k]));
        for (int k = 0; reads && k < node.out_count; k++)
            pass->exponent[node.out[k]] = current ? current->exponent : 0;
        MZI_TRY(mzi_rewrite_append(&pass->list, &node));
    }
    if (next < end)
        MZI_FAIL(graph->ctx, MEZZO_CONFIG,
                 "segment `%s`: no backward operation of that name%s%s; mezzo plan lists them in "
                 "their order, once no segment is pinned (precision.loss_scale.pinned_segments)",
                 next->from, current ? " behind " : "", current ? current->from : "");
    for (int32_t g = 0; g < graph->grad_count; g++)
        graph->grads[g].exponent = pass->exponent[graph->grads[g].grad];
    return MEZZO_OK;
}

static mezzo_status check(const mezzo_graph *graph, const mezzo_segment *segments, int count) {
    for (int k = 0; k < count; k++)
        if (!segments[k].from || segments[k].exponent < -MEZZO_SEGMENT_EXPONENT_MAX ||
            segments[k].exponent > MEZZO_SEGMENT_EXPONENT_MAX)
            MZI_FAIL(graph->ctx, MEZZO_INVALID_ARGUMENT, "segment `%s`: exponent %d is not in +-%d",
                     segments[k].from ? segments[k].from : "(null)", segments[k].exponent,
                     (int)MEZZO_SEGMENT_EXPONENT_MAX);
    return MEZZO_OK;
}

mezzo_status mzi_pass_segments(mezzo_graph *graph, const mezzo_segment *segments, int count) {
    MZI_TRY(graph->status);
    MZI_TRY(check(graph, segments, count));
    if (count == 0)
        return MEZZO_OK;
    size_t values = (size_t)graph->value_count;
    size_t bytes = values * (sizeof(int32_t) + sizeof(bool));
    segments_pass pass = {
        .graph = graph, .segments = segments, .segment_count = count, .list.graph = graph};
    pass.exponent = mzi_alloc(graph->ctx, bytes);
    if (!pass.exponent)
        return mzi_out_of_memory(graph->ctx, bytes, "segments");
    pass.is_gradient = (bool *)(pass.exponent + values);
    mezzo_status status = run(&pass);
    mzi_free(graph->ctx, pass.exponent, bytes);
    mzi_free(graph->ctx, pass.made, (size_t)pass.made_capacity * sizeof *pass.made);
    return mzi_rewrite_end(&pass.list, status);
}
