/* The shim in a build without oneDNN. */
#include "backend/cpu/dnnl.h"

#if !MZI_HAVE_DNNL

const char *mzi_dnnl_version(void) {
    return "none";
}

mezzo_status mzi_dnnl_create(mzi_dnnl **out, mezzo_ctx *ctx, mezzo_isa isa, int workers) {
    (void)ctx;
    (void)isa;
    (void)workers;
    *out = NULL;
    return MEZZO_OK;
}

void mzi_dnnl_destroy(mzi_dnnl *dnnl) {
    (void)dnnl;
}

bool mzi_dnnl_has_bf16(const mzi_dnnl *dnnl) {
    (void)dnnl;
    return false;
}

bool mzi_dnnl_takes(mzk_family family) {
    (void)family;
    return false;
}

mezzo_status mzi_dnnl_layout(mzi_dnnl *dnnl, const mzi_call *call, int operand, mzi_layout *out) {
    (void)dnnl;
    (void)call;
    (void)operand;
    *out = (mzi_layout){0};
    return MEZZO_OK;
}

mezzo_status mzi_dnnl_prepare(mzi_dnnl *dnnl, const mzi_call *call, mzi_choice *choice) {
    (void)dnnl;
    (void)call;
    *choice = (mzi_choice){0};
    return MEZZO_OK;
}

void mzi_dnnl_release(mzi_dnnl_call *prepared) {
    (void)prepared;
}

void mzi_dnnl_run(void *prepared, int worker, const mzk_args *args, void *scratch, int64_t begin,
                  int64_t end) {
    (void)prepared;
    (void)worker;
    (void)args;
    (void)scratch;
    (void)begin;
    (void)end;
}

mezzo_status mzi_dnnl_check(mzi_dnnl *dnnl) {
    (void)dnnl;
    return MEZZO_OK;
}

#endif
