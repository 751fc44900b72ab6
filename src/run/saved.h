/* How far a run has come, as metadata of its masters' file: all that a later step depends on,
 * tensors aside.  docs/checkpoint-format.md lists the keys. */
#ifndef MZI_RUN_SAVED_H
#define MZI_RUN_SAVED_H

#include "base/ctx.h"
#include "mezzo/safetensors.h"
#include "mezzo/train.h"

enum {
    MZI_SAVED_VALUE = 112,
    MZI_SAVED_NOTES = 20
};

typedef struct mzi_saved {
    mezzo_trainer_state state;
    int64_t samples;         /* drawn from the training data so far */
    int64_t overflow_events; /* so far                              */
    int64_t seed;
    char optimizer[MZI_SAVED_VALUE];
    char precision[MZI_SAVED_VALUE];
    char scale_rule[MZI_SAVED_VALUE]; /* mzi_scale_rule of the scaler */
} mzi_saved;

/* The metadata, with room for its values. */
typedef struct mzi_saved_notes {
    mezzo_safetensors_note notes[MZI_SAVED_NOTES];
    char values[MZI_SAVED_NOTES][MZI_SAVED_VALUE];
    int count;
} mzi_saved_notes;

const char *mzi_scale_mode_name(mezzo_scale_mode mode);
/* What moves the scale, but for mode and init: two of equal rules can go on from each other. */
void mzi_scale_rule(const mezzo_scaler_config *config, char out[MZI_SAVED_VALUE]);

void mzi_saved_write(const mzi_saved *saved, mzi_saved_notes *out);
/* `*found` is false if the file says nothing of a trainer.  DATA, naming key and value, if a value
 * is missing or none that a run has. */
mezzo_status mzi_saved_read(mezzo_ctx *ctx, const mezzo_safetensors *file, const char *path,
                            mzi_saved *out, bool *found);

#endif
