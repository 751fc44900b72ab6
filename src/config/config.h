/* The configuration as an object: a setting for each key of the schema. */
#ifndef MZI_CONFIG_CONFIG_H
#define MZI_CONFIG_CONFIG_H

#include "config/value.h"

struct mezzo_config {
    mezzo_ctx *ctx;
    mzi_arena arena; /* of everything that `settings` points to */
    mzi_setting *settings;
};

/* A change in the making: it takes the configuration's place as a whole, or is dropped. */
typedef struct mzi_config_draft {
    mzi_arena arena;
    mzi_setting *settings;
} mzi_config_draft;

/* Starts from a copy of `from`. */
mezzo_status mzi_config_draft_begin(mezzo_ctx *ctx, const mzi_setting *from, mzi_config_draft *out);
/* `status` of the change: OK commits it to `config`, anything else drops it; returns `status`. */
mezzo_status mzi_config_draft_end(mezzo_config *config, mzi_config_draft *draft,
                                  mezzo_status status);

/* Set what `text` says: below `path`, a key or a section; "" is the top. */
mezzo_status mzi_config_apply(mzi_config_draft *draft, const mzi_config_source *source,
                              const char *path, const char *text, size_t bytes);

/* The setting of a key of `type`, null if there is none. */
const mzi_setting *mzi_config_setting(const mezzo_config *config, const char *key,
                                      mezzo_config_type type);

#endif
