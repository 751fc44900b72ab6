/* The memory planner: offsets in one arena, so that values whose lives do not meet share bytes.
 *
 *   life of a value = from the node that makes it to its last use, both included
 *
 *      node      0    1    2    3    4        x and its in-place relu are one block;
 *      x, relu   [==========]                 what is read after the run (outputs,
 *      conv out       [=========]             gradients) lives to the end; inputs live
 *      scratch             []                 from the start, since they are uploaded then;
 *                                             what a window keeps lives all the time.
 *
 * Blocks are placed largest first, each at the lowest offset that is free during its life. */
#include <stdlib.h>

#include "graph/plan.h"

typedef struct block {
    int32_t root; /* the value that stands for it */
    int32_t first, last;
    uint64_t bytes, offset;
} block;

typedef struct memory_pass {
    mzi_plan *plan;
    mezzo_graph *graph;
    int32_t *root; /* value -> the value whose memory it has */
    int32_t *last; /* by value: last node that uses the block, for roots */
    bool *fixed;   /* by value: the block is read after the run */
    block *blocks;
    int32_t block_count;
} memory_pass;

static bool in_arena(const mzi_value *value) {
    return value->kind == MZI_VALUE_TEMP || value->kind == MZI_VALUE_SCRATCH ||
           value->kind == MZI_VALUE_INPUT || value->kind == MZI_VALUE_KEPT;
}

static void join(memory_pass *pass, int32_t v, int32_t root) {
    pass->root[v] = root;
    if (pass->last[v] > pass->last[root])
        pass->last[root] = pass->last[v];
    pass->fixed[root] = pass->fixed[root] || pass->fixed[v];
}

/* out[0] may take the memory of in[k] when this node is the last to use it. */
static void try_inplace(memory_pass *pass, const mzi_node *node, int32_t n) {
    const mzi_value *values = pass->graph->values;
    int32_t out = node->out[0];
    for (int k = 0; k < node->in_count; k++) {
        if (!(node->op->inplace & MEZZO_BIT(k)))
            continue;
        int32_t root = pass->root[node->in[k]];
        bool shared = false;
        for (int j = 0; j < node->in_count; j++)
            shared |= j != k && pass->root[node->in[j]] == root;
        if (shared || values[root].kind != MZI_VALUE_TEMP || pass->fixed[root] ||
            pass->last[root] != n ||
            mzi_value_bytes(&values[root]) != mzi_value_bytes(&values[out]))
            continue;
        join(pass, out, root);
        return;
    }
}

static void find_lives(memory_pass *pass) {
    mezzo_graph *graph = pass->graph;
    for (int32_t v = 0; v < graph->value_count; v++) {
        pass->root[v] = v;
        pass->last[v] = graph->values[v].producer;
        pass->fixed[v] = graph->values[v].is_output;
    }
    for (int32_t n = 0; n < graph->node_count; n++)
        for (int k = 0; k < graph->nodes[n].in_count; k++)
            pass->last[graph->nodes[n].in[k]] = n;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (node->op->view)
            join(pass, node->out[0], pass->root[node->in[0]]);
        else
            try_inplace(pass, node, n);
    }
}

static int by_size(const void *a, const void *b) {
    const block *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x->root < y->root ? -1 : x->root > y->root;
}

static void make_blocks(memory_pass *pass) {
    mezzo_graph *graph = pass->graph;
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (!in_arena(value) || pass->root[v] != v)
            continue;
        block *b = &pass->blocks[pass->block_count++];
        b->root = v;
        bool kept = value->kind == MZI_VALUE_KEPT;
        b->first = kept || value->kind == MZI_VALUE_INPUT ? -1 : value->producer;
        b->last = kept || pass->fixed[v] ? graph->node_count : pass->last[v];
        b->bytes = (mzi_value_bytes(value) + MZI_ALIGN - 1) / MZI_ALIGN * MZI_ALIGN;
    }
    qsort(pass->blocks, (size_t)pass->block_count, sizeof *pass->blocks, by_size);
}

static int by_offset(const void *a, const void *b) {
    const block *x = *(block *const *)a, *y = *(block *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The lowest gap between the blocks that live at the same time. */
static void place(memory_pass *pass, int32_t index, block **meeting) {
    block *b = &pass->blocks[index];
    size_t count = 0;
    for (int32_t k = 0; k < index; k++)
        if (pass->blocks[k].first <= b->last && b->first <= pass->blocks[k].last)
            meeting[count++] = &pass->blocks[k];
    qsort(meeting, count, sizeof *meeting, by_offset);
    uint64_t offset = 0;
    for (size_t k = 0; k < count && meeting[k]->offset < offset + b->bytes; k++) {
        uint64_t end = meeting[k]->offset + meeting[k]->bytes;
        if (end > offset)
            offset = end;
    }
    b->offset = offset;
    if (offset + b->bytes > pass->plan->arena_bytes)
        pass->plan->arena_bytes = offset + b->bytes;
}

static void assign(memory_pass *pass, block **meeting) {
    mzi_plan *plan = pass->plan;
    for (int32_t b = 0; b < pass->block_count; b++) {
        place(pass, b, meeting);
        plan->places[pass->blocks[b].root] = (mzi_place){true, pass->blocks[b].offset};
    }
    for (int32_t v = 1; v < pass->graph->value_count; v++)
        plan->places[v] = plan->places[pass->root[v]];
}

mezzo_status mzi_pass_memory(mzi_plan *plan) {
    mezzo_graph *graph = plan->graph;
    mezzo_ctx *ctx = graph->ctx;
    size_t n = (size_t)graph->value_count;
    plan->place_count = graph->value_count;
    plan->places = mzi_alloc(ctx, n * sizeof *plan->places);
    size_t bytes = n * (2 * sizeof(int32_t) + sizeof(block) + sizeof(block *) + sizeof(bool));
    unsigned char *work = mzi_alloc(ctx, bytes);
    if (!plan->places || !work) {
        mzi_free(ctx, work, bytes);
        return mzi_out_of_memory(ctx, bytes, "the memory plan");
    }
    /* Widest alignment first. */
    memory_pass pass = {.plan = plan, .graph = graph};
    block **meeting = (block **)(void *)work;
    pass.blocks = (block *)(void *)(meeting + n);
    pass.root = (int32_t *)(void *)(pass.blocks + n);
    pass.last = pass.root + n;
    pass.fixed = (bool *)(pass.last + n);
    find_lives(&pass);
    make_blocks(&pass);
    assign(&pass, meeting);
    mzi_free(ctx, work, bytes);
    return MEZZO_OK;
}
