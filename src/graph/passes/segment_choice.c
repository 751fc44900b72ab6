/* Where backward is cut, from measured maxima.
 *
 * FP16 has its largest at 2^16, its least normal number at 2^-14 and steps of 2^-24 below.  A
 * segment keeps the maximum of each of its tensors, times loss scale and 2^exponent, within
 *
 *   2^-4    an element rounds by at most 2^-25, 2^-21 of the maximum: 2^10 times finer than FP16
 *           rounds the maximum itself (2^-11), so that being subnormal costs the tensor nothing
 *   2^12    room for other batches to have gradients 2^3 times larger, and for the scale to double
 *           once, below 2^16
 *
 * A maximum m allows the exponents of that window of 2^16; a node those that all of its gradients
 * in FP16 allow.  In the order of the plan the longest run that has an exponent in common becomes a
 * segment, which makes the fewest of them, and takes the middle of what is common: as much room on
 * the one side as on the other. */
#include <math.h>
#include <string.h>

#include "graph/segments.h"

enum {
    LEAST_LOG2 = -4,
    LARGEST_LOG2 = 12
};

static int32_t clamped(double exponent) {
    const double max = (double)MEZZO_SEGMENT_EXPONENT_MAX;
    return (int32_t)fmin(fmax(exponent, -max), max);
}

mzi_exponents mzi_segment_window(double maximum, double scale) {
    if (!(maximum > 0.0))
        return (mzi_exponents){-MEZZO_SEGMENT_EXPONENT_MAX, MEZZO_SEGMENT_EXPONENT_MAX};
    double held = log2(maximum) + log2(scale);
    return (mzi_exponents){clamped(ceil((double)LEAST_LOG2 - held)),
                           clamped(floor((double)LARGEST_LOG2 - held))};
}

static mzi_exponents common(mzi_exponents a, mzi_exponents b) {
    return (mzi_exponents){a.low > b.low ? a.low : b.low, a.high < b.high ? a.high : b.high};
}

int32_t mzi_segments_cut(const mzi_exponents *allowed, int32_t count, int32_t *exponent) {
    int32_t runs = 0;
    for (int32_t first = 0, end; first < count; first = end, runs++) {
        mzi_exponents all = allowed[first];
        for (end = first + 1; end < count; end++) {
            mzi_exponents more = common(all, allowed[end]);
            if (more.low > more.high)
                break;
            all = more;
        }
        for (int32_t n = first; n < end; n++)
            exponent[n] = all.low + (all.high - all.low) / 2;
    }
    return runs;
}

/* Least and largest maximum of something; 0, 0: none. */
typedef struct span {
    double low, high;
} span;

static void widen(span *s, double maximum) {
    if (!(maximum > 0.0))
        return;
    s->low = s->high > 0.0 ? fmin(s->low, maximum) : maximum;
    s->high = fmax(s->high, maximum);
}

typedef struct choice {
    mezzo_graph *graph;
    const mzi_maximum *table;
    int32_t table_count;
    double scale;
    bool *is_gradient;
    int32_t *nodes; /* those that read a gradient, in their order */
    span *spans;    /* and what they read and make in FP16        */
    mzi_exponents *allowed;
    int32_t *exponent;
    int32_t count;
} choice;

/* A cast has the maximum of what it casts.  Sums for one value may share a name: all of them count.
 */
static void measure(const choice *c, int32_t v, span *s) {
    const mezzo_graph *graph = c->graph;
    if (!c->is_gradient[v] || graph->values[v].tensor.dtype != MEZZO_F16)
        return;
    int32_t producer = graph->values[v].producer;
    while (producer >= 0 && graph->nodes[producer].op == &mzi_op_cast) {
        v = graph->nodes[producer].in[0];
        producer = graph->values[v].producer;
    }
    for (int32_t k = 0; k < c->table_count; k++)
        if (strcmp(c->table[k].name, graph->values[v].name) == 0)
            widen(s, c->table[k].maximum);
}

/* If no exponent does for the whole span, one at which the largest does not overflow. */
static mzi_exponents exponents_of(const span *s, double scale) {
    mzi_exponents all =
        common(mzi_segment_window(s->low, scale), mzi_segment_window(s->high, scale));
    all.low = all.low < all.high ? all.low : all.high;
    return all;
}

/* Of the operands of an addition the largest counts: what underflows of another is as far below the
 * sum's maximum as what underflows of the sum. */
static void survey(choice *c) {
    const mezzo_graph *graph = c->graph;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (!mzi_reads_gradient(node, c->is_gradient))
            continue;
        span s = {0}, in = {0};
        for (int k = 0; k < node->in_count; k++)
            measure(c, node->in[k], &in);
        widen(&s, node->op == &mzi_op_add ? in.high : in.low);
        widen(&s, in.high);
        for (int k = 0; k < node->out_count; k++)
            measure(c, node->out[k], &s);
        c->nodes[c->count] = n;
        c->spans[c->count] = s;
        c->allowed[c->count++] = exponents_of(&s, c->scale);
    }
}

static const char *name_of(const choice *c, int32_t index) {
    return c->graph->nodes[c->nodes[index]].name;
}

/* What starts at node `n`: its exponent, and the maxima of the run that it is in. */
static mezzo_segment segment_at(const choice *c, int32_t n) {
    span all = {0};
    int32_t first = n, end = n;
    while (first > 0 && c->exponent[first - 1] == c->exponent[n])
        first--;
    while (end < c->count && c->exponent[end] == c->exponent[n])
        end++;
    for (int32_t k = first; k < end; k++) {
        widen(&all, c->spans[k].low);
        widen(&all, c->spans[k].high);
    }
    return (mezzo_segment){name_of(c, n), c->exponent[n], all.low, all.high};
}

/* A name stands for the first that has it.  Nodes of that name that come before get a segment of
 * their own, with the exponent that they have anyway. */
static int write_segments(const choice *c, mezzo_segment *out) {
    int made = 0;
    int32_t behind = 0; /* the last start */
    for (int32_t n = 0; n < c->count; n++) {
        if (n > 0 && c->exponent[n] == c->exponent[n - 1])
            continue;
        for (int32_t k = behind; k <= n; k++)
            if (strcmp(name_of(c, k), name_of(c, n)) == 0)
                out[made++] = segment_at(c, k);
        behind = n + 1;
    }
    return made;
}

mezzo_status mzi_segments_choose(mezzo_graph *graph, const mzi_maximum *table, int32_t table_count,
                                 double scale, mezzo_segment *out, int *out_count) {
    size_t nodes = (size_t)graph->node_count + 1;
    size_t bytes = nodes * (sizeof(span) + sizeof(mzi_exponents) + 2 * sizeof(int32_t)) +
                   (size_t)graph->value_count * sizeof(bool);
    choice c = {.graph = graph, .table = table, .table_count = table_count, .scale = scale};
    c.spans = mzi_alloc(graph->ctx, bytes);
    if (!c.spans)
        return mzi_out_of_memory(graph->ctx, bytes, "the choice of segments");
    c.allowed = (mzi_exponents *)(c.spans + nodes);
    c.nodes = (int32_t *)(c.allowed + nodes);
    c.exponent = c.nodes + nodes;
    c.is_gradient = (bool *)(c.exponent + nodes);
    mezzo_status status = mzi_find_gradients(graph, c.is_gradient);
    if (status == MEZZO_OK) {
        survey(&c);
        bool several = mzi_segments_cut(c.allowed, c.count, c.exponent) > 1;
        *out_count = several ? write_segments(&c, out) : 0;
    }
    mzi_free(graph->ctx, c.spans, bytes);
    return status;
}
