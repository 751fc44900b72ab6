/* Time and memory traffic of a kernel on one core. */
#include <stdio.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "checkkern.h"

enum {
    RUNS = 15
};

static int by_value(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int64_t median_ns(ck_case *c, mzk_fn *fn, int runs) {
    int64_t ns[RUNS];
    ck_case_run(c, fn); /* pages and caches */
    for (int i = 0; i < runs; i++) {
        int64_t start = mzi_clock_ns();
        ck_case_run(c, fn);
        ns[i] = mzi_clock_ns() - start;
    }
    qsort(ns, (size_t)runs, sizeof ns[0], by_value);
    return ns[runs / 2];
}

/* Every operand once. */
static double traffic(const ck_case *c) {
    double bytes = 0;
    for (int k = 0; k < c->outs; k++)
        bytes += (double)c->out[k].count * (double)mezzo_dtype_bytes(c->out[k].type);
    for (int k = 0; k < c->ins; k++)
        bytes += (double)c->in[k].count * (double)mezzo_dtype_bytes(c->in[k].type);
    return bytes;
}

void ck_bench(const mzk_kernel *kernel, const ck_family *about, int64_t elements, uint64_t seed) {
    static const mezzo_dtype storage[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    if (about->shape == ck_family_of(MZK_xent_total)->shape)
        return; /* one row of a handful of numbers */
    for (int t = 0; t < (ck_free_types(about) ? 3 : 1); t++) {
        mezzo_dtype types[3] = {storage[t], storage[t], storage[t]};
        ck_case c = {.elements = elements};
        ck_case_make(&c, about, CK_BENCH_SHAPE, CK_NORMAL, types, seed);
        int64_t ref = median_ns(&c, mzk_pick(kernel->family, MEZZO_ISA_REF)->fn, 1);
        int64_t ns = median_ns(&c, kernel->fn, RUNS);
        printf("%-26s %-5s %12lld ns %8.2f GB/s %8.1f times ref\n", kernel->name,
               ck_free_types(about) ? mezzo_dtype_name(storage[t]) : "", (long long)ns,
               traffic(&c) / (double)ns, (double)ref / (double)ns);
        ck_case_free(&c);
    }
}
