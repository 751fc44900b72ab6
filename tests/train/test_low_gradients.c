/* Gradients of BF16: which they are, how they are rounded, and what refuses them. */
#include <math.h>

#include "num/number.h"
#include "train/small_gpt.h"
#include "train/small_net.h"

typedef struct run {
    mezzo_ctx *ctx;
    mezzo_model *model;
    mezzo_trainer *trainer;
    net net;
    gpt gpt;
} run;

static void make_model(run *r, bool is_gpt, const char *device, mezzo_precision precision) {
    const mezzo_model_config config = {.build = is_gpt ? gpt_build : net_build,
                                       .user = is_gpt ? (void *)&r->gpt : (void *)&r->net,
                                       .device = device,
                                       .precision = precision,
                                       .seed = 3};
    r->ctx = net_ctx(2);
    r->gpt = (gpt){.batch = GPT_SAMPLES};
    r->net = (net){.batch = NET_BATCH};
    NET_OK(r->ctx, mezzo_model_create(&r->model, r->ctx, &config, MEZZO_ENTRY_TRAIN));
}

static void make(run *r, bool is_gpt, const char *device, mezzo_precision precision) {
    mezzo_trainer_config config = net_trainer_config();
    config.clip = 0.0f;
    make_model(r, is_gpt, device, precision);
    NET_OK(r->ctx, mezzo_trainer_create(&r->trainer, r->model, &config));
}

static void end(run *r) {
    mezzo_trainer_destroy(r->trainer);
    mezzo_model_destroy(r->model);
    mezzo_ctx_destroy(r->ctx);
}

static void step(run *r, bool is_gpt) {
    static gpt_batch tokens;
    static net_batch images;
    if (is_gpt) {
        gpt_fill(&tokens, 1, 0);
        assert_false(gpt_step(r->ctx, r->trainer, &tokens).skipped);
    } else {
        net_fill(&images, 1);
        assert_false(net_step(r->ctx, r->trainer, &images).skipped);
    }
}

static bool is_bf16(const float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (mzi_f32_bits(x[i]) & 0xffffu)
            return false;
    return true;
}

/* Element i of the one is a sum rounded to BF16, of the other the same sum rounded to FP32.  Each
 * is at most u of its format, times the sum, from it: with u = 2^-8 and v = 2^-24 they are at most
 * (u + v) / (1 - v) of the FP32 number apart. */
static void check_rounding(const float *low, const float *wide, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)low[i] - (double)wide[i]) <= 0x1.0002p-8 * fabs((double)wide[i])))
            fail_msg("element %lld: %a of %a", (long long)i, (double)low[i], (double)wide[i]);
}

/* Matrices and filters have gradients of BF16; vectors, and tables whose gradient is a sum of
 * several, have those of FP32, bit for bit.  On the device ref a sum is made in FP64 first. */
static void check_types(bool is_gpt, const char *device, bool is_ref) {
    static float a[NET_TENSOR_MAX], b[NET_TENSOR_MAX];
    run low = {0}, wide = {0};
    uint64_t bytes = 0;
    mezzo_plan_info info;
    make(&low, is_gpt, device, (mezzo_precision){.compute = MEZZO_BF16, .gradients = MEZZO_BF16});
    make(&wide, is_gpt, device, (mezzo_precision){.compute = MEZZO_BF16});
    step(&low, is_gpt);
    step(&wide, is_gpt);
    for (int s = 0; s < mezzo_model_state_count(low.model); s++) {
        mezzo_state_info state = mezzo_model_state_at(low.model, s);
        int64_t n = mezzo_shape_count(state.shape);
        if (state.kind != MEZZO_STATE_PARAM)
            continue;
        bool expected = state.shape.rank > 1 && strncmp(state.name, "w", 1) != 0;
        NET_OK(low.ctx, mezzo_trainer_read_gradient(low.trainer, state.name, a, n));
        NET_OK(wide.ctx, mezzo_trainer_read_gradient(wide.trainer, state.name, b, n));
        assert_false(is_bf16(b, n));
        if (is_bf16(a, n) != expected)
            fail_msg("%s: gradient %s", state.name, expected ? "f32" : "bf16");
        if (!expected)
            assert_memory_equal(a, b, (size_t)n * sizeof *a);
        else if (is_ref)
            check_rounding(a, b, n);
        bytes += (uint64_t)n * (expected ? 2 : 4);
    }
    NET_OK(low.ctx, mezzo_model_plan_info(low.model, MEZZO_ENTRY_TRAIN, &info));
    assert_int_equal(info.gradient_bytes, bytes);
    end(&low);
    end(&wide);
}

static void test_types(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        check_types(k, "cpu", false);
        check_types(k, "ref", true);
    }
}

/* What computes in another type has gradients of FP32. */
static void test_other_types(void **state) {
    (void)state;
    static const mezzo_dtype others[] = {MEZZO_F32, MEZZO_F16};
    static float g[NET_TENSOR_MAX];
    for (int k = 0; k < 3; k++) {
        const mezzo_override fc = {"fc", MEZZO_F32};
        const mezzo_precision precision = {.compute = k < 2 ? others[k] : MEZZO_BF16,
                                           .gradients = MEZZO_BF16,
                                           .overrides = &fc,
                                           .override_count = k == 2};
        run r = {0};
        make(&r, false, "cpu", precision);
        step(&r, false);
        int s = mezzo_model_state_find(r.model, "fc.weight");
        int64_t n = mezzo_shape_count(mezzo_model_state_at(r.model, s).shape);
        NET_OK(r.ctx, mezzo_trainer_read_gradient(r.trainer, "fc.weight", g, n));
        assert_false(is_bf16(g, n));
        end(&r);
    }
}

enum {
    SHARED = 24
};

static mezzo_status build_shared(mezzo_graph *graph, void *user) {
    (void)user;
    const mezzo_init init = {MEZZO_INIT_UNIFORM, 1.0f};
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(8, SHARED)), none = {0};
    mezzo_value w = mezzo_param(graph, "w", mezzo_shape2(SHARED, SHARED), init);
    x = mezzo_linear_with(graph, "first", x, w, none);
    mezzo_loss(graph, mezzo_sum(graph, mezzo_linear_with(graph, "second", x, w, none)));
    return MEZZO_OK;
}

/* What two operations add to a gradient is FP32, and so is their sum: rounded parts would be two
 * roundings more. */
static void test_shared_weight(void **state) {
    (void)state;
    static float x[8 * SHARED], g[2][SHARED * SHARED];
    const mezzo_binding inputs[] = {{"x", x, sizeof x}};
    const mezzo_trainer_config config = net_trainer_config();
    for (int i = 0; i < 8 * SHARED; i++)
        x[i] = (float)(i % 37) / 37.0f - 0.4f;
    for (int k = 0; k < 2; k++) {
        run r = {.ctx = net_ctx(1)};
        mezzo_step_result result;
        const mezzo_model_config about = {
            .build = build_shared,
            .precision = {.compute = MEZZO_BF16, .gradients = k ? MEZZO_BF16 : MEZZO_F32},
            .seed = 3};
        NET_OK(r.ctx, mezzo_model_create(&r.model, r.ctx, &about, MEZZO_ENTRY_TRAIN));
        NET_OK(r.ctx, mezzo_trainer_create(&r.trainer, r.model, &config));
        NET_OK(r.ctx, mezzo_trainer_step(r.trainer, inputs, 1, &result));
        NET_OK(r.ctx, mezzo_trainer_read_gradient(r.trainer, "w", g[k], SHARED * SHARED));
        end(&r);
    }
    assert_memory_equal(g[0], g[1], sizeof g[0]);
}

static void test_refused(void **state) {
    (void)state;
    run r = {0};
    mezzo_trainer_config config = net_trainer_config();
    config.accumulate = 2;
    make_model(&r, false, "cpu", (mezzo_precision){.compute = MEZZO_BF16, .gradients = MEZZO_BF16});
    assert_int_equal(mezzo_trainer_create(&r.trainer, r.model, &config), MEZZO_INVALID_ARGUMENT);
    assert_non_null(strstr(mezzo_ctx_error(r.ctx)->text, "2 micro-batches"));
    r.trainer = NULL;
    mezzo_model *model = NULL;
    const mezzo_model_config wrong = {
        .build = net_build, .user = &r.net, .precision.gradients = MEZZO_F16};
    assert_int_equal(mezzo_model_create(&model, r.ctx, &wrong, MEZZO_ENTRY_TRAIN),
                     MEZZO_INVALID_ARGUMENT);
    end(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_other_types),
        cmocka_unit_test(test_shared_weight),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
