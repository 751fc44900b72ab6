/* Masters and moments in other forms than FP32. */
#include <math.h>

#include "train/small_gpt.h"
#include "train/small_net.h"

static const char *const optimizers[] = {"adamw", "lion", "muon", "sgd"};
enum {
    OPTIMIZERS = sizeof optimizers / sizeof *optimizers
};

/* A model with its trainer. */
typedef struct run {
    mezzo_ctx *ctx;
    mezzo_model *model;
    mezzo_trainer *trainer;
    net net;
    gpt gpt;
    bool is_gpt;
} run;

/* What is varied. */
typedef struct variant {
    const char *optimizer, *device;
    mezzo_master master;
    bool nearest, low_moments, is_gpt, no_dropout, no_average;
    mezzo_dtype compute; /* NONE: BF16 */
    mezzo_dtype gradients;
    int threads;   /* 0: 2 */
    uint64_t seed; /* 0: 3 */
    int accumulate;
    float lr; /* 0: 2^-8 */
} variant;

static mezzo_precision precision_of(const variant *v) {
    return (mezzo_precision){.compute = v->compute ? v->compute : MEZZO_BF16,
                             .master = v->master,
                             .gradients = v->gradients,
                             .master_nearest = v->nearest};
}

static void make_model(run *r, const variant *v, mezzo_entry entry) {
    const mezzo_model_config config = {.build = v->is_gpt ? gpt_build : net_build,
                                       .user = v->is_gpt ? (void *)&r->gpt : (void *)&r->net,
                                       .device = v->device,
                                       .precision = precision_of(v),
                                       .seed = v->seed ? v->seed : 3};
    r->is_gpt = v->is_gpt;
    r->ctx = net_ctx(v->threads ? v->threads : 2);
    r->gpt = (gpt){.batch = GPT_SAMPLES / (v->accumulate ? v->accumulate : 1), .dropout = 0.1f};
    r->net = (net){.batch = NET_BATCH / (v->accumulate ? v->accumulate : 1),
                   .dropout = v->no_dropout ? 0.0f : 0.1f};
    NET_OK(r->ctx, mezzo_model_create(&r->model, r->ctx, &config, entry));
}

static void make_trainer(run *r, const variant *v) {
    mezzo_trainer_config config = {
        .optimizer = mezzo_optimizer_default(v->optimizer ? v->optimizer : "adamw")};
    config.optimizer.lr = v->lr > 0.0f ? v->lr : 0x1p-8f;
    config.optimizer.state = v->low_moments ? MEZZO_BF16 : MEZZO_F32;
    config.accumulate = v->accumulate;
    config.clip = 1.0f;
    config.ema = v->no_average ? 0.0f : 0.9f; /* which reads masters in their form */
    NET_OK(r->ctx, mezzo_trainer_create(&r->trainer, r->model, &config));
}

static void make(run *r, const variant *v) {
    *r = (run){0};
    make_model(r, v, MEZZO_ENTRY_TRAIN);
    make_trainer(r, v);
}

static void end(run *r) {
    mezzo_trainer_destroy(r->trainer);
    mezzo_model_destroy(r->model);
    mezzo_ctx_destroy(r->ctx);
}

static mezzo_step_result step(run *r, int number) {
    static gpt_batch tokens;
    static net_batch images;
    if (r->is_gpt) {
        gpt_fill(&tokens, number, 0);
        return gpt_step(r->ctx, r->trainer, &tokens);
    }
    net_fill(&images, number);
    return net_step(r->ctx, r->trainer, &images);
}

static void hash(run *r, char hex[65]) {
    NET_OK(r->ctx, mezzo_trainer_state_hash(r->trainer, hex));
}

static int count_of(const run *r, mezzo_master form, mezzo_state_kind kind) {
    int count = 0;
    for (int s = 0; s < mezzo_model_state_count(r->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(r->model, s);
        count += info.kind == kind && info.master == form;
    }
    return count;
}

/* Runs of two variants: equal losses and norms in each step, equal states at the end. */
static void runs_agree(const variant *a, const variant *b, int steps) {
    char hash_a[65], hash_b[65];
    run first, second;
    make(&first, a);
    make(&second, b);
    for (int s = 0; s < steps; s++) {
        mezzo_step_result x = step(&first, s), y = step(&second, s);
        assert_false(x.skipped || y.skipped);
        if (x.loss != y.loss || x.grad_norm != y.grad_norm)
            fail_msg("%s, step %d: loss %a and %a", a->optimizer, s, x.loss, y.loss);
    }
    hash(&first, hash_a);
    hash(&second, hash_b);
    assert_string_equal(hash_a, hash_b);
    end(&first);
    end(&second);
}

/* Split masters are those of FP32, whatever trains them, and whatever the moments are. */
static void test_split_is_f32(void **state) {
    (void)state;
    for (int o = 0; o < OPTIMIZERS; o++)
        for (int k = 0; k < 4; k++) {
            variant plain = {.optimizer = optimizers[o], .is_gpt = k & 1, .low_moments = k & 2};
            variant split = plain;
            split.master = MEZZO_MASTER_SPLIT;
            runs_agree(&plain, &split, 20);
            plain.gradients = split.gradients = MEZZO_BF16;
            runs_agree(&plain, &split, 20);
        }
    variant plain = {.optimizer = "adamw", .is_gpt = true, .accumulate = 4}, split = plain;
    split.master = MEZZO_MASTER_SPLIT;
    runs_agree(&plain, &split, 5);
    variant ref = {.optimizer = "adamw", .device = "ref"}, ref_split = ref;
    ref_split.master = MEZZO_MASTER_SPLIT;
    runs_agree(&ref, &ref_split, 2);
}

static void test_split_is_f32_over_500_steps(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        variant plain = {.optimizer = "adamw", .is_gpt = k}, split = plain;
        split.master = MEZZO_MASTER_SPLIT;
        runs_agree(&plain, &split, 500);
    }
}

/* Which parameters have the form, and what the others say. */
static void test_forms(void **state) {
    (void)state;
    run r;
    static const mezzo_master forms[] = {MEZZO_MASTER_SPLIT, MEZZO_MASTER_BF16};
    for (int k = 0; k < 2; k++) {
        make(&r, &(variant){.master = forms[k], .low_moments = k});
        for (int s = 0; s < mezzo_model_state_count(r.model); s++) {
            mezzo_state_info info = mezzo_model_state_at(r.model, s);
            uint64_t n = (uint64_t)mezzo_shape_count(info.shape);
            bool weight = info.kind == MEZZO_STATE_PARAM && info.shape.rank > 1;
            bool low = k && (weight || info.kind == MEZZO_STATE_MOMENT);
            assert_int_equal(info.bytes, low ? 2 * n : 4 * n);
            if (info.kind == MEZZO_STATE_PARAM) {
                assert_int_equal(info.master, weight ? forms[k] : MEZZO_MASTER_F32);
                assert_int_equal(info.compute, weight ? MEZZO_BF16 : MEZZO_F32);
                assert_int_equal(info.why[0] == '\0', weight);
            }
        }
        int bias = mezzo_model_state_find(r.model, "fc.bias");
        int gamma = mezzo_model_state_find(r.model, "norm1.weight");
        assert_string_equal(mezzo_model_state_at(r.model, bias).why, "linear reads it in f32");
        assert_string_equal(mezzo_model_state_at(r.model, gamma).why, "batch_norm reads it in f32");
        end(&r);
    }
    make(&r, &(variant){.master = MEZZO_MASTER_SPLIT, .is_gpt = true});
    int wte = mezzo_model_state_find(r.model, "wte"); /* tied: the embedding reads both halves */
    assert_int_equal(mezzo_model_state_at(r.model, wte).master, MEZZO_MASTER_SPLIT);
    assert_string_equal(mezzo_model_state_at(r.model, wte).why, "");
    end(&r);
    static const mezzo_dtype others[] = {MEZZO_F32, MEZZO_F16};
    for (int k = 0; k < 2; k++) {
        make(&r, &(variant){.master = MEZZO_MASTER_BF16, .compute = others[k]});
        assert_int_equal(count_of(&r, MEZZO_MASTER_BF16, MEZZO_STATE_PARAM), 0);
        end(&r);
    }
}

/* Bytes of a parameter: state, copies, gradient.  Device ref packs nothing.  Matrices, the tied
 * table, whose gradient is a sum of two and so FP32, the other table, which nothing computes with
 * in BF16 but as BF16 itself, and vectors. */
typedef struct kinds {
    uint64_t matrix, tied, table, vector;
} kinds;

static uint64_t total(kinds count, kinds bytes) {
    return count.matrix * bytes.matrix + count.tied * bytes.tied + count.table * bytes.table +
           count.vector * bytes.vector;
}

static kinds count_kinds(const run *r) {
    kinds count = {0};
    for (int s = 0; s < mezzo_model_state_count(r->model); s++) {
        mezzo_state_info tensor = mezzo_model_state_at(r->model, s);
        uint64_t n = (uint64_t)mezzo_shape_count(tensor.shape);
        if (tensor.kind != MEZZO_STATE_PARAM)
            continue;
        if (strcmp(tensor.name, "wte") == 0)
            count.tied += n;
        else if (strcmp(tensor.name, "wpe") == 0)
            count.table += n;
        else if (tensor.shape.rank == 2)
            count.matrix += n;
        else
            count.vector += n;
    }
    return count;
}

static void test_bytes(void **state) {
    (void)state;
    static const struct {
        mezzo_master master;
        bool low_moments;
        int accumulate;
        mezzo_dtype gradients;
        kinds state, copies, gradient;
    } expected[] = {{MEZZO_MASTER_F32, false, 1, 0, {12, 12, 12, 12}, {2, 2, 0, 0}, {4, 4, 4, 4}},
                    {MEZZO_MASTER_SPLIT, false, 4, 0, {12, 12, 12, 12}, {0}, {4, 4, 4, 4}},
                    {MEZZO_MASTER_SPLIT, false, 1, MEZZO_BF16, {12, 12, 12, 12}, {0}, {2, 4, 4, 4}},
                    {MEZZO_MASTER_BF16, false, 1, MEZZO_BF16, {10, 10, 10, 12}, {0}, {2, 4, 4, 4}},
                    {MEZZO_MASTER_BF16, true, 1, MEZZO_BF16, {6, 6, 6, 8}, {0}, {2, 4, 4, 4}}};
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        run r;
        mezzo_plan_info info;
        make(&r, &(variant){.master = expected[k].master,
                            .low_moments = expected[k].low_moments,
                            .accumulate = expected[k].accumulate,
                            .gradients = expected[k].gradients,
                            .is_gpt = true,
                            .no_average = true,
                            .device = "ref"});
        kinds count = count_kinds(&r);
        NET_OK(r.ctx, mezzo_model_plan_info(r.model, MEZZO_ENTRY_TRAIN, &info));
        assert_int_equal(info.state_bytes, total(count, expected[k].state));
        assert_int_equal(info.weight_bytes, total(count, expected[k].copies));
        assert_int_equal(info.copy_bytes, info.weight_bytes);
        assert_int_equal(info.gradient_bytes, total(count, expected[k].gradient));
        end(&r);
    }
}

/* Steps that fail, by the data, by what forward makes of them, or by a weight. */
static void skip_some(run *r) {
    static net_batch bad;
    if (r->is_gpt) {
        assert_true(step(r, 3).skipped);
        return;
    }
    net_fill(&bad, 3);
    bad.x[77] = NAN;
    assert_true(net_step(r->ctx, r->trainer, &bad).skipped);
    net_fill(&bad, 3);
    for (int k = 0; k < NET_BATCH * NET_PIXELS; k++)
        bad.x[k] *= 0x1p100f;
    assert_true(net_step(r->ctx, r->trainer, &bad).skipped);
}

/* A skipped step changes nothing, and the next one something.  Tokens cannot be bad: there the last
 * norm's factor is, for as long as a step. */
static void check_skip(const variant *v) {
    float factor[GPT_C], huge[GPT_C];
    char before[65], after[65];
    run r;
    make(&r, v);
    for (int s = 0; s < 3; s++)
        assert_false(step(&r, s).skipped);
    int norm = mezzo_model_state_find(r.model, "ln_f.weight");
    for (int c = 0; c < GPT_C; c++)
        huge[c] = 0x1p127f;
    if (v->is_gpt) {
        NET_OK(r.ctx, mezzo_model_read(r.model, norm, factor, GPT_C));
        NET_OK(r.ctx, mezzo_model_write(r.model, norm, huge, GPT_C));
    }
    hash(&r, before);
    skip_some(&r);
    hash(&r, after);
    assert_string_equal(before, after);
    if (v->is_gpt)
        NET_OK(r.ctx, mezzo_model_write(r.model, norm, factor, GPT_C));
    assert_false(step(&r, 4).skipped);
    hash(&r, after);
    assert_string_not_equal(before, after);
    end(&r);
}

/* Every optimizer, form of masters and moments, and norm: of the batch, or of layers. */
static void test_skips(void **state) {
    (void)state;
    for (int o = 0; o < OPTIMIZERS; o++)
        for (int form = MEZZO_MASTER_F32; form <= MEZZO_MASTER_BF16; form++)
            for (int other = 0; other < 8; other++)
                if (form == MEZZO_MASTER_BF16 || !(other & 4))
                    check_skip(&(variant){.optimizer = optimizers[o],
                                          .master = (mezzo_master)form,
                                          .is_gpt = other & 1,
                                          .low_moments = other & 2,
                                          .nearest = other & 4,
                                          .gradients = o & 1 ? MEZZO_BF16 : MEZZO_F32});
}

/* Random bits are those of the commit: tries that were skipped do not count.  (Dropout's are those
 * of the try.) */
static void test_skips_leave_no_trace(void **state) {
    (void)state;
    static net_batch bad;
    const variant v = {.master = MEZZO_MASTER_BF16, .low_moments = true, .no_dropout = true};
    char hex[2][65];
    net_fill(&bad, 3);
    bad.x[77] = NAN;
    for (int k = 0; k < 2; k++) {
        run r;
        make(&r, &v);
        for (int s = 0; s < 4; s++) {
            if (k == 1 && s == 2)
                assert_true(net_step(r.ctx, r.trainer, &bad).skipped);
            assert_false(step(&r, s).skipped);
        }
        hash(&r, hex[k]);
        end(&r);
    }
    assert_string_equal(hex[0], hex[1]);
}

static void train(const variant *v, int steps, char hex[65]) {
    run r;
    make(&r, v);
    for (int s = 0; s < steps; s++)
        assert_false(step(&r, s).skipped);
    hash(&r, hex);
    end(&r);
}

/* What is rounded stochastically depends on the seed, and not on the workers. */
static void test_keys(void **state) {
    (void)state;
    for (int o = 0; o < OPTIMIZERS; o++) {
        char one[65], three[65], again[65];
        variant v = {.optimizer = optimizers[o], .master = MEZZO_MASTER_BF16, .low_moments = true};
        v.gradients = MEZZO_BF16;
        v.threads = 1;
        train(&v, 5, one);
        train(&v, 5, again);
        assert_string_equal(one, again);
        v.threads = 3;
        train(&v, 5, three);
        assert_string_equal(one, three);
    }
}

static void read_tensor(run *r, const char *name, float *out, int64_t *count) {
    int index = mezzo_model_state_find(r->model, name);
    assert_true(index >= 0);
    *count = mezzo_shape_count(mezzo_model_state_at(r->model, index).shape);
    NET_OK(r->ctx, mezzo_model_read(r->model, index, out, *count));
}

/* Elements of fc.weight that `steps` small steps of Lion change: each moves a weight by 2^-20, far
 * below half an ulp of all but the smallest of them. */
static double moved(bool nearest, int steps, double *drift) {
    static float before[NET_TENSOR_MAX], after[NET_TENSOR_MAX];
    run r;
    int64_t count = 0, changed = 0, large = 0;
    make(&r,
         &(variant){
             .optimizer = "lion", .master = MEZZO_MASTER_BF16, .nearest = nearest, .lr = 0x1p-20f});
    read_tensor(&r, "fc.weight", before, &count);
    for (int s = 0; s < steps; s++)
        assert_false(step(&r, s).skipped);
    read_tensor(&r, "fc.weight", after, &count);
    *drift = 0;
    for (int64_t i = 0; i < count; i++) {
        if (fabsf(before[i]) < 0x1p-10f) /* half an ulp is 2^-19 from here on */
            continue;
        large++;
        changed += before[i] != after[i];
        *drift += fabs((double)after[i] - (double)before[i]);
    }
    end(&r);
    return (double)changed / (double)large;
}

static void test_nearest_stalls(void **state) {
    (void)state;
    double drift;
    assert_true(moved(true, 20, &drift) == 0.0);
    assert_true(drift == 0.0);
    assert_true(moved(false, 20, &drift) > 0.01);
}

/* What one form has written another reads: FP32 values go out and come in. */
static void copy_state(run *to, run *from) {
    static float values[NET_TENSOR_MAX];
    for (int s = 0; s < mezzo_model_state_count(from->model); s++) {
        mezzo_state_info info = mezzo_model_state_at(from->model, s);
        int64_t n = mezzo_shape_count(info.shape);
        NET_OK(from->ctx, mezzo_model_read(from->model, s, values, n));
        NET_OK(to->ctx, mezzo_model_write(to->model, mezzo_model_state_find(to->model, info.name),
                                          values, n));
    }
}

static void evaluate(run *r, float *loss) {
    static net_batch batch;
    net_fill(&batch, 1000);
    const mezzo_binding inputs[] = {{"x", batch.x, sizeof batch.x},
                                    {"labels", batch.labels, sizeof batch.labels}};
    NET_OK(r->ctx, mezzo_model_evaluate(r->model, inputs, 2));
    NET_OK(r->ctx, mezzo_model_output(r->model, MEZZO_ENTRY_EVAL, "loss", loss, 1));
}

static void test_forms_exchange_values(void **state) {
    (void)state;
    static float a[NET_TENSOR_MAX], b[NET_TENSOR_MAX];
    int64_t count;
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++) {
            run first, second;
            float loss_a, loss_b;
            make(&first, &(variant){.master = (mezzo_master)from});
            make(&second, &(variant){.master = (mezzo_master)to, .seed = 9});
            for (int s = 0; s < 3; s++)
                step(&first, s);
            copy_state(&second, &first);
            read_tensor(&first, "conv2.weight", a, &count);
            read_tensor(&second, "conv2.weight", b, &count);
            if (to != MEZZO_MASTER_BF16)
                assert_memory_equal(a, b, (size_t)count * sizeof *a);
            /* The readers take the same BF16 numbers in every form. */
            evaluate(&first, &loss_a);
            evaluate(&second, &loss_b);
            assert_true(loss_a == loss_b);
            end(&first);
            end(&second);
        }
}

/* A model has FP32 masters until it has a trainer; plans that exist by then follow. */
static void test_trainer_decides(void **state) {
    (void)state;
    for (int form = MEZZO_MASTER_SPLIT; form <= MEZZO_MASTER_BF16; form++) {
        run r = {0};
        float before, after;
        variant v = {.master = (mezzo_master)form};
        make_model(&r, &v, MEZZO_ENTRY_EVAL);
        evaluate(&r, &before);
        assert_int_equal(count_of(&r, v.master, MEZZO_STATE_PARAM), 0);
        make_trainer(&r, &v);
        assert_int_equal(count_of(&r, v.master, MEZZO_STATE_PARAM), 4);
        evaluate(&r, &after);
        assert_true(before == after);
        step(&r, 0);
        evaluate(&r, &after);
        assert_true(before != after);
        mezzo_trainer_destroy(r.trainer); /* the next one takes what is there */
        make_trainer(&r, &v);
        assert_false(step(&r, 1).skipped);
        end(&r);
    }
}

static void test_bad_arguments(void **state) {
    (void)state;
    run r = {0};
    mezzo_trainer_config config = net_trainer_config();
    make_model(&r, &(variant){0}, MEZZO_ENTRY_TRAIN);
    config.optimizer.state = MEZZO_F16;
    assert_int_equal(mezzo_trainer_create(&r.trainer, r.model, &config), MEZZO_INVALID_ARGUMENT);
    mezzo_model *model = NULL;
    const mezzo_model_config wrong = {
        .build = net_build, .user = &r.net, .precision.master = (mezzo_master)3};
    assert_int_equal(mezzo_model_create(&model, r.ctx, &wrong, MEZZO_ENTRY_TRAIN),
                     MEZZO_INVALID_ARGUMENT);
    r.trainer = NULL;
    end(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_is_f32),
        cmocka_unit_test(test_split_is_f32_over_500_steps),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_skips),
        cmocka_unit_test(test_skips_leave_no_trace),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_nearest_stalls),
        cmocka_unit_test(test_forms_exchange_values),
        cmocka_unit_test(test_trainer_decides),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
