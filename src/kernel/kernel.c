/* The kernel table and the choice from it. */
#include "kernel/table.h"

#define NEEDS_ref MEZZO_ISA_REF
#define NEEDS_avx2 MEZZO_ISA_AVX2
#define NEEDS_avx512 MEZZO_ISA_AVX512
#define NEEDS_avx512_bf16 MEZZO_ISA_AVX512_BF16

#define ROW(family, impl, equality)                                                                \
    {MZK_##family, NEEDS_##impl, MZK_##equality, #family "." #impl, mzk_##family##_##impl},
#define ROW_ref ROW
#ifdef __x86_64__
#define ROW_avx2 ROW
#define ROW_avx512 ROW
#define ROW_avx512_bf16 ROW
#else /* their folders are not built */
#define ROW_avx2(family, impl, equality)
#define ROW_avx512(family, impl, equality)
#define ROW_avx512_bf16(family, impl, equality)
#endif

const mzk_kernel mzk_kernels[] = {
#define KERNEL(family, impl, equality) ROW_##impl(family, impl, equality)
#include "kernel/kernels.def"
#undef KERNEL
};
const int mzk_kernel_count = (int)(sizeof mzk_kernels / sizeof mzk_kernels[0]);

static const char *const family_names[] = {
#define FAMILY_NAME_ref(family) #family,
#define FAMILY_NAME_avx2(family)
#define FAMILY_NAME_avx512(family)
#define FAMILY_NAME_avx512_bf16(family)
#define KERNEL(family, impl, equality) FAMILY_NAME_##impl(family)
#include "kernel/kernels.def"
#undef KERNEL
    "user",
    "pack",
    "none",
};

const char *mzk_family_name(mzk_family family) {
    return (unsigned)family <= MZK_NONE ? family_names[family] : "none";
}

uint64_t mzk_scratch_bytes(mzk_family family, const mzk_params *p) {
    switch ((int)family) {
    case MZK_matmul:
        return mzk_matmul_scratch_bytes(&p->matmul);
    case MZK_attention:
        return MZK_ATTENTION_SCRATCH;
    case MZK_attention_bwd:
        return MZK_ATTENTION_BWD_SCRATCH;
    default:
        return 0;
    }
}

const mzk_kernel *mzk_pick(mzk_family family, mezzo_isa isa) {
    const mzk_kernel *best = &mzk_kernels[0];
    for (int i = 0; i < mzk_kernel_count; i++) {
        const mzk_kernel *k = &mzk_kernels[i];
        if (k->family == family && (k->needs <= isa || k->needs == MEZZO_ISA_REF))
            best = k;
    }
    return best;
}
