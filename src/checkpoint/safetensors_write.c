/* Writing safetensors files: the bytes that the reference writes for the same tensors. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/json.h"
#include "checkpoint/safetensors_format.h"
#include "num/number.h"

/* What is written, in the order of the file. */
typedef struct content {
    mezzo_ctx *ctx;
    const char *path;
    const mezzo_safetensors_item *items;
    const mzi_safetensors_source *source; /* null: the items' data */
    const mezzo_safetensors_item **order; /* [item_count] */
    int item_count;
    mezzo_safetensors_note *notes; /* [note_count], sorted by key */
    int note_count, note_capacity;
} content;

static int compare_names(const void *a, const void *b) {
    const mezzo_safetensors_item *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int compare_places(const void *a, const void *b) {
    const mezzo_safetensors_item *const *x = a, *const *y = b;
    int difference =
        mzi_safetensors_type_of((*y)->dtype)->order - mzi_safetensors_type_of((*x)->dtype)->order;
    return difference != 0 ? difference : compare_names(a, b);
}

static int compare_notes(const void *a, const void *b) {
    const mezzo_safetensors_note *x = a, *y = b;
    return strcmp(x->key, y->key);
}

static mezzo_status check_item(const content *c, int index) {
    const mezzo_safetensors_item *item = &c->items[index];
    char shown[MZI_SHOWN_NAME];
    int64_t bytes;
    if (!item->name)
        MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT, "tensor %d for '%s' has no name", index, c->path);
    mzi_shown_name(shown, item->name);
    if (!mzi_utf8_valid(item->name) || strcmp(item->name, "__metadata__") == 0)
        MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT,
                 "tensor %d for '%s' cannot be named %s; a name is UTF-8, and not __metadata__",
                 index, c->path, shown);
    if (!mzi_safetensors_type_of(item->dtype))
        MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT, "tensor %s for '%s' has type %d, which is none",
                 shown, c->path, (int)item->dtype);
    if (item->shape.rank < 0 || item->shape.rank > MEZZO_RANK_MAX ||
        !mzi_safetensors_bytes(&item->shape, item->dtype, &bytes))
        MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT,
                 "the shape of tensor %s for '%s' is negative or too large, or its rank (%d) is "
                 "outside 0 to %d",
                 shown, c->path, item->shape.rank, MEZZO_RANK_MAX);
    if (!c->source && !item->data && bytes > 0)
        MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT, "tensor %s for '%s' has no data", shown, c->path);
    bool is_rounded =
        item->dtype == MEZZO_F32 || item->dtype == MEZZO_F16 || item->dtype == MEZZO_BF16;
    if (c->source && !is_rounded)
        MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT, "tensor %s for '%s': f32 is not converted to %s",
                 shown, c->path, mezzo_dtype_name(item->dtype));
    return MEZZO_OK;
}

static mezzo_status sort_items(content *c) {
    size_t bytes = (size_t)c->item_count * sizeof(void *);
    c->order = mzi_alloc(c->ctx, bytes);
    if (!c->order)
        return mzi_out_of_memory(c->ctx, bytes, "the header of a checkpoint");
    for (int i = 0; i < c->item_count; i++) {
        MZI_TRY(check_item(c, i));
        c->order[i] = &c->items[i];
    }
    qsort(c->order, (size_t)c->item_count, sizeof(void *), compare_names);
    char shown[MZI_SHOWN_NAME];
    for (int i = 1; i < c->item_count; i++)
        if (strcmp(c->order[i - 1]->name, c->order[i]->name) == 0)
            MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT, "two tensors for '%s' are named %s", c->path,
                     mzi_shown_name(shown, c->order[i]->name));
    qsort(c->order, (size_t)c->item_count, sizeof(void *), compare_places);
    return MEZZO_OK;
}

static mezzo_status sort_notes(content *c, const mezzo_safetensors_note *notes, int count) {
    size_t bytes = (size_t)c->note_capacity * sizeof *c->notes;
    c->notes = mzi_alloc(c->ctx, bytes);
    if (!c->notes)
        return mzi_out_of_memory(c->ctx, bytes, "the header of a checkpoint");
    bool has_format = false;
    char shown[MZI_SHOWN_NAME];
    for (int i = 0; i < count; i++) {
        if (!notes[i].key || !notes[i].value || !mzi_utf8_valid(notes[i].key) ||
            !mzi_utf8_valid(notes[i].value))
            MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT,
                     "note %d (%s) for '%s': key and value must be UTF-8", i,
                     mzi_shown_name(shown, notes[i].key ? notes[i].key : "null"), c->path);
        has_format = has_format || strcmp(notes[i].key, "format") == 0;
        c->notes[c->note_count++] = notes[i];
    }
    if (!has_format) /* transformers refuses a file with metadata but without it */
        c->notes[c->note_count++] = (mezzo_safetensors_note){"format", "pt"};
    qsort(c->notes, (size_t)c->note_count, sizeof *c->notes, compare_notes);
    for (int i = 1; i < c->note_count; i++)
        if (strcmp(c->notes[i - 1].key, c->notes[i].key) == 0)
            MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT, "two notes for '%s' have the key %s", c->path,
                     mzi_shown_name(shown, c->notes[i].key));
    return MEZZO_OK;
}

static void put_pair(mzi_json *json, const char *name, int64_t a, int64_t b) {
    mzi_json_key(json, name);
    mzi_json_raw(json, "[");
    mzi_json_integer(json, a);
    mzi_json_raw(json, ",");
    mzi_json_integer(json, b);
    mzi_json_raw(json, "]");
}

/* False if the data do not fit 63 bits. */
static bool put_header(const content *c, mzi_json *json) {
    mzi_json_raw(json, "{");
    mzi_json_key(json, "__metadata__");
    mzi_json_raw(json, "{");
    for (int i = 0; i < c->note_count; i++) {
        mzi_json_key(json, c->notes[i].key);
        mzi_json_string(json, c->notes[i].value);
    }
    mzi_json_raw(json, "}");
    int64_t begin = 0;
    for (int i = 0; i < c->item_count; i++) {
        const mezzo_safetensors_item *item = c->order[i];
        int64_t bytes, end;
        if (!mzi_safetensors_bytes(&item->shape, item->dtype, &bytes) ||
            __builtin_add_overflow(begin, bytes, &end))
            return false;
        mzi_json_key(json, item->name);
        mzi_json_raw(json, "{");
        mzi_json_key(json, "dtype");
        mzi_json_string(json, mzi_safetensors_type_of(item->dtype)->name);
        mzi_json_key(json, "shape");
        mzi_json_raw(json, "[");
        for (int32_t d = 0; d < item->shape.rank; d++) {
            if (d > 0)
                mzi_json_raw(json, ",");
            mzi_json_integer(json, item->shape.dim[d]);
        }
        mzi_json_raw(json, "]");
        put_pair(json, "data_offsets", begin, end);
        mzi_json_raw(json, "}");
        begin = end;
    }
    mzi_json_raw(json, "}");
    while (json->size % 8 != 0)
        mzi_json_raw(json, " ");
    return true;
}

static mezzo_status write_header(const content *c, mzi_atomic_file *file) {
    mzi_json measure = {NULL, 0, 0, 0};
    if (!put_header(c, &measure) || measure.size > MZI_SAFETENSORS_HEADER_MAX)
        MZI_FAIL(c->ctx, MEZZO_INVALID_ARGUMENT,
                 "'%s' would need a header of %zu bytes, or data beyond 2^63 bytes; the format "
                 "allows a header of %u",
                 c->path, measure.size, MZI_SAFETENSORS_HEADER_MAX);
    uint64_t size = measure.size;
    uint8_t *memory = mzi_alloc(c->ctx, 8 + measure.size);
    if (!memory)
        return mzi_out_of_memory(c->ctx, 8 + measure.size, "the header of a checkpoint");
    memcpy(memory, &size, 8);
    mzi_json json = {(char *)memory + 8, measure.size, 0, 0};
    (void)put_header(c, &json);
    mezzo_status status = mzi_atomic_write(c->ctx, file, memory, 8 + measure.size);
    mzi_free(c->ctx, memory, 8 + measure.size);
    return status;
}

static mezzo_status read_from_memory(void *user, int index, int64_t first, int64_t count,
                                     float *out) {
    const mezzo_safetensors_item *items = user;
    memcpy(out, (const float *)items[index].data + first, (size_t)count * sizeof *out);
    return MEZZO_OK;
}

mzi_safetensors_source mzi_safetensors_from_memory(const mezzo_safetensors_item *items) {
    return (mzi_safetensors_source){read_from_memory, (void *)(uintptr_t)items};
}

/* Values that a write takes at a time: 256 KB in FP32, far beyond what a system call costs. */
enum {
    CHUNK = 65536
};

/* The halves are written over the floats that they come from: element i ends where float i/2 does.
 */
static size_t round_in_place(float *values, int64_t count, mezzo_dtype dtype) {
    if (dtype == MEZZO_F32)
        return (size_t)count * sizeof *values;
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits =
            dtype == MEZZO_BF16 ? mzi_bf16_round(values[i]).bits : mzi_f16_round(values[i]).bits;
        memcpy((unsigned char *)values + (size_t)i * sizeof bits, &bits, sizeof bits);
    }
    return (size_t)count * sizeof(uint16_t);
}

static mezzo_status write_from_source(const content *c, mzi_atomic_file *file,
                                      const mezzo_safetensors_item *item, float *values) {
    int64_t count = mezzo_shape_count(item->shape);
    for (int64_t first = 0; first < count; first += CHUNK) {
        int64_t n = count - first < CHUNK ? count - first : CHUNK;
        MZI_TRY(c->source->read(c->source->user, (int)(item - c->items), first, n, values));
        size_t bytes = round_in_place(values, n, item->dtype);
        MZI_TRY(mzi_atomic_write(c->ctx, file, values, bytes));
    }
    return MEZZO_OK;
}

static mezzo_status write_items(const content *c, mzi_atomic_file *file, float *values) {
    for (int i = 0; i < c->item_count; i++) {
        const mezzo_safetensors_item *item = c->order[i];
        int64_t bytes;
        if (!mzi_safetensors_bytes(&item->shape, item->dtype, &bytes) || bytes == 0)
            continue;
        if (c->source)
            MZI_TRY(write_from_source(c, file, item, values));
        else
            MZI_TRY(mzi_atomic_write(c->ctx, file, item->data, (size_t)bytes));
    }
    return MEZZO_OK;
}

static mezzo_status write_content(const content *c, mzi_atomic_file *file) {
    size_t bytes = CHUNK * sizeof(float);
    float *values = mzi_alloc(c->ctx, bytes);
    if (!values)
        return mzi_out_of_memory(c->ctx, bytes, "writing a checkpoint");
    mezzo_status status = write_header(c, file);
    if (status == MEZZO_OK)
        status = write_items(c, file, values);
    mzi_free(c->ctx, values, bytes);
    MZI_TRY(status);
    return mzi_atomic_commit(c->ctx, file);
}

static mezzo_status write_file(content *c, const mzi_fs *fs, const mezzo_safetensors_note *notes,
                               int note_count) {
    MZI_TRY(sort_items(c));
    MZI_TRY(sort_notes(c, notes, note_count));
    mzi_atomic_file file;
    MZI_TRY(mzi_atomic_open(c->ctx, &file, fs, c->path));
    mezzo_status status = write_content(c, &file);
    mzi_atomic_abort(&file); /* does nothing once committed */
    return status;
}

mezzo_status mzi_safetensors_write(mezzo_ctx *ctx, const mzi_fs *fs, const char *path,
                                   const mezzo_safetensors_item *items,
                                   const mzi_safetensors_source *source, int item_count,
                                   const mezzo_safetensors_note *notes, int note_count) {
    if (item_count < 0 || item_count > MZI_SAFETENSORS_COUNT_MAX || note_count < 0 ||
        note_count > MZI_SAFETENSORS_COUNT_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "%d tensors and %d notes for '%s'; a file holds 0 to %d of each", item_count,
                 note_count, path, MZI_SAFETENSORS_COUNT_MAX);
    content c = {.ctx = ctx,
                 .path = path,
                 .items = items,
                 .source = source,
                 .item_count = item_count,
                 .note_capacity = note_count + 1};
    mezzo_status status = write_file(&c, fs, notes, note_count);
    mzi_free(ctx, c.order, (size_t)item_count * sizeof(void *));
    mzi_free(ctx, c.notes, (size_t)c.note_capacity * sizeof *c.notes);
    return status;
}

mezzo_status mezzo_safetensors_write(mezzo_ctx *ctx, const char *path,
                                     const mezzo_safetensors_item *items, int item_count,
                                     const mezzo_safetensors_note *notes, int note_count) {
    mzi_error_clear(ctx);
    if (!path || (!items && item_count > 0) || (!notes && note_count > 0))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%s is null",
                 !path   ? "path"
                 : items ? "notes"
                         : "items");
    return mzi_safetensors_write(ctx, &mzi_fs_real, path, items, NULL, item_count, notes,
                                 note_count);
}
