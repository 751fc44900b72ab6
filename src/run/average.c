/* The average of the weights in a run: evaluated beside them. */
#include "train/average.h"

#include "run/runner.h"

mezzo_status mzi_experiment_prepare_average(mzi_experiment *e) {
    size_t bytes = (size_t)mzi_average_count(e->model) * sizeof *e->masters;
    if (bytes == 0)
        return MEZZO_OK;
    e->masters = mzi_alloc(e->ctx, bytes);
    if (!e->masters)
        return mzi_out_of_memory(e->ctx, bytes, "the weights, while their average is evaluated");
    e->masters_bytes = bytes;
    return MEZZO_OK;
}

mezzo_status mzi_experiment_summarise_average(mzi_experiment *e, mezzo_summary *s) {
    mzi_evaluation found = {0};
    s->has_average = e->masters && mezzo_trainer_get_state(e->trainer).averaged > 0;
    if (!s->has_average)
        return MEZZO_OK;
    MZI_TRY(mzi_average_show(e->model, e->masters));
    mezzo_status status = mzi_experiment_evaluate(e, &found);
    const mezzo_error why = e->ctx->error; /* writing the weights back clears it */
    MZI_TRY(mzi_average_hide(e->model, e->masters));
    if (status != MEZZO_OK) {
        e->ctx->error = why;
        return status;
    }
    s->ema_eval_loss = found.loss;
    s->ema_eval_value = found.value;
    return MEZZO_OK;
}
