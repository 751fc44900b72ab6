#include "kernel/avx512/vec.h"

#define MZK_IMPL(family) mzk_##family##_avx512
#include "kernel/simd/attention.h"
#include "kernel/simd/attention_bwd.h"

#include "kernel/simd/attention_decode.h"
