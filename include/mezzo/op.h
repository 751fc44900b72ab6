/* What an operation is: one constant struct.  The built-in ones are such constants in
 * src/graph/ops/, and yours is the same struct, used with mezzo_apply. */
#ifndef MEZZO_OP_H
#define MEZZO_OP_H

#include "mezzo/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MEZZO_OP_IN_MAX = 8,
    MEZZO_OP_OUT_MAX = 6,
    MEZZO_OP_INT_MAX = 12,
    MEZZO_OP_REAL_MAX = 8
};

/* What autocast does with an operation; the reasons are in docs/numerics.md. */
typedef enum mezzo_cast_class {
    MEZZO_CAST_LOW,    /* computes in the low type: GEMM, convolution, embedding               */
    MEZZO_CAST_FOLLOW, /* computes in the narrowest type among its inputs: elementwise, pooling */
    MEZZO_CAST_REDUCE, /* takes and gives the low type, accumulates in FP32: norms, losses, sums */
    MEZZO_CAST_FULL /* computes in FP32                                                         */
} mezzo_cast_class;

typedef struct mezzo_tensor {
    mezzo_dtype dtype;
    mezzo_shape shape;
} mezzo_tensor;

/* Constants of one use of an operation; what each slot means is the operation's own matter. */
typedef struct mezzo_attrs {
    int64_t i[MEZZO_OP_INT_MAX];
    double f[MEZZO_OP_REAL_MAX];
} mezzo_attrs;

/* One use of an operation, as its functions see it. */
typedef struct mezzo_op_use {
    mezzo_ctx *ctx;
    const char *name; /* "conv1" or "conv1/dw" */
    const mezzo_attrs *attrs;
    int in_count;
    const mezzo_tensor *in;
    mezzo_tensor *out; /* infer fills this in; const afterwards */
} mezzo_op_use;

/* Building the gradient: `dout[k]` is the gradient of out[k], null if nothing depends on it.  Set
 * `din[k]` for each input that `wanted[k]` asks for. */
typedef struct mezzo_op_gradient {
    mezzo_graph *graph;
    const char *name;
    const mezzo_attrs *attrs;
    int in_count;
    const mezzo_value *in, *out, *dout;
    const bool *wanted;
    mezzo_value *din;
} mezzo_op_gradient;

/* Operands of a function of yours, on host memory: every type and shape as planned. */
typedef struct mezzo_op_operands {
    const mezzo_attrs *attrs;
    const mezzo_tensor *in_tensor, *out_tensor;
    const void *const *in;
    void *const *out;
} mezzo_op_operands;

/* What the elements of a tensor are expected to be before the first step, over the draw of the
 * initial weights: root mean square, and magnitude of the mean, at most that.  NaN: not known, and
 * what is computed from it is not either.  All 0 for an input that is left out. */
typedef struct mezzo_range {
    double rms, mean;
} mezzo_range;

/* A shape to try the operation on: gradient tests and benchmarks run every one.  Rank -1: an
 * optional input is left out. */
typedef struct mezzo_op_case {
    mezzo_shape in[MEZZO_OP_IN_MAX];
    mezzo_attrs attrs;
} mezzo_op_case;

#define MEZZO_BIT(k) (1u << (k))

struct mzi_lowering;

/* Omitted fields have a safe meaning: zero. */
typedef struct mezzo_op_def {
    const char *name; /* "max_pool" */
    const char *help; /* one line: the formula */
    const char *ints; /* names of attrs.i and attrs.f, separated by blanks: "kernel stride pad" */
    const char *reals;
    /* What each of `reals` is for, so that lint can tell what a type cannot hold: a word for each,
     *
     *   epsilon       is added to what is 0 or more, which then divides
     *   root_epsilon  likewise, to the root of a mean square that is kept in FP32
     *   factor        multiplies in[0]
     *   rate          stands for the factor 1 / (1 - rate)
     *   mask          is added to an element, or takes its place, to shut it out
     *   divisor       divides in[0]
     *   -             is none of these
     *
     * with ":f32" behind it if that is done in FP32 and only the result rounded to the operation's
     * type; otherwise the constant itself is in that type.  Null: nothing. */
    const char *real_roles;
    int in_min, in_max, out_count;
    mezzo_cast_class cast;
    /* Operands outside the operation's own type: always FP32 (statistics, scalars, parameters of a
     * norm), or integers. */
    uint32_t in_f32, out_f32; /* bit k: operand k */
    uint32_t in_int;
    /* Of in_f32: in[k] may be a parameter in whatever form its master has; `lower` then finds BF16
     * there, and the lower halves of a split one by mzi_in_low. */
    uint32_t in_master;
    /* Of out_f32: where out[k] is a parameter's gradient it may be BF16 (mezzo_precision), for it
     * is rounded once, when it is stored. */
    uint32_t out_gradient;
    uint32_t types;   /* MEZZO_BIT(dtype) of each storage type that it can take; 0: every float   */
    uint32_t inplace; /* bit k: out[0] may take the place of in[k]                                */
    uint32_t constant_in; /* bit k: no gradient flows to in[k]: a label, a key, a statistic       */
    int version;    /* raised when the numbers change; part of the numerics hash                */
    bool nan_stops; /* NaN contract: false, every NaN of an input reaches an output it feeds    */
    bool view;      /* the output is the input's memory under another shape                     */
    bool not_differentiable; /* a backward operation, or one without a gradient */
    mezzo_status (*infer)(const mezzo_op_use *use);
    mezzo_status (*gradient)(const mezzo_op_gradient *use);
    mezzo_status (*lower)(const mezzo_op_use *use, struct mzi_lowering *lowering); /* to kernels */
    /* Or a plain function over rows [begin, end) of out[0]'s first axis, run by the worker team in
     * chunks of `grain` rows (0: all at once).  Used when `lower` is null. */
    void (*run)(const mezzo_op_operands *operands, int64_t begin, int64_t end);
    int64_t grain;
    double (*flops)(const mezzo_op_use *use); /* null: one for each output element */
    /* out[0] from the inputs; an integer input is not known.  Null: out[0] is not known. */
    mezzo_range (*range)(const mezzo_op_use *use, const mezzo_range *in);
    const mezzo_op_case *cases;
    int case_count;
} mezzo_op_def;

/* Use `op` (static storage, or alive as long as the graph) on `in`; `name` may be null.  Gives
 * out[0]; further outputs through `more[0..out_count-2]` if that is not null. */
MEZZO_API mezzo_value mezzo_apply(mezzo_graph *graph, const mezzo_op_def *op, const char *name,
                                  const mezzo_value *in, int in_count, const mezzo_attrs *attrs,
                                  mezzo_value *more);

/* The built-in operations, in no lasting order; null past the end. */
MEZZO_API const mezzo_op_def *mezzo_op_at(int index);

/* Record an error from `infer` or `gradient` with the operation's name in front; returns `status`.
 */
MEZZO_API mezzo_status mezzo_op_fail(const mezzo_op_use *use, mezzo_status status,
                                     const char *format, ...) MEZZO_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
#endif
