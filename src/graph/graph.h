/* The graph as passes see it: values (tensors) in single assignment, made by nodes in an order in
 * which every value comes before its uses. */
#ifndef MZI_GRAPH_GRAPH_H
#define MZI_GRAPH_GRAPH_H

#include "base/arena.h"
#include "mezzo/op.h"
#include "mezzo/precision.h"

typedef enum mzi_value_kind {
    MZI_VALUE_TEMP,  /* made by a node, gone after its last use                                  */
    MZI_VALUE_INPUT, /* given at each run                                                        */
    MZI_VALUE_PARAM, /* state: trained                                                           */
    MZI_VALUE_STATE, /* state: statistics, moments                                               */
    MZI_VALUE_DERIVED, /* low-precision or packed form of a parameter, kept until that changes */
    MZI_VALUE_SCRATCH, /* a node's own workspace */
    MZI_VALUE_KEPT,    /* carried from one run of a window of micro-batches to the next */
    MZI_VALUE_GONE     /* a pass took it out: no node names it */
} mzi_value_kind;

typedef enum mzi_phase {
    MZI_PHASE_PREPARE, /* depends on parameters alone: once after each update */
    MZI_PHASE_FORWARD,
    MZI_PHASE_BACKWARD,
    MZI_PHASE_CHECK, /* norms: once for all micro-batches of a step */
    MZI_PHASE_UPDATE /* writes state: only in a step that commits */
} mzi_phase;
const char *mzi_phase_name(mzi_phase phase);

/* Why a node computes in its type. */
typedef enum mzi_rule {
    MZI_RULE_FULL,     /* the policy is FP32, or the operation's class is   */
    MZI_RULE_LOW,      /* class low: GEMM and convolution                   */
    MZI_RULE_FOLLOW,   /* class follow: the narrowest of its inputs         */
    MZI_RULE_REDUCE,   /* class reduce: low storage, FP32 accumulation      */
    MZI_RULE_OVERRIDE, /* an override of the configuration matches its name */
    MZI_RULE_CONTRACT, /* the operation does not take the type of its class */
    MZI_RULE_CAST,     /* a conversion that another node needs              */
    MZI_RULE_LAYOUT,   /* a rearrangement that a kernel asks for            */
    MZI_RULE_SEGMENT,  /* a factor between two segments of backward         */
    MZI_RULE_SPEED,    /* class low, but slower there: the speed gate       */
    MZI_RULE_FUSE      /* several operations in one; types are those of them */
} mzi_rule;
const char *mzi_rule_name(mzi_rule rule);

struct mzi_call;

typedef struct mzi_value {
    const char *name; /* inputs and state; else that of the node, with an output number */
    mzi_value_kind kind;
    mezzo_tensor tensor;
    int32_t producer;                  /* node, or -1 */
    mezzo_init init;                   /* of state */
    int64_t int_from, int_below;       /* INPUT of integers: from <= value < below; 0, 0: any */
    bool is_cache;                     /* STATE that a decode entry's forward writes */
    bool is_split;                     /* PARAM, BF16: its lower halves follow (num/split.h) */
    bool is_output;                    /* read after the run: its memory is not used again */
    int32_t source;                    /* DERIVED: the state value that it is a form of */
    uint64_t layout;                   /* 0: row-major; else known to the backend only */
    uint64_t bytes;                    /* storage: count x type, or what the layout takes */
    const struct mzi_call *packed_for; /* the call whose operand a packed value is */
} mzi_value;

typedef struct mzi_node {
    const mezzo_op_def *op;
    const char *name;
    mezzo_attrs attrs;
    int in_count, out_count;
    int32_t in[MEZZO_OP_IN_MAX], out[MEZZO_OP_OUT_MAX]; /* 0: none */
    mzi_phase phase;
    mezzo_dtype compute; /* type of its data operands; sums accumulate in FP32 or wider */
    mzi_rule rule;
    const char *reason;
    bool is_meter;    /* only observes: runs may leave it out, and no number depends on it */
    int32_t override; /* of rule OVERRIDE: which of precision.overrides, counted from 1 */
    /* A node that passes/fuse.c made of one of forward and one of backward: the name of the latter,
     * and how many of the outputs are those of the former, which depend on no gradient. */
    const char *backward_name;
    int forward_outs;
} mzi_node;

typedef struct mzi_output {
    const char *name;
    int32_t value;
} mzi_output;

/* A parameter and its gradient after differentiation. */
typedef struct mzi_grad {
    int32_t param, grad;
    int32_t exponent; /* `grad` holds 2^exponent too much, besides the loss scale */
} mzi_grad;

/* A statistic and the value that it takes when the step commits. */
typedef struct mzi_commit {
    int32_t state, next;
} mzi_commit;

enum {
    MZI_SCOPE_MAX = 16
};

struct mezzo_graph {
    mezzo_ctx *ctx;
    mzi_arena arena;
    mezzo_entry entry;
    mezzo_status status; /* the first error */
    mzi_value *values;   /* [0] is the null value */
    int32_t value_count, value_capacity;
    mzi_node *nodes;
    int32_t node_count, node_capacity;
    mzi_output *outputs;
    int32_t output_count, output_capacity;
    mzi_grad *grads;
    int32_t grad_count, grad_capacity;
    mzi_commit *commits;
    int32_t commit_count, commit_capacity;
    mezzo_finding *findings; /* of the last mzi_pass_lint */
    int32_t finding_count, finding_capacity;
    const char *scopes[MZI_SCOPE_MAX];
    int scope_count;
    mzi_phase phase;       /* of the nodes now added */
    const char *origin;    /* names them after the forward phase: ORIGIN/NAME */
    int32_t loss;          /* value ids; 0: none */
    float label_smoothing; /* of the cross-entropies to come */
    int32_t loss_rows;     /* F32 scalar: the rows that the loss is a mean over */
    int32_t loss_scale;    /* input, F32 scalar: the seed of backward */
    int32_t position;      /* input, I32 [1]: tokens before this one; DECODE only */
    int32_t slow_count;    /* nodes that the speed gate keeps in FP32 */
    bool metered;          /* its plan gets meters (passes/meters.c) */
    int32_t rng; /* input, I32 [4]: seed, step, sample offset; made by the first dropout */
};

mezzo_status mzi_graph_create(mezzo_graph **out, mezzo_ctx *ctx, mezzo_entry entry);
void mzi_graph_destroy(mezzo_graph *graph);

/* Record the first error; returns the null value. */
mezzo_value mzi_graph_fail(mezzo_graph *graph, mezzo_status status, const char *format, ...)
    MEZZO_PRINTF(3, 4);
/* A value without a producer; 0 if memory is exhausted. */
int32_t mzi_graph_add_value(mezzo_graph *graph, const char *name, mzi_value_kind kind,
                            mezzo_tensor tensor);
/* State of `kind` PARAM or STATE; the same value if the name is there with the same shape. */
mezzo_value mzi_graph_state(mezzo_graph *graph, const char *name, mzi_value_kind kind,
                            mezzo_shape shape, mezzo_init init);
/* Zeroed STATE that forward writes.  It is not saved, nor part of what a model has learnt. */
mezzo_value mzi_graph_cache(mezzo_graph *graph, const char *name, mezzo_shape shape);
/* mezzo_position, whose values stay below `context` too. */
mezzo_value mzi_graph_position(mezzo_graph *graph, int64_t context);
void mzi_graph_add_commit(mezzo_graph *graph, mezzo_value state, mezzo_value next);
/* An input's integers must be of [from, below), and of the ranges given before; false if `value` is
 * no input. */
bool mzi_graph_limit_input(mezzo_graph *graph, mezzo_value value, int64_t from, int64_t below);
/* The input that carries (seed, step, sample offset), made at the first call. */
mezzo_value mzi_graph_rng(mezzo_graph *graph);
/* "block1.fc1.weight" from scope, layer and part, in the graph's arena; `part` may be null. */
const char *mzi_graph_name(mezzo_graph *graph, const char *name, const char *part);

/* Append reverse mode: gradients of the loss, times the input `loss_scale`, for every parameter. */
mezzo_status mzi_differentiate(mezzo_graph *graph);

/* The nodes of `graph` as uses, for the functions of an operation.  The arrays live in `view`. */
typedef struct mzi_use {
    mezzo_op_use use;
    mezzo_tensor in[MEZZO_OP_IN_MAX], out[MEZZO_OP_OUT_MAX];
} mzi_use;
void mzi_node_use(const mezzo_graph *graph, const mzi_node *node, mzi_use *view);
double mzi_node_flops(const mezzo_graph *graph, const mzi_node *node);

/* Built-in operations by ops.def. */
#define OP(name) extern const mezzo_op_def mzi_op_##name;
#include "graph/ops.def"
#undef OP

#endif
