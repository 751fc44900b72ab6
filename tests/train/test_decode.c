/* Decoding: T calls with a cache give what one evaluation over the T tokens gives.
 *
 *   x [B,T,N] -> linear `qkv` -> rope `turned` -> attention `att` -> linear `out`
 *
 * The two differ by the order of FP32 sums in the linears, and in attention, and by what that does
 * to roundings to the storage type.  With u of the arithmetic and U of the storage type, and each
 * side at most half of it from the exact value:
 *
 *   d_qkv = 2 gamma_(N+2)(u) sum |w||x| + 2 U |qkv|
 *   d_turned = |c| d_qkv + |s| d_qkv' + 2 gamma_2(u) (|c||qkv| + |s||qkv'|) + 2 U |turned|, where '
 *           is the other of a pair; of the values d_qkv.  The table's rows are the same bits.
 *   ds    = scale sum (|q| d_k + |k| d_q + d_q d_k), the largest over the keys
 *   d_att = max |v| (exp(2 ds) - 1) + exp(2 ds) max d_v + 2 (bound of attention) + 2 U |att|
 *   d_out = sum |w| d_att + 2 gamma(u) sum |w||att| + 2 U |out|
 *
 * where exp(2 ds) bounds what weights, and their sum, change by. */
#include "run/runner.h"
#include "train/model.h"
#include "train/small_net.h"
#include "unit/tempdir.h"

#include "checkpoint/weights.h"
#include "kernel/attention_bound.h"
#include "mezzo/safetensors.h"

enum {
    B = 2,
    T = 37,
    N = 24, /* of x and of out */
    H = 6,
    G = 2,
    D = 10,
    E = (H + 2 * G) * D,
    CONTEXT = 40,
    HIDDEN = H * D
};

static const double THETA = 50;

typedef struct decoder {
    int64_t tokens; /* of a decode call */
    int64_t heads, kv_heads, context;
} decoder;

static const decoder usual = {1, H, G, CONTEXT};

static mezzo_value tokens_linear(mezzo_graph *graph, const char *name, mezzo_value x, int64_t n) {
    mezzo_shape s = mezzo_value_shape(graph, x);
    mezzo_value rows = mezzo_reshape(graph, x, mezzo_shape2(s.dim[0] * s.dim[1], s.dim[2]));
    rows = mezzo_linear(graph, name, rows, n, true);
    return mezzo_reshape(graph, rows, mezzo_shape3(s.dim[0], s.dim[1], n));
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const decoder *shape = user;
    bool decodes = mezzo_graph_entry(graph) == MEZZO_ENTRY_DECODE;
    mezzo_value x =
        mezzo_input(graph, "x", MEZZO_F32, mezzo_shape3(B, decodes ? shape->tokens : T, N));
    x = tokens_linear(graph, "qkv", x, E);
    mezzo_output(graph, "qkv", x);
    if (shape->tokens == 1) /* more are for attention to refuse */
        x = mezzo_rope(graph, "rope", x,
                       mezzo_rope_table(graph, "table", decodes ? CONTEXT : T, D, THETA), H + G);
    mezzo_output(graph, "turned", x);
    x = mezzo_attention(graph, "att", x,
                        (mezzo_attention_config){shape->heads, shape->kv_heads, shape->context});
    mezzo_output(graph, "att", x);
    x = tokens_linear(graph, "out", x, N);
    mezzo_output(graph, "out", x);
    mezzo_loss(graph, mezzo_mean(graph, mezzo_mul(graph, x, x)));
    return MEZZO_OK;
}

static mezzo_model *make_model(mezzo_ctx *ctx, const decoder *shape, const char *device,
                               mezzo_dtype compute) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {.build = build,
                                       .user = (void *)(uintptr_t)shape,
                                       .device = device,
                                       .precision.compute = compute,
                                       .seed = 5};
    NET_OK(ctx, mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_EVAL));
    return model;
}

/* x of tokens [first, first + count) of each sequence, as the model takes it. */
static size_t fill(void *x, bool f64, int64_t first, int64_t count) {
    for (int64_t i = 0; i < B * count * N; i++) {
        int64_t b = i / (count * N), at = (b * T + first) * N + i % (count * N);
        float value = 2.0f * net_random(3, (uint64_t)at);
        if (f64)
            ((double *)x)[i] = (double)value;
        else
            ((float *)x)[i] = value;
    }
    return (size_t)(B * count * N) * (f64 ? sizeof(double) : sizeof(float));
}

/* An output in FP64, whatever it is stored as; its type. */
static mezzo_dtype read_output(mezzo_model *model, mezzo_entry entry, const char *name, double *out,
                               int64_t count) {
    static unsigned char raw[B * T * E * sizeof(double)];
    const mezzo_graph *graph = model->entries[entry].plan->graph;
    for (int32_t k = 0; k < graph->output_count; k++) {
        int32_t v = graph->outputs[k].value;
        mezzo_dtype dtype = graph->values[v].tensor.dtype;
        if (strcmp(graph->outputs[k].name, name) != 0)
            continue;
        assert_int_equal(mezzo_shape_count(graph->values[v].tensor.shape), count);
        NET_OK(model->ctx, mzi_model_download(model, entry, v, raw,
                                              (uint64_t)count * mezzo_dtype_bytes(dtype)));
        for (int64_t i = 0; i < count; i++)
            out[i] = mzi_load(raw, dtype, i);
        return dtype;
    }
    fail_msg("no output %s", name);
    return MEZZO_F32;
}

static void read_state(mezzo_model *model, const char *name, double *out) {
    static double raw[E * HIDDEN];
    const mzi_state *state = &model->states[mzi_model_find(model, name)];
    assert_true(state->buffer.bytes <= sizeof raw);
    NET_OK(model->ctx,
           model->backend->download(model->backend, &state->buffer, 0, raw, state->buffer.bytes));
    for (int64_t i = 0; i < mezzo_shape_count(state->shape); i++)
        out[i] = fabs(mzi_load(raw, state->dtype, i));
}

static void decode(mezzo_model *model, bool f64, int64_t token, int32_t position) {
    static double x[B * N];
    const mezzo_binding inputs[] = {{"x", x, fill(x, f64, token, 1)},
                                    {"position", &position, sizeof position}};
    NET_OK(model->ctx, mezzo_model_decode(model, inputs, 2));
}

static void evaluate(mezzo_model *model, bool f64) {
    static double x[B * T * N];
    const mezzo_binding input = {"x", x, fill(x, f64, 0, T)};
    NET_OK(model->ctx, mezzo_model_evaluate(model, &input, 1));
}

/* sums[r][o] = sum over k of weight[o][k] x[r][k], of magnitudes. */
static void magnitudes(const double *weight, const double *bias, const double *x, int64_t rows,
                       int64_t K, int64_t n, double *sums) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < n; o++) {
            sums[r * n + o] = bias ? bias[o] : 0;
            for (int64_t k = 0; k < K; k++)
                sums[r * n + o] += weight[o * K + k] * fabs(x[r * K + k]);
        }
}

/* What one head's y may change by; see the top.  `scaled` is u in units of 2^-24: an error bound
 * is convex in u, and 0 there. */
static void attention_change(const double *qkv, const double *d, const double *y, int64_t b,
                             int64_t h, double scaled, double U, double *out) {
    const attention_shape s = {
        T, H, G, D, (double)(float)(1 / sqrt((double)D)), U == mzi_unit_roundoff(MEZZO_BF16)};
    attention_place at = attention_places(&s, b, h);
    static double in_y[B * T * HIDDEN], in_lse[B * H * T];
    attention_bound(&s, qkv, b, h, in_y, in_lse);
    for (int64_t i = 0; i < T; i++) {
        double ds = 0;
        for (int64_t j = 0; j <= i; j++) {
            double change = 0;
            for (int64_t e = 0; e < D; e++) {
                int64_t q = at.q + i * at.E + e, k = at.k + j * at.E + e;
                change += fabs(qkv[q]) * d[k] + fabs(qkv[k]) * d[q] + d[q] * d[k];
            }
            ds = fmax(ds, s.scale * change);
        }
        for (int64_t e = 0; e < D; e++) {
            double reach = 0, in_v = 0;
            int64_t o = at.y + i * at.O + e;
            for (int64_t j = 0; j <= i; j++) {
                reach = fmax(reach, fabs(qkv[at.v + j * at.E + e]));
                in_v = fmax(in_v, d[at.v + j * at.E + e]);
            }
            out[o] = reach * expm1(2 * ds) + exp(2 * ds) * in_v + 2.1 * scaled * in_y[o];
            out[o] += 2 * U * (fabs(y[o]) + out[o]);
        }
    }
}

/* d of what rope gives from d of what it takes; see the top. */
static void turned_change(const double *qkv, double *d, double u) {
    for (int64_t row = 0; row < B * T; row++)
        for (int64_t k = 0; k < (H + G) * D / 2; k++) {
            int64_t a = row * E + k / (D / 2) * D + k % (D / 2), b = a + D / 2;
            double angle = (double)(row % T) * pow(THETA, -2.0 * (double)(k % (D / 2)) / D);
            double c = fabs(cos(angle)) + 0x1p-24, s = fabs(sin(angle)) + 0x1p-24, was = d[a];
            double size[2] = {c * (fabs(qkv[a]) + d[a]) + s * (fabs(qkv[b]) + d[b]),
                              c * (fabs(qkv[b]) + d[b]) + s * (fabs(qkv[a]) + d[a])};
            d[a] = c * d[a] + s * d[b] + 2 * mzi_gamma(2, u) * size[0];
            d[b] = c * d[b] + s * was + 2 * mzi_gamma(2, u) * size[1];
        }
}

/* The bound of |decoded - evaluated| for every element of out, from what evaluation gave. */
static void bound(mezzo_model *model, double u, double *out) {
    static double qkv[B * T * E], d_qkv[B * T * E], att[B * T * HIDDEN], d_att[B * T * HIDDEN];
    static double weight[E * HIDDEN], bias[E], y[B * T * N], x[B * T * N], through[B * T * N];
    mezzo_dtype type = read_output(model, MEZZO_ENTRY_EVAL, "qkv", qkv, B * T * E);
    double U = mzi_unit_roundoff(type);
    fill(x, true, 0, T);
    read_state(model, "qkv.weight", weight);
    read_state(model, "qkv.bias", bias);
    magnitudes(weight, bias, x, B * T, N, E, d_qkv);
    for (int64_t i = 0; i < B * T * E; i++) /* (1 + U)^2: x and w are rounded before */
        d_qkv[i] = 2 * mzi_gamma(N + 2, u) * d_qkv[i] * (1 + U) * (1 + U) + 2.1 * U * fabs(qkv[i]);
    turned_change(qkv, d_qkv, u);
    read_output(model, MEZZO_ENTRY_EVAL, "turned", qkv, B * T * E);
    for (int64_t i = 0; i < B * T * E; i++)
        d_qkv[i] += i % E < (H + G) * D ? 2 * U * (fabs(qkv[i]) + d_qkv[i]) : 0;
    read_output(model, MEZZO_ENTRY_EVAL, "att", att, B * T * HIDDEN);
    for (int64_t row = 0; row < B * H; row++)
        attention_change(qkv, d_qkv, att, row / H, row % H, u / 0x1p-24, U, d_att);
    read_output(model, MEZZO_ENTRY_EVAL, "out", y, B * T * N);
    read_state(model, "out.weight", weight);
    read_state(model, "out.bias", bias);
    magnitudes(weight, NULL, d_att, B * T, HIDDEN, N, through);
    magnitudes(weight, bias, att, B * T, HIDDEN, N, out);
    for (int64_t i = 0; i < B * T * N; i++) {
        out[i] = (1 + U) * (through[i] + 2 * mzi_gamma(HIDDEN + 2, u) * (out[i] + through[i]));
        out[i] += 2 * U * (fabs(y[i]) + out[i]);
    }
}

/* Elements of out beyond the bound when token t is decoded at position t, or all at position 0. */
static int64_t compare(const char *device, mezzo_dtype compute, bool keep_position) {
    static double want[B * T * N], allowed[B * T * N], got[B * N];
    bool f64 = compute == MEZZO_F64;
    mezzo_ctx *ctx = net_ctx(2);
    mezzo_model *model = make_model(ctx, &usual, device, compute);
    int64_t wrong = 0;
    double worst = 0, largest = 0;
    evaluate(model, f64);
    read_output(model, MEZZO_ENTRY_EVAL, "out", want, B * T * N);
    bound(model, f64 ? 0x1p-53 : 0x1p-24, allowed);
    for (int64_t t = 0; t < T; t++) {
        decode(model, f64, t, keep_position ? 0 : (int32_t)t);
        read_output(model, MEZZO_ENTRY_DECODE, "out", got, B * N);
        for (int64_t k = 0; k < B * N; k++) {
            int64_t i = (k / N * T + t) * N + k % N;
            wrong += !(fabs(got[k] - want[i]) <= allowed[i]);
            worst = fmax(worst, fabs(got[k] - want[i]) / allowed[i]);
            largest = fmax(largest, fabs(want[i]));
        }
    }
    if (!keep_position && wrong)
        print_error("%s %s: %lld wrong, up to %g of the bound\n", device, mezzo_dtype_name(compute),
                    (long long)wrong, worst);
    assert_true(largest > 0.1);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    return wrong;
}

static void test_calls_give_what_one_run_gives(void **state) {
    (void)state;
    assert_int_equal(compare("ref", MEZZO_F64, false), 0);
    assert_int_equal(compare("ref", MEZZO_F32, false), 0);
    assert_int_equal(compare("cpu", MEZZO_F32, false), 0);
    assert_int_equal(compare("cpu", MEZZO_BF16, false), 0);
    assert_int_equal(compare("cpu", MEZZO_F16, false), 0);
}

/* The bounds are narrow enough to see a token that attends to itself alone. */
static void test_a_cache_that_is_not_read_is_seen(void **state) {
    (void)state;
    assert_true(compare("ref", MEZZO_F64, true) > B * (T - 1) * N * 9 / 10);
    assert_true(compare("cpu", MEZZO_F32, true) > B * (T - 1) * N * 9 / 10);
    assert_true(compare("cpu", MEZZO_BF16, true) > B * N);
}

/* Another sequence in the same caches, from position 0: the same bits as in new ones.  After the
 * first call nothing is allocated. */
static void test_sequences_and_memory(void **state) {
    static double first[T][B * N], again[B * N];
    (void)state;
    mezzo_ctx *ctx = net_ctx(2);
    mezzo_model *model = make_model(ctx, &usual, "cpu", MEZZO_BF16);
    decode(model, false, 0, 0);
    mezzo_memory_use before = mezzo_ctx_memory(ctx);
    for (int32_t round = 0; round < 2; round++)
        for (int32_t t = 0; t < T; t++) {
            decode(model, false, t, t);
            read_output(model, MEZZO_ENTRY_DECODE, "out", round ? again : first[t], B * N);
            if (round)
                assert_memory_equal(first[t], again, sizeof again);
        }
    mezzo_memory_use after = mezzo_ctx_memory(ctx);
    assert_int_equal(after.alloc_count, before.alloc_count);
    assert_int_equal(after.bytes_used, before.bytes_used);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* Train some steps, with `threads` workers; decode in between if asked. */
static void train(int threads, bool decodes, char hash[65], const char *folder) {
    mezzo_ctx *ctx = net_ctx(threads);
    mezzo_model *model = make_model(ctx, &usual, "cpu", MEZZO_BF16);
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    static float x[B * T * N];
    const mezzo_binding input = {"x", x, fill(x, false, 0, T)};
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    for (int s = 0; s < 3; s++) {
        mezzo_step_result r;
        NET_OK(ctx, mezzo_trainer_step(trainer, &input, 1, &r));
        assert_false(r.skipped);
        if (decodes)
            decode(model, false, s, s);
    }
    NET_OK(ctx, mezzo_trainer_state_hash(trainer, hash));
    int caches = 0;
    for (int k = 0; k < mezzo_model_state_count(model); k++)
        caches += mezzo_model_state_at(model, k).kind == MEZZO_STATE_CACHE;
    assert_int_equal(caches, decodes ? 2 : 0);
    if (folder) {
        mezzo_config *defaults = NULL;
        NET_OK(ctx, mezzo_config_create(&defaults, ctx));
        mzi_experiment e = {.ctx = ctx, .config = defaults, .model = model, .trainer = trainer};
        NET_OK(ctx, mzi_experiment_save(&e, folder, "hash"));
        mezzo_config_destroy(defaults);
    }
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

static void test_state_hash_ignores_caches_and_workers(void **state) {
    char plain[65], with[65], alone[65];
    (void)state;
    train(3, false, plain, NULL);
    train(3, true, with, NULL);
    train(1, false, alone, NULL);
    assert_string_equal(plain, with);
    assert_string_equal(plain, alone);
}

static void test_saves_have_no_caches(void **state) {
    char folder[256], path[512], hash[65];
    (void)state;
    tempdir_make(folder);
    snprintf(path, sizeof path, "%s/save", folder);
    train(1, true, hash, path);
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/save/%s", folder, MZI_MASTERS_FILE);
    NET_OK(ctx, mezzo_safetensors_open(&file, ctx, path));
    assert_int_equal(mezzo_safetensors_count(file), 3 * 4); /* masters, two moments each */
    assert_true(mezzo_safetensors_find(file, "qkv.weight") >= 0);
    assert_int_equal(mezzo_safetensors_find(file, "att.k_cache"), -1);
    assert_int_equal(mezzo_safetensors_find(file, "att.v_cache"), -1);
    mezzo_safetensors_close(file);
    mezzo_ctx_destroy(ctx);
    tempdir_remove(folder);
}

static void check_refused(const decoder *shape, const char *part) {
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = NULL;
    const mezzo_model_config config = {.build = build, .user = (void *)(uintptr_t)shape};
    assert_int_equal(mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_DECODE),
                     MEZZO_INVALID_ARGUMENT);
    if (!strstr(mezzo_ctx_error(ctx)->text, part))
        fail_msg("\"%s\" is not in: %s", part, mezzo_ctx_error(ctx)->text);
    mezzo_ctx_destroy(ctx);
}

static void test_shapes_that_are_refused(void **state) {
    (void)state;
    check_refused(&(decoder){2, H, G, CONTEXT}, "2 tokens");
    check_refused(&(decoder){1, H, G, 0}, "context 0");
    check_refused(&(decoder){1, H, 4, CONTEXT}, "6 heads for 4");
    check_refused(&(decoder){1, 7, 7, CONTEXT}, "100 elements");
}

static void test_positions_that_are_refused(void **state) {
    static float x[B * N];
    (void)state;
    mezzo_ctx *ctx = net_ctx(1);
    mezzo_model *model = make_model(ctx, &usual, "cpu", MEZZO_F32);
    for (int32_t position = -1; position <= CONTEXT; position++) {
        const mezzo_binding inputs[] = {{"x", x, sizeof x},
                                        {"position", &position, sizeof position}};
        bool fits = position >= 0 && position < CONTEXT;
        assert_int_equal(mezzo_model_decode(model, inputs, 2), fits ? MEZZO_OK : MEZZO_DATA);
    }
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "0..39"));
    const mezzo_binding only_x = {"x", x, sizeof x};
    assert_int_equal(mezzo_model_decode(model, &only_x, 1), MEZZO_INVALID_ARGUMENT);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* Decode between steps from masters of a form: the outputs, and the form of the first weight. */
static mezzo_master decode_from(mezzo_master form, double out[4][B * N]) {
    static float x[B * T * N];
    mezzo_ctx *ctx = net_ctx(2);
    mezzo_model *model = NULL;
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    const mezzo_binding input = {"x", x, fill(x, false, 0, T)};
    const mezzo_model_config about = {.build = build,
                                      .user = (void *)(uintptr_t)&usual,
                                      .precision = {.compute = MEZZO_BF16, .master = form},
                                      .seed = 5};
    NET_OK(ctx, mezzo_model_create(&model, ctx, &about, MEZZO_ENTRY_DECODE));
    decode(model, false, 0, 0); /* planned before the trainer is there */
    read_output(model, MEZZO_ENTRY_DECODE, "out", out[0], B * N);
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    for (int s = 0; s < 3; s++) {
        mezzo_step_result r;
        NET_OK(ctx, mezzo_trainer_step(trainer, &input, 1, &r));
        decode(model, false, s + 1, s + 1);
        read_output(model, MEZZO_ENTRY_DECODE, "out", out[s + 1], B * N);
    }
    mezzo_master found =
        mezzo_model_state_at(model, mezzo_model_state_find(model, "qkv.weight")).master;
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    return found;
}

static void test_decoding_from_split_masters(void **state) {
    (void)state;
    static double plain[4][B * N], split[4][B * N];
    assert_int_equal(decode_from(MEZZO_MASTER_F32, plain), MEZZO_MASTER_F32);
    assert_int_equal(decode_from(MEZZO_MASTER_SPLIT, split), MEZZO_MASTER_SPLIT);
    assert_memory_equal(plain, split, sizeof plain);
    assert_memory_not_equal(plain[1], plain[2], sizeof plain[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_give_what_one_run_gives),
        cmocka_unit_test(test_a_cache_that_is_not_read_is_seen),
        cmocka_unit_test(test_sequences_and_memory),
        cmocka_unit_test(test_state_hash_ignores_caches_and_workers),
        cmocka_unit_test(test_saves_have_no_caches),
        cmocka_unit_test(test_decoding_from_split_masters),
        cmocka_unit_test(test_shapes_that_are_refused),
        cmocka_unit_test(test_positions_that_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
