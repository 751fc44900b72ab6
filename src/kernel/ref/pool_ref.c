/* Reference: pooling, channels-last.  Window (oh, ow) covers the pixels
 * h = oh stride - pad + kh, w = ow stride - pad + kw. */
#include "kernel/ref/ref.h"

typedef struct best {
    double value;
    int position;
} best;

/* The first maximum of channel `c` in a window; NaN beats every number, the first NaN wins. */
static best window_max(const mzk_args *args, int64_t b, int64_t oh, int64_t ow, int64_t c) {
    const mzk_pool_params *p = &args->p.pool;
    best m = {-HUGE_VAL, -1};
    for (int64_t kh = 0; kh < p->KH; kh++)
        for (int64_t kw = 0; kw < p->KW; kw++) {
            int64_t h = oh * p->stride - p->pad + kh, w = ow * p->stride - p->pad + kw;
            if (h < 0 || h >= p->H || w < 0 || w >= p->W)
                continue;
            double x = get(args, 0, ((b * p->H + h) * p->W + w) * p->C + c);
            if (m.position < 0 || x > m.value || (isnan(x) && !isnan(m.value)))
                m = (best){x, (int)(kh * p->KW + kw)};
        }
    return m;
}

void mzk_max_pool_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_pool_params *p = &args->p.pool;
    uint8_t *index = args->out[1];
    for (int64_t row = begin; row < end; row++)
        for (int64_t ow = 0; ow < p->OW; ow++)
            for (int64_t c = 0; c < p->C; c++) {
                int64_t o = (row * p->OW + ow) * p->C + c;
                best m = window_max(args, row / p->OH, row % p->OH, ow, c);
                put(args, 0, o, m.value);
                index[o] = (uint8_t)m.position;
            }
}

/* The window whose position k holds pixel h, or -1. */
static int64_t window_of(int64_t h, int64_t k, int64_t stride, int64_t pad, int64_t count) {
    int64_t at = h + pad - k;
    return at >= 0 && at % stride == 0 && at / stride < count ? at / stride : -1;
}

/* Sum of dy over the windows that hold pixel (h, w); with `index`, over those that chose it. */
static double pixel_sum(const mzk_args *args, const uint8_t *index, int64_t b, int64_t h, int64_t w,
                        int64_t c) {
    const mzk_pool_params *p = &args->p.pool;
    double sum = 0;
    for (int64_t kh = 0; kh < p->KH; kh++)
        for (int64_t kw = 0; kw < p->KW; kw++) {
            int64_t oh = window_of(h, kh, p->stride, p->pad, p->OH);
            int64_t ow = window_of(w, kw, p->stride, p->pad, p->OW);
            if (oh < 0 || ow < 0)
                continue;
            int64_t o = ((b * p->OH + oh) * p->OW + ow) * p->C + c;
            if (!index || index[o] == kh * p->KW + kw)
                sum += get(args, 0, o);
        }
    return sum;
}

static void pool_bwd(const mzk_args *args, const uint8_t *index, double divisor, int64_t begin,
                     int64_t end) {
    const mzk_pool_params *p = &args->p.pool;
    for (int64_t b = begin; b < end; b++)
        for (int64_t h = 0; h < p->H; h++)
            for (int64_t w = 0; w < p->W; w++)
                for (int64_t c = 0; c < p->C; c++)
                    put(args, 0, ((b * p->H + h) * p->W + w) * p->C + c,
                        pixel_sum(args, index, b, h, w, c) / divisor);
}

void mzk_max_pool_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    pool_bwd(args, args->in[1], 1, begin, end);
}

void mzk_avg_pool_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    pool_bwd(args, NULL, (double)(args->p.pool.KH * args->p.pool.KW), begin, end);
}

static double window_sum(const mzk_args *args, int64_t b, int64_t oh, int64_t ow, int64_t c) {
    const mzk_pool_params *p = &args->p.pool;
    double sum = 0;
    for (int64_t kh = 0; kh < p->KH; kh++)
        for (int64_t kw = 0; kw < p->KW; kw++) {
            int64_t h = oh * p->stride - p->pad + kh, w = ow * p->stride - p->pad + kw;
            if (h >= 0 && h < p->H && w >= 0 && w < p->W)
                sum += get(args, 0, ((b * p->H + h) * p->W + w) * p->C + c);
        }
    return sum;
}

void mzk_avg_pool_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_pool_params *p = &args->p.pool;
    for (int64_t row = begin; row < end; row++)
        for (int64_t ow = 0; ow < p->OW; ow++)
            for (int64_t c = 0; c < p->C; c++)
                put(args, 0, (row * p->OW + ow) * p->C + c,
                    window_sum(args, row / p->OH, row % p->OH, ow, c) / (double)(p->KH * p->KW));
}
