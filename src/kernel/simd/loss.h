/* Softmax cross-entropy.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/exp.h"
#include "kernel/simd/lanes.h"

typedef struct peak {
    float value; /* of the numbers in the row */
    bool nan;    /* there is a NaN too        */
} peak;

INLINE vf peak_step(vf max, vf logit, vm *nan) {
    *nan = vm_or(*nan, vf_is_nan(logit));
    return vf_max(logit, max); /* `max` if the logit is NaN */
}
INLINE peak row_peak(const void *x, mezzo_dtype type, int64_t first, int64_t V) {
    vf max = vf_set(-HUGE_VALF), four[4] = {max, max, max, max};
    vm nan = vf_is_nan(max);
    int64_t v = 0;
    for (; v + 4 * VL <= V; v += 4 * VL)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            four[k] = peak_step(four[k], vf_load(x, type, first + v + k * VL), &nan);
    for (; v < V; v += VL) {
        int64_t n = V - v < VL ? V - v : VL;
        vf logit = lanes_load(x, type, first + v, n);
        max = peak_step(max, vf_select(lanes_below(n), logit, vf_set(-HUGE_VALF)), &nan);
    }
    max = vf_max(vf_max(four[0], four[1]), vf_max(four[2], vf_max(four[3], max)));
    return (peak){vf_peak(max), vm_bits(nan) != 0};
}

INLINE float row_sum(const void *x, mezzo_dtype type, int64_t first, int64_t V, float max) {
    vf sum = vf_zero(), top = vf_set(max);
    int64_t v = 0;
    for (; v + SIDE * VL <= V; v += SIDE * VL) {
        vf e[SIDE];
#pragma GCC unroll 4
        for (int k = 0; k < SIDE; k++)
            e[k] = vf_sub(vf_load(x, type, first + v + k * VL), top);
        vf_exps(e, SIDE);
        for (int k = 1; k < SIDE; k++)
            e[0] = vf_add(e[0], e[k]);
        sum = vf_add(sum, e[0]);
    }
    for (; v + VL <= V; v += VL)
        sum = vf_add(sum, vf_exp(vf_sub(vf_load(x, type, first + v), top)));
    if (v < V) {
        vf e = vf_exp(vf_sub(vf_load_n(x, type, first + v, V - v), top));
        sum = vf_add(sum, vf_keep(lanes_below(V - v), e));
    }
    return vf_sum(sum);
}

/* In FP64: the logits may cancel. */
INLINE double row_total(const void *x, mezzo_dtype type, int64_t first, int64_t V) {
    vd sum = vd_zero();
    int64_t v = 0;
    for (; v + VL <= V; v += VL)
        sum = vd_add(sum, vd_of(vf_load(x, type, first + v)));
    if (v < V)
        sum = vd_add(sum, vd_of(vf_load_n(x, type, first + v, V - v)));
    return vd_sum(sum);
}

/* No element before the label is as large. */
INLINE bool is_first(const void *x, mezzo_dtype type, int64_t first, int64_t label, float max) {
    uint32_t before = 0;
    for (int64_t v = 0; v < label && !before; v += VL) {
        int64_t n = label - v < VL ? label - v : VL;
        vf logit = vf_select(lanes_below(n), lanes_load(x, type, first + v, n), vf_set(-HUGE_VALF));
        before = vm_bits(vf_equal(logit, vf_set(max))) & ((1u << n) - 1u);
    }
    return !before;
}

INLINE void xent_chunk(const mzk_args *args, int64_t begin, int64_t end, types t, float part[3]) {
    const void *x = args->in[0];
    const int32_t *labels = args->in[1];
    float *lse = args->out[0];
    int64_t V = args->p.loss.V, valid = 0, correct = 0;
    double loss = 0, s = (double)args->p.loss.smoothing;
    for (int64_t row = begin; row < end; row++) {
        peak max = row_peak(x, t.a, row * V, V);
        double all = (double)max.value + log((double)row_sum(x, t.a, row * V, V, max.value));
        lse[row] = (float)all;
        if (labels[row] < 0)
            continue;
        double logit = mzi_load(x, t.a, row * V + labels[row]);
        if (s == 0) /* else an infinite logit elsewhere would give 0 times infinity */
            loss += all - logit;
        else
            loss += all - ((1 - s) * logit + s / (double)V * row_total(x, t.a, row * V, V));
        valid++;
        correct += !max.nan && logit == (double)max.value &&
                   is_first(x, t.a, row * V, labels[row], max.value);
    }
    part[0] = (float)loss;
    part[1] = (float)valid;
    part[2] = (float)correct;
}
INLINE void xent_part_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    int64_t grain = args->p.loss.grain;
    for (int64_t b = begin; b < end; b = chunk_end(b, grain, end))
        xent_chunk(args, b, chunk_end(b, grain, end), t, (float *)args->out[1] + b / grain * 3);
}
void MZK_IMPL(xent_part)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || !dispatch(xent_part_loop, args, begin, end, VARY_A))
        mzk_xent_part_ref(args, begin, end);
}

/* What the probabilities should be, and the factor of the difference. */
typedef struct slope {
    vf on_label, elsewhere, factor;
} slope;

/* x becomes (exp(x - lse) - target) factor; `label` counts from the first lane. */
INLINE void xent_slopes(vf *x, float lse, int32_t label, const slope *s, int count) {
#pragma GCC unroll 4
    for (int k = 0; k < count; k++)
        x[k] = vf_sub(x[k], vf_set(lse));
    vf_exps(x, count);
#pragma GCC unroll 4
    for (int k = 0; k < count; k++) {
        vm here = vi_equal(vi_lane(), vi_set(label - k * VL));
        x[k] = vf_mul(vf_sub(x[k], vf_select(here, s->on_label, s->elsewhere)), s->factor);
    }
}
INLINE void xent_row(void *dx, const void *x, types t, int64_t first, int64_t V, float lse,
                     int32_t label, const slope *k) {
    int32_t v = 0;
    for (; v + SIDE * VL <= V; v += SIDE * VL) {
        vf block[SIDE];
#pragma GCC unroll 4
        for (int n = 0; n < SIDE; n++)
            block[n] = vf_load(x, t.a, first + v + n * VL);
        xent_slopes(block, lse, label - v, k, SIDE);
#pragma GCC unroll 4
        for (int n = 0; n < SIDE; n++)
            vf_store(dx, t.out, first + v + n * VL, block[n]);
    }
    for (; v < V; v += VL) {
        int64_t n = V - v < VL ? V - v : VL;
        vf one = lanes_load(x, t.a, first + v, n);
        xent_slopes(&one, lse, label - v, k, 1);
        lanes_store(dx, t.out, first + v, one, n);
    }
}
INLINE void xent_bwd_loop(const mzk_args *args, int64_t begin, int64_t end, types t) {
    const int32_t *labels = args->in[1];
    const float *lse = args->in[2], *dloss = args->in[3], *valid = args->in[4];
    int64_t V = args->p.loss.V;
    double factor = (double)dloss[0] / (double)(valid[0] > 1 ? valid[0] : 1);
    double s = (double)args->p.loss.smoothing, rest = s / (double)V;
    const slope k = {vf_set((float)(1 - s + rest)), vf_set((float)rest), vf_set((float)factor)};
    for (int64_t row = begin; row < end; row++) {
        if (labels[row] >= 0)
            xent_row(args->out[0], args->in[0], t, row * V, V, lse[row], labels[row], &k);
        else
            memset((char *)args->out[0] + (size_t)(row * V) * mezzo_dtype_bytes(t.out), 0,
                   (size_t)V * mezzo_dtype_bytes(t.out));
    }
}
void MZK_IMPL(xent_bwd)(const mzk_args *args, int64_t begin, int64_t end) {
    if (!dispatch(xent_bwd_loop, args, begin, end, VARY_OUT | VARY_A))
        mzk_xent_bwd_ref(args, begin, end);
}
