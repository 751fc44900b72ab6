/* The kind llama: its tensors, the keys that it reads, and equal bits for any number of workers. */
#include "mezzo/models.h"
#include "mezzo/safetensors.h"
#include "run/runner.h"
#include "train/model.h"
#include "train/small_gpt.h"
#include "unit/failing_alloc.h"
#include "unit/tempdir.h"

#define MODEL "kind: llama, layers: 2, channels: [48], heads: 6, context: 24, vocab: 70"

typedef struct fixture {
    mezzo_ctx *ctx;
    mezzo_runner *runner;
    mezzo_config *config;
} fixture;

static fixture make(const char *more, int threads) {
    fixture f = {.ctx = NULL};
    char text[256];
    assert_int_equal(mezzo_ctx_create(&f.ctx, &(mezzo_ctx_config){.threads = threads}, NULL),
                     MEZZO_OK);
    GPT_OK(f.ctx, mezzo_runner_create(&f.runner, f.ctx));
    GPT_OK(f.ctx, mezzo_models_register(f.runner));
    GPT_OK(f.ctx, mezzo_config_create(&f.config, f.ctx));
    snprintf(text, sizeof text, "model={" MODEL "%s}", more);
    GPT_OK(f.ctx, mezzo_config_set(f.config, text, "test"));
    return f;
}

static void unmake(fixture *f) {
    mezzo_config_destroy(f->config);
    mezzo_runner_destroy(f->runner);
    mezzo_ctx_destroy(f->ctx);
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const fixture *f = user;
    const mezzo_model_kind *kind;
    const mezzo_data_shape shape = {.batch = GPT_SAMPLES, .context = GPT_T, .classes = GPT_V};
    GPT_OK(f->ctx, mzi_runner_kind(f->runner, f->config, &kind));
    return kind->build(graph, f->config, &shape);
}

static mezzo_model *make_model(fixture *f, mezzo_dtype compute) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {
        .build = build, .user = f, .precision.compute = compute, .seed = 3};
    GPT_OK(f->ctx, mezzo_model_create(&model, f->ctx, &config, MEZZO_ENTRY_TRAIN));
    return model;
}

static int64_t rows_of(const mezzo_model *model, const char *name) {
    int s = mezzo_model_state_find(model, name);
    return s < 0 ? -1 : mezzo_model_state_at(model, s).shape.dim[0];
}

static void check_sizes(const char *more, int64_t qkv, int64_t gate_up, int64_t head, int count) {
    fixture f = make(more, 1);
    mezzo_model *model = make_model(&f, MEZZO_F32);
    assert_int_equal(rows_of(model, "layers.1.self_attn.qkv_proj.weight"), qkv);
    assert_int_equal(rows_of(model, "layers.1.mlp.gate_up_proj.weight"), gate_up);
    assert_int_equal(rows_of(model, "lm_head.weight"), head);
    assert_int_equal(rows_of(model, "embed_tokens.weight"), GPT_V);
    assert_int_equal(mezzo_model_state_count(model), count);
    mezzo_model_destroy(model);
    unmake(&f);
}

static void test_sizes(void **state) {
    (void)state;
    check_sizes("", 3 * 48, 2 * 128, -1, 2 * 6 + 2); /* 8/3 of 48 is 128 */
    check_sizes(", kv_heads: 2", (6 + 4) * 8, 2 * 128, -1, 2 * 6 + 2);
    check_sizes(", kv_heads: 1, mlp_channels: 33", (6 + 2) * 8, 66, -1, 2 * 6 + 2);
    check_sizes(", tied: false", 3 * 48, 2 * 128, GPT_V, 2 * 6 + 3);
}

typedef struct trace {
    double loss[4];
    char hash[65];
} trace;

static trace train(const char *more, mezzo_dtype compute, int threads) {
    static gpt_batch batch;
    trace out;
    memset(&out, 0, sizeof out);
    fixture f = make(more, threads);
    mezzo_model *model = make_model(&f, compute);
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = {.optimizer = mezzo_optimizer_default("adamw"), .clip = 1.0f};
    config.optimizer.lr = 3e-3f;
    GPT_OK(f.ctx, mezzo_trainer_create(&trainer, model, &config));
    for (int s = 0; s < 4; s++) {
        gpt_fill(&batch, s, 0);
        mezzo_step_result r = gpt_step(f.ctx, trainer, &batch);
        assert_false(r.skipped);
        out.loss[s] = r.loss;
    }
    GPT_OK(f.ctx, mezzo_trainer_state_hash(trainer, out.hash));
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    unmake(&f);
    return out;
}

static void check_workers(mezzo_dtype compute) {
    trace first = train(", kv_heads: 2", compute, 1);
    for (int threads = 1; threads <= 3; threads++) {
        trace other = train(", kv_heads: 2", compute, threads);
        assert_memory_equal(first.loss, other.loss, sizeof first.loss);
        assert_string_equal(first.hash, other.hash);
    }
    assert_true(first.loss[3] < first.loss[0]);
}

static void test_workers(void **state) {
    (void)state;
    check_workers(MEZZO_F32);
    check_workers(MEZZO_BF16);
}

/* Every key has a say in the first loss. */
static void test_keys(void **state) {
    static const char *const keys[] = {", kv_heads: 3", ", mlp_channels: 64", ", tied: false",
                                       ", norm_eps: 1e-2", ", rope_theta: 20"};
    (void)state;
    trace first = train("", MEZZO_F32, 1);
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        trace other = train(keys[k], MEZZO_F32, 1);
        assert_true(first.loss[0] != other.loss[0]);
    }
}

/* No precision and no override narrows the table of angles; what it turns follows them. */
static void test_angles_are_not_narrowed(void **state) {
    (void)state;
    static const mezzo_override all = {.match = "*", .compute = MEZZO_BF16};
    fixture f = make("", 1);
    const mezzo_model_config config = {
        .build = build,
        .user = &f,
        .precision = {.compute = MEZZO_F16, .overrides = &all, .override_count = 1}};
    mezzo_model *model = NULL;
    GPT_OK(f.ctx, mezzo_model_create(&model, f.ctx, &config, MEZZO_ENTRY_TRAIN));
    GPT_OK(f.ctx, mzi_model_ensure(model, MEZZO_ENTRY_TRAIN));
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    int tables = 0, turns = 0;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        if (strcmp(node->op->name, "rope_table") == 0) {
            assert_int_equal(graph->values[node->out[0]].tensor.dtype, MEZZO_F32);
            tables++;
        }
        if (strcmp(node->op->name, "rope") == 0 || strcmp(node->op->name, "rope_bwd") == 0) {
            assert_int_equal(graph->values[node->out[0]].tensor.dtype, MEZZO_BF16);
            assert_int_equal(graph->values[node->in[1]].tensor.dtype, MEZZO_F32);
            turns++;
        }
    }
    assert_int_equal(tables, 1);
    assert_int_equal(turns, 2 * 2); /* forward and backward of two blocks */
    mezzo_model_destroy(model);
    unmake(&f);
}

/* Import and export when memory runs out, with tensors that are cut. */
static char sweep_out[512], sweep_run[512], sweep_masters[512];

static mezzo_runner *runner_of(mezzo_ctx *with) {
    mezzo_runner *runner = NULL;
    if (mezzo_runner_create(&runner, with) != MEZZO_OK)
        return NULL;
    if (mezzo_models_register(runner) == MEZZO_OK)
        return runner;
    mezzo_runner_destroy(runner);
    return NULL;
}

static mezzo_status export_once(mezzo_ctx *with) {
    mezzo_config *config = NULL;
    mezzo_runner *runner = runner_of(with);
    mezzo_status status = runner ? mezzo_config_create(&config, with) : MEZZO_OUT_OF_MEMORY;
    if (status == MEZZO_OK)
        status = mezzo_config_set(config, "model={" MODEL "}", "test");
    if (status == MEZZO_OK)
        status = mezzo_run_export(runner, config, sweep_masters, sweep_out, MEZZO_F32);
    mezzo_config_destroy(config);
    mezzo_runner_destroy(runner);
    return status;
}

static mezzo_status export_and_remove(mezzo_ctx *with) {
    mezzo_status status = export_once(with);
    if (access(sweep_out, F_OK) == 0)
        tempdir_remove(sweep_out);
    return status;
}

static mezzo_status import_and_remove(mezzo_ctx *with) {
    mezzo_runner *runner = runner_of(with);
    mezzo_status status =
        runner ? mezzo_run_import(runner, sweep_out, sweep_run) : MEZZO_OUT_OF_MEMORY;
    mezzo_runner_destroy(runner);
    if (access(sweep_run, F_OK) == 0)
        tempdir_remove(sweep_run);
    return status;
}

static void save(const char *path) {
    static float data[1 << 17];
    mezzo_safetensors_item items[32];
    int64_t used = 0;
    fixture f = make("", 1);
    mezzo_model *model = make_model(&f, MEZZO_F32);
    int count = mezzo_model_state_count(model);
    assert_true(count <= 32);
    for (int s = 0; s < count; s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        int64_t n = mezzo_shape_count(info.shape);
        assert_true(used + n <= 1 << 17);
        GPT_OK(f.ctx, mezzo_model_read(model, s, data + used, n));
        items[s] = (mezzo_safetensors_item){info.name, MEZZO_F32, info.shape, data + used};
        used += n;
    }
    GPT_OK(f.ctx, mezzo_safetensors_write(f.ctx, path, items, count, NULL, 0));
    mezzo_model_destroy(model);
    unmake(&f);
}

static void test_memory_runs_out(void **state) {
    char folder[256];
    (void)state;
    tempdir_make(folder);
    snprintf(sweep_out, sizeof sweep_out, "%s/out", folder);
    snprintf(sweep_run, sizeof sweep_run, "%s/run", folder);
    snprintf(sweep_masters, sizeof sweep_masters, "%s/masters.safetensors", folder);
    save(sweep_masters);
    assert_true(failing_alloc_sweep(export_and_remove) > 20);
    fixture f = make("", 1);
    GPT_OK(f.ctx, export_once(f.ctx));
    unmake(&f);
    assert_true(failing_alloc_sweep(import_and_remove) > 20);
    tempdir_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_angles_are_not_narrowed),
        cmocka_unit_test(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
