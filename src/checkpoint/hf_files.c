/* Finding and opening the files of a model in Hugging Face's format. */
#include "checkpoint/hf_files.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/ctx.h"
#include "base/fs.h"
#include "checkpoint/safetensors_format.h"
#include "checkpoint/weights.h"

#define INDEX_FILE MZI_MODEL_FILE ".index.json"
#define INDEX_BYTES_MAX ((size_t)16 << 20)

enum {
    PART_MAX = 1024
};

typedef struct part {
    char *name;
    mezzo_safetensors *file;
} part;

struct mzi_hf_files {
    mezzo_ctx *ctx;
    char *path;
    part *parts;
    int32_t part_count, part_capacity;
};

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool is_there(const char *folder, const char *name) {
    char path[MZI_HF_PATH];
    mzi_hf_beside(folder, name, path);
    return access(path, F_OK) == 0;
}

void mzi_hf_beside(const char *path, const char *name, char out[MZI_HF_PATH]) {
    const char *slash = strrchr(path, '/');
    if (is_folder(path))
        mzi_format(out, MZI_HF_PATH, "%s/%s", path, name);
    else
        mzi_format(out, MZI_HF_PATH, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name);
}

static mezzo_status refuse_pickle(mezzo_ctx *ctx, const char *path) {
    MZI_FAIL(ctx, MEZZO_DATA,
             "'%s' is a Python pickle, which can run any code when it is read, so mezzo does not: "
             "load it in Python where you trust it, write it with save_pretrained(FOLDER, "
             "safe_serialization=True), and import FOLDER",
             path);
}

/* A zip archive (torch.save) or a bare pickle, of protocol 2 and up.  A safetensors file has its
 * first brace at byte 8. */
static bool is_pickle(const char *path) {
    uint8_t head[9] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd >= 0 ? read(fd, head, sizeof head) : 0;
    if (fd >= 0)
        (void)close(fd);
    bool zip = memcmp(head, "PK\3\4", 4) == 0, bare = head[0] == 0x80 && head[1] <= 5;
    return got > 4 && head[8] != '{' && (zip || bare);
}

static mezzo_status open_part(mzi_hf_files *files, const char *path, const char *name) {
    mezzo_ctx *ctx = files->ctx;
    if (files->part_count == PART_MAX)
        MZI_FAIL(ctx, MEZZO_DATA, "'%s' names more than %d files", files->path, (int)PART_MAX);
    if (is_pickle(path))
        return refuse_pickle(ctx, path);
    MZI_TRY(mzi_grow(ctx, (void **)&files->parts, &files->part_capacity, files->part_count + 1,
                     sizeof *files->parts));
    part opened = {.name = mzi_copy_text(ctx, name)};
    if (!opened.name)
        return mzi_out_of_memory(ctx, strlen(name) + 1, "the name of a file");
    mezzo_status status = mezzo_safetensors_open(&opened.file, ctx, path);
    if (status == MEZZO_OK)
        files->parts[files->part_count++] = opened;
    else
        mzi_free_text(ctx, opened.name);
    return status;
}

static const part *find_part(const mzi_hf_files *files, const char *name) {
    for (int32_t p = 0; p < files->part_count; p++)
        if (strcmp(files->parts[p].name, name) == 0)
            return &files->parts[p];
    return NULL;
}

/* Only files of the folder itself: an index must not lead anywhere else. */
static bool is_plain_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && !strchr(name, '/');
}

static mezzo_status open_named(mzi_hf_files *files, const char *index, const json_t *map) {
    char shown[MZI_SHOWN_NAME], shown_file[MZI_SHOWN_NAME], path[MZI_HF_PATH];
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value) {
        const char *name = json_string_value(value);
        mzi_shown_name(shown, tensor);
        if (!name || !is_plain_name(name))
            MZI_FAIL(files->ctx, MEZZO_DATA,
                     "'%s': the file of tensor %s is no name of a file in the same folder: %s",
                     index, shown, name ? mzi_shown_name(shown_file, name) : "no text");
        if (!find_part(files, name)) {
            mzi_hf_beside(index, name, path);
            MZI_TRY(open_part(files, path, name));
        }
        if (mezzo_safetensors_find(find_part(files, name)->file, tensor) < 0)
            MZI_FAIL(files->ctx, MEZZO_DATA, "'%s': tensor %s is not in %s", index, shown,
                     mzi_shown_name(shown_file, name));
    }
    return MEZZO_OK;
}

static mezzo_status open_index(mzi_hf_files *files, const char *index) {
    mezzo_ctx *ctx = files->ctx;
    void *text;
    size_t bytes;
    json_error_t error;
    MZI_TRY(mzi_fs_read_file(ctx, index, INDEX_BYTES_MAX, &text, &bytes));
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    mzi_free(ctx, text, bytes + 1);
    const json_t *map = json_object_get(root, "weight_map");
    mezzo_status status;
    if (!root)
        status =
            mzi_fail_at(ctx, __FILE__, __LINE__, MEZZO_DATA,
                        "'%s' is not JSON at offset %d: %.200s", index, error.position, error.text);
    else if (json_object_size(map) == 0)
        status = mzi_fail_at(ctx, __FILE__, __LINE__, MEZZO_DATA,
                             "'%s' has no weight_map, or an empty one: it says in which file each "
                             "tensor is",
                             index);
    else
        status = open_named(files, index, map);
    json_decref(root);
    return status;
}

static bool ends_with(const char *text, const char *end) {
    size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

static mezzo_status open_files(mzi_hf_files *files) {
    const char *path = files->path;
    char file[MZI_HF_PATH];
    if (!is_folder(path))
        return ends_with(path, ".index.json") ? open_index(files, path)
                                              : open_part(files, path, path);
    if (is_there(path, MZI_MODEL_FILE)) {
        mzi_hf_beside(path, MZI_MODEL_FILE, file);
        return open_part(files, file, MZI_MODEL_FILE);
    }
    if (is_there(path, INDEX_FILE)) {
        mzi_hf_beside(path, INDEX_FILE, file);
        return open_index(files, file);
    }
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++)
        if (is_there(path, pickles[i])) {
            mzi_hf_beside(path, pickles[i], file);
            return refuse_pickle(files->ctx, file);
        }
    MZI_FAIL(files->ctx, MEZZO_DATA,
             "'%s' has neither " MZI_MODEL_FILE " nor " INDEX_FILE
             ": give the folder of a model in Hugging Face's format",
             path);
}

mezzo_status mzi_hf_open(mzi_hf_files **out, mezzo_ctx *ctx, const char *path) {
    mzi_hf_files *files = mzi_alloc(ctx, sizeof *files);
    if (!files)
        return mzi_out_of_memory(ctx, sizeof *files, "the files of a model");
    files->ctx = ctx;
    files->path = mzi_copy_text(ctx, path);
    mezzo_status status =
        files->path ? open_files(files) : mzi_out_of_memory(ctx, strlen(path) + 1, "a path");
    if (status != MEZZO_OK) {
        mzi_hf_close(files);
        return status;
    }
    *out = files;
    return MEZZO_OK;
}

void mzi_hf_close(mzi_hf_files *files) {
    if (!files)
        return;
    mezzo_ctx *ctx = files->ctx;
    for (int32_t p = 0; p < files->part_count; p++) {
        mezzo_safetensors_close(files->parts[p].file);
        mzi_free_text(ctx, files->parts[p].name);
    }
    mzi_free(ctx, files->parts, (size_t)files->part_capacity * sizeof *files->parts);
    mzi_free_text(ctx, files->path);
    mzi_free(ctx, files, sizeof *files);
}

int mzi_hf_count(const mzi_hf_files *files) {
    int count = 0;
    for (int32_t p = 0; p < files->part_count; p++)
        count += mezzo_safetensors_count(files->parts[p].file);
    return count;
}

mezzo_safetensors_item mzi_hf_at(const mzi_hf_files *files, int index) {
    int32_t p = 0;
    while (index >= mezzo_safetensors_count(files->parts[p].file))
        index -= mezzo_safetensors_count(files->parts[p++].file);
    return mezzo_safetensors_at(files->parts[p].file, index);
}

int mzi_hf_find(const mzi_hf_files *files, const char *name, mezzo_safetensors_item *out) {
    int count = 0;
    for (int32_t p = 0; p < files->part_count; p++) {
        int index = mezzo_safetensors_find(files->parts[p].file, name);
        if (index < 0)
            continue;
        *out = mezzo_safetensors_at(files->parts[p].file, index);
        count++;
    }
    return count;
}

const char *mzi_hf_path(const mzi_hf_files *files) {
    return files->path;
}
