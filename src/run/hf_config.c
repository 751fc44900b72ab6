#include "run/hf_config.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/text.h"
#include "config/schema.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)

enum {
    ASSIGNMENT_BYTES = 128,
    SHOWN_BYTES = 80
};

typedef struct reader {
    mezzo_ctx *ctx;
    const char *path;
    const json_t *root;
    const mezzo_hf_map *map;
    mezzo_config *config;
} reader;

static bool is_list(const char *key) {
    int index = mzi_config_key_find(key);
    return index >= 0 && mezzo_config_key_at(index)->type == MEZZO_CONFIG_INT_LIST;
}

int64_t mzi_hf_config_int(const mezzo_config *config, const char *key) {
    return is_list(key) ? mezzo_config_int_at(config, key, 0) : mezzo_config_int(config, key);
}

mezzo_status mzi_hf_config_set_int(mezzo_config *config, const char *key, int64_t value,
                                   const char *origin) {
    char text[ASSIGNMENT_BYTES];
    mzi_format(text, sizeof text, is_list(key) ? "%s=[%" PRId64 "]" : "%s=%" PRId64, key, value);
    return mezzo_config_set(config, text, origin);
}

/* A value as it stands in the file.  Of a longer one come the parts that fit, and then "...". */
static const char *shown(char out[SHOWN_BYTES], const json_t *value) {
    size_t room = SHOWN_BYTES - sizeof "...";
    memset(out, 0, SHOWN_BYTES);
    if (json_dumpb(value, out, room, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9)) >
        room)
        memcpy(out + strlen(out), "...", sizeof "...");
    return value ? out : "missing";
}

/* A model that mezzo computes in another way than the file says. */
static mezzo_status refuse(const reader *r, const mezzo_hf_key *key, const json_t *value,
                           const char *expected) {
    char text[SHOWN_BYTES];
    MZI_FAIL(r->ctx, MEZZO_DATA,
             "'%s': \"%s\" is %s, and mezzo's %s computes with %s only; import a model that was "
             "trained so",
             r->path, key->name, shown(text, value), r->map->model_type, expected);
}

static bool is_integer_or_none(const json_t *value, int64_t expected) {
    return !value || json_is_null(value) ||
           (json_is_integer(value) && json_integer_value(value) == expected);
}

/* Null if it is missing. */
static const json_t *value_of(const reader *r, const mezzo_hf_key *key) {
    const char *slash = strchr(key->name, '/');
    if (!slash)
        return json_object_get(r->root, key->name);
    char object[SHOWN_BYTES];
    mzi_format(object, sizeof object, "%.*s", (int)(slash - key->name), key->name);
    return json_object_get(json_object_get(r->root, object), slash + 1);
}

static mezzo_status read_size(const reader *r, const mezzo_hf_key *key) {
    const json_t *value = value_of(r, key);
    int64_t size = json_integer_value(value); /* 0 if it is none */
    char text[SHOWN_BYTES];
    if (key->other && (!value || json_is_null(value)))
        size = mzi_hf_config_int(r->config, key->other);
    if (size < 1)
        MZI_FAIL(r->ctx, MEZZO_DATA, "'%s': \"%s\" is %s; expected a number above 0", r->path,
                 key->name, shown(text, value));
    return mzi_hf_config_set_int(r->config, key->key, size, r->path);
}

static mezzo_status check_multiple(const reader *r, const mezzo_hf_key *key) {
    const json_t *value = value_of(r, key);
    int64_t expected = key->factor * mzi_hf_config_int(r->config, key->key);
    char text[SHOWN_BYTES];
    if (is_integer_or_none(value, expected))
        return MEZZO_OK;
    mzi_format(text, sizeof text, "null or %" PRId64 " (%" PRId64 " times %s)", expected,
               key->factor, key->key);
    return refuse(r, key, value, text);
}

static int64_t quotient(const mezzo_config *config, const mezzo_hf_key *key) {
    return mzi_hf_config_int(config, key->key) / mzi_hf_config_int(config, key->other);
}

static mezzo_status check_quotient(const reader *r, const mezzo_hf_key *key) {
    const json_t *value = value_of(r, key);
    int64_t expected = quotient(r->config, key);
    char text[SHOWN_BYTES];
    if (is_integer_or_none(value, expected))
        return MEZZO_OK;
    mzi_format(text, sizeof text, "null or %" PRId64 " (%s over %s)", expected, key->key,
               key->other);
    return refuse(r, key, value, text);
}

/* Where the file says nothing, `value`, if there is one. */
static mezzo_status read_real(const reader *r, const mezzo_hf_key *key) {
    const json_t *value = value_of(r, key);
    char assignment[ASSIGNMENT_BYTES], text[SHOWN_BYTES];
    if (!value && !key->value)
        return MEZZO_OK;
    if (value && !json_is_number(value))
        MZI_FAIL(r->ctx, MEZZO_DATA, "'%s': \"%s\" is %s; expected a number", r->path, key->name,
                 shown(text, value));
    if (value)
        mzi_format(assignment, sizeof assignment, "%s=%.17g", key->key, json_number_value(value));
    else
        mzi_format(assignment, sizeof assignment, "%s=%s", key->key, key->value);
    return mezzo_config_set(r->config, assignment, r->path);
}

static mezzo_status read_flag(const reader *r, const mezzo_hf_key *key) {
    const json_t *value = value_of(r, key);
    char assignment[ASSIGNMENT_BYTES], text[SHOWN_BYTES];
    if (!value && !key->value)
        return MEZZO_OK;
    if (value && !json_is_boolean(value))
        MZI_FAIL(r->ctx, MEZZO_DATA, "'%s': \"%s\" is %s; expected true or false", r->path,
                 key->name, shown(text, value));
    mzi_format(assignment, sizeof assignment, "%s=%s", key->key,
               !value                ? key->value
               : json_is_true(value) ? "true"
                                     : "false");
    return mezzo_config_set(r->config, assignment, r->path);
}

static mezzo_status check_fixed(const reader *r, const mezzo_hf_key *key) {
    const json_t *value = value_of(r, key);
    json_t *expected = json_loads(key->value, JSON_DECODE_ANY, NULL);
    if (!expected)
        return mzi_out_of_memory(r->ctx, strlen(key->value), "a value of config.json");
    bool equal = !value || json_equal(value, expected);
    json_decref(expected);
    return equal ? MEZZO_OK : refuse(r, key, value, key->value);
}

/* In the map's order, so a multiple or quotient comes behind its sizes. */
static mezzo_status read_keys(const reader *r) {
    for (const mezzo_hf_key *key = r->map->keys; key->name; key++) {
        switch (key->role) {
        case MEZZO_HF_SIZE:
            MZI_TRY(read_size(r, key));
            break;
        case MEZZO_HF_MULTIPLE:
            MZI_TRY(check_multiple(r, key));
            break;
        case MEZZO_HF_QUOTIENT:
            MZI_TRY(check_quotient(r, key));
            break;
        case MEZZO_HF_REAL:
            MZI_TRY(read_real(r, key));
            break;
        case MEZZO_HF_FLAG:
            MZI_TRY(read_flag(r, key));
            break;
        case MEZZO_HF_FIXED:
            MZI_TRY(check_fixed(r, key));
            break;
        case MEZZO_HF_RATE:
            break;
        }
    }
    return MEZZO_OK;
}

static mezzo_status find_kind(const mezzo_runner *runner, const char *path, const json_t *root,
                              const mezzo_model_kind **out) {
    const json_t *value = json_object_get(root, "model_type");
    const char *type = json_string_value(value);
    char known[256] = "", text[SHOWN_BYTES];
    size_t used = 0;
    for (int k = 0; k < runner->kind_count; k++) {
        const mezzo_hf_map *map = runner->kinds[k].hf;
        if (!map)
            continue;
        if (type && strcmp(map->model_type, type) == 0) {
            *out = &runner->kinds[k];
            return MEZZO_OK;
        }
        used += mzi_format(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                           map->model_type);
    }
    MZI_FAIL(runner->ctx, MEZZO_DATA, "'%s': \"model_type\" is %s; mezzo imports: %s", path,
             shown(text, value), known);
}

static mezzo_status apply(const mezzo_runner *runner, const char *path, const json_t *root,
                          mezzo_config *config) {
    const mezzo_model_kind *kind = NULL;
    char text[ASSIGNMENT_BYTES];
    MZI_TRY(find_kind(runner, path, root, &kind));
    mzi_format(text, sizeof text, "model.kind=%s", kind->name);
    MZI_TRY(mezzo_config_set(config, text, path));
    const reader r = {runner->ctx, path, root, kind->hf, config};
    return read_keys(&r);
}

mezzo_status mzi_hf_config_read(const mezzo_runner *runner, const char *path,
                                mezzo_config *config) {
    mezzo_ctx *ctx = runner->ctx;
    void *text;
    size_t bytes;
    json_error_t error;
    if (access(path, F_OK) != 0)
        MZI_FAIL(ctx, MEZZO_DATA,
                 "there is no '%s': it says what the tensors beside it are; give the folder that "
                 "holds both",
                 path);
    MZI_TRY(mzi_fs_read_file(ctx, path, FILE_BYTES_MAX, &text, &bytes));
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    mzi_free(ctx, text, bytes + 1);
    if (!root)
        MZI_FAIL(ctx, MEZZO_DATA, "'%s' is not JSON at line %d, column %d: %.200s", path,
                 error.line, error.column, error.text);
    mezzo_status status = apply(runner, path, root, config);
    json_decref(root);
    return status;
}

static void put_key(mzi_text *text, const mezzo_config *config, const mezzo_hf_key *key) {
    char number[64];
    mzi_json json = {number, sizeof number - 1, 0, 0};
    switch (key->role) {
    case MEZZO_HF_SIZE:
        mzi_json_integer(&json, mzi_hf_config_int(config, key->key));
        break;
    case MEZZO_HF_MULTIPLE:
        mzi_json_raw(&json, "null");
        break;
    case MEZZO_HF_QUOTIENT:
        mzi_json_integer(&json, quotient(config, key));
        break;
    case MEZZO_HF_REAL:
        mzi_json_real(&json, mezzo_config_real(config, key->key));
        break;
    case MEZZO_HF_FLAG:
        mzi_json_raw(&json, mezzo_config_bool(config, key->key) ? "true" : "false");
        break;
    case MEZZO_HF_RATE:
        mzi_json_real(&json, key->key ? mezzo_config_real(config, key->key) : 0.0);
        break;
    case MEZZO_HF_FIXED:
        mzi_json_raw(&json, key->value);
        break;
    }
    number[json.size] = '\0';
    mzi_text_put(text, "  \"%s\": %s,\n", key->name, number);
}

static const char *type_name(mezzo_dtype dtype) {
    return dtype == MEZZO_F32 ? "float32" : dtype == MEZZO_BF16 ? "bfloat16" : "float16";
}

mezzo_status mzi_hf_config_text(mezzo_ctx *ctx, const mezzo_config *config, const mezzo_hf_map *map,
                                const mzi_hf_config_info *info, char **out) {
    char end_of_text[16] = "null";
    mzi_text text = {.ctx = ctx};
    if (info->end_of_text >= 0)
        mzi_format(end_of_text, sizeof end_of_text, "%" PRId32, info->end_of_text);
    mzi_text_put(&text, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\",\n",
                 map->architecture, map->model_type);
    for (const mezzo_hf_key *key = map->keys; key->name; key++)
        if (!strchr(key->name, '/'))
            put_key(&text, config, key);
    mzi_text_put(&text, "  \"bos_token_id\": %s,\n  \"eos_token_id\": %s,\n", end_of_text,
                 end_of_text);
    mzi_text_put(&text, "  \"torch_dtype\": \"%s\"\n}\n", type_name(info->dtype));
    return mzi_text_take(&text, out);
}
