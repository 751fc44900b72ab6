/* A model's state as safetensors files (docs/checkpoint-format.md):
 *
 *   FOLDER/model.safetensors     each tensor in its compute type: what one deploys
 *   FOLDER/masters.safetensors   each tensor in FP32, and the optimizer's: what one trains on
 *   FOLDER/ema.safetensors       averages in the place of parameters, in FP32
 *
 * Plain arrays in, plain arrays out: nothing here knows what a model is. */
#ifndef MZI_CHECKPOINT_WEIGHTS_H
#define MZI_CHECKPOINT_WEIGHTS_H

#include "checkpoint/safetensors_format.h"

#define MZI_MODEL_FILE "model.safetensors"
#define MZI_MASTERS_FILE "masters.safetensors"
#define MZI_EMA_FILE "ema.safetensors"
/* Names of optimizer state and of averages start with these: "optimizer/fc.weight.m",
 * "ema/fc.weight". */
#define MZI_OPTIMIZER_PREFIX "optimizer/"
#define MZI_EMA_PREFIX "ema/"

typedef struct mzi_weight {
    const char *name;
    mezzo_shape shape;
    mezzo_dtype compute; /* F32, F16 or BF16; statistics are F32 */
    float *data;         /* the FP32 master */
} mzi_weight;

typedef struct mzi_weights_info {
    int64_t step;                  /* commits so far */
    const char *plan_hash;         /* of the numerics, in hex */
    mezzo_dtype precision;         /* the run's compute type */
    mezzo_safetensors_note common; /* more metadata of every file; no key: none */
    /* More metadata of the masters' file. */
    const mezzo_safetensors_note *notes;
    int note_count;
} mzi_weights_info;

enum {
    MZI_WEIGHTS_NOTE_MAX = 32
};

/* Makes `folder` if it is not there.  `optimizer` goes into the masters' file as it is; names start
 * with one of the prefixes.  Values come from `source`, whose index counts the weights and then
 * the optimizer's; null: they are FP32 in `data`.  What becomes BF16 is rounded as a weight is,
 * ties away from zero.  Each file is replaced as a whole, the masters first.
 */
mezzo_status mzi_weights_save(mezzo_ctx *ctx, const mzi_fs *fs, const char *folder,
                              const mzi_weight *weights, int count,
                              const mezzo_safetensors_item *optimizer, int optimizer_count,
                              const mzi_safetensors_source *source, const mzi_weights_info *info);
/* FOLDER/FILE with every weight in FP32, from `source`. */
mezzo_status mzi_weights_save_one(mezzo_ctx *ctx, const mzi_fs *fs, const char *folder,
                                  const char *file, const mzi_weight *weights, int count,
                                  const mzi_safetensors_source *source,
                                  const mzi_weights_info *info);
/* DATA unless `file`, shown as `path`, has every weight as a float of its shape, and nothing else,
 * optimizer state and averages aside. */
mezzo_status mzi_weights_check(mezzo_ctx *ctx, const mezzo_safetensors *file, const char *path,
                               const mzi_weight *weights, int count);
/* Fills `data` of every weight from `path`, converting to FP32 what is F16 or BF16 (`compute` is
 * ignored).  DATA if a tensor is missing, has another shape or is no float, or if the file has one
 * that was not asked for, optimizer state and averages aside; nothing is written then.  `rounded`,
 * if not null: how many were F16 or BF16. */
mezzo_status mzi_weights_load(mezzo_ctx *ctx, const char *path, const mzi_weight *weights,
                              int count, int *rounded);
/* Elements [first, first + count) of an item of type F32, F16 or BF16. */
void mzi_weights_copy(const mezzo_safetensors_item *item, int64_t first, int64_t count, float *out);
/* Element `index` of an item of type F32, F16 or BF16. */
float mzi_weights_value(const mezzo_safetensors_item *item, int64_t index);

#endif
