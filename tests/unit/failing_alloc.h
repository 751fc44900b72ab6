/* An allocator that fails once, at its nth call. */
#ifndef TESTS_UNIT_FAILING_ALLOC_H
#define TESTS_UNIT_FAILING_ALLOC_H

#include <stdlib.h>

#include "unit/cmocka_all.h"

#include "mezzo/base.h"

typedef struct failing_alloc {
    int calls_left; /* the call that finds 0 here fails, and all behind it go through */
} failing_alloc;

static inline void *failing_alloc_take(void *user, size_t bytes, size_t align) {
    failing_alloc *f = user;
    return f->calls_left-- == 0 ? NULL : aligned_alloc(align, (bytes + align - 1) / align * align);
}
static inline void failing_alloc_return(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)bytes;
    free(memory);
}

/* Calls `attempt` until no allocation of it fails any more; each failure must be reported as such
 * and lose nothing.  `attempt` frees what it made.  Returns how many allocations it takes. */
static inline int failing_alloc_sweep(mezzo_status (*attempt)(mezzo_ctx *ctx)) {
    failing_alloc f = {.calls_left = INT32_MAX};
    mezzo_ctx_config config = {.threads = 1,
                               .allocator = {failing_alloc_take, failing_alloc_return, &f}};
    mezzo_ctx *ctx;
    assert_int_equal(mezzo_ctx_create(&ctx, &config, NULL), MEZZO_OK);
    uint64_t held = mezzo_ctx_memory(ctx).bytes_used;
    int nth = 0;
    for (bool done = false; !done; nth++) {
        f.calls_left = nth;
        mezzo_status status = attempt(ctx);
        done = f.calls_left >= 0;
        assert_int_equal(status, done ? MEZZO_OK : MEZZO_OUT_OF_MEMORY);
        assert_int_equal(mezzo_ctx_error(ctx)->status, status);
        assert_int_equal(mezzo_ctx_memory(ctx).bytes_used, held);
    }
    mezzo_ctx_destroy(ctx);
    return nth - 1;
}

#endif
