/* Pooling, channels-last: vectors run over channels.  Windows of 2x2 with stride 2 and no padding,
 * which do not overlap, have loops of their own.  Included once per instruction set, after its
 * vec.h. */
#include "kernel/simd/lanes.h"

INLINE bool is_2x2(const mzk_pool_params *p) {
    return p->KH == 2 && p->KW == 2 && p->stride == 2 && p->pad == 0;
}

/* Of a row of pixels or windows, [first, end). */
typedef struct span {
    int64_t first, end;
} span;

/* Positions k of window `o` that lie inside of the image. */
INLINE span inside(int64_t o, int64_t K, int64_t stride, int64_t pad, int64_t size) {
    int64_t start = o * stride - pad;
    return (span){start < 0 ? -start : 0, start + K > size ? size - start : K};
}

/* Windows that hold pixel `h`. */
INLINE span windows_over(int64_t h, int64_t K, int64_t stride, int64_t pad, int64_t count) {
    int64_t reach = h + pad - K + 1, last = (h + pad) / stride;
    return (span){reach > 0 ? (reach + stride - 1) / stride : 0, last < count ? last + 1 : count};
}

typedef struct best {
    vf value;
    vi position;
} best;

/* A later element wins by being larger, or by being NaN when there was none. */
INLINE best better(best m, vf x, int position) {
    vm take = vm_and_not(vf_not_at_most(x, m.value), vf_is_nan(m.value));
    return (best){vf_select(take, x, m.value), vi_select(take, vi_set(position), m.position)};
}

INLINE best max_window(const mzk_pool_params *p, const void *x, mezzo_dtype type, int64_t image,
                       int64_t oh, int64_t ow, int64_t c, int64_t lanes) {
    span hs = inside(oh, p->KH, p->stride, p->pad, p->H);
    span ws = inside(ow, p->KW, p->stride, p->pad, p->W);
    best m = {vf_set(-HUGE_VALF), vi_set(255)};
    bool none = true;
    for (int64_t kh = hs.first; kh < hs.end; kh++)
        for (int64_t kw = ws.first; kw < ws.end; kw++) {
            int64_t h = oh * p->stride - p->pad + kh, w = ow * p->stride - p->pad + kw;
            vf v = lanes_load(x, type, ((image * p->H + h) * p->W + w) * p->C + c, lanes);
            int position = (int)(kh * p->KW + kw);
            m = none ? (best){v, vi_set(position)} : better(m, v, position);
            none = false;
        }
    return m;
}

INLINE best max_window_2x2(const mzk_pool_params *p, const void *x, mezzo_dtype type, int64_t image,
                           int64_t oh, int64_t ow, int64_t c, int64_t lanes) {
    int64_t i = ((image * p->H + 2 * oh) * p->W + 2 * ow) * p->C + c;
    best m = {lanes_load(x, type, i, lanes), vi_set(0)};
    m = better(m, lanes_load(x, type, i + p->C, lanes), 1);
    m = better(m, lanes_load(x, type, i + p->W * p->C, lanes), 2);
    return better(m, lanes_load(x, type, i + (p->W + 1) * p->C, lanes), 3);
}

typedef best window_best(const mzk_pool_params *p, const void *x, mezzo_dtype type, int64_t image,
                         int64_t oh, int64_t ow, int64_t c, int64_t lanes);

INLINE void max_rows(const mzk_args *args, int64_t begin, int64_t end, types t, window_best *f) {
    const mzk_pool_params p = args->p.pool;
    void *y = args->out[0];
    uint8_t *index = args->out[1];
    for (int64_t row = begin; row < end; row++)
        for (int64_t ow = 0; ow < p.OW; ow++) {
            int64_t o = (row * p.OW + ow) * p.C, image = row / p.OH, oh = row % p.OH, c = 0;
            for (; c + VL <= p.C; c += VL) {
                best m = f(&p, args->in[0], t.a, image, oh, ow, c, VL);
                vf_store(y, t.out, o + c, m.value);
                vi_store_u8(index + o + c, m.position);
            }
            if (c < p.C) {
                best m = f(&p, args->in[0], t.a, image, oh, ow, c, p.C - c);
                vf_store_n(y, t.out, o + c, m.value, p.C - c);
                vi_store_u8_n(index + o + c, m.position, p.C - c);
            }
        }
}
INLINE void max_pool_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    if (is_2x2(&args->p.pool))
        max_rows(args, begin, end, t, max_window_2x2);
    else
        max_rows(args, begin, end, t, max_window);
}
void MZK_IMPL(max_pool)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(max_pool_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_max_pool_ref(args, begin, end);
}

INLINE vf mean_window(const mzk_pool_params *p, const void *x, mezzo_dtype type, int64_t image,
                      int64_t oh, int64_t ow, int64_t c, int64_t lanes) {
    span hs = inside(oh, p->KH, p->stride, p->pad, p->H);
    span ws = inside(ow, p->KW, p->stride, p->pad, p->W);
    vf sum = vf_zero();
    for (int64_t kh = hs.first; kh < hs.end; kh++)
        for (int64_t kw = ws.first; kw < ws.end; kw++) {
            int64_t h = oh * p->stride - p->pad + kh, w = ow * p->stride - p->pad + kw;
            int64_t i = ((image * p->H + h) * p->W + w) * p->C + c;
            sum = vf_add(sum, lanes_load(x, type, i, lanes));
        }
    return vf_div(sum, vf_set((float)(p->KH * p->KW)));
}
INLINE void avg_pool_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    const mzk_pool_params p = args->p.pool;
    for (int64_t row = begin; row < end; row++)
        for (int64_t ow = 0; ow < p.OW; ow++) {
            int64_t o = (row * p.OW + ow) * p.C, image = row / p.OH, oh = row % p.OH, c = 0;
            for (; c + VL <= p.C; c += VL)
                vf_store(args->out[0], t.out, o + c,
                         mean_window(&p, args->in[0], t.a, image, oh, ow, c, VL));
            if (c < p.C)
                vf_store_n(args->out[0], t.out, o + c,
                           mean_window(&p, args->in[0], t.a, image, oh, ow, c, p.C - c), p.C - c);
        }
}
void MZK_IMPL(avg_pool)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(avg_pool_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_avg_pool_ref(args, begin, end);
}

/* Sum of dy over the windows that hold pixel (h, w), over `divisor`; with an index, over those that
 * chose it. */
INLINE vf pixel_sum(const mzk_args *args, types t, const uint8_t *index, int64_t image, int64_t h,
                    int64_t w, int64_t c, int64_t lanes, vf divisor) {
    const mzk_pool_params *p = &args->p.pool;
    span hs = windows_over(h, p->KH, p->stride, p->pad, p->OH);
    span ws = windows_over(w, p->KW, p->stride, p->pad, p->OW);
    vf sum = vf_zero();
    for (int64_t oh = hs.first; oh < hs.end; oh++)
        for (int64_t ow = ws.first; ow < ws.end; ow++) {
            int64_t o = ((image * p->OH + oh) * p->OW + ow) * p->C + c;
            vf dy = lanes_load(args->in[0], t.a, o, lanes);
            if (index) {
                int64_t kh = h + p->pad - oh * p->stride, kw = w + p->pad - ow * p->stride;
                vi here = vi_set((int32_t)(kh * p->KW + kw));
                dy = vf_keep(vi_equal(lanes_load_u8(index + o, lanes), here), dy);
            }
            sum = vf_add(sum, dy);
        }
    return vf_div(sum, divisor);
}
INLINE void bwd_any(const mzk_args *args, int64_t begin, int64_t end, types t, const uint8_t *index,
                    vf divisor) {
    const mzk_pool_params *p = &args->p.pool;
    for (int64_t image = begin; image < end; image++)
        for (int64_t h = 0; h < p->H; h++)
            for (int64_t w = 0; w < p->W; w++) {
                int64_t i = ((image * p->H + h) * p->W + w) * p->C, c = 0;
                for (; c + VL <= p->C; c += VL)
                    vf_store(args->out[0], t.out, i + c,
                             pixel_sum(args, t, index, image, h, w, c, VL, divisor));
                if (c < p->C)
                    vf_store_n(args->out[0], t.out, i + c,
                               pixel_sum(args, t, index, image, h, w, c, p->C - c, divisor),
                               p->C - c);
            }
}

/* The four pixels of a window; `stride` elements lie between two rows of pixels. */
INLINE void bwd_window(void *dx, types t, int64_t i, int64_t stride, int64_t C, vf dy, bool indexed,
                       vi position, vf divisor, int64_t lanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        vf value = indexed ? vf_keep(vi_equal(position, vi_set(k)), dy) : vf_div(dy, divisor);
        lanes_store(dx, t.out, i + (k / 2) * stride + (k % 2) * C, value, lanes);
    }
}
INLINE void zero(void *dx, mezzo_dtype type, int64_t first, int64_t count) {
    size_t bytes = type == MEZZO_F32 ? 4 : 2;
    memset((char *)dx + (size_t)first * bytes, 0, (size_t)count * bytes);
}
INLINE void bwd_2x2(const mzk_args *args, int64_t begin, int64_t end, types t, const uint8_t *index,
                    vf divisor) {
    const mzk_pool_params p = args->p.pool;
    const void *dy = args->in[0];
    void *dx = args->out[0];
    int64_t C = p.C, stride = p.W * C;
    for (int64_t image = begin; image < end; image++) {
        int64_t i = image * p.H * stride, o = image * p.OH * p.OW * C;
        for (int64_t oh = 0; oh < p.OH; oh++, i += 2 * stride) {
            for (int64_t ow = 0; ow < p.OW; ow++, o += C) {
                int64_t at = i + 2 * ow * C, c = 0;
                for (; c + VL <= C; c += VL)
                    bwd_window(dx, t, at + c, stride, C, vf_load(dy, t.a, o + c), index != NULL,
                               index ? vi_load_u8(index + o + c) : vi_set(0), divisor, VL);
                if (c < C)
                    bwd_window(
                        dx, t, at + c, stride, C, vf_load_n(dy, t.a, o + c, C - c), index != NULL,
                        index ? vi_load_u8_n(index + o + c, C - c) : vi_set(0), divisor, C - c);
            }
            for (int64_t row = 0; p.W > 2 * p.OW && row < 2; row++)
                zero(dx, t.out, i + row * stride + 2 * p.OW * C, (p.W - 2 * p.OW) * C);
        }
        zero(dx, t.out, i, (p.H - 2 * p.OH) * stride);
    }
}

INLINE void max_pool_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    if (is_2x2(&args->p.pool))
        bwd_2x2(args, begin, end, t, args->in[1], vf_set(1));
    else
        bwd_any(args, begin, end, t, args->in[1], vf_set(1));
}
void MZK_IMPL(max_pool_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(max_pool_bwd_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_max_pool_bwd_ref(args, begin, end);
}

INLINE void avg_pool_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    vf divisor = vf_set((float)(args->p.pool.KH * args->p.pool.KW));
    if (is_2x2(&args->p.pool))
        bwd_2x2(args, begin, end, t, NULL, divisor);
    else
        bwd_any(args, begin, end, t, NULL, divisor);
}
void MZK_IMPL(avg_pool_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(avg_pool_bwd_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_avg_pool_bwd_ref(args, begin, end);
}
