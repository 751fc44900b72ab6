/* The tensors of a model in Hugging Face's format, in one safetensors file or spread over several:
 *
 *   FOLDER/config.json
 *   FOLDER/model.safetensors
 *   FOLDER/model.safetensors.index.json     or: {"weight_map": {TENSOR: FILE, ...}, ...}
 *   FOLDER/model-00001-of-00002.safetensors ...                                           */
#ifndef MZI_CHECKPOINT_HF_FILES_H
#define MZI_CHECKPOINT_HF_FILES_H

#include "mezzo/safetensors.h"

#define MZI_HF_CONFIG_FILE "config.json"

enum {
    MZI_HF_PATH = 4096
};

typedef struct mzi_hf_files mzi_hf_files;

/* `path` is the folder, its model.safetensors, or its index.  DATA if there is none of them, if an
 * index is no such thing or names what is not there, or if it is a pickle, which is never read. */
mezzo_status mzi_hf_open(mzi_hf_files **out, mezzo_ctx *ctx, const char *path);
void mzi_hf_close(mzi_hf_files *files);

int mzi_hf_count(const mzi_hf_files *files);
/* `index` is 0 to count - 1. */
mezzo_safetensors_item mzi_hf_at(const mzi_hf_files *files, int index);
/* Tensors of this name, of which `*out` is one. */
int mzi_hf_find(const mzi_hf_files *files, const char *name, mezzo_safetensors_item *out);
/* As it was given, for messages. */
const char *mzi_hf_path(const mzi_hf_files *files);

/* FOLDER/NAME of the folder that `path` is or lies in. */
void mzi_hf_beside(const char *path, const char *name, char out[MZI_HF_PATH]);

#endif
