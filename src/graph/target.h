/* What a pass may ask of a backend: which kernel, which layout, how much workspace.
 *
 * The graph layer plans for a target and never includes a backend.  Nothing here assumes that a
 * buffer's memory can be read by the host. */
#ifndef MZI_GRAPH_TARGET_H
#define MZI_GRAPH_TARGET_H

#include "kernel/families.h"
#include "mezzo/number.h"

struct mzi_call;
typedef struct mzi_target mzi_target;

/* The kernel that a backend will use for a call. */
typedef struct mzi_choice {
    const char *kernel;       /* "conv.dnnl"; lives as long as the backend                     */
    const char *fallback;     /* why it does not compute in the call's type; null if it does   */
    uint64_t worker_bytes;    /* workspace of each worker                                      */
    int64_t rows, grain;      /* of its loop; 0: the call's own                                */
    mzk_matmul_params matmul; /* of that family, with the tiles that the loop counts      */
    void *prepared;           /* the backend's own; given back through `release`               */
} mzi_choice;

/* The form in which a call wants to read an operand that seldom changes. */
typedef struct mzi_layout {
    uint64_t id; /* 0: row-major will do */
    uint64_t bytes;
} mzi_layout;

struct mzi_target {
    const char *name;
    bool has_f64;
    const char *no_bf16; /* why its BF16 products are no faster than FP32's; null: they are */
    const char *(*versions)(const mzi_target *target); /* libraries, for the execution hash */
    mezzo_status (*choose)(mzi_target *target, const struct mzi_call *call, mzi_choice *out);
    /* Will the kernel of this product, an MZK_matmul, also give figures of the tiles that
     * mzk_matmul_cut makes?  Null: never. */
    bool (*gives_stats)(const mzi_target *target, const struct mzi_call *call);
    void (*release)(mzi_target *target, mzi_choice *choice); /* a zeroed one is allowed */
    mezzo_status (*layout)(mzi_target *target, const struct mzi_call *call, int operand,
                           mzi_layout *out);
};

#endif
