/* Lowering: the helpers that operations write their calls with. */
#include "graph/lower.h"

#include <string.h>

int64_t mzi_grain_rows(int64_t columns) {
    int64_t rows = MZI_GRAIN / (columns > 0 ? columns : 1);
    return rows > 1 ? rows : 1;
}

/* 64 rows keep a chunk's output in L2 and a packed operand's panels in use; fewer when that would
 * leave a team of four without four chunks. */
int64_t mzi_grain_matmul(int64_t rows) {
    if (rows >= 256)
        return 64;
    int64_t grain = (rows + 3) / 4;
    return (grain + 15) / 16 * 16;
}

/* At least eight chunks of at most 16 images. */
int64_t mzi_grain_images(int64_t images) {
    int64_t grain = (images + 7) / 8;
    return grain < 16 ? grain : 16;
}

int64_t mzi_chunks(int64_t rows, int64_t grain) {
    return (rows + grain - 1) / grain;
}

mzi_call *mzi_emit(mzi_lowering *lowering, mzk_family family, int64_t rows, int64_t grain) {
    if (lowering->status == MEZZO_OK)
        lowering->status =
            mzi_grow(lowering->graph->ctx, (void **)&lowering->calls, &lowering->call_capacity,
                     lowering->call_count + 1, sizeof *lowering->calls);
    if (lowering->status != MEZZO_OK) {
        /* Keep the caller's code straight: it writes to the last call, and the status sticks. */
        lowering->call_count = 0;
        lowering->calls = lowering->calls ? lowering->calls : lowering->spare;
        return lowering->calls;
    }
    mzi_call *call = &lowering->calls[lowering->call_count++];
    memset(call, 0, sizeof *call);
    call->family = family;
    call->node = lowering->node;
    call->is_meter = lowering->graph->nodes[lowering->node].is_meter;
    call->rows = rows;
    call->grain = grain;
    return call;
}

static mzi_operand operand(const mzi_lowering *lowering, int32_t id) {
    if (!id)
        return (mzi_operand){0};
    const mzi_value *value = &lowering->graph->values[id];
    return (mzi_operand){.value = id, .dtype = value->tensor.dtype, .layout = value->layout};
}

mzi_operand mzi_in(const mzi_lowering *lowering, int k) {
    const mzi_node *node = &lowering->graph->nodes[lowering->node];
    mzi_operand in = operand(lowering, k < node->in_count ? node->in[k] : 0);
    in.input = k + 1;
    return in;
}

mzi_operand mzi_in_low(const mzi_lowering *lowering, int k) {
    mzi_operand in = mzi_in(lowering, k);
    const mzi_value *value = &lowering->graph->values[in.value];
    return value->is_split ? mzi_from(in, mezzo_shape_count(value->tensor.shape))
                           : (mzi_operand){0};
}

mzi_operand mzi_out(const mzi_lowering *lowering, int k) {
    return operand(lowering, lowering->graph->nodes[lowering->node].out[k]);
}

mzi_operand mzi_scratch(mzi_lowering *lowering, mezzo_dtype dtype, int64_t count) {
    mezzo_graph *graph = lowering->graph;
    if (graph->nodes[lowering->node].compute == MEZZO_F64 && dtype == MEZZO_F32)
        dtype = MEZZO_F64;
    int32_t id = mzi_graph_add_value(graph, "", MZI_VALUE_SCRATCH,
                                     (mezzo_tensor){dtype, mezzo_shape1(count)});
    if (!id)
        lowering->status = MEZZO_OUT_OF_MEMORY;
    else
        graph->values[id].producer = lowering->node;
    return (mzi_operand){.value = id, .dtype = dtype};
}

mzi_operand mzi_from(mzi_operand operand, int64_t elements) {
    operand.offset += elements;
    return operand;
}

mzi_call *mzi_emit_elementwise(mzi_lowering *lowering, mzk_family family) {
    const mzi_node *node = &lowering->graph->nodes[lowering->node];
    int64_t n = mezzo_shape_count(lowering->graph->values[node->out[0]].tensor.shape);
    mzi_call *call = mzi_emit(lowering, family, n, MZI_GRAIN);
    for (int k = 0; k < node->out_count; k++)
        call->out[k] = mzi_out(lowering, k);
    for (int k = 0; k < node->in_count; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.e.n = n;
    call->p.e.alpha = 1.0f;
    return call;
}

void mzi_emit_sum_parts(mzi_lowering *lowering, mzi_operand out, mzi_operand part, int64_t parts,
                        int64_t n, float alpha) {
    mzi_call *call = mzi_emit(lowering, MZK_sum_parts, n, MZI_GRAIN / 8);
    call->out[0] = out;
    call->in[0] = part;
    call->p.e.n = n;
    call->p.e.parts = parts;
    call->p.e.alpha = alpha;
}

/* An operation with a plain function: one call over the first axis of its first output. */
static void emit_user(mzi_lowering *lowering) {
    mezzo_graph *graph = lowering->graph;
    const mzi_node *node = &graph->nodes[lowering->node];
    mezzo_shape shape = graph->values[node->out[0]].tensor.shape;
    int64_t rows = shape.rank ? shape.dim[0] : 1;
    mzi_use *view = mzi_arena_push(&graph->arena, sizeof *view);
    if (!view) {
        lowering->status = MEZZO_OUT_OF_MEMORY;
        return;
    }
    mzi_node_use(graph, node, view);
    mezzo_attrs *attrs = mzi_arena_push(&graph->arena, sizeof *attrs); /* nodes may move */
    if (!attrs) {
        lowering->status = MEZZO_OUT_OF_MEMORY;
        return;
    }
    *attrs = node->attrs;
    mezzo_op_operands *operands = mzi_arena_push(&graph->arena, sizeof *operands);
    if (!operands) {
        lowering->status = MEZZO_OUT_OF_MEMORY;
        return;
    }
    *operands = (mezzo_op_operands){attrs, view->in, view->out, NULL, NULL};
    mzi_call *call = mzi_emit(lowering, MZK_user, rows, node->op->grain ? node->op->grain : rows);
    for (int k = 0; k < node->out_count && k < MZK_OUT_MAX; k++)
        call->out[k] = mzi_out(lowering, k);
    for (int k = 0; k < node->in_count; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.user.run = node->op->run;
    call->p.user.operands = operands;
}

mezzo_status mzi_lower_node(mzi_lowering *lowering, int32_t node) {
    const mezzo_op_def *op = lowering->graph->nodes[node].op;
    lowering->node = node;
    if (op->view)
        return MEZZO_OK;
    if (!op->lower && !op->run)
        MZI_FAIL(lowering->graph->ctx, MEZZO_UNSUPPORTED,
                 "`%s`: the operation %s has neither `lower` nor `run`",
                 lowering->graph->nodes[node].name, op->name);
    if (!op->lower) {
        emit_user(lowering);
    } else {
        mzi_use view;
        mzi_node_use(lowering->graph, &lowering->graph->nodes[node], &view);
        MZI_TRY(op->lower(&view.use, lowering));
    }
    if (lowering->status != MEZZO_OK)
        return mzi_out_of_memory(lowering->graph->ctx, sizeof *lowering->calls, "kernel calls");
    return MEZZO_OK;
}

void mzi_lowering_deinit(mzi_lowering *lowering) {
    if (lowering->calls != lowering->spare)
        mzi_free(lowering->graph->ctx, lowering->calls,
                 (size_t)lowering->call_capacity * sizeof *lowering->calls);
    lowering->calls = NULL;
    lowering->call_capacity = lowering->call_count = 0;
}
