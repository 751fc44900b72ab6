/* Reading safetensors files: everything but the values is checked before anything is handed out.
 *
 * Stricter than the reference: at most 65,536 tensors, rank at most 6, six types, no keys but the
 * three of an entry, no other character than a space behind the header's last brace. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/ctx.h"
#include "base/fs.h"
#include "checkpoint/safetensors_format.h"

typedef struct entry {
    mezzo_safetensors_item item;
    int64_t begin, end; /* offsets behind the header */
} entry;

struct mezzo_safetensors {
    mezzo_ctx *ctx;
    const char *path; /* during open only */
    uint8_t *map;
    size_t map_bytes;
    const uint8_t *data;
    int64_t data_bytes;
    entry *entries; /* [count], by place */
    int count;
    const entry **by_name; /* [count] */
    mezzo_safetensors_note *notes;
    int note_count;
    char *texts; /* names, keys and values, one after the other */
    size_t texts_bytes, texts_used;
};

static mezzo_status open_file(mezzo_safetensors *file) {
    void *map;
    MZI_TRY(mzi_fs_map(file->ctx, file->path, &map, &file->map_bytes));
    file->map = map;
    if (file->map_bytes < 8 + 2)
        MZI_REFUSE(file, "has %zu bytes; a safetensors file has at least 10", file->map_bytes);
    return MEZZO_OK;
}

/* The header's length without its padding. */
static mezzo_status find_header(mezzo_safetensors *file, size_t *length) {
    uint64_t size;
    memcpy(&size, file->map, 8);
    if (size > MZI_SAFETENSORS_HEADER_MAX)
        MZI_REFUSE(file,
                   "announces a header of %" PRIu64 " bytes, more than %u: no safetensors file",
                   size, MZI_SAFETENSORS_HEADER_MAX);
    if (size > file->map_bytes - 8)
        MZI_REFUSE(file, "is truncated: a header of %" PRIu64 " bytes in a file of %zu", size,
                   file->map_bytes);
    file->data = file->map + 8 + size;
    file->data_bytes = (int64_t)(file->map_bytes - 8 - size);
    while (size > 0 && file->map[7 + size] == ' ')
        size--;
    if (size < 2 || file->map[8] != '{' || file->map[7 + size] != '}')
        MZI_REFUSE(file,
                   "the header must start with { and end with } and spaces; it starts with 0x%02x",
                   file->map[8]);
    *length = (size_t)size;
    return MEZZO_OK;
}

/* One pass before the header is parsed, which keeps the parser's memory in bounds and leaves only
 * the values that a header can hold: objects and arrays three deep, texts, and natural numbers. */
static mezzo_status scan_header(const mezzo_safetensors *file, size_t length) {
    /* Of a tensor: one comma behind it, two between its keys, five in its shape, one in its
     * offsets. */
    const size_t commas_max = (size_t)10 * MZI_SAFETENSORS_COUNT_MAX;
    size_t commas = 0;
    int depth = 0;
    bool in_text = false;
    for (size_t i = 0; i < length; i++) {
        uint8_t c = file->map[8 + i];
        if (in_text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_text = false;
            continue;
        }
        if (c == '"')
            in_text = true;
        else if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        else if (c == ',')
            commas++;
        else if (c == '\0' || !strchr(":0123456789 \t\r\n", c))
            MZI_REFUSE(file, "byte 0x%02x at offset %zu has no place in a header outside a text", c,
                       8 + i);
        if (depth > 3 || depth < 0 || commas > commas_max)
            MZI_REFUSE(file, "the header at offset %zu is nested too deep or has too many values",
                       8 + i);
    }
    return MEZZO_OK;
}

static mezzo_status parse_header(mezzo_safetensors *file, size_t length, json_t **root) {
    json_error_t error;
    *root = json_loadb((const char *)file->map + 8, length, JSON_REJECT_DUPLICATES, &error);
    if (!*root && json_error_code(&error) == json_error_out_of_memory)
        return mzi_out_of_memory(file->ctx, length, "the header of a checkpoint");
    if (!*root)
        MZI_REFUSE(file, "the header is not JSON at offset %d: %.200s", 8 + error.position,
                   error.text);
    if (!json_is_object(*root))
        MZI_REFUSE(file, "the header is no JSON object");
    return MEZZO_OK;
}

static const char *keep_text(mezzo_safetensors *file, const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = memcpy(file->texts + file->texts_used, text, bytes);
    file->texts_used += bytes;
    return copy;
}

static mezzo_status read_shape(const mezzo_safetensors *file, const char *shown,
                               const json_t *shape, mezzo_shape *out) {
    size_t rank = json_array_size(shape); /* 0 if it is no array */
    if (!json_is_array(shape) || rank > MEZZO_RANK_MAX)
        MZI_REFUSE(file, "tensor %s has a shape that is no list of at most %d numbers (it has %zu)",
                   shown, MEZZO_RANK_MAX, rank);
    out->rank = (int32_t)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim))
            MZI_REFUSE(file, "tensor %s: dimension %zu is no number", shown, i);
        out->dim[i] = json_integer_value(dim);
    }
    return MEZZO_OK;
}

static mezzo_status read_entry(const mezzo_safetensors *file, const char *name, json_t *value,
                               entry *out) {
    char shown[MZI_SHOWN_NAME], shown_type[MZI_SHOWN_NAME];
    mzi_shown_name(shown, name);
    const json_t *type_name = json_object_get(value, "dtype");
    const json_t *shape = json_object_get(value, "shape");
    const json_t *offsets = json_object_get(value, "data_offsets");
    if (!json_is_string(type_name) || !shape || json_object_size(value) != 3 ||
        json_array_size(offsets) != 2 || !json_is_integer(json_array_get(offsets, 0)) ||
        !json_is_integer(json_array_get(offsets, 1)))
        MZI_REFUSE(file, "tensor %s must have dtype, shape and two data_offsets, and nothing else",
                   shown);
    const mzi_safetensors_type *type = mzi_safetensors_type_named(json_string_value(type_name));
    if (!type)
        MZI_REFUSE(
            file,
            "tensor %s has type %s; expected F64, F32, I32, BF16, F16, F8_E4M3, F8_E5M2 or U8",
            shown, mzi_shown_name(shown_type, json_string_value(type_name)));
    out->item.dtype = type->dtype;
    MZI_TRY(read_shape(file, shown, shape, &out->item.shape));
    out->begin = json_integer_value(json_array_get(offsets, 0));
    out->end = json_integer_value(json_array_get(offsets, 1));
    if (out->end < out->begin || out->end > file->data_bytes)
        MZI_REFUSE(file,
                   "tensor %s has offsets %" PRId64 " to %" PRId64 "; the file has %" PRId64
                   " bytes of data",
                   shown, out->begin, out->end, file->data_bytes);
    int64_t bytes;
    if (!mzi_safetensors_bytes(&out->item.shape, type->dtype, &bytes) ||
        bytes != out->end - out->begin)
        MZI_REFUSE(file,
                   "tensor %s: its shape and type (%s) do not make the %" PRId64
                   " bytes from offset %" PRId64 " to %" PRId64,
                   shown, type->name, out->end - out->begin, out->begin, out->end);
    out->item.data = file->data + out->begin;
    return MEZZO_OK;
}

/* Memory for what the header holds; the texts' is counted first. */
static mezzo_status make_tables(mezzo_safetensors *file, json_t *root, json_t *notes) {
    size_t tensors = json_object_size(root) - (notes ? 1 : 0);
    if (tensors > MZI_SAFETENSORS_COUNT_MAX || json_object_size(notes) > MZI_SAFETENSORS_COUNT_MAX)
        MZI_REFUSE(file, "%zu tensors and %zu notes; at most %d of each are read", tensors,
                   json_object_size(notes), MZI_SAFETENSORS_COUNT_MAX);
    const char *key;
    json_t *value;
    size_t bytes = 0;
    json_object_foreach(root, key, value) {
        bytes += strlen(key) + 1;
    }
    json_object_foreach(notes, key, value) {
        char shown[MZI_SHOWN_NAME];
        if (!json_is_string(value))
            MZI_REFUSE(file, "the value of %s in __metadata__ is no text",
                       mzi_shown_name(shown, key));
        bytes += strlen(key) + 1 + json_string_length(value) + 1;
    }
    file->count = (int)tensors;
    file->note_count = (int)json_object_size(notes);
    file->texts_bytes = bytes;
    file->texts = mzi_alloc(file->ctx, bytes);
    file->entries = mzi_alloc(file->ctx, tensors * sizeof *file->entries);
    file->by_name = mzi_alloc(file->ctx, tensors * sizeof *file->by_name);
    file->notes = mzi_alloc(file->ctx, (size_t)file->note_count * sizeof *file->notes);
    if (!file->texts || !file->entries || !file->by_name || !file->notes)
        return mzi_out_of_memory(file->ctx, bytes + tensors * sizeof *file->entries,
                                 "the header of a checkpoint");
    return MEZZO_OK;
}

static mezzo_status read_tables(mezzo_safetensors *file, json_t *root) {
    json_t *notes = json_object_get(root, "__metadata__");
    if (notes && !json_is_object(notes))
        MZI_REFUSE(file, "__metadata__ is no object");
    MZI_TRY(make_tables(file, root, notes));
    const char *key;
    json_t *value;
    int filled = 0;
    json_object_foreach(notes, key, value) {
        mezzo_safetensors_note *note = &file->notes[filled++];
        note->key = keep_text(file, key);
        note->value = keep_text(file, json_string_value(value));
    }
    filled = 0;
    json_object_foreach(root, key, value) {
        if (value == notes)
            continue;
        entry *e = &file->entries[filled++];
        MZI_TRY(read_entry(file, key, value, e));
        e->item.name = keep_text(file, key);
    }
    return MEZZO_OK;
}

static int compare_places(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->item.name, y->item.name); /* empty tensors at one place */
}

static int compare_names(const void *a, const void *b) {
    const entry *const *x = a, *const *y = b;
    return strcmp((*x)->item.name, (*y)->item.name);
}

/* Tensors fill the data from end to end: nothing can hide in a hole, and no byte is read twice. */
static mezzo_status check_places(mezzo_safetensors *file) {
    qsort(file->entries, (size_t)file->count, sizeof *file->entries, compare_places);
    int64_t end = 0;
    char shown[MZI_SHOWN_NAME];
    for (int i = 0; i < file->count; i++) {
        const entry *e = &file->entries[i];
        if (e->begin != end)
            MZI_REFUSE(file,
                       "tensor %s starts at offset %" PRId64 ", and the one before it ends at "
                       "%" PRId64 ": a %s",
                       mzi_shown_name(shown, e->item.name), e->begin, end,
                       e->begin > end ? "hole" : "overlap");
        end = e->end;
        file->by_name[i] = e;
    }
    if (end != file->data_bytes)
        MZI_REFUSE(file,
                   "the tensors end at offset %" PRId64 ", and the file has %" PRId64
                   " bytes of data",
                   end, file->data_bytes);
    qsort(file->by_name, (size_t)file->count, sizeof *file->by_name, compare_names);
    return MEZZO_OK;
}

static mezzo_status read_file(mezzo_safetensors *file) {
    size_t length = 0;
    MZI_TRY(open_file(file));
    MZI_TRY(find_header(file, &length));
    MZI_TRY(scan_header(file, length));
    json_t *root = NULL;
    mezzo_status status = parse_header(file, length, &root);
    if (status == MEZZO_OK)
        status = read_tables(file, root);
    json_decref(root);
    MZI_TRY(status);
    return check_places(file);
}

mezzo_status mezzo_safetensors_open(mezzo_safetensors **out, mezzo_ctx *ctx, const char *path) {
    mzi_error_clear(ctx);
    if (!path)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "path is null");
    mezzo_safetensors *file = mzi_alloc(ctx, sizeof *file);
    if (!file)
        return mzi_out_of_memory(ctx, sizeof *file, "a checkpoint");
    file->ctx = ctx;
    file->path = path;
    mezzo_status status = read_file(file);
    file->path = NULL;
    if (status != MEZZO_OK) {
        mezzo_safetensors_close(file);
        return status;
    }
    *out = file;
    return MEZZO_OK;
}

int mezzo_safetensors_count(const mezzo_safetensors *file) {
    return file->count;
}

mezzo_safetensors_item mezzo_safetensors_at(const mezzo_safetensors *file, int index) {
    if (index < 0 || index >= file->count)
        return (mezzo_safetensors_item){0};
    return file->entries[index].item;
}

static int compare_key(const void *key, const void *element) {
    const entry *const *e = element;
    return strcmp(key, (*e)->item.name);
}

int mezzo_safetensors_find(const mezzo_safetensors *file, const char *name) {
    const entry *const *found =
        bsearch(name, file->by_name, (size_t)file->count, sizeof *file->by_name, compare_key);
    return found ? (int)(*found - file->entries) : -1;
}

const char *mezzo_safetensors_note_value(const mezzo_safetensors *file, const char *key) {
    for (int i = 0; i < file->note_count; i++)
        if (strcmp(file->notes[i].key, key) == 0)
            return file->notes[i].value;
    return NULL;
}

void mezzo_safetensors_close(mezzo_safetensors *file) {
    if (!file)
        return;
    mezzo_ctx *ctx = file->ctx;
    mzi_fs_unmap(file->map, file->map_bytes);
    mzi_free(ctx, file->entries, (size_t)file->count * sizeof *file->entries);
    mzi_free(ctx, file->by_name, (size_t)file->count * sizeof *file->by_name);
    mzi_free(ctx, file->notes, (size_t)file->note_count * sizeof *file->notes);
    mzi_free(ctx, file->texts, file->texts_bytes);
    mzi_free(ctx, file, sizeof *file);
}
