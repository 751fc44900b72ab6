/* Building a network as a static graph.
 *
 * A graph is built once, by a function of yours that is called for each entry point (training,
 * evaluation); mezzo then differentiates it, chooses types, plans memory and kernels, and runs it.
 * Activations of images are channels-last: [B, H, W, C].  Everything is declared in FP32 here:
 * which parts compute in low precision is decided later, by mezzo/precision.h.
 *
 * Errors stick.  A builder call that fails records the error and gives the null value; every call
 * on a null value gives the null value; the call that consumes the graph returns the first error.
 * So a network reads as the formula that it is, without a check on each line. */
#ifndef MEZZO_GRAPH_H
#define MEZZO_GRAPH_H

#include "mezzo/number.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mezzo_graph mezzo_graph;

/* A handle to a tensor of the graph it was made in; {0} is the null value. */
typedef struct mezzo_value {
    int32_t id;
} mezzo_value;

typedef enum mezzo_entry {
    MEZZO_ENTRY_TRAIN, /* forward and backward; dropout on, batch norm by the batch's statistics */
    MEZZO_ENTRY_EVAL,  /* forward; dropout off, batch norm by the running statistics             */
    MEZZO_ENTRY_DECODE /* as EVAL, of one token; attention reads and extends its cache           */
} mezzo_entry;
enum {
    MEZZO_ENTRY_COUNT = 3
};

MEZZO_API mezzo_entry mezzo_graph_entry(const mezzo_graph *graph);
/* Shape {0} with rank -1, type NONE and "" for the null value. */
MEZZO_API mezzo_shape mezzo_value_shape(const mezzo_graph *graph, mezzo_value value);
MEZZO_API mezzo_dtype mezzo_value_dtype(const mezzo_graph *graph, mezzo_value value);

/* Names of what follows get "`name`." in front, until the matching pop. */
MEZZO_API void mezzo_scope_push(mezzo_graph *graph, const char *name);
MEZZO_API void mezzo_scope_pop(mezzo_graph *graph);

/* Data that the caller gives at each run.  `dtype` F32, I32 or U8. */
MEZZO_API mezzo_value mezzo_input(mezzo_graph *graph, const char *name, mezzo_dtype dtype,
                                  mezzo_shape shape);

/* The input "position", I32 [1], of a DECODE graph: how many tokens came before this one, below the
 * context of every attention.  The same value each time; the null value in other entries. */
MEZZO_API mezzo_value mezzo_position(mezzo_graph *graph);

/* How a parameter starts.  Random values are keyed by (seed, name, element), so that adding a
 * parameter changes no other. */
typedef enum mezzo_init_kind {
    MEZZO_INIT_CONSTANT, /* every element is `a`              */
    MEZZO_INIT_UNIFORM,  /* uniform in [-a, a)                */
    MEZZO_INIT_NORMAL    /* normal, mean 0, deviation `a`     */
} mezzo_init_kind;
typedef struct mezzo_init {
    mezzo_init_kind kind;
    float a;
} mezzo_init;

/* A trained tensor: FP32, kept across steps, shared by entry points through its name. */
MEZZO_API mezzo_value mezzo_param(mezzo_graph *graph, const char *name, mezzo_shape shape,
                                  mezzo_init init);

/* Name a result so that it can be read after a run. */
MEZZO_API void mezzo_output(mezzo_graph *graph, const char *name, mezzo_value value);
/* The scalar that training minimises; also an output named "loss".  A step of several micro-batches
 * weighs them by the rows that the last cross-entropy of the graph counted, else equally. */
MEZZO_API void mezzo_loss(mezzo_graph *graph, mezzo_value loss);

/* Record an error that a build function has found; returns the first one's status. */
MEZZO_API mezzo_status mezzo_graph_error(mezzo_graph *graph, mezzo_status status,
                                         const char *format, ...) MEZZO_PRINTF(3, 4);
/* True if an error has been recorded; its message is in the context. */
MEZZO_API bool mezzo_graph_failed(const mezzo_graph *graph);

#ifdef __cplusplus
}
#endif
#endif
