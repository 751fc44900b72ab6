/* config.json of Hugging Face's format from and to a configuration, as a kind's map says. */
#ifndef MZI_RUN_HF_CONFIG_H
#define MZI_RUN_HF_CONFIG_H

#include "run/runner.h"

/* Reads the file `path` and sets, in `config`, model.kind and the keys of that kind's map. DATA,
 * naming key and value, if it is for another model than the runner's kinds, lacks a size, or asks
 * for what the kind does not compute. */
mezzo_status mzi_hf_config_read(const mezzo_runner *runner, const char *path, mezzo_config *config);

/* What config.json says besides the configuration. */
typedef struct mzi_hf_config_info {
    mezzo_dtype dtype;   /* of the tensors */
    int32_t end_of_text; /* -1: none       */
} mzi_hf_config_info;
/* The file's text, freed with mzi_free_text. */
mezzo_status mzi_hf_config_text(mezzo_ctx *ctx, const mezzo_config *config, const mezzo_hf_map *map,
                                const mzi_hf_config_info *info, char **out);

/* The integer of a key, which may be a list of one. */
int64_t mzi_hf_config_int(const mezzo_config *config, const char *key);
mezzo_status mzi_hf_config_set_int(mezzo_config *config, const char *key, int64_t value,
                                   const char *origin);

#endif
