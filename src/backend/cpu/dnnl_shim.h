/* Inside the shim: the parts that dnnl_*.c share.  Written for oneDNN 2.6's operation descriptors;
 * a 3.x goes into dnnl_primitive.c alone. */
#ifndef MZI_BACKEND_CPU_DNNL_SHIM_H
#define MZI_BACKEND_CPU_DNNL_SHIM_H

#include <dnnl.h>

#include "backend/cpu/dnnl.h"

struct mzi_dnnl {
    mezzo_ctx *ctx;
    dnnl_engine_t engine;
    int workers;
    bool has_bf16;       /* native: otherwise BF16 is converted */
    bool sums_in_blocks; /* FP32 convolutions in oneDNN's layout nChw16c: with AVX-512 */
    mzk_fn *cast;
    _Atomic int failure; /* a dnnl_status_t from inside a chunk */
};

/* Record a oneDNN failure. */
mezzo_status mzi_dnnl_fail(mzi_dnnl *dnnl, dnnl_status_t status, const char *what);
#define MZI_DNNL_TRY(dnnl, expression)                                                             \
    do {                                                                                           \
        dnnl_status_t mzi_dnnl_status = (expression);                                              \
        if (mzi_dnnl_status != dnnl_success)                                                       \
            return mzi_dnnl_fail((dnnl), mzi_dnnl_status, #expression);                            \
    } while (0)

/* Run with one OpenMP thread on this thread; returns the number to restore. */
int mzi_dnnl_enter(void);
void mzi_dnnl_leave(int threads);

/* One tensor of a primitive, as a chunk of `rows` rows sees it. */
typedef struct mzi_port {
    int arg;     /* DNNL_ARG_SRC ...; 0: absent */
    int operand; /* index in args->in or args->out */
    bool is_out;
    mezzo_dtype dtype;    /* of the operand */
    bool convert;         /* through FP32 in the worker's workspace */
    bool packed;          /* in the primitive's own layout */
    bool blocked;         /* brought into blocks of channels in the worker's workspace, and back */
    int64_t row_elements; /* elements from a row of the domain to the next; 0: the whole operand */
    /* A chunk is `blocks` runs of `run_row` x rows elements, `pitch` apart (1 run unless
     * transposed). */
    int64_t blocks, run_row, pitch;
    int64_t whole_elements; /* of the operand when row_elements is 0 */
} mzi_port;

enum {
    MZI_PORT_MAX = 4
};

/* A primitive for chunks of exactly `rows` rows. */
typedef struct mzi_primitive {
    int64_t rows;
    dnnl_primitive_t handle;
    dnnl_memory_desc_t md[MZI_PORT_MAX]; /* by port */
    dnnl_memory_desc_t scratchpad;
    /* Of blocked ports: the operand as it is, and the way between the two. */
    dnnl_memory_desc_t plain[MZI_PORT_MAX];
    dnnl_primitive_t reorder[MZI_PORT_MAX];
} mzi_primitive;

/* A reorder between two layouts. */
mezzo_status mzi_dnnl_make_reorder(mzi_dnnl *dnnl, const dnnl_memory_desc_t *from,
                                   const dnnl_memory_desc_t *to, dnnl_primitive_t *out);
/* The tensors of a call. */
int mzi_dnnl_ports(const mzi_dnnl *dnnl, const mzi_call *call, mzi_port ports[MZI_PORT_MAX]);
/* `weights`: a layout for the packed port, or null to let oneDNN choose. */
mezzo_status mzi_dnnl_make(mzi_dnnl *dnnl, const mzi_call *call, const mzi_port *ports, int count,
                           int64_t rows, const dnnl_memory_desc_t *weights, mzi_primitive *out);
void mzi_dnnl_unmake(mzi_primitive *primitive);
/* The row-major descriptor of the weights of a call, in `dtype`. */
mezzo_status mzi_dnnl_plain_weights(mzi_dnnl *dnnl, const mzi_call *call, dnnl_data_type_t dtype,
                                    dnnl_memory_desc_t *out);

#endif
