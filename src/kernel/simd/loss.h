/* Softmax cross-entropy.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/exp.h"
#include "kernel/simd/lanes.h"

typedef struct peak {
    float value; /* of the numbers in the row */
    bool nan;    /* there is a NaN too        */
} peak;

INLINE vf peak_step(vf max, vf logit, vm active, uint32_t *nan) {
    *nan |= vm_bits(vf_is_nan(logit));
    return vf_select(active, vf_max(logit, max), max); /* `max` if the logit is NaN */
}
INLINE peak row_peak(const void *x, mezzo_dtype type, int64_t first, int64_t V) {
    vf max = vf_set(-HUGE_VALF);
    uint32_t nan = 0;
    int64_t v = 0;
    for (; v + VL <= V; v += VL)
        max = peak_step(max, vf_load(x, type, first + v), lanes_below(VL), &nan);
    if (v < V)
        max = peak_step(max, vf_load_n(x, type, first + v, V - v), lanes_below(V - v), &nan);
    return (peak){vf_peak(max), nan != 0};
}

INLINE float row_sum(const void *x, mezzo_dtype type, int64_t first, int64_t V, float max) {
    vf sum = vf_zero(), top = vf_set(max);
    int64_t v = 0;
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

/* (exp(logit - lse) - target) factor; `label` counts from the first lane. */
INLINE vf xent_slope(vf logit, float lse, int32_t label, const slope *k) {
    vf p = vf_exp(vf_sub(logit, vf_set(lse)));
    vf target = vf_select(vi_equal(vi_lane(), vi_set(label)), k->on_label, k->elsewhere);
    return vf_mul(vf_sub(p, target), k->factor);
}
INLINE void xent_row(void *dx, const void *x, types t, int64_t first, int64_t V, float lse,
                     int32_t label, const slope *k) {
    int32_t v = 0;
    for (; v + VL <= V; v += VL)
        vf_store(dx, t.out, first + v, xent_slope(vf_load(x, t.a, first + v), lse, label - v, k));
    if (v < V)
        vf_store_n(dx, t.out, first + v,
                   xent_slope(vf_load_n(x, t.a, first + v, V - v), lse, label - v, k), V - v);
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
