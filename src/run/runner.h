/* The runner's table of model kinds, and an experiment: a configuration turned into data, model and
 * trainer. */
#ifndef MZI_RUN_RUNNER_H
#define MZI_RUN_RUNNER_H

#include "base/ctx.h"
#include "mezzo/data.h"
#include "mezzo/run.h"

enum {
    MZI_KIND_MAX = 32
};

struct mezzo_runner {
    mezzo_ctx *ctx;
    mezzo_model_kind kinds[MZI_KIND_MAX];
    int kind_count;
};

typedef struct mzi_experiment {
    mezzo_ctx *ctx;
    const mezzo_config *config;
    const mezzo_model_kind *kind;
    mezzo_images *train_images, *test_images;
    mezzo_loader *train_loader, *test_loader;
    mezzo_model *model;
    mezzo_trainer *trainer;
    mezzo_dtype precision;
    int64_t shape[4]; /* of a batch: B, H, W, C */
    int32_t classes;
    int64_t train_count, steps; /* samples to train on; committed steps to reach */
} mzi_experiment;

/* Data, model and trainer.  Destroy it after a failure too. */
mezzo_status mzi_experiment_create(mzi_experiment *e, mezzo_runner *runner,
                                   const mezzo_config *config);
void mzi_experiment_destroy(mzi_experiment *e);
/* Mean loss and accuracy over the test split, with the weights as they are. */
mezzo_status mzi_experiment_evaluate(mzi_experiment *e, double *loss, double *accuracy);
/* Bytes of state, weights, activations and workspaces, of both entry points. */
mezzo_status mzi_experiment_planned_bytes(mzi_experiment *e, uint64_t *bytes);
/* The state to and from FOLDER (checkpoint/weights.h) or a file. */
mezzo_status mzi_experiment_save(mzi_experiment *e, const char *folder, const char *plan_hash);
mezzo_status mzi_experiment_load(mzi_experiment *e, const char *path);

/* mezzo_run_train, shown to the hooks under `label`. */
mezzo_status mzi_run_train_as(mezzo_runner *runner, const mezzo_config *config, const char *label,
                              const mezzo_run_hooks *hooks, mezzo_summary *out);

/* The plan of an experiment's training, as text or JSON; freed with mezzo_text_free. */
mezzo_status mzi_plan_report(mzi_experiment *e, bool json, char **out);

#endif
