#include "backend/ref/ref.h"

#include "backend/host.h"

/* A handle is the complement of the address: whoever takes it for host memory crashes at once, as
 * he would on a device. */
static void *address(void *handle) {
    return (void *)~(uintptr_t)handle;
}

static mezzo_status buffer_create(mzi_backend *backend, uint64_t bytes, mzi_buffer *out) {
    void *memory = mzi_alloc(backend->ctx, bytes ? bytes : 1);
    if (!memory)
        return mzi_out_of_memory(backend->ctx, bytes, "a buffer");
    *out = (mzi_buffer){address(memory), bytes};
    return MEZZO_OK;
}

static void buffer_destroy(mzi_backend *backend, mzi_buffer *buffer) {
    if (buffer->handle)
        mzi_free(backend->ctx, address(buffer->handle), buffer->bytes ? buffer->bytes : 1);
    *buffer = (mzi_buffer){0};
}

static mezzo_status choose(mzi_target *target, const mzi_call *call, mzi_choice *out) {
    mzi_host_choose((const mzi_host *)target, call, out);
    return MEZZO_OK;
}

static void release(mzi_target *target, mzi_choice *choice) {
    (void)target;
    *choice = (mzi_choice){0};
}

static const char *versions(const mzi_target *target) {
    (void)target;
    return "ref";
}

static void destroy(mzi_backend *backend) {
    mzi_free(backend->ctx, backend, sizeof(mzi_host));
}

mezzo_status mzi_ref_backend_create(mzi_backend **out, mezzo_ctx *ctx) {
    mzi_host *host = mzi_alloc(ctx, sizeof *host);
    if (!host)
        return mzi_out_of_memory(ctx, sizeof *host, "a backend");
    host->base.target = (mzi_target){.name = "ref",
                                     .has_f64 = true,
                                     .no_bf16 = "no BF16 instructions on the device ref",
                                     .versions = versions,
                                     .choose = choose,
                                     .release = release};
    host->base.ctx = ctx;
    host->base.destroy = destroy;
    host->base.buffer_create = buffer_create;
    host->base.buffer_destroy = buffer_destroy;
    host->isa = MEZZO_ISA_REF;
    host->address = address;
    mzi_host_init(host);
    *out = &host->base;
    return MEZZO_OK;
}
