/* The plan of one entry point: the calls in order, and where every value lies. */
#ifndef MZI_GRAPH_PLAN_H
#define MZI_GRAPH_PLAN_H

#include "graph/lower.h"

/* Where a value lies: at `offset` in the plan's arena, or in a buffer of its own (state, derived
 * weights: offset 0). */
typedef struct mzi_place {
    bool in_arena;
    uint64_t offset;
} mzi_place;

/* What a meter measures, in the order in which a run makes it. */
typedef struct mzi_meter {
    int32_t of, stats; /* values: the tensor, its figures (graph/stats.h) */
    mzi_phase phase;
    bool is_gradient; /* it depends on the loss scale: no activation that backward makes again */
    const char *name; /* of the node that makes it, or of the input */
} mzi_meter;

typedef struct mzi_plan {
    mezzo_graph *graph; /* owned */
    mzi_target *target;
    mzi_lowering lowering;                   /* the calls */
    int32_t phase_end[MZI_PHASE_UPDATE + 1]; /* calls of phase p end here */
    mzi_place *places;                       /* by value */
    int32_t place_count;
    uint64_t arena_bytes;
    uint64_t worker_bytes; /* the most that any call asks for */
    mzi_meter *meters;     /* of forward and backward; in the graph's arena */
    int32_t meter_count;
    int cast_count, fallback_count;
    double flops;
    char numerics_hash[65], execution_hash[65];
} mzi_plan;

/* Types and casts (passes/autocast.c): one table for all devices, overrides by name, a reason each.
 * `no_bf16` is the target's: the speed gate, if `precision` has one, asks it. */
mezzo_status mzi_pass_autocast(mezzo_graph *graph, const mezzo_precision *precision,
                               const char *no_bf16);
/* Fails if a cast converts to the type that its input already has, or what another cast gives. */
mezzo_status mzi_pass_check_casts(mezzo_graph *graph);
/* What each value is expected to be before the first step (passes/range.c); `ranges` by value. */
void mzi_pass_range(const mezzo_graph *graph, mezzo_range *ranges);
/* Every LINT_GRAPH rule of lint.def over forward and update (passes/lint.c), into the graph's
 * findings; what `mode` says of them is done, but warnings are logged only if `log` is set. */
mezzo_status mzi_pass_lint(mezzo_graph *graph, mezzo_lint_mode mode, bool log);
/* Who reads a parameter in the graph so far (passes/masters.c). */
typedef struct mzi_master_readers {
    bool cast;            /* the cast to BF16 in the phase prepare                         */
    const mzi_node *low;  /* the first that takes any form, and computes in BF16; or null  */
    const mzi_node *wide; /* likewise, and computes in another type                        */
    const mzi_node *f32;  /* the first that takes FP32 alone                               */
} mzi_master_readers;
mzi_master_readers mzi_master_readers_of(const mezzo_graph *graph, int32_t param);
/* For one that nobody takes as FP32 alone: `param` becomes a value of BF16, with lower halves if
 * `is_split`, and what read its cast reads it. */
void mzi_master_lower(mezzo_graph *graph, int32_t param, bool is_split);
/* Several nodes in one, where that reads and writes less (passes/fuse.c). */
mezzo_status mzi_pass_fuse(mezzo_graph *graph, mzi_target *target);
/* Forward nodes that the patterns name are made again in backward (passes/recompute.c). */
mezzo_status mzi_pass_recompute(mezzo_graph *graph, const char *const *patterns, int count,
                                int chosen);
/* Packed weights for the calls that ask for them (passes/layout.c). */
mezzo_status mzi_pass_layout(mezzo_graph *graph, mzi_target *target);
/* Meters behind every node of forward and backward (passes/meters.c). */
mezzo_status mzi_pass_meters(mzi_plan *plan);
/* Offsets in the arena (passes/memory.c); calls are there already. */
mezzo_status mzi_pass_memory(mzi_plan *plan);
/* Both hashes (passes/hash.c); `recipe` says in words what the step does besides the graph. */
void mzi_hash_numerics(const mezzo_graph *graph, const char *recipe, char hex[65]);
void mzi_hash_execution(mzi_plan *plan);

typedef struct mzi_plan_config {
    const char *recipe; /* part of the numerics hash */
    bool strict;        /* DOWNGRADE if a kernel does not compute in the type of its call */
    const char *const *recompute;
    int recompute_count;
    int recompute_chosen; /* the first of them were chosen to fit a budget */
    bool no_fuse;         /* every operation by itself */
} mzi_plan_config;
/* Run the passes after autocast; takes the graph over (on failure too). */
mezzo_status mzi_plan_create(mzi_plan **out, mezzo_graph *graph, mzi_target *target,
                             const mzi_plan_config *config);
void mzi_plan_destroy(mzi_plan *plan);

/* The size of a value's storage in bytes. */
uint64_t mzi_value_bytes(const mzi_value *value);

#endif
