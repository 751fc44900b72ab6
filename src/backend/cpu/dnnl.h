/* oneDNN behind one shim: GEMM and convolution on a chunk, by one thread.
 *
 * Each worker runs single-threaded primitives on chunks that we cut, with workspace, stream and
 * memory objects of its own.  Weights are packed beforehand into the layout that the primitive
 * asks for.  Types without native instructions are converted to FP32 around an FP32 primitive. */
#ifndef MZI_BACKEND_CPU_DNNL_H
#define MZI_BACKEND_CPU_DNNL_H

#include "graph/lower.h"

typedef struct mzi_dnnl mzi_dnnl;
typedef struct mzi_dnnl_call mzi_dnnl_call;

/* "2.6.3"; "none" in a build without oneDNN. */
const char *mzi_dnnl_version(void);

/* `*out` is null when oneDNN is not built in or `isa` is below AVX2.  The instruction set that
 * oneDNN may use is set once a process: UNSUPPORTED if it was set higher before. */
mezzo_status mzi_dnnl_create(mzi_dnnl **out, mezzo_ctx *ctx, mezzo_isa isa, int workers);
void mzi_dnnl_destroy(mzi_dnnl *dnnl);

/* BF16 operands are multiplied as they are; else they are converted.  `dnnl` may be null. */
bool mzi_dnnl_has_bf16(const mzi_dnnl *dnnl);
bool mzi_dnnl_takes(mzk_family family);
/* The layout that `call` wants to read operand 1 (the weights) in. */
mezzo_status mzi_dnnl_layout(mzi_dnnl *dnnl, const mzi_call *call, int operand, mzi_layout *out);
/* `choice->prepared` becomes a mzi_dnnl_call; its weights are packed iff in[1].layout is set. */
mezzo_status mzi_dnnl_prepare(mzi_dnnl *dnnl, const mzi_call *call, mzi_choice *choice);
void mzi_dnnl_release(mzi_dnnl_call *prepared);
void mzi_dnnl_run(void *prepared, int worker, const mzk_args *args, void *scratch, int64_t begin,
                  int64_t end);
/* The first failure inside mzi_dnnl_run since the last check. */
mezzo_status mzi_dnnl_check(mzi_dnnl *dnnl);

#endif
