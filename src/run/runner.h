/* The runner's table of model kinds, and an experiment: a configuration turned into data, model and
 * trainer. */
#ifndef MZI_RUN_RUNNER_H
#define MZI_RUN_RUNNER_H

#include "base/ctx.h"
#include "mezzo/run.h"
#include "mezzo/safetensors.h"
#include "run/dataset.h"

enum {
    MZI_KIND_MAX = 32,
    MZI_WEIGHTS_PATH = 4096
};

struct mezzo_runner {
    mezzo_ctx *ctx;
    mezzo_model_kind kinds[MZI_KIND_MAX];
    int kind_count;
};

/* The kind that model.kind names; CONFIG, with those that there are, if it is none. */
mezzo_status mzi_runner_kind(const mezzo_runner *runner, const mezzo_config *config,
                             const mezzo_model_kind **out);

typedef struct mzi_experiment {
    mezzo_ctx *ctx;
    const mezzo_config *config;
    const mezzo_model_kind *kind;
    mzi_dataset data;
    mezzo_model *model;
    mezzo_trainer *trainer;
    mezzo_dtype precision;
    int64_t steps; /* committed ones to reach */
    /* So far, in the runs that this one continues too. */
    int64_t samples, overflow_events;
    const char *pinned_by; /* file or run directory whose speed pins hold; "" for none */
    bool has_speed_pins;   /* the speed gate has chosen, perhaps nothing */
    float *masters;        /* room for the weights while their average is evaluated, or null */
    size_t masters_bytes;
} mzi_experiment;

typedef struct mzi_evaluation {
    double loss, accuracy; /* means over the rows of the test split */
    const char *metric;    /* what it is judged by, and its value   */
    double value;
} mzi_evaluation;

/* Data, model and trainer; `weights` will be loaded into it, and have been trained with the layers
 * in FP32 that it says (null: train.continue says that).  Destroy it after a failure too. */
mezzo_status mzi_experiment_create(mzi_experiment *e, mezzo_runner *runner,
                                   const mezzo_config *config, const char *weights);
/* Tokenizer and model for one sequence, token by token: no data, no trainer.  Likewise. */
mezzo_status mzi_experiment_create_decoder(mzi_experiment *e, mezzo_runner *runner,
                                           const mezzo_config *config, const char *weights);
void mzi_experiment_destroy(mzi_experiment *e);
/* Over the test split, with the weights as they are. */
mezzo_status mzi_experiment_evaluate(mzi_experiment *e, mzi_evaluation *out);
/* Into a summary. */
mezzo_status mzi_experiment_summarise(mzi_experiment *e, mezzo_summary *s);
/* Bytes of state, weights, activations and workspaces, of both entry points. */
mezzo_status mzi_experiment_planned_bytes(mzi_experiment *e, uint64_t *bytes);
/* The state to and from FOLDER (checkpoint/weights.h) or a file. */
mezzo_status mzi_experiment_save(mzi_experiment *e, const char *folder, const char *plan_hash);
mezzo_status mzi_experiment_load(mzi_experiment *e, const char *path);
/* Tensor `index` of the model from that of a file, whose shape and type have been checked. */
mezzo_status mzi_experiment_take(mzi_experiment *e, int index, const mezzo_safetensors_item *item);
/* Parameters and statistics of train.weights, if it is set, with a fresh optimizer; or all that
 * train.continue has.  CONFIG if both are set. */
mezzo_status mzi_experiment_start(mzi_experiment *e);
/* The state of train.continue: tensors, counters, loss scale, place in the data.  Nothing is
 * changed after an error; warnings say what was not used, and what starts afresh. */
mezzo_status mzi_experiment_continue(mzi_experiment *e);
/* Room to evaluate the average, if the trainer has one. */
mezzo_status mzi_experiment_prepare_average(mzi_experiment *e);
/* Evaluate the average into a summary, once it has begun; the weights are as before afterwards. */
mezzo_status mzi_experiment_summarise_average(mzi_experiment *e, mezzo_summary *s);
/* The file that `path` stands for: of a run directory, its masters. */
void mzi_weights_path(const char *path, char out[MZI_WEIGHTS_PATH]);

/* Those of precision.loss_scale.pinned_segments. */
mezzo_status mzi_pinned_segments(const mzi_experiment *e, mezzo_segment *segments, int capacity,
                                 int *count);
/* With precision.loss_scale.segments auto, and none pinned: choose them for the scale that `config`
 * starts with. */
mezzo_status mzi_experiment_segments(mzi_experiment *e, const mezzo_scaler_config *config);

/* Those of precision.speed_pins. */
mezzo_status mzi_speed_pins(const mzi_experiment *e, mezzo_slow_layer *slow, int capacity,
                            int *count);
/* With precision.speed_gate auto, and none pinned: take them from the file that pins them; if it
 * does not, measure, which takes a graph of training. */
mezzo_status mzi_experiment_speed_gate(mzi_experiment *e, mezzo_entry entry);
/* What the next run reads; `*text` is what the note borrows, freed with mezzo_text_free. */
mezzo_status mzi_speed_note(const mzi_experiment *e, mezzo_safetensors_note *note, char **text);

/* mezzo_run_train, shown to the hooks under `label`. */
mezzo_status mzi_run_train_as(mezzo_runner *runner, const mezzo_config *config, const char *label,
                              const mezzo_run_hooks *hooks, mezzo_summary *out);

/* The plan of an experiment's training, as text or JSON; freed with mezzo_text_free. */
mezzo_status mzi_plan_report(mzi_experiment *e, bool json, char **out);

#endif
