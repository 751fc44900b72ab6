#include "graph/ops/elementwise.h"
#include "graph/ops/range.h"

MZI_LOWER_ELEMENTWISE(add)

static mezzo_status gradient(const mezzo_op_gradient *use) {
    use->din[0] = use->dout[0];
    use->din[1] = use->dout[0];
    return MEZZO_OK;
}

static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    (void)use;
    return mzi_range_add(in[0], in[1]);
}

const mezzo_op_def mzi_op_add = {.name = "add",
                                 .help = "y = a + b",
                                 .in_min = 2,
                                 .in_max = 2,
                                 .out_count = 1,
                                 .cast = MEZZO_CAST_FOLLOW,
                                 .inplace = MEZZO_BIT(0),
                                 .range = range,
                                 .infer = mzi_infer_same,
                                 .gradient = gradient,
                                 .lower = lower_add,
                                 .cases = mzi_same_cases,
                                 .case_count = MZI_SAME_CASES};

mezzo_value mezzo_add(mezzo_graph *graph, mezzo_value a, mezzo_value b) {
    const mezzo_value in[] = {a, b};
    return mezzo_apply(graph, &mzi_op_add, NULL, in, 2, NULL, NULL);
}
