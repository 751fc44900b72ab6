/* What the processor and its operating system support. */
#include "base/cpu.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* CPUID leaf 1, ECX */
#define ECX1_FMA (1u << 12)
#define ECX1_OSXSAVE (1u << 27)
#define ECX1_AVX (1u << 28)
#define ECX1_F16C (1u << 29)
/* leaf 7.0, EBX and EDX; leaf 7.1, EAX */
#define EBX7_AVX2 (1u << 5)
#define EBX7_AVX512F (1u << 16)
#define EBX7_AVX512DQ (1u << 17)
#define EBX7_AVX512CD (1u << 28)
#define EBX7_AVX512BW (1u << 30)
#define EBX7_AVX512VL (1u << 31)
#define EDX7_AMX_BF16 (1u << 22)
#define EDX7_AVX512_FP16 (1u << 23)
#define EDX7_AMX_TILE (1u << 24)
#define EAX71_AVX512_BF16 (1u << 5)
/* XCR0: the register state that the OS saves at a task switch. */
#define XCR0_YMM ((1u << 1) | (1u << 2))
#define XCR0_ZMM (XCR0_YMM | (1u << 5) | (1u << 6) | (1u << 7)) /* masks, upper halves, 16..31 */
#define XCR0_TILE ((1u << 17) | (1u << 18))

typedef struct features {
    uint32_t ecx1, ebx7, edx7, eax71, xcr0;
} features;

static bool all(uint32_t value, uint32_t bits) {
    return (value & bits) == bits;
}

static features read_features(void) {
    features f = {0, 0, 0, 0, 0};
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return f;
    f.ecx1 = ecx;
    if (all(ecx, ECX1_OSXSAVE)) {
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        f.xcr0 = low;
    }
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return f;
    f.ebx7 = ebx;
    f.edx7 = edx;
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
        f.eax71 = eax;
    return f;
}

static mezzo_isa isa_of(const features *f) {
    if (!all(f->xcr0, XCR0_YMM) || !all(f->ecx1, ECX1_AVX | ECX1_FMA | ECX1_F16C) ||
        !all(f->ebx7, EBX7_AVX2))
        return MEZZO_ISA_REF;
    uint32_t avx512 = EBX7_AVX512F | EBX7_AVX512BW | EBX7_AVX512CD | EBX7_AVX512DQ | EBX7_AVX512VL;
    if (!all(f->xcr0, XCR0_ZMM) || !all(f->ebx7, avx512))
        return MEZZO_ISA_AVX2;
    return all(f->eax71, EAX71_AVX512_BF16) ? MEZZO_ISA_AVX512_BF16 : MEZZO_ISA_AVX512;
}

mezzo_isa mzi_cpu_isa(void) {
    features f = read_features();
    return isa_of(&f);
}

bool mzi_cpu_has_avx512_fp16(void) {
    features f = read_features();
    return isa_of(&f) >= MEZZO_ISA_AVX512 && all(f.edx7, EDX7_AVX512_FP16);
}

bool mzi_cpu_has_amx_bf16(void) {
    features f = read_features();
    return all(f.xcr0, XCR0_TILE) && all(f.edx7, EDX7_AMX_TILE | EDX7_AMX_BF16);
}

/* Leaves 0x80000002 to 0x80000004 hold 16 characters each. */
static void brand(char text[49]) {
    memset(text, 0, 49);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t words[4];
        if (!__get_cpuid(0x80000002u + i, &words[0], &words[1], &words[2], &words[3]))
            return;
        memcpy(text + 16 * i, words, sizeof words);
    }
}
#else
mezzo_isa mzi_cpu_isa(void) {
    return MEZZO_ISA_REF;
}

bool mzi_cpu_has_avx512_fp16(void) {
    return false;
}

bool mzi_cpu_has_amx_bf16(void) {
    return false;
}

static void brand(char text[49]) {
    text[0] = '\0';
}
#endif

void mzi_cpu_name(char *out, size_t capacity) {
    char text[49];
    brand(text);
    const char *name = text + strspn(text, " ");
    size_t length = strlen(name);
    while (length > 0 && name[length - 1] == ' ')
        length--;
    if (length == 0) {
        name = "unknown";
        length = strlen(name);
    }
    if (capacity == 0)
        return;
    if (length > capacity - 1)
        length = capacity - 1;
    memcpy(out, name, length);
    out[length] = '\0';
}

const char *mezzo_isa_name(mezzo_isa isa) {
    switch (isa) {
    case MEZZO_ISA_AUTO:
        return "auto";
    case MEZZO_ISA_REF:
        return "ref";
    case MEZZO_ISA_AVX2:
        return "avx2";
    case MEZZO_ISA_AVX512:
        return "avx512";
    case MEZZO_ISA_AVX512_BF16:
        return "avx512_bf16";
    }
    return "unknown";
}
