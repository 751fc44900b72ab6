/* A change of storage type, rounded to nearest; made by passes.  Ties go to even, but of a
 * parameter that becomes BF16 away from zero, as the upper half of a split master does
 * (docs/decisions/0014-weights-round-ties-away.md). */
#include "graph/lower.h"
#include "graph/ops/range.h"

static mezzo_status infer(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){(mezzo_dtype)use->attrs->i[0], use->in[0].shape};
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_emit_elementwise(lowering, use->attrs->i[1] ? MZK_cast_away : MZK_cast);
    return MEZZO_OK;
}

const mezzo_op_def mzi_op_cast = {.name = "cast",
                                  .help = "y = x in another type, rounded to nearest even",
                                  .ints = "type ties_away",
                                  .in_min = 1,
                                  .in_max = 1,
                                  .out_count = 1,
                                  .cast = MEZZO_CAST_FOLLOW,
                                  .not_differentiable = true,
                                  .range = mzi_range_same,
                                  .infer = infer,
                                  .lower = lower};
