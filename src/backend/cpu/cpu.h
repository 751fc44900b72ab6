/* The CPU: kernels by instruction set, GEMM and convolution by oneDNN where it is there. */
#ifndef MZI_BACKEND_CPU_H
#define MZI_BACKEND_CPU_H

#include "backend/backend.h"

mezzo_status mzi_cpu_backend_create(mzi_backend **out, mezzo_ctx *ctx);

#endif
