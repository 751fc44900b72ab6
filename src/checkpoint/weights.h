/* A model's state as two safetensors files (docs/checkpoint-format.md):
 *
 *   FOLDER/model.safetensors     each tensor in its compute type: what one deploys
 *   FOLDER/masters.safetensors   each tensor in FP32, and the optimizer's: what one trains on
 *
 * Plain arrays in, plain arrays out: nothing here knows what a model is. */
#ifndef MZI_CHECKPOINT_WEIGHTS_H
#define MZI_CHECKPOINT_WEIGHTS_H

#include "checkpoint/safetensors_format.h"

#define MZI_MODEL_FILE "model.safetensors"
#define MZI_MASTERS_FILE "masters.safetensors"
/* Names of optimizer state start with this: "optimizer/fc.weight.m". */
#define MZI_OPTIMIZER_PREFIX "optimizer/"

typedef struct mzi_weight {
    const char *name;
    mezzo_shape shape;
    mezzo_dtype compute; /* F32, F16 or BF16; statistics are F32 */
    float *data;         /* the FP32 master */
} mzi_weight;

typedef struct mzi_weights_info {
    int64_t step;          /* commits so far */
    const char *plan_hash; /* of the numerics, in hex */
    mezzo_dtype precision; /* the run's compute type */
} mzi_weights_info;

/* Makes `folder` if it is not there.  `optimizer` goes into the masters' file as it is; names start
 * with MZI_OPTIMIZER_PREFIX.  Values come from `source`, whose index counts the weights and then
 * the optimizer's; null: they are FP32 in `data`.  Each file is replaced as a whole, the masters
 * first.
 */
mezzo_status mzi_weights_save(mezzo_ctx *ctx, const mzi_fs *fs, const char *folder,
                              const mzi_weight *weights, int count,
                              const mezzo_safetensors_item *optimizer, int optimizer_count,
                              const mzi_safetensors_source *source, const mzi_weights_info *info);
/* Fills `data` of every weight from `path`, converting to FP32 what is F16 or BF16 (`compute` is
 * ignored).  DATA if a tensor is missing, has another shape or is no float, or if the file has one
 * that was not asked for, optimizer state aside; nothing is written then.  `rounded`, if not null:
 * how many were F16 or BF16. */
mezzo_status mzi_weights_load(mezzo_ctx *ctx, const char *path, const mzi_weight *weights,
                              int count, int *rounded);
/* Element `index` of an item of type F32, F16 or BF16. */
float mzi_weights_value(const mezzo_safetensors_item *item, int64_t index);

#endif
