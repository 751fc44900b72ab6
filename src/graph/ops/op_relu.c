#include "graph/ops/elementwise.h"
#include "graph/ops/range.h"

MZI_LOWER_ELEMENTWISE(relu)
MZI_LOWER_ELEMENTWISE(relu_bwd)

/* From y and not x: x need not be kept, so y can take its place. */
static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->out[0]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_relu_bwd, "dx", in, 2, NULL, NULL);
    return MEZZO_OK;
}

const mezzo_op_def mzi_op_relu = {.name = "relu",
                                  .help = "y = max(x, 0)",
                                  .in_min = 1,
                                  .in_max = 1,
                                  .out_count = 1,
                                  .cast = MEZZO_CAST_FOLLOW,
                                  .inplace = MEZZO_BIT(0),
                                  .range = mzi_range_half,
                                  .infer = mzi_infer_same,
                                  .gradient = gradient,
                                  .lower = lower_relu,
                                  .cases = mzi_same_cases,
                                  .case_count = MZI_SAME_CASES};

const mezzo_op_def mzi_op_relu_bwd = {.name = "relu_bwd",
                                      .help = "dx = y > 0 ? dy : 0",
                                      .in_min = 2,
                                      .in_max = 2,
                                      .out_count = 1,
                                      .cast = MEZZO_CAST_FOLLOW,
                                      .inplace = MEZZO_BIT(0),
                                      .not_differentiable = true,
                                      .infer = mzi_infer_same,
                                      .lower = lower_relu_bwd};

mezzo_value mezzo_relu(mezzo_graph *graph, mezzo_value x) {
    return mezzo_apply(graph, &mzi_op_relu, NULL, &x, 1, NULL, NULL);
}
