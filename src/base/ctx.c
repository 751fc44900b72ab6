/* Creating and destroying the context. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/pages.h"

#define THREADS_MAX 1024

static void *default_alloc(void *user, size_t bytes, size_t align) {
    (void)user;
    void *memory;
    if (mzi_pages_suit(bytes))
        return mzi_pages_take(bytes);
    return posix_memalign(&memory, align, bytes) == 0 ? memory : NULL;
}

static void default_free(void *user, void *memory, size_t bytes) {
    (void)user;
    if (mzi_pages_suit(bytes))
        mzi_pages_return(memory, bytes);
    else
        free(memory);
}

static mezzo_status check(mezzo_ctx *ctx, const mezzo_ctx_config *config) {
    if (!config->allocator.alloc != !config->allocator.free)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "the allocator has only one of alloc and free; set both, or neither for the "
                 "C library's");
    if (config->threads < 0 || config->threads > THREADS_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "threads is %d; give 1 to %d, or 0 for the CPUs that this process may use",
                 config->threads, THREADS_MAX);
    int isa = (int)config->isa;
    if (isa < MEZZO_ISA_AUTO || isa > MEZZO_ISA_AVX512_BF16)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "isa is %d; it is none of the instruction sets", isa);
    if (config->isa > mzi_cpu_isa())
        MZI_FAIL(ctx, MEZZO_UNSUPPORTED,
                 "this CPU cannot run %s; the most it can is %s (auto chooses that)",
                 mezzo_isa_name(config->isa), mezzo_isa_name(mzi_cpu_isa()));
    return MEZZO_OK;
}

static int thread_count(const mezzo_ctx_config *config) {
    if (config->threads > 0)
        return config->threads;
    int cpus = mzi_cpu_count();
    return cpus < THREADS_MAX ? cpus : THREADS_MAX;
}

/* `first` lives on the caller's stack and does the checks and the first allocation; the context is
 * moved into that allocation before anything can hold its address. */
static mezzo_status create(mezzo_ctx **out, mezzo_ctx *first, const mezzo_ctx_config *config) {
    MZI_TRY(check(first, config));
    first->allocator = config->allocator;
    if (!first->allocator.alloc)
        first->allocator = (mezzo_allocator){default_alloc, default_free, NULL};
    mezzo_ctx *ctx = mzi_alloc(first, sizeof *ctx);
    if (!ctx)
        return mzi_out_of_memory(first, sizeof *ctx, "the context");
    ctx->allocator = first->allocator;
    ctx->has_pages = first->allocator.alloc == default_alloc;
    ctx->log = config->log;
    ctx->log_user = config->log_user;
    ctx->isa = config->isa == MEZZO_ISA_AUTO ? mzi_cpu_isa() : config->isa;
    ctx->bytes_used = first->bytes_used;
    ctx->bytes_used_max = first->bytes_used_max;
    ctx->alloc_count = first->alloc_count;
    mzi_error_clear(ctx);
    mezzo_status status = mzi_team_create(&ctx->team, ctx, thread_count(config));
    if (status != MEZZO_OK) {
        first->error = ctx->error;
        mezzo_ctx_destroy(ctx);
        return status;
    }
    *out = ctx;
    return MEZZO_OK;
}

mezzo_status mezzo_ctx_create(mezzo_ctx **out, const mezzo_ctx_config *config, mezzo_error *error) {
    static const mezzo_ctx_config defaults;
    mezzo_ctx first;
    memset(&first, 0, sizeof first);
    mzi_error_clear(&first);
    mezzo_status status = create(out, &first, config ? config : &defaults);
    if (error)
        *error = first.error;
    return status;
}

void mezzo_ctx_destroy(mezzo_ctx *ctx) {
    if (!ctx)
        return;
    mzi_team_destroy(ctx->team, ctx);
    mezzo_allocator allocator = ctx->allocator;
    allocator.free(allocator.user, ctx, sizeof *ctx);
}

const mezzo_error *mezzo_ctx_error(const mezzo_ctx *ctx) {
    return &ctx->error;
}

mezzo_memory_use mezzo_ctx_memory(const mezzo_ctx *ctx) {
    return (mezzo_memory_use){atomic_load(&ctx->bytes_used), atomic_load(&ctx->bytes_used_max),
                              atomic_load(&ctx->alloc_count)};
}

mezzo_isa mezzo_ctx_isa(const mezzo_ctx *ctx) {
    return ctx->isa;
}

int mezzo_ctx_threads(const mezzo_ctx *ctx) {
    return mzi_team_size(ctx->team);
}
