/* Import and export by a map: names, orders, types, ties, shards, sizes; what is refused leaves no
 * trace.  The model is small and made up:
 *
 *   emb.weight [6,4]    fc.weight [8,4], stored [4,8]    sq.weight [4,4], stored [4,4] the other
 * way fc.bias [8] */
#include <math.h>

#include "base/ctx.h"
#include "mezzo/ops.h"
#include "mezzo/run.h"
#include "mezzo/safetensors.h"
#include "mezzo/tokenizer.h"
#include "num/number.h"
#include "unit/failing_alloc.h"
#include "unit/tempdir.h"

enum {
    V = 6,
    C = 4,
    N = 8,
    TENSORS = 4,
    EXTRA_MAX = 4
};

static mezzo_ctx *ctx;
static char root[256];

static const char *const transposed[] = {"fc.weight", "s?.weight", NULL};
static const char *const ignored[] = {"*.mask", NULL};
static const mezzo_hf_key keys[] = {
    {.name = "n_layer", .role = MEZZO_HF_SIZE, .key = "model.layers"},
    {.name = "n_embd", .role = MEZZO_HF_SIZE, .key = "model.channels"},
    {.name = "n_words", .role = MEZZO_HF_SIZE, .key = "model.vocab", .rows_of = "emb.weight"},
    {.name = "n_inner", .role = MEZZO_HF_MULTIPLE, .key = "model.channels", .factor = 2},
    {.name = "act", .role = MEZZO_HF_FIXED, .value = "\"sine\""},
    {.name = "eps", .role = MEZZO_HF_FIXED, .value = "1e-05"},
    {.name = "drop", .role = MEZZO_HF_RATE, .key = "model.dropout"},
    {.name = "drop_none", .role = MEZZO_HF_RATE},
    {0}};
static const mezzo_hf_map map = {.model_type = "tiny",
                                 .architecture = "TinyModel",
                                 .prefix = "body.",
                                 .transposed = transposed,
                                 .ignored = ignored,
                                 .tied = "head.weight",
                                 .tied_to = "emb.weight",
                                 .keys = keys};

static mezzo_status build(mezzo_graph *graph, const mezzo_config *config,
                          const mezzo_data_shape *shape) {
    const mezzo_init zero = {MEZZO_INIT_CONSTANT, 0.0f};
    int64_t width = mezzo_config_int_at(config, "model.channels", 0);
    (void)shape;
    mezzo_param(graph, "emb.weight", mezzo_shape2(mezzo_config_int(config, "model.vocab"), width),
                zero);
    mezzo_param(graph, "fc.weight", mezzo_shape2(2 * width, width), zero);
    mezzo_param(graph, "fc.bias", mezzo_shape1(2 * width), zero);
    mezzo_param(graph, "sq.weight", mezzo_shape2(width, width), zero);
    return MEZZO_OK;
}

static const mezzo_model_kind tiny = {
    .name = "tiny-kind", .data = MEZZO_DATA_TOKENS, .build = build, .hf = &map};
static const mezzo_model_kind plain = {.name = "plain", .data = MEZZO_DATA_TOKENS, .build = build};

#define CONFIG                                                                                     \
    "{\"model_type\": \"tiny\", \"n_layer\": 3, \"n_embd\": 4, \"n_words\": 6, \"act\": "          \
    "\"sine\", \"n_inner\": null, \"eps\": 0.00001, \"drop\": 0.1, \"other\": [1]}"

/* A number for element [n,k] of tensor t, exact in every type. */
static float element(int t, int64_t n, int64_t k) {
    return (float)(t * 64 + n * 8 + k) - 100.0f;
}

/* What a test changes in the file. */
typedef struct file_change {
    const char *name;             /* of the tensor that is changed; null: none */
    const char *rename;           /* to this; "" leaves it out                 */
    mezzo_dtype dtype;            /* F32 if NONE                               */
    mezzo_shape shape;            /* rank 0: as it is                          */
    const char *extra[EXTRA_MAX]; /* more tensors, each a copy of emb.weight */
    float extra_first;            /* added to their first element              */
} file_change;

typedef struct tensor {
    const char *name;
    mezzo_shape shape;
    float values[N * C];
} tensor;

/* As the format stores them. */
static void fill(tensor out[TENSORS]) {
    static const char *const names[TENSORS] = {"emb.weight", "fc.weight", "fc.bias", "sq.weight"};
    const mezzo_shape shapes[TENSORS] = {mezzo_shape2(V, C), mezzo_shape2(C, N), mezzo_shape1(N),
                                         mezzo_shape2(C, C)};
    for (int t = 0; t < TENSORS; t++) {
        out[t] = (tensor){.name = names[t], .shape = shapes[t]};
        int64_t columns = shapes[t].rank == 2 ? shapes[t].dim[1] : 1;
        bool turned = t == 1 || t == 3;
        for (int64_t i = 0; i < mezzo_shape_count(shapes[t]); i++)
            out[t].values[i] = turned ? element(t, i % columns, i / columns)
                                      : element(t, i / columns, i % columns);
    }
}

static size_t store(void *out, mezzo_dtype dtype, const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (dtype == MEZZO_I32)
            ((int32_t *)out)[i] = (int32_t)values[i];
        else
            mzi_store(out, dtype, i, (double)values[i]);
    return (size_t)count * mezzo_dtype_bytes(dtype);
}

/* FOLDER/FILE with the tensors first to last. */
static void write_tensors(const char *folder, const char *file, const char *prefix,
                          const file_change *change, int first, int last) {
    static double data[16 * N * C];
    tensor tensors[TENSORS];
    mezzo_safetensors_item items[TENSORS + EXTRA_MAX];
    char names[TENSORS][64], path[1024];
    int count = 0;
    fill(tensors);
    for (int t = first; t <= last; t++) {
        bool changed = change && change->name && strcmp(change->name, tensors[t].name) == 0;
        const char *name = changed && change->rename ? change->rename : tensors[t].name;
        if (name[0] == '\0')
            continue;
        mezzo_dtype dtype = changed && change->dtype ? change->dtype : MEZZO_F32;
        mezzo_shape shape = changed && change->shape.rank ? change->shape : tensors[t].shape;
        double *at = data + (ptrdiff_t)count * N * C;
        store(at, dtype, tensors[t].values, mezzo_shape_count(shape));
        snprintf(names[t], sizeof names[t], "%s%s", prefix, name);
        items[count++] = (mezzo_safetensors_item){names[t], dtype, shape, at};
    }
    for (int e = 0; change && e < EXTRA_MAX && change->extra[e]; e++) {
        float *at = (float *)(data + (ptrdiff_t)count * N * C);
        memcpy(at, tensors[0].values, sizeof tensors[0].values);
        at[0] += change->extra_first;
        items[count++] =
            (mezzo_safetensors_item){change->extra[e], MEZZO_F32, tensors[0].shape, at};
    }
    const mezzo_safetensors_note note = {"format", "pt"};
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_int_equal(mezzo_safetensors_write(ctx, path, items, count, &note, 1), MEZZO_OK);
}

static void write_model(const char *folder, const char *prefix, const file_change *change,
                        const char *config) {
    mkdir(folder, 0700);
    write_tensors(folder, "model.safetensors", prefix, change, 0, TENSORS - 1);
    if (config)
        tempdir_write(folder, "/config.json", config);
}

static mezzo_runner *make_runner(mezzo_ctx *with) {
    mezzo_runner *runner = NULL;
    if (mezzo_runner_create(&runner, with) != MEZZO_OK)
        return NULL;
    assert_int_equal(mezzo_runner_add_kind(runner, &tiny), MEZZO_OK);
    assert_int_equal(mezzo_runner_add_kind(runner, &plain), MEZZO_OK);
    return runner;
}

static mezzo_status import(const char *from, const char *to) {
    mezzo_runner *runner = make_runner(ctx);
    mezzo_status status = mezzo_run_import(runner, from, to);
    mezzo_runner_destroy(runner);
    return status;
}

/* The run directory `folder` holds the model, with the sizes of CONFIG. */
static void check_run(const char *folder) {
    char path[1024];
    tensor tensors[TENSORS];
    mezzo_safetensors *file;
    fill(tensors);
    snprintf(path, sizeof path, "%s/checkpoints/final/masters.safetensors", folder);
    assert_int_equal(mezzo_safetensors_open(&file, ctx, path), MEZZO_OK);
    assert_int_equal(mezzo_safetensors_count(file), TENSORS);
    for (int t = 0; t < TENSORS; t++) {
        mezzo_safetensors_item item =
            mezzo_safetensors_at(file, mezzo_safetensors_find(file, tensors[t].name));
        assert_non_null(item.name);
        assert_int_equal(item.dtype, MEZZO_F32);
        int64_t columns = item.shape.rank == 2 ? item.shape.dim[1] : 1;
        assert_int_equal(columns, t == 2 ? 1 : C);
        for (int64_t i = 0; i < mezzo_shape_count(item.shape); i++)
            assert_true(mzi_load(item.data, MEZZO_F32, i) ==
                        (double)element(t, i / columns, i % columns));
    }
    mezzo_safetensors_close(file);
    mezzo_config *config;
    assert_int_equal(mezzo_config_create(&config, ctx), MEZZO_OK);
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    assert_int_equal(mezzo_config_load(config, path), MEZZO_OK);
    assert_string_equal(mezzo_config_text(config, "model.kind"), "tiny-kind");
    assert_string_equal(mezzo_config_text(config, "data.kind"), "text");
    assert_int_equal(mezzo_config_int(config, "model.layers"), 3);
    assert_int_equal(mezzo_config_int_at(config, "model.channels", 0), C);
    assert_int_equal(mezzo_config_int(config, "model.vocab"), V);
    assert_true(mezzo_config_real(config, "model.dropout") == 0.0);
    mezzo_config_destroy(config);
}

static const char *at(char out[512], const char *name) {
    snprintf(out, 512, "%s/%s", root, name);
    return out;
}

static void expect_import(const char *from, const char *to) {
    if (import(from, to) != MEZZO_OK)
        fail_msg("%s: %s", from, mezzo_ctx_error(ctx)->text);
    check_run(to);
}

static void test_names(void **state) {
    char model[512], run[512], file[1024];
    (void)state;
    write_model(at(model, "prefix"), "body.", NULL, CONFIG);
    expect_import(model, at(run, "prefix-run"));
    snprintf(file, sizeof file, "%s/model.safetensors", model);
    expect_import(file, at(run, "file-run"));
    write_model(at(model, "bare"), "", NULL, CONFIG);
    expect_import(model, at(run, "bare-run"));
    const file_change more = {.extra = {"head.weight", "a.mask", "body.b.mask"}};
    write_model(at(model, "more"), "body.", &more, CONFIG);
    expect_import(model, at(run, "more-run"));
}

static void test_types(void **state) {
    static const mezzo_dtype types[] = {MEZZO_BF16, MEZZO_F16};
    static const char *const names[] = {"fc.weight", "fc.bias", "sq.weight"};
    char model[512], run[512];
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        char name[32];
        const file_change half = {.name = names[i % 3], .dtype = types[i / 3]};
        snprintf(name, sizeof name, "half%zu", i);
        write_model(at(model, name), "body.", &half, CONFIG);
        snprintf(name, sizeof name, "half%zu-run", i);
        expect_import(model, at(run, name));
    }
}

/* DATA, with every part in the message, and no run directory. */
static void expect_refused(const char *model, const char *const *parts) {
    char run[512];
    mezzo_status status = import(model, at(run, "refused-run"));
    const char *message = mezzo_ctx_error(ctx)->text;
    if (status != MEZZO_DATA)
        fail_msg("%s: expected DATA, got %s: %s", parts[0], mezzo_status_name(status), message);
    for (; *parts; parts++)
        if (!strstr(message, *parts))
            fail_msg("'%s' lacks '%s'", message, *parts);
    if (access(run, F_OK) == 0)
        fail_msg("%s: a run directory was made", message);
}

static void test_refuses_tensors(void **state) {
    static const struct {
        file_change change;
        const char *parts[7];
    } bad[] = {
        {{.name = "fc.bias", .rename = ""}, {"no tensor \"body.fc.bias\"", "[8]"}},
        {{.name = "fc.bias", .rename = "fc.bios"}, {"no tensor \"body.fc.bias\""}},
        {{.extra = {"body.extra"}}, {"\"body.extra\"", "[6,4]", "TinyModel"}},
        {{.extra = {"extra.mask.weight"}}, {"\"extra.mask.weight\""}},
        {{.name = "fc.weight", .shape = {.rank = 2, .dim = {N, C}}},
         {"body.fc.weight", "[8,4]", "[4,8]"}},
        {{.name = "emb.weight", .shape = {.rank = 2, .dim = {V - 1, C}}},
         {"body.emb.weight", "[5,4]", "[6,4]"}},
        {{.name = "fc.bias", .shape = {.rank = 2, .dim = {N, 1}}},
         {"body.fc.bias", "[8,1]", "[8]"}},
        {{.name = "sq.weight", .dtype = MEZZO_I32}, {"body.sq.weight", "i32", "bf16"}},
        {{.extra = {"emb.weight"}}, {"\"emb.weight\" 2 times", "\"body.\""}},
        {{.extra = {"head.weight"}, .extra_first = 1.0f},
         {"\"head.weight\"", "\"body.emb.weight\"", "element 0", "-99", "-100", "tied"}},
    };
    char model[512];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *parts[9] = {"model"};
        memcpy(parts + 1, bad[i].parts, sizeof bad[i].parts);
        write_model(at(model, "bad-model"), "body.", &bad[i].change, CONFIG);
        expect_refused(model, parts);
    }
}

static void test_refuses_configs(void **state) {
#define SIZES "\"model_type\": \"tiny\", \"n_layer\": 3, \"n_embd\": 4, \"n_words\": 6"
    static const struct {
        const char *config, *parts[4];
    } bad[] = {
        {"{\"n_layer\": 3, \"n_embd\": 4, \"n_words\": 6}", {"model_type", "missing", "tiny"}},
        {"{\"model_type\": \"llama\"}", {"model_type", "\"llama\"", "tiny"}},
        {"{\"model_type\": [3]}", {"model_type", "[3]"}},
        {"{\"model_type\": \"tiny\", \"n_layer\": 3, \"n_words\": 6}", {"n_embd", "missing"}},
        {"{\"model_type\": \"tiny\", \"n_layer\": 0}", {"n_layer", "is 0"}},
        {"{\"model_type\": \"tiny\", \"n_layer\": 3.5}", {"n_layer", "3.5"}},
        {"{" SIZES ", \"act\": \"cosine\"}", {"act", "\"cosine\"", "\"sine\""}},
        {"{" SIZES ", \"act\": null}", {"act", "null"}},
        {"{" SIZES ", \"eps\": 1e-6}", {"eps", "1e-6", "1e-05"}},
        {"{" SIZES ", \"n_inner\": 12}", {"n_inner", "12", "8"}},
        {"{" SIZES ", \"n_layer\": 3}", {"not JSON", "line 1", "duplicate"}},
        {"{" SIZES, {"not JSON"}},
        {"[" SIZES "]", {"not JSON"}},
        {"[]", {"model_type"}},
    };
    char model[512];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *parts[6] = {"config.json"};
        memcpy(parts + 1, bad[i].parts, sizeof bad[i].parts);
        write_model(at(model, "bad-config"), "body.", NULL, bad[i].config);
        expect_refused(model, parts);
    }
    write_model(at(model, "good-inner"), "body.", NULL, "{" SIZES ", \"n_inner\": 8}");
    assert_int_equal(import(model, at((char[512]){0}, "good-inner-run")), MEZZO_OK);
    write_model(at(model, "no-config"), "body.", NULL, NULL);
    expect_refused(model, (const char *const[]){"config.json", "there is no", NULL});
}

static void test_refuses_files(void **state) {
    char model[512], file[1024];
    (void)state;
    expect_refused(at(model, "nowhere"), (const char *const[]){"nowhere", "there is no", NULL});
    mkdir(at(model, "empty"), 0700);
    expect_refused(model, (const char *const[]){"neither model.safetensors", NULL});
    tempdir_write(model, "/pytorch_model.bin", "PK\3\4");
    expect_refused(model,
                   (const char *const[]){"pytorch_model.bin", "pickle", "save_pretrained", NULL});
    static const char *const pickles[] = {"PK\3\4\x14\x01\x08\x08\x01 and so on",
                                          "\x80\x02}q\x01(X\x04 and so on"};
    for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++) {
        tempdir_write(model, "/weights.pt", pickles[i]);
        snprintf(file, sizeof file, "%s/weights.pt", model);
        expect_refused(file, (const char *const[]){"weights.pt", "pickle", NULL});
    }
}

#define INDEX "/model.safetensors.index.json"
#define MAP(emb, fc, bias, sq)                                                                     \
    "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"body.emb.weight\": \"" emb             \
    "\", \"body.fc.weight\": \"" fc "\", \"body.fc.bias\": \"" bias                                \
    "\", \"body.sq.weight\": \"" sq "\"}}"

static void test_shards(void **state) {
    char model[512], run[512], file[1024];
    (void)state;
    mkdir(at(model, "shards"), 0700);
    write_tensors(model, "a.safetensors", "body.", NULL, 0, 1);
    write_tensors(model, "b.safetensors", "body.", NULL, 2, 3);
    tempdir_write(model, "/config.json", CONFIG);
#define A "a.safetensors"
#define B "b.safetensors"
    tempdir_write(model, INDEX, MAP(A, A, B, B));
    expect_import(model, at(run, "shards-run"));
    snprintf(file, sizeof file, "%s%s", model, INDEX);
    expect_import(file, at(run, "index-run"));
    static const struct {
        const char *index, *parts[3];
    } bad[] = {
        {MAP(A, A, A, B), {"\"body.fc.bias\" is not in", A}},
        {MAP(A, A, B, "../b.safetensors"), {"body.sq.weight", "no name of a file", "../b"}},
        {MAP(A, A, B, "c.safetensors"), {"c.safetensors", "cannot be opened"}},
        {MAP(A, A, B, ""), {"no name of a file"}},
        {"{\"weight_map\": {\"body.emb.weight\": 3}}", {"no name of a file", "no text"}},
        {"{\"weight_map\": {}}", {"no weight_map"}},
        {"{}", {"no weight_map"}},
        {"{", {"is not JSON"}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *parts[4] = {NULL};
        memcpy(parts, bad[i].parts, sizeof bad[i].parts);
        tempdir_write(model, INDEX, bad[i].index);
        expect_refused(model, parts);
    }
    write_tensors(model, B, "body.", NULL, 1, 3);
    tempdir_write(model, INDEX, MAP(A, A, B, B));
    expect_refused(model, (const char *const[]){"fc.weight", "2 times", NULL});
}

/* A configuration of the kind, and a file with mezzo's names. */
static mezzo_config *make_config(const char *kind, const char *weights) {
    mezzo_config *config;
    char text[64];
    snprintf(text, sizeof text, "model.kind=%s", kind);
    assert_int_equal(mezzo_config_create(&config, ctx), MEZZO_OK);
    assert_int_equal(mezzo_config_set(config, text, "test"), MEZZO_OK);
    assert_int_equal(mezzo_config_set(config, "model.layers=3", "test"), MEZZO_OK);
    assert_int_equal(mezzo_config_set(config, "model.channels=[4]", "test"), MEZZO_OK);
    assert_int_equal(mezzo_config_set(config, "model.dropout=0.25", "test"), MEZZO_OK);
    if (weights) {
        char model[512];
        write_model(at(model, "source"), "", NULL, CONFIG);
        assert_int_equal(import(model, weights), MEZZO_OK);
    }
    return config;
}

static void check_text(const char *folder, const char *name, const char *expected) {
    char path[1024], text[2048];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, expected);
}

static void check_exported(const char *folder, mezzo_dtype dtype) {
    char path[1024];
    tensor tensors[TENSORS];
    mezzo_safetensors *file;
    fill(tensors);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(mezzo_safetensors_open(&file, ctx, path), MEZZO_OK);
    assert_int_equal(mezzo_safetensors_count(file), TENSORS);
    for (int t = 0; t < TENSORS; t++) {
        char name[64];
        snprintf(name, sizeof name, "body.%s", tensors[t].name);
        mezzo_safetensors_item item =
            mezzo_safetensors_at(file, mezzo_safetensors_find(file, name));
        assert_int_equal(item.dtype, dtype);
        assert_true(mezzo_shape_equal(item.shape, tensors[t].shape));
        for (int64_t i = 0; i < mezzo_shape_count(item.shape); i++)
            assert_true(mzi_load(item.data, dtype, i) == (double)tensors[t].values[i]);
    }
    mezzo_safetensors_close(file);
}

#define WRITTEN(end_of_text, type)                                                                 \
    "{\n  \"architectures\": [\"TinyModel\"],\n  \"model_type\": \"tiny\",\n  \"n_layer\": 3,\n"   \
    "  \"n_embd\": 4,\n  \"n_words\": 6,\n  \"n_inner\": null,\n  \"act\": \"sine\",\n"            \
    "  \"eps\": 1e-05,\n  \"drop\": 0.25,\n  \"drop_none\": 0,\n  \"bos_token_id\": " end_of_text  \
    ",\n  \"eos_token_id\": " end_of_text ",\n  \"torch_dtype\": \"" type "\"\n}\n"

static void test_export(void **state) {
    static const struct {
        mezzo_dtype dtype;
        const char *name, *text;
    } types[] = {{MEZZO_F32, "f32", WRITTEN("null", "float32")},
                 {MEZZO_BF16, "bf16", WRITTEN("null", "bfloat16")},
                 {MEZZO_F16, "f16", WRITTEN("null", "float16")}};
    char run[512], out[512];
    (void)state;
    mezzo_config *config = make_config("tiny-kind", at(run, "export-run"));
    mezzo_runner *runner = make_runner(ctx);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        assert_int_equal(
            mezzo_run_export(runner, config, run, at(out, types[i].name), types[i].dtype),
            MEZZO_OK);
        check_exported(out, types[i].dtype);
        check_text(out, "config.json", types[i].text);
    }
    assert_int_equal(mezzo_config_int(config, "model.vocab"), 0); /* not the caller's copy */
    assert_int_equal(mezzo_run_export(runner, config, run, out, MEZZO_F32), MEZZO_BUSY);
    assert_int_equal(mezzo_run_export(runner, config, run, at(out, "i32"), MEZZO_I32),
                     MEZZO_INVALID_ARGUMENT);
    assert_int_equal(access(out, F_OK), -1);
    mezzo_runner_destroy(runner);
    mezzo_config_destroy(config);
}

static void test_export_end_of_text(void **state) {
    char run[512], out[512], file[512], text[600];
    mezzo_tokenizer *tokenizer;
    (void)state;
    const mezzo_tokenizer_train_config train = {.vocab = 257, .end_of_text = true};
    assert_int_equal(mezzo_tokenizer_train(&tokenizer, ctx, "a", 1, &train), MEZZO_OK);
    assert_int_equal(mezzo_tokenizer_save(tokenizer, at(file, "tokenizer.json")), MEZZO_OK);
    mezzo_tokenizer_destroy(tokenizer);
    mezzo_config *config = make_config("tiny-kind", at(run, "eot-run"));
    snprintf(text, sizeof text, "data.tokenizer=%s", file);
    assert_int_equal(mezzo_config_set(config, text, "test"), MEZZO_OK);
    mezzo_runner *runner = make_runner(ctx);
    assert_int_equal(mezzo_run_export(runner, config, run, at(out, "eot"), MEZZO_F32), MEZZO_OK);
    check_text(out, "config.json", WRITTEN("256", "float32"));
    mezzo_runner_destroy(runner);
    mezzo_config_destroy(config);
}

static void test_export_refuses(void **state) {
    char run[512], out[512], file[1024];
    (void)state;
    mezzo_config *config = make_config("plain", at(run, "refuse-run"));
    mezzo_runner *runner = make_runner(ctx);
    at(out, "refused");
    assert_int_equal(mezzo_run_export(runner, config, run, out, MEZZO_F32), MEZZO_CONFIG);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "plain"));
    assert_int_equal(mezzo_config_set(config, "model.kind=tiny-kind", "test"), MEZZO_OK);
    snprintf(file, sizeof file, "%s/bad.safetensors", root);
    const file_change change = {.name = "fc.bias", .rename = ""};
    write_tensors(root, "bad.safetensors", "", &change, 0, TENSORS - 1);
    assert_int_equal(mezzo_run_export(runner, config, file, out, MEZZO_F32), MEZZO_DATA);
    write_tensors(root, "bad.safetensors", "", NULL, 1, TENSORS - 1); /* no emb.weight */
    assert_int_equal(mezzo_run_export(runner, config, file, out, MEZZO_F32), MEZZO_DATA);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "emb.weight"));
    assert_int_equal(mezzo_run_export(runner, config, "nowhere", out, MEZZO_F32), MEZZO_DATA);
    assert_int_equal(mezzo_run_export(runner, config, run, "", MEZZO_F32), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(access(out, F_OK), -1);
    mezzo_runner_destroy(runner);
    mezzo_config_destroy(config);
}

static void test_import_tokenizer_and_busy(void **state) {
    char model[512], run[512], file[1024];
    (void)state;
    write_model(at(model, "with-tokenizer"), "body.", NULL, CONFIG);
    tempdir_write(model, "/tokenizer.json", "{}");
    expect_import(model, at(run, "with-tokenizer-run"));
    mezzo_config *config;
    assert_int_equal(mezzo_config_create(&config, ctx), MEZZO_OK);
    snprintf(file, sizeof file, "%s/config.yaml", run);
    assert_int_equal(mezzo_config_load(config, file), MEZZO_OK);
    snprintf(file, sizeof file, "%s/tokenizer.json", model);
    assert_string_equal(mezzo_config_text(config, "data.tokenizer"), file);
    mezzo_config_destroy(config);
    assert_int_equal(import(model, run), MEZZO_BUSY);
}

static char sweep_model[512], sweep_run[512];

static mezzo_status import_once(mezzo_ctx *with) {
    mezzo_runner *runner = make_runner(with);
    if (!runner)
        return MEZZO_OUT_OF_MEMORY;
    mezzo_status status = mezzo_run_import(runner, sweep_model, sweep_run);
    mezzo_runner_destroy(runner);
    if (access(sweep_run, F_OK) == 0)
        tempdir_remove(sweep_run);
    return status;
}

static char sweep_out[512];
static mezzo_status export_once(mezzo_ctx *with) {
    mezzo_config *config = NULL;
    mezzo_runner *runner = make_runner(with);
    mezzo_status status = runner ? mezzo_config_create(&config, with) : MEZZO_OUT_OF_MEMORY;
    if (status == MEZZO_OK)
        status = mezzo_config_set(config, "model.kind=tiny-kind", "test");
    if (status == MEZZO_OK)
        status = mezzo_config_set(config, "model.channels=[4]", "test");
    if (status == MEZZO_OK)
        status = mezzo_run_export(runner, config, sweep_run, sweep_out, MEZZO_BF16);
    mezzo_config_destroy(config);
    mezzo_runner_destroy(runner);
    if (access(sweep_out, F_OK) == 0)
        tempdir_remove(sweep_out);
    return status;
}

static void test_memory_runs_out(void **state) {
    (void)state;
    write_model(at(sweep_model, "sweep"), "body.", NULL, CONFIG);
    at(sweep_run, "sweep-run");
    at(sweep_out, "sweep-out");
    assert_true(failing_alloc_sweep(import_once) > 20);
    assert_int_equal(import(sweep_model, sweep_run), MEZZO_OK);
    assert_true(failing_alloc_sweep(export_once) > 20);
}

static int setup(void **state) {
    (void)state;
    tempdir_make(root);
    return mezzo_ctx_create(&ctx, &(mezzo_ctx_config){.threads = 1}, NULL) == MEZZO_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    mezzo_ctx_destroy(ctx);
    tempdir_remove(root);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),           cmocka_unit_test(test_types),
        cmocka_unit_test(test_refuses_tensors), cmocka_unit_test(test_refuses_configs),
        cmocka_unit_test(test_refuses_files),   cmocka_unit_test(test_shards),
        cmocka_unit_test(test_export),          cmocka_unit_test(test_export_end_of_text),
        cmocka_unit_test(test_export_refuses),  cmocka_unit_test(test_import_tokenizer_and_busy),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
