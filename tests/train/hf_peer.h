/* A model against Hugging Face's of the same kind, without Python: its logits in FP64 are kept in
 * tests/parity/, by the script beside them.  Weights are functions of an integer, written there
 * (gpt2_torch.py) and here, so that both have the same bits.  Of FP32's rounding the script derives
 *
 *   (n L + 3) sqrt(K) 2^-24 of the terms of a logit, |h| . |w|; a loss: twice that
 *
 * for n operations in each of L blocks, and sums of at most K terms.  The logits come out of the
 * decode entry, a token at a time. */
#ifndef TESTS_TRAIN_HF_PEER_H
#define TESTS_TRAIN_HF_PEER_H

#include "mezzo/safetensors.h"
#include "num/number.h"
#include "train/parity.h"
#include "unit/tempdir.h"

enum {
    VOCAB_MAX = 128,
    CONTEXT_MAX = 64,
    TENSOR_MAX = 1 << 15
};
typedef struct fixture fixture;

/* What one kind differs in. */
typedef struct hf_peer {
    const char *figures; /* tests/parity/FIGURES.json                                            */
    const char
        *settings[4];   /* of the configuration, besides the sizes in the figures; ended by null */
    int64_t operations; /* of a block, each of which rounds                                      */
    double same_f64;    /* of the terms of a logit: what FP64 may differ by                      */
    /* The tensors that mezzo has exported. */
    void (*check_exported)(const fixture *f, const mezzo_model *model, mezzo_safetensors *file);
} hf_peer;

struct fixture {
    const hf_peer *about;
    mezzo_ctx *ctx;
    mezzo_runner *runner;
    mezzo_config *config;
    json_t *peer;
    parity random;                          /* its seed only */
    int64_t layers, widest, context, vocab; /* widest: terms of the longest sum */
    int32_t tokens[CONTEXT_MAX + 1];
    char folder[256];
};

#define OK(ctx, expression)                                                                        \
    do {                                                                                           \
        if ((expression) != MEZZO_OK)                                                              \
            fail_msg("%s: %s", #expression, mezzo_ctx_error(ctx)->text);                           \
    } while (0)

static int64_t peer_integer(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

static double peer_number(const fixture *f, const char *key) {
    return json_number_value(json_object_get(f->peer, key));
}

static double element(const json_t *array, size_t index) {
    return json_number_value(json_array_get(array, index));
}

/* Matrices are uniform in +-1/sqrt(columns); vectors are `vector` times that about 0, and weights
 * of norms about 1. */
static double initial_value(const fixture *f, const mezzo_state_info *info, uint32_t stream,
                            int64_t index) {
    double u = parity_uniform(&f->random, stream, index);
    if (info->shape.rank == 2)
        return (double)(float)(u * (1.0 / sqrt((double)info->shape.dim[1])));
    bool is_scale = strstr(info->name, ".weight") != NULL; /* of a norm */
    return (double)(float)(u * peer_number(f, "vector") + (is_scale ? 1.0 : 0.0));
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const fixture *f = user;
    const mezzo_model_kind *kind;
    const mezzo_data_shape shape = {
        .batch = 1, .context = f->context, .classes = (int32_t)f->vocab};
    OK(f->ctx, mzi_runner_kind(f->runner, f->config, &kind));
    return kind->build(graph, f->config, &shape);
}

static void write_state(mezzo_model *model, int s, const double *wide) {
    static float narrow[TENSOR_MAX];
    mzi_state *state = &model->states[s];
    int64_t count = mezzo_shape_count(state->shape);
    if (state->dtype == MEZZO_F64) {
        OK(model->ctx, mzi_model_settle(model)); /* the first run would, over `wide` */
        OK(model->ctx, model->backend->upload(model->backend, &state->buffer, 0, wide,
                                              (uint64_t)count * sizeof *wide));
        return;
    }
    for (int64_t i = 0; i < count; i++)
        narrow[i] = (float)wide[i];
    OK(model->ctx, mezzo_model_write(model, s, narrow, count));
}

/* With the peer's weights; their number is the random stream. */
static mezzo_model *create_model(fixture *f, const char *device, mezzo_dtype compute) {
    static double values[TENSOR_MAX];
    const mezzo_model_config config = {
        .build = build, .user = f, .device = device, .precision.compute = compute};
    const json_t *names = json_object_get(f->peer, "parameters");
    mezzo_model *model = NULL;
    uint32_t stream = 0;
    OK(f->ctx, mezzo_model_create(&model, f->ctx, &config, MEZZO_ENTRY_EVAL));
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        assert_string_equal(info.name, json_string_value(json_array_get(names, stream)));
        int64_t count = mezzo_shape_count(info.shape);
        assert_in_range(count, 1, TENSOR_MAX);
        for (int64_t i = 0; i < count; i++)
            values[i] = initial_value(f, &info, stream, i);
        write_state(model, s, values);
        stream++;
    }
    assert_int_equal(stream, json_array_size(names));
    model->version++;
    return model;
}

static void decode(const fixture *f, mezzo_model *model, int32_t position, double *logits) {
    static unsigned char raw[VOCAB_MAX * sizeof(double)];
    const mezzo_binding inputs[] = {{"tokens", &f->tokens[position], sizeof(int32_t)},
                                    {"position", &position, sizeof position}};
    OK(f->ctx, mezzo_model_decode(model, inputs, 2));
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_DECODE].plan->graph;
    for (int32_t k = 0; k < graph->output_count; k++) {
        int32_t v = graph->outputs[k].value;
        mezzo_dtype dtype = graph->values[v].tensor.dtype;
        if (strcmp(graph->outputs[k].name, "logits") != 0)
            continue;
        assert_int_equal(mezzo_shape_count(graph->values[v].tensor.shape), f->vocab);
        OK(f->ctx, mzi_model_download(model, MEZZO_ENTRY_DECODE, v, raw,
                                      (uint64_t)f->vocab * mezzo_dtype_bytes(dtype)));
        for (int64_t i = 0; i < f->vocab; i++)
            logits[i] = mzi_load(raw, dtype, i);
    }
}

static double rounding(const fixture *f) {
    return (double)(f->about->operations * f->layers + 3) * sqrt((double)f->widest) * 0x1p-24;
}

/* The largest distance from the peer's logits, over the terms. */
static double distance(const fixture *f, mezzo_model *model) {
    const json_t *positions = json_object_get(f->peer, "positions");
    double logits[VOCAB_MAX] = {0}, apart = 0.0;
    size_t next = 0;
    for (int32_t position = 0; position < (int32_t)f->context; position++) {
        decode(f, model, position, logits);
        if (json_integer_value(json_array_get(positions, next)) != position)
            continue;
        const json_t *theirs = json_array_get(json_object_get(f->peer, "logits"), next);
        double terms = element(json_object_get(f->peer, "terms"), next++);
        assert_int_equal(json_array_size(theirs), f->vocab);
        for (int64_t i = 0; i < f->vocab; i++) {
            double found = fabs(logits[i] - element(theirs, (size_t)i)) / terms;
            if (!(found <= apart))
                apart = found;
        }
    }
    assert_int_equal(next, json_array_size(positions));
    assert_true(next >= 4);
    return apart;
}

static void test_logits_f64(void **state) {
    fixture *f = *state;
    mezzo_model *model = create_model(f, "ref", MEZZO_F64);
    double apart = distance(f, model);
    mezzo_model_destroy(model);
    print_message("  FP64: logits at most %.1e of their terms from transformers'\n", apart);
    assert_true(apart <= f->about->same_f64);
}

static void test_logits_f32(void **state) {
    fixture *f = *state;
    mezzo_model *model = create_model(f, "cpu", MEZZO_F32);
    double apart = distance(f, model), bound = rounding(f);
    mezzo_model_destroy(model);
    print_message("  FP32: logits at most %.1e of their terms from transformers' in FP64, bound "
                  "%.1e\n",
                  apart, bound);
    assert_true(apart <= bound);
}

static double largest_terms(const fixture *f) {
    const json_t *terms = json_object_get(f->peer, "terms");
    double largest = 0.0;
    for (size_t i = 0; i < json_array_size(terms); i++)
        largest = fmax(largest, element(terms, i));
    return largest;
}

static void test_loss(void **state) {
    fixture *f = *state;
    mezzo_model *model = create_model(f, "cpu", MEZZO_F32);
    size_t bytes = (size_t)f->context * sizeof *f->tokens;
    const mezzo_binding inputs[] = {{"tokens", f->tokens, bytes}, {"labels", f->tokens + 1, bytes}};
    float loss;
    OK(f->ctx, mezzo_model_evaluate(model, inputs, 2));
    OK(f->ctx, mezzo_model_output(model, MEZZO_ENTRY_EVAL, "loss", &loss, 1));
    mezzo_model_destroy(model);
    double apart = fabs((double)loss - peer_number(f, "loss"));
    print_message("  FP32: loss %.7f, %.1e from transformers' in FP64\n", (double)loss, apart);
    assert_true(apart <= 2.0 * rounding(f) * largest_terms(f));
}

static void save_masters(const fixture *f, const mezzo_model *model, const char *path) {
    static float data[4 * TENSOR_MAX];
    mezzo_safetensors_item items[64];
    int count = 0;
    int64_t used = 0;
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        if (info.kind != MEZZO_STATE_PARAM)
            continue;
        int64_t n = mezzo_shape_count(info.shape);
        assert_true(used + n <= 4 * TENSOR_MAX && count < 64);
        OK(f->ctx, mezzo_model_read((mezzo_model *)(uintptr_t)model, s, data + used, n));
        items[count++] = (mezzo_safetensors_item){info.name, MEZZO_F32, info.shape, data + used};
        used += n;
    }
    OK(f->ctx, mezzo_safetensors_write(f->ctx, path, items, count, NULL, 0));
}

static void check_same_bytes(const fixture *f, const char *a, const char *b) {
    mezzo_safetensors *files[2];
    OK(f->ctx, mezzo_safetensors_open(&files[0], f->ctx, a));
    OK(f->ctx, mezzo_safetensors_open(&files[1], f->ctx, b));
    assert_int_equal(mezzo_safetensors_count(files[0]), mezzo_safetensors_count(files[1]));
    for (int i = 0; i < mezzo_safetensors_count(files[0]); i++) {
        mezzo_safetensors_item x = mezzo_safetensors_at(files[0], i),
                               y = mezzo_safetensors_at(files[1], i);
        assert_string_equal(x.name, y.name);
        assert_true(mezzo_shape_equal(x.shape, y.shape));
        assert_memory_equal(x.data, y.data,
                            (size_t)mezzo_shape_count(x.shape) * mezzo_dtype_bytes(x.dtype));
    }
    mezzo_safetensors_close(files[0]);
    mezzo_safetensors_close(files[1]);
}

static void test_export_and_import(void **state) {
    fixture *f = *state;
    char masters[300], exported[300], file[400], run[300];
    snprintf(masters, sizeof masters, "%s/masters.safetensors", f->folder);
    snprintf(exported, sizeof exported, "%s/exported", f->folder);
    snprintf(file, sizeof file, "%s/model.safetensors", exported);
    snprintf(run, sizeof run, "%s/run", f->folder);
    mezzo_model *model = create_model(f, "cpu", MEZZO_F32);
    save_masters(f, model, masters);
    OK(f->ctx, mezzo_run_export(f->runner, f->config, masters, exported, MEZZO_F32));
    mezzo_safetensors *tensors;
    OK(f->ctx, mezzo_safetensors_open(&tensors, f->ctx, file));
    assert_string_equal(mezzo_safetensors_note_value(tensors, "format"), "pt");
    f->about->check_exported(f, model, tensors);
    mezzo_safetensors_close(tensors);
    mezzo_model_destroy(model);
    OK(f->ctx, mezzo_run_import(f->runner, exported, run));
    snprintf(file, sizeof file, "%s/checkpoints/final/masters.safetensors", run);
    check_same_bytes(f, masters, file);
    mezzo_config *config;
    OK(f->ctx, mezzo_config_create(&config, f->ctx));
    snprintf(file, sizeof file, "%s/config.yaml", run);
    OK(f->ctx, mezzo_config_load(config, file));
    static const char *const keys[] = {"model.layers", "model.heads",        "model.context",
                                       "model.vocab",  "model.mlp_channels", "model.kv_heads"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_int_equal(mezzo_config_int(config, keys[i]), mezzo_config_int(f->config, keys[i]));
    assert_int_equal(mezzo_config_int_at(config, "model.channels", 0),
                     mezzo_config_int_at(f->config, "model.channels", 0));
    static const char *const reals[] = {"model.rope_theta", "model.norm_eps"};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++)
        assert_true(mezzo_config_real(config, reals[i]) == mezzo_config_real(f->config, reals[i]));
    assert_int_equal(mezzo_config_bool(config, "model.tied"),
                     mezzo_config_bool(f->config, "model.tied"));
    mezzo_config_destroy(config);
}

/* The sizes of the figures are keys of the configuration, but for two. */
static void configure(fixture *f) {
    json_t *shape = json_object_get(f->peer, "shape"), *value;
    const char *name;
    char text[64];
    f->random.seed = (uint32_t)peer_integer(f->peer, "seed");
    f->layers = peer_integer(shape, "layers");
    f->context = peer_integer(shape, "context");
    f->vocab = peer_integer(shape, "vocabulary");
    assert_in_range(f->context, 1, CONTEXT_MAX);
    assert_in_range(f->vocab, 1, VOCAB_MAX);
    for (int k = 0; f->about->settings[k]; k++)
        OK(f->ctx, mezzo_config_set(f->config, f->about->settings[k], "test"));
    json_object_foreach(shape, name, value) {
        bool list = strcmp(name, "channels") == 0;
        snprintf(text, sizeof text, list ? "model.%s=[%d]" : "model.%s=%d",
                 strcmp(name, "vocabulary") == 0 ? "vocab" : name, (int)json_integer_value(value));
        OK(f->ctx, mezzo_config_set(f->config, text, "test"));
    }
    int64_t channels = peer_integer(shape, "channels"), inner = peer_integer(shape, "mlp_channels");
    f->widest = inner ? (inner > channels ? inner : channels) : 4 * channels;
    for (int64_t i = 0; i <= f->context; i++)
        f->tokens[i] = (int32_t)json_integer_value(
            json_array_get(json_object_get(f->peer, "tokens"), (size_t)i));
}

static int setup(const hf_peer *about, void **state) {
    static fixture f;
    f.about = about;
    const char *root = getenv("MEZZO_SOURCE_DIR");
    char path[1024];
    json_error_t error;
    assert_non_null(root);
    snprintf(path, sizeof path, "%s/tests/parity/%s.json", root, about->figures);
    f.peer = json_load_file(path, 0, &error);
    if (!f.peer)
        fail_msg("%s: %s", path, error.text);
    assert_int_equal(mezzo_ctx_create(&f.ctx, &(mezzo_ctx_config){.threads = 2}, NULL), MEZZO_OK);
    OK(f.ctx, mezzo_runner_create(&f.runner, f.ctx));
    OK(f.ctx, mezzo_models_register(f.runner));
    OK(f.ctx, mezzo_config_create(&f.config, f.ctx));
    configure(&f);
    tempdir_make(f.folder);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    tempdir_remove(f->folder);
    mezzo_config_destroy(f->config);
    mezzo_runner_destroy(f->runner);
    mezzo_ctx_destroy(f->ctx);
    json_decref(f->peer);
    return 0;
}

#define HF_PEER_TESTS                                                                              \
    cmocka_unit_test(test_logits_f64), cmocka_unit_test(test_logits_f32),                          \
        cmocka_unit_test(test_loss), cmocka_unit_test(test_export_and_import)

#endif
