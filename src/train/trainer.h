/* A trainer inside, for the files that a step is made of. */
#ifndef MZI_TRAIN_TRAINER_H
#define MZI_TRAIN_TRAINER_H

#include "graph/stats.h"
#include "train/update.h"

/* The first tensor of a micro-batch that is not finite. */
typedef struct mzi_fault {
    mezzo_skip_reason reason; /* NONE: there is none */
    const char *where;
    bool may_be_meant; /* an Inf of data or forward, and the loss is finite: a mask, perhaps */
} mzi_fault;

struct mezzo_trainer {
    mezzo_model *model;
    mezzo_trainer_config config;
    mezzo_trainer_state state;
    const mzi_optim_def *optim;
    mzi_update update;
    double *parts; /* as many as the largest tensor has */
    size_t parts_bytes;
    mzi_stats *meters; /* by meter: of the last step that was measured */
    size_t meters_bytes;
    mzi_fault *faults;                   /* by micro-batch, of a step that failed */
    double rows;                         /* that count in the loss of this step */
    double grad_factor;                  /* of this step: unscaling, without clipping */
    mezzo_skip ledger[MEZZO_LEDGER_MAX]; /* skip k in slot k mod MEZZO_LEDGER_MAX */
    int64_t ledger_from;                 /* skips before this one happened elsewhere */
};

static inline const mzi_plan *mzi_trainer_plan(const mezzo_trainer *t) {
    return t->model->entries[MEZZO_ENTRY_TRAIN].plan;
}

static inline const mezzo_graph *mzi_trainer_graph(const mezzo_trainer *t) {
    return mzi_trainer_plan(t)->graph;
}

/* The graph of a step, typed and with its tail; meters come with its plan. */
mezzo_status mzi_trainer_graph_create(mezzo_trainer *t, bool is_trial, mezzo_graph **out);
/* Forward and backward of micro-batch k; `first`: the sums of the window start with it. */
mezzo_status mzi_trainer_run(mezzo_trainer *t, const mezzo_binding *inputs, int count, int32_t k,
                             bool first, bool meters);

/* meter.c: what a run with meters saw. */
/* Add the figures in `value` to `stats`; `of` is the tensor that they are of. */
mezzo_status mzi_meter_read(mezzo_trainer *t, int32_t value, int32_t of, mzi_stats *stats);
/* Every `meter_every` commits. */
bool mzi_meters_due_for_record(const mezzo_trainer *t);
/* The loss scale's own measurements: others must not move it. */
bool mzi_meters_due_for_scale(const mezzo_trainer *t);
void mzi_meters_clear(mezzo_trainer *t);
mezzo_status mzi_meters_add(mezzo_trainer *t);
/* Of the FP16 tensors of backward together; where there are none, of those in BF16. */
void mzi_meters_evidence(const mezzo_trainer *t, mezzo_scale_evidence *out);
/* The first meter that saw something not finite; of gradients and next statistics only if `written`
 * is set: what an update would write. */
mezzo_status mzi_meters_fault(mezzo_trainer *t, bool written, mzi_fault *out);

#endif
