/* The reference device: plain C kernels on one thread, FP64 allowed, memory of its own. */
#ifndef MZI_BACKEND_REF_H
#define MZI_BACKEND_REF_H

#include "backend/backend.h"

mezzo_status mzi_ref_backend_create(mzi_backend **out, mezzo_ctx *ctx);

#endif
