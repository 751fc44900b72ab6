/* A change of storage type, rounded to nearest even; made by passes. */
#include "graph/lower.h"
#include "graph/ops/range.h"

static mezzo_status infer(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){(mezzo_dtype)use->attrs->i[0], use->in[0].shape};
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    (void)use;
    mzi_emit_elementwise(lowering, MZK_cast);
    return MEZZO_OK;
}

const mezzo_op_def mzi_op_cast = {.name = "cast",
                                  .help = "y = x in another type, rounded to nearest even",
                                  .ints = "type",
                                  .in_min = 1,
                                  .in_max = 1,
                                  .out_count = 1,
                                  .cast = MEZZO_CAST_FOLLOW,
                                  .not_differentiable = true,
                                  .range = mzi_range_same,
                                  .infer = infer,
                                  .lower = lower};
