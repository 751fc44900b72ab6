/* For each test a context and a folder of its own.  What a test leaves allocated fails it. */
#ifndef TESTS_UNIT_FIXTURE_H
#define TESTS_UNIT_FIXTURE_H

#include "base/ctx.h"
#include "unit/tempdir.h"

static mezzo_ctx *ctx;
static char folder[256];
static uint64_t held; /* by the context itself */

static inline int fixture_begin(void **state) {
    (void)state;
    mezzo_ctx_config config = {.threads = 1};
    tempdir_make(folder);
    if (mezzo_ctx_create(&ctx, &config, NULL) != MEZZO_OK)
        return -1;
    held = mezzo_ctx_memory(ctx).bytes_used;
    return 0;
}
static inline int fixture_end(void **state) {
    (void)state;
    bool leaked = mezzo_ctx_memory(ctx).bytes_used != held;
    mezzo_ctx_destroy(ctx);
    tempdir_remove(folder);
    return leaked ? -1 : 0;
}

#endif
