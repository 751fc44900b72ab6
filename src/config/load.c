/* Where values come from: files, assignments, the environment. */
#include <ctype.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "config/config.h"
#include "config/words.h"

enum {
    PATH_BYTES = 200,
    CANDIDATE_BYTES = 600,
    FILE_BYTES_MAX = 1 << 20 /* a thousand times what a long one takes */
};

typedef struct loader {
    mzi_config_draft *draft;
    const mzi_config_source *source;
} loader;

/* The names below `section` that `word` may be a slip for: the nearest, else all in `others`. */
static mzi_slice find_near(const char *section, const char *word, char *others, size_t capacity) {
    mzi_slice nearest = {"", 0}, before = {"", 0};
    int best = 0;
    others[0] = '\0';
    for (int i = 0; i < mzi_config_key_count(); i++) {
        mzi_slice name = mzi_config_component(i, section);
        bool repeated =
            name.bytes == before.bytes && memcmp(name.text, before.text, name.bytes) == 0;
        if (name.bytes == 0 || repeated)
            continue;
        before = name;
        int distance;
        if (mzi_words_near(word, name, &distance) && (nearest.bytes == 0 || distance < best)) {
            nearest = name;
            best = distance;
        }
        size_t used = strlen(others);
        mzi_format(others + used, capacity - used, "%s%.*s", used > 0 ? ", " : "", (int)name.bytes,
                   name.text);
    }
    return nearest;
}

/* The key elsewhere whose last name, or whole path, is `word`; null if there is none. */
static const char *find_elsewhere(const char *word) {
    const mezzo_config_key *key;
    for (int i = 0; (key = mezzo_config_key_at(i)) != NULL; i++)
        if (strcmp(strrchr(key->path, '.') + 1, word) == 0 || strcmp(key->path, word) == 0)
            return key->path;
    return NULL;
}

/* "train.step" is not there: say what may have been meant. */
static mezzo_status fail_unknown(const mzi_config_source *source, const char *section,
                                 const char *word, mzi_config_spot spot) {
    char path[PATH_BYTES], others[CANDIDATE_BYTES];
    const char *dot = section[0] == '\0' ? "" : ".";
    mzi_format(path, sizeof path, "%s%s%.60s", section, dot, word);
    mzi_slice near = find_near(section, word, others, sizeof others);
    if (near.bytes > 0)
        MZI_CONFIG_FAIL(source, spot, "unknown key \"%s\"; did you mean \"%s%s%.*s\"?", path,
                        section, dot, (int)near.bytes, near.text);
    const char *elsewhere = find_elsewhere(word);
    const char *last = elsewhere ? strrchr(elsewhere, '.') : NULL;
    if (elsewhere && source->positions)
        MZI_CONFIG_FAIL(source, spot, "unknown key \"%s\"; did you mean %.*s: {%s: ...}?", path,
                        (int)(last - elsewhere), elsewhere, last + 1);
    if (elsewhere)
        MZI_CONFIG_FAIL(source, spot, "unknown key \"%s\"; did you mean \"%s\"?", path, elsewhere);
    if (section[0] == '\0')
        MZI_CONFIG_FAIL(source, spot, "unknown key \"%s\"; the sections are: %s", path, others);
    MZI_CONFIG_FAIL(source, spot, "unknown key \"%s\"; the keys of \"%s\" are: %s", path, section,
                    others);
}

static mezzo_status apply_key(const loader *l, int index, const mzi_yaml_node *node) {
    mzi_setting setting = {.origin = NULL};
    MZI_TRY(
        mzi_setting_read(l->source, &l->draft->arena, mezzo_config_key_at(index), node, &setting));
    int line = node->key ? node->key_spot.line : node->spot.line;
    setting.origin = l->source->positions
                         ? mzi_arena_text(&l->draft->arena, "%s:%d", l->source->name, line)
                         : mzi_arena_text(&l->draft->arena, "%s", l->source->name);
    if (!setting.origin)
        return mzi_out_of_memory(l->source->ctx, strlen(l->source->name) + 1, "an origin");
    l->draft->settings[index] = setting;
    return MEZZO_OK;
}

/* The schema's sections are two deep, and so is the recursion. */
static mezzo_status apply_section(const loader *l, const char *section, const mzi_yaml_node *node) {
    const char *shown = section[0] == '\0' ? "the configuration" : section;
    if (node->kind == MZI_YAML_SCALAR && node->plain && node->text[0] == '\0')
        return MEZZO_OK;
    if (node->kind != MZI_YAML_MAP)
        MZI_CONFIG_FAIL(l->source, node->spot, "%s: expected keys and values, got a %s", shown,
                        node->kind == MZI_YAML_LIST ? "list" : "single value");
    for (const mzi_yaml_node *child = node->first; child; child = child->next) {
        char path[PATH_BYTES];
        mzi_format(path, sizeof path, "%s%s%.100s", section, section[0] == '\0' ? "" : ".",
                   child->key);
        int index = strchr(child->key, '.') ? -1 : mzi_config_key_find(path);
        if (index >= 0)
            MZI_TRY(apply_key(l, index, child));
        else if (!strchr(child->key, '.') && mzi_config_is_section(path))
            MZI_TRY(apply_section(l, path, child));
        else
            return fail_unknown(l->source, section, child->key, child->key_spot);
    }
    return MEZZO_OK;
}

static mezzo_status apply_tree(const loader *l, const char *path, const mzi_yaml_node *tree) {
    int index = mzi_config_key_find(path);
    if (index >= 0) {
        const mzi_yaml_node nothing = {.kind = MZI_YAML_SCALAR, .plain = true, .text = ""};
        return apply_key(l, index, tree ? tree : &nothing);
    }
    if (path[0] == '\0' || mzi_config_is_section(path))
        return tree ? apply_section(l, path, tree) : MEZZO_OK;
    char section[PATH_BYTES];
    const char *dot = strrchr(path, '.');
    mzi_format(section, sizeof section, "%.*s", dot ? (int)(dot - path) : 0, path);
    bool known = section[0] == '\0' || mzi_config_is_section(section);
    return fail_unknown(l->source, known ? section : "", known && dot ? dot + 1 : path,
                        (mzi_config_spot){1, 1});
}

mezzo_status mzi_config_apply(mzi_config_draft *draft, const mzi_config_source *source,
                              const char *path, const char *text, size_t bytes) {
    mzi_arena arena;
    mzi_arena_init(&arena, source->ctx);
    mzi_yaml_node *tree = NULL;
    mezzo_status status = mzi_yaml_read(source, &arena, text, bytes, &tree);
    const loader l = {draft, source};
    if (status == MEZZO_OK)
        status = apply_tree(&l, path, tree);
    mzi_arena_deinit(&arena);
    return status;
}

static mezzo_status load(mezzo_config *config, const char *name, const char *text, size_t bytes) {
    const mzi_config_source source = {config->ctx, name, true};
    mzi_config_draft draft;
    if (bytes > FILE_BYTES_MAX)
        MZI_FAIL(config->ctx, MEZZO_CONFIG, "%s: %zu bytes; the limit for a configuration is %d",
                 name, bytes, (int)FILE_BYTES_MAX);
    MZI_TRY(mzi_config_draft_begin(config->ctx, config->settings, &draft));
    return mzi_config_draft_end(config, &draft, mzi_config_apply(&draft, &source, "", text, bytes));
}

mezzo_status mezzo_config_load_text(mezzo_config *config, const char *name, const char *text,
                                    size_t bytes) {
    mzi_error_clear(config->ctx);
    return load(config, name, text, bytes);
}

mezzo_status mezzo_config_load(mezzo_config *config, const char *path) {
    mzi_error_clear(config->ctx);
    void *text;
    size_t bytes;
    mezzo_status status = mzi_fs_read_file(config->ctx, path, FILE_BYTES_MAX, &text, &bytes);
    if (status == MEZZO_DATA) { /* too large: here that makes it no configuration */
        mzi_error_clear(config->ctx);
        MZI_FAIL(config->ctx, MEZZO_CONFIG,
                 "%s: larger than %d bytes, the limit for a configuration", path,
                 (int)FILE_BYTES_MAX);
    }
    MZI_TRY(status);
    status = load(config, path, text, bytes);
    mzi_free(config->ctx, text, bytes + 1);
    return status;
}

/* A text stands as it is, since paths hold what YAML has a use for ("#", ": "); in quotes it is
 * YAML. */
static bool is_verbatim(int index, const char *value) {
    return index >= 0 && mezzo_config_key_at(index)->type == MEZZO_CONFIG_TEXT && value[0] != '"' &&
           value[0] != '\'';
}

static mezzo_status assign(mzi_config_draft *draft, const mzi_config_source *source,
                           const char *key, const char *value) {
    int index = mzi_config_key_find(key);
    if (!is_verbatim(index, value))
        return mzi_config_apply(draft, source, key, value, strlen(value));
    if (!mzi_utf8_valid(value))
        MZI_CONFIG_FAIL(source, ((mzi_config_spot){1, 1}), "%s: the text is not UTF-8", key);
    const mzi_yaml_node node = {.kind = MZI_YAML_SCALAR, .text = value};
    const loader l = {draft, source};
    return apply_key(&l, index, &node);
}

mezzo_status mezzo_config_set(mezzo_config *config, const char *assignment, const char *origin) {
    mzi_error_clear(config->ctx);
    const mzi_config_source source = {config->ctx, origin, false};
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        MZI_FAIL(config->ctx, MEZZO_CONFIG, "%s: expected KEY=VALUE, got \"%.100s\"", origin,
                 assignment);
    char key[PATH_BYTES];
    mzi_format(key, sizeof key, "%.*s", (int)(equals - assignment), assignment);
    mzi_config_draft draft;
    MZI_TRY(mzi_config_draft_begin(config->ctx, config->settings, &draft));
    return mzi_config_draft_end(config, &draft, assign(&draft, &source, key, equals + 1));
}

/* "MEZZO_TRAIN__STEPS=100" to "train.steps" and its value; null if the variable is none of ours:
 * every key has a section, so two underscores in its name. */
static const char *read_variable(const char *variable, char *name, char *key) {
    static const char prefix[] = "MEZZO_";
    const char *equals = strchr(variable, '=');
    size_t before = sizeof prefix - 1;
    size_t bytes = equals ? (size_t)(equals - variable) : 0;
    if (bytes <= before || bytes >= PATH_BYTES || memcmp(variable, prefix, before) != 0)
        return NULL;
    mzi_format(name, PATH_BYTES, "%.*s", (int)bytes, variable);
    if (!strstr(name + before, "__"))
        return NULL;
    size_t kept = 0;
    for (const char *c = name + before; *c != '\0'; c++) {
        bool level = c[0] == '_' && c[1] == '_';
        key[kept++] = level ? '.' : (char)tolower((unsigned char)*c);
        c += level;
    }
    key[kept] = '\0';
    return equals + 1;
}

mezzo_status mezzo_config_set_environment(mezzo_config *config, const char *const *environment) {
    mzi_error_clear(config->ctx);
    mzi_config_draft draft;
    MZI_TRY(mzi_config_draft_begin(config->ctx, config->settings, &draft));
    mezzo_status status = MEZZO_OK;
    for (; *environment && status == MEZZO_OK; environment++) {
        char name[PATH_BYTES], key[PATH_BYTES];
        const char *value = read_variable(*environment, name, key);
        const mzi_config_source source = {config->ctx, name, false};
        if (value)
            status = assign(&draft, &source, key, value);
    }
    return mzi_config_draft_end(config, &draft, status);
}
