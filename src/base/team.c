/* The worker team.
 *
 * What is left of a loop is one atomic word, so that a worker that was held up can never take a
 * chunk of one loop for a chunk of another:
 *
 *    63               32 31                0
 *   |   loop number     |   chunks left     |
 *
 * A claim is a compare-and-swap that takes one off the lower half.  It can succeed only while a
 * chunk is left, and the caller writes the next loop's fields only when every chunk of this one is
 * done: so the fields read before a successful claim belong to the loop that was claimed from. They
 * are atomic because a late worker may read them while they are written; it then fails to claim. */
#include "base/team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "base/ctx.h"

/* A step of 10 ms holds hundreds of loops with some ten microseconds between them: a worker that
 * spins over such a gap saves a wake-up (5 to 50 microseconds each), one that sleeps after it
 * leaves the core to others in longer waits. */
#define SPIN_NS 40000
/* Looks at the word between two looks at the clock, which costs as much as several of them. */
#define LOOKS 32
/* Another program's thread on a worker's CPU takes turns with it, a few milliseconds each.  If a
 * turn ends inside of a chunk, all others wait for that chunk through the other's turn.  So a
 * worker offers its turn between two chunks, well before it would be taken from it: where nobody
 * wants it, that costs less than a microsecond. */
#define TURN_NS 500000
#define CHUNKS_MAX ((int64_t)UINT32_MAX)

typedef struct member {
    mzi_team *team;
    int worker;
    int64_t turn_ns; /* when it began */
    pthread_t thread;
} member;

struct mzi_team {
    _Alignas(MZI_ALIGN) _Atomic uint64_t left;
    _Alignas(MZI_ALIGN) _Atomic int64_t done; /* chunks finished; on another line than the claims */
    _Alignas(MZI_ALIGN) _Atomic(mzi_chunk_fn *) fn;
    _Atomic(void *) arg;
    _Atomic int64_t begin, end, grain, chunks;
    atomic_bool stop;
    atomic_bool caller_sleeps;
    atomic_int sleeping; /* workers */
    pthread_mutex_t mutex;
    pthread_cond_t loop_begins, loop_ends;
    bool spins;
    int workers;
    member members[]; /* 0 is the caller, whose thread is not ours */
};

static uint32_t loop_number(uint64_t left) {
    return (uint32_t)(left >> 32);
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static bool loop_has_begun(mzi_team *team, int64_t seen) {
    return loop_number(atomic_load(&team->left)) != (uint32_t)seen;
}

static bool loop_has_ended(mzi_team *team, int64_t chunks) {
    return atomic_load(&team->done) == chunks;
}

/* True as soon as `is_so` holds, false if it does not within SPIN_NS. */
static bool spin(mzi_team *team, bool (*is_so)(mzi_team *team, int64_t value), int64_t value) {
    if (!team->spins)
        return is_so(team, value);
    int64_t start = mzi_clock_ns();
    do {
        for (int look = 0; look < LOOKS; look++) {
            if (is_so(team, value))
                return true;
            relax();
        }
    } while (mzi_clock_ns() - start < SPIN_NS);
    return false;
}

/* Sleeping and waking: the sleeper announces itself, then looks once more; the waker changes what
 * the sleeper looks at, then looks for sleepers.  All four are sequentially consistent, so at least
 * one of the two sees the other.  The mutex closes the gap between the look and the wait. */
static uint32_t wait_for_loop(mzi_team *team, uint32_t seen) {
    if (!spin(team, loop_has_begun, seen)) {
        pthread_mutex_lock(&team->mutex);
        atomic_fetch_add(&team->sleeping, 1);
        while (!loop_has_begun(team, seen))
            pthread_cond_wait(&team->loop_begins, &team->mutex);
        atomic_fetch_sub(&team->sleeping, 1);
        pthread_mutex_unlock(&team->mutex);
    }
    return loop_number(atomic_load(&team->left));
}

static void wait_for_end(mzi_team *team, int64_t chunks) {
    if (spin(team, loop_has_ended, chunks))
        return;
    pthread_mutex_lock(&team->mutex);
    atomic_store(&team->caller_sleeps, true);
    while (!loop_has_ended(team, chunks))
        pthread_cond_wait(&team->loop_ends, &team->mutex);
    atomic_store(&team->caller_sleeps, false);
    pthread_mutex_unlock(&team->mutex);
}

static void wake_workers(mzi_team *team, int64_t wanted) {
    int sleeping = atomic_load(&team->sleeping);
    if (sleeping == 0)
        return;
    pthread_mutex_lock(&team->mutex);
    pthread_mutex_unlock(&team->mutex);
    if (wanted >= sleeping) {
        pthread_cond_broadcast(&team->loop_begins);
        return;
    }
    for (int64_t i = 0; i < wanted; i++)
        pthread_cond_signal(&team->loop_begins);
}

static void finish_chunk(mzi_team *team, int64_t chunks) {
    if (atomic_fetch_add(&team->done, 1) + 1 < chunks || !atomic_load(&team->caller_sleeps))
        return;
    pthread_mutex_lock(&team->mutex);
    pthread_mutex_unlock(&team->mutex);
    pthread_cond_signal(&team->loop_ends);
}

static void offer_turn(member *self) {
    int64_t now = mzi_clock_ns();
    if (now - self->turn_ns < TURN_NS)
        return;
    sched_yield();
    self->turn_ns = mzi_clock_ns();
}

/* Claim and run chunks until none is left.  The caller keeps its turn: without it no loop ends. */
static void work(mzi_team *team, int worker) {
    uint64_t left = atomic_load(&team->left);
    while ((uint32_t)left > 0) {
        mzi_chunk_fn *fn = atomic_load_explicit(&team->fn, memory_order_relaxed);
        void *arg = atomic_load_explicit(&team->arg, memory_order_relaxed);
        int64_t begin = atomic_load_explicit(&team->begin, memory_order_relaxed);
        int64_t end = atomic_load_explicit(&team->end, memory_order_relaxed);
        int64_t grain = atomic_load_explicit(&team->grain, memory_order_relaxed);
        int64_t chunks = atomic_load_explicit(&team->chunks, memory_order_relaxed);
        if (!atomic_compare_exchange_weak(&team->left, &left, left - 1))
            continue;
        int64_t first = begin + (chunks - (int64_t)(uint32_t)left) * grain;
        fn(arg, worker, first, end - first > grain ? first + grain : end);
        finish_chunk(team, chunks);
        if (worker > 0)
            offer_turn(&team->members[worker]);
        left = atomic_load(&team->left);
    }
}

static void begin_loop(mzi_team *team, int64_t chunks) {
    uint64_t number = loop_number(atomic_load(&team->left)) + (uint64_t)1;
    atomic_store(&team->left, number << 32 | (uint64_t)chunks);
}

static void *worker_main(void *arg) {
    member *self = arg;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_for_loop(self->team, seen);
        if (atomic_load(&self->team->stop))
            return NULL;
        work(self->team, self->worker);
    }
}

static void run_alone(mzi_chunk_fn *fn, void *arg, int64_t rows, int64_t grain) {
    for (int64_t begin = 0, end; begin < rows; begin = end) {
        end = rows - begin > grain ? begin + grain : rows;
        fn(arg, 0, begin, end);
    }
}

static void run_shared(mzi_team *team, mzi_chunk_fn *fn, void *arg, int64_t begin, int64_t end,
                       int64_t grain) {
    int64_t chunks = (end - begin - 1) / grain + 1;
    atomic_store_explicit(&team->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&team->arg, arg, memory_order_relaxed);
    atomic_store_explicit(&team->begin, begin, memory_order_relaxed);
    atomic_store_explicit(&team->end, end, memory_order_relaxed);
    atomic_store_explicit(&team->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&team->chunks, chunks, memory_order_relaxed);
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    begin_loop(team, chunks);
    wake_workers(team, chunks - 1);
    work(team, 0);
    wait_for_end(team, chunks);
}

void mzi_team_run(mzi_team *team, mzi_chunk_fn *fn, void *arg, int64_t rows, int64_t grain) {
    if (grain < 1)
        grain = 1;
    if (team->workers == 1 || rows <= grain) {
        run_alone(fn, arg, rows, grain);
        return;
    }
    /* The word counts 32 bits of chunks: a longer loop is run in parts, cut at the same places. */
    int64_t part = grain > INT64_MAX / CHUNKS_MAX ? INT64_MAX : grain * CHUNKS_MAX;
    for (int64_t begin = 0, end; begin < rows; begin = end) {
        end = rows - begin > part ? begin + part : rows;
        run_shared(team, fn, arg, begin, end, grain);
    }
}

int mzi_team_size(const mzi_team *team) {
    return team->workers;
}

static size_t team_bytes(int workers) {
    return sizeof(mzi_team) + (size_t)workers * sizeof(member);
}

/* Stop and join the workers before `count`, then free the team. */
static void dissolve(mzi_team *team, mezzo_ctx *ctx, int count) {
    atomic_store(&team->stop, true);
    begin_loop(team, 0);
    wake_workers(team, count);
    for (int worker = 1; worker < count; worker++)
        pthread_join(team->members[worker].thread, NULL);
    pthread_cond_destroy(&team->loop_ends);
    pthread_cond_destroy(&team->loop_begins);
    pthread_mutex_destroy(&team->mutex);
    mzi_free(ctx, team, team_bytes(team->workers));
}

mezzo_status mzi_team_create(mzi_team **out, mezzo_ctx *ctx, int workers) {
    mzi_team *team = mzi_alloc(ctx, team_bytes(workers));
    if (!team)
        return mzi_out_of_memory(ctx, team_bytes(workers), "the worker team");
    team->workers = workers;
    /* With more workers than CPUs, one that spins would hold up one that has work. */
    team->spins = workers <= mzi_cpu_count();
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->loop_begins, NULL);
    pthread_cond_init(&team->loop_ends, NULL);
    /* Threads inherit the mask: signals go to the program's own threads only. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = 0;
    int worker = 1;
    for (; worker < workers; worker++) {
        member *self = &team->members[worker];
        self->team = team;
        self->worker = worker;
        failure = pthread_create(&self->thread, NULL, worker_main, self);
        if (failure)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure) {
        dissolve(team, ctx, worker);
        char reason[128];
        MZI_FAIL(ctx, MEZZO_FAILURE,
                 "worker thread %d of %d did not start: %s; ask for fewer threads", worker,
                 workers - 1, strerror_r(failure, reason, sizeof reason));
    }
    *out = team;
    return MEZZO_OK;
}

void mzi_team_destroy(mzi_team *team, mezzo_ctx *ctx) {
    if (team)
        dissolve(team, ctx, team->workers);
}
