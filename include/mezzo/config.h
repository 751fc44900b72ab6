/* The configuration: typed keys from one schema, with the origin of each value.
 *
 * Precedence, lowest first: defaults, the user's file, the file given, MEZZO_* variables (handed
 * over by the program, since the library does not read the environment), --set.  An unknown key, a
 * duplicate or a value of the wrong type is an error with file, line, column, and the nearest key.
 */
#ifndef MEZZO_CONFIG_H
#define MEZZO_CONFIG_H

#include "mezzo/train.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mezzo_config mezzo_config;

MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_config_create(mezzo_config **out, mezzo_ctx *ctx);
MEZZO_API void mezzo_config_destroy(mezzo_config *config);
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_config_copy(mezzo_config **out,
                                                          const mezzo_config *config);
/* CONFIG if it is invalid; IO if the file cannot be read. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_config_load(mezzo_config *config, const char *path);
/* The same from memory; `name` stands for the path in messages. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_config_load_text(mezzo_config *config,
                                                               const char *name, const char *text,
                                                               size_t bytes);
/* "train.steps=100": the value is YAML ("[1, 2]" for a list); a text key takes what is there as it
 * is, unless it starts with a quote.  `origin` stands for the source in messages: "--set". */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_config_set(mezzo_config *config,
                                                         const char *assignment,
                                                         const char *origin);
/* Every "MEZZO_TRAIN__STEPS=100" of an environment (null-terminated): two underscores between
 * levels.  Variables without two underscores behind MEZZO_ are passed over. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status
mezzo_config_set_environment(mezzo_config *config, const char *const *environment);
/* Checks across keys (a model kind's own keys, ranges that depend on each other). */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_config_check(mezzo_config *config);

/* Values, by key; the key must exist in the schema with this type (a wrong one is a programming
 * error: 0, "" or an empty list come back). Texts and lists live until the config changes. */
MEZZO_API int64_t mezzo_config_int(const mezzo_config *config, const char *key);
MEZZO_API double mezzo_config_real(const mezzo_config *config, const char *key);
MEZZO_API bool mezzo_config_bool(const mezzo_config *config, const char *key);
MEZZO_API const char *mezzo_config_text(const mezzo_config *config, const char *key);
/* Items of a list; for a list of records, of its field: ("precision.overrides", 0, "match"). */
MEZZO_API int mezzo_config_count(const mezzo_config *config, const char *key);
MEZZO_API int64_t mezzo_config_int_at(const mezzo_config *config, const char *key, int index);
MEZZO_API const char *mezzo_config_field_text(const mezzo_config *config, const char *key,
                                              int index, const char *field);
MEZZO_API double mezzo_config_field_real(const mezzo_config *config, const char *key, int index,
                                         const char *field);
/* Where the value comes from: "default", "FILE:LINE", "MEZZO_TRAIN__STEPS", "--set". */
MEZZO_API const char *mezzo_config_origin(const mezzo_config *config, const char *key);

/* One key of the schema, for help and documentation; null past the end. */
typedef enum mezzo_config_type {
    MEZZO_CONFIG_INT,
    MEZZO_CONFIG_REAL,
    MEZZO_CONFIG_BOOL,
    MEZZO_CONFIG_TEXT,
    MEZZO_CONFIG_CHOICE,
    MEZZO_CONFIG_INT_LIST,
    MEZZO_CONFIG_RECORD_LIST
} mezzo_config_type;
typedef struct mezzo_config_key {
    const char *path;
    mezzo_config_type type;
    const char *initial; /* as YAML */
    /* "adamw|sgd"; of an integer, the word for 0, of a real, that for -1: "auto"; of a record list,
     * its fields with their types, and defaults if they may be left out: "match:text
     * lr_scale:real=1". */
    const char *choices;
    double min, max; /* of a number, of the items of a list, of the numbers in a record */
    const char *help;
} mezzo_config_key;
MEZZO_API const mezzo_config_key *mezzo_config_key_at(int index);

/* The whole configuration as YAML; with `origins`, each value's origin as a comment.  Freed with
 * mezzo_text_free. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_config_dump(const mezzo_config *config, bool origins,
                                                          char **out);
MEZZO_API void mezzo_text_free(mezzo_ctx *ctx, char *text);

#ifdef __cplusplus
}
#endif
#endif
