#include "base/cpu.h"
#include "run/runner.h"

static mezzo_status run(mzi_experiment *e, mezzo_runner *runner, const mezzo_config *config,
                        const char *weights, mezzo_summary *s) {
    int64_t begin = mzi_clock_ns();
    mezzo_plan_info plan;
    MZI_TRY(mzi_experiment_create(e, runner, config, weights));
    MZI_TRY(mzi_experiment_load(e, weights));
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_EVAL, &plan));
    MZI_TRY(mzi_experiment_summarise(e, s));
    mzi_format(s->status, sizeof s->status, "completed");
    mzi_format(s->run_dir, sizeof s->run_dir, "%s", weights);
    mzi_format(s->plan_hash, sizeof s->plan_hash, "%s", plan.numerics_hash);
    s->precision = e->precision;
    s->fallback_kernels = plan.fallback_count;
    s->planned_bytes =
        plan.state_bytes + plan.weight_bytes + plan.activation_bytes + plan.scratch_bytes;
    s->peak_rss_bytes = mzi_memory_resident_max();
    s->loss_scale_last = 1.0f;
    s->seed = (uint64_t)mezzo_config_int(config, "train.seed");
    s->wall_s = (double)(mzi_clock_ns() - begin) * 1e-9;
    return MEZZO_OK;
}

mezzo_status mezzo_run_evaluate(mezzo_runner *runner, const mezzo_config *config,
                                const char *weights, mezzo_summary *out) {
    mzi_experiment e;
    mezzo_summary summary = {0};
    mzi_error_clear(runner->ctx);
    mezzo_status status = run(&e, runner, config, weights, &summary);
    mzi_experiment_destroy(&e);
    if (status == MEZZO_OK)
        *out = summary;
    return status;
}
