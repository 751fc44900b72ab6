/* Pooling over k x k windows, channels-last.
 *
 *   x [B,H,W,C] -> y [B,OH,OW,C],  OH = (H + 2 pad - k)/stride + 1
 *
 * Max pooling keeps the position of each maximum inside its window as a byte, so that backward
 * needs neither x nor y. */
#include <math.h>

#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

enum {
    KERNEL,
    STRIDE,
    PAD,
    IN_H,
    IN_W
}; /* attrs.i; the last two for backward */
#define INTS "kernel stride pad height width"

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape;
    int64_t kernel = use->attrs->i[KERNEL], stride = use->attrs->i[STRIDE],
            pad = use->attrs->i[PAD];
    if (x.rank != 4)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "x has rank %d; pooling takes [B,H,W,C]",
                             x.rank);
    /* A window position is kept in a byte. */
    if (kernel < 1 || kernel > 15 || stride < 1 || pad < 0 || pad * 2 > kernel ||
        x.dim[1] + 2 * pad < kernel || x.dim[2] + 2 * pad < kernel)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "a %lldx%lld window with stride %lld and pad %lld does not fit "
                             "%lldx%lld pixels (window 1..15, pad at most half of it)",
                             (long long)kernel, (long long)kernel, (long long)stride,
                             (long long)pad, (long long)x.dim[1], (long long)x.dim[2]);
    int64_t OH = (x.dim[1] + 2 * pad - kernel) / stride + 1;
    int64_t OW = (x.dim[2] + 2 * pad - kernel) / stride + 1;
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape4(x.dim[0], OH, OW, x.dim[3])};
    return MEZZO_OK;
}

static mezzo_status infer_max(const mezzo_op_use *use) {
    MZI_TRY(infer(use));
    use->out[1] = (mezzo_tensor){MEZZO_U8, use->out[0].shape};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    mezzo_shape dx = use->in[0].shape;
    dx.dim[1] = use->attrs->i[IN_H];
    dx.dim[2] = use->attrs->i[IN_W];
    use->out[0] = (mezzo_tensor){MEZZO_F32, dx};
    return MEZZO_OK;
}

static void emit(mzi_lowering *lowering, mzk_family family, const mezzo_attrs *attrs, mezzo_shape x,
                 mezzo_shape y, bool backward) {
    int64_t rows = backward ? x.dim[0] : y.dim[0] * y.dim[1];
    int64_t row_elements =
        backward ? x.dim[1] * x.dim[2] * x.dim[3] : attrs->i[STRIDE] * x.dim[2] * x.dim[3];
    mzi_call *call = mzi_emit(lowering, family, rows, mzi_grain_rows(row_elements));
    const mzi_node *node = &lowering->graph->nodes[lowering->node];
    for (int k = 0; k < node->out_count; k++)
        call->out[k] = mzi_out(lowering, k);
    for (int k = 0; k < node->in_count; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.pool = (mzk_pool_params){.B = x.dim[0],
                                     .H = x.dim[1],
                                     .W = x.dim[2],
                                     .C = x.dim[3],
                                     .KH = attrs->i[KERNEL],
                                     .KW = attrs->i[KERNEL],
                                     .stride = attrs->i[STRIDE],
                                     .pad = attrs->i[PAD],
                                     .OH = y.dim[1],
                                     .OW = y.dim[2]};
}

static mezzo_status lower_max(const mezzo_op_use *use, mzi_lowering *lowering) {
    emit(lowering, MZK_max_pool, use->attrs, use->in[0].shape, use->out[0].shape, false);
    return MEZZO_OK;
}

static mezzo_status lower_max_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    emit(lowering, MZK_max_pool_bwd, use->attrs, use->out[0].shape, use->in[0].shape, true);
    return MEZZO_OK;
}

static mezzo_status lower_avg(const mezzo_op_use *use, mzi_lowering *lowering) {
    emit(lowering, MZK_avg_pool, use->attrs, use->in[0].shape, use->out[0].shape, false);
    return MEZZO_OK;
}

static mezzo_status lower_avg_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    emit(lowering, MZK_avg_pool_bwd, use->attrs, use->out[0].shape, use->in[0].shape, true);
    return MEZZO_OK;
}

static mezzo_attrs backward_attrs(const mezzo_op_gradient *use) {
    mezzo_shape x = mezzo_value_shape(use->graph, use->in[0]);
    mezzo_attrs attrs = *use->attrs;
    attrs.i[IN_H] = x.dim[1];
    attrs.i[IN_W] = x.dim[2];
    return attrs;
}

/* The largest of n normal values is expected at sqrt(2 log n) deviations at most. */
static mezzo_range range_max(const mezzo_op_use *use, const mezzo_range *in) {
    double n = (double)(use->attrs->i[KERNEL] * use->attrs->i[KERNEL]);
    double size = in[0].rms * sqrt(1.0 + 2.0 * log(n));
    return (mezzo_range){.rms = size, .mean = size};
}

static mezzo_status gradient_max(const mezzo_op_gradient *use) {
    mezzo_attrs attrs = backward_attrs(use);
    const mezzo_value in[] = {use->dout[0], use->out[1]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_max_pool_bwd, "dx", in, 2, &attrs, NULL);
    return MEZZO_OK;
}

static mezzo_status gradient_avg(const mezzo_op_gradient *use) {
    mezzo_attrs attrs = backward_attrs(use);
    use->din[0] = mezzo_apply(use->graph, &mzi_op_avg_pool_bwd, "dx", use->dout, 1, &attrs, NULL);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {{.in = {{4, {2, 4, 6, 3}}}, .attrs = {.i = {2, 2, 0}}},
                                      {.in = {{4, {1, 5, 5, 2}}}, .attrs = {.i = {3, 2, 1}}},
                                      {.in = {{4, {1, 3, 3, 1}}}, .attrs = {.i = {3, 1, 0}}}};

const mezzo_op_def mzi_op_max_pool = {.name = "max_pool",
                                      .help = "y = the largest of each window",
                                      .ints = INTS,
                                      .in_min = 1,
                                      .in_max = 1,
                                      .out_count = 2,
                                      .cast = MEZZO_CAST_FOLLOW,
                                      .range = range_max,
                                      .infer = infer_max,
                                      .gradient = gradient_max,
                                      .lower = lower_max,
                                      .cases = cases,
                                      .case_count = 3};

const mezzo_op_def mzi_op_max_pool_bwd = {.name = "max_pool_bwd",
                                          .help = "dx = dy at the kept positions, else 0",
                                          .ints = INTS,
                                          .in_min = 2,
                                          .in_max = 2,
                                          .out_count = 1,
                                          .cast = MEZZO_CAST_FOLLOW,
                                          .in_int = MEZZO_BIT(1),
                                          .not_differentiable = true,
                                          .infer = infer_bwd,
                                          .lower = lower_max_bwd};

const mezzo_op_def mzi_op_avg_pool = {.name = "avg_pool",
                                      .help = "y = the mean of each window, padding counted",
                                      .ints = INTS,
                                      .in_min = 1,
                                      .in_max = 1,
                                      .out_count = 1,
                                      .cast = MEZZO_CAST_FOLLOW,
                                      .range = mzi_range_same,
                                      .infer = infer,
                                      .gradient = gradient_avg,
                                      .lower = lower_avg,
                                      .cases = cases,
                                      .case_count = 3};

const mezzo_op_def mzi_op_avg_pool_bwd = {.name = "avg_pool_bwd",
                                          .help = "dx = sum of dy / window over the windows",
                                          .ints = INTS,
                                          .in_min = 1,
                                          .in_max = 1,
                                          .out_count = 1,
                                          .cast = MEZZO_CAST_FOLLOW,
                                          .not_differentiable = true,
                                          .infer = infer_bwd,
                                          .lower = lower_avg_bwd};

static mezzo_value pool(mezzo_graph *graph, const mezzo_op_def *op, mezzo_value x, int64_t kernel,
                        int64_t stride, int64_t pad) {
    mezzo_attrs attrs = {.i = {kernel, stride ? stride : kernel, pad}};
    return mezzo_apply(graph, op, NULL, &x, 1, &attrs, NULL);
}

mezzo_value mezzo_max_pool(mezzo_graph *graph, mezzo_value x, int64_t kernel, int64_t stride,
                           int64_t pad) {
    return pool(graph, &mzi_op_max_pool, x, kernel, stride, pad);
}

mezzo_value mezzo_avg_pool(mezzo_graph *graph, mezzo_value x, int64_t kernel, int64_t stride,
                           int64_t pad) {
    return pool(graph, &mzi_op_avg_pool, x, kernel, stride, pad);
}
