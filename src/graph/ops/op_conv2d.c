/* Two-dimensional convolution, channels-last, and its gradients.
 *
 *   x [B,H,W,Ci]   w [Co,Ci,KH,KW]   bias [Co]   y [B,OH,OW,Co],  OH = (H + 2 pad - KH)/stride + 1
 *
 * Images are cut into chunks.  dw is summed over the images of a chunk, then over the chunks in
 * their order, so that workers cannot change it. */
#include <math.h>

#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

enum {
    STRIDE,
    PAD,
    IN_H,
    IN_W,
    KERNEL_H,
    KERNEL_W
}; /* attrs.i; the last four for dx and dw */

static mzk_conv_params params_of(const mezzo_attrs *attrs, mezzo_shape x, mezzo_shape w,
                                 mezzo_shape y) {
    return (mzk_conv_params){.B = x.dim[0],
                             .H = x.dim[1],
                             .W = x.dim[2],
                             .Ci = x.dim[3],
                             .Co = w.dim[0],
                             .KH = w.dim[2],
                             .KW = w.dim[3],
                             .stride = attrs->i[STRIDE],
                             .pad = attrs->i[PAD],
                             .OH = y.dim[1],
                             .OW = y.dim[2],
                             .grain = mzi_grain_images(x.dim[0])};
}

static mezzo_status infer_conv(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape, w = use->in[1].shape;
    int64_t stride = use->attrs->i[STRIDE], pad = use->attrs->i[PAD];
    if (x.rank != 4 || w.rank != 4)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "x has rank %d; conv2d takes [B,H,W,C]",
                             x.rank);
    if (w.dim[1] != x.dim[3])
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "x has %lld channels, the weight takes %lld", (long long)x.dim[3],
                             (long long)w.dim[1]);
    if (stride < 1 || pad < 0 || x.dim[1] + 2 * pad < w.dim[2] || x.dim[2] + 2 * pad < w.dim[3])
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "a %lldx%lld kernel with stride %lld and pad %lld does not fit "
                             "%lldx%lld pixels",
                             (long long)w.dim[2], (long long)w.dim[3], (long long)stride,
                             (long long)pad, (long long)x.dim[1], (long long)x.dim[2]);
    int64_t OH = (x.dim[1] + 2 * pad - w.dim[2]) / stride + 1;
    int64_t OW = (x.dim[2] + 2 * pad - w.dim[3]) / stride + 1;
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape4(x.dim[0], OH, OW, w.dim[0])};
    return MEZZO_OK;
}

static mezzo_status infer_dx(const mezzo_op_use *use) {
    const int64_t *dy = use->in[0].shape.dim, *w = use->in[1].shape.dim, *i = use->attrs->i;
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape4(dy[0], i[IN_H], i[IN_W], w[1])};
    return MEZZO_OK;
}

static mezzo_status infer_dw(const mezzo_op_use *use) {
    const int64_t *dy = use->in[0].shape.dim, *x = use->in[1].shape.dim, *i = use->attrs->i;
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape4(dy[3], x[3], i[KERNEL_H], i[KERNEL_W])};
    return MEZZO_OK;
}

static mezzo_status lower_conv(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzk_conv_params p =
        params_of(use->attrs, use->in[0].shape, use->in[1].shape, use->out[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_conv, p.B, p.grain);
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 3; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.conv = p;
    return MEZZO_OK;
}

static mezzo_status lower_dx(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzk_conv_params p =
        params_of(use->attrs, use->out[0].shape, use->in[1].shape, use->in[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_conv_dx, p.B, p.grain);
    call->out[0] = mzi_out(lowering, 0);
    call->in[0] = mzi_in(lowering, 0);
    call->in[1] = mzi_in(lowering, 1);
    call->p.conv = p;
    return MEZZO_OK;
}

static mezzo_status lower_dw(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzk_conv_params p =
        params_of(use->attrs, use->in[1].shape, use->out[0].shape, use->in[0].shape);
    int64_t n = mezzo_shape_count(use->out[0].shape), parts = mzi_chunks(p.B, p.grain);
    mzi_operand part = mzi_scratch(lowering, MEZZO_F32, parts * n);
    mzi_call *call = mzi_emit(lowering, MZK_conv_dw_part, p.B, p.grain);
    call->out[0] = part;
    call->in[0] = mzi_in(lowering, 0);
    call->in[1] = mzi_in(lowering, 1);
    call->p.conv = p;
    mzi_emit_sum_parts(lowering, mzi_out(lowering, 0), part, parts, n, 1.0f);
    return MEZZO_OK;
}

/* A multiplication and an addition for each output, input channel and tap, padding counted. */
static double flops_of(mezzo_shape w, mezzo_shape y) {
    return 2.0 * (double)mezzo_shape_count(w) * (double)(y.dim[0] * y.dim[1] * y.dim[2]);
}

static double flops_conv(const mezzo_op_use *use) {
    return flops_of(use->in[1].shape, use->out[0].shape);
}

static double flops_dx(const mezzo_op_use *use) {
    return flops_of(use->in[1].shape, use->in[0].shape);
}

static double flops_dw(const mezzo_op_use *use) {
    return flops_of(use->out[0].shape, use->in[0].shape);
}

static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    const int64_t *w = use->in[1].shape.dim;
    mezzo_range sum = mzi_range_sum((double)(w[1] * w[2] * w[3]), mzi_range_mul(in[0], in[1]));
    return mzi_range_add(sum, in[2]);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    mezzo_value dy = use->dout[0];
    mezzo_shape x = mezzo_value_shape(use->graph, use->in[0]);
    mezzo_shape w = mezzo_value_shape(use->graph, use->in[1]);
    mezzo_attrs attrs = *use->attrs;
    attrs.i[IN_H] = x.dim[1];
    attrs.i[IN_W] = x.dim[2];
    attrs.i[KERNEL_H] = w.dim[2];
    attrs.i[KERNEL_W] = w.dim[3];
    const mezzo_value dy_w[] = {dy, use->in[1]}, dy_x[] = {dy, use->in[0]};
    if (use->wanted[1])
        use->din[1] = mezzo_apply(use->graph, &mzi_op_conv2d_dw, "dw", dy_x, 2, &attrs, NULL);
    if (use->in_count > 2 && use->wanted[2])
        use->din[2] = mezzo_apply(use->graph, &mzi_op_column_sum, "db", &dy, 1, NULL, NULL);
    if (use->wanted[0])
        use->din[0] = mezzo_apply(use->graph, &mzi_op_conv2d_dx, "dx", dy_w, 2, &attrs, NULL);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {
    {.in = {{4, {2, 4, 5, 3}}, {4, {4, 3, 3, 3}}, {1, {4}}}, .attrs = {.i = {1, 1}}},
    {.in = {{4, {3, 5, 5, 2}}, {4, {3, 2, 3, 3}}, {1, {3}}}, .attrs = {.i = {2, 0}}},
    {.in = {{4, {1, 3, 3, 1}}, {4, {2, 1, 1, 1}}, {1, {2}}}, .attrs = {.i = {1, 0}}}};

#define INTS "stride pad height width kernel_h kernel_w"

const mezzo_op_def mzi_op_conv2d = {.name = "conv2d",
                                    .help = "y = x * w + bias",
                                    .ints = INTS,
                                    .in_min = 2,
                                    .in_max = 3,
                                    .out_count = 1,
                                    .cast = MEZZO_CAST_LOW,
                                    .in_f32 = MEZZO_BIT(2),
                                    .range = range,
                                    .infer = infer_conv,
                                    .gradient = gradient,
                                    .lower = lower_conv,
                                    .flops = flops_conv,
                                    .cases = cases,
                                    .case_count = 3};

const mezzo_op_def mzi_op_conv2d_dx = {.name = "conv2d_dx",
                                       .help = "gradient of conv2d for x",
                                       .ints = INTS,
                                       .in_min = 2,
                                       .in_max = 2,
                                       .out_count = 1,
                                       .cast = MEZZO_CAST_LOW,
                                       .not_differentiable = true,
                                       .infer = infer_dx,
                                       .lower = lower_dx,
                                       .flops = flops_dx};

const mezzo_op_def mzi_op_conv2d_dw = {.name = "conv2d_dw",
                                       .help = "gradient of conv2d for w",
                                       .ints = INTS,
                                       .in_min = 2,
                                       .in_max = 2,
                                       .out_count = 1,
                                       .cast = MEZZO_CAST_LOW,
                                       .out_f32 = MEZZO_BIT(0),
                                       .out_gradient = MEZZO_BIT(0),
                                       .not_differentiable = true,
                                       .infer = infer_dw,
                                       .lower = lower_dw,
                                       .flops = flops_dw};

mezzo_value mezzo_conv2d(mezzo_graph *graph, const char *name, mezzo_value x,
                         mezzo_conv2d_config config) {
    mezzo_shape shape = mezzo_value_shape(graph, x);
    int64_t Ci = shape.rank == 4 ? shape.dim[3] : 1, K = config.kernel;
    mezzo_init init = {MEZZO_INIT_UNIFORM, 1.0f / sqrtf((float)(Ci * K * K))};
    mezzo_value in[3] = {x};
    mezzo_scope_push(graph, name);
    in[1] = mezzo_param(graph, "weight", mezzo_shape4(config.channels, Ci, K, K), init);
    if (config.bias)
        in[2] = mezzo_param(graph, "bias", mezzo_shape1(config.channels), init);
    mezzo_scope_pop(graph);
    mezzo_attrs attrs = {.i = {config.stride ? config.stride : 1, config.pad}};
    return mezzo_apply(graph, &mzi_op_conv2d, name, in, config.bias ? 3 : 2, &attrs, NULL);
}
