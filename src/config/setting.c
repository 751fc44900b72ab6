/* Values of whole keys: scalars, lists, lists of records. */
#include <string.h>

#include "config/value.h"
#include "config/words.h"

enum {
    WHERE_BYTES = 160
};

static mzi_scalar *push_items(mzi_arena *arena, int count) {
    return mzi_arena_push(arena, sizeof(mzi_scalar) * (size_t)count);
}

static mezzo_status check_list(const mzi_config_source *source, const mezzo_config_key *key,
                               const mzi_yaml_node *node) {
    const char *what = key->type == MEZZO_CONFIG_RECORD_LIST ? "records" : "integers";
    if (node->kind == MZI_YAML_SCALAR)
        MZI_CONFIG_FAIL(source, node->spot, "%s: expected a list of %s in [ ], got \"%.60s\"",
                        key->path, what, node->text);
    if (node->kind == MZI_YAML_MAP)
        MZI_CONFIG_FAIL(source, node->spot, "%s: expected a list of %s in [ ], got a map",
                        key->path, what);
    if (node->count > MZI_CONFIG_ITEM_MAX)
        MZI_CONFIG_FAIL(source, node->spot, "%s: a list of %d items; the limit is %d", key->path,
                        node->count, (int)MZI_CONFIG_ITEM_MAX);
    return MEZZO_OK;
}

static int find_field(const mzi_config_field *fields, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (mzi_slice_equal(fields[i].name, name))
            return i;
    return -1;
}

static mezzo_status fail_field(const mzi_config_source *source, const mezzo_config_key *key,
                               const mzi_config_field *fields, int count,
                               const mzi_yaml_node *node) {
    char names[WHERE_BYTES] = "";
    for (int i = 0; i < count; i++) {
        int distance;
        if (mzi_words_near(node->key, fields[i].name, &distance))
            MZI_CONFIG_FAIL(source, node->key_spot,
                            "%s: unknown field \"%.60s\"; did you mean \"%.*s\"?", key->path,
                            node->key, (int)fields[i].name.bytes, fields[i].name.text);
        size_t used = strlen(names);
        mzi_format(names + used, sizeof names - used, "%s%.*s", i > 0 ? ", " : "",
                   (int)fields[i].name.bytes, fields[i].name.text);
    }
    MZI_CONFIG_FAIL(source, node->key_spot, "%s: unknown field \"%.60s\"; the fields are: %s",
                    key->path, node->key, names);
}

static mezzo_status read_record(const mzi_config_source *source, mzi_arena *arena,
                                const mezzo_config_key *key, int index, const mzi_yaml_node *node,
                                mzi_scalar *items) {
    mzi_config_field fields[MZI_CONFIG_FIELD_MAX];
    int count = mzi_config_fields(key, fields);
    if (node->kind != MZI_YAML_MAP)
        MZI_CONFIG_FAIL(source, node->spot, "%s[%d]: expected a record such as {%.*s: ...}",
                        key->path, index, (int)fields[0].name.bytes, fields[0].name.text);
    for (const mzi_yaml_node *child = node->first; child; child = child->next) {
        int field = find_field(fields, count, child->key);
        if (field < 0)
            return fail_field(source, key, fields, count, child);
        char where[WHERE_BYTES];
        mzi_format(where, sizeof where, "%s[%d].%s", key->path, index, child->key);
        mzi_scalar_rule rule = {where, fields[field].type, fields[field].choices, key->min,
                                key->max};
        MZI_TRY(mzi_scalar_read(source, arena, &rule, child, &items[field]));
    }
    for (int i = 0; i < count; i++)
        if (!items[i].text && fields[i].initial.bytes == 0)
            MZI_CONFIG_FAIL(source, node->spot, "%s[%d]: the field \"%.*s\" is missing", key->path,
                            index, (int)fields[i].name.bytes, fields[i].name.text);
    return MEZZO_OK;
}

static mezzo_status read_item(const mzi_config_source *source, mzi_arena *arena,
                              const mezzo_config_key *key, int index, const mzi_yaml_node *node,
                              mzi_scalar *items) {
    if (key->type == MEZZO_CONFIG_RECORD_LIST)
        return read_record(source, arena, key, index, node, items);
    char where[WHERE_BYTES];
    mzi_format(where, sizeof where, "%s[%d]", key->path, index);
    mzi_scalar_rule rule = {where, key->type, mzi_slice_of(NULL), key->min, key->max};
    return mzi_scalar_read(source, arena, &rule, node, items);
}

mezzo_status mzi_setting_read(const mzi_config_source *source, mzi_arena *arena,
                              const mezzo_config_key *key, const mzi_yaml_node *node,
                              mzi_setting *out) {
    bool single = key->type == MEZZO_CONFIG_INT_LIST && node->kind == MZI_YAML_SCALAR &&
                  node->text[0] != '\0'; /* 384 is [384] */
    bool list =
        !single && (key->type == MEZZO_CONFIG_INT_LIST || key->type == MEZZO_CONFIG_RECORD_LIST);
    mzi_config_field fields[MZI_CONFIG_FIELD_MAX];
    mzi_setting value = {out->origin, 1, 1, NULL};
    if (list) {
        MZI_TRY(check_list(source, key, node));
        int width = mzi_config_fields(key, fields);
        value.count = node->count;
        value.width = width > 0 ? width : 1;
    }
    value.items = push_items(arena, value.count * value.width);
    if (!value.items)
        return mzi_out_of_memory(source->ctx, sizeof(mzi_scalar), "a value of the configuration");
    if (list) {
        int index = 0;
        for (const mzi_yaml_node *item = node->first; item; item = item->next, index++)
            MZI_TRY(read_item(source, arena, key, index, item,
                              &value.items[(ptrdiff_t)index * value.width]));
    } else {
        mzi_scalar_rule rule = {key->path, key->type, mzi_slice_of(key->choices), key->min,
                                key->max};
        MZI_TRY(mzi_scalar_read(source, arena, &rule, node, value.items));
    }
    *out = value;
    return MEZZO_OK;
}

mezzo_status mzi_setting_copy(mzi_arena *arena, const mzi_setting *from, mzi_setting *out) {
    int count = from->count * from->width;
    mzi_setting copy = {mzi_arena_text(arena, "%s", from->origin), from->count, from->width,
                        push_items(arena, count)};
    if (!copy.origin || !copy.items)
        return mzi_out_of_memory(arena->ctx, sizeof(mzi_scalar) * (size_t)count,
                                 "a value of the configuration");
    for (int i = 0; i < count; i++) {
        copy.items[i] = from->items[i];
        if (!from->items[i].text)
            continue;
        copy.items[i].text = mzi_arena_text(arena, "%s", from->items[i].text);
        if (!copy.items[i].text)
            return mzi_out_of_memory(arena->ctx, strlen(from->items[i].text) + 1,
                                     "a value of the configuration");
    }
    *out = copy;
    return MEZZO_OK;
}
