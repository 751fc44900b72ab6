/* The worker team: a fixed set of threads that share loops cut into chunks.
 *
 * A loop over `rows` rows is cut into chunks of `grain` rows.  The cut depends on the shape alone,
 * never on the number of workers; chunks are claimed dynamically, so a busy core does not hold the
 * others up, and results do not depend on who runs what.  The caller is worker 0 and works too.
 * Workers spin for a moment after a loop, then sleep. */
#ifndef MZI_BASE_TEAM_H
#define MZI_BASE_TEAM_H

#include "mezzo/base.h"

typedef struct mzi_team mzi_team;

/* Runs rows [begin, end), which is one chunk; `worker` is in 0..team size - 1. */
typedef void mzi_chunk_fn(void *arg, int worker, int64_t begin, int64_t end);

mezzo_status mzi_team_create(mzi_team **out, mezzo_ctx *ctx, int workers);
void mzi_team_destroy(mzi_team *team, mezzo_ctx *ctx);
int mzi_team_size(const mzi_team *team);
/* Returns when every chunk is done.  A single chunk runs on the caller, without waking anyone.
 * Only the controlling thread may call this, and not from inside a chunk. */
void mzi_team_run(mzi_team *team, mzi_chunk_fn *fn, void *arg, int64_t rows, int64_t grain);

#endif
