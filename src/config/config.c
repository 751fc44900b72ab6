/* The configuration object and its values. */
#include "config/config.h"

#include <string.h>

mezzo_status mzi_config_draft_begin(mezzo_ctx *ctx, const mzi_setting *from,
                                    mzi_config_draft *out) {
    int count = mzi_config_key_count();
    mzi_config_draft draft;
    mzi_arena_init(&draft.arena, ctx);
    draft.settings = mzi_arena_push(&draft.arena, sizeof(mzi_setting) * (size_t)count);
    mezzo_status status = MEZZO_OK;
    if (!draft.settings)
        status = mzi_out_of_memory(ctx, sizeof(mzi_setting) * (size_t)count, "a configuration");
    for (int i = 0; from && status == MEZZO_OK && i < count; i++)
        status = mzi_setting_copy(&draft.arena, &from[i], &draft.settings[i]);
    if (status != MEZZO_OK)
        mzi_arena_deinit(&draft.arena);
    else
        *out = draft;
    return status;
}

mezzo_status mzi_config_draft_end(mezzo_config *config, mzi_config_draft *draft,
                                  mezzo_status status) {
    if (status != MEZZO_OK) {
        mzi_arena_deinit(&draft->arena);
        return status;
    }
    mzi_arena_deinit(&config->arena);
    config->arena = draft->arena;
    config->settings = draft->settings;
    return MEZZO_OK;
}

static mezzo_status apply_defaults(mezzo_ctx *ctx, mzi_config_draft *draft) {
    const mzi_config_source source = {ctx, "default", false};
    const mezzo_config_key *key;
    for (int i = 0; (key = mezzo_config_key_at(i)) != NULL; i++)
        MZI_TRY(mzi_config_apply(draft, &source, key->path, key->initial, strlen(key->initial)));
    return MEZZO_OK;
}

/* `from` null: the defaults. */
static mezzo_status make(mezzo_config **out, mezzo_ctx *ctx, const mzi_setting *from) {
    mezzo_config *config = mzi_alloc(ctx, sizeof *config);
    if (!config)
        return mzi_out_of_memory(ctx, sizeof *config, "a configuration");
    config->ctx = ctx;
    mzi_arena_init(&config->arena, ctx);
    mzi_config_draft draft;
    mezzo_status status = mzi_config_draft_begin(ctx, from, &draft);
    if (status == MEZZO_OK)
        status =
            mzi_config_draft_end(config, &draft, from ? MEZZO_OK : apply_defaults(ctx, &draft));
    if (status != MEZZO_OK)
        mezzo_config_destroy(config);
    else
        *out = config;
    return status;
}

mezzo_status mezzo_config_create(mezzo_config **out, mezzo_ctx *ctx) {
    mzi_error_clear(ctx);
    return make(out, ctx, NULL);
}

mezzo_status mezzo_config_copy(mezzo_config **out, const mezzo_config *config) {
    mzi_error_clear(config->ctx);
    return make(out, config->ctx, config->settings);
}

void mezzo_config_destroy(mezzo_config *config) {
    if (!config)
        return;
    mzi_arena_deinit(&config->arena);
    mzi_free(config->ctx, config, sizeof *config);
}

void mezzo_text_free(mezzo_ctx *ctx, char *text) {
    mzi_free_text(ctx, text);
}

const mzi_setting *mzi_config_setting(const mezzo_config *config, const char *key,
                                      mezzo_config_type type) {
    int index = mzi_config_key_find(key);
    const mezzo_config_key *schema = mezzo_config_key_at(index);
    return schema && schema->type == type ? &config->settings[index] : NULL;
}

int64_t mezzo_config_int(const mezzo_config *config, const char *key) {
    const mzi_setting *setting = mzi_config_setting(config, key, MEZZO_CONFIG_INT);
    return setting ? setting->items[0].integer : 0;
}

double mezzo_config_real(const mezzo_config *config, const char *key) {
    const mzi_setting *setting = mzi_config_setting(config, key, MEZZO_CONFIG_REAL);
    return setting ? setting->items[0].real : 0.0;
}

bool mezzo_config_bool(const mezzo_config *config, const char *key) {
    const mzi_setting *setting = mzi_config_setting(config, key, MEZZO_CONFIG_BOOL);
    return setting && setting->items[0].integer == 1;
}

const char *mezzo_config_text(const mezzo_config *config, const char *key) {
    const mzi_setting *setting = mzi_config_setting(config, key, MEZZO_CONFIG_TEXT);
    if (!setting)
        setting = mzi_config_setting(config, key, MEZZO_CONFIG_CHOICE);
    return setting ? setting->items[0].text : "";
}

int mezzo_config_count(const mezzo_config *config, const char *key) {
    const mzi_setting *setting = mzi_config_setting(config, key, MEZZO_CONFIG_INT_LIST);
    if (!setting)
        setting = mzi_config_setting(config, key, MEZZO_CONFIG_RECORD_LIST);
    return setting ? setting->count : 0;
}

int64_t mezzo_config_int_at(const mezzo_config *config, const char *key, int index) {
    const mzi_setting *setting = mzi_config_setting(config, key, MEZZO_CONFIG_INT_LIST);
    return setting && index >= 0 && index < setting->count ? setting->items[index].integer : 0;
}

/* The scalar of a record's field; null if there is no such record or field.  `*found` gets the
 * field. */
static const mzi_scalar *find_scalar(const mezzo_config *config, const char *key, int index,
                                     const char *name, mzi_config_field *found) {
    const mzi_setting *setting = mzi_config_setting(config, key, MEZZO_CONFIG_RECORD_LIST);
    if (!setting || index < 0 || index >= setting->count)
        return NULL;
    mzi_config_field fields[MZI_CONFIG_FIELD_MAX];
    int count = mzi_config_fields(mezzo_config_key_at(mzi_config_key_find(key)), fields);
    for (int i = 0; i < count; i++)
        if (mzi_slice_equal(fields[i].name, name)) {
            *found = fields[i];
            return &setting->items[(ptrdiff_t)index * setting->width + i];
        }
    return NULL;
}

const char *mezzo_config_field_text(const mezzo_config *config, const char *key, int index,
                                    const char *field) {
    mzi_config_field found;
    const mzi_scalar *scalar = find_scalar(config, key, index, field, &found);
    return scalar && scalar->text && found.type != MEZZO_CONFIG_REAL ? scalar->text : "";
}

double mezzo_config_field_real(const mezzo_config *config, const char *key, int index,
                               const char *field) {
    mzi_config_field found;
    const mzi_scalar *scalar = find_scalar(config, key, index, field, &found);
    if (!scalar || found.type != MEZZO_CONFIG_REAL)
        return 0.0;
    if (scalar->text)
        return scalar->real;
    const mezzo_config_key *schema;
    for (int i = 0; (schema = mezzo_config_key_at(i)) != NULL; i++)
        if (mzi_slice_equal(found.initial, schema->path))
            return mezzo_config_real(config, schema->path);
    return mzi_real_parse(found.initial.text);
}

const char *mezzo_config_origin(const mezzo_config *config, const char *key) {
    int index = mzi_config_key_find(key);
    return index >= 0 ? config->settings[index].origin : "";
}
