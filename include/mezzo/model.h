/* A model: one state (parameters, statistics), and a plan for each entry point that runs on it. */
#ifndef MEZZO_MODEL_H
#define MEZZO_MODEL_H

#include "mezzo/graph.h"
#include "mezzo/precision.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mezzo_model mezzo_model;

/* Builds the graph of an entry point (mezzo_graph_entry tells which).  May be called more than once
 * for each, and makes the same graph every time. */
typedef mezzo_status mezzo_build_fn(mezzo_graph *graph, void *user);

typedef struct mezzo_model_config {
    mezzo_build_fn *build;
    void *user;         /* handed to `build`; must outlive the model                        */
    const char *device; /* "cpu" (also if null), or "ref": plain C, slow, the specification  */
    mezzo_precision precision; /* copied */
    uint64_t seed;             /* of initial values and dropout                              */
    /* Forward operations that backward makes again instead of keeping their results: patterns of
     * names; the last match wins, and one behind `!` keeps.  Bits do not change.  Copied. */
    const char *const *recompute;
    int recompute_count;
    bool no_fuse; /* every operation by itself: the plain path that fused ones are compared with */
} mezzo_model_config;

/* Builds the graph of `entry` too, so that a model that cannot be built fails here, and its tensors
 * are there.  `*out` is the caller's. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_create(mezzo_model **out, mezzo_ctx *ctx,
                                                           const mezzo_model_config *config,
                                                           mezzo_entry entry);
MEZZO_API void mezzo_model_destroy(mezzo_model *model);

/* A named input of an entry point, on host memory, in the input's type and shape. */
typedef struct mezzo_binding {
    const char *name;
    const void *data;
    size_t bytes;
} mezzo_binding;

/* Run the forward graph of EVAL.  Plans the entry at its first use.  State is not changed. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_evaluate(mezzo_model *model,
                                                             const mezzo_binding *inputs,
                                                             int count);
/* Run the forward graph of DECODE: the next token of each sequence.  `inputs` has "position" too,
 * I32 [1], if the graph uses it (mezzo_position); positions of one sequence go up from 0 by one,
 * and what the caches hold beyond the position is not read, so a new sequence starts at 0 again. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_decode(mezzo_model *model,
                                                           const mezzo_binding *inputs, int count);
/* Copy a named output of the entry's last run to `out[count]`, as FP32.  INVALID_ARGUMENT if there
 * is none of this name or `count` is not its size. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_output(mezzo_model *model, mezzo_entry entry,
                                                           const char *name, float *out,
                                                           int64_t count);

typedef enum mezzo_state_kind {
    MEZZO_STATE_PARAM,     /* trained: the master                   */
    MEZZO_STATE_STATISTIC, /* written by forward (running averages)   */
    MEZZO_STATE_MOMENT,    /* of an optimizer: "optimizer/PARAM.m"   */
    MEZZO_STATE_CACHE,     /* of decoding; neither saved nor hashed  */
    MEZZO_STATE_AVERAGE    /* of a parameter: "ema/PARAM"            */
} mezzo_state_kind;
typedef struct mezzo_state_info {
    const char *name; /* valid as long as the model */
    mezzo_state_kind kind;
    mezzo_shape shape;
    mezzo_dtype compute; /* the type that operations read a parameter in: the narrowest use */
    mezzo_master master; /* how it is kept; of moments too: F32 or BF16 */
    const char *why; /* a parameter kept in F32 though the model asks for another form; else "" */
    uint64_t bytes;  /* of memory */
} mezzo_state_info;

MEZZO_API int mezzo_model_state_count(const mezzo_model *model);
/* `index` in 0..count - 1, in the order in which the graph made them. */
MEZZO_API mezzo_state_info mezzo_model_state_at(const mezzo_model *model, int index);
/* -1 if there is no tensor of that name. */
MEZZO_API int mezzo_model_state_find(const mezzo_model *model, const char *name);
/* Copy a tensor out or in as FP32; `count` must be its number of elements. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_read(mezzo_model *model, int index, float *out,
                                                         int64_t count);
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_write(mezzo_model *model, int index,
                                                          const float *in, int64_t count);

/* Choose the segments of mezzo_precision anew, before the training graph is planned (a trainer
 * plans it).  One batch, the inputs of a micro-batch, goes forward and backward in FP32 with the
 * weights as they are; where the maxima of what will be stored in FP16 do not fit one scale,
 * backward is cut into as few segments as docs/numerics.md ("Segments") says; where they do, there
 * are none afterwards.  `loss_scale` is the one to expect.  Takes the memory of a second model in
 * FP32 meanwhile.  NUMERICS if a gradient is not finite in FP32; UNSUPPORTED if an operation of
 * backward is not known to be linear in its gradient. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_choose_segments(mezzo_model *model,
                                                                    const mezzo_binding *inputs,
                                                                    int count, double loss_scale);
MEZZO_API int mezzo_model_segment_count(const mezzo_model *model);
/* `index` in 0..count - 1; its text lives until the segments are chosen anew. */
MEZZO_API mezzo_segment mezzo_model_segment_at(const mezzo_model *model, int index);

/* With MEZZO_SPEED_GATE_AUTO and BF16 on a device that has BF16 products: time layers (linear and
 * conv2d of 1 MFLOP to 256 MFLOP forward, each shape once) in BF16 and in FP32, and hold those in
 * FP32 that take longer in BF16, by the rule in docs/numerics.md ("Speed gate").  Replaces
 * mezzo_precision.slow.  It asks a clock: call it before the training graph is planned (a trainer
 * plans it), and keep what it chose with the state.  Nothing happens otherwise. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_measure_speed(mezzo_model *model);
MEZZO_API int mezzo_model_slow_count(const mezzo_model *model);
/* `index` in 0..count - 1; its text lives until they are measured anew. */
MEZZO_API mezzo_slow_layer mezzo_model_slow_at(const mezzo_model *model, int index);

/* The plan of an entry point in figures; planned at its first use. */
typedef struct mezzo_plan_info {
    int op_count, cast_count, call_count, fallback_count;
    int meter_count; /* tensors that meters look at; their nodes and calls are not counted above */
    int finding_count;         /* of lint, whatever precision.lint says                        */
    uint64_t state_bytes;      /* parameters, statistics; moments, averages and caches once
                                * they are there */
    uint64_t weight_bytes;     /* low-precision and packed copies of parameters                */
    uint64_t copy_bytes;       /* of those, the ones that are not packed                       */
    uint64_t activation_bytes; /* the plan's memory: activations and gradients                 */
    uint64_t gradient_bytes;   /* of that, what an update reads: gradients, or a window's sums */
    uint64_t scratch_bytes;    /* workspaces of kernels, all workers                           */
    double flops;              /* of one run                                                   */
    char numerics_hash[65];    /* graph, types, accumulation, scaling, versions of operations  */
    char execution_hash[65];   /* kernels, offsets, library versions                           */
} mezzo_plan_info;
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_plan_info(mezzo_model *model, mezzo_entry entry,
                                                              mezzo_plan_info *out);

/* One operation of a plan, for reports.  Texts live as long as the model. */
enum {
    MEZZO_PLAN_IN_MAX = 8
};
typedef struct mezzo_plan_op {
    const char *name, *op;
    const char *phase;    /* "prepare" (once a step), "forward", "backward"  */
    mezzo_dtype compute;  /* type of its data operands                       */
    const char *rule;     /* id of the rule that chose it: "low", "follow"...*/
    const char *reason;   /* the rule in words, with names                   */
    const char *source;   /* where the rule is written: "class low of the operation" */
    int override;         /* index in precision.overrides, or -1             */
    const char *kernel;   /* "conv.dnnl", "relu.avx512"                      */
    const char *fallback; /* why it does not compute as asked; null if it does */
    uint64_t out_bytes;
    uint64_t bytes; /* of what it reads and writes, each once */
    double flops;
    double seconds; /* that it has taken, in all runs so far */
    bool is_cast;
    mezzo_dtype cast_from, cast_to;
    mezzo_shape shape; /* of the first output */
    int in_count;
    /* Of its operands; one that is left out has rank -1. */
    mezzo_shape in[MEZZO_PLAN_IN_MAX];
} mezzo_plan_op;
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_plan_op(mezzo_model *model, mezzo_entry entry,
                                                            int index, mezzo_plan_op *out);
/* What lint found in the entry's graph, by index; texts live as long as the plan. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_model_finding(mezzo_model *model, mezzo_entry entry,
                                                            int index, mezzo_finding *out);

#ifdef __cplusplus
}
#endif
#endif
