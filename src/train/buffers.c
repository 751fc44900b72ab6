/* Pieces of the step for loops that are not ours, on raw host buffers. */
#include <math.h>

#include "base/ctx.h"
#include "kernel/families.h"
#include "train/optim.h"

typedef struct loop {
    mzk_fn *fn;
    mzk_args args;
} loop;

static void run_chunk(void *arg, int worker, int64_t begin, int64_t end) {
    const loop *l = arg;
    (void)worker;
    l->fn(&l->args, begin, end);
}

static mezzo_status check_type(mezzo_ctx *ctx, mezzo_dtype dtype) {
    if (dtype != MEZZO_F32 && dtype != MEZZO_F16 && dtype != MEZZO_BF16)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "gradients of type %s; f32, f16 or bf16",
                 mezzo_dtype_name(dtype));
    return MEZZO_OK;
}

mezzo_status mezzo_gradient_check(mezzo_ctx *ctx, const void *gradient, mezzo_dtype dtype,
                                  size_t count, mezzo_gradient_norm *out) {
    mzi_error_clear(ctx);
    MZI_TRY(check_type(ctx, dtype));
    /* One part at a time: no memory is needed, and the order of the sum is fixed. */
    mezzo_gradient_norm total = {0};
    for (size_t begin = 0; begin < count; begin += MZI_GRAIN) {
        double part[MZK_STATS] = {0.0};
        size_t end = count - begin < MZI_GRAIN ? count : begin + MZI_GRAIN;
        mzk_args args = {.out = {part}, .in = {gradient}};
        args.out_type[0] = MEZZO_F64;
        args.in_type[0] = (uint8_t)dtype;
        args.p.e.n = (int64_t)count;
        args.p.e.grain = (int64_t)count + 1; /* every chunk to slot 0 */
        mzk_pick(MZK_stats_part, ctx->isa)->fn(&args, (int64_t)begin, (int64_t)end);
        total.sum_of_squares += part[MZK_STAT_SQUARES];
        total.nonfinite += (int64_t)(part[MZK_STAT_INF] + part[MZK_STAT_NAN]);
    }
    *out = total;
    return MEZZO_OK;
}

mezzo_status mezzo_adamw_update(mezzo_ctx *ctx, const mezzo_optimizer_config *config, float *w,
                                float *m, float *v, const void *g, mezzo_dtype dtype, size_t count,
                                double lr, double gradient_factor, int64_t step) {
    mezzo_attrs attrs = {.f[MZI_OPTIM_LR_SCALE] = 1.0};
    mzi_error_clear(ctx);
    MZI_TRY(check_type(ctx, dtype));
    MZI_TRY(mzi_optim_adamw.attrs(ctx, config, &attrs));
    if (step < 1)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "adamw: step %lld; it counts from 1",
                 (long long)step);
    attrs.f[MZI_OPTIM_WEIGHT_DECAY] = (double)config->weight_decay;
    const float scalars[MZI_OPTIM_SCALARS] = {
        (float)lr, (float)gradient_factor,
        (float)(1.0 / (1.0 - pow((double)config->beta1, (double)step))),
        (float)(1.0 / (1.0 - pow((double)config->beta2, (double)step)))};
    loop l = {.fn = mzk_pick(MZK_adamw, ctx->isa)->fn,
              .args = {.out = {w, m, v},
                       .in = {g, w, m, v, scalars},
                       .p = mzi_optim_params(&attrs, (int64_t)count)}};
    for (int k = 0; k < MZK_OUT_MAX; k++)
        l.args.out_type[k] = MEZZO_F32;
    for (int k = 0; k < MZK_IN_MAX; k++)
        l.args.in_type[k] = MEZZO_F32;
    l.args.in_type[0] = (uint8_t)dtype;
    mzi_team_run(ctx->team, run_chunk, &l, (int64_t)count, MZI_GRAIN / 2);
    return MEZZO_OK;
}
