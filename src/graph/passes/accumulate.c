/* Windows of several micro-batches: sums of gradients that live from one run to the next.
 *
 *   run k:   forward, backward -> g_k -> sum = (k = 0 ? 0 : sum) + rows_k g_k
 *
 * The sums are FP32, and each is made where its gradient is, whose memory is then free.  rows_k is
 * the number of rows that the loss of the micro-batch is a mean over, so that the sum over the
 * window, divided by all its rows, is the gradient of the mean over them, and no mean of means.
 *
 * Running statistics move once for each micro-batch: run k > 0 reads what run k - 1 made, from a
 * copy that takes the place of the state, and the step commits the last. */
#include "graph/plan.h"
#include "graph/rewrite.h"
#include "graph/window.h"
#include "graph/write.h"

static mezzo_status lower_accumulate(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t n = mezzo_shape_count(use->in[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_accumulate, n, MZI_GRAIN);
    call->out[0] = mzi_in(lowering, 1);
    for (int k = 0; k < 4; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.e.n = n;
    return MEZZO_OK;
}

static double flops_accumulate(const mezzo_op_use *use) {
    return 2.0 * (double)mezzo_shape_count(use->in[0].shape);
}

static const mezzo_op_def accumulate = {.name = "accumulate",
                                        .help = "sum = (first ? 0 : sum) + rows g",
                                        .in_min = 4,
                                        .in_max = 4,
                                        .cast = MEZZO_CAST_FULL,
                                        .in_int = MEZZO_BIT(3),
                                        .not_differentiable = true,
                                        .lower = lower_accumulate,
                                        .flops = flops_accumulate};

/* in: state, copy, first. */
static mezzo_status lower_begin(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t n = mezzo_shape_count(use->in[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_choose, n, MZI_GRAIN);
    call->out[0] = mzi_in(lowering, 1);
    for (int k = 0; k < 3; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.e.n = n;
    return MEZZO_OK;
}

static double no_flops(const mezzo_op_use *use) {
    (void)use;
    return 0.0;
}

static const mezzo_op_def begin = {.name = "begin",
                                   .help = "copy = first ? state : copy",
                                   .in_min = 3,
                                   .in_max = 3,
                                   .cast = MEZZO_CAST_FULL,
                                   .in_int = MEZZO_BIT(2),
                                   .not_differentiable = true,
                                   .lower = lower_begin,
                                   .flops = no_flops};

typedef struct window_pass {
    mezzo_graph *graph;
    mzi_window *window;
    mzi_rewrite list;
} window_pass;

/* A node that writes into its input 1. */
static mezzo_status append_write(window_pass *pass, const mezzo_op_def *op, mzi_phase phase,
                                 const char *reason, const int32_t *in) {
    mezzo_graph *graph = pass->graph;
    mzi_node node =
        mzi_write_node(graph, op, phase, graph->values[in[1]].name, reason, in, op->in_min);
    if (!node.name)
        return mzi_out_of_memory(graph->ctx, 0, "the names of a graph");
    return mzi_rewrite_append(&pass->list, &node);
}

/* A value of the shape of `like` that lives from run to run. */
static mezzo_status keep(mezzo_graph *graph, const char *name, int32_t like, int32_t *out) {
    mezzo_tensor tensor = {MEZZO_F32, graph->values[like].tensor.shape};
    if (!name)
        return mzi_out_of_memory(graph->ctx, 0, "the names of a graph");
    *out = mzi_graph_add_value(graph, name, MZI_VALUE_KEPT, tensor);
    return graph->status;
}

/* Copies of the statistics, read in place of the state. */
static mezzo_status begin_statistics(window_pass *pass) {
    mezzo_graph *graph = pass->graph;
    for (int32_t c = 0; c < graph->commit_count; c++) {
        int32_t state = graph->commits[c].state, copy = 0;
        MZI_TRY(keep(graph, mzi_arena_text(&graph->arena, "%s:window", graph->values[state].name),
                     state, &copy));
        for (int32_t n = 0; n < graph->node_count; n++)
            for (int k = 0; k < graph->nodes[n].in_count; k++)
                if (graph->nodes[n].in[k] == state)
                    graph->nodes[n].in[k] = copy;
        const int32_t in[] = {state, copy, pass->window->first};
        MZI_TRY(append_write(pass, &begin, MZI_PHASE_FORWARD,
                             "statistics move with each micro-batch", in));
        graph->values[graph->commits[c].next].is_output = false;
        pass->window->copies[c] = copy;
    }
    return MEZZO_OK;
}

static bool makes(const mzi_node *node, int32_t value) {
    for (int k = 0; k < node->out_count; k++)
        if (node->out[k] == value)
            return true;
    return false;
}

/* What has to follow `node`, which made some of the gradients or next statistics. */
static mezzo_status follow(window_pass *pass, const mzi_node *node) {
    mezzo_graph *graph = pass->graph;
    for (int32_t g = 0; g < graph->grad_count; g++) {
        int32_t grad = graph->grads[g].grad;
        if (!makes(node, grad))
            continue;
        const int32_t in[] = {grad, pass->window->sums[g], pass->window->rows, pass->window->first};
        MZI_TRY(append_write(pass, &accumulate, MZI_PHASE_BACKWARD,
                             "gradients of a window are summed in FP32", in));
    }
    for (int32_t c = 0; c < graph->commit_count; c++) {
        const int32_t in[] = {graph->commits[c].next, pass->window->copies[c]};
        if (makes(node, in[0]))
            MZI_TRY(append_write(pass, &mzi_op_assign, node->phase,
                                 "statistics move with each micro-batch", in));
    }
    return MEZZO_OK;
}

static mezzo_status make_sums(window_pass *pass) {
    mezzo_graph *graph = pass->graph;
    mzi_window *window = pass->window;
    window->sums = mzi_arena_push(&graph->arena, (size_t)graph->grad_count * sizeof *window->sums);
    window->copies =
        mzi_arena_push(&graph->arena, ((size_t)graph->commit_count + 1) * sizeof *window->copies);
    if (!window->sums || !window->copies)
        return mzi_out_of_memory(graph->ctx, 0, "the sums of a window");
    window->first =
        mzi_graph_add_value(graph, "", MZI_VALUE_INPUT, (mezzo_tensor){MEZZO_I32, mezzo_shape1(1)});
    window->rows = graph->loss_rows;
    if (!window->rows) {
        window->one = mzi_graph_add_value(graph, "", MZI_VALUE_INPUT,
                                          (mezzo_tensor){MEZZO_F32, mezzo_shape1(1)});
        window->rows = window->one;
    }
    MZI_TRY(graph->status);
    graph->values[window->rows].is_output = true;
    for (int32_t g = 0; g < graph->grad_count; g++) {
        const char *param = graph->values[graph->grads[g].param].name;
        if (graph->values[graph->grads[g].grad].producer < 0)
            MZI_FAIL(graph->ctx, MEZZO_UNSUPPORTED,
                     "`%s` is the loss itself: it cannot be trained in several micro-batches",
                     param);
        MZI_TRY(keep(graph, mzi_arena_text(&graph->arena, "%s:sum", param), graph->grads[g].param,
                     &window->sums[g]));
        graph->values[graph->grads[g].grad].is_output = false;
    }
    return MEZZO_OK;
}

static mezzo_status run(window_pass *pass) {
    mezzo_graph *graph = pass->graph;
    int32_t n = 0;
    MZI_TRY(make_sums(pass));
    for (; n < graph->node_count && graph->nodes[n].phase == MZI_PHASE_PREPARE; n++)
        MZI_TRY(mzi_rewrite_append(&pass->list, &graph->nodes[n]));
    MZI_TRY(begin_statistics(pass));
    for (; n < graph->node_count; n++) {
        mzi_node node = graph->nodes[n];
        MZI_TRY(mzi_rewrite_append(&pass->list, &node));
        MZI_TRY(follow(pass, &node));
    }
    for (int32_t g = 0; g < graph->grad_count; g++)
        graph->grads[g].grad = pass->window->sums[g];
    for (int32_t c = 0; c < graph->commit_count; c++)
        graph->commits[c].next = pass->window->copies[c];
    return MEZZO_OK;
}

mezzo_status mzi_pass_accumulate(mezzo_graph *graph, mzi_window *window) {
    window_pass pass = {.graph = graph, .window = window, .list.graph = graph};
    *window = (mzi_window){0};
    return mzi_rewrite_end(&pass.list, run(&pass));
}
