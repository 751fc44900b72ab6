/* The YAML reader, over libyaml's events. */
#include <string.h>
#include <yaml.h>

#include "config/yaml.h"

enum {
    DEPTH_MAX = 8,           /* the schema needs 4: section, section, list, record */
    CHILDREN_MAX = 1024,     /* of one map or list; duplicates are searched for in pairs */
    SCALAR_BYTES_MAX = 4096, /* the longest path that the system takes */
    MESSAGE_BYTES = 800      /* what is left of an error's text behind a file name */
};

typedef struct reader {
    const mzi_config_source *source;
    mzi_arena *arena;
    yaml_parser_t parser;
    const char *text;
    size_t bytes;
} reader;

/* What one event says, in memory of ours. */
typedef struct token {
    yaml_event_type_t type;
    const char *text;
    bool plain;
    mzi_config_spot spot;
} token;

mezzo_status mzi_config_fail_at(const mzi_config_source *source, mzi_config_spot spot,
                                const char *file, int line, const char *format, ...) {
    char text[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!source->positions)
        return mzi_fail_at(source->ctx, file, line, MEZZO_CONFIG, "%s: %s", source->name, text);
    return mzi_fail_at(source->ctx, file, line, MEZZO_CONFIG, "%s:%d:%d: %s", source->name,
                       spot.line, spot.column, text);
}

static mzi_config_spot spot_of(yaml_mark_t mark) {
    return (mzi_config_spot){(int)mark.line + 1, (int)mark.column + 1};
}

/* libyaml gives a byte that is no text as an offset only. */
static mzi_config_spot spot_at(const reader *r, size_t offset) {
    mzi_config_spot spot = {1, 1};
    for (size_t i = 0; i < offset && i < r->bytes; i++) {
        bool newline = r->text[i] == '\n';
        spot.line += newline;
        spot.column = newline ? 1 : spot.column + 1;
    }
    return spot;
}

static mezzo_status fail_syntax(const reader *r) {
    const yaml_parser_t *parser = &r->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return mzi_out_of_memory(r->source->ctx, r->bytes, "reading YAML");
    const char *problem = parser->problem ? parser->problem : "the text cannot be read";
    if (parser->error == YAML_READER_ERROR)
        MZI_CONFIG_FAIL(r->source, spot_at(r, parser->problem_offset), "not valid YAML: %s",
                        problem);
    MZI_CONFIG_FAIL(r->source, spot_of(parser->problem_mark), "not valid YAML: %s%s%s", problem,
                    parser->context ? ", " : "", parser->context ? parser->context : "");
}

static mezzo_status copy_scalar(const reader *r, const yaml_event_t *event, token *out) {
    const char *value = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (length > SCALAR_BYTES_MAX)
        MZI_CONFIG_FAIL(r->source, out->spot, "a text of %zu bytes; the limit is %d", length,
                        (int)SCALAR_BYTES_MAX);
    if (memchr(value, '\0', length))
        MZI_CONFIG_FAIL(r->source, out->spot, "a text with a NUL character in it");
    char *text = mzi_arena_push(r->arena, length + 1);
    if (!text)
        return mzi_out_of_memory(r->source->ctx, length + 1, "a text of the configuration");
    memcpy(text, value, length);
    out->text = text;
    out->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return MEZZO_OK;
}

static mezzo_status copy_event(const reader *r, const yaml_event_t *event, token *out) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    } else if (event->type == YAML_ALIAS_EVENT) {
        MZI_CONFIG_FAIL(r->source, out->spot,
                        "an alias (*%.60s): write the value out, or put a text that starts with "
                        "* in quotes",
                        (const char *)event->data.alias.anchor);
    }
    if (anchor)
        MZI_CONFIG_FAIL(r->source, out->spot,
                        "an anchor (&%.60s): write the value out where it is needed",
                        (const char *)anchor);
    if (tag)
        MZI_CONFIG_FAIL(r->source, out->spot, "a tag (%.60s): leave it out, the key says the type",
                        (const char *)tag);
    return event->type == YAML_SCALAR_EVENT ? copy_scalar(r, event, out) : MEZZO_OK;
}

static mezzo_status next_token(reader *r, token *out) {
    yaml_event_t event;
    if (!yaml_parser_parse(&r->parser, &event))
        return fail_syntax(r);
    *out = (token){.type = event.type, .spot = spot_of(event.start_mark)};
    mezzo_status status = copy_event(r, &event, out);
    yaml_event_delete(&event);
    return status;
}

static mezzo_status check_key(const reader *r, const mzi_yaml_node *map, const token *key) {
    if (key->type != YAML_SCALAR_EVENT)
        MZI_CONFIG_FAIL(r->source, key->spot, "a key must be a word, not a list or a map");
    for (const mzi_yaml_node *child = map->first; child; child = child->next)
        if (strcmp(child->key, key->text) == 0)
            MZI_CONFIG_FAIL(r->source, key->spot,
                            "duplicate key \"%.60s\": it is already in line %d", key->text,
                            child->key_spot.line);
    return MEZZO_OK;
}

static mezzo_status fail_memory(const reader *r) {
    return mzi_out_of_memory(r->source->ctx, sizeof(mzi_yaml_node), "a node of the configuration");
}

/* Depth is limited, so recursion is. */
static mezzo_status read_node(reader *r, const token *start, int depth, mzi_yaml_node *node);

static mezzo_status read_children(reader *r, mzi_yaml_node *node, yaml_event_type_t end,
                                  int depth) {
    mzi_yaml_node **link = &node->first;
    for (;;) {
        token value = {.type = YAML_NO_EVENT};
        MZI_TRY(next_token(r, &value));
        if (value.type == end)
            return MEZZO_OK;
        if (node->count == CHILDREN_MAX)
            MZI_CONFIG_FAIL(r->source, value.spot, "more than %d entries", (int)CHILDREN_MAX);
        mzi_yaml_node *child = mzi_arena_push(r->arena, sizeof *child);
        if (!child)
            return fail_memory(r);
        if (node->kind == MZI_YAML_MAP) {
            MZI_TRY(check_key(r, node, &value));
            child->key = value.text;
            child->key_spot = value.spot;
            MZI_TRY(next_token(r, &value));
        }
        MZI_TRY(read_node(r, &value, depth + 1, child));
        *link = child;
        link = &child->next;
        node->count++;
    }
}

static mezzo_status read_node(reader *r, const token *start, int depth, mzi_yaml_node *node) {
    if (depth > DEPTH_MAX)
        MZI_CONFIG_FAIL(r->source, start->spot, "nested deeper than %d levels", (int)DEPTH_MAX);
    node->spot = start->spot;
    if (start->type == YAML_SEQUENCE_START_EVENT) {
        node->kind = MZI_YAML_LIST;
        return read_children(r, node, YAML_SEQUENCE_END_EVENT, depth);
    }
    if (start->type == YAML_MAPPING_START_EVENT) {
        node->kind = MZI_YAML_MAP;
        return read_children(r, node, YAML_MAPPING_END_EVENT, depth);
    }
    node->kind = MZI_YAML_SCALAR;
    node->text = start->text;
    node->plain = start->plain;
    return MEZZO_OK;
}

static mezzo_status read_stream(reader *r, mzi_yaml_node **out) {
    mzi_yaml_node *root = NULL;
    token t = {.type = YAML_NO_EVENT};
    MZI_TRY(next_token(r, &t)); /* the stream's start */
    MZI_TRY(next_token(r, &t));
    if (t.type == YAML_DOCUMENT_START_EVENT) {
        root = mzi_arena_push(r->arena, sizeof *root);
        if (!root)
            return fail_memory(r);
        MZI_TRY(next_token(r, &t));
        MZI_TRY(read_node(r, &t, 0, root));
        MZI_TRY(next_token(r, &t)); /* the document's end */
        MZI_TRY(next_token(r, &t));
    }
    if (t.type != YAML_STREAM_END_EVENT)
        MZI_CONFIG_FAIL(r->source, t.spot, "a second document: a configuration is one");
    *out = root;
    return MEZZO_OK;
}

mezzo_status mzi_yaml_read(const mzi_config_source *source, mzi_arena *arena, const char *text,
                           size_t bytes, mzi_yaml_node **out) {
    reader r = {.source = source, .arena = arena, .text = text, .bytes = bytes};
    if (!yaml_parser_initialize(&r.parser))
        return mzi_out_of_memory(source->ctx, bytes, "reading YAML");
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    mezzo_status status = read_stream(&r, out);
    yaml_parser_delete(&r.parser);
    return status;
}
