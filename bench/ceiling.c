/* What this machine can do: register peak and memory bandwidth, as JSON on one line.
 *
 *   ceiling [--threads N] [--seconds S] [--peak]
 *
 * The peak loops issue independent multiply-adds on registers, with the widest instructions that
 * are there: nothing can multiply faster.  Bandwidth is that of large arrays, each byte that the
 * program reads or writes counted once:
 *
 *   read     a sum                    update   w, m, v and g in, w, m, v out: AdamW's traffic
 *   copy     memcpy
 *
 * Each figure is measured by all workers and by one.  A bandwidth is the best of its repetitions.
 * The peaks are measured in rounds, by turns; of each the best repetition of a round counts, and of
 * the rounds the median: what lasts for less than half of the rounds, as a clock that is raised for
 * a second, does not count.  --seconds is what a figure takes.  --peak leaves bandwidth out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers.h"

enum {
    ARRAY_BYTES = 256 << 20, /* beyond any cache */
    ARRAYS = 4,
    LOOP = 2000000, /* iterations of a peak loop: some 10 ms */
    ROUNDS = 9,
    THREADS_MAX = 1024
};

/* -------- register peak */

#if defined(__x86_64__)
/* An iteration runs the instruction once on each accumulator: more of them than latency times
 * issue width, and with two sources they fit the register file. */
#define LOOP_512(instruction)                                                                      \
    "vpxorq %%zmm30, %%zmm30, %%zmm30\n"                                                           \
    "vpxorq %%zmm31, %%zmm31, %%zmm31\n"                                                           \
    "1:\n"                                                                                         \
    ".irp k,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n" instruction           \
    " %%zmm30, %%zmm31, %%zmm\\k\n"                                                                \
    ".endr\n"                                                                                      \
    "dec %0\n"                                                                                     \
    "jnz 1b\n"
#define WRITTEN_512                                                                                \
    "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",  \
        "xmm21", "xmm22", "xmm23", "xmm30", "xmm31"

__attribute__((target("avx512f"))) static void peak_avx512_f32(long n) {
    __asm__ volatile(LOOP_512("vfmadd231ps") : "+r"(n) : : WRITTEN_512);
}

__attribute__((target("avx512f"))) static void peak_avx512_bf16(long n) {
    __asm__ volatile(LOOP_512("vdpbf16ps") : "+r"(n) : : WRITTEN_512);
}

__attribute__((target("avx2,fma"))) static void peak_avx2_f32(long n) {
    __asm__ volatile("vpxor %%ymm14, %%ymm14, %%ymm14\n"
                     "vpxor %%ymm15, %%ymm15, %%ymm15\n"
                     "1:\n"
                     ".irp k,0,1,2,3,4,5,6,7,8,9,10,11\n"
                     "vfmadd231ps %%ymm14, %%ymm15, %%ymm\\k\n"
                     ".endr\n"
                     "dec %0\n"
                     "jnz 1b\n"
                     : "+r"(n)
                     :
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm14", "xmm15");
}
#endif

/* Without instructions of its own: 16 sums that the compiler keeps in registers. */
static void peak_plain_f32(long n) {
    float sums[16] = {0.0f};
    for (; n > 0; n--) {
        for (int k = 0; k < 16; k++)
            sums[k] = sums[k] * 0.5f + 1.0f;
        __asm__ volatile("" : : "r"(sums) : "memory");
    }
}

typedef struct peak_loop {
    const char *isa;
    void (*run)(long n);
    double flops; /* an iteration */
} peak_loop;

typedef struct peaks {
    peak_loop bf16, f32; /* run is null where there is no such instruction */
} peaks;

static peaks find_peaks(void) {
    peaks p = {.f32 = {"plain", peak_plain_f32, 32.0}};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        p.f32 = (peak_loop){"avx2", peak_avx2_f32, 12 * 8 * 2.0};
    if (__builtin_cpu_supports("avx512f"))
        p.f32 = (peak_loop){"avx512", peak_avx512_f32, 24 * 16 * 2.0};
    if (__builtin_cpu_supports("avx512bf16"))
        p.bf16 = (peak_loop){"avx512_bf16", peak_avx512_bf16, 24 * 32 * 2.0};
#endif
    return p;
}

static void run_peak(void *user, int worker) {
    (void)worker;
    ((const peak_loop *)user)->run(LOOP);
}

/* -------- memory */

typedef float lanes __attribute__((vector_size(64), aligned(64)));

typedef struct memory {
    lanes *arrays[ARRAYS]; /* w, m, v, g */
    int workers;
    double sums[THREADS_MAX]; /* so that the reads have a use */
} memory;

/* The worker's part of every array. */
static long first_of(const memory *m, int worker) {
    return (long)(ARRAY_BYTES / (long)sizeof(lanes)) * worker / m->workers;
}

static void touch(void *user, int worker) {
    memory *m = user;
    long begin = first_of(m, worker), end = first_of(m, worker + 1);
    for (int k = 0; k < ARRAYS; k++)
        memset(m->arrays[k] + begin, 0, (size_t)(end - begin) * sizeof(lanes));
}

static void run_copy(void *user, int worker) {
    memory *m = user;
    long begin = first_of(m, worker), end = first_of(m, worker + 1);
    memcpy(m->arrays[1] + begin, m->arrays[0] + begin, (size_t)(end - begin) * sizeof(lanes));
}

static void run_read(void *user, int worker) {
    memory *m = user;
    lanes sums[4] = {{0.0f}};
    long end = first_of(m, worker + 1);
    for (long i = first_of(m, worker); i + 4 <= end; i += 4)
        for (int k = 0; k < 4; k++)
            sums[k] += m->arrays[0][i + k];
    m->sums[worker] = (double)(sums[0][0] + sums[1][0] + sums[2][0] + sums[3][0]);
}

static void run_update(void *user, int worker) {
    memory *mem = user;
    lanes *w = mem->arrays[0], *m = mem->arrays[1], *v = mem->arrays[2], *g = mem->arrays[3];
    long end = first_of(mem, worker + 1);
    for (long i = first_of(mem, worker); i < end; i++) {
        m[i] = m[i] * 0.9f + g[i] * 0.1f;
        v[i] = v[i] * 0.99f + g[i] * g[i] * 0.01f;
        w[i] -= m[i] * v[i];
    }
}

/* -------- both */

/* Best rate in 1e9 a second of `work` units by `workers` workers, for `seconds`. */
static double best_rate(int workers, worker_task *task, void *user, double work, double seconds) {
    double best = 0.0, begin = now_seconds();
    do {
        double from = now_seconds();
        workers_run(workers, task, user);
        double rate = work / (now_seconds() - from) * 1e-9;
        best = rate > best ? rate : best;
    } while (now_seconds() - begin < seconds);
    return best;
}

typedef struct peak_rates {
    double one[ROUNDS], all[ROUNDS];
} peak_rates;

static void peak_round(peak_loop loop, int threads, double seconds, int round, peak_rates *rates) {
    if (!loop.run)
        return;
    double work = loop.flops * LOOP;
    rates->one[round] = best_rate(1, run_peak, &loop, work, seconds);
    rates->all[round] = best_rate(threads, run_peak, &loop, work * threads, seconds);
}

static int by_rate(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double rates[ROUNDS]) {
    qsort(rates, ROUNDS, sizeof rates[0], by_rate);
    return rates[ROUNDS / 2];
}

static void print_peak(const char *name, peak_loop loop, peak_rates *rates) {
    if (loop.run)
        printf("\"%s\":{\"isa\":\"%s\",\"one\":%.1f,\"all\":%.1f}", name, loop.isa,
               median(rates->one), median(rates->all));
    else
        printf("\"%s\":null", name);
}

static void print_peaks(int threads, double seconds) {
    peaks p = find_peaks();
    peak_rates bf16, f32;
    for (int round = 0; round < ROUNDS; round++) {
        peak_round(p.bf16, threads, seconds / ROUNDS, round, &bf16);
        peak_round(p.f32, threads, seconds / ROUNDS, round, &f32);
    }
    print_peak("bf16_gflops", p.bf16, &bf16);
    printf(",");
    print_peak("f32_gflops", p.f32, &f32);
}

static void print_bandwidth(const char *name, worker_task *task, memory *m, int threads, int arrays,
                            double seconds) {
    double rates[2], work = (double)arrays * ARRAY_BYTES;
    for (int k = 0; k < 2; k++) {
        m->workers = k ? threads : 1;
        rates[k] = best_rate(m->workers, task, m, work, seconds);
    }
    printf(",\"%s\":{\"one\":%.2f,\"all\":%.2f}", name, rates[0], rates[1]);
}

static int print_memory(int threads, double seconds) {
    static memory m;
    for (int k = 0; k < ARRAYS; k++) {
        m.arrays[k] = aligned_alloc(4096, ARRAY_BYTES);
        if (!m.arrays[k]) {
            fprintf(stderr, "ceiling: no memory for %d arrays of %d bytes\n", ARRAYS, ARRAY_BYTES);
            return 1;
        }
    }
    m.workers = threads;
    workers_run(threads, touch, &m);
    print_bandwidth("read_gbs", run_read, &m, threads, 1, seconds);
    print_bandwidth("copy_gbs", run_copy, &m, threads, 2, seconds);
    print_bandwidth("update_gbs", run_update, &m, threads, 7, seconds);
    for (int k = 0; k < ARRAYS; k++)
        free(m.arrays[k]);
    return 0;
}

int main(int argc, char **argv) {
    int threads = workers_allowed();
    double seconds = 1.0;
    bool peak_only = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--peak") == 0) {
            peak_only = true;
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            threads = (int)strtol(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            seconds = strtod(argv[++i], NULL);
        } else {
            fprintf(stderr, "usage: ceiling [--threads N] [--seconds S] [--peak]\n");
            return 2;
        }
    }
    if (threads < 1 || threads > THREADS_MAX || !(seconds > 0.0)) {
        fprintf(stderr, "ceiling: 1 to %d threads, and more than 0 seconds\n", THREADS_MAX);
        return 2;
    }
    workers_start(threads);
    printf("{\"threads\":%d,", threads);
    print_peaks(threads, seconds);
    int code = peak_only ? 0 : print_memory(threads, seconds);
    printf("}\n");
    workers_stop();
    return code;
}
