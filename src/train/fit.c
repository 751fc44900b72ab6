/* Recomputation for a memory budget: the fewest forward operations, the cheapest for each byte they
 * free first, that let the training plan fit.
 *
 * Plans are made on trial, without their memory.  What backward keeps is freed in the order of work
 * for each byte, so that elementwise operations and norms go before products; how many of them, a
 * binary search finds.  The user's own patterns stand, those with `!` too. */
#include "train/fit.h"

#include <stdlib.h>
#include <string.h>

#include "base/glob.h"

typedef struct candidate {
    char *name;  /* owned */
    double work; /* FLOP for each byte that backward need not keep */
    int32_t order;
} candidate;

typedef struct search {
    mezzo_trainer *trainer;
    candidate *candidates;
    int32_t count, capacity;
    const char **patterns; /* the candidates' names, then the user's patterns */
    size_t patterns_bytes;
} search;

static uint64_t workers(const mezzo_model *model) {
    return (uint64_t)mzi_team_size(model->ctx->team);
}

/* What a plan of training holds: state (of a split master both halves), derived weights, arena,
 * workspaces. */
static uint64_t bytes_of(const mezzo_model *model, const mzi_plan *plan) {
    uint64_t bytes = plan->arena_bytes + plan->worker_bytes * workers(model);
    for (int32_t v = 1; v < plan->graph->value_count; v++) {
        const mzi_value *value = &plan->graph->values[v];
        mzi_value_kind kind = value->kind;
        if (kind == MZI_VALUE_PARAM || kind == MZI_VALUE_STATE || kind == MZI_VALUE_DERIVED)
            bytes += mzi_value_bytes(value) * (value->is_split ? 2 : 1);
    }
    return bytes;
}

static mezzo_status trial(search *s, int32_t chosen, uint64_t *bytes) {
    mezzo_model *model = s->trainer->model;
    mezzo_graph *graph;
    mzi_plan *plan;
    for (int32_t k = 0; k < chosen; k++)
        s->patterns[k] = s->candidates[k].name;
    for (int32_t k = 0; k < model->recompute_count; k++)
        s->patterns[chosen + k] = model->recompute[k];
    const mzi_plan_config config = {.recipe = "",
                                    .recompute = s->patterns,
                                    .recompute_count = chosen + model->recompute_count,
                                    .recompute_chosen = chosen,
                                    .no_fuse = model->no_fuse};
    MZI_TRY(mzi_trainer_graph_create(s->trainer, true, &graph));
    MZI_TRY(mzi_plan_create(&plan, graph, &model->backend->target, &config));
    *bytes = bytes_of(model, plan);
    mzi_plan_destroy(plan);
    return MEZZO_OK;
}

static bool is_kept_by_user(const mezzo_model *model, const char *name) {
    for (int k = model->recompute_count - 1; k >= 0; k--)
        if (mzi_glob_match(model->recompute[k] + (model->recompute[k][0] == '!'), name))
            return true; /* they say what is done with it, either way */
    return false;
}

/* Casts and views go with what they are made from. */
static bool can_be_repeated(const mzi_node *node) {
    return node->phase == MZI_PHASE_FORWARD && node->out_count > 0 && !node->is_meter &&
           !node->op->view && node->op != &mzi_op_cast;
}

static bool backward_reads(const mezzo_graph *graph, const mzi_node *node) {
    for (int32_t n = 0; n < graph->node_count; n++)
        for (int k = 0; graph->nodes[n].phase == MZI_PHASE_BACKWARD && k < graph->nodes[n].in_count;
             k++)
            if (graph->nodes[n].in[k] == node->out[0])
                return true;
    return false;
}

static mezzo_status add_candidate(search *s, const mezzo_graph *graph, int32_t n) {
    mezzo_ctx *ctx = s->trainer->model->ctx;
    const mzi_node *node = &graph->nodes[n];
    MZI_TRY(
        mzi_grow(ctx, (void **)&s->candidates, &s->capacity, s->count + 1, sizeof *s->candidates));
    double bytes = (double)mzi_value_bytes(&graph->values[node->out[0]]);
    char *name = mzi_copy_text(ctx, node->name);
    if (!name)
        return mzi_out_of_memory(ctx, strlen(node->name), "the names of a graph");
    s->candidates[s->count++] = (candidate){name, mzi_node_flops(graph, node) / (bytes + 1.0), n};
    return MEZZO_OK;
}

static int by_work(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->work != y->work)
        return x->work < y->work ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static mezzo_status collect(search *s) {
    mezzo_model *model = s->trainer->model;
    mezzo_graph *graph;
    mezzo_status status = mzi_trainer_graph_create(s->trainer, true, &graph);
    MZI_TRY(status);
    for (int32_t n = 0; n < graph->node_count && status == MEZZO_OK; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (can_be_repeated(node) && backward_reads(graph, node) &&
            !is_kept_by_user(model, node->name))
            status = add_candidate(s, graph, n);
    }
    mzi_graph_destroy(graph);
    if (s->count > 0)
        qsort(s->candidates, (size_t)s->count, sizeof *s->candidates, by_work);
    s->patterns_bytes = ((size_t)s->count + (size_t)model->recompute_count + 1) * sizeof(char *);
    s->patterns = mzi_alloc(model->ctx, s->patterns_bytes);
    if (status == MEZZO_OK && !s->patterns)
        return mzi_out_of_memory(model->ctx, s->patterns_bytes, "patterns");
    return status;
}

/* The names move to the model, in front of the user's patterns. */
static mezzo_status adopt(search *s, int32_t chosen) {
    mezzo_model *model = s->trainer->model;
    size_t count = (size_t)chosen + (size_t)model->recompute_count;
    char **all = mzi_alloc(model->ctx, count * sizeof *all);
    if (!all)
        return mzi_out_of_memory(model->ctx, count * sizeof *all, "patterns");
    for (int32_t k = 0; k < chosen; k++) {
        all[k] = s->candidates[k].name;
        s->candidates[k].name = NULL;
    }
    for (int k = 0; k < model->recompute_count; k++)
        all[chosen + k] = model->recompute[k];
    mzi_free(model->ctx, model->recompute, (size_t)model->recompute_count * sizeof *all);
    model->recompute = all;
    model->recompute_count = (int)count;
    model->recompute_chosen = chosen;
    return MEZZO_OK;
}

static mezzo_status find(search *s, uint64_t budget) {
    mezzo_ctx *ctx = s->trainer->model->ctx;
    uint64_t bytes, least;
    MZI_TRY(collect(s));
    MZI_TRY(trial(s, 0, &bytes));
    if (bytes <= budget)
        return MEZZO_OK;
    MZI_TRY(trial(s, s->count, &least));
    if (least > budget)
        MZI_FAIL(ctx, MEZZO_OUT_OF_MEMORY,
                 "training takes %.1f MiB, and %.1f MiB with all of forward recomputed; a budget "
                 "of %.1f MiB needs a smaller micro-batch (and train.accumulate), or master bf16",
                 (double)bytes / 0x1p20, (double)least / 0x1p20, (double)budget / 0x1p20);
    int32_t few = 0, enough = s->count; /* `few` do not fit, `enough` do */
    while (enough - few > 1) {
        int32_t middle = few + (enough - few) / 2;
        MZI_TRY(trial(s, middle, &bytes));
        if (bytes <= budget)
            enough = middle;
        else
            few = middle;
    }
    return adopt(s, enough);
}

mezzo_status mzi_trainer_fit(mezzo_trainer *trainer, uint64_t budget) {
    mezzo_ctx *ctx = trainer->model->ctx;
    search s = {.trainer = trainer};
    mezzo_status status = find(&s, budget);
    for (int32_t k = 0; k < s.count; k++)
        mzi_free_text(ctx, s.candidates[k].name);
    mzi_free(ctx, s.candidates, (size_t)s.capacity * sizeof *s.candidates);
    mzi_free(ctx, s.patterns, s.patterns_bytes);
    return status;
}
