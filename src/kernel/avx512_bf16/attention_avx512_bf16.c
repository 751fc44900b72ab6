#include "kernel/avx512/vec.h"

#include "kernel/avx512_bf16/attention_dot_bwd.h"
