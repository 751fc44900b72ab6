#include "kernel/avx2/vec.h"

#define MZK_IMPL(family) mzk_##family##_avx2
#include "kernel/simd/attention.h"
#include "kernel/simd/attention_bwd.h"

#include "kernel/simd/attention_decode.h"
