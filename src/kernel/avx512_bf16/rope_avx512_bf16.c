#include "kernel/avx512/vec.h" /* converts to bf16 natively here */

#define MZK_IMPL(family) mzk_##family##_avx512_bf16
#include "kernel/simd/rope.h"
