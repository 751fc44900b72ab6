/* Names with a prefix, matrices the other way round, tensors tied to others. */
#include "checkpoint/hf_weights.h"

#include <string.h>

#include "base/ctx.h"
#include "base/glob.h"
#include "checkpoint/safetensors_format.h"
#include "num/number.h"

enum {
    NAME_BYTES = 512
};

typedef struct reader {
    mezzo_ctx *ctx;
    const mzi_hf_files *files;
    const char *path;
    const mezzo_hf_map *map;
    const mzi_weight *weights;
    int count;
} reader;

static bool matches(const char *const *patterns, const char *name) {
    for (; patterns && *patterns; patterns++)
        if (mzi_glob_match(*patterns, name))
            return true;
    return false;
}

static bool is_transposed(const mezzo_hf_map *map, const mzi_weight *weight) {
    return weight->shape.rank == 2 && matches(map->transposed, weight->name);
}

static mezzo_shape stored_shape(const mezzo_hf_map *map, const mzi_weight *weight) {
    mezzo_shape shape = weight->shape;
    if (is_transposed(map, weight)) {
        shape.dim[0] = weight->shape.dim[1];
        shape.dim[1] = weight->shape.dim[0];
    }
    return shape;
}

/* With the prefix or without. */
static int find(const reader *r, const char *name, mezzo_safetensors_item *out) {
    char full[NAME_BYTES];
    mzi_format(full, sizeof full, "%s%s", r->map->prefix, name);
    return mzi_hf_find(r->files, full, out) + mzi_hf_find(r->files, name, out);
}

static const char *without_prefix(const mezzo_hf_map *map, const char *name) {
    size_t bytes = strlen(map->prefix);
    return strncmp(name, map->prefix, bytes) == 0 ? name + bytes : name;
}

static mezzo_status check_type(const reader *r, const char *name,
                               const mezzo_safetensors_item *item) {
    if (item->dtype != MEZZO_F32 && item->dtype != MEZZO_F16 && item->dtype != MEZZO_BF16)
        MZI_FAIL(r->ctx, MEZZO_DATA, "'%s': tensor \"%s\" is %s; expected f32, f16 or bf16",
                 r->path, name, mezzo_dtype_name(item->dtype));
    return MEZZO_OK;
}

static mezzo_status check_weight(const reader *r, const mzi_weight *weight) {
    mezzo_safetensors_item item;
    int found = find(r, weight->name, &item);
    mezzo_shape expected = stored_shape(r->map, weight);
    char found_text[MZI_SHAPE_TEXT], expected_text[MZI_SHAPE_TEXT];
    if (found == 0)
        MZI_FAIL(r->ctx, MEZZO_DATA,
                 "'%s' has no tensor \"%s%s\", and none without \"%s\"; the model of this "
                 "config.json needs it with shape %s",
                 r->path, r->map->prefix, weight->name, r->map->prefix,
                 mzi_shape_text(expected_text, expected));
    if (found > 1)
        MZI_FAIL(r->ctx, MEZZO_DATA, "'%s' has tensor \"%s\" %d times, with \"%s\" and without",
                 r->path, weight->name, found, r->map->prefix);
    if (!mezzo_shape_equal(item.shape, expected))
        MZI_FAIL(r->ctx, MEZZO_DATA,
                 "'%s': tensor \"%s\" has shape %s, and the model of this config.json needs %s",
                 r->path, item.name, mzi_shape_text(found_text, item.shape),
                 mzi_shape_text(expected_text, expected));
    return check_type(r, item.name, &item);
}

static bool has(const reader *r, const char *name) {
    for (int w = 0; w < r->count; w++)
        if (strcmp(r->weights[w].name, name) == 0)
            return true;
    return false;
}

static bool is_expected(const reader *r, const char *name) {
    return has(r, name) || matches(r->map->ignored, name) ||
           (r->map->tied && strcmp(r->map->tied, name) == 0);
}

static mezzo_status check_others(const reader *r) {
    char shown[MZI_SHOWN_NAME], shape[MZI_SHAPE_TEXT];
    for (int i = 0; i < mzi_hf_count(r->files); i++) {
        mezzo_safetensors_item item = mzi_hf_at(r->files, i);
        if (!is_expected(r, without_prefix(r->map, item.name)))
            MZI_FAIL(r->ctx, MEZZO_DATA,
                     "'%s' has tensor %s of shape %s, and the model of this config.json (%s) has "
                     "none of that name",
                     r->path, mzi_shown_name(shown, item.name), mzi_shape_text(shape, item.shape),
                     r->map->architecture);
    }
    return MEZZO_OK;
}

static mezzo_status check_tied(const reader *r) {
    mezzo_safetensors_item tied, other;
    char found[MZI_SHAPE_TEXT], expected[MZI_SHAPE_TEXT];
    if (!r->map->tied || has(r, r->map->tied) || find(r, r->map->tied, &tied) == 0)
        return MEZZO_OK;
    find(r, r->map->tied_to, &other);
    MZI_TRY(check_type(r, tied.name, &tied));
    if (!mezzo_shape_equal(tied.shape, other.shape))
        MZI_FAIL(r->ctx, MEZZO_DATA,
                 "'%s': tensor \"%s\" has shape %s, and \"%s\", to which it is tied, %s", r->path,
                 tied.name, mzi_shape_text(found, tied.shape), other.name,
                 mzi_shape_text(expected, other.shape));
    for (int64_t i = 0; i < mezzo_shape_count(tied.shape); i++) {
        float a = mzi_weights_value(&tied, i), b = mzi_weights_value(&other, i);
        if (mzi_f32_bits(a) != mzi_f32_bits(b))
            MZI_FAIL(r->ctx, MEZZO_DATA,
                     "'%s': tensor \"%s\" is not \"%s\" (element %lld is %.9g and %.9g): a head of "
                     "its own is not supported, only one that is tied to the embedding",
                     r->path, tied.name, other.name, (long long)i, (double)a, (double)b);
    }
    return MEZZO_OK;
}

static void copy(const mezzo_safetensors_item *item, bool transposed, float *out) {
    int64_t count = mezzo_shape_count(item->shape);
    int64_t rows = transposed ? item->shape.dim[0] : 1;
    int64_t columns = count > 0 ? count / rows : 0;
    for (int64_t k = 0; k < rows; k++)
        for (int64_t n = 0; n < columns; n++)
            out[n * rows + k] = mzi_weights_value(item, k * columns + n);
}

mezzo_status mzi_hf_weights_read(mezzo_ctx *ctx, const mzi_hf_files *files, const mezzo_hf_map *map,
                                 const mzi_weight *weights, int count) {
    const reader r = {ctx, files, mzi_hf_path(files), map, weights, count};
    for (int w = 0; w < count; w++)
        MZI_TRY(check_weight(&r, &weights[w]));
    MZI_TRY(check_others(&r));
    MZI_TRY(check_tied(&r));
    for (int w = 0; w < count; w++) {
        mezzo_safetensors_item item;
        find(&r, weights[w].name, &item);
        copy(&item, is_transposed(map, &weights[w]), weights[w].data);
    }
    return MEZZO_OK;
}

static void transpose(const mzi_weight *weight, float *scratch) {
    int64_t rows = weight->shape.dim[0], columns = weight->shape.dim[1];
    for (int64_t n = 0; n < rows; n++)
        for (int64_t k = 0; k < columns; k++)
            scratch[k * rows + n] = weight->data[n * columns + k];
    memcpy(weight->data, scratch, (size_t)(rows * columns) * sizeof *scratch);
}

typedef char full_name[NAME_BYTES];

/* What writing needs beside the weights. */
typedef struct writer {
    mezzo_safetensors_item *items;
    full_name *names;
    float *scratch; /* of the largest matrix that is transposed */
    size_t count, scratch_bytes;
} writer;

static void free_writer(mezzo_ctx *ctx, writer *w) {
    mzi_free(ctx, w->items, w->count * sizeof *w->items);
    mzi_free(ctx, w->names, w->count * sizeof *w->names);
    mzi_free(ctx, w->scratch, w->scratch_bytes);
}

static mezzo_status make_writer(mezzo_ctx *ctx, writer *w, const mezzo_hf_map *map,
                                const mzi_weight *weights, int count) {
    *w = (writer){.count = (size_t)count};
    for (int i = 0; i < count; i++) {
        size_t bytes = (size_t)mezzo_shape_count(weights[i].shape) * sizeof *w->scratch;
        if (is_transposed(map, &weights[i]) && bytes > w->scratch_bytes)
            w->scratch_bytes = bytes;
    }
    w->items = mzi_alloc(ctx, w->count * sizeof *w->items);
    w->names = mzi_alloc(ctx, w->count * sizeof *w->names);
    w->scratch = mzi_alloc(ctx, w->scratch_bytes);
    if (w->items && w->names && w->scratch)
        return MEZZO_OK;
    free_writer(ctx, w);
    return mzi_out_of_memory(ctx, w->scratch_bytes + w->count * sizeof *w->names,
                             "writing a model");
}

mezzo_status mzi_hf_weights_write(mezzo_ctx *ctx, const mzi_fs *fs, const char *path,
                                  const mezzo_hf_map *map, const mzi_weight *weights, int count,
                                  mezzo_dtype dtype) {
    const mezzo_safetensors_note note = {"format", "pt"};
    writer w;
    MZI_TRY(make_writer(ctx, &w, map, weights, count));
    for (int i = 0; i < count; i++) {
        if (is_transposed(map, &weights[i]))
            transpose(&weights[i], w.scratch);
        mzi_format(w.names[i], sizeof w.names[i], "%s%s",
                   matches(map->bare, weights[i].name) ? "" : map->prefix, weights[i].name);
        w.items[i] = (mezzo_safetensors_item){w.names[i], dtype, stored_shape(map, &weights[i]),
                                              weights[i].data};
    }
    const mzi_safetensors_source source = mzi_safetensors_from_memory(w.items);
    mezzo_status status = mzi_safetensors_write(ctx, fs, path, w.items, &source, count, &note, 1);
    free_writer(ctx, &w);
    return status;
}
