/* A model's tensors from and to Hugging Face's format, as a kind's map says. */
#ifndef MZI_CHECKPOINT_HF_WEIGHTS_H
#define MZI_CHECKPOINT_HF_WEIGHTS_H

#include "checkpoint/hf_files.h"
#include "checkpoint/weights.h"
#include "mezzo/run.h"

/* Fills `data` of every weight, in FP32 and in the model's order of rows and columns.  DATA, with
 * nothing written, if a tensor is missing, there twice (with the prefix and without), of another
 * shape or no float, if the files have one that the map does not know, or if the tied tensor
 * differs from the one it is tied to. */
mezzo_status mzi_hf_weights_read(mezzo_ctx *ctx, const mzi_hf_files *files, const mezzo_hf_map *map,
                                 const mzi_weight *weights, int count);
/* Replaces `path` by the weights in `dtype`.  Their `data` is spoiled: it is transposed in place.
 */
mezzo_status mzi_hf_weights_write(mezzo_ctx *ctx, const mzi_fs *fs, const char *path,
                                  const mezzo_hf_map *map, const mzi_weight *weights, int count,
                                  mezzo_dtype dtype);

#endif
