/* Reference: normal values. */
#include <math.h>

#include "base/rng.h"
#include "kernel/ref/ref.h"

/* Two from two words; 1 - u keeps the logarithm finite. */
static void normal_pair(const uint32_t words[2], double out[2]) {
    double radius = sqrt(-2.0 * log(1.0 - (double)mzi_uniform(words[0])));
    double angle = 2.0 * 3.14159265358979323846 * (double)mzi_uniform(words[1]);
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

void mzk_normal_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const int32_t *key = args->in[0];
    uint64_t seed = (uint64_t)(uint32_t)key[1] << 32 | (uint32_t)key[0];
    uint64_t before = (uint64_t)args->p.e.n * (uint64_t)(uint32_t)key[3];
    double pair[2] = {0};
    for (int64_t i = begin; i < end; i++) {
        uint64_t m = before + (uint64_t)i;
        if (i == begin || m % 2 == 0) {
            uint32_t words[4];
            mzi_rng4(words, seed, args->p.e.stream, m / 4, (uint32_t)key[2]);
            normal_pair(words + m % 4 / 2 * 2, pair);
        }
        put(args, 0, i, pair[m % 2] * (double)args->p.e.alpha);
    }
}
