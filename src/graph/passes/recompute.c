/* Recomputation: activations that backward makes again instead of keeping them.
 *
 *   stored      f1 -> a -> f2 -> ...        backward reads a, which lives until then
 *   recomputed  f1 -> a -> f2 -> ...  b0, [f1' -> a'], b1 ...       b1 and what follows read a'
 *
 * Which ones, the names of the forward nodes say.  A repeated node stands right before the first
 * use of it in backward, has the types, kernels and chunks of the first one, and reads what that
 * one read (or a repeated node's output): its results are the same bits.  Random numbers are
 * functions of name and element, so that dropout repeats too. */
#include <string.h>

#include "base/glob.h"
#include "graph/plan.h"
#include "graph/rewrite.h"

typedef struct recompute_pass {
    mezzo_graph *graph;
    const char **chosen; /* by node of the old list: why, or null */
    int32_t *again;      /* by value: the value that backward reads instead; 0: none yet */
    mzi_rewrite list;
    int32_t value_count;
} recompute_pass;

/* Why the node is recomputed, null if it is not.  The last pattern that matches decides; one with
 * `!` in front keeps.  The first `chosen` are names. */
static const char *reason_of(const char *name, const char *const *patterns, int count, int chosen) {
    for (int p = count - 1; p >= chosen; p--) {
        bool keep = patterns[p][0] == '!';
        if (mzi_glob_match(patterns[p] + keep, name))
            return keep ? NULL : "train.recompute names it";
    }
    for (int p = 0; p < chosen; p++)
        if (strcmp(patterns[p], name) == 0)
            return "recomputed to fit train.memory_mib";
    return NULL;
}

/* Casts and views go with what they are made from. */
static const char *goes_along(const recompute_pass *pass, const mzi_node *node) {
    int32_t producer = pass->graph->values[node->in[0]].producer;
    bool follows = (node->op == &mzi_op_cast || node->op->view) && producer >= 0;
    return follows ? pass->chosen[producer] : NULL;
}

static bool writes_state(const mzi_node *node) {
    return node->out_count == 0;
}

static void choose(recompute_pass *pass, const char *const *patterns, int count, int chosen) {
    const mezzo_graph *graph = pass->graph;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (node->phase != MZI_PHASE_FORWARD || writes_state(node))
            continue;
        const char *why = reason_of(node->name, patterns, count, chosen);
        pass->chosen[n] = why ? why : goes_along(pass, node);
    }
}

static mezzo_status repeat(recompute_pass *pass, int32_t n);

/* The value that backward reads in place of `v`. */
static mezzo_status replace(recompute_pass *pass, const int32_t *old_producer, int32_t *v) {
    int32_t producer = *v < pass->value_count ? old_producer[*v] : -1;
    if (producer < 0 || !pass->chosen[producer])
        return MEZZO_OK;
    if (!pass->again[*v])
        MZI_TRY(repeat(pass, producer));
    *v = pass->again[*v];
    return MEZZO_OK;
}

static const int32_t *producers(const recompute_pass *pass) {
    return pass->again + pass->value_count;
}

/* Depth: at most the longest chain of chosen nodes, which is shorter than the network. */
static mezzo_status repeat(recompute_pass *pass, int32_t n) {
    mezzo_graph *graph = pass->graph;
    mzi_node node = graph->nodes[n];
    for (int k = 0; k < node.in_count; k++)
        MZI_TRY(replace(pass, producers(pass), &node.in[k]));
    node.name = mzi_arena_text(&graph->arena, "%s/again", node.name);
    node.phase = MZI_PHASE_BACKWARD;
    node.reason = pass->chosen[n];
    if (!node.name)
        return mzi_out_of_memory(graph->ctx, 0, "the names of a graph");
    for (int k = 0; k < node.out_count; k++) {
        int32_t old = node.out[k];
        const mzi_value *value = &graph->values[old];
        node.out[k] = mzi_graph_add_value(graph, value->name, MZI_VALUE_TEMP, value->tensor);
        if (!node.out[k])
            return graph->status;
        pass->again[old] = node.out[k];
    }
    return mzi_rewrite_append(&pass->list, &node);
}

static mezzo_status run(recompute_pass *pass) {
    mezzo_graph *graph = pass->graph;
    for (int32_t n = 0; n < graph->node_count; n++) {
        mzi_node node = graph->nodes[n];
        for (int k = 0; k < node.in_count && node.phase == MZI_PHASE_BACKWARD; k++)
            MZI_TRY(replace(pass, producers(pass), &node.in[k]));
        MZI_TRY(mzi_rewrite_append(&pass->list, &node));
    }
    return MEZZO_OK;
}

mezzo_status mzi_pass_recompute(mezzo_graph *graph, const char *const *patterns, int count,
                                int chosen) {
    if (count == 0)
        return MEZZO_OK;
    size_t values = (size_t)graph->value_count;
    size_t why_bytes = (size_t)graph->node_count * sizeof(char *);
    size_t bytes = why_bytes + 2 * values * sizeof(int32_t);
    recompute_pass pass = {.graph = graph, .list.graph = graph, .value_count = graph->value_count};
    pass.chosen = mzi_alloc(graph->ctx, bytes);
    if (!pass.chosen)
        return mzi_out_of_memory(graph->ctx, bytes, "recomputation");
    pass.again = (int32_t *)(pass.chosen + graph->node_count);
    for (size_t v = 0; v < values; v++)
        pass.again[values + v] = graph->values[v].producer;
    choose(&pass, patterns, count, chosen);
    mezzo_status status = run(&pass);
    mzi_free(graph->ctx, pass.chosen, bytes);
    return mzi_rewrite_end(&pass.list, status);
}
