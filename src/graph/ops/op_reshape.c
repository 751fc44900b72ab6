/* The same elements under another shape: no work, no memory of its own. */
#include "graph/graph.h"
#include "graph/ops/range.h"
#include "graph/ops/shape_attrs.h"
#include "mezzo/ops.h"

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape shape = mzi_shape_of_attrs(use->attrs);
    if (mezzo_shape_count(shape) != mezzo_shape_count(use->in[0].shape))
        return mezzo_op_fail(
            use, MEZZO_INVALID_ARGUMENT, "%lld elements do not make a shape of %lld",
            (long long)mezzo_shape_count(use->in[0].shape), (long long)mezzo_shape_count(shape));
    use->out[0] = (mezzo_tensor){MEZZO_F32, shape};
    return MEZZO_OK;
}

static mezzo_value reshape(mezzo_graph *graph, const char *name, mezzo_value x, mezzo_shape shape) {
    mezzo_attrs attrs = mzi_attrs_of_shape(shape);
    return mezzo_apply(graph, &mzi_op_reshape, name, &x, 1, &attrs, NULL);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    use->din[0] =
        reshape(use->graph, "dx", use->dout[0], mezzo_value_shape(use->graph, use->in[0]));
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {{.in = {{3, {2, 3, 4}}}, .attrs = {.i = {2, 6, 4}}},
                                      {.in = {{1, {1}}}, .attrs = {.i = {0}}}};

const mezzo_op_def mzi_op_reshape = {.name = "reshape",
                                     .help = "y = x under another shape",
                                     .ints = MZI_SHAPE_INTS,
                                     .in_min = 1,
                                     .in_max = 1,
                                     .out_count = 1,
                                     .cast = MEZZO_CAST_FOLLOW,
                                     .view = true,
                                     .range = mzi_range_same,
                                     .infer = infer,
                                     .gradient = gradient,
                                     .cases = cases,
                                     .case_count = 2};

mezzo_value mezzo_reshape(mezzo_graph *graph, mezzo_value x, mezzo_shape shape) {
    return reshape(graph, NULL, x, shape);
}

mezzo_value mezzo_flatten(mezzo_graph *graph, mezzo_value x) {
    mezzo_shape shape = mezzo_value_shape(graph, x);
    if (shape.rank < 1)
        return reshape(graph, NULL, x, mezzo_shape2(1, 1));
    return reshape(graph, NULL, x,
                   mezzo_shape2(shape.dim[0], mezzo_shape_count(shape) / shape.dim[0]));
}
