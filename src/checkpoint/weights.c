/* A model's state to and from safetensors files. */
#include "checkpoint/weights.h"

#include <inttypes.h>
#include <string.h>

#include "base/ctx.h"
#include "checkpoint/safetensors_format.h"
#include "num/split.h"

/* What both files hold, in the order of the source's indices. */
typedef struct saving {
    mezzo_ctx *ctx;
    const mzi_fs *fs;
    const char *folder;
    mezzo_safetensors_item *items;
    mzi_safetensors_source masters;
    const mzi_weights_info *info;
} saving;

/* The masters' file says more than the others. */
static mezzo_status write_file(const saving *s, const char *name,
                               const mzi_safetensors_source *source, int count, bool is_masters) {
    char path[4096], step[24];
    mzi_format(path, sizeof path, "%s/%s", s->folder, name);
    mzi_format(step, sizeof step, "%" PRId64, s->info->step);
    mezzo_safetensors_note notes[MZI_WEIGHTS_NOTE_MAX] = {
        {"format", "pt"},
        {"mezzo.plan_hash", s->info->plan_hash},
        {"mezzo.precision", mezzo_dtype_name(s->info->precision)},
        {"mezzo.step", step},
        {"mezzo.version", mezzo_version()},
    };
    int note_count = 5;
    if (s->info->common.key)
        notes[note_count++] = s->info->common;
    for (int k = 0; is_masters && k < s->info->note_count; k++)
        notes[note_count++] = s->info->notes[k];
    return mzi_safetensors_write(s->ctx, s->fs, path, s->items, source, count, notes, note_count);
}

/* Rounded to BF16 as the weights of a model are (docs/numerics.md): what the operations read. */
static mezzo_status read_computed(void *user, int index, int64_t first, int64_t count, float *out) {
    const saving *s = user;
    MZI_TRY(s->masters.read(s->masters.user, index, first, count, out));
    for (int64_t i = 0; i < count && s->items[index].dtype == MEZZO_BF16; i++)
        out[i] = mzi_bf16_load(mzi_bf16_round_away(out[i]));
    return MEZZO_OK;
}

/* The masters and the optimizer's tensors, then the weights again in their compute types. */
static mezzo_status write_both(saving *s, const mzi_weight *weights, int count,
                               int optimizer_count) {
    for (int i = 0; i < count; i++)
        s->items[i] =
            (mezzo_safetensors_item){weights[i].name, MEZZO_F32, weights[i].shape, weights[i].data};
    MZI_TRY(write_file(s, MZI_MASTERS_FILE, &s->masters, count + optimizer_count, true));
    for (int i = 0; i < count; i++)
        s->items[i].dtype = weights[i].compute;
    const mzi_safetensors_source computed = {read_computed, s};
    return write_file(s, MZI_MODEL_FILE, &computed, count, false);
}

mezzo_status mzi_weights_save(mezzo_ctx *ctx, const mzi_fs *fs, const char *folder,
                              const mzi_weight *weights, int count,
                              const mezzo_safetensors_item *optimizer, int optimizer_count,
                              const mzi_safetensors_source *source, const mzi_weights_info *info) {
    saving s = {.ctx = ctx, .fs = fs, .folder = folder, .info = info};
    size_t bytes = ((size_t)count + (size_t)optimizer_count) * sizeof *s.items;
    MZI_TRY(mzi_fs_mkdirs(ctx, fs, folder));
    s.items = mzi_alloc(ctx, bytes);
    if (!s.items)
        return mzi_out_of_memory(ctx, bytes, "saving a model");
    if (optimizer_count > 0)
        memcpy(s.items + count, optimizer, (size_t)optimizer_count * sizeof *s.items);
    s.masters = source ? *source : mzi_safetensors_from_memory(s.items);
    mezzo_status status = write_both(&s, weights, count, optimizer_count);
    mzi_free(ctx, s.items, bytes);
    return status;
}

mezzo_status mzi_weights_save_one(mezzo_ctx *ctx, const mzi_fs *fs, const char *folder,
                                  const char *file, const mzi_weight *weights, int count,
                                  const mzi_safetensors_source *source,
                                  const mzi_weights_info *info) {
    saving s = {.ctx = ctx, .fs = fs, .folder = folder, .masters = *source, .info = info};
    size_t bytes = (size_t)count * sizeof *s.items;
    s.items = mzi_alloc(ctx, bytes);
    if (!s.items)
        return mzi_out_of_memory(ctx, bytes, "saving a model");
    for (int i = 0; i < count; i++)
        s.items[i] = (mezzo_safetensors_item){weights[i].name, MEZZO_F32, weights[i].shape, NULL};
    mezzo_status status = write_file(&s, file, &s.masters, count, false);
    mzi_free(ctx, s.items, bytes);
    return status;
}

static mezzo_status check_weight(mezzo_ctx *ctx, const mezzo_safetensors *file, const char *path,
                                 const mzi_weight *weight) {
    int index = mezzo_safetensors_find(file, weight->name);
    bool is_ours = mezzo_safetensors_note_value(file, "mezzo.version") != NULL;
    if (index < 0)
        MZI_FAIL(ctx, MEZZO_DATA,
                 "'%s' has no tensor \"%s\": it was saved from another model%s; use the "
                 "configuration that it was trained with%s",
                 path, weight->name, is_ours ? "" : " or by another program",
                 is_ours ? "" : ", and `mezzo import` for Hugging Face's format");
    mezzo_safetensors_item item = mezzo_safetensors_at(file, index);
    char found[MZI_SHAPE_TEXT], expected[MZI_SHAPE_TEXT];
    if (!mezzo_shape_equal(item.shape, weight->shape))
        MZI_FAIL(ctx, MEZZO_DATA,
                 "'%s': tensor \"%s\" has shape %s, and the model's is %s; use the configuration "
                 "that it was trained with",
                 path, weight->name, mzi_shape_text(found, item.shape),
                 mzi_shape_text(expected, weight->shape));
    if (item.dtype != MEZZO_F32 && item.dtype != MEZZO_F16 && item.dtype != MEZZO_BF16)
        MZI_FAIL(ctx, MEZZO_DATA, "'%s': tensor \"%s\" is %s; expected f32, f16 or bf16", path,
                 weight->name, mezzo_dtype_name(item.dtype));
    return MEZZO_OK;
}

static bool starts_with(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

mezzo_status mzi_weights_check(mezzo_ctx *ctx, const mezzo_safetensors *file, const char *path,
                               const mzi_weight *weights, int count) {
    for (int i = 0; i < count; i++)
        MZI_TRY(check_weight(ctx, file, path, &weights[i]));
    int training = 0;
    for (int i = 0; i < mezzo_safetensors_count(file); i++) {
        const char *name = mezzo_safetensors_at(file, i).name;
        training += starts_with(name, MZI_OPTIMIZER_PREFIX) || starts_with(name, MZI_EMA_PREFIX);
    }
    int others = mezzo_safetensors_count(file) - training;
    if (others > count)
        MZI_FAIL(ctx, MEZZO_DATA,
                 "'%s' has %d tensors, and the model %d: it was saved from another model; use the "
                 "configuration that it was trained with",
                 path, others, count);
    return MEZZO_OK;
}

/* The file's bytes may not be aligned. */
float mzi_weights_value(const mezzo_safetensors_item *item, int64_t index) {
    const uint8_t *bytes = item->data;
    if (item->dtype == MEZZO_F32) {
        float value;
        memcpy(&value, bytes + 4 * index, sizeof value);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, bytes + 2 * index, sizeof bits);
    return item->dtype == MEZZO_BF16 ? mzi_bf16_load((mezzo_bf16){bits})
                                     : mzi_f16_load((mezzo_f16){bits});
}

void mzi_weights_copy(const mezzo_safetensors_item *item, int64_t first, int64_t count,
                      float *out) {
    const mezzo_safetensors_item from = *item;
    if (from.dtype == MEZZO_F32) {
        if (count > 0)
            memcpy(out, (const uint8_t *)from.data + 4 * first, (size_t)count * sizeof *out);
    } else if (from.dtype == MEZZO_BF16) {
        const uint8_t *bytes = (const uint8_t *)from.data + 2 * first;
        for (int64_t i = 0; i < count; i++) {
            mezzo_bf16 value;
            memcpy(&value, bytes + 2 * i, sizeof value);
            out[i] = mzi_bf16_load(value);
        }
    } else {
        for (int64_t i = 0; i < count; i++)
            out[i] = mzi_weights_value(&from, first + i);
    }
}

mezzo_status mzi_weights_load(mezzo_ctx *ctx, const char *path, const mzi_weight *weights,
                              int count, int *rounded) {
    mezzo_safetensors *file;
    int half_count = 0;
    MZI_TRY(mezzo_safetensors_open(&file, ctx, path));
    mezzo_status status = mzi_weights_check(ctx, file, path, weights, count);
    for (int i = 0; status == MEZZO_OK && i < count; i++) {
        mezzo_safetensors_item item =
            mezzo_safetensors_at(file, mezzo_safetensors_find(file, weights[i].name));
        mzi_weights_copy(&item, 0, mezzo_shape_count(item.shape), weights[i].data);
        half_count += item.dtype != MEZZO_F32;
    }
    mezzo_safetensors_close(file);
    if (status == MEZZO_OK && rounded)
        *rounded = half_count;
    return status;
}
