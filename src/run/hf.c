/* Export to and import from Hugging Face's format.  Both know a model by its graph alone: names and
 * shapes, without the memory of a model. */
#include <string.h>
#include <unistd.h>

#include "checkpoint/hf_weights.h"
#include "checkpoint/safetensors_format.h"
#include "graph/graph.h"
#include "observe/run_dir.h"
#include "run/hf_config.h"
#include "run/hf_parts.h"

/* The tensors that a kind's graph has for a configuration, with room for their values. */
typedef struct tensors {
    mezzo_ctx *ctx;
    mezzo_graph *graph; /* owns the names */
    mzi_weight *weights;
    int32_t count, capacity;
    mzi_hf_parts parts; /* as the format has them, in the same memory */
    float *data;
    size_t data_bytes;
} tensors;

static void free_tensors(tensors *t) {
    if (!t->ctx)
        return;
    mzi_hf_parts_deinit(t->ctx, &t->parts);
    mzi_free(t->ctx, t->data, t->data_bytes);
    mzi_free(t->ctx, t->weights, (size_t)t->capacity * sizeof *t->weights);
    if (t->graph)
        mzi_graph_destroy(t->graph);
}

static mezzo_status build(tensors *t, const mezzo_model_kind *kind, const mezzo_config *config) {
    /* Sizes come from the configuration; the data has a say only where that leaves one open. */
    const mezzo_data_shape shape = {
        .batch = 1, .context = mezzo_config_int(config, "model.context"), .classes = 1};
    MZI_TRY(mzi_graph_create(&t->graph, t->ctx, MEZZO_ENTRY_EVAL));
    mezzo_status status = kind->build(t->graph, config, &shape);
    MZI_TRY(t->graph->status); /* its message is the first */
    if (status != MEZZO_OK)
        MZI_FAIL(t->ctx, status, "the build function of kind %s failed", kind->name);
    if (t->graph->arena.exhausted)
        return mzi_out_of_memory(t->ctx, 0, "the names of a graph");
    return MEZZO_OK;
}

static mezzo_status make_tensors(tensors *t, mezzo_ctx *ctx, const mezzo_model_kind *kind,
                                 const mezzo_config *config) {
    *t = (tensors){.ctx = ctx};
    MZI_TRY(build(t, kind, config));
    const mezzo_graph *graph = t->graph;
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        if (value->kind != MZI_VALUE_PARAM && value->kind != MZI_VALUE_STATE)
            continue;
        MZI_TRY(
            mzi_grow(ctx, (void **)&t->weights, &t->capacity, t->count + 1, sizeof *t->weights));
        t->weights[t->count++] = (mzi_weight){value->name, value->tensor.shape, MEZZO_F32, NULL};
        t->data_bytes += (size_t)mezzo_shape_count(value->tensor.shape) * sizeof *t->data;
    }
    t->data = mzi_alloc(ctx, t->data_bytes);
    if (!t->data)
        return mzi_out_of_memory(ctx, t->data_bytes, "a model's tensors");
    float *at = t->data;
    for (int32_t w = 0; w < t->count; w++) {
        t->weights[w].data = at;
        at += mezzo_shape_count(t->weights[w].shape);
    }
    for (int32_t w = 0; w < t->count; w++)
        MZI_TRY(mzi_hf_parts_add(t->graph, &t->parts, kind->hf, config, &t->weights[w]));
    return MEZZO_OK;
}

typedef struct exporting {
    mezzo_ctx *ctx;
    const mezzo_model_kind *kind;
    mezzo_config *config; /* with every size */
    tensors t;
    mzi_hf_config_info info;
    const char *folder;
} exporting;

static mezzo_status find_rows(exporting *x, const mezzo_safetensors *file, const char *path,
                              const mezzo_hf_key *key) {
    mezzo_safetensors_item item =
        mezzo_safetensors_at(file, mezzo_safetensors_find(file, key->rows_of));
    if (!item.name || item.shape.rank < 1)
        MZI_FAIL(x->ctx, MEZZO_DATA,
                 "'%s' has no tensor \"%s\" with rows, and %s is 0, which stands for their number",
                 path, key->rows_of, key->key);
    return mzi_hf_config_set_int(x->config, key->key,
                                 item.shape.dim[0] / (key->factor ? key->factor : 1), path);
}

/* Sizes that the configuration leaves to the data, from the tensors, or to another size. */
static mezzo_status find_sizes(exporting *x, const char *path) {
    mezzo_safetensors *file;
    MZI_TRY(mezzo_safetensors_open(&file, x->ctx, path));
    mezzo_status status = MEZZO_OK;
    for (const mezzo_hf_key *key = x->kind->hf->keys; key->name && status == MEZZO_OK; key++)
        if (key->rows_of && mzi_hf_config_int(x->config, key->key) == 0)
            status = find_rows(x, file, path, key);
        else if (key->role == MEZZO_HF_SIZE && key->other &&
                 mzi_hf_config_int(x->config, key->key) == 0)
            status = mzi_hf_config_set_int(x->config, key->key,
                                           mzi_hf_config_int(x->config, key->other), path);
    mezzo_safetensors_close(file);
    return status;
}

static mezzo_status find_end_of_text(exporting *x) {
    const char *name = mezzo_config_text(x->config, "data.tokenizer");
    mezzo_tokenizer *tokenizer;
    x->info.end_of_text = -1;
    if (name[0] == '\0' || strcmp(name, "bytes") == 0)
        return MEZZO_OK;
    MZI_TRY(mezzo_tokenizer_open(&tokenizer, x->ctx, name));
    x->info.end_of_text = mezzo_tokenizer_end_of_text(tokenizer);
    mezzo_tokenizer_destroy(tokenizer);
    return MEZZO_OK;
}

static mezzo_status claim_folder(const exporting *x) {
    static const char *const files[] = {MZI_MODEL_FILE, MZI_HF_CONFIG_FILE};
    char path[MZI_HF_PATH];
    MZI_TRY(mzi_fs_mkdirs(x->ctx, &mzi_fs_real, x->folder));
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        mzi_hf_beside(x->folder, files[i], path);
        if (access(path, F_OK) == 0)
            MZI_FAIL(x->ctx, MEZZO_BUSY,
                     "'%s' is there already: choose another folder, or remove "
                     "it",
                     path);
    }
    return MEZZO_OK;
}

static mezzo_status write_export(exporting *x) {
    char path[MZI_HF_PATH], *text;
    MZI_TRY(mzi_hf_config_text(x->ctx, x->config, x->kind->hf, &x->info, &text));
    mezzo_status status = claim_folder(x);
    if (status == MEZZO_OK) {
        mzi_hf_beside(x->folder, MZI_MODEL_FILE, path);
        status = mzi_hf_weights_write(x->ctx, &mzi_fs_real, path, x->kind->hf, x->t.parts.weights,
                                      x->t.parts.count, x->info.dtype);
    }
    if (status == MEZZO_OK) {
        mzi_hf_beside(x->folder, MZI_HF_CONFIG_FILE, path);
        status = mzi_fs_replace(x->ctx, &mzi_fs_real, path, text, strlen(text));
    }
    mzi_free_text(x->ctx, text);
    return status;
}

static mezzo_status run_export(exporting *x, const mezzo_runner *runner, const mezzo_config *config,
                               const char *weights) {
    char path[MZI_WEIGHTS_PATH];
    mzi_weights_path(weights, path);
    MZI_TRY(mzi_runner_kind(runner, config, &x->kind));
    if (!x->kind->hf)
        MZI_FAIL(x->ctx, MEZZO_CONFIG, "%s: model.kind %s has no form in Hugging Face's format",
                 mezzo_config_origin(config, "model.kind"), x->kind->name);
    MZI_TRY(mezzo_config_copy(&x->config, config));
    MZI_TRY(find_sizes(x, path));
    MZI_TRY(find_end_of_text(x));
    MZI_TRY(make_tensors(&x->t, x->ctx, x->kind, x->config));
    MZI_TRY(mzi_weights_load(x->ctx, path, x->t.weights, x->t.count, NULL));
    return write_export(x);
}

mezzo_status mezzo_run_export(mezzo_runner *runner, const mezzo_config *config, const char *weights,
                              const char *folder, mezzo_dtype dtype) {
    exporting x = {.ctx = runner->ctx, .folder = folder, .info.dtype = dtype};
    mzi_error_clear(runner->ctx);
    if (!weights || !folder || folder[0] == '\0')
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT,
                 "the path of the weights or of the folder is "
                 "null or empty");
    if (dtype != MEZZO_F32 && dtype != MEZZO_BF16 && dtype != MEZZO_F16)
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT, "type %s; f32, bf16 or f16",
                 mezzo_dtype_name(dtype));
    mezzo_status status = run_export(&x, runner, config, weights);
    free_tensors(&x.t);
    mezzo_config_destroy(x.config);
    return status;
}

typedef struct importing {
    mezzo_ctx *ctx;
    const char *path;
    mezzo_config *config;
    const mezzo_model_kind *kind;
    mzi_hf_files *files;
    tensors t;
    mzi_run_dir *dir;
} importing;

/* What config.json does not say.  A kind of tokens takes text, by the tokenizer beside the model if
 * there is one. */
static mezzo_status set_data(importing *i) {
    static const char key[] = "data.tokenizer=";
    char assignment[sizeof key + MZI_HF_PATH], *path = assignment + sizeof key - 1;
    if (i->kind->data != MEZZO_DATA_TOKENS)
        return MEZZO_OK;
    MZI_TRY(mezzo_config_set(i->config, "data.kind=text", i->path));
    mzi_format(assignment, sizeof assignment, "%s", key);
    mzi_hf_beside(i->path, "tokenizer.json", path);
    return access(path, F_OK) == 0 ? mezzo_config_set(i->config, assignment, i->path) : MEZZO_OK;
}

static mezzo_status read_import(importing *i, const mezzo_runner *runner) {
    char path[MZI_HF_PATH];
    if (access(i->path, F_OK) != 0)
        MZI_FAIL(i->ctx, MEZZO_DATA,
                 "there is no '%s': give the folder of a model in Hugging "
                 "Face's format",
                 i->path);
    MZI_TRY(mzi_hf_open(&i->files, i->ctx, i->path));
    MZI_TRY(mezzo_config_create(&i->config, i->ctx));
    mzi_hf_beside(i->path, MZI_HF_CONFIG_FILE, path);
    MZI_TRY(mzi_hf_config_read(runner, path, i->config));
    MZI_TRY(mzi_runner_kind(runner, i->config, &i->kind));
    MZI_TRY(set_data(i));
    MZI_TRY(mezzo_config_check(i->config));
    MZI_TRY(make_tensors(&i->t, i->ctx, i->kind, i->config));
    return mzi_hf_weights_read(i->ctx, i->files, i->kind->hf, i->t.parts.weights, i->t.parts.count);
}

static mezzo_status write_masters(const importing *i, const char *folder) {
    char path[MZI_WEIGHTS_PATH];
    const mezzo_safetensors_note notes[] = {
        {"format", "pt"}, {"mezzo.step", "0"}, {"mezzo.version", mezzo_version()}};
    size_t bytes = (size_t)i->t.count * sizeof(mezzo_safetensors_item);
    mezzo_safetensors_item *items = mzi_alloc(i->ctx, bytes);
    if (!items)
        return mzi_out_of_memory(i->ctx, bytes, "saving a model");
    for (int32_t w = 0; w < i->t.count; w++)
        items[w] = (mezzo_safetensors_item){i->t.weights[w].name, MEZZO_F32, i->t.weights[w].shape,
                                            i->t.weights[w].data};
    mzi_format(path, sizeof path, "%s/" MZI_RUN_FINAL, folder);
    mezzo_status status = mzi_fs_mkdirs(i->ctx, &mzi_fs_real, path);
    mzi_weights_path(folder, path);
    if (status == MEZZO_OK)
        status = mzi_safetensors_write(i->ctx, &mzi_fs_real, path, items, NULL, i->t.count, notes,
                                       (int)(sizeof notes / sizeof notes[0]));
    mzi_free(i->ctx, items, bytes);
    return status;
}

static mezzo_status write_import(importing *i, const char *folder) {
    const mzi_run_dir_config config = {.name = i->kind->name, .path = folder};
    const mzi_field from = {"from", i->path, 0.0};
    char *text;
    MZI_TRY(mzi_run_dir_open(&i->dir, i->ctx, &mzi_fs_real, &config));
    MZI_TRY(write_masters(i, folder));
    MZI_TRY(mzi_run_dir_event(i->dir, 0, 0, "import", &from, 1));
    MZI_TRY(mezzo_config_dump(i->config, false, &text));
    mezzo_status status = mzi_run_dir_write(i->dir, MZI_RUN_CONFIG, text);
    mezzo_text_free(i->ctx, text);
    return status;
}

mezzo_status mezzo_run_import(mezzo_runner *runner, const char *path, const char *folder) {
    importing i = {.ctx = runner->ctx, .path = path};
    mzi_error_clear(runner->ctx);
    if (!path || !folder || folder[0] == '\0')
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT,
                 "the path of the model or of the folder is "
                 "null or empty");
    mezzo_status status = read_import(&i, runner);
    if (status == MEZZO_OK)
        status = write_import(&i, folder);
    mzi_run_dir_close(i.dir);
    mzi_hf_close(i.files);
    free_tensors(&i.t);
    mezzo_config_destroy(i.config);
    return status;
}
