/* Reference: c = a b + bias. */
#include "kernel/ref/ref.h"

static double old(const mzk_args *args, int64_t i) {
    return mzi_load(args->out[0], (mezzo_dtype)args->out_type[0], i);
}

void mzk_matmul_ref(const mzk_args *args, int64_t begin, int64_t end) {
    const mzk_matmul_params *p = &args->p.matmul;
    for (int64_t m = begin; m < end; m++)
        for (int64_t n = 0; n < p->N; n++) {
            double sum = p->accumulate ? old(args, m * p->N + n) : 0;
            for (int64_t k = 0; k < p->K; k++)
                sum += get(args, 0, p->transpose_a ? k * p->M + m : m * p->K + k) *
                       get(args, 1, p->transpose_b ? n * p->K + k : k * p->N + n);
            put(args, 0, m * p->N + n, sum + (args->in[2] ? get(args, 2, n) : 0));
        }
}
