/* Lion (Chen and others, 2023): the sign of an average steps, so one moment is enough.
 *
 *   u = sign(b1 m + (1 - b1) g);  w -= lr (u + wd w);  m = b2 m + (1 - b2) g
 */
#include "train/optim.h"

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    return mzi_optim_lower(use, lowering, MZK_lion);
}

static mezzo_status attrs(mezzo_ctx *ctx, const mezzo_optimizer_config *config, mezzo_attrs *out) {
    return mzi_optim_betas(ctx, "lion", config, out);
}

/* Table 12 of the paper, and what its programs take. */
static void defaults(mezzo_optimizer_config *config) {
    config->beta2 = 0.99f;
}

const mzi_optim_def mzi_optim_lion = {.name = "lion",
                                      .help = "the sign of the gradient's mean",
                                      .family = MZK_lion,
                                      .slots = {"m"},
                                      .update = {.name = "lion",
                                                 .help = "w, m in place",
                                                 .reals = "weight_decay lr_scale beta1 beta2",
                                                 .in_min = 4,
                                                 .in_max = 5,
                                                 .cast = MEZZO_CAST_FULL,
                                                 .not_differentiable = true,
                                                 .lower = lower,
                                                 .flops = mzi_optim_flops},
                                      .attrs = attrs,
                                      .defaults = defaults};
