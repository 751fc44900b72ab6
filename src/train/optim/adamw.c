/* AdamW (Loshchilov and Hutter, 2019): decay apart from the gradient.
 *
 *   w -= lr wd w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *   w -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
 */
#include "train/optim.h"

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    return mzi_optim_lower(use, lowering, MZK_adamw);
}

static mezzo_status attrs(mezzo_ctx *ctx, const mezzo_optimizer_config *config, mezzo_attrs *out) {
    MZI_TRY(mzi_optim_betas(ctx, "adamw", config, out));
    /* Below the smallest normal FP32 the quotient 0 / (0 + eps) would depend on subnormals. */
    if (!(config->eps >= 0x1p-126f))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "adamw: eps %g is below 2^-126, FP32's least normal",
                 (double)config->eps);
    out->f[MZI_OPTIM_EPS] = (double)config->eps;
    return MEZZO_OK;
}

const mzi_optim_def mzi_optim_adamw = {.name = "adamw",
                                       .help = "Adam with decoupled weight decay",
                                       .family = MZK_adamw,
                                       .slots = {"m", "v"},
                                       .update = {.name = "adamw",
                                                  .help = "w, m, v in place",
                                                  .reals = "weight_decay lr_scale beta1 beta2 eps",
                                                  .real_roles = "- - - - root_epsilon:f32",
                                                  .in_min = 5,
                                                  .in_max = 6,
                                                  .cast = MEZZO_CAST_FULL,
                                                  .not_differentiable = true,
                                                  .lower = lower,
                                                  .flops = mzi_optim_flops},
                                       .attrs = attrs};
