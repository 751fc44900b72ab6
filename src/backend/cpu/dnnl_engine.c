#include <omp.h>
#include <stdatomic.h>

#include "backend/cpu/dnnl_shim.h"

const char *mzi_dnnl_version(void) {
#define TEXT(x) #x
#define JOIN(a, b, c) TEXT(a) "." TEXT(b) "." TEXT(c)
    return JOIN(DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH);
#undef JOIN
#undef TEXT
}

mezzo_status mzi_dnnl_fail(mzi_dnnl *dnnl, dnnl_status_t status, const char *what) {
    MZI_FAIL(dnnl->ctx, status == dnnl_out_of_memory ? MEZZO_OUT_OF_MEMORY : MEZZO_UNSUPPORTED,
             "oneDNN %s: status %d from %s", mzi_dnnl_version(), (int)status, what);
}

mezzo_status mzi_dnnl_check(mzi_dnnl *dnnl) {
    int failure = atomic_exchange_explicit(&dnnl->failure, dnnl_success, memory_order_relaxed);
    return failure == dnnl_success
               ? MEZZO_OK
               : mzi_dnnl_fail(dnnl, (dnnl_status_t)failure, "dnnl_primitive_execute");
}

int mzi_dnnl_enter(void) {
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    return threads;
}

void mzi_dnnl_leave(int threads) {
    omp_set_num_threads(threads);
}

static dnnl_cpu_isa_t dnnl_isa(mezzo_isa isa) {
    switch (isa) {
    case MEZZO_ISA_AUTO:
    case MEZZO_ISA_AVX512_BF16:
        return dnnl_cpu_isa_all;
    case MEZZO_ISA_AVX512:
        return dnnl_cpu_isa_avx512_core;
    case MEZZO_ISA_AVX2:
    case MEZZO_ISA_REF:
        return dnnl_cpu_isa_avx2;
    }
    return dnnl_cpu_isa_avx2;
}

mezzo_status mzi_dnnl_create(mzi_dnnl **out, mezzo_ctx *ctx, mezzo_isa isa, int workers) {
    *out = NULL;
    if (isa < MEZZO_ISA_AVX2)
        return MEZZO_OK;
    /* Refused after the first primitive of the process: then what is set must be no more than
     * asked. */
    if (isa < MEZZO_ISA_AVX512_BF16 && dnnl_set_max_cpu_isa(dnnl_isa(isa)) != dnnl_success &&
        dnnl_get_effective_cpu_isa() > dnnl_isa(isa))
        MZI_FAIL(ctx, MEZZO_UNSUPPORTED,
                 "instruction set %s: oneDNN already runs with more in this process; the limit is "
                 "one for the process, set it in the first context",
                 mezzo_isa_name(isa));
    mzi_dnnl *dnnl = mzi_alloc(ctx, sizeof *dnnl);
    if (!dnnl)
        return mzi_out_of_memory(ctx, sizeof *dnnl, "oneDNN's engine");
    dnnl->ctx = ctx;
    dnnl->workers = workers;
    dnnl->has_bf16 = isa >= MEZZO_ISA_AVX512_BF16 &&
                     dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core_bf16;
    dnnl->sums_in_blocks = isa >= MEZZO_ISA_AVX512;
    dnnl->cast = mzk_pick(MZK_cast, isa)->fn;
    dnnl_status_t status = dnnl_engine_create(&dnnl->engine, dnnl_cpu, 0);
    if (status != dnnl_success) {
        mezzo_status failed = mzi_dnnl_fail(dnnl, status, "dnnl_engine_create");
        mzi_free(ctx, dnnl, sizeof *dnnl);
        return failed;
    }
    *out = dnnl;
    return MEZZO_OK;
}

bool mzi_dnnl_has_bf16(const mzi_dnnl *dnnl) {
    return dnnl && dnnl->has_bf16;
}

void mzi_dnnl_destroy(mzi_dnnl *dnnl) {
    if (!dnnl)
        return;
    dnnl_engine_destroy(dnnl->engine);
    mzi_free(dnnl->ctx, dnnl, sizeof *dnnl);
}
