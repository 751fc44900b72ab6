/* Dropout.  The mask is not stored: backward draws the same words again from the counter-based
 * generator, keyed by (seed, name, step, global element). */
#include <math.h>

#include "base/rng.h"
#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

static mezzo_status infer(const mezzo_op_use *use) {
    double rate = use->attrs->f[0];
    if (!(rate >= 0.0 && rate < 1.0))
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "the rate %g is not in [0, 1)", rate);
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[0].shape};
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    mezzo_shape x = use->in[0].shape;
    int64_t rows = x.rank ? x.dim[0] : 1, n = mezzo_shape_count(x) / rows;
    mzi_call *call = mzi_emit(lowering, MZK_dropout, rows, mzi_grain_rows(n));
    call->out[0] = mzi_out(lowering, 0);
    call->in[0] = mzi_in(lowering, 0);
    call->in[1] = mzi_in(lowering, 1);
    call->p.e.n = n;
    call->p.e.alpha = (float)use->attrs->f[0];
    call->p.e.beta = 1.0f / (1.0f - call->p.e.alpha);
    call->p.e.stream = (uint64_t)use->attrs->i[0];
    return MEZZO_OK;
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[1]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_dropout, "dx", in, 2, use->attrs, NULL);
    return MEZZO_OK;
}

/* E y^2 = (1 - rate) E x^2 / (1 - rate)^2 */
static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    return (mezzo_range){.rms = in[0].rms / sqrt(1.0 - use->attrs->f[0]), .mean = in[0].mean};
}

static const mezzo_op_case cases[] = {
    {.in = {{2, {5, 7}}, {1, {4}}}, .attrs = {.i = {42}, .f = {0.4}}}};

const mezzo_op_def mzi_op_dropout = {.name = "dropout",
                                     .help = "y = 0 with probability rate, else x / (1 - rate)",
                                     .ints = "stream",
                                     .reals = "rate",
                                     .in_min = 2,
                                     .in_max = 2,
                                     .out_count = 1,
                                     .cast = MEZZO_CAST_FOLLOW,
                                     .in_int = MEZZO_BIT(1),
                                     .constant_in = MEZZO_BIT(1),
                                     .inplace = MEZZO_BIT(0),
                                     .real_roles = "rate:f32",
                                     .range = range,
                                     .infer = infer,
                                     .gradient = gradient,
                                     .lower = lower,
                                     .cases = cases,
                                     .case_count = 1};

mezzo_value mezzo_dropout(mezzo_graph *graph, const char *name, mezzo_value x, float rate) {
    if (mezzo_graph_entry(graph) != MEZZO_ENTRY_TRAIN || !x.id)
        return x;
    mezzo_attrs attrs = {.i = {(int64_t)mzi_name_hash(mzi_graph_name(graph, name, NULL))},
                         .f = {(double)rate}};
    const mezzo_value in[] = {x, mzi_graph_rng(graph)};
    return mezzo_apply(graph, &mzi_op_dropout, name, in, 2, &attrs, NULL);
}
