#include "kernel/avx512/vec.h"

#define GEMM_PAIRS 1
#include "kernel/simd/gemm.h"

/* What the dot instruction does not take is widened. */
void mzk_matmul_avx512_bf16(const mzk_args *args, int64_t begin, int64_t end) {
    if (gemm_takes(args->out_type[0]) && args->in_type[0] == MEZZO_BF16 &&
        args->in_type[1] == MEZZO_BF16)
        gemm_run(args, begin, end);
    else
        mzk_matmul_avx512(args, begin, end);
}
