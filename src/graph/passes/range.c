/* Expected sizes before the first step, value by value.
 *
 * The expectation is over the draw of the initial weights, which are independent of what they are
 * multiplied by; inputs have the root mean square 1 and, at worst, one sign.  NaN: not known. */
#include <math.h>

#include "graph/plan.h"
#include "num/number.h"

static const mezzo_range unknown = {.rms = (double)NAN, .mean = (double)NAN};

static mezzo_range of_init(mezzo_init init) {
    double a = fabs((double)init.a);
    switch (init.kind) {
    case MEZZO_INIT_CONSTANT:
        return (mezzo_range){.rms = a, .mean = a};
    case MEZZO_INIT_UNIFORM: /* E w^2 = a^2 / 3 */
        return (mezzo_range){.rms = a / sqrt(3.0), .mean = 0.0};
    case MEZZO_INIT_NORMAL:
        return (mezzo_range){.rms = a, .mean = 0.0};
    }
    return unknown;
}

static mezzo_range of_source(const mzi_value *value) {
    if (!mezzo_dtype_is_float(value->tensor.dtype))
        return unknown;
    if (value->kind == MZI_VALUE_INPUT)
        return (mezzo_range){.rms = 1.0, .mean = 1.0};
    return of_init(value->init);
}

/* What its type cannot hold is reported where it is made, and not behind that. */
static mezzo_range range_of(const mezzo_graph *graph, const mezzo_range *ranges, int32_t v) {
    double largest = mzi_largest(graph->values[v].tensor.dtype);
    return v && ranges[v].rms > largest ? unknown : ranges[v];
}

void mzi_pass_range(const mezzo_graph *graph, mezzo_range *ranges) {
    ranges[0] = (mezzo_range){0};
    for (int32_t v = 1; v < graph->value_count; v++)
        ranges[v] = graph->values[v].producer < 0 ? of_source(&graph->values[v]) : unknown;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        mezzo_range in[MEZZO_OP_IN_MAX] = {0};
        mzi_use view;
        if (node->phase > MZI_PHASE_FORWARD || !node->op->range)
            continue;
        for (int k = 0; k < node->in_count; k++)
            in[k] = range_of(graph, ranges, node->in[k]);
        mzi_node_use(graph, node, &view);
        ranges[node->out[0]] = node->op->range(&view.use, in);
    }
}
