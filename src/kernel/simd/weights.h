/* Weights from masters.  Included once per instruction set, after its vec.h. */
#include "kernel/simd/half.h"

INLINE void cast_away_lanes(const mzk_args *args, int64_t i, int64_t n) {
    vf x = lanes_load(args->in[0], MEZZO_F32, i, n);
    lanes_store_u16((uint16_t *)args->out[0] + i, half_away(x), n);
}
void MZK_IMPL(cast_away)(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t i = begin;
    if (args->out_type[0] != MEZZO_BF16 || args->in_type[0] != MEZZO_F32) {
        mzk_cast_away_ref(args, begin, end);
        return;
    }
    for (; i + VL <= end; i += VL)
        cast_away_lanes(args, i, VL);
    if (i < end)
        cast_away_lanes(args, i, end - i);
}
