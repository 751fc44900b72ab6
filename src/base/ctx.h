/* The context as the library sees it, error reporting, and memory. */
#ifndef MZI_BASE_CTX_H
#define MZI_BASE_CTX_H

#include <stdarg.h>
#include <stdatomic.h>

#include "base/cpu.h"
#include "base/metric.h"
#include "base/team.h"
#include "mezzo/base.h"

struct mezzo_ctx {
    mezzo_allocator allocator;
    bool has_pages; /* its large blocks come zeroed (base/pages.h) */
    mezzo_log_fn *log;
    void *log_user;
    mezzo_isa isa;
    mzi_team *team;
    mzi_metrics metrics;
    mezzo_error error;
    _Atomic uint64_t bytes_used, bytes_used_max, alloc_count;
};

/* Record an error where it happens, with the values involved.  The first error of a public call
 * stays: a caller only forwards.  Returns `status`. */
mezzo_status mzi_fail_at(mezzo_ctx *ctx, const char *file, int line, mezzo_status status,
                         const char *format, ...) MEZZO_PRINTF(5, 6);
mezzo_status mzi_fail_va(mezzo_ctx *ctx, const char *file, int line, mezzo_status status,
                         const char *format, va_list args);
/* Called on each recorded error, for `break mzi_error_breakpoint` only. */
void mzi_error_breakpoint(const mezzo_error *error);
void mzi_error_clear(mezzo_ctx *ctx); /* on entry of a public call that may fail */

#define MZI_FAIL(ctx, status, ...)                                                                 \
    do {                                                                                           \
        (void)mzi_fail_at((ctx), __FILE__, __LINE__, (status), __VA_ARGS__);                       \
        return (status);                                                                           \
    } while (0)
#define MZI_TRY(expression)                                                                        \
    do {                                                                                           \
        mezzo_status mzi_try_status = (expression);                                                \
        if (mzi_try_status != MEZZO_OK)                                                            \
            return mzi_try_status;                                                                 \
    } while (0)

void mzi_log(const mezzo_ctx *ctx, mezzo_log_level level, const char *format, ...)
    MEZZO_PRINTF(3, 4);

/* Kernels may read and write whole vectors of an aligned buffer's own bytes only; the alignment is
 * that of the widest vector and of a cache line. */
#define MZI_ALIGN 64

/* Memory from the context's allocator, zeroed, aligned to MZI_ALIGN; null if there is none (record
 * it with mzi_out_of_memory).  `mzi_free` takes null. */
void *mzi_alloc(mezzo_ctx *ctx, size_t bytes);
void mzi_free(mezzo_ctx *ctx, void *memory, size_t bytes);
mezzo_status mzi_out_of_memory(mezzo_ctx *ctx, size_t bytes, const char *what);
/* Grow `*memory` from `*capacity` to at least `count` elements; contents kept, the rest zeroed. */
mezzo_status mzi_grow(mezzo_ctx *ctx, void **memory, int32_t *capacity, int32_t count,
                      size_t element_bytes);
/* A copy of `text`, or null.  Freed by mzi_free_text. */
char *mzi_copy_text(mezzo_ctx *ctx, const char *text);
void mzi_free_text(mezzo_ctx *ctx, char *text);

/* snprintf that always ends the text and returns the number of characters kept. */
size_t mzi_format(char *out, size_t capacity, const char *format, ...) MEZZO_PRINTF(3, 4);

#endif
