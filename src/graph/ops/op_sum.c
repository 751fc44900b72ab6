/* The sum of all elements, in FP32 over fixed chunks added in their order, and its gradient: one
 * scalar everywhere. */
#include "graph/lower.h"
#include "graph/ops/range.h"
#include "graph/ops/shape_attrs.h"
#include "mezzo/ops.h"

static mezzo_status infer_sum(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape0()};
    return MEZZO_OK;
}

static mezzo_status infer_broadcast(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, mzi_shape_of_attrs(use->attrs)};
    return MEZZO_OK;
}

static mezzo_status lower_sum(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t n = mezzo_shape_count(use->in[0].shape), parts = mzi_chunks(n, MZI_GRAIN);
    mzi_operand part = mzi_scratch(lowering, MEZZO_F32, parts);
    mzi_call *call = mzi_emit(lowering, MZK_sum_part, n, MZI_GRAIN);
    call->out[0] = part;
    call->in[0] = mzi_in(lowering, 0);
    call->p.e.n = n;
    call->p.e.grain = MZI_GRAIN;
    mzi_emit_sum_parts(lowering, mzi_out(lowering, 0), part, parts, 1, 1.0f);
    return MEZZO_OK;
}

static mezzo_status lower_broadcast(const mezzo_op_use *use, mzi_lowering *lowering) {
    (void)use;
    mzi_emit_elementwise(lowering, MZK_broadcast);
    return MEZZO_OK;
}

static double flops_sum(const mezzo_op_use *use) {
    return (double)mezzo_shape_count(use->in[0].shape);
}

static mezzo_range range_sum(const mezzo_op_use *use, const mezzo_range *in) {
    return mzi_range_sum((double)mezzo_shape_count(use->in[0].shape), in[0]);
}

static mezzo_status gradient_sum(const mezzo_op_gradient *use) {
    mezzo_attrs attrs = mzi_attrs_of_shape(mezzo_value_shape(use->graph, use->in[0]));
    use->din[0] = mezzo_apply(use->graph, &mzi_op_broadcast, "dx", use->dout, 1, &attrs, NULL);
    return MEZZO_OK;
}

static mezzo_status gradient_broadcast(const mezzo_op_gradient *use) {
    use->din[0] = mezzo_apply(use->graph, &mzi_op_sum, "dx", use->dout, 1, NULL, NULL);
    return MEZZO_OK;
}

static const mezzo_op_case sum_cases[] = {{.in = {{2, {3, 5}}}}, {.in = {{0, {0}}}}};
static const mezzo_op_case broadcast_cases[] = {{.in = {{0, {0}}}, .attrs = {.i = {2, 3, 5}}}};

const mezzo_op_def mzi_op_sum = {.name = "sum",
                                 .help = "y = the sum of all elements",
                                 .in_min = 1,
                                 .in_max = 1,
                                 .out_count = 1,
                                 .cast = MEZZO_CAST_REDUCE,
                                 .out_f32 = MEZZO_BIT(0),
                                 .range = range_sum,
                                 .infer = infer_sum,
                                 .gradient = gradient_sum,
                                 .lower = lower_sum,
                                 .flops = flops_sum,
                                 .cases = sum_cases,
                                 .case_count = 2};

const mezzo_op_def mzi_op_broadcast = {.name = "broadcast",
                                       .help = "y = the scalar x everywhere",
                                       .ints = MZI_SHAPE_INTS,
                                       .in_min = 1,
                                       .in_max = 1,
                                       .out_count = 1,
                                       .cast = MEZZO_CAST_FOLLOW,
                                       .in_f32 = MEZZO_BIT(0),
                                       .range = mzi_range_same,
                                       .infer = infer_broadcast,
                                       .gradient = gradient_broadcast,
                                       .lower = lower_broadcast,
                                       .cases = broadcast_cases,
                                       .case_count = 1};

mezzo_value mezzo_sum(mezzo_graph *graph, mezzo_value x) {
    return mezzo_apply(graph, &mzi_op_sum, NULL, &x, 1, NULL, NULL);
}

mezzo_value mezzo_mean(mezzo_graph *graph, mezzo_value x) {
    if (!x.id)
        return x;
    return mezzo_scale(graph, mezzo_sum(graph, x),
                       1.0f / (float)mezzo_shape_count(mezzo_value_shape(graph, x)));
}
