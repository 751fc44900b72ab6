#include "workers.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    WORKERS_MAX = 1024,
    LOOKS = 20000 /* some 50 us */
};

/* One task at a time: a generation starts it.  Both sides look for a while before they sleep:
 * waking a thread takes as long as a small product. */
static struct {
    pthread_t threads[WORKERS_MAX];
    int numbers[WORKERS_MAX];
    int count, wanted;
    _Atomic int busy;
    _Atomic long generation;
    bool ends;
    worker_task *task;
    void *user;
    pthread_mutex_t mutex;
    pthread_cond_t begins, done;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER,
          .begins = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int workers_allowed(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static void *serve(void *arg) {
    int worker = *(const int *)arg;
    long seen = 0;
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
        pthread_mutex_unlock(&pool.mutex);
        for (int k = 0; k < LOOKS && atomic_load(&pool.generation) == seen; k++)
            continue;
        pthread_mutex_lock(&pool.mutex);
        while (pool.generation == seen && !pool.ends)
            pthread_cond_wait(&pool.begins, &pool.mutex);
        if (pool.ends)
            break;
        seen = pool.generation;
        if (worker >= pool.wanted)
            continue;
        worker_task *task = pool.task;
        pthread_mutex_unlock(&pool.mutex);
        task(pool.user, worker);
        pthread_mutex_lock(&pool.mutex);
        if (atomic_fetch_sub(&pool.busy, 1) == 1)
            pthread_cond_signal(&pool.done);
    }
    pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

void workers_start(int count) {
    pool.count = count < WORKERS_MAX ? count : WORKERS_MAX;
    for (int k = 1; k < pool.count; k++) {
        pool.numbers[k] = k;
        if (pthread_create(&pool.threads[k], NULL, serve, &pool.numbers[k]) != 0) {
            fprintf(stderr, "no thread %d of %d\n", k + 1, pool.count);
            exit(1);
        }
    }
}

void workers_stop(void) {
    pthread_mutex_lock(&pool.mutex);
    pool.ends = true;
    pthread_cond_broadcast(&pool.begins);
    pthread_mutex_unlock(&pool.mutex);
    for (int k = 1; k < pool.count; k++)
        pthread_join(pool.threads[k], NULL);
}

void workers_run(int count, worker_task *task, void *user) {
    pthread_mutex_lock(&pool.mutex);
    pool.task = task;
    pool.user = user;
    pool.wanted = count;
    pool.busy = count - 1;
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.begins);
    pthread_mutex_unlock(&pool.mutex);
    task(user, 0);
    for (int k = 0; k < LOOKS && atomic_load(&pool.busy) > 0; k++)
        continue;
    pthread_mutex_lock(&pool.mutex);
    while (pool.busy > 0)
        pthread_cond_wait(&pool.done, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
}
