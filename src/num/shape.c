#include "base/ctx.h"
#include "num/number.h"

int64_t mezzo_shape_count(mezzo_shape shape) {
    if (shape.rank < 0 || shape.rank > MEZZO_RANK_MAX)
        return -1;
    int64_t count = 1;
    bool overflow = false, empty = false;
    for (int32_t i = 0; i < shape.rank; i++) {
        if (shape.dim[i] < 0)
            return -1;
        empty = empty || shape.dim[i] == 0;
        overflow = __builtin_mul_overflow(count, shape.dim[i], &count) || overflow;
    }
    if (empty)
        return 0;
    return overflow ? -1 : count;
}

const char *mzi_shape_text(char out[MZI_SHAPE_TEXT], mezzo_shape shape) {
    size_t used = mzi_format(out, MZI_SHAPE_TEXT, "[");
    for (int32_t d = 0; d < shape.rank; d++)
        used += mzi_format(out + used, MZI_SHAPE_TEXT - used, "%s%lld", d > 0 ? "," : "",
                           (long long)shape.dim[d]);
    mzi_format(out + used, MZI_SHAPE_TEXT - used, "]");
    return out;
}

bool mezzo_shape_equal(mezzo_shape a, mezzo_shape b) {
    if (a.rank != b.rank || a.rank < 0 || a.rank > MEZZO_RANK_MAX)
        return false;
    for (int32_t i = 0; i < a.rank; i++)
        if (a.dim[i] != b.dim[i])
            return false;
    return true;
}
