/* A model inside: state by name, and for each entry point a plan, its memory and its program. */
#ifndef MZI_TRAIN_MODEL_H
#define MZI_TRAIN_MODEL_H

#include "backend/backend.h"
#include "mezzo/model.h"

typedef struct mzi_state {
    char *name;
    mezzo_state_kind kind;
    mezzo_shape shape;
    mezzo_dtype dtype;   /* of its values: F32; F64 in a model of F64 */
    mezzo_master form;   /* how they are kept (masters.h) */
    char why[64];        /* it is not kept as the model's precision asks */
    mezzo_dtype compute; /* narrowest type that it is read in */
    mzi_buffer buffer;
    mezzo_init init;
    bool
        is_unset; /* the buffer is zeros, and `init` not: before the first use (mzi_model_settle) */
} mzi_state;

/* A low-precision or packed form of a parameter; entry points share it when type and layout agree.
 */
typedef struct mzi_derived {
    int32_t state;
    mezzo_dtype dtype;
    uint64_t layout;
    mzi_buffer buffer;
} mzi_derived;

typedef struct mzi_entry {
    mzi_plan *plan; /* null: not planned yet */
    mzi_program *program;
    mzi_buffer arena;
    mzi_buffer *own; /* by value; borrowed from state and derived */
    uint64_t prepared_version;
} mzi_entry;

struct mezzo_model {
    mezzo_ctx *ctx;
    mezzo_build_fn *build;
    void *user;
    mezzo_precision precision;
    mezzo_override *overrides; /* owned */
    int override_capacity;
    mezzo_segment *segments; /* owned; precision.segments is this */
    int segment_capacity;
    mezzo_slow_layer *slow; /* owned; precision.slow is this */
    int slow_capacity;
    char **recompute; /* owned */
    int recompute_count;
    int recompute_chosen; /* the first ones: by train/fit.c */
    bool no_fuse;
    uint64_t seed;
    mzi_backend *backend;
    mzi_state *states;
    int32_t state_count, state_capacity;
    int32_t unset_count; /* states that are unset */
    mzi_derived *derived;
    int32_t derived_count, derived_capacity;
    mzi_entry entries[MEZZO_ENTRY_COUNT];
    uint64_t version; /* raised whenever a parameter changes; starts at 1 */
};

/* Build, differentiate (TRAIN), choose types; the state that the graph names exists afterwards. */
mezzo_status mzi_model_graph(mezzo_model *model, mezzo_entry entry, mezzo_graph **out);
/* Plan the graph, give it memory and bind it; takes the graph over.  Replaces the entry's plan. */
mezzo_status mzi_model_install(mezzo_model *model, mezzo_entry entry, mezzo_graph *graph,
                               const char *recipe);
/* Forget every plan, and the derived weights. */
void mzi_model_drop_plans(mezzo_model *model);
/* Plan the entry if it is not. */
mezzo_status mzi_model_ensure(mezzo_model *model, mezzo_entry entry);
/* Upload part `part` of `parts` of a caller's inputs, which lie one behind the other; every input
 * of the graph must come once, but for mezzo's own. */
mezzo_status mzi_model_bind(mezzo_model *model, mezzo_entry entry, const mezzo_binding *inputs,
                            int count, int64_t part, int64_t parts);
mezzo_status mzi_model_upload(mezzo_model *model, mezzo_entry entry, int32_t value,
                              const void *data, uint64_t bytes);
mezzo_status mzi_model_download(mezzo_model *model, mezzo_entry entry, int32_t value, void *data,
                                uint64_t bytes);
/* Make the derived weights again if parameters changed, then run the phases first..last; meters
 * only if `meters`. */
mezzo_status mzi_model_run(mezzo_model *model, mezzo_entry entry, mzi_phase first, mzi_phase last,
                           bool meters);

/* Copy the segments of backward in place of those that are there (segments.c). */
mezzo_status mzi_model_set_segments(mezzo_model *model, const mezzo_segment *segments, int count);
void mzi_model_free_segments(mezzo_model *model);

/* Likewise the layers that the speed gate holds in FP32 (speed_gate.c). */
mezzo_status mzi_model_set_slow(mezzo_model *model, const mezzo_slow_layer *slow, int count);
void mzi_model_free_slow(mezzo_model *model);

/* State for every PARAM and STATE value of the graph (model_state.c). */
mezzo_status mzi_model_register(mezzo_model *model, const mezzo_graph *graph);
int32_t mzi_model_find(const mezzo_model *model, const char *name);
/* Give states that nobody has written their initial values.  Whatever reads state calls it: weights
 * that are loaded are then written once, and drawn never. */
mezzo_status mzi_model_settle(mezzo_model *model);
/* Elements [first, first + count) of an FP32 tensor, from where `user` says. */
typedef void mzi_part_fn(const void *user, int64_t first, int64_t count, float *out);
/* Write a whole FP32 tensor by the team, which calls `read` on all its threads. */
mezzo_status mzi_model_fill(mezzo_model *model, int32_t index, mzi_part_fn *read, const void *user);
/* Elements [first, first + count) of an FP32 tensor. */
mezzo_status mzi_model_read_part(mezzo_model *model, int32_t index, int64_t first, int64_t count,
                                 float *out);
/* A buffer for every value that has one of its own. */
mezzo_status mzi_model_own(mezzo_model *model, const mzi_plan *plan, mzi_buffer *own);
uint64_t mzi_model_state_bytes(const mezzo_model *model);
uint64_t mzi_model_weight_bytes(const mezzo_model *model);

#endif
