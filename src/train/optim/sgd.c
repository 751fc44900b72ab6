/* Stochastic gradient descent with momentum, as in PyTorch (dampening 0).
 *
 *   g' = g + wd w;  m = momentum m + g';  w -= lr (nesterov ? g' + momentum m : m)
 */
#include "train/optim.h"

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    return mzi_optim_lower(use, lowering, MZK_sgd);
}

static mezzo_status attrs(mezzo_ctx *ctx, const mezzo_optimizer_config *config, mezzo_attrs *out) {
    if (!(config->momentum >= 0.0f && config->momentum < 1.0f))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "sgd: momentum %g is not in [0, 1)",
                 (double)config->momentum);
    if (config->nesterov && config->momentum == 0.0f)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "sgd: nesterov needs a momentum above 0");
    out->f[MZI_OPTIM_BETA1] = (double)config->momentum;
    out->i[0] = config->nesterov;
    return MEZZO_OK;
}

const mzi_optim_def mzi_optim_sgd = {.name = "sgd",
                                     .help = "stochastic gradient descent with momentum",
                                     .family = MZK_sgd,
                                     .slots = {"m"},
                                     .update = {.name = "sgd",
                                                .help = "w, m in place",
                                                .ints = "nesterov",
                                                .reals = "weight_decay lr_scale momentum",
                                                .in_min = 4,
                                                .in_max = 5,
                                                .cast = MEZZO_CAST_FULL,
                                                .not_differentiable = true,
                                                .lower = lower,
                                                .flops = mzi_optim_flops},
                                     .attrs = attrs};
