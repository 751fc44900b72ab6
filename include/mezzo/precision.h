/* What computes in which type, and how gradients are kept in range. */
#ifndef MEZZO_PRECISION_H
#define MEZZO_PRECISION_H

#include "mezzo/lint.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Operations whose name matches the pattern (`*` any text, `?` one character) compute in `compute`.
 * A backward operation carries its forward one's name in front of a slash, and follows it. */
typedef struct mezzo_override {
    const char *match;
    mezzo_dtype compute; /* F32, F16 or BF16 */
} mezzo_override;

/* How the master of a parameter is kept that is computed with in BF16.  Others are FP32, and so is
 * one that an operation reads which takes FP32 alone.  Whatever the form, reading one gives FP32
 * values, and writing takes them.
 *
 *   F32     4 bytes, and a BF16 copy for the readers
 *   SPLIT   4 bytes: BF16 for the readers, and the 16 bits that it lacks: the values of F32
 *   BF16    2 bytes: updated in FP32, and rounded to BF16 at each step
 *
 * What goes without the copy, as an embedding does, reads all 32 bits of F32 and SPLIT, and 16 of
 * BF16. */
typedef enum mezzo_master {
    MEZZO_MASTER_F32,
    MEZZO_MASTER_SPLIT,
    MEZZO_MASTER_BF16
} mezzo_master;

/* One scale for all gradients may not be enough for FP16.  Backward operations from the one named
 * `from` on, in the order of the plan and as far as the next segment, compute on gradients that are
 * 2^exponent times larger than the loss scale makes them; in front of the first segment the
 * exponent is 0.  Powers of two are exact, and the update divides by them: barring over- and
 * underflow not one bit of a result changes.  A name that backward has not is CONFIG. */
typedef struct mezzo_segment {
    const char *from; /* "fc2/dx"; of several of that name the first behind the segment before */
    int32_t exponent; /* -MEZZO_SEGMENT_EXPONENT_MAX to MEZZO_SEGMENT_EXPONENT_MAX             */
    double low, high; /* least and largest maximum of a true gradient measured in it; 0: none  */
} mezzo_segment;
enum {
    MEZZO_SEGMENT_EXPONENT_MAX = 60 /* so that between two of them a factor is a normal FP32 */
};

/* What `compute` BF16 means where a device has no BF16 products, and computes them in FP32 behind
 * conversions: OFF, BF16 all the same, which takes less memory and more time; AUTO, FP32 for all
 * that no override names. */
typedef enum mezzo_speed_gate {
    MEZZO_SPEED_GATE_OFF,
    MEZZO_SPEED_GATE_AUTO
} mezzo_speed_gate;

/* A layer that AUTO holds in FP32, with its backward, since its products were measured to take
 * longer in BF16 (mezzo_model_measure_speed).  A name that the graph has not is CONFIG. */
typedef struct mezzo_slow_layer {
    const char *name;
    double bf16_us, f32_us; /* forward and backward, weights prepared; 0: not measured here */
} mezzo_slow_layer;

/* Statistics are FP32 whatever `compute` says, and so are parameter gradients unless `gradients`
 * does. */
typedef struct mezzo_precision {
    mezzo_dtype compute; /* F32 (also if NONE), BF16, F16; F64 on the `ref` device only */
    const mezzo_override *overrides; /* the last match wins */
    int override_count;
    bool strict;           /* DOWNGRADE if a kernel would not compute in the type asked for */
    mezzo_master master;   /* from the first trainer on; without one masters are FP32 */
    bool master_nearest;   /* BF16 is rounded to nearest, which loses small updates, instead of
                              stochastically */
    mezzo_dtype gradients; /* F32 (also if NONE); BF16: of the weights of what computes in BF16,
                              for steps of one micro-batch */
    mezzo_lint_mode lint;  /* of what the types cannot hold */
    const mezzo_segment *segments; /* in the order of the plan */
    int segment_count;
    mezzo_speed_gate speed_gate;
    const mezzo_slow_layer *slow; /* read with AUTO */
    int slow_count;
} mezzo_precision;

/* Loss scaling.  FP16 gradients of 2^-25 or less round to zero: the loss is multiplied by S before
 * backward and the gradients by 1/S before the update.  S is a power of two, so both are exact. */
typedef enum mezzo_scale_mode {
    MEZZO_SCALE_AUTO,      /* HEADROOM when something computes in FP16, NONE otherwise    */
    MEZZO_SCALE_NONE,      /* S = 1                                                       */
    MEZZO_SCALE_STATIC,    /* S = init                                                    */
    MEZZO_SCALE_PYTORCH,   /* the rules of torch.amp.GradScaler,                          */
    MEZZO_SCALE_MEGATRON,  /* of Megatron-LM's DynamicGradScaler,                         */
    MEZZO_SCALE_DEEPSPEED, /* and of ZeRO's DynamicLossScaler in DeepSpeed 0.17.1 and on */
    MEZZO_SCALE_HEADROOM   /* by measured maxima, up and down                             */
} mezzo_scale_mode;

/* 0 in a field means the mode's default.  Each mode reads its own fields:
 *
 *                            static   pytorch   megatron   deepspeed   headroom
 *   init                     2^16     2^16      2^32       2^16        2^16
 *   growth, backoff          -        2, 1/2    2, 1/2     -           -     fixed: 2, 1/2
 *   growth_interval          -        2000      1000       1000        16
 *   min                      -        -         1          1           2^-14
 *   max                      -        -         -          -           2^40
 *   headroom                 -        -         -          -           3
 *   hysteresis               -        -         2          2           -
 *   consecutive_hysteresis   -        -         -          false       -
 *   skip_at_min              -        -         -          false       -
 */
typedef struct mezzo_scaler_config {
    mezzo_scale_mode mode;
    float init;                  /* first S; a power of two, as all factors and bounds are */
    float growth;                /* above 1: on S after `growth_interval` clean steps      */
    float backoff;               /* below 1: on S after an overflow                        */
    int32_t growth_interval;     /* clean steps; headroom: attempts between measurements   */
    float min, max;              /* bounds of S, around init                               */
    int32_t headroom;            /* bits between the largest gradient and FP16's largest   */
    int32_t hysteresis;          /* the overflow that is the first to move S: 1, 2, ...    */
    bool consecutive_hysteresis; /* a clean step starts that count again; else only growth does */
    bool skip_at_min; /* an overflow at `min` skips the step as any other; else it is the end */
} mezzo_scaler_config;

enum {
    MEZZO_SCALE_HISTORY = 4
};

/* Plain data: copy it to save it, assign it to restore it. */
typedef struct mezzo_scaler {
    mezzo_scaler_config config; /* defaults filled in; 0 in what the mode does not read */
    double scale;               /* S of the next step; FP32's values, but for DEEPSPEED */
    int32_t growth_tracker;     /* clean steps since S grew or a step was skipped; DEEPSPEED: only
                                   since a step was skipped */
    int32_t hysteresis_tracker; /* overflows until S moves, that one included */
    double maxima[MEZZO_SCALE_HISTORY]; /* HEADROOM: of the last measurements, divided by S */
    int32_t measured;                   /* where the next one goes, and so their number mod that */
} mezzo_scaler;

/* What a step showed. */
typedef struct mezzo_scale_evidence {
    bool skipped;    /* it was not applied, for whatever cause                                  */
    bool overflow;   /* backward overflowed where everything before was finite                  */
    bool measured;   /* the next two are of this step; without meaning in one that was skipped  */
    float max;       /* largest magnitude in the FP16 tensors that backward made, scaled by S   */
    float underflow; /* subnormals among their elements that are not 0; a fraction              */
} mezzo_scale_evidence;

/* INVALID_ARGUMENT if a value is outside its range; AUTO is taken for PYTORCH here, whose rule
 * needs no measurement.  `*out` is untouched on failure. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_scaler_init(mezzo_ctx *ctx, mezzo_scaler *out,
                                                          const mezzo_scaler_config *config);
/* After each step: `found_inf` says that a gradient was Inf or NaN and the step was not applied.
 * False if the rule gives up, as DEEPSPEED does at `min`: nothing has changed then. */
MEZZO_API bool mezzo_scaler_update(mezzo_scaler *scaler, bool found_inf);
/* Likewise with all that HEADROOM looks at; the other modes read `skipped` alone, as their peers
 * do. */
MEZZO_API bool mezzo_scaler_observe(mezzo_scaler *scaler, const mezzo_scale_evidence *evidence);

#ifdef __cplusplus
}
#endif
#endif
