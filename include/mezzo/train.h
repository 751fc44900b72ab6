/* The training step: one ordered tail that commits as a whole or not at all.
 *
 *   forward, backward -> finite? norm -> clip -> update masters -> commit -> cast weights
 *
 * If the loss, a gradient or a statistic is not finite, each micro-batch is run again to find out
 * which tensor was the first: a window goes on without those micro-batches, or the step is skipped.
 * Then weights, moments, statistics, step count and learning rate stay as they were, bit for bit;
 * only the attempt counter and the loss scale move.
 */
#ifndef MEZZO_TRAIN_H
#define MEZZO_TRAIN_H

#include "mezzo/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parameters whose name matches (`*`, `?`; the last match wins) train by other factors. */
typedef struct mezzo_param_group {
    const char *match;
    float lr_scale;     /* times the schedule's rate; 0 freezes                      */
    float weight_decay; /* instead of the optimizer's                                */
} mezzo_param_group;

/* Parameters of every optimizer; each reads its own.  Values are taken as they are: start from
 * mezzo_optimizer_default. */
typedef struct mezzo_optimizer_config {
    const char *kind; /* "adamw", "lion", "muon", "sgd": the names in optim.def */
    float lr;
    float weight_decay;
    float beta1, beta2; /* adamw, lion */
    float eps;          /* adamw */
    float momentum;     /* sgd, muon */
    bool nesterov;      /* sgd; muon always is */
    mezzo_dtype state;  /* of the moments: F32 (also if NONE), or BF16, rounded stochastically */
    /* muon trains the weights of linear layers that are read once, but for one whose output a
     * cross-entropy reads; adamw, by its own parameters above, the rest at this times lr. */
    float other_lr_scale;
    /* Without groups, parameters of rank 1 (norms, biases) get no weight decay. */
    const mezzo_param_group *groups;
    int group_count;
} mezzo_optimizer_config;
/* lr 1e-3, weight_decay 0.01; adamw: betas 0.9 and 0.999, eps 1e-8; lion: betas 0.9 and 0.99; sgd:
 * momentum 0.9; muon: momentum 0.95, other_lr_scale 0.015, beta2 0.95.  lion wants a rate 3 to 10
 * times below adamw's, and as many times its decay; muon one of some 0.02. */
MEZZO_API mezzo_optimizer_config mezzo_optimizer_default(const char *kind);

typedef enum mezzo_schedule_kind {
    MEZZO_SCHEDULE_CONSTANT,
    MEZZO_SCHEDULE_COSINE,
    MEZZO_SCHEDULE_LINEAR,
    MEZZO_SCHEDULE_WSD
} mezzo_schedule_kind;
/* Rate of step t = 0, 1, ...: lr (t + 1) / warmup while t < warmup; then lr_min + (lr - lr_min) f,
 *
 *   constant  f = 1 (and lr_min does not matter)
 *   linear    f = 1 - x              x = (t - warmup) / (steps - warmup), at most 1
 *   cosine    f = (1 + cos(pi x)) / 2
 *   wsd       f = 1 - sqrt(y)        y = (t - (steps - decay)) / decay, of 0 to 1: warm-up, stable,
 *                                    decay, whose form is that of Hagele and others (2024) */
typedef struct mezzo_schedule {
    mezzo_schedule_kind kind;
    int64_t warmup;
    int64_t steps; /* of the whole run; not used by constant */
    float lr_min;
    int64_t decay; /* wsd; 0: a fifth of `steps`; never longer than what the warm-up leaves */
} mezzo_schedule;
MEZZO_API double mezzo_schedule_lr(const mezzo_schedule *schedule, double lr, int64_t step);

typedef struct mezzo_trainer_config {
    mezzo_optimizer_config optimizer;
    mezzo_schedule schedule;
    mezzo_scaler_config scaler;
    float clip; /* largest global gradient norm; 0: no clipping */
    /* Micro-batches of a step, whose gradients are summed in FP32; 0 means 1.  The loss is the mean
     * over all rows of the window that count: a cross-entropy says how many (mezzo/ops.h), and with
     * any other loss each micro-batch counts as much. */
    int32_t accumulate;
    /* A window with micro-batches that are not finite, but not by an overflow of gradients, is run
     * again without them; with this, it is skipped as a whole. */
    bool no_salvage;
    /* Commits from one measurement of all tensors and updates to the next; 0: never.  HEADROOM
     * measures besides, by attempts (growth_interval). */
    int64_t meter_every;
    /* Decay d of an average of the parameters, in [0, 1); 0: none.  Behind every commit, in FP32:
     * ema = w at the first, then ema = d ema + (1 - d) w.  State "ema/PARAM". */
    float ema;
    /* Bytes that training may take: state, weights, activations, workspaces; 0: any.  What does not
     * fit is made to fit by recomputation, besides what mezzo_model_config.recompute names. */
    uint64_t memory_bytes;
} mezzo_trainer_config;

typedef struct mezzo_trainer mezzo_trainer;

/* Adds optimizer state to the model, which must outlive the trainer and have no other.  A wrong
 * configuration changes nothing; OUT_OF_MEMORY and DOWNGRADE may come when masters have taken the
 * form that the model's precision asks for. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_trainer_create(mezzo_trainer **out,
                                                             mezzo_model *model,
                                                             const mezzo_trainer_config *config);
MEZZO_API void mezzo_trainer_destroy(mezzo_trainer *trainer);

/* The cause is where the first Inf or NaN of the step is, in the order of its operations. */
typedef enum mezzo_skip_reason {
    MEZZO_SKIP_NONE,
    MEZZO_SKIP_DATA,     /* in an input                                                          */
    MEZZO_SKIP_FORWARD,  /* forward made it: an activation, a statistic, the loss                */
    MEZZO_SKIP_GRADIENT, /* backward overflowed: an Inf, or a NaN that a low scale takes away    */
    MEZZO_SKIP_NAN,      /* backward made a NaN without an Inf, at a low scale too               */
    MEZZO_SKIP_NORM      /* all is finite, but the norm is beyond 2^60: the update could overflow */
} mezzo_skip_reason;
MEZZO_API const char *mezzo_skip_reason_name(mezzo_skip_reason reason); /* "data", "forward"... */

/* What happened; an overflow is a result, not an error. */
typedef struct mezzo_step_result {
    int64_t step;    /* committed steps, this one included if it was */
    int64_t attempt; /* tries, this one included                     */
    bool skipped;
    /* Why: of a skipped step, and of micro-batches that a committed one left out. */
    mezzo_skip_reason reason;
    const char *where;   /* the input, or the operation that made it ("conv1/dx"); or null */
    int32_t micro_batch; /* the first one it is about, from 0 */
    int32_t dropped;     /* micro-batches left out */
    bool measured;       /* meters are of this step */
    double loss;         /* unscaled */
    double grad_norm;    /* unscaled, before clipping; Inf or NaN if the gradients are */
    double lr;
    float loss_scale; /* of this step */
    double stalled;   /* the share of all parameters together (mezzo_stall); NaN: not measured */
} mezzo_step_result;

/* One step.  The inputs are those of the TRAIN graph, for each micro-batch one behind the other:
 * `bytes` is `accumulate` times what the graph takes. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_trainer_step(mezzo_trainer *trainer,
                                                           const mezzo_binding *inputs, int count,
                                                           mezzo_step_result *result);

/* A tensor that forward or backward makes, or an input, in the last step that was measured, as it
 * was stored: gradients are scaled.  Over all micro-batches. */
typedef struct mezzo_meter {
    const char *name; /* of the operation; valid as long as the trainer */
    mezzo_dtype dtype;
    bool is_gradient; /* made by backward */
    double max;       /* largest finite magnitude */
    double underflow; /* subnormals among the elements that are not 0: digits are lost */
    double overflow;  /* Inf and NaN among all elements */
    double zeros;     /* among all elements */
} mezzo_meter;
MEZZO_API int mezzo_trainer_meter_count(const mezzo_trainer *trainer);
MEZZO_API mezzo_meter mezzo_trainer_meter(const mezzo_trainer *trainer, int index);

/* The skip ledger: every skipped step, of which the last MEZZO_LEDGER_MAX are kept. */
enum {
    MEZZO_LEDGER_MAX = 256
};
typedef struct mezzo_skip {
    int64_t attempt, step; /* the try, counted from 1; commits before it */
    mezzo_skip_reason reason;
    float loss_scale;
    const char *where; /* as in mezzo_step_result; valid as long as the trainer */
} mezzo_skip;
/* The `back`-th last skip, from 0; false if there are not so many, it is no longer kept, or it came
 * before mezzo_trainer_set_state. */
MEZZO_API bool mezzo_trainer_skip(const mezzo_trainer *trainer, int64_t back, mezzo_skip *out);

/* The stall meter: updates of less than half an ulp, which leave the weight as it was.  Of each
 * trained parameter that is not rounded stochastically (a rate scale of 0 freezes) up to 4096
 * elements at a fixed distance are looked at, those whose gradient is 0 left out:
 *
 *   share of a parameter = stalled / counted
 *   share of all         = sum (elements / sampled) stalled / sum (elements / sampled) counted */
typedef struct mezzo_stall {
    const char *param; /* valid as long as the trainer */
    int64_t elements, sampled;
    int64_t counted, stalled; /* at the last measurement; 0 before the first */
} mezzo_stall;
/* False if there is no such parameter of this index. */
MEZZO_API bool mezzo_trainer_stall(const mezzo_trainer *trainer, int index, mezzo_stall *out);

/* Parameters whose rate scale is not 0: what is trained. */
MEZZO_API int mezzo_trainer_trained_count(const mezzo_trainer *trainer);

/* Everything that a later step depends on, the model's tensors aside. */
typedef struct mezzo_trainer_state {
    int64_t step, attempt; /* committed steps; tries */
    int64_t skipped;
    int64_t moments_from; /* commits before the moments started at zero: adamw's bias corrections
                           * count from there */
    int64_t averaged;     /* commits that the average has seen; 0: the next one starts it */
    mezzo_scaler scaler;
} mezzo_trainer_state;
MEZZO_API mezzo_trainer_state mezzo_trainer_get_state(const mezzo_trainer *trainer);
/* Go on from a state of this or of another trainer; the tensors, moments too, are set by
 * mezzo_model_write.  Of the scaler, scale and trackers are taken: its configuration stays.
 * INVALID_ARGUMENT if the scaler's mode is another, or if no run can have come to that state: a
 * scale that is no power of two, more commits than attempts ...; nothing has changed then. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_trainer_set_state(mezzo_trainer *trainer,
                                                                const mezzo_trainer_state *state);
/* BLAKE2b-256 in hex over weights, moments, statistics, averages and the committed step, as FP32
 * values; equal before and after a skipped step.  `hex` holds 65 bytes. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_trainer_state_hash(mezzo_trainer *trainer, char *hex);
/* Copy the gradient of a parameter of the last step out, unscaled, before clipping. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_trainer_read_gradient(mezzo_trainer *trainer,
                                                                    const char *param, float *out,
                                                                    int64_t count);

/* For loops of your own, on raw buffers. */

/* Sum of squares of the finite elements, and the number of the others.  `dtype` F32, F16 or BF16.
 */
typedef struct mezzo_gradient_norm {
    double sum_of_squares;
    int64_t nonfinite;
} mezzo_gradient_norm;
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_gradient_check(mezzo_ctx *ctx, const void *gradient,
                                                             mezzo_dtype dtype, size_t count,
                                                             mezzo_gradient_norm *out);
/* One AdamW update of `count` elements: w, m, v FP32 in place, g of `dtype`.  g is multiplied by
 * `gradient_factor` (unscaling and clipping) first.  `step` counts from 1.  Formula: families.h,
 * adamw. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_adamw_update(mezzo_ctx *ctx,
                                                           const mezzo_optimizer_config *config,
                                                           float *w, float *m, float *v,
                                                           const void *g, mezzo_dtype dtype,
                                                           size_t count, double lr,
                                                           double gradient_factor, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
