/* A backend: buffers, and programs that run a plan's calls.
 *
 * Buffers need not be the host's memory: data goes in and out by upload and download.  Work is
 * queued in order; download and finish wait for it. */
#ifndef MZI_BACKEND_BACKEND_H
#define MZI_BACKEND_BACKEND_H

#include "base/ctx.h"
#include "graph/plan.h"

typedef struct mzi_buffer {
    void *handle; /* the backend's own */
    uint64_t bytes;
} mzi_buffer;

typedef struct mzi_program mzi_program;

typedef struct mzi_backend {
    mzi_target target; /* first, so that a target of this backend is the backend */
    mezzo_ctx *ctx;
    void (*destroy)(struct mzi_backend *backend);
    /* Zeroed memory.  OUT_OF_MEMORY leaves `*out` untouched. */
    mezzo_status (*buffer_create)(struct mzi_backend *backend, uint64_t bytes, mzi_buffer *out);
    void (*buffer_destroy)(struct mzi_backend *backend, mzi_buffer *buffer); /* zeroed: allowed */
    /* Workers may upload at once to parts of a buffer that do not overlap. */
    mezzo_status (*upload)(struct mzi_backend *backend, mzi_buffer *buffer, uint64_t offset,
                           const void *data, uint64_t bytes);
    mezzo_status (*download)(struct mzi_backend *backend, const mzi_buffer *buffer, uint64_t offset,
                             void *data, uint64_t bytes);
    /* `arena` holds the values that the plan places there; `own[v]` the buffer of each other value
     * v (others are zeroed). */
    mezzo_status (*program_create)(struct mzi_backend *backend, const mzi_plan *plan,
                                   const mzi_buffer *arena, const mzi_buffer *own,
                                   mzi_program **out);
    void (*program_destroy)(struct mzi_backend *backend, mzi_program *program); /* null: allowed */
    /* Calls [first, last) of the plan; those of meters only if `meters`. */
    mezzo_status (*program_run)(struct mzi_backend *backend, mzi_program *program, int32_t first,
                                int32_t last, bool meters);
    /* Nanoseconds that a call has taken, in all runs so far. */
    int64_t (*program_ns)(struct mzi_backend *backend, const mzi_program *program, int32_t call);
    mezzo_status (*finish)(struct mzi_backend *backend);
} mzi_backend;

/* "cpu" (also if null) or "ref"; UNSUPPORTED names the device and the ones there are. */
mezzo_status mzi_backend_create(mzi_backend **out, mezzo_ctx *ctx, const char *device);

#endif
