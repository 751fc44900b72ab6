/* checkkern [--kernel GLOB] [--impl GLOB] [--isa NAME] [--seed N] [--all] [--list] [--bench]
 *           [--elements N] [--self-test]
 *
 * Holds every kernel in kernels.def that this CPU (and --isa) can run to its reference.  A family
 * without a generator fails, and so does a kernel that was called less often than MIN_CALLS. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "checkkern.h"

enum {
    MIN_CALLS = 50
};

typedef struct options {
    const char *kernel, *impl;
    mezzo_isa isa;
    uint64_t seed;
    int64_t elements;
    bool all, list, bench, self_test;
} options;

static const char usage[] =
    "usage: checkkern [--kernel GLOB] [--impl GLOB] [--isa ref|avx2|avx512|avx512_bf16]\n"
    "                 [--seed N] [--all] [--list] [--bench] [--elements N] [--self-test]\n";

static int fail_usage(const char *problem) {
    fprintf(stderr, "checkkern: %s\n%s", problem, usage);
    return 2;
}

static bool isa_of(const char *name, mezzo_isa *out) {
    for (int i = MEZZO_ISA_REF; i <= MEZZO_ISA_AVX512_BF16; i++)
        if (!strcmp(name, mezzo_isa_name((mezzo_isa)i))) {
            *out = (mezzo_isa)i;
            return true;
        }
    return false;
}

static bool parse_flag(options *o, const char *name) {
    bool *flag = !strcmp(name, "--all")         ? &o->all
                 : !strcmp(name, "--list")      ? &o->list
                 : !strcmp(name, "--bench")     ? &o->bench
                 : !strcmp(name, "--self-test") ? &o->self_test
                                                : NULL;
    if (flag)
        *flag = true;
    return flag != NULL;
}

static bool parse_value(options *o, const char *name, const char *value) {
    char *rest = NULL;
    if (!strcmp(name, "--kernel"))
        o->kernel = value;
    else if (!strcmp(name, "--impl"))
        o->impl = value;
    else if (!strcmp(name, "--isa"))
        return isa_of(value, &o->isa);
    else if (!strcmp(name, "--seed"))
        o->seed = strtoull(value, &rest, 10);
    else if (!strcmp(name, "--elements"))
        o->elements = strtoll(value, &rest, 10);
    else
        return false;
    return !rest || (!*rest && *value);
}

static bool chosen(const options *o, const mzk_kernel *k) {
    const char *impl = strchr(k->name, '.') + 1;
    return k->needs <= o->isa && !fnmatch(o->kernel, mzk_family_name(k->family), 0) &&
           !fnmatch(o->impl, impl, 0);
}

/* Counts the modes. */
static void check_kernel(const options *o, const mzk_kernel *k, int *passed, int *failed) {
    ck_run run = {.kernel = k, .about = ck_family_of(k->family), .all = o->all, .seed = o->seed};
    int64_t calls = 0, start = mzi_clock_ns();
    int bad = 0;
    for (int m = 0; run.about && m < ck_mode_count; m++) {
        run.mode = ck_modes[m].name;
        run.calls = run.failures = 0;
        ck_modes[m].run(&run);
        calls += run.calls;
        bad += run.failures > 0;
        *passed += run.calls > 0 && !run.failures;
        if (run.failures)
            printf("FAIL %s %s: %lld of %lld calls\n", k->name, run.mode, (long long)run.failures,
                   (long long)run.calls);
    }
    if (!run.about)
        printf("FAIL %s: no generator in checkkern_family.c\n", k->name);
    else if (calls < MIN_CALLS)
        printf("FAIL %s: only %lld calls, at least %d are due\n", k->name, (long long)calls,
               MIN_CALLS);
    bad += calls < MIN_CALLS;
    *failed += bad;
    printf("%s %-26s %7lld calls %6lld ms", bad ? "FAIL" : "ok  ", k->name, (long long)calls,
           (long long)((mzi_clock_ns() - start) / 1000000));
    if (run.worst > 0)
        printf(", FP32 error up to %.0f %% of its bound", 100 * run.worst);
    printf("\n");
}

static int run_all(const options *o) {
    int passed = 0, failed = 0, kernels = 0;
    for (int i = 0; i < mzk_kernel_count; i++) {
        const mzk_kernel *k = &mzk_kernels[i];
        if (!chosen(o, k))
            continue;
        kernels++;
        if (o->list)
            printf("%-26s %s\n", k->name, k->equality == MZK_EXACT ? "exact" : "bounded");
        else if (o->bench)
            ck_bench(k, ck_family_of(k->family), o->elements, o->seed);
        else
            check_kernel(o, k, &passed, &failed);
    }
    if (!kernels) {
        printf("FAIL: no kernel has a name like '%s.%s' at '%s'\n", o->kernel, o->impl,
               mezzo_isa_name(o->isa));
        failed = 1;
    }
    if (!kernels || !(o->list || o->bench))
        printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}

int main(int argc, char **argv) {
    options o = {.kernel = "*", .impl = "*", .isa = mzi_cpu_isa(), .seed = 1, .elements = 3211264};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help")) {
            fputs(usage, stdout);
            return 0;
        }
        if (parse_flag(&o, argv[i]))
            continue;
        if (i + 1 >= argc || !parse_value(&o, argv[i], argv[i + 1]))
            return fail_usage(argv[i]);
        i++;
    }
    if (o.isa > mzi_cpu_isa())
        return fail_usage("this CPU lacks the instruction set asked for");
    printf("seed %llu, instruction sets up to %s\n", (unsigned long long)o.seed,
           mezzo_isa_name(o.isa));
    if (o.self_test)
        return ck_self_test(o.seed) ? 1 : 0;
    return run_all(&o);
}
