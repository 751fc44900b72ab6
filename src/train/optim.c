#include "train/optim.h"

#include <string.h>

#include "base/rng.h"

static const mzi_optim_def *const optims[] = {
#define OPTIM(name) &mzi_optim_##name,
#include "train/optim.def"
#undef OPTIM
};

const mzi_optim_def *mzi_optim_find(const char *name) {
    for (size_t k = 0; name && k < sizeof optims / sizeof *optims; k++)
        if (strcmp(optims[k]->name, name) == 0)
            return optims[k];
    return NULL;
}

int mzi_optim_slot_count(const mzi_optim_def *optim) {
    int count = 0;
    while (count < MZI_OPTIM_SLOT_MAX && optim->slots[count])
        count++;
    return count;
}

mzk_params mzi_optim_params(const mezzo_attrs *attrs, int64_t n) {
    mzk_params p = {0};
    p.optim.n = n;
    p.optim.weight_decay = (float)attrs->f[MZI_OPTIM_WEIGHT_DECAY];
    p.optim.lr_scale = (float)attrs->f[MZI_OPTIM_LR_SCALE];
    p.optim.beta1 = (float)attrs->f[MZI_OPTIM_BETA1];
    p.optim.momentum = (float)attrs->f[MZI_OPTIM_BETA1];
    p.optim.beta2 = (float)attrs->f[MZI_OPTIM_BETA2];
    p.optim.eps = (float)attrs->f[MZI_OPTIM_EPS];
    p.optim.nesterov = (int32_t)attrs->i[0];
    return p;
}

void mzi_optim_forms(const mezzo_op_use *use, mzi_lowering *lowering, mzi_call *call, int low,
                     int last) {
    const mezzo_graph *graph = lowering->graph;
    int key = use->in_count - 1;
    for (int k = 1; k < use->in_count && k <= 3; k++) /* the master, and up to two moments */
        call->p.optim.streams[k - 1] = mzi_name_hash(graph->values[mzi_in(lowering, k).value].name);
    call->p.optim.nearest = (int32_t)use->attrs->i[MZI_OPTIM_NEAREST];
    if (use->attrs->i[MZI_OPTIM_MASTER] == MEZZO_MASTER_SPLIT)
        call->out[last] = call->in[low] =
            mzi_from(mzi_in(lowering, 1), mezzo_shape_count(use->in[1].shape));
    if (use->in[key].dtype == MEZZO_I32)
        call->in[low + 1] = mzi_in(lowering, key);
}

mezzo_status mzi_optim_lower(const mezzo_op_use *use, mzi_lowering *lowering, mzk_family family) {
    int64_t n = mezzo_shape_count(use->in[1].shape);
    mzi_call *call = mzi_emit(lowering, family, n, MZI_GRAIN / 2); /* four streams share L2 */
    int scalars = use->in_count - 1;
    scalars -= use->in[scalars].dtype == MEZZO_I32;
    for (int k = 0; k <= scalars; k++)
        call->in[k] = mzi_in(lowering, k);
    for (int k = 0; k + 1 < scalars; k++)
        call->out[k] = mzi_in(lowering, k + 1);
    call->p = mzi_optim_params(use->attrs, n);
    mzi_optim_forms(use, lowering, call, scalars + 1, scalars - 1);
    return MEZZO_OK;
}

mezzo_status mzi_optim_betas(mezzo_ctx *ctx, const char *name, const mezzo_optimizer_config *config,
                             mezzo_attrs *out) {
    if (!(config->beta1 >= 0.0f && config->beta1 < 1.0f) ||
        !(config->beta2 >= 0.0f && config->beta2 < 1.0f))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%s: betas %g and %g are not in [0, 1)", name,
                 (double)config->beta1, (double)config->beta2);
    out->f[MZI_OPTIM_BETA1] = (double)config->beta1;
    out->f[MZI_OPTIM_BETA2] = (double)config->beta2;
    return MEZZO_OK;
}

/* About a dozen operations an element, whichever optimizer. */
double mzi_optim_flops(const mezzo_op_use *use) {
    return 12.0 * (double)mezzo_shape_count(use->in[1].shape);
}

mezzo_optimizer_config mezzo_optimizer_default(const char *kind) {
    mezzo_optimizer_config config = {.kind = kind,
                                     .lr = 1e-3f,
                                     .weight_decay = 0.01f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.999f,
                                     .eps = 1e-8f,
                                     .momentum = 0.9f,
                                     .other_lr_scale = 0.015f};
    const mzi_optim_def *optim = mzi_optim_find(kind);
    if (optim && optim->defaults)
        optim->defaults(&config);
    return config;
}
