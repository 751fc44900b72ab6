/* Whole runs from a configuration: what the program's commands do. */
#ifndef MEZZO_RUN_H
#define MEZZO_RUN_H

#include "mezzo/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a model kind is built from a configuration.  mezzo_models_register adds those of
 * libmezzo_models; a user's own kind is trained by the same loop. */
typedef enum mezzo_data_kind {
    MEZZO_DATA_IMAGES, /* inputs "x" [batch,H,W,C] F32 and "labels" [batch] I32          */
    MEZZO_DATA_TOKENS  /* inputs "tokens" and "labels" [batch,context] I32; in the entry DECODE
                        * "tokens" [batch,1] and "position", and the output "logits" [batch,1,V] */
} mezzo_data_kind;
typedef struct mezzo_data_shape {
    int64_t batch; /* samples of a micro-batch */
    int64_t H, W, C;
    int64_t context; /* tokens of a sample */
    int32_t classes; /* labels are below it: classes, or the vocabulary */
} mezzo_data_shape;

/* How a kind is written in Hugging Face's format: a folder with model.safetensors and config.json.
 * A key of config.json, and what it says: */
typedef enum mezzo_hf_role {
    MEZZO_HF_SIZE,     /* the integer `key` of the configuration, above 0                    */
    MEZZO_HF_MULTIPLE, /* `factor` times the integer `key`, for which null may stand (and is
                        * written)                                                           */
    MEZZO_HF_QUOTIENT, /* the integer `key` over the integer `other`; null may stand for it  */
    MEZZO_HF_RATE,     /* the real `key`, 0 if that is null; written, but not read           */
    MEZZO_HF_REAL,     /* the real `key`                                                     */
    MEZZO_HF_FLAG,     /* the boolean `key`                                                  */
    MEZZO_HF_FIXED     /* `value`, the only one that the kind computes; it may be left out   */
} mezzo_hf_role;
typedef struct mezzo_hf_key {
    const char *name; /* "A/B": member B of the object A, which is read but not written */
    mezzo_hf_role role;
    const char *key;
    const char *rows_of; /* of a SIZE: the tensor with as many rows, if the configuration says 0;
                          * with `factor` times as many if that is not 0                     */
    const char *other;   /* of a SIZE: the key that counts in either place where this one is 0, null
                          * or missing                                                       */
    int64_t factor;
    const char *value; /* as JSON; of a REAL or FLAG, what counts where it is missing: null: what
                        * the configuration has                                              */
} mezzo_hf_key;
/* A tensor of the kind that is several of the format's, one below the other.  `whole` is a word of
 * its name, between dots, in place of which they have their own. */
enum {
    MEZZO_HF_PARTS_MAX = 4
};
typedef struct mezzo_hf_part {
    const char *name;  /* null behind the last */
    const char *share; /* the integer key that its number of rows is in proportion to; null: 1 */
} mezzo_hf_part;
typedef struct mezzo_hf_fused {
    const char *whole; /* null behind the last */
    mezzo_hf_part parts[MEZZO_HF_PARTS_MAX];
} mezzo_hf_fused;
typedef struct mezzo_hf_map {
    const char *model_type, *architecture;
    const char *prefix;            /* of tensor names; files without it are read too           */
    const char *const *bare;       /* patterns of names that have no prefix; ended by null, as all
                                    * of these, and null if there are none                      */
    const char *const *transposed; /* patterns of the names of matrices that the format stores as
                                    * [K,N]                                                     */
    const char *const *ignored;    /* patterns of what a file may hold and the model has not    */
    const mezzo_hf_fused *fused;   /* null: none                                                */
    const char *tied, *tied_to;    /* a tensor that, unless the model has it, is not written, and
                                    * must equal another where a file has it                    */
    const mezzo_hf_key *keys;
} mezzo_hf_map;
typedef struct mezzo_model_kind {
    const char *name; /* model.kind */
    const char *help;
    mezzo_data_kind data;
    /* Builds the graph with the inputs of its data, and outputs "loss", "correct" (rows) and
     * "valid" (rows that count). */
    mezzo_status (*build)(mezzo_graph *graph, const mezzo_config *config,
                          const mezzo_data_shape *shape);
    const mezzo_hf_map *hf; /* null: none */
} mezzo_model_kind;
typedef struct mezzo_runner mezzo_runner;
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_runner_create(mezzo_runner **out, mezzo_ctx *ctx);
MEZZO_API void mezzo_runner_destroy(mezzo_runner *runner);
/* `kind` is copied; its texts must live as long as the runner. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_runner_add_kind(mezzo_runner *runner,
                                                              const mezzo_model_kind *kind);

enum {
    MEZZO_METRIC_BYTES = 24
};
/* summary.json as a struct; texts are inside. */
typedef struct mezzo_summary {
    char run_id[64], run_dir[1024];
    char status[24]; /* "completed", "stopped", "failed" */
    mezzo_dtype precision;
    int64_t steps, skipped_steps, overflow_events;
    double loss_first, loss_last;
    /* "accuracy" (a fraction), "bits_per_byte" or "bits_per_token" (lower is better) */
    char eval_metric[MEZZO_METRIC_BYTES];
    double eval_loss, eval_value;
    bool has_average; /* train.ema: the average of the weights was evaluated too, with */
    double ema_eval_loss, ema_eval_value;
    double start_ms; /* from the beginning of the run to its first step: data, model, plan */
    double step_ms_median, samples_per_s;
    double tokens_per_s; /* 0 for images */
    uint64_t peak_rss_bytes, planned_bytes;
    float loss_scale_last;
    int fallback_kernels;
    double wall_s, train_s;
    char plan_hash[65];
    uint64_t seed;
} mezzo_summary;

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
    /* With the eval_ fields of the summary filled in. */
    void (*evaluated)(void *user, const mezzo_progress *progress, const mezzo_summary *summary);
    bool (*stop)(void *user); /* asked after each step; true: save and stop */
} mezzo_run_hooks;

/* Train as configured, into the run directory.  With train.continue, go on from another run: then
 * DATA, naming the tensor and the shapes or the key and the value, if that is a run of another
 * model; nothing is written.  INTERRUPTED if `hooks->stop` asked: the state was
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
/* Where a step's time goes: trains on for a few steps (their number in `steps`, after two to warm
 * up), writes nothing, and gives phases and operations with time, FLOP/s and bytes/s as text or
 * JSON; freed with mezzo_text_free. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_profile(mezzo_runner *runner,
                                                          const mezzo_config *config, int steps,
                                                          bool json, char **out);
/* Difference of two configurations' plans: operations whose type, rule or kernel differ. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_plan_diff(mezzo_runner *runner,
                                                            const mezzo_config *a,
                                                            const mezzo_config *b, bool json,
                                                            char **out);
/* What lint finds (mezzo/lint.h) as text or JSON, freed with mezzo_text_free, and how many of the
 * findings are errors.  precision.lint does not matter. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_lint(mezzo_runner *runner,
                                                       const mezzo_config *config, bool json,
                                                       char **out, int *errors);
/* Its rules, likewise. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_lint_rules(mezzo_ctx *ctx, bool json, char **out);
/* Sampling: how the next token is drawn from the model's logits, and how many. */
typedef struct mezzo_sample_config {
    /* Text; without a tokenizer, ids with blanks between them.  Empty: the sample starts behind an
     * end_of_text, or, if the tokenizer has none, behind a newline. */
    const char *prompt;
    size_t prompt_bytes;
    int64_t tokens;     /* to draw at most; at least 1                                        */
    double temperature; /* divides the logits; 0: the most probable token, the first of equals */
    int32_t top_k;      /* only the `top_k` most probable tokens; 0: all                      */
    /* In (0, 1]: then only the fewest of the most probable tokens that have this part of the
     * probability; 1: all.  Of equally probable tokens the lower id comes first in both. */
    double top_p;
    uint64_t seed; /* a token is a function of this, its position and the logits */
} mezzo_sample_config;
typedef struct mezzo_sample_result {
    int64_t prompt_tokens, tokens; /* read and drawn; an end_of_text that ends the sample counts */
    double seconds;                /* of all tokens through the model, those of the prompt too   */
    double tokens_per_s;           /* likewise                                                   */
    const char *ended_by;          /* "tokens", "end_of_text" or "context"; static storage       */
} mezzo_sample_result;
/* Continue a prompt with the tensors of `weights` (a safetensors file, or a run directory).  Opens
 * the tokenizer of the configuration, but no data; the model has a batch of 1.  The text drawn, or
 * ids with blanks between them if ids have no tokenizer, goes to `emit` as it is made: whole UTF-8
 * characters, with U+FFFD for bytes that make none.  A sample that reaches the end of model.context
 * ends there, with a warning.
 * INVALID_ARGUMENT if a setting is outside its range.  CONFIG if the model is none of tokens or
 * does not decode, or if the prompt is longer than model.context.  NUMERICS if logits are not
 * finite.  What was emitted before a failure stays. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_sample(
    mezzo_runner *runner, const mezzo_config *config, const char *weights,
    const mezzo_sample_config *sample, void (*emit)(void *user, const char *text, size_t bytes),
    void *user, mezzo_sample_result *out);
/* A sample's result and `text`, UTF-8, as one line of JSON; freed with mezzo_text_free. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_sample_json(mezzo_ctx *ctx,
                                                          const mezzo_sample_result *result,
                                                          const char *text, size_t bytes,
                                                          char **out);
/* The tensors of `weights` (a safetensors file with mezzo's names, or a run directory) as FOLDER
 * with model.safetensors and config.json, which Hugging Face's transformers loads.  `dtype` F32,
 * BF16 or F16; the latter two are rounded to nearest even.  model.vocab 0 stands for the rows that
 * the file has; no data is opened, but a tokenizer, which says how a text ends.
 * CONFIG if the kind has no such form.  DATA if a tensor is missing or has another shape.  BUSY if
 * the folder holds either file already. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_export(mezzo_runner *runner,
                                                         const mezzo_config *config,
                                                         const char *weights, const char *folder,
                                                         mezzo_dtype dtype);
/* The way back: `path` is such a folder, with one model.safetensors or several by
 * model.safetensors.index.json, or the file in it.  FOLDER becomes a run directory with config.yaml
 * (sizes from config.json, a tokenizer.json if there is one beside it, else defaults) and FP32
 * masters.
 * DATA, naming tensor and shapes or key and value, if config.json asks for what the kind does not
 * compute, a tensor is missing, unexpected, no float or has another shape, a tied one differs, or
 * the file is a pickle; CONFIG if a size is beyond what the configuration takes; then nothing is
 * written.  BUSY if FOLDER holds a run. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_run_import(mezzo_runner *runner, const char *path,
                                                         const char *folder);
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
