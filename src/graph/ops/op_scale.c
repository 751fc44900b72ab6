#include "graph/ops/elementwise.h"
#include "graph/ops/range.h"

static mezzo_status lower_scale(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_emit_elementwise(lowering, MZK_scale)->p.e.alpha = (float)use->attrs->f[0];
    return MEZZO_OK;
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    use->din[0] = mezzo_apply(use->graph, &mzi_op_scale, "dx", use->dout, 1, use->attrs, NULL);
    return MEZZO_OK;
}

static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    return mzi_range_times(in[0], use->attrs->f[0]);
}

static const mezzo_op_case cases[] = {{.in = {{2, {3, 5}}}, .attrs = {.f = {-2.5}}}};

const mezzo_op_def mzi_op_scale = {.name = "scale",
                                   .help = "y = factor x",
                                   .reals = "factor",
                                   .in_min = 1,
                                   .in_max = 1,
                                   .out_count = 1,
                                   .cast = MEZZO_CAST_FOLLOW,
                                   .inplace = MEZZO_BIT(0),
                                   .cases = cases,
                                   .case_count = 1,
                                   .real_roles = "factor:f32",
                                   .range = range,
                                   .infer = mzi_infer_same,
                                   .gradient = gradient,
                                   .lower = lower_scale};

mezzo_value mezzo_scale(mezzo_graph *graph, mezzo_value x, float factor) {
    mezzo_attrs attrs = {.f = {(double)factor}};
    return mezzo_apply(graph, &mzi_op_scale, NULL, &x, 1, &attrs, NULL);
}
