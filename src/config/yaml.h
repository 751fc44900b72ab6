/* YAML as a tree of texts with positions: the part of the language that a configuration needs.
 * What the texts mean is the schema's matter.  Tags, anchors, aliases, second documents and
 * duplicate keys are refused. */
#ifndef MZI_CONFIG_YAML_H
#define MZI_CONFIG_YAML_H

#include "base/arena.h"

/* Where a text comes from, for messages. */
typedef struct mzi_config_source {
    mezzo_ctx *ctx;
    const char *name; /* "runs/a.yaml", "MEZZO_TRAIN__STEPS" */
    bool positions;   /* lines and columns mean something: a file */
} mzi_config_source;

typedef struct mzi_config_spot {
    int line, column; /* from 1 */
} mzi_config_spot;

/* Records CONFIG with "NAME:LINE:COLUMN: " in front, or "NAME: ". */
mezzo_status mzi_config_fail_at(const mzi_config_source *source, mzi_config_spot spot,
                                const char *file, int line, const char *format, ...)
    MEZZO_PRINTF(5, 6);
#define MZI_CONFIG_FAIL(source, spot, ...)                                                         \
    return mzi_config_fail_at((source), (spot), __FILE__, __LINE__, __VA_ARGS__)

typedef enum mzi_yaml_kind {
    MZI_YAML_SCALAR,
    MZI_YAML_LIST,
    MZI_YAML_MAP
} mzi_yaml_kind;

typedef struct mzi_yaml_node mzi_yaml_node;
struct mzi_yaml_node {
    mzi_yaml_kind kind;
    bool plain;       /* a scalar without quotes          */
    const char *text; /* of a scalar                      */
    const char *key;  /* in a map                         */
    mzi_config_spot spot, key_spot;
    int count; /* children: items, or entries in order     */
    mzi_yaml_node *first, *next;
};

/* The tree of one document, in `arena`; `*out` is null if the text holds none. */
mezzo_status mzi_yaml_read(const mzi_config_source *source, mzi_arena *arena, const char *text,
                           size_t bytes, mzi_yaml_node **out);

#endif
