/* Values: texts that a key's type has been found to fit, with what they mean. */
#ifndef MZI_CONFIG_VALUE_H
#define MZI_CONFIG_VALUE_H

#include "config/schema.h"
#include "config/yaml.h"

typedef struct mzi_scalar {
    const char *text; /* as it is written in a dump; null: a field that was not given */
    int64_t integer;  /* INT; BOOL: 0 or 1 */
    double real;
} mzi_scalar;

/* The value of a key: `count` items of `width` scalars each (a record's fields; else 1). */
typedef struct mzi_setting {
    const char *origin;
    int count, width;
    mzi_scalar *items;
} mzi_setting;

/* What a scalar must be: of a key, of an item of its list, or of a field of its records. */
typedef struct mzi_scalar_rule {
    const char *where; /* "train.steps", "precision.overrides[0].match" */
    mezzo_config_type type;
    mzi_slice choices;
    double min, max;
} mzi_scalar_rule;

/* Check `node` against `rule`; texts go into `arena`. */
mezzo_status mzi_scalar_read(const mzi_config_source *source, mzi_arena *arena,
                             const mzi_scalar_rule *rule, const mzi_yaml_node *node,
                             mzi_scalar *out);
/* The number that `text` starts with, whatever the locale's decimal point. */
double mzi_real_parse(const char *text);
/* The value of a key of any type; `out->origin` is the caller's. */
mezzo_status mzi_setting_read(const mzi_config_source *source, mzi_arena *arena,
                              const mezzo_config_key *key, const mzi_yaml_node *node,
                              mzi_setting *out);
/* A copy that shares nothing. */
mezzo_status mzi_setting_copy(mzi_arena *arena, const mzi_setting *from, mzi_setting *out);

#endif
