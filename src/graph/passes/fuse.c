/* Fusion: several nodes in one, where that computes, reads or writes less.
 *
 *   head, head/dx             linear_cross_entropy and its gradients make the logits of a chunk
 *                             once:  linear_cross_entropy_train, in the place of head/dx
 *   embedding/dw, weight/grad a table that another operation reads too: the few rows that have a
 *                             gradient are added to that of the other, in its memory:
 *                             embedding_dw_add, in the place of the sum
 *   weight/dw, weight/norm    the figures of a gradient are taken while it is made, if its kernel
 *                             can:  linear_dw_stats, in the place of weight/dw
 *
 * The numbers mean the same: types stay, each value keeps its number and its name, and what cannot
 * be seen from outside is all that goes. */
#include "graph/plan.h"
#include "graph/rewrite.h"
#include "graph/stats.h"

enum {
    LOSS_OUTS = 4 /* of linear_cross_entropy: loss, lse, correct, valid */
};

typedef struct fuse_pass {
    mezzo_graph *graph;
    mzi_target *target;
    int32_t *with;  /* by node of the old list: the earlier one that it takes in; -1: none */
    int32_t *stats; /* by node: the later one, a stats, that it takes in; -1: none */
    bool *gone;     /* by node: another one takes it in */
    mzi_rewrite list;
} fuse_pass;

static bool reads(const mzi_node *node, int32_t value) {
    for (int k = 0; k < node->in_count; k++)
        if (node->in[k] == value)
            return true;
    return false;
}

/* A node of [first, end) reads an output of `node`. */
static bool is_read(const mezzo_graph *graph, const mzi_node *node, int32_t first, int32_t end) {
    for (int32_t n = first; n < end; n++)
        for (int k = 0; k < node->out_count; k++)
            if (node->out[k] && reads(&graph->nodes[n], node->out[k]))
                return true;
    return false;
}

/* The node that makes `value`, if it is a use of `op`; else -1. */
static int32_t maker(const mezzo_graph *graph, int32_t value, const mezzo_op_def *op) {
    int32_t n = value ? graph->values[value].producer : -1;
    return n >= 0 && graph->nodes[n].op == op ? n : -1;
}

/* The loss comes when its gradient does: nothing may read it before, such as another loss that it
 * is a term of. */
static int32_t head_of(const mezzo_graph *graph, int32_t b) {
    const mzi_node *bwd = &graph->nodes[b];
    if (bwd->op != &mzi_op_linear_cross_entropy_bwd)
        return -1;
    int32_t f = maker(graph, bwd->in[3], &mzi_op_linear_cross_entropy);
    if (f < 0 || is_read(graph, &graph->nodes[f], f + 1, b))
        return -1;
    const mzi_node *head = &graph->nodes[f];
    bool same = head->in[0] == bwd->in[0] && head->in[1] == bwd->in[1] &&
                head->in[2] == bwd->in[2] && head->in[1] == bwd->in[6] &&
                head->out[1] == bwd->in[3] && head->out[3] == bwd->in[5];
    for (int k = 0; k < LOSS_OUTS; k++)
        same &= head->out[k] != bwd->in[4];
    return same ? f : -1;
}

/* Which input of the addition `a` is an embedding's gradient that nothing else reads; -1: none. */
static int table_of(const mezzo_graph *graph, int32_t a) {
    const mzi_node *add = &graph->nodes[a];
    for (int k = 1; k >= 0 && add->op == &mzi_op_add && add->in[0] != add->in[1]; k--) {
        int32_t e = maker(graph, add->in[k], &mzi_op_embedding_dw);
        const mzi_value *dw = &graph->values[add->in[k]], *sum = &graph->values[add->out[0]];
        if (e >= 0 && !dw->is_output && dw->tensor.dtype == sum->tensor.dtype &&
            !is_read(graph, &graph->nodes[e], e + 1, a) &&
            !is_read(graph, &graph->nodes[e], a + 1, graph->node_count))
            return k;
    }
    return -1;
}

/* Does the product that node `n` is give figures of its result?  A trial lowering. */
static mezzo_status gives_stats(const fuse_pass *pass, int32_t n, bool *gives) {
    mzi_target *target = pass->target;
    mzi_lowering trial = {.graph = pass->graph};
    mezzo_status status = mzi_lower_node(&trial, n);
    *gives = status == MEZZO_OK && target->gives_stats && trial.call_count == 1 &&
             trial.calls[0].family == MZK_matmul && target->gives_stats(target, &trial.calls[0]);
    mzi_lowering_deinit(&trial);
    return status;
}

static mezzo_status append(fuse_pass *pass, mzi_node *node, const mzi_node *first,
                           const mzi_node *second, const char *gain) {
    mezzo_graph *graph = pass->graph;
    bool overridden = first->rule == MZI_RULE_OVERRIDE;
    node->rule = overridden ? MZI_RULE_OVERRIDE : MZI_RULE_FUSE;
    node->override = first->override;
    node->reason = mzi_arena_text(&graph->arena, "%s%s`%s` and `%s` in one: %s",
                                  overridden ? first->reason : "", overridden ? "; " : "",
                                  first->name, second->name, gain);
    if (!node->reason)
        return mzi_out_of_memory(graph->ctx, 0, "the names of a graph");
    return mzi_rewrite_append(&pass->list, node);
}

static mezzo_status append_head(fuse_pass *pass, const mzi_node *head, const mzi_node *bwd) {
    mzi_node node = *head;
    node.op = &mzi_op_linear_cross_entropy_train;
    node.phase = bwd->phase;
    node.in_count = 5;
    node.in[3] = bwd->in[4];
    node.in[4] = head->in[1];
    node.out_count = LOSS_OUTS + 2;
    node.out[LOSS_OUTS] = bwd->out[0];
    node.out[LOSS_OUTS + 1] = bwd->out[1];
    node.backward_name = bwd->name;
    node.forward_outs = LOSS_OUTS;
    return append(pass, &node, head, bwd, "the logits are made once");
}

static mezzo_status append_table(fuse_pass *pass, const mzi_node *table, const mzi_node *add,
                                 int which) {
    mzi_node node = *table;
    mzi_value *gone = &pass->graph->values[table->out[0]];
    node.op = &mzi_op_embedding_dw_add;
    node.name = add->name;
    node.phase = add->phase;
    node.in_count = 3;
    node.in[2] = add->in[1 - which];
    node.out[0] = add->out[0];
    gone->kind = MZI_VALUE_GONE;
    gone->producer = -1;
    return append(pass, &node, table, add, "only rows that have a gradient are added");
}

static mezzo_status append_stats(fuse_pass *pass, const mzi_node *dw, const mzi_node *stats) {
    mzi_node node = *dw;
    mzi_use view;
    mzi_node_use(pass->graph, dw, &view);
    node.op = &mzi_op_linear_dw_stats;
    node.out_count = 2;
    node.out[1] = stats->out[0];
    MZI_TRY(node.op->infer(&view.use));
    pass->graph->values[node.out[1]].tensor = view.out[1];
    return append(pass, &node, dw, stats, "the gradient is not read again");
}

/* The gradient's product that the node takes figures of, once for each step; else -1. */
static int32_t product_of(const mezzo_graph *graph, const mzi_node *node) {
    return node->op == &mzi_op_stats && node->phase == MZI_PHASE_CHECK
               ? maker(graph, node->in[0], &mzi_op_linear_dw)
               : -1;
}

static mezzo_status choose_stats(fuse_pass *pass) {
    for (int32_t n = 0; n < pass->graph->node_count; n++) {
        int32_t product = product_of(pass->graph, &pass->graph->nodes[n]);
        bool gives = false;
        if (product < 0 || pass->stats[product] >= 0)
            continue;
        MZI_TRY(gives_stats(pass, product, &gives));
        if (!gives)
            continue;
        pass->stats[product] = n;
        pass->gone[n] = true;
    }
    return MEZZO_OK;
}

static void choose(fuse_pass *pass) {
    const mezzo_graph *graph = pass->graph;
    for (int32_t n = 0; n < graph->node_count; n++) {
        pass->stats[n] = -1;
        int table = table_of(graph, n);
        pass->with[n] =
            table >= 0 ? graph->values[graph->nodes[n].in[table]].producer : head_of(graph, n);
        if (pass->with[n] >= 0)
            pass->gone[pass->with[n]] = true;
    }
}

static mezzo_status run(fuse_pass *pass) {
    mezzo_graph *graph = pass->graph;
    choose(pass);
    MZI_TRY(choose_stats(pass));
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n], *first = &graph->nodes[n];
        if (pass->gone[n])
            continue;
        if (pass->with[n] >= 0)
            first = &graph->nodes[pass->with[n]];
        if (pass->stats[n] >= 0)
            MZI_TRY(append_stats(pass, node, &graph->nodes[pass->stats[n]]));
        else if (first == node)
            MZI_TRY(mzi_rewrite_append(&pass->list, node));
        else if (node->op == &mzi_op_add)
            MZI_TRY(append_table(pass, first, node, first->out[0] == node->in[1]));
        else
            MZI_TRY(append_head(pass, first, node));
    }
    return MEZZO_OK;
}

mezzo_status mzi_pass_fuse(mezzo_graph *graph, mzi_target *target) {
    size_t bytes = (size_t)graph->node_count * (2 * sizeof(int32_t) + sizeof(bool));
    fuse_pass pass = {.graph = graph, .target = target, .list.graph = graph};
    if (graph->node_count == 0)
        return MEZZO_OK;
    pass.with = mzi_alloc(graph->ctx, bytes);
    if (!pass.with)
        return mzi_out_of_memory(graph->ctx, bytes, "fusion");
    pass.stats = pass.with + graph->node_count;
    pass.gone = (bool *)(pass.stats + graph->node_count);
    mezzo_status status = mzi_rewrite_end(&pass.list, run(&pass));
    mzi_free(graph->ctx, pass.with, bytes);
    return status;
}
