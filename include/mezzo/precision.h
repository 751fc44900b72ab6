/* What computes in which type, and how gradients are kept in range. */
#ifndef MEZZO_PRECISION_H
#define MEZZO_PRECISION_H

#include "mezzo/number.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Operations whose name matches the pattern (`*` any text, `?` one character) compute in `compute`.
 * A backward operation carries its forward one's name in front of a slash, and follows it. */
typedef struct mezzo_override {
    const char *match;
    mezzo_dtype compute; /* F32, F16 or BF16 */
} mezzo_override;

/* Masters, moments, statistics and parameter gradients are FP32 whatever `compute` says. */
typedef struct mezzo_precision {
    mezzo_dtype compute; /* F32 (also if NONE), BF16, F16; F64 on the `ref` device only */
    const mezzo_override *overrides; /* the last match wins */
    int override_count;
    bool strict; /* DOWNGRADE if a kernel would not compute in the type asked for */
} mezzo_precision;

/* Loss scaling.  FP16 gradients of 2^-25 or less round to zero: the loss is multiplied by S before
 * backward and the gradients by 1/S before the update.  S is a power of two, so both are exact. */
typedef enum mezzo_scale_mode {
    MEZZO_SCALE_AUTO,   /* dynamic when something computes in FP16, none otherwise */
    MEZZO_SCALE_NONE,   /* S = 1                                                   */
    MEZZO_SCALE_STATIC, /* S = init                                                */
    MEZZO_SCALE_DYNAMIC /* PyTorch's rule, to the letter                           */
} mezzo_scale_mode;

/* 0 in a field means its default. */
typedef struct mezzo_scaler_config {
    mezzo_scale_mode mode;
    float init;              /* 65536; a power of two                                     */
    float growth;            /* 2: S *= growth after `growth_interval` clean steps in a row */
    float backoff;           /* 0.5: S *= backoff after a step with Inf or NaN            */
    int32_t growth_interval; /* 2000 */
} mezzo_scaler_config;

/* Plain data: copy it to save it, assign it to restore it. */
typedef struct mezzo_scaler {
    mezzo_scaler_config config; /* defaults filled in */
    float scale;                /* S of the next step */
    int32_t growth_tracker;     /* clean steps since S last changed */
} mezzo_scaler;

/* INVALID_ARGUMENT if a value is outside its range (init and growth powers of two, growth > 1, 0 <
 * backoff < 1, interval > 0); AUTO is taken for DYNAMIC here.  `*out` is untouched on failure. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_scaler_init(mezzo_ctx *ctx, mezzo_scaler *out,
                                                          const mezzo_scaler_config *config);
/* After each step: `found_inf` says that a gradient was Inf or NaN and the step was not applied. */
MEZZO_API void mezzo_scaler_update(mezzo_scaler *scaler, bool found_inf);

#ifdef __cplusplus
}
#endif
#endif
