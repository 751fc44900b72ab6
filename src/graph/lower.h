/* From operations to kernel calls: what an operation's `lower` writes and a backend runs. */
#ifndef MZI_GRAPH_LOWER_H
#define MZI_GRAPH_LOWER_H

#include "graph/graph.h"
#include "graph/target.h"
#include "kernel/families.h"

/* An operand of a call: a value of the graph with its storage type, from element `offset` on; value
 * 0 is an absent one. */
typedef struct mzi_operand {
    int32_t value;
    mezzo_dtype dtype;
    uint64_t layout;
    int64_t offset;
    int input; /* of the node, counted from 1; 0: an output, a workspace */
} mzi_operand;

/* One loop of a kernel over `rows`, in chunks of `grain` that depend on the shape alone. */
typedef struct mzi_call {
    mzk_family family;
    int32_t node;
    mzi_operand out[MZK_OUT_MAX], in[MZK_IN_MAX];
    mzk_params p;
    int64_t rows, grain;
    bool is_meter;                     /* of such a node */
    const struct mzi_call *packed_for; /* family pack: the call that will read the result */
    mzi_choice choice;                 /* the backend's answer */
} mzi_call;

typedef struct mzi_lowering {
    mezzo_graph *graph;
    int32_t node;
    mzi_call *calls;
    int32_t call_count, call_capacity;
    mezzo_status status; /* out of memory sticks */
    mzi_call spare[1];   /* where operands go then */
} mzi_lowering;

/* Elements of a chunk of an elementwise loop: 32768 FP32 values are 128 KB, which stay in a 1 MB L2
 * beside two other operands, and take about 10 us: enough to hide the cost of claiming a chunk. */
enum {
    MZI_GRAIN = 32768
};
/* Rows of a chunk when a row has `columns` elements. */
int64_t mzi_grain_rows(int64_t columns);
/* Rows of a chunk of a GEMM of `rows` rows; images of a chunk of a convolution. */
int64_t mzi_grain_matmul(int64_t rows);
int64_t mzi_grain_images(int64_t images);
/* Number of chunks. */
int64_t mzi_chunks(int64_t rows, int64_t grain);

/* A call with no operands yet; never null (a spare one is given when memory is exhausted).  Valid
 * until the next one is emitted. */
mzi_call *mzi_emit(mzi_lowering *lowering, mzk_family family, int64_t rows, int64_t grain);
/* Operand k of the node, as input or output of a call; absent optional inputs become absent
 * operands. */
mzi_operand mzi_in(const mzi_lowering *lowering, int k);
mzi_operand mzi_out(const mzi_lowering *lowering, int k);
/* The lower halves of operand k of the node; absent unless it is a split master. */
mzi_operand mzi_in_low(const mzi_lowering *lowering, int k);
/* The operand from `elements` further on. */
mzi_operand mzi_from(mzi_operand operand, int64_t elements);
/* Workspace of the node, `count` elements.  F32 becomes F64 in a graph of F64. */
mzi_operand mzi_scratch(mzi_lowering *lowering, mezzo_dtype dtype, int64_t count);
/* One call over the elements of out[0], with every operand of the node in order. */
mzi_call *mzi_emit_elementwise(mzi_lowering *lowering, mzk_family family);
/* out = alpha (sum of `parts` slots of n elements of `part`). */
void mzi_emit_sum_parts(mzi_lowering *lowering, mzi_operand out, mzi_operand part, int64_t parts,
                        int64_t n, float alpha);

/* Lower one node at the end of `lowering`. */
mezzo_status mzi_lower_node(mzi_lowering *lowering, int32_t node);
void mzi_lowering_deinit(mzi_lowering *lowering);

#endif
