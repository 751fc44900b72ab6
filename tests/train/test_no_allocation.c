/* mezzo's allocator: silent after planning, and allowed to fail at any call. */
#include <math.h>
#include <stdlib.h>

#include "train/small_net.h"

/* An allocator that counts, and fails at one call or from it on. */
typedef struct counting {
    int64_t calls, live_bytes, live_blocks;
    int64_t fail_at; /* the call that fails, from 1; 0: none */
    bool from_then_on;
    int64_t failures;
} counting;

static void *count_alloc(void *user, size_t bytes, size_t align) {
    counting *c = user;
    void *memory = NULL;
    int64_t call = __atomic_add_fetch(&c->calls, 1, __ATOMIC_RELAXED);
    if (c->fail_at && (call == c->fail_at || (c->from_then_on && call > c->fail_at))) {
        c->failures++;
        return NULL;
    }
    if (posix_memalign(&memory, align, bytes) != 0)
        return NULL;
    __atomic_add_fetch(&c->live_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
    __atomic_add_fetch(&c->live_blocks, 1, __ATOMIC_RELAXED);
    return memory;
}

static void count_free(void *user, void *memory, size_t bytes) {
    counting *c = user;
    __atomic_sub_fetch(&c->live_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&c->live_blocks, 1, __ATOMIC_RELAXED);
    free(memory);
}

static mezzo_status make_ctx(counting *c, mezzo_ctx **out, mezzo_error *error) {
    const mezzo_ctx_config config = {.allocator = {count_alloc, count_free, c}, .threads = 2};
    return mezzo_ctx_create(out, &config, error);
}

static void check_silent(mezzo_dtype compute) {
    enum {
        STEPS = 100
    };
    static net_batch batch[2];
    counting c = {0};
    mezzo_ctx *ctx = NULL;
    net n = {.dropout = 0.2f};
    mezzo_trainer *trainer = NULL;
    assert_int_equal(make_ctx(&c, &ctx, NULL), MEZZO_OK);
    mezzo_model *model = net_model(ctx, &n, compute);
    mezzo_trainer_config config = net_trainer_config();
    config.clip = 1.0f;
    config.meter_every = 3;
    config.ema = 0.9f;
    config.scaler = (mezzo_scaler_config){.init = 0x1p24f, .growth_interval = 3};
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    for (int k = 0; k < 2; k++)
        net_fill(&batch[k], k);
    batch[1].x[5] = (float)NAN; /* skipped steps take nothing either */
    mezzo_memory_use before = mezzo_ctx_memory(ctx);
    int64_t calls = c.calls;
    for (int s = 0; s < STEPS; s++)
        net_step(ctx, trainer, &batch[s % 10 == 9]);
    mezzo_memory_use after = mezzo_ctx_memory(ctx);
    assert_int_equal(after.alloc_count, before.alloc_count);
    assert_int_equal(after.bytes_used, before.bytes_used);
    assert_int_equal(c.calls, calls);
    assert_int_equal(c.calls, after.alloc_count);
    assert_int_equal(c.live_bytes, after.bytes_used);
    assert_true(mezzo_trainer_get_state(trainer).skipped >= STEPS / 10);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    assert_int_equal(c.live_bytes, 0);
    assert_int_equal(c.live_blocks, 0);
}

static void test_100_steps_take_no_memory(void **state) {
    (void)state;
    check_silent(MEZZO_F32);
    check_silent(MEZZO_BF16);
    check_silent(MEZZO_F16);
}

/* What is known of memory before the first step is what is used. */
static void test_planned_memory_is_used_memory(void **state) {
    (void)state;
    counting c = {0};
    mezzo_ctx *ctx = NULL;
    net n = {0};
    mezzo_plan_info info;
    assert_int_equal(make_ctx(&c, &ctx, NULL), MEZZO_OK);
    int64_t base = c.live_bytes;
    mezzo_model *model = net_model(ctx, &n, MEZZO_BF16);
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    config.ema = 0.9f;
    NET_OK(ctx, mezzo_trainer_create(&trainer, model, &config));
    NET_OK(ctx, mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info));
    uint64_t planned =
        info.state_bytes + info.weight_bytes + info.activation_bytes + info.scratch_bytes;
    /* The rest is the graph and its calls: well below 1 MiB for a net of this size. */
    assert_true((uint64_t)(c.live_bytes - base) >= planned);
    assert_true((uint64_t)(c.live_bytes - base) < planned + (1 << 20));
    assert_true(info.activation_bytes > 100000 && info.weight_bytes > 1000);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
}

/* Everything from the model to the first step and its hash. */
typedef struct attempt {
    mezzo_status status;
    mezzo_model *model;
    mezzo_trainer *trainer;
    char hash[65];
} attempt;

static attempt try_all(mezzo_ctx *ctx, const net_batch *batch) {
    static net n = {.dropout = 0.2f};
    attempt a = {.status = MEZZO_OK};
    mezzo_step_result result;
    const mezzo_override overrides[] = {{"conv2", MEZZO_F32}, {"head", MEZZO_F32}};
    const mezzo_model_config config = {
        .build = net_build,
        .user = &n,
        .seed = 3,
        .precision = {.compute = MEZZO_BF16, .overrides = overrides, .override_count = 2}};
    const mezzo_trainer_config trainer = net_trainer_config();
    const mezzo_binding inputs[] = {{"x", batch->x, sizeof batch->x},
                                    {"labels", batch->labels, sizeof batch->labels}};
    a.status = mezzo_model_create(&a.model, ctx, &config, MEZZO_ENTRY_TRAIN);
    if (a.status == MEZZO_OK)
        a.status = mezzo_trainer_create(&a.trainer, a.model, &trainer);
    if (a.status == MEZZO_OK)
        a.status = mezzo_trainer_step(a.trainer, inputs, 2, &result);
    if (a.status == MEZZO_OK)
        a.status = mezzo_model_evaluate(a.model, inputs, 2);
    if (a.status == MEZZO_OK)
        a.status = mezzo_trainer_state_hash(a.trainer, a.hash);
    return a;
}

static void undo(attempt *a) {
    mezzo_trainer_destroy(a->trainer);
    mezzo_model_destroy(a->model);
}

/* Fail at call N for every N, once or for good: OUT_OF_MEMORY with a message, nothing kept, and the
 * same context then does it all, with the same result as if nothing had happened. */
static void check_failing(bool from_then_on) {
    enum {
        POINTS_LEAST = 150
    };
    static net_batch batch;
    counting c = {.from_then_on = from_then_on};
    mezzo_ctx *ctx = NULL;
    net_fill(&batch, 0);
    assert_int_equal(make_ctx(&c, &ctx, NULL), MEZZO_OK);
    attempt whole = try_all(ctx, &batch);
    assert_int_equal(whole.status, MEZZO_OK);
    undo(&whole);
    int64_t bytes = c.live_bytes, blocks = c.live_blocks, points = 0;
    for (int64_t n = 1;; n++, points++) {
        c.fail_at = c.calls + n;
        c.failures = 0;
        attempt a = try_all(ctx, &batch);
        c.fail_at = 0;
        if (!c.failures) { /* n is beyond the last call */
            assert_int_equal(a.status, MEZZO_OK);
            undo(&a);
            break;
        }
        if (a.status != MEZZO_OUT_OF_MEMORY)
            fail_msg("call %lld failed, and the result is %s", (long long)n,
                     mezzo_status_name(a.status));
        assert_int_equal(mezzo_ctx_error(ctx)->status, MEZZO_OUT_OF_MEMORY);
        assert_true(strlen(mezzo_ctx_error(ctx)->text) > 10);
        undo(&a);
        if (c.live_bytes != bytes || c.live_blocks != blocks)
            fail_msg("call %lld failed, and %lld bytes were lost", (long long)n,
                     (long long)(c.live_bytes - bytes));
        if (n % 16 != 1)
            continue;
        attempt again = try_all(ctx, &batch);
        assert_int_equal(again.status, MEZZO_OK);
        assert_string_equal(again.hash, whole.hash);
        undo(&again);
    }
    assert_true(points >= POINTS_LEAST);
    mezzo_ctx_destroy(ctx);
    assert_int_equal(c.live_bytes, 0);
}

static void test_one_call_fails(void **state) {
    (void)state;
    check_failing(false);
}

static void test_every_call_fails_from_one_on(void **state) {
    (void)state;
    check_failing(true);
}

/* A context whose own memory fails: the message goes to the caller's error. */
static void test_context_without_memory(void **state) {
    (void)state;
    int points = 0;
    for (int64_t n = 1;; n++, points++) {
        counting c = {.fail_at = n, .from_then_on = true};
        mezzo_ctx *ctx = NULL;
        mezzo_error error;
        mezzo_status status = make_ctx(&c, &ctx, &error);
        if (!c.failures) {
            assert_int_equal(status, MEZZO_OK);
            mezzo_ctx_destroy(ctx);
            assert_int_equal(c.live_bytes, 0);
            break;
        }
        assert_int_equal(status, MEZZO_OUT_OF_MEMORY);
        assert_int_equal(error.status, MEZZO_OUT_OF_MEMORY);
        assert_null(ctx);
        assert_int_equal(c.live_bytes, 0);
    }
    assert_true(points >= 2);
}

/* A trainer that cannot be made leaves a model that still evaluates, and can get another trainer.
 */
static void test_model_survives_its_trainer(void **state) {
    (void)state;
    static net_batch batch;
    static float before[NET_BATCH * NET_CLASSES], after[NET_BATCH * NET_CLASSES];
    counting c = {0};
    mezzo_ctx *ctx = NULL;
    net n = {0};
    mezzo_trainer *trainer = NULL;
    mezzo_trainer_config config = net_trainer_config();
    config.ema = 0.9f;
    net_fill(&batch, 0);
    const mezzo_binding inputs[] = {{"x", batch.x, sizeof batch.x},
                                    {"labels", batch.labels, sizeof batch.labels}};
    assert_int_equal(make_ctx(&c, &ctx, NULL), MEZZO_OK);
    mezzo_model *model = net_model(ctx, &n, MEZZO_F32);
    NET_OK(ctx, mezzo_model_evaluate(model, inputs, 2));
    NET_OK(ctx,
           mezzo_model_output(model, MEZZO_ENTRY_EVAL, "logits", before, NET_BATCH * NET_CLASSES));
    for (int64_t k = 1;; k++) {
        c.fail_at = c.calls + k;
        c.failures = 0;
        mezzo_status status = mezzo_trainer_create(&trainer, model, &config);
        c.fail_at = 0;
        if (!c.failures) {
            assert_int_equal(status, MEZZO_OK);
            assert_true(k > 50);
            break;
        }
        assert_int_equal(status, MEZZO_OUT_OF_MEMORY);
        assert_null(trainer);
    }
    NET_OK(ctx, mezzo_model_evaluate(model, inputs, 2));
    NET_OK(ctx,
           mezzo_model_output(model, MEZZO_ENTRY_EVAL, "logits", after, NET_BATCH * NET_CLASSES));
    assert_memory_equal(before, after, sizeof before);
    assert_false(net_step(ctx, trainer, &batch).skipped);
    mezzo_trainer_destroy(trainer);
    mezzo_model_destroy(model);
    mezzo_ctx_destroy(ctx);
    assert_int_equal(c.live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_100_steps_take_no_memory),
        cmocka_unit_test(test_planned_memory_is_used_memory),
        cmocka_unit_test(test_one_call_fails),
        cmocka_unit_test(test_every_call_fails_from_one_on),
        cmocka_unit_test(test_context_without_memory),
        cmocka_unit_test(test_model_survives_its_trainer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
