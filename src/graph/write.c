#include "graph/write.h"

#include "graph/lower.h"

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t n = mezzo_shape_count(use->in[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_copy, n, MZI_GRAIN);
    call->out[0] = mzi_in(lowering, 1);
    call->in[0] = mzi_in(lowering, 0);
    call->p.e.n = n;
    return MEZZO_OK;
}

static double flops(const mezzo_op_use *use) {
    (void)use;
    return 0.0;
}

const mezzo_op_def mzi_op_assign = {.name = "assign",
                                    .help = "in 1 = in 0",
                                    .in_min = 2,
                                    .in_max = 2,
                                    .cast = MEZZO_CAST_FULL,
                                    .not_differentiable = true,
                                    .lower = lower,
                                    .flops = flops};

mzi_node mzi_write_node(mezzo_graph *graph, const mezzo_op_def *op, mzi_phase phase, const char *of,
                        const char *reason, const int32_t *in, int count) {
    mzi_node node = {.op = op,
                     .name = mzi_arena_text(&graph->arena, "%s/%s", of, op->name),
                     .in_count = count,
                     .phase = phase,
                     .compute = MEZZO_F32,
                     .rule = MZI_RULE_FULL,
                     .reason = reason};
    for (int k = 0; k < count; k++)
        node.in[k] = in[k];
    return node;
}
