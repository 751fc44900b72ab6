/* Weights in the layout that a kernel asks for; made by the layout pass, known to the backend. */
#include "graph/lower.h"

static mezzo_status infer(const mezzo_op_use *use) {
    use->out[0] = use->in[0];
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    (void)use;
    mzi_call *call = mzi_emit(lowering, MZK_pack, 1, 1);
    call->out[0] = mzi_out(lowering, 0);
    call->in[0] = mzi_in(lowering, 0);
    call->packed_for = lowering->graph->values[call->out[0].value].packed_for;
    return MEZZO_OK;
}

const mezzo_op_def mzi_op_pack = {.name = "pack",
                                  .help = "y = x in the layout of the kernel that reads it",
                                  .in_min = 1,
                                  .in_max = 1,
                                  .out_count = 1,
                                  .cast = MEZZO_CAST_FOLLOW,
                                  .not_differentiable = true,
                                  .infer = infer,
                                  .lower = lower};
