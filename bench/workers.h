/* A fixed set of threads that run a task together, and a clock. */
#ifndef BENCH_WORKERS_H
#define BENCH_WORKERS_H

#include <stdbool.h>

typedef void worker_task(void *user, int worker);

/* CPUs that this process may use. */
int workers_allowed(void);
/* `count` workers, the caller among them; ends the program if the system has no threads. */
void workers_start(int count);
void workers_stop(void);
/* Run the task on the first `count` of them, and wait for all. */
void workers_run(int count, worker_task *task, void *user);

double now_seconds(void);

#endif
