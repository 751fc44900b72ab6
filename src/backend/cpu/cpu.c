#include "backend/cpu/cpu.h"

#include <string.h>

#include "backend/cpu/dnnl.h"
#include "backend/host.h"

typedef struct cpu_backend {
    mzi_host host;  /* first */
    mzi_dnnl *dnnl; /* null: our kernels only */
    char versions[64], no_bf16[64];
} cpu_backend;

static void *address(void *handle) {
    return handle;
}

static mezzo_status buffer_create(mzi_backend *backend, uint64_t bytes, mzi_buffer *out) {
    void *memory = mzi_alloc(backend->ctx, bytes ? bytes : 1);
    if (!memory)
        return mzi_out_of_memory(backend->ctx, bytes, "a buffer");
    *out = (mzi_buffer){memory, bytes};
    return MEZZO_OK;
}

static void buffer_destroy(mzi_backend *backend, mzi_buffer *buffer) {
    mzi_free(backend->ctx, buffer->handle, buffer->bytes ? buffer->bytes : 1);
    *buffer = (mzi_buffer){0};
}

/* Our own product, where it is the faster one: not for a few rows, which do not pay for packing. */
static bool by_own(const cpu_backend *cpu, const mzi_call *call) {
    enum {
        ROWS_MIN = 32
    };
    const mzk_matmul_params *p = &call->p.matmul;
    return call->family == MZK_matmul && cpu->host.isa >= MEZZO_ISA_AVX512 && p->M >= ROWS_MIN &&
           p->N >= ROWS_MIN && p->K >= ROWS_MIN;
}

static bool gives_stats(const mzi_target *target, const mzi_call *call) {
    return by_own((const cpu_backend *)target, call);
}

static bool by_dnnl(const cpu_backend *cpu, const mzi_call *call) {
    return cpu->dnnl && mzi_dnnl_takes(call->family) && !by_own(cpu, call);
}

static mezzo_status choose(mzi_target *target, const mzi_call *call, mzi_choice *out) {
    cpu_backend *cpu = (cpu_backend *)target;
    if (!by_dnnl(cpu, call)) {
        mzi_host_choose(&cpu->host, call, out);
        return MEZZO_OK;
    }
    *out = (mzi_choice){0};
    return mzi_dnnl_prepare(cpu->dnnl, call, out);
}

static mezzo_status layout(mzi_target *target, const mzi_call *call, int operand, mzi_layout *out) {
    cpu_backend *cpu = (cpu_backend *)target;
    *out = (mzi_layout){0};
    return by_dnnl(cpu, call) ? mzi_dnnl_layout(cpu->dnnl, call, operand, out) : MEZZO_OK;
}

static void release(mzi_target *target, mzi_choice *choice) {
    (void)target;
    mzi_dnnl_release(choice->prepared);
    *choice = (mzi_choice){0};
}

static mezzo_status check(mzi_host *host) {
    cpu_backend *cpu = (cpu_backend *)host;
    return cpu->dnnl ? mzi_dnnl_check(cpu->dnnl) : MEZZO_OK;
}

static const char *versions(const mzi_target *target) {
    return ((const cpu_backend *)target)->versions;
}

static void destroy(mzi_backend *backend) {
    mzi_dnnl_destroy(((cpu_backend *)backend)->dnnl);
    mzi_free(backend->ctx, backend, sizeof(cpu_backend));
}

static void describe(cpu_backend *cpu) {
    mezzo_isa isa = cpu->host.isa;
    mzi_format(cpu->versions, sizeof cpu->versions, "%s oneDNN %s", mezzo_isa_name(isa),
               cpu->dnnl ? mzi_dnnl_version() : "unused");
    /* Without oneDNN products are our own, and convolutions plain C in either type. */
    if (isa >= MEZZO_ISA_AVX512_BF16 && (!cpu->dnnl || mzi_dnnl_has_bf16(cpu->dnnl)))
        return;
    mzi_format(cpu->no_bf16, sizeof cpu->no_bf16,
               isa < MEZZO_ISA_AVX512_BF16 ? "no BF16 instructions in %s"
                                           : "oneDNN is held below BF16 products (%s)",
               mezzo_isa_name(isa));
    cpu->host.base.target.no_bf16 = cpu->no_bf16;
}

mezzo_status mzi_cpu_backend_create(mzi_backend **out, mezzo_ctx *ctx) {
    cpu_backend *cpu = mzi_alloc(ctx, sizeof *cpu);
    if (!cpu)
        return mzi_out_of_memory(ctx, sizeof *cpu, "a backend");
    mzi_backend *base = &cpu->host.base;
    base->target = (mzi_target){.name = "cpu",
                                .versions = versions,
                                .choose = choose,
                                .gives_stats = gives_stats,
                                .release = release,
                                .layout = layout};
    base->ctx = ctx;
    base->destroy = destroy;
    base->buffer_create = buffer_create;
    base->buffer_destroy = buffer_destroy;
    cpu->host.isa = ctx->isa;
    cpu->host.use_team = true;
    cpu->host.address = address;
    cpu->host.run_prepared = mzi_dnnl_run;
    cpu->host.check = check;
    mzi_host_init(&cpu->host);
    mezzo_status status = mzi_dnnl_create(&cpu->dnnl, ctx, ctx->isa, mzi_team_size(ctx->team));
    if (status != MEZZO_OK) {
        mzi_free(ctx, cpu, sizeof *cpu);
        return status;
    }
    describe(cpu);
    *out = base;
    return MEZZO_OK;
}
