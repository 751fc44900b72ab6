/* Descriptors: from a call to oneDNN's primitives.
 *
 *   matmul        dst[rows,N] = src[rows,K] x weights[K,N] + bias     transposes are strides
 *   conv          dst = src * weights + bias                          activations nhwc
 *   conv_dx       diff_src from diff_dst and weights
 *   conv_dw_part  diff_weights from src and diff_dst, in a layout of its own
 */
#include <string.h>

#include "backend/cpu/dnnl_shim.h"

static dnnl_data_type_t data_type(const mzi_port *port) {
    return port->dtype == MEZZO_BF16 && !port->convert ? dnnl_bf16 : dnnl_f32;
}

bool mzi_dnnl_takes(mzk_family family) {
    return family == MZK_matmul || family == MZK_conv || family == MZK_conv_dx ||
           family == MZK_conv_dw_part || family == MZK_pack;
}

static bool needs_conversion(const mzi_dnnl *dnnl, mezzo_dtype dtype) {
    return dtype == MEZZO_F16 || (dtype == MEZZO_BF16 && !dnnl->has_bf16);
}

static mzi_port rows_port(int arg, int operand, bool is_out, int64_t row_elements) {
    return (mzi_port){.arg = arg,
                      .operand = operand,
                      .is_out = is_out,
                      .row_elements = row_elements,
                      .blocks = 1,
                      .run_row = row_elements};
}

static mzi_port whole_port(int arg, int operand, int64_t elements) {
    return (mzi_port){.arg = arg, .operand = operand, .blocks = 1, .whole_elements = elements};
}

static int matmul_ports(const mzi_call *call, mzi_port *ports) {
    const mzk_matmul_params *p = &call->p.matmul;
    ports[0] = rows_port(DNNL_ARG_SRC, 0, false, p->K);
    if (p->transpose_a) { /* a is [K,M]: a chunk of rows of c is a band of its columns */
        ports[0].row_elements = 1;
        ports[0].blocks = p->K;
        ports[0].run_row = 1;
        ports[0].pitch = p->M;
    }
    ports[1] = whole_port(DNNL_ARG_WEIGHTS, 1, p->K * p->N);
    ports[2] = rows_port(DNNL_ARG_DST, 0, true, p->N);
    if (!call->in[2].value)
        return 3;
    ports[3] = whole_port(DNNL_ARG_BIAS, 2, p->N);
    return 4;
}

static int conv_ports(const mzi_call *call, mzi_port *ports) {
    const mzk_conv_params *p = &call->p.conv;
    int64_t x = p->H * p->W * p->Ci, y = p->OH * p->OW * p->Co;
    int64_t w = p->Co * p->Ci * p->KH * p->KW;
    if (call->family == MZK_conv_dw_part) {
        ports[0] = rows_port(DNNL_ARG_DIFF_DST, 0, false, y);
        ports[1] = rows_port(DNNL_ARG_SRC, 1, false, x);
        ports[2] = whole_port(DNNL_ARG_DIFF_WEIGHTS, 0, w);
        ports[2].is_out = true;
        return 3;
    }
    bool forward = call->family == MZK_conv;
    ports[0] = rows_port(forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST, 0, false, forward ? x : y);
    ports[1] = whole_port(DNNL_ARG_WEIGHTS, 1, w);
    ports[2] = rows_port(forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_SRC, 0, true, forward ? y : x);
    if (!forward || !call->in[2].value)
        return 3;
    ports[3] = whole_port(DNNL_ARG_BIAS, 2, p->Co);
    return 4;
}

/* In FP32, with AVX-512, the activations of a convolution are brought into blocks of 16 channels:
 * oneDNN then sums a block at a time, and with 64 channels the error is half of that of its
 * channels-last kernels, which keep one sum over all taps and channels (docs/decisions/0009). */
static bool sums_in_blocks(const mzi_dnnl *dnnl, const mzi_call *call, const mzi_port *ports) {
    const mzk_conv_params *p = &call->p.conv;
    return dnnl->sums_in_blocks && (call->family == MZK_conv || call->family == MZK_conv_dx) &&
           ports[0].dtype == MEZZO_F32 && ports[2].dtype == MEZZO_F32 && p->Ci % 16 == 0 &&
           p->Co % 16 == 0;
}

int mzi_dnnl_ports(const mzi_dnnl *dnnl, const mzi_call *call, mzi_port ports[MZI_PORT_MAX]) {
    int count = call->family == MZK_matmul ? matmul_ports(call, ports) : conv_ports(call, ports);
    for (int k = 0; k < count; k++) {
        const mzi_operand *operand =
            ports[k].is_out ? &call->out[ports[k].operand] : &call->in[ports[k].operand];
        ports[k].dtype = operand->dtype;
        ports[k].packed = operand->layout != 0 || ports[k].arg == DNNL_ARG_DIFF_WEIGHTS;
        ports[k].convert = needs_conversion(dnnl, operand->dtype);
    }
    ports[0].blocked = ports[2].blocked = sums_in_blocks(dnnl, call, ports);
    return count;
}

static dnnl_status_t strided(dnnl_memory_desc_t *md, dnnl_data_type_t type, int64_t rows,
                             int64_t columns, int64_t row_stride, int64_t column_stride) {
    const dnnl_dims_t dims = {rows, columns}, strides = {row_stride, column_stride};
    return dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides);
}

static dnnl_status_t image(dnnl_memory_desc_t *md, dnnl_data_type_t type, int64_t B, int64_t C,
                           int64_t H, int64_t W, dnnl_format_tag_t tag) {
    const dnnl_dims_t dims = {B, C, H, W};
    return dnnl_memory_desc_init_by_tag(md, 4, dims, type, tag);
}

static dnnl_status_t vector(dnnl_memory_desc_t *md, int64_t n, int rank) {
    const dnnl_dims_t one = {n}, two = {1, n};
    return dnnl_memory_desc_init_by_tag(md, rank, rank == 1 ? one : two, dnnl_f32,
                                        rank == 1 ? dnnl_a : dnnl_ab);
}

mezzo_status mzi_dnnl_plain_weights(mzi_dnnl *dnnl, const mzi_call *call, dnnl_data_type_t type,
                                    dnnl_memory_desc_t *out) {
    if (call->family == MZK_matmul) {
        const mzk_matmul_params *p = &call->p.matmul;
        MZI_DNNL_TRY(dnnl, strided(out, type, p->K, p->N, p->transpose_b ? 1 : p->N,
                                   p->transpose_b ? p->K : 1));
        return MEZZO_OK;
    }
    const mzk_conv_params *p = &call->p.conv;
    const dnnl_dims_t dims = {p->Co, p->Ci, p->KH, p->KW};
    MZI_DNNL_TRY(dnnl, dnnl_memory_desc_init_by_tag(out, 4, dims, type, dnnl_oihw));
    return MEZZO_OK;
}

/* Weights: given, left to oneDNN, or row-major. */
static mezzo_status weights_desc(mzi_dnnl *dnnl, const mzi_call *call, const mzi_port *port,
                                 const dnnl_memory_desc_t *given, dnnl_memory_desc_t *out) {
    if (given) {
        *out = *given;
        return MEZZO_OK;
    }
    MZI_TRY(mzi_dnnl_plain_weights(dnnl, call, data_type(port), out));
    if (port->packed) {
        dnnl_dims_t dims;
        memcpy(dims, out->dims, sizeof dims);
        MZI_DNNL_TRY(dnnl, dnnl_memory_desc_init_by_tag(out, out->ndims, dims, data_type(port),
                                                        dnnl_format_tag_any));
    }
    return MEZZO_OK;
}

/* The result is added to what is there. */
static dnnl_status_t add_to_result(dnnl_primitive_attr_t attr) {
    dnnl_post_ops_t ops;
    dnnl_status_t status = dnnl_post_ops_create(&ops);
    if (status != dnnl_success)
        return status;
    status = dnnl_post_ops_append_sum(ops, 1.0f);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl_post_ops_destroy(ops);
    return status;
}

static mezzo_status create_desc(mzi_dnnl *dnnl, const void *op, dnnl_primitive_desc_t hint,
                                bool accumulate, dnnl_primitive_desc_t *out) {
    dnnl_primitive_attr_t attr;
    MZI_DNNL_TRY(dnnl, dnnl_primitive_attr_create(&attr));
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && accumulate)
        status = add_to_result(attr);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, op, attr, dnnl->engine, hint);
    dnnl_primitive_attr_destroy(attr);
    MZI_DNNL_TRY(dnnl, status);
    return MEZZO_OK;
}

static mezzo_status matmul_desc(mzi_dnnl *dnnl, const mzi_call *call, const mzi_port *ports,
                                int count, int64_t rows, const dnnl_memory_desc_t *weights,
                                dnnl_primitive_desc_t *out) {
    const mzk_matmul_params *p = &call->p.matmul;
    dnnl_memory_desc_t src, wei, dst, bias;
    int64_t a_pitch = ports[0].convert ? rows : p->M; /* of a transposed a */
    MZI_DNNL_TRY(dnnl, strided(&src, data_type(&ports[0]), rows, p->K, p->transpose_a ? 1 : p->K,
                               p->transpose_a ? a_pitch : 1));
    MZI_TRY(weights_desc(dnnl, call, &ports[1], weights, &wei));
    MZI_DNNL_TRY(dnnl, strided(&dst, data_type(&ports[2]), rows, p->N, p->N, 1));
    if (count > 3)
        MZI_DNNL_TRY(dnnl, vector(&bias, p->N, 2));
    dnnl_matmul_desc_t op;
    MZI_DNNL_TRY(dnnl, dnnl_matmul_desc_init(&op, &src, &wei, count > 3 ? &bias : NULL, &dst));
    return create_desc(dnnl, &op, NULL, p->accumulate, out);
}

typedef struct conv_descs {
    dnnl_memory_desc_t src, weights, dst, bias;
    dnnl_dims_t strides, pad_begin, pad_end;
} conv_descs;

static mezzo_status conv_operands(mzi_dnnl *dnnl, const mzi_call *call, const mzi_port *ports,
                                  int64_t rows, const dnnl_memory_desc_t *weights,
                                  conv_descs *out) {
    const mzk_conv_params *p = &call->p.conv;
    bool dw = call->family == MZK_conv_dw_part;
    dnnl_data_type_t in = data_type(&ports[0]), result = data_type(&ports[2]);
    dnnl_data_type_t x = call->family == MZK_conv_dx ? result : in;
    dnnl_data_type_t y = call->family == MZK_conv ? result : in;
    dnnl_format_tag_t tag = ports[0].blocked ? dnnl_nChw16c : dnnl_nhwc;
    MZI_DNNL_TRY(dnnl, image(&out->src, x, rows, p->Ci, p->H, p->W, tag));
    MZI_DNNL_TRY(dnnl, image(&out->dst, y, rows, p->Co, p->OH, p->OW, tag));
    MZI_TRY(weights_desc(dnnl, call, &ports[dw ? 2 : 1], weights, &out->weights));
    MZI_DNNL_TRY(dnnl, vector(&out->bias, p->Co, 1));
    out->strides[0] = out->strides[1] = p->stride;
    out->pad_begin[0] = out->pad_begin[1] = p->pad;
    /* The last window may end before the padding does. */
    out->pad_end[0] = (p->OH - 1) * p->stride + p->KH - p->H - p->pad;
    out->pad_end[1] = (p->OW - 1) * p->stride + p->KW - p->W - p->pad;
    return MEZZO_OK;
}

static mezzo_status forward_desc(mzi_dnnl *dnnl, const conv_descs *d, bool training, bool bias,
                                 dnnl_primitive_desc_t *out) {
    dnnl_convolution_desc_t op;
    MZI_DNNL_TRY(dnnl, dnnl_convolution_forward_desc_init(
                           &op, training ? dnnl_forward_training : dnnl_forward_inference,
                           dnnl_convolution_direct, &d->src, &d->weights, bias ? &d->bias : NULL,
                           &d->dst, d->strides, d->pad_begin, d->pad_end));
    return create_desc(dnnl, &op, NULL, false, out);
}

static mezzo_status conv_desc(mzi_dnnl *dnnl, const mzi_call *call, const mzi_port *ports,
                              int count, int64_t rows, const dnnl_memory_desc_t *weights,
                              dnnl_primitive_desc_t *out) {
    conv_descs d;
    memset(&d, 0, sizeof d);
    MZI_TRY(conv_operands(dnnl, call, ports, rows, weights, &d));
    if (call->family == MZK_conv)
        return forward_desc(dnnl, &d, false, count > 3, out);
    /* The backward descriptors want a forward one as a hint, with a layout of its own choice. */
    conv_descs hint_descs = d;
    hint_descs.weights.data_type = data_type(&ports[0]);
    dnnl_dims_t dims;
    memcpy(dims, d.weights.dims, sizeof dims);
    MZI_DNNL_TRY(dnnl, dnnl_memory_desc_init_by_tag(&hint_descs.weights, 4, dims,
                                                    data_type(&ports[0]), dnnl_format_tag_any));
    dnnl_primitive_desc_t hint = NULL;
    MZI_TRY(forward_desc(dnnl, &hint_descs, true, false, &hint));
    dnnl_convolution_desc_t op;
    dnnl_status_t status =
        call->family == MZK_conv_dx
            ? dnnl_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &d.src,
                                                       &d.weights, &d.dst, d.strides, d.pad_begin,
                                                       d.pad_end)
            : dnnl_convolution_backward_weights_desc_init(&op, dnnl_convolution_direct, &d.src,
                                                          &d.weights, NULL, &d.dst, d.strides,
                                                          d.pad_begin, d.pad_end);
    mezzo_status result = status == dnnl_success
                              ? create_desc(dnnl, &op, hint, false, out)
                              : mzi_dnnl_fail(dnnl, status, "convolution descriptor");
    dnnl_primitive_desc_destroy(hint);
    return result;
}

static dnnl_query_t query_of(int arg) {
    switch (arg) {
    case DNNL_ARG_SRC:
        return dnnl_query_src_md;
    case DNNL_ARG_WEIGHTS:
    case DNNL_ARG_BIAS:
        return dnnl_query_weights_md;
    case DNNL_ARG_DST:
        return dnnl_query_dst_md;
    case DNNL_ARG_DIFF_SRC:
        return dnnl_query_diff_src_md;
    case DNNL_ARG_DIFF_DST:
        return dnnl_query_diff_dst_md;
    default:
        return dnnl_query_diff_weights_md;
    }
}

mezzo_status mzi_dnnl_make_reorder(mzi_dnnl *dnnl, const dnnl_memory_desc_t *from,
                                   const dnnl_memory_desc_t *to, dnnl_primitive_t *out) {
    dnnl_primitive_desc_t desc;
    int threads = mzi_dnnl_enter();
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&desc, from, dnnl->engine, to, dnnl->engine, NULL);
    if (status == dnnl_success) {
        status = dnnl_primitive_create(out, desc);
        dnnl_primitive_desc_destroy(desc);
    }
    mzi_dnnl_leave(threads);
    MZI_DNNL_TRY(dnnl, status);
    return MEZZO_OK;
}

/* The ways in and out of the blocked layout. */
static mezzo_status make_reorders(mzi_dnnl *dnnl, const mzi_port *ports, int count,
                                  mzi_primitive *made) {
    for (int k = 0; k < count; k++) {
        const dnnl_memory_desc_t *md = &made->md[k];
        if (!ports[k].blocked)
            continue;
        MZI_DNNL_TRY(dnnl, image(&made->plain[k], md->data_type, md->dims[0], md->dims[1],
                                 md->dims[2], md->dims[3], dnnl_nhwc));
        MZI_TRY(ports[k].is_out
                    ? mzi_dnnl_make_reorder(dnnl, md, &made->plain[k], &made->reorder[k])
                    : mzi_dnnl_make_reorder(dnnl, &made->plain[k], md, &made->reorder[k]));
    }
    return MEZZO_OK;
}

mezzo_status mzi_dnnl_make(mzi_dnnl *dnnl, const mzi_call *call, const mzi_port *ports, int count,
                           int64_t rows, const dnnl_memory_desc_t *weights, mzi_primitive *out) {
    dnnl_primitive_desc_t desc = NULL;
    mzi_primitive made = {.rows = rows};
    int threads = mzi_dnnl_enter();
    mezzo_status status = call->family == MZK_matmul
                              ? matmul_desc(dnnl, call, ports, count, rows, weights, &desc)
                              : conv_desc(dnnl, call, ports, count, rows, weights, &desc);
    if (status == MEZZO_OK) {
        for (int k = 0; k < count; k++)
            made.md[k] = *dnnl_primitive_desc_query_md(desc, query_of(ports[k].arg),
                                                       ports[k].arg == DNNL_ARG_BIAS ? 1 : 0);
        made.scratchpad = *dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        dnnl_status_t created = dnnl_primitive_create(&made.handle, desc);
        dnnl_primitive_desc_destroy(desc);
        if (created != dnnl_success)
            status = mzi_dnnl_fail(dnnl, created, "dnnl_primitive_create");
    }
    mzi_dnnl_leave(threads);
    if (status == MEZZO_OK)
        status = make_reorders(dnnl, ports, count, &made);
    if (status != MEZZO_OK)
        mzi_dnnl_unmake(&made);
    else
        *out = made;
    return status;
}

void mzi_dnnl_unmake(mzi_primitive *primitive) {
    if (primitive->handle)
        dnnl_primitive_destroy(primitive->handle);
    for (int k = 0; k < MZI_PORT_MAX; k++)
        if (primitive->reorder[k])
            dnnl_primitive_destroy(primitive->reorder[k]);
    *primitive = (mzi_primitive){0};
}
