/* What an optimizer is: state slots, constants and a kernel, as data. */
#ifndef MZI_TRAIN_OPTIM_H
#define MZI_TRAIN_OPTIM_H

#include "graph/lower.h"
#include "mezzo/train.h"

/* The update of one parameter is an operation without outputs: it writes state in place.
 *   inputs: gradient, master, the slots in their order, scalars (families.h, adamw: s), and if
 *           something is rounded stochastically the key
 *   attrs:  f[MZI_OPTIM_*]; i[0] is the optimizer's own, i[MZI_OPTIM_MASTER] a mezzo_master */
enum {
    MZI_OPTIM_WEIGHT_DECAY,
    MZI_OPTIM_LR_SCALE,
    MZI_OPTIM_BETA1,
    MZI_OPTIM_BETA2,
    MZI_OPTIM_EPS
};
enum {
    MZI_OPTIM_MASTER = 1,
    MZI_OPTIM_NEAREST
};
enum {
    MZI_OPTIM_SLOT_MAX = 4,
    MZI_OPTIM_SCALARS = 8
};

typedef struct mzi_optim_def {
    const char *name, *help;
    mzk_family family;
    const char *slots[MZI_OPTIM_SLOT_MAX]; /* the parameter's shape, zero at first */
    mezzo_op_def update;
    /* Fill in attrs.f but for weight decay and rate scale, and attrs.i[0].
     * INVALID_ARGUMENT names a value outside its range. */
    mezzo_status (*attrs)(mezzo_ctx *ctx, const mezzo_optimizer_config *config, mezzo_attrs *out);
    /* True if it trains this parameter; `otherwise` trains the others.  Null: it trains all. */
    bool (*applies)(const mezzo_graph *graph, int32_t param);
    const struct mzi_optim_def *otherwise;
    /* Change the values whose default is this optimizer's own; null: none is. */
    void (*defaults)(mezzo_optimizer_config *config);
} mzi_optim_def;

/* Null if there is none of this name. */
const mzi_optim_def *mzi_optim_find(const char *name);
int mzi_optim_slot_count(const mzi_optim_def *optim);
/* What the forms of master and moments add to a call: the lower halves, which are written last, and
 * the key, which are its inputs `low` and `low` + 1, and the random streams.  `last` is the number
 * of outputs before them. */
void mzi_optim_forms(const mezzo_op_use *use, mzi_lowering *lowering, mzi_call *call, int low,
                     int last);
/* Lower an update to one call of `family`: out are master and slots, in is every input. */
mezzo_status mzi_optim_lower(const mezzo_op_use *use, mzi_lowering *lowering, mzk_family family);
/* The parameters of that call. */
mzk_params mzi_optim_params(const mezzo_attrs *attrs, int64_t n);
/* Both betas, checked, to `out`. */
mezzo_status mzi_optim_betas(mezzo_ctx *ctx, const char *name, const mezzo_optimizer_config *config,
                             mezzo_attrs *out);
double mzi_optim_flops(const mezzo_op_use *use);

#define OPTIM(name) extern const mzi_optim_def mzi_optim_##name;
#include "train/optim.def"
#undef OPTIM

#endif
