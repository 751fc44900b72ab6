#include "kernel/avx2/vec.h"

#define MZK_IMPL(family) mzk_##family##_avx2
#include "kernel/simd/swiglu.h"
