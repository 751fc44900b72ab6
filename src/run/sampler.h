/* Drawing a token from logits. */
#ifndef MZI_RUN_SAMPLER_H
#define MZI_RUN_SAMPLER_H

#include "base/ctx.h"
#include "mezzo/run.h"

/* Memory of a draw, by token: `vocab` entries each. */
typedef struct mzi_sampler_work {
    double *weights;
    int32_t *heap;
} mzi_sampler_work;

/* The token behind `position` tokens: one of 0..vocab - 1 with probability
 *
 *   p_i = w_i / sum_j w_j,   w_i = exp((logits_i - max) / temperature), in FP64,
 *
 * of those that are left by top_k and then by top_p, which counts the probabilities that top_k left
 * (mezzo_sample_config).  Temperature 0: the largest logit, the first of equal ones.  The same
 * logits, settings, seed and position give the same token; a filter that leaves every token changes
 * nothing.
 *
 * NUMERICS, naming the position, if a logit is NaN or plus infinity, or all are minus infinity. */
mezzo_status mzi_sample(mezzo_ctx *ctx, const float *logits, int32_t vocab,
                        const mezzo_sample_config *config, uint64_t position,
                        const mzi_sampler_work *work, int32_t *out);

#endif
