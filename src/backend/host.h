/* What the backends on host memory share: programs that run a plan's calls on the worker team, or
 * on the caller alone. */
#ifndef MZI_BACKEND_HOST_H
#define MZI_BACKEND_HOST_H

#include "backend/backend.h"

typedef struct mzi_host mzi_host;

/* Runs rows [begin, end) of a prepared call; `scratch` is the worker's own. */
typedef void mzi_host_fn(void *prepared, int worker, const mzk_args *args, void *scratch,
                         int64_t begin, int64_t end);

struct mzi_host {
    mzi_backend base; /* first */
    mezzo_isa isa;    /* of the kernels */
    bool use_team;
    bool is_timed; /* program_ns has the time of each call; true unless a test wants to know its
                      cost */
    /* From a buffer's handle to memory. */
    void *(*address)(void *handle);
    /* Prepared calls (choice.prepared is not null) run through this; `check` reports, after a run,
     * what they could not return. */
    mzi_host_fn *run_prepared;
    mezzo_status (*check)(mzi_host *host);
};

/* Fill in the program functions of `host->base`. */
void mzi_host_init(mzi_host *host);
/* The kernel table's answer to a call. */
void mzi_host_choose(const mzi_host *host, const mzi_call *call, mzi_choice *out);

#endif
