/* One query over a cache.  Rows of the cache are read once, so elements of a row lie in the lanes.
 * Included once per instruction set, after attention.h. */
enum {
    DECODE_ROWS = 128
};
typedef struct decode_work {
    float query[ATTENTION_D], sum[ATTENTION_D], weight[DECODE_ROWS];
    float peak, total;
} decode_work;

INLINE float decode_score(const decode_work *w, const float *key, int64_t D) {
    vf sum = vf_zero();
    for (int64_t d = 0; d < D; d += VL)
        sum = vf_fma(vf_load(w->query, MEZZO_F32, d),
                     lanes_load(key, MEZZO_F32, d, at_most(D - d, VL)), sum);
    return vf_sum(sum);
}

/* Weights of `rows` rows; sums so far are brought to the new peak. */
INLINE void decode_softmax(decode_work *w, int64_t rows, int64_t D) {
    vf peak = vf_set(w->peak), total = vf_zero();
    for (int64_t r = 0; r < rows; r += VL) {
        int64_t n = at_most(rows - r, VL);
        vf s = lanes_load(w->weight, MEZZO_F32, r, n);
        peak = vf_max(vf_select(lanes_below(n), s, peak), peak);
    }
    float top = vf_peak(peak);
    vf factor = vf_exp(vf_sub(vf_set(w->peak), vf_set(top)));
    for (int64_t d = 0; d < D; d += VL)
        vf_store(w->sum, MEZZO_F32, d, vf_mul(vf_load(w->sum, MEZZO_F32, d), factor));
    vf before = vf_mul(vf_set(w->total), factor);
    for (int64_t r = 0; r < rows; r += VL) {
        int64_t n = at_most(rows - r, VL);
        vf p = vf_exp(vf_sub(lanes_load(w->weight, MEZZO_F32, r, n), vf_set(top)));
        p = vf_keep(lanes_below(n), p);
        lanes_store(w->weight, MEZZO_F32, r, p, n);
        total = vf_add(total, p);
    }
    float lanes[VL];
    vf_store(lanes, MEZZO_F32, 0, before);
    w->total = lanes[0] + vf_sum(total);
    w->peak = top;
}

INLINE void decode_rows(decode_work *w, const float *key, const float *value, int64_t stride,
                        int64_t rows, int64_t D) {
    for (int64_t r = 0; r < rows; r++)
        w->weight[r] = decode_score(w, key + r * stride, D);
    decode_softmax(w, rows, D);
    for (int64_t d = 0; d < D; d += VL) {
        vf sum = vf_load(w->sum, MEZZO_F32, d);
        int64_t n = at_most(D - d, VL);
        for (int64_t r = 0; r < rows; r++)
            sum =
                vf_fma(vf_set(w->weight[r]), lanes_load(value, MEZZO_F32, r * stride + d, n), sum);
        vf_store(w->sum, MEZZO_F32, d, sum);
    }
}

INLINE void decode_head(decode_work *w, const mzk_args *args, int64_t b, int64_t h) {
    int64_t H = args->p.attention.H, G = args->p.attention.G, D = args->p.attention.D;
    int64_t rows = ((const int32_t *)args->in[3])[0] + (int64_t)1, stride = G * D;
    int64_t at = b * args->p.attention.P * stride + h / (H / G) * D;
    const float *key = (const float *)args->in[1] + at, *value = (const float *)args->in[2] + at;
    mezzo_dtype type = (mezzo_dtype)args->out_type[0];
    w->peak = -FLT_MAX;
    w->total = 0;
    for (int64_t d = 0; d < D; d += VL) {
        vf q = lanes_load(args->in[0], type, b * (H + 2 * G) * D + h * D + d, at_most(D - d, VL));
        vf_store(w->query, MEZZO_F32, d, vf_mul(q, vf_set(args->p.attention.scale)));
        vf_store(w->sum, MEZZO_F32, d, vf_zero());
    }
    for (int64_t r = 0; r < rows; r += DECODE_ROWS)
        decode_rows(w, key + r * stride, value + r * stride, stride, at_most(rows - r, DECODE_ROWS),
                    D);
    for (int64_t d = 0; d < D; d += VL)
        lanes_store(args->out[0], type, (b * H + h) * D + d,
                    vf_div(vf_load(w->sum, MEZZO_F32, d), vf_set(w->total)), at_most(D - d, VL));
}

void MZK_IMPL(attention_decode)(const mzk_args *args, int64_t begin, int64_t end) {
    int type = args->out_type[0];
    if (!attention_type_fits(type) || args->in_type[0] != type || args->in_type[1] != MEZZO_F32 ||
        args->in_type[2] != MEZZO_F32 || args->p.attention.D > ATTENTION_D) {
        mzk_attention_decode_ref(args, begin, end);
        return;
    }
    decode_work w;
    for (int64_t row = begin; row < end; row++)
        decode_head(&w, args, row / args->p.attention.H, row % args->p.attention.H);
}
