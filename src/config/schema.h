/* The schema as the rest of the configuration sees it: keys by index, sections, fields. */
#ifndef MZI_CONFIG_SCHEMA_H
#define MZI_CONFIG_SCHEMA_H

#include "mezzo/config.h"

enum {
    MZI_CONFIG_FIELD_MAX = 4, /* fields of a record      */
    MZI_CONFIG_ITEM_MAX = 256 /* items of a list         */
};

int mzi_config_key_count(void);
/* The index of a key; -1 if there is none of that path. */
int mzi_config_key_find(const char *path);
/* True if keys lie below `path`: "precision", "precision.loss_scale". */
bool mzi_config_is_section(const char *path);

/* A part of a text that lives elsewhere. */
typedef struct mzi_slice {
    const char *text;
    size_t bytes;
} mzi_slice;
bool mzi_slice_equal(mzi_slice slice, const char *text);
mzi_slice mzi_slice_of(const char *text); /* null: empty */
/* The next word of a list such as "adamw|sgd"; `*rest` moves behind it.  False at the end. */
bool mzi_slice_next(mzi_slice *rest, char separator, mzi_slice *word);

/* A field of a record, from "NAME:TYPE" or "NAME:TYPE=DEFAULT"; TYPE is text, real, or words
 * separated by "|".  DEFAULT is a number or the path of a key of type REAL; a field without one
 * must be given. */
typedef struct mzi_config_field {
    mzi_slice name;
    mezzo_config_type type;
    mzi_slice choices, initial; /* empty where there is none */
} mzi_config_field;
/* Fills `fields`; returns their number, 0 if the key is no list of records. */
int mzi_config_fields(const mezzo_config_key *key, mzi_config_field fields[MZI_CONFIG_FIELD_MAX]);

/* The next component below `section` ("" for the top) of key `index`; empty if it is not there. */
mzi_slice mzi_config_component(int index, const char *section);

#endif
