/* The worker team.  Loops write plain memory, so that ThreadSanitizer sees a missing order between
 * the workers and the caller. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/ctx.h"
#include "unit/cmocka_all.h"

static mezzo_ctx *create(int threads) {
    mezzo_ctx *ctx = NULL;
    assert_int_equal(mezzo_ctx_create(&ctx, &(mezzo_ctx_config){.threads = threads}, NULL),
                     MEZZO_OK);
    assert_int_equal(mzi_team_size(ctx->team), threads);
    return ctx;
}

#define ROWS_MAX 1000

typedef struct record {
    int times[ROWS_MAX];
    int64_t end_of[ROWS_MAX]; /* of the chunk that begins here; 0: none does */
    int worker_of[ROWS_MAX];
    int size;
} record;

static void note(void *arg, int worker, int64_t begin, int64_t end) {
    record *r = arg;
    r->end_of[begin] = end;
    r->worker_of[begin] = worker;
    for (int64_t row = begin; row < end; row++)
        r->times[row]++;
}

/* Every row once, in chunks whose borders depend on rows and grain alone. */
static void check_cut(mezzo_ctx *ctx, int64_t rows, int64_t grain) {
    record r;
    memset(&r, 0, sizeof r);
    mzi_team_run(ctx->team, note, &r, rows, grain);
    for (int64_t row = 0; row < ROWS_MAX; row++) {
        assert_int_equal(r.times[row], row < rows);
        int64_t end = row < rows && row % grain == 0 ? row + grain : 0;
        assert_int_equal(r.end_of[row], end < rows ? end : rows);
        assert_true(r.worker_of[row] >= 0 && r.worker_of[row] < mzi_team_size(ctx->team));
    }
}

static void test_cut(void **state) {
    (void)state;
    static const int sizes[] = {1, 2, 3, 7};
    static const int64_t rows[] = {0, 1, 2, 3, 16, 17, 100, 999, 1000};
    static const int64_t grains[] = {1, 2, 3, 16, 1000};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        mezzo_ctx *ctx = create(sizes[s]);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (size_t k = 0; k < sizeof grains / sizeof *grains; k++)
                check_cut(ctx, rows[i], grains[k]);
        mezzo_ctx_destroy(ctx);
    }
}

static void note_extent(void *arg, int worker, int64_t begin, int64_t end) {
    int64_t *extent = arg;
    assert_int_equal(worker, 0);
    extent[0] = begin;
    extent[1] = end;
    extent[2]++;
}

static void test_large_chunk(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(2);
    int64_t extent[3] = {0, 0, 0};
    mzi_team_run(ctx->team, note_extent, extent, INT64_MAX, INT64_MAX);
    assert_true(extent[0] == 0 && extent[1] == INT64_MAX && extent[2] == 1);
    mezzo_ctx_destroy(ctx);
}

typedef struct wide {
    _Atomic uint64_t rows, chunks;
} wide;

static void add_extent(void *arg, int worker, int64_t begin, int64_t end) {
    (void)worker;
    wide *w = arg;
    atomic_fetch_add(&w->rows, (uint64_t)(end - begin));
    atomic_fetch_add(&w->chunks, 1);
}

static void test_large_grain(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(2);
    wide w = {0, 0};
    mzi_team_run(ctx->team, add_extent, &w, INT64_MAX, INT64_MAX / 3);
    assert_true(w.rows == INT64_MAX && w.chunks == 4); /* 2^63 - 1 is 1 mod 3 */
    mezzo_ctx_destroy(ctx);
}

typedef struct inline_check {
    pthread_t caller;
    int worker;
    bool same_thread;
} inline_check;

static void note_thread(void *arg, int worker, int64_t begin, int64_t end) {
    (void)begin;
    (void)end;
    inline_check *check = arg;
    check->worker = worker;
    check->same_thread = pthread_equal(check->caller, pthread_self()) != 0;
}

static void test_one_chunk_is_inline(void **state) {
    (void)state;
    mezzo_ctx *ctx = create(4);
    for (int i = 0; i < 100; i++) {
        inline_check check = {pthread_self(), -1, false};
        mzi_team_run(ctx->team, note_thread, &check, 5, 5);
        assert_int_equal(check.worker, 0);
        assert_true(check.same_thread);
    }
    mezzo_ctx_destroy(ctx);
}

typedef struct meeting {
    int wanted;
    atomic_int present;
    atomic_int who[8];
} meeting;

/* A chunk that ends only when all chunks have begun: each needs a worker of its own. */
static void meet(void *arg, int worker, int64_t begin, int64_t end) {
    (void)begin;
    (void)end;
    meeting *m = arg;
    atomic_fetch_add(&m->who[worker], 1);
    atomic_fetch_add(&m->present, 1);
    while (atomic_load(&m->present) < m->wanted)
        sched_yield();
}

/* Whether the workers spin or sleep when the loop begins, as many come as there are chunks, each
 * once; were one wake-up lost, this would hang. */
static void check_meeting(mezzo_ctx *ctx, int chunks) {
    meeting m = {.wanted = chunks};
    mzi_team_run(ctx->team, meet, &m, chunks, 1);
    int present = 0;
    for (int worker = 0; worker < mzi_team_size(ctx->team); worker++) {
        int times = atomic_load(&m.who[worker]);
        assert_true(times == 0 || times == 1);
        present += times;
    }
    assert_int_equal(present, chunks);
}

static void test_enough_come(void **state) {
    (void)state;
    for (int threads = 2; threads <= 8; threads += 3) {
        mezzo_ctx *ctx = create(threads);
        for (int i = 0; i < 300; i++) {
            if (i % 20 == 0)
                usleep(2000); /* far longer than the spinning */
            check_meeting(ctx, 2 + i / 20 % (threads - 1));
        }
        mezzo_ctx_destroy(ctx);
    }
}

typedef struct chain {
    int64_t value[64];
    int64_t factor;
} chain;

static void step_chain(void *arg, int worker, int64_t begin, int64_t end) {
    (void)worker;
    chain *c = arg;
    for (int64_t i = begin; i < end; i++)
        c->value[i] = c->value[i] * 3 % 1000003 + c->factor;
}

/* Many short loops back to back: each reads what the one before wrote, perhaps on another worker,
 * and a field that the caller wrote in between. */
static void run_chain(mezzo_ctx *ctx, int loops, chain *c) {
    memset(c, 0, sizeof *c);
    for (int i = 0; i < loops; i++) {
        c->factor = i;
        mzi_team_run(ctx->team, step_chain, c, 64, 1 + i % 40);
        if (i % 1000 == 999)
            usleep(300);
    }
}

static void test_loops_follow_each_other(void **state) {
    (void)state;
    enum {
        LOOPS = 20000
    };
    chain expected, got;
    mezzo_ctx *ctx = create(1);
    run_chain(ctx, LOOPS, &expected);
    mezzo_ctx_destroy(ctx);
    for (int threads = 2; threads <= 5; threads++) {
        ctx = create(threads);
        uint64_t calls = mezzo_ctx_memory(ctx).alloc_count;
        run_chain(ctx, LOOPS, &got);
        assert_memory_equal(expected.value, got.value, sizeof got.value);
        assert_int_equal(mezzo_ctx_memory(ctx).alloc_count, calls);
        mezzo_ctx_destroy(ctx);
    }
}

typedef struct masks {
    meeting all;
    bool blocked[8];
} masks;

static void note_mask(void *arg, int worker, int64_t begin, int64_t end) {
    masks *m = arg;
    sigset_t set;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    m->blocked[worker] = sigismember(&set, SIGINT) == 1 && sigismember(&set, SIGTERM) == 1 &&
                         sigismember(&set, SIGUSR1) == 1 && sigismember(&set, SIGCHLD) == 1;
    meet(&m->all, worker, begin, end);
}

static void test_workers_block_signals(void **state) {
    (void)state;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    mezzo_ctx *ctx = create(3);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int number = 1; number < 32; number++)
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
    masks m = {.all.wanted = 3};
    mzi_team_run(ctx->team, note_mask, &m, 3, 1);
    assert_false(m.blocked[0]);
    assert_true(m.blocked[1] && m.blocked[2]);
    mezzo_ctx_destroy(ctx);
}

static void test_create_and_destroy(void **state) {
    (void)state;
    for (int i = 0; i < 200; i++) {
        mezzo_ctx *ctx = create(1 + i % 6);
        if (i % 2)
            check_cut(ctx, 50, 7);
        mezzo_ctx_destroy(ctx);
    }
}

static void test_two_teams(void **state) {
    (void)state;
    mezzo_ctx *a = create(3), *b = create(2);
    for (int i = 0; i < 200; i++) {
        check_cut(a, 100, 9);
        check_cut(b, 100, 4);
    }
    mezzo_ctx_destroy(a);
    check_cut(b, 100, 4);
    mezzo_ctx_destroy(b);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* Address space for some thread stacks, but not for a thousand of 8 MiB. */
static void test_threads_refused(void **state) {
    (void)state;
#ifdef SANITIZED
    skip(); /* the sanitizers need the address space themselves */
#endif
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit little = {(rlim_t)300 << 20, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
    mezzo_ctx *ctx = NULL;
    mezzo_error error;
    mezzo_status status = mezzo_ctx_create(&ctx, &(mezzo_ctx_config){.threads = 1000}, &error);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(status, MEZZO_FAILURE);
    assert_null(ctx);
    assert_non_null(strstr(error.text, "did not start"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_large_chunk),
        cmocka_unit_test(test_large_grain),
        cmocka_unit_test(test_one_chunk_is_inline),
        cmocka_unit_test(test_enough_come),
        cmocka_unit_test(test_loops_follow_each_other),
        cmocka_unit_test(test_workers_block_signals),
        cmocka_unit_test(test_create_and_destroy),
        cmocka_unit_test(test_two_teams),
        cmocka_unit_test(test_threads_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
