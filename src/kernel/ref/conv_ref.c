/* Reference: convolution (cross-correlation, as everywhere in deep learning) and its two gradients.
 * Output pixel (oh, ow) sees the pixels h = oh stride - pad + kh, w = ow stride - pad + kw. */
#include "kernel/ref/ref.h"

static int64_t weight_at(const mzk_conv_params *p, int64_t co, int64_t ci, int64_t kh, int64_t kw) {
    return ((co * p->Ci + ci) * p->KH + kh) * p->KW + kw;
}

static int64_t x_at(const mzk_conv_params *p, int64_t b, int64_t h, int64_t w, int64_t ci) {
    return ((b * p->H + h) * p->W + w) * p->Ci + ci;
}

static int64_t y_at(const mzk_conv_params *p, int64_t b, int64_t oh, int64_t ow, int64_t co) {
    return ((b * p->OH + oh) * p->OW + ow) * p->Co + co;
}

static double output_pixel(const mzk_args *args, int64_t b, int64_t oh, int64_t ow, int64_t co) {
    const mzk_conv_params *p = &args->p.conv;
    double sum = 0;
    for (int64_t kh = 0; kh < p->KH; kh++)
        for (int64_t kw = 0; kw < p->KW; kw++) {
            int64_t h = oh * p->stride - p->pad + kh, w = ow * p->stride - p->pad + kw;
            if (h < 0 || h >= p->H || w < 0 || w >= p->W)
                continue;
            for (int64_t ci = 0; ci < p->Ci; ci++)
                sum +=
                    get(args, 0, x_at(p, b, h, w, ci)) * get(args, 1, weight_at(p, co, ci, kh, kw));
        }
    return sum;
}

void mzk_conv_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_conv_params *p = &args->p.conv;
    for (int64_t b = begin; b < end; b++)
        for (int64_t oh = 0; oh < p->OH; oh++)
            for (int64_t ow = 0; ow < p->OW; ow++)
                for (int64_t co = 0; co < p->Co; co++)
                    put(args, 0, y_at(p, b, oh, ow, co),
                        output_pixel(args, b, oh, ow, co) + (args->in[2] ? get(args, 2, co) : 0));
}

/* The output row that sees pixel row h through kernel row k, or -1. */
static int64_t output_of(int64_t h, int64_t k, int64_t stride, int64_t pad, int64_t count) {
    int64_t at = h + pad - k;
    return at >= 0 && at % stride == 0 && at / stride < count ? at / stride : -1;
}

static double input_pixel(const mzk_args *args, int64_t b, int64_t h, int64_t w, int64_t ci) {
    const mzk_conv_params *p = &args->p.conv;
    double sum = 0;
    for (int64_t kh = 0; kh < p->KH; kh++)
        for (int64_t kw = 0; kw < p->KW; kw++) {
            int64_t oh = output_of(h, kh, p->stride, p->pad, p->OH);
            int64_t ow = output_of(w, kw, p->stride, p->pad, p->OW);
            if (oh < 0 || ow < 0)
                continue;
            for (int64_t co = 0; co < p->Co; co++)
                sum += get(args, 0, y_at(p, b, oh, ow, co)) *
                       get(args, 1, weight_at(p, co, ci, kh, kw));
        }
    return sum;
}

void mzk_conv_dx_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_conv_params *p = &args->p.conv;
    for (int64_t b = begin; b < end; b++)
        for (int64_t h = 0; h < p->H; h++)
            for (int64_t w = 0; w < p->W; w++)
                for (int64_t ci = 0; ci < p->Ci; ci++)
                    put(args, 0, x_at(p, b, h, w, ci), input_pixel(args, b, h, w, ci));
}

static double weight_sum(const mzk_args *args, int64_t begin, int64_t end, int64_t co, int64_t ci,
                         int64_t kh, int64_t kw) {
    const mzk_conv_params *p = &args->p.conv;
    double sum = 0;
    for (int64_t b = begin; b < end; b++)
        for (int64_t oh = 0; oh < p->OH; oh++)
            for (int64_t ow = 0; ow < p->OW; ow++) {
                int64_t h = oh * p->stride - p->pad + kh, w = ow * p->stride - p->pad + kw;
                if (h >= 0 && h < p->H && w >= 0 && w < p->W)
                    sum +=
                        get(args, 0, y_at(p, b, oh, ow, co)) * get(args, 1, x_at(p, b, h, w, ci));
            }
    return sum;
}

void mzk_conv_dw_part_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_conv_params *p = &args->p.conv;
    int64_t size = p->Co * p->Ci * p->KH * p->KW;
    for (int64_t b = begin; b < end; b = chunk_end(b, p->grain, end))
        for (int64_t co = 0; co < p->Co; co++)
            for (int64_t ci = 0; ci < p->Ci; ci++)
                for (int64_t kh = 0; kh < p->KH; kh++)
                    for (int64_t kw = 0; kw < p->KW; kw++)
                        put(args, 0, b / p->grain * size + weight_at(p, co, ci, kh, kw),
                            weight_sum(args, b, chunk_end(b, p->grain, end), co, ci, kh, kw));
}
