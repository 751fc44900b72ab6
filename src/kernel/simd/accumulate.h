/* A sum over several runs.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/lanes.h"

/* The first run does not read what was there before. */
INLINE void accumulate_lanes(float *out, const float *g, const float *acc, vf weight, bool first,
                             int64_t i, int64_t lanes) {
    vf more = lanes_load(g, MEZZO_F32, i, lanes);
    vf sum =
        first ? vf_mul(weight, more) : vf_fma(weight, more, lanes_load(acc, MEZZO_F32, i, lanes));
    lanes_store(out, MEZZO_F32, i, sum, lanes);
}
INLINE void accumulate_range(const mzk_args *args, int64_t begin, int64_t end, bool first) {
    float *out = args->out[0];
    const float *g = args->in[0], *acc = args->in[1];
    vf weight = vf_set(*(const float *)args->in[2]);
    int64_t i = begin;
    for (; i + VL <= end; i += VL)
        accumulate_lanes(out, g, acc, weight, first, i, VL);
    if (i < end)
        accumulate_lanes(out, g, acc, weight, first, i, end - i);
}
void MZK_IMPL(accumulate)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || args->in_type[0] != MEZZO_F32)
        mzk_accumulate_ref(args, begin, end);
    else if (*(const int32_t *)args->in[3])
        accumulate_range(args, begin, end, true);
    else
        accumulate_range(args, begin, end, false);
}

void MZK_IMPL(choose)(const mzk_args *args, int64_t begin, int64_t end) {
    if (args->out_type[0] != MEZZO_F32 || args->in_type[0] != MEZZO_F32) {
        mzk_choose_ref(args, begin, end);
        return;
    }
    float *out = args->out[0];
    const float *from = *(const int32_t *)args->in[2] ? args->in[0] : args->in[1];
    if (from != out && begin < end)
        memcpy(out + begin, from + begin, (size_t)(end - begin) * sizeof *out);
}
