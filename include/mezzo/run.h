/* Whole runs from a configuration: what the program's commands do. */
#ifndef MEZZO_RUN_H
#define MEZZO_RUN_H

#include "mezzo/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a model kind is built from a configuration.  mezzo_models_register adds those of
 * libmezzo_models; a user's own kind is trained by the same loop. */
typedef struct mezzo_model_kind {
    const char *name; /* model.kind */
    const char *help;
    /* Builds the graph: inputs "x" [batch,H,W,C] F32 and "labels" [batch] I32; outputs "loss",
     * "correct", "valid". */
    mezzo_status (*build)(mezzo_graph *graph, const mezzo_config *config,
                          const int64_t *input_shape /* B H W C */, int32_t classes);
} mezzo_model_kind;
typedef struct mezzo_runner mezzo_runner;
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_runner_create(mezzo_runner **out, mezzo_ctx *ctx);
MEZZO_API void mezzo_runner_destroy(mezzo_runner *runner);
/* `kind` is copied; its texts must live as long as the runner. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_runner_add_kind(mezzo_runner *runner,
                                                              const mezzo_model_kind *kind);

/* Progress, on the calling thread.  Any may be null. */
typedef struct mezzo_progress {
    const char *label;   /* "bf16", "fp32 seed 2" */
    int64_t step, steps; /* committed, of */
    double epoch, loss, lr, samples_per_s, seconds_left, grad_norm;
    float loss_scale;
    int64_t skipped;
} mezzo_progress;
typedef struct mezzo_run_hooks {
    void *user;
    void (*progress)(void *user, const mezzo_progress *progress); /* after each step */
    void (*evaluated)(void *user, const mezzo_progress *progress, double eval_loss,
                      double eval_value);
    bool (*stop)(void *user); /* asked after each step; true: save and stop */
} mezzo_run_hooks;

/* summary.json as a struct; texts are inside. */
typedef struct mezzo_summary {
    char run_id[64], run_dir[1024];
    char status[24]; /* "completed", "stopped", "failed" */
    mezzo_dtype precision;
    int64_t steps, skipped_steps, overflow_events;
    double loss_first, loss_last;
    char eval_metric[24]; /* "accuracy" */
    double eval_loss, eval_value;
    double step_ms_median, samples_per_s;
    uint64_t peak_rss_bytes, planned_bytes;
    float loss_scale_last;
    int fallback_kernels;
    double wall_s, train_s;
    char plan_hash[65];
    uint64_t seed;
} mezzo_summary;

/* Train as configured, into the run directory.  INTERRUPTED if `hooks->stop` asked: the state was
 * saved and the summary is filled in. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_train(mezzo_runner *runner,
                                                        const mezzo_config *config,
                                                        const mezzo_run_hooks *hooks,
                                                        mezzo_summary *out);
/* Evaluate the tensors of `weights` (a safetensors file, or a run directory) on the test split. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_evaluate(mezzo_runner *runner,
                                                           const mezzo_config *config,
                                                           const char *weights, mezzo_summary *out);
/* Train in FP32 and in the configured type, for `seeds` seeds each from train.seed on, one after
 * the other (the resident peak is reset before each), into DIR/fp32 and DIR/bf16 (DIR/fp32-seed2
 * ...).  `fp32` and `candidate` have `seeds` entries. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_compare(mezzo_runner *runner,
                                                          const mezzo_config *config,
                                                          const mezzo_run_hooks *hooks, int seeds,
                                                          mezzo_summary *fp32,
                                                          mezzo_summary *candidate);
/* The plan of an entry point as text or JSON; freed with mezzo_text_free. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_plan(mezzo_runner *runner,
                                                       const mezzo_config *config, bool json,
                                                       char **out);
/* Difference of two configurations' plans: operations whose type, rule or kernel differ. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_plan_diff(mezzo_runner *runner,
                                                            const mezzo_config *a,
                                                            const mezzo_config *b, bool json,
                                                            char **out);
/* A summary as one line of JSON; freed with mezzo_text_free. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_summary_json(mezzo_ctx *ctx,
                                                           const mezzo_summary *summary,
                                                           char **out);
/* The machine and the build, as `mezzo doctor` shows them; freed with mezzo_text_free. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_doctor(mezzo_ctx *ctx, bool json, char **out);

#ifdef __cplusplus
}
#endif
#endif
