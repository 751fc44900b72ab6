#include "graph/ops/elementwise.h"
#include "graph/ops/range.h"

MZI_LOWER_ELEMENTWISE(gelu)
MZI_LOWER_ELEMENTWISE(gelu_bwd)

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[0]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_gelu_bwd, "dx", in, 2, NULL, NULL);
    return MEZZO_OK;
}

const mezzo_op_def mzi_op_gelu = {.name = "gelu",
                                  .help = "y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
                                  .in_min = 1,
                                  .in_max = 1,
                                  .out_count = 1,
                                  .cast = MEZZO_CAST_FOLLOW,
                                  .inplace = MEZZO_BIT(0),
                                  .range = mzi_range_half,
                                  .infer = mzi_infer_same,
                                  .gradient = gradient,
                                  .lower = lower_gelu,
                                  .cases = mzi_same_cases,
                                  .case_count = MZI_SAME_CASES};

const mezzo_op_def mzi_op_gelu_bwd = {.name = "gelu_bwd",
                                      .help = "dx = dy gelu'(x)",
                                      .in_min = 2,
                                      .in_max = 2,
                                      .out_count = 1,
                                      .cast = MEZZO_CAST_FOLLOW,
                                      .inplace = MEZZO_BIT(0),
                                      .not_differentiable = true,
                                      .infer = mzi_infer_same,
                                      .lower = lower_gelu_bwd};

mezzo_value mezzo_gelu(mezzo_graph *graph, mezzo_value x) {
    return mezzo_apply(graph, &mzi_op_gelu, NULL, &x, 1, NULL, NULL);
}
