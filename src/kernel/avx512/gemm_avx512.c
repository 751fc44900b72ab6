#include "kernel/avx512/vec.h"

#define GEMM_PAIRS 0
#include "kernel/simd/gemm.h"

void mzk_matmul_avx512(const mzk_args *args, int64_t begin, int64_t end) {
    if (gemm_takes(args->out_type[0]) && gemm_takes(args->in_type[0]) &&
        gemm_takes(args->in_type[1]))
        gemm_run(args, begin, end);
    else
        mzk_matmul_ref(args, begin, end);
}
