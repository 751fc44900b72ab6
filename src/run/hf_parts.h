/* A model's tensors as Hugging Face's format has them: some of ours are several there. */
#ifndef MZI_RUN_HF_PARTS_H
#define MZI_RUN_HF_PARTS_H

#include "checkpoint/weights.h"
#include "graph/graph.h"
#include "mezzo/run.h"

typedef struct mzi_hf_parts {
    mzi_weight *weights; /* their data lies in that of ours */
    int32_t count, capacity;
} mzi_hf_parts;

/* Adds `whole` itself, or its parts, whose rows lie one below the other in it.  The graph owns
 * their names.  DATA if its rows cannot be divided by the shares of the configuration. */
mezzo_status mzi_hf_parts_add(mezzo_graph *graph, mzi_hf_parts *parts, const mezzo_hf_map *map,
                              const mezzo_config *config, const mzi_weight *whole);
void mzi_hf_parts_deinit(mezzo_ctx *ctx, mzi_hf_parts *parts);

#endif
