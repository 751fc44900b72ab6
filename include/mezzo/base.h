/* The context, errors, memory and logging: what every other header builds on.
 *
 * A context owns the allocator, the log callback, the worker team and the last
 * error message.  One thread at a time controls a context; two contexts share
 * nothing.  The library never aborts, exits, prints, reads the environment or
 * keeps mutable globals. */
#ifndef MEZZO_BASE_H
#define MEZZO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MEZZO_API __attribute__((visibility("default")))
#define MEZZO_MUST_CHECK __attribute__((warn_unused_result))
#define MEZZO_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))

/* One line a status: name and what it means. */
#define MEZZO_STATUS_MAP(X)                                                                        \
    X(OK, "success")                                                                               \
    X(FAILURE, "the operation failed")                                                             \
    X(INVALID_ARGUMENT, "an argument is outside its documented range")                             \
    X(OUT_OF_MEMORY, "memory exhausted, or a plan larger than the memory allowed")                 \
    X(IO, "a file or directory could not be read or written")                                      \
    X(BUSY, "the run directory is in use, or already holds a run")                                 \
    X(CONFIG, "the configuration is invalid")                                                      \
    X(DATA, "data or checkpoint missing or corrupt")                                               \
    X(UNSUPPORTED, "this machine or build cannot do what was asked")                               \
    X(NUMERICS, "training cannot go on: the numbers are beyond repair")                            \
    X(DOWNGRADE, "strict mode: what would run is not what was asked for")                          \
    X(INTERRUPTED, "stopped on request")

typedef enum mezzo_status {
#define X(name, text) MEZZO_##name,
    MEZZO_STATUS_MAP(X)
#undef X
} mezzo_status;

/* "OUT_OF_MEMORY"; never null. */
MEZZO_API const char *mezzo_status_name(mezzo_status status);
/* The sentence beside the name in MEZZO_STATUS_MAP; never null. */
MEZZO_API const char *mezzo_status_text(mezzo_status status);

/* Where an error happened and what was wrong, with the values involved. */
typedef struct mezzo_error {
    mezzo_status status;
    int line;
    const char *file; /* static storage */
    char text[1000];
} mezzo_error;

typedef enum mezzo_log_level {
    MEZZO_LOG_DEBUG,
    MEZZO_LOG_INFO,
    MEZZO_LOG_WARNING,
    MEZZO_LOG_ERROR
} mezzo_log_level;

/* Called on the controlling thread with one message, without a newline.
 * `text` is valid during the call. */
typedef void mezzo_log_fn(void *user, mezzo_log_level level, const char *text);

/* Where memory comes from.  `alloc` returns `bytes` bytes aligned to `align` (a power of two), or
 * null; `free` gets what `alloc` returned, with the same `bytes`.  Both may be called from any
 * thread. */
typedef struct mezzo_allocator {
    void *(*alloc)(void *user, size_t bytes, size_t align);
    void (*free)(void *user, void *memory, size_t bytes);
    void *user;
} mezzo_allocator;

/* Instruction sets that kernels are written for; each includes the ones before it. */
typedef enum mezzo_isa {
    MEZZO_ISA_AUTO,       /* the best that this CPU has                      */
    MEZZO_ISA_REF,        /* plain C                                         */
    MEZZO_ISA_AVX2,       /* AVX2, FMA, F16C                                 */
    MEZZO_ISA_AVX512,     /* AVX-512 F, BW, CD, DQ, VL                       */
    MEZZO_ISA_AVX512_BF16 /* and the BF16 dot product and conversion         */
} mezzo_isa;

/* "avx512_bf16"; never null. */
MEZZO_API const char *mezzo_isa_name(mezzo_isa isa);

typedef struct mezzo_ctx mezzo_ctx;

/* A zeroed struct means all defaults. */
typedef struct mezzo_ctx_config {
    mezzo_allocator allocator; /* zero: the C library's                                       */
    mezzo_log_fn *log;         /* null: silence                                               */
    void *log_user;
    int threads;   /* workers, the caller among them; 0: the CPUs allowed by affinity and cgroup */
    mezzo_isa isa; /* the highest instruction set that may be used                            */
} mezzo_ctx_config;

/* Create a context; `*out` is owned by the caller, and untouched on failure.  `config` may be null.
 * UNSUPPORTED if the CPU lacks `config->isa`; INVALID_ARGUMENT if threads is outside 0..1024.
 * There is no context yet to keep the message, so it goes to `*error` if that is not null. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_ctx_create(mezzo_ctx **out,
                                                         const mezzo_ctx_config *config,
                                                         mezzo_error *error);

/* Everything created on the context must be destroyed before it.  Null is allowed. */
MEZZO_API void mezzo_ctx_destroy(mezzo_ctx *ctx);

/* The last error of this context; its status is MEZZO_OK if none happened.  Valid until the next
 * call that takes the context. */
MEZZO_API const mezzo_error *mezzo_ctx_error(const mezzo_ctx *ctx);

/* Bytes now held from the allocator, and calls made to it so far. */
typedef struct mezzo_memory_use {
    uint64_t bytes_used;
    uint64_t bytes_used_max;
    uint64_t alloc_count;
} mezzo_memory_use;
MEZZO_API mezzo_memory_use mezzo_ctx_memory(const mezzo_ctx *ctx);

/* The instruction set in use (never AUTO) and the number of workers. */
MEZZO_API mezzo_isa mezzo_ctx_isa(const mezzo_ctx *ctx);
MEZZO_API int mezzo_ctx_threads(const mezzo_ctx *ctx);

/* "0.1.0" */
MEZZO_API const char *mezzo_version(void);

#ifdef __cplusplus
}
#endif
#endif
