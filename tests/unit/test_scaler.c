/* The loss scaler against its peers: every step of 1,000 traces by each rule, whose figures
 * tests/parity/scaler_peers.py made from the peers' sources. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/scaler.h"
#include "unit/cmocka_all.h"

enum {
    TRACES = 1000,
    RULES = 3
};

typedef struct rule {
    const char *name;
    mezzo_scale_mode mode;
} rule;
static const rule rules[RULES] = {{"pytorch", MEZZO_SCALE_PYTORCH},
                                  {"megatron", MEZZO_SCALE_MEGATRON},
                                  {"deepspeed", MEZZO_SCALE_DEEPSPEED}};

static mezzo_ctx *ctx;
static json_t *peers;

static int begin(void **state) {
    (void)state;
    char path[1000];
    json_error_t error;
    snprintf(path, sizeof path, "%s/tests/parity/scaler_peers.json", getenv("MEZZO_SOURCE_DIR"));
    peers = json_load_file(path, 0, &error);
    return peers && mezzo_ctx_create(&ctx, NULL, NULL) == MEZZO_OK ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    json_decref(peers);
    mezzo_ctx_destroy(ctx);
    return 0;
}

static mezzo_scaler scaler_of(mezzo_scaler_config config) {
    mezzo_scaler scaler;
    if (mezzo_scaler_init(ctx, &scaler, &config) != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(ctx)->text);
    return scaler;
}

typedef enum overflow_kind {
    INDEPENDENT,
    BURSTS,
    ABOVE_A_LEVEL, /* which wanders */
    COLLAPSE,      /* one */
    RECORDED
} overflow_kind;

/* A trace: random ones are a function of their number, as in scaler_peers.py, draw by draw. */
typedef struct trace {
    overflow_kind kind;
    uint32_t steps;
    uint64_t x; /* of the random words */
    uint32_t rarity, begin, end;
    int32_t level;
    bool burst, all_default, restored;
    int32_t clean, hysteresis; /* state to start from, if restored */
    mezzo_scaler_config given;
    const json_t *runs; /* recorded: clean, bad, clean, ... steps */
    size_t run;         /* the one that goes on */
    json_int_t run_end; /* step behind it */
} trace;

static uint32_t draw(trace *t, uint32_t below) {
    t->x = 6364136223846793005u * t->x + 1442695040888963407u;
    return (uint32_t)(t->x >> 32) % below;
}

static trace random_trace(uint64_t number) {
    static const int32_t intervals[] = {1, 2, 3, 10, 50, 200, 1000, 2000};
    trace t = {.x = number};
    mezzo_scaler_config *c = &t.given;
    t.steps = 64 + draw(&t, 4033);
    t.kind = (overflow_kind)draw(&t, 4);
    t.rarity = 2u << draw(&t, 10);
    t.begin = draw(&t, 64);
    t.end = t.begin + 16 + draw(&t, 256);
    t.level = 10 + (int32_t)draw(&t, 10);
    c->growth_interval = intervals[draw(&t, 8)];
    c->growth = ldexpf(1.0f, 1 + (int)draw(&t, 2));
    c->backoff = ldexpf(0.5f, -(int)draw(&t, 2));
    uint32_t range = draw(&t, 8);
    int place = (int)draw(&t, 41);
    int init = range == 0 ? 100 + place % 28 : range == 1 ? place % 40 - 149 : place - 4;
    int least = init - (int)draw(&t, 24);
    c->init = ldexpf(1.0f, init);
    c->min = ldexpf(1.0f, least > -149 ? least : -149);
    c->hysteresis = 1 + (int32_t)draw(&t, 4);
    c->consecutive_hysteresis = draw(&t, 2);
    c->skip_at_min = draw(&t, 2);
    t.all_default = draw(&t, 4) == 0;
    t.restored = draw(&t, 4) == 0;
    t.clean = (int32_t)draw(&t, 2 * (uint32_t)c->growth_interval + 1);
    t.hysteresis = (int32_t)draw(&t, 7) - 2;
    return t;
}

static trace recorded_trace(const json_t *record) {
    trace t = {.kind = RECORDED, .runs = json_object_get(record, "runs")};
    t.given.growth_interval = (int32_t)json_integer_value(json_object_get(record, "interval"));
    for (size_t k = 0; k < json_array_size(t.runs); k++)
        t.steps += (uint32_t)json_integer_value(json_array_get(t.runs, k));
    t.run_end = json_integer_value(json_array_get(t.runs, 0));
    return t;
}

static bool overflows(trace *t, uint32_t step, double scale) {
    uint32_t move;
    switch (t->kind) {
    case INDEPENDENT:
        return draw(t, t->rarity) == 0;
    case BURSTS:
        t->burst ^= draw(t, t->burst ? 8 : t->rarity) == 0;
        return t->burst;
    case ABOVE_A_LEVEL:
        move = draw(t, 64);
        t->level += (move == 1) - (move == 0);
        return scale > ldexp(1.0, t->level);
    case COLLAPSE:
        return step >= t->begin && step < t->end;
    case RECORDED:
        while ((json_int_t)step >= t->run_end)
            t->run_end += json_integer_value(json_array_get(t->runs, ++t->run));
        return t->run % 2 == 1;
    }
    return false;
}

static uint64_t add(uint64_t hash, uint64_t word) {
    return (hash ^ word) * 0x100000001b3u;
}

/* FNV-1a by words over scale and trackers of every step. */
static uint32_t digest_of(trace t, mezzo_scale_mode mode) {
    uint64_t hash = 0xcbf29ce484222325u;
    mezzo_scaler_config config = t.all_default ? (mezzo_scaler_config){0} : t.given;
    config.mode = mode;
    mezzo_scaler s = scaler_of(config);
    if (t.restored) {
        s.growth_tracker = t.clean;
        s.hysteresis_tracker = mode == MEZZO_SCALE_PYTORCH ? 0 : t.hysteresis;
    }
    for (uint32_t step = 0; step < t.steps; step++) {
        uint64_t bits;
        if (!mezzo_scaler_update(&s, overflows(&t, step, s.scale))) {
            hash = add(add(hash, 0), UINT64_MAX);
            break;
        }
        memcpy(&bits, &s.scale, sizeof bits);
        hash = add(hash, bits);
        hash =
            add(hash, (uint64_t)(uint32_t)s.growth_tracker << 32 | (uint32_t)s.hysteresis_tracker);
    }
    return (uint32_t)(hash >> 32 ^ hash);
}

static void test_every_trace(void **state) {
    (void)state;
    const json_t *recorded = json_object_get(peers, "recorded");
    const json_t *digests = json_object_get(peers, "digests");
    size_t first = json_array_size(recorded);
    assert_true(first > 0);
    assert_int_equal(json_array_size(digests), TRACES);
    for (size_t k = 0; k < TRACES; k++) {
        const char *want = json_string_value(json_array_get(digests, k));
        assert_non_null(want);
        assert_int_equal(strlen(want), RULES * 9 - 1);
        trace t =
            k < first ? recorded_trace(json_array_get(recorded, k)) : random_trace(1 + k - first);
        for (int r = 0; r < RULES; r++) {
            uint32_t got = digest_of(t, rules[r].mode);
            if (got != strtoul(want + 9 * r, NULL, 16))
                fail_msg("trace %zu by %s: %08x, not as in %s", k, rules[r].name, got, want);
        }
    }
}

static float real_at(const json_t *object, const char *key) {
    return (float)json_number_value(json_object_get(object, key));
}

/* The traces that are kept step by step: what is wrong can be read off here. */
static void test_small_traces(void **state) {
    (void)state;
    size_t k, run;
    const json_t *one, *length, *small = json_object_get(peers, "small");
    assert_true(json_array_size(small) >= RULES);
    json_array_foreach(small, k, one) {
        const char *name = json_string_value(json_object_get(one, "rule"));
        const json_t *c = json_object_get(one, "config"), *states = json_object_get(one, "states");
        int r = 0;
        while (strcmp(rules[r].name, name) != 0)
            assert_true(++r < RULES);
        mezzo_scaler s = scaler_of((mezzo_scaler_config){
            .mode = rules[r].mode,
            .init = real_at(c, "init"),
            .growth_interval = (int32_t)json_integer_value(json_object_get(c, "interval")),
            .hysteresis = (int32_t)json_integer_value(json_object_get(c, "hysteresis")),
            .consecutive_hysteresis = json_is_true(json_object_get(c, "consecutive")),
            .skip_at_min = json_is_true(json_object_get(c, "skip_at_min"))});
        size_t step = 0;
        json_array_foreach(json_object_get(one, "runs"), run, length) {
            for (json_int_t i = 0; i < json_integer_value(length); i++) {
                if (step == json_array_size(states))
                    break; /* the rule gave up */
                const json_t *want = json_array_get(states, step++);
                const mezzo_scaler was = s;
                assert_int_equal(mezzo_scaler_update(&s, run % 2 == 1), !json_is_null(want));
                if (json_is_null(want)) {
                    assert_memory_equal(&s, &was, sizeof s);
                    continue;
                }
                if (s.scale != json_number_value(json_array_get(want, 0)))
                    fail_msg("%s, step %zu: scale %g", name, step, s.scale);
                assert_int_equal(s.growth_tracker, json_integer_value(json_array_get(want, 1)));
                assert_int_equal(s.hysteresis_tracker, json_integer_value(json_array_get(want, 2)));
            }
        }
        assert_int_equal(step, json_array_size(states));
    }
}

static int32_t bad_steps_until(mezzo_scaler s, double scale) {
    int32_t steps = 0;
    while (s.scale != scale && steps < 1000 && mezzo_scaler_update(&s, true))
        steps++;
    return steps;
}

/* What the rules are known for, from their defaults. */
static void test_traps(void **state) {
    (void)state;
    mezzo_scaler s = scaler_of((mezzo_scaler_config){.mode = MEZZO_SCALE_PYTORCH});
    assert_int_equal(bad_steps_until(s, 0.0), 166); /* 2^16 to 2^-149, and below its half */
    s.scale = 0.0;
    for (int k = 0; k < 5000; k++)
        assert_true(mezzo_scaler_update(&s, false) && s.scale == 0.0);
    /* 33 for 32 halvings: the first overflow is free. */
    s = scaler_of((mezzo_scaler_config){.mode = MEZZO_SCALE_MEGATRON});
    assert_int_equal(bad_steps_until(s, 1.0), 33);
    assert_int_equal(bad_steps_until(s, 0.5), 1000); /* and there it stays */
    s.scale = 0x1p127;
    for (int k = 0; k < 1000; k++)
        mezzo_scaler_update(&s, false);
    assert_true(isinf(s.scale));
    for (int k = 0; k < 10; k++)
        mezzo_scaler_update(&s, true);
    assert_true(isinf(s.scale));
    /* The 18th overflow raises.  FP64 has 2^128, and the way back. */
    s = scaler_of((mezzo_scaler_config){.mode = MEZZO_SCALE_DEEPSPEED});
    assert_int_equal(bad_steps_until(s, 0.5), 17);
    s.scale = 0x1p127;
    for (int k = 0; k < 1001; k++)
        mezzo_scaler_update(&s, false);
    assert_true(s.scale == 0x1p128);
    assert_int_equal(bad_steps_until(s, 0x1p127), 2);
}

/* DeepSpeed gives up at exactly `min`, and leaves the state as it was; a scale restored below is
 * lifted, as it is with Megatron. */
static void test_at_min(void **state) {
    (void)state;
    mezzo_scaler s = scaler_of((mezzo_scaler_config){.mode = MEZZO_SCALE_DEEPSPEED});
    s.scale = 1.0;
    s.hysteresis_tracker = 1;
    s.growth_tracker = 5;
    const mezzo_scaler was = s;
    assert_false(mezzo_scaler_update(&s, true));
    assert_memory_equal(&s, &was, sizeof s);
    assert_true(mezzo_scaler_update(&s, false)); /* and can go on from there */
    assert_int_equal(s.growth_tracker, 6);
    for (int r = 1; r < RULES; r++) {
        s = scaler_of((mezzo_scaler_config){.mode = rules[r].mode, .hysteresis = 1});
        s.scale = 0.25;
        assert_true(mezzo_scaler_update(&s, true));
        assert_true(s.scale == 1.0);
    }
}

/* The comparison with the interval is for equality: a tracker restored beyond a shorter interval
 * counts on and never grows the scale, until an overflow sets it back.  DeepSpeed's is a remainder,
 * and does grow. */
static void test_restored_beyond_the_interval(void **state) {
    (void)state;
    for (int r = 0; r < RULES; r++) {
        bool deepspeed = rules[r].mode == MEZZO_SCALE_DEEPSPEED;
        mezzo_scaler s = scaler_of((mezzo_scaler_config){rules[r].mode, .init = 64.0f,
                                                         .growth_interval = 5, .hysteresis = 1});
        s.growth_tracker = 6;
        for (int k = 1; k <= 100; k++) {
            mezzo_scaler_update(&s, false);
            assert_int_equal(s.growth_tracker, 6 + k);
        }
        assert_true(s.scale == (deepspeed ? 0x1p26 : 64.0)); /* 20 multiples of 5 in 6..105 */
        mezzo_scaler_update(&s, true);
        assert_int_equal(s.growth_tracker, 0);
        for (int k = 0; k < 5 + deepspeed; k++)
            mezzo_scaler_update(&s, false);
        assert_true(s.scale == (deepspeed ? 0x1p26 : 64.0));
    }
}

static void test_modes_without_a_rule(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        mezzo_scaler s = scaler_of((mezzo_scaler_config){
            .mode = k ? MEZZO_SCALE_STATIC : MEZZO_SCALE_NONE, .init = 1024.0f});
        for (int step = 0; step < 3000; step++)
            assert_true(mezzo_scaler_update(&s, step % 7 == 0));
        assert_true(s.scale == (k ? 1024.0 : 1.0));
        assert_int_equal(s.growth_tracker, 0);
    }
}

/* What a mode does not read is 0 in its state, whatever was given; what is left out is the peer's.
 */
static void test_defaults(void **state) {
    (void)state;
    static const mezzo_scaler_config want[] = {
        {.mode = MEZZO_SCALE_NONE},
        {.mode = MEZZO_SCALE_STATIC, .init = 0x1p16f},
        {MEZZO_SCALE_PYTORCH, 0x1p16f, 2.0f, 0.5f, 2000, .min = 0.0f},
        {MEZZO_SCALE_MEGATRON, 0x1p32f, 2.0f, 0.5f, 1000, .min = 1.0f, .hysteresis = 2},
        {MEZZO_SCALE_DEEPSPEED, 0x1p16f, 0.0f, 0.0f, 1000, .min = 1.0f, .hysteresis = 2},
        {MEZZO_SCALE_HEADROOM, 0x1p16f, 0.0f, 0.0f, 16, 0x1p-14f, 0x1p40f, .headroom = 3}};
    static const mezzo_scaler_config odd = {.init = 32.0f,
                                            .growth = 4.0f,
                                            .backoff = 0.25f,
                                            .growth_interval = 7,
                                            .min = 0.5f,
                                            .max = 64.0f,
                                            .headroom = 5,
                                            .hysteresis = 3,
                                            .consecutive_hysteresis = true,
                                            .skip_at_min = true};
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        const mezzo_scaler_config *w = &want[k];
        mezzo_scaler s = scaler_of((mezzo_scaler_config){.mode = w->mode});
        const mezzo_scaler_config *c = &s.config;
        assert_true(c->mode == w->mode && c->init == w->init && c->growth == w->growth &&
                    c->backoff == w->backoff && c->growth_interval == w->growth_interval &&
                    c->min == w->min && c->max == w->max && c->headroom == w->headroom &&
                    c->hysteresis == w->hysteresis && !c->consecutive_hysteresis &&
                    !c->skip_at_min);
        assert_true(s.scale == (w->init != 0.0f ? (double)w->init : 1.0));
        assert_true(s.growth_tracker == 0 && s.hysteresis_tracker == w->hysteresis);
        mezzo_scaler_config given = odd;
        given.mode = w->mode;
        s = scaler_of(given);
        c = &s.config;
        assert_true(c->init == (w->init != 0.0f ? odd.init : 0.0f));
        assert_true(c->growth == (w->growth != 0.0f ? odd.growth : 0.0f));
        assert_true(c->backoff == (w->backoff != 0.0f ? odd.backoff : 0.0f));
        assert_true(c->growth_interval == (w->growth_interval ? odd.growth_interval : 0));
        assert_true(c->min == (w->min != 0.0f ? odd.min : 0.0f));
        assert_true(c->max == (w->max != 0.0f ? odd.max : 0.0f));
        assert_int_equal(c->headroom, w->headroom ? odd.headroom : 0);
        assert_true(c->hysteresis == (w->hysteresis ? odd.hysteresis : 0));
        assert_int_equal(c->skip_at_min, w->mode == MEZZO_SCALE_DEEPSPEED);
        assert_int_equal(c->consecutive_hysteresis, w->mode == MEZZO_SCALE_DEEPSPEED);
    }
    assert_int_equal(scaler_of((mezzo_scaler_config){0}).config.mode, MEZZO_SCALE_PYTORCH);
}

static void test_ranges(void **state) {
    (void)state;
    static const struct {
        mezzo_scaler_config config;
        const char *message;
    } bad[] = {{{.init = 3.0f}, "scale 3 is not a power of two"},
               {{.init = -2.0f}, "power of two"},
               {{.init = INFINITY}, "power of two"},
               {{.init = NAN}, "power of two"},
               {{MEZZO_SCALE_STATIC, .init = 3.0f}, "power of two"},
               {{.growth = 1.0f}, "growth 1"},
               {{.growth = 1.5f}, "growth 1.5"},
               {{MEZZO_SCALE_MEGATRON, .growth = 3.0f}, "growth 3"},
               {{.backoff = 1.0f}, "backoff 1"},
               {{.backoff = 0.3f}, "backoff 0.3"},
               {{.growth_interval = -1}, "interval -1"},
               {{MEZZO_SCALE_DEEPSPEED, .growth_interval = -1}, "interval -1"},
               {{MEZZO_SCALE_MEGATRON, .min = 3.0f}, "min 3: a power of two"},
               {{MEZZO_SCALE_DEEPSPEED, .min = -1.0f}, "min -1"},
               {{MEZZO_SCALE_DEEPSPEED, .min = 131072.0f}, "at most init, which is 65536"},
               {{MEZZO_SCALE_MEGATRON, .init = 0.5f}, "min 1"},
               {{MEZZO_SCALE_MEGATRON, .hysteresis = -1}, "hysteresis -1"},
               {{MEZZO_SCALE_HEADROOM, .max = 3.0f}, "max 3: a power of two"},
               {{MEZZO_SCALE_HEADROOM, .max = 32.0f}, "at least init, which is 65536"},
               {{MEZZO_SCALE_HEADROOM, .min = 131072.0f}, "at most init"},
               {{MEZZO_SCALE_STATIC, .init = 0x1p-127f}, "beyond FP32"},
               {{MEZZO_SCALE_HEADROOM, .min = 0x1p-127f}, "beyond FP32"},
               {{MEZZO_SCALE_HEADROOM, .headroom = 25}, "headroom 25: 1 to 24"},
               {{MEZZO_SCALE_HEADROOM, .headroom = -1}, "headroom -1"},
               {{MEZZO_SCALE_HEADROOM, .growth_interval = -1}, "interval -1"},
               {{.mode = (mezzo_scale_mode)77}, "mode 77"}};
    mezzo_scaler scaler = scaler_of((mezzo_scaler_config){0});
    const mezzo_scaler untouched = scaler;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        assert_int_equal(mezzo_scaler_init(ctx, &scaler, &bad[k].config), MEZZO_INVALID_ARGUMENT);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, bad[k].message));
        assert_memory_equal(&scaler, &untouched, sizeof scaler);
    }
}

/* The gradients' largest magnitude before scaling, step by step; what FP16 makes of it. */
static mezzo_scale_evidence evidence_of(const mezzo_scaler *s, double max, bool measured) {
    mezzo_scale_evidence e = {.overflow = max * s->scale >= 65520.0};
    e.skipped = e.overflow;
    e.measured = measured;
    e.max = e.overflow ? 65504.0f : (float)(max * s->scale);
    return e;
}

/* Steps until the scale is back where it was, after 15 steps in which gradients are 2^14 times as
 * large; skips on the way. */
static int regain(mezzo_scale_mode mode, int *skips) {
    mezzo_scaler s = scaler_of((mezzo_scaler_config){.mode = mode});
    int step = 0;
    for (; step < 8000; step++) {
        mezzo_scale_evidence e = evidence_of(&s, 0x1p-9, step % 16 == 0);
        mezzo_scaler_observe(&s, &e);
    }
    double before = s.scale;
    *skips = 0;
    for (; step < 8015; step++) {
        mezzo_scale_evidence e = evidence_of(&s, 0x1p5, step % 16 == 0);
        *skips += e.skipped;
        mezzo_scaler_observe(&s, &e);
    }
    assert_true(s.scale < before);
    for (; s.scale < before && step < 100000; step++) {
        mezzo_scale_evidence e = evidence_of(&s, 0x1p-9, step % 16 == 0);
        *skips += e.skipped;
        mezzo_scaler_observe(&s, &e);
    }
    return step - 8015;
}

static void test_headroom_regains_the_scale(void **state) {
    (void)state;
    int skips, skips_pytorch;
    assert_true(regain(MEZZO_SCALE_HEADROOM, &skips) < 500);
    assert_true(regain(MEZZO_SCALE_PYTORCH, &skips_pytorch) > 5000);
    assert_true(skips <= skips_pytorch);
}

/* S* = 2^(floor(log2(65504 / a)) - 3) by hand. */
static void test_headroom_formula(void **state) {
    (void)state;
    static const struct {
        double max, want;               /* of the unscaled gradients; the scale it ends at */
    } cases[] = {{1.0, 0x1p12},         /* floor(log2 65504) = 15 */
                 {65504.0, 0x1p-3},     /* 0 - 3 */
                 {65504.0 * 2, 0x1p-4}, /* the floor is below 1 */
                 {0x1p-20, 0x1p32},     {0x1p-40, 0x1p40}, /* the cap */
                 {0x1p30, 0x1p-14},                        /* the least */
                 {0.0, 0x1p40}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        mezzo_scaler s = scaler_of((mezzo_scaler_config){.mode = MEZZO_SCALE_HEADROOM});
        for (int step = 0; step < 2000; step++) {
            mezzo_scale_evidence e = evidence_of(&s, cases[k].max, step % 16 == 0);
            mezzo_scaler_observe(&s, &e);
        }
        assert_true(s.scale == cases[k].want);
    }
}

/* What is not an overflow of gradients leaves the scale alone; so does a step without figures. */
static void test_headroom_causes(void **state) {
    (void)state;
    mezzo_scaler s = scaler_of((mezzo_scaler_config){.mode = MEZZO_SCALE_HEADROOM});
    const mezzo_scaler start = s;
    mezzo_scaler_observe(&s, &(mezzo_scale_evidence){.skipped = true});
    mezzo_scaler_observe(&s, &(mezzo_scale_evidence){.skipped = true, .measured = true});
    mezzo_scaler_observe(&s, &(mezzo_scale_evidence){.max = 60000.0f});
    assert_memory_equal(&s, &start, sizeof s);
    mezzo_scaler_update(&s, false);
    assert_memory_equal(&s, &start, sizeof s);
    /* One overflow is a measurement of at least 65520: 2^-1 - 3 bits. */
    mezzo_scaler_update(&s, true);
    assert_true(s.scale == 0x1p12);
    /* Far below the largest value it rises by 2, and by 16 where digits are lost. */
    s = start;
    mezzo_scaler_observe(&s, &(mezzo_scale_evidence){.measured = true, .max = 1.0f});
    assert_true(s.scale == 0x1p17);
    s = start;
    mezzo_scaler_observe(&s,
                         &(mezzo_scale_evidence){.measured = true, .max = 1.0f, .underflow = 0.1f});
    assert_true(s.scale == 0x1p20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_trace),
        cmocka_unit_test(test_small_traces),
        cmocka_unit_test(test_traps),
        cmocka_unit_test(test_at_min),
        cmocka_unit_test(test_restored_beyond_the_interval),
        cmocka_unit_test(test_modes_without_a_rule),
        cmocka_unit_test(test_headroom_regains_the_scale),
        cmocka_unit_test(test_headroom_formula),
        cmocka_unit_test(test_headroom_causes),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
