/* Kernels that are wrong on purpose: checkkern must see each of them fail, in the mode named. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkkern.h"

static void right(mzk_family family, const mzk_args *args, int64_t begin, int64_t end) {
    mzk_pick(family, MEZZO_ISA_REF)->fn(args, begin, end);
}

static void off_by_one_ulp(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_add, args, begin, end);
    size_t bytes = mezzo_dtype_bytes((mezzo_dtype)args->out_type[0]);
    char *y = args->out[0]; /* the last bit of the first element; little endian */
    if (begin < end)
        y[(size_t)begin * bytes] = (char)(y[(size_t)begin * bytes] ^ 1);
}

static void two_ulps_beyond_rounding(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_mul, args, begin, end);
    mezzo_dtype type = (mezzo_dtype)args->out_type[0];
    for (int64_t i = begin; i < end; i++)
        mzi_store(args->out[0], type, i,
                  mzi_load(args->out[0], type, i) * (1 + 4 * mzi_unit_roundoff(type)));
}

static void short_tail(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_relu, args, begin, end - (end - begin) % 16);
}

static void long_tail(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_fill, args, begin, end + 1);
}

static void swallows_nan(const mzk_args *args, int64_t begin, int64_t end) {
    mezzo_dtype from = (mezzo_dtype)args->in_type[0], to = (mezzo_dtype)args->out_type[0];
    for (int64_t i = begin; i < end; i++) {
        double x = mzi_load(args->in[0], from, i);
        mzi_store(args->out[0], to, i, x > 0 ? x : 0);
    }
}

static void truncates(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_cast, args, begin, end);
    if (args->out_type[0] == MEZZO_BF16 && args->in_type[0] == MEZZO_F32)
        for (int64_t i = begin; i < end; i++)
            ((uint16_t *)args->out[0])[i] = ((const uint16_t *)args->in[0])[2 * i + 1];
}

static void mistakes_format(const mzk_args *args, int64_t begin, int64_t end) {
    mzk_args other = *args;
    if (args->in_type[0] == MEZZO_F8_E4M3)
        other.in_type[0] = MEZZO_F8_E5M2;
    right(MZK_cast, &other, begin, end);
}

static void depends_on_begin(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_scale, args, begin, end);
    if (begin < end && begin % 2)
        mzi_store(args->out[0], (mezzo_dtype)args->out_type[0], begin, 0);
}

static void reads_after_writing(const mzk_args *args, int64_t begin, int64_t end) {
    mezzo_dtype type = (mezzo_dtype)args->out_type[0];
    for (int64_t i = begin; i < end; i++)
        mzi_store(args->out[0], type, i, 0);
    right(MZK_relu, args, begin, end);
}

/* The lower half of a split master, taken for a number without a sign. */
static void no_borrow(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_sgd, args, begin, end);
    for (int64_t i = begin; args->in[4] && i < end; i++) {
        uint16_t *high = (uint16_t *)args->out[0] + i, low = ((const uint16_t *)args->out[2])[i];
        *high = (uint16_t)(*high - (low >> 15));
    }
}

/* Upper halves of a table, taken for all of it. */
static void upper_half_only(const mzk_args *args, int64_t begin, int64_t end) {
    mzk_args upper = *args;
    upper.in[4] = NULL;
    right(MZK_embed, &upper, begin, end);
}

/* The last bit of a master in halves, with gradients of BF16. */
static void other_low(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_lion, args, begin, end);
    if (args->in_type[0] == MEZZO_BF16 && args->in[4] && begin < end)
        ((uint16_t *)args->out[2])[begin] ^= 1;
}

/* The random numbers of a chunk counted from its beginning. */
static void same_noise(const mzk_args *args, int64_t begin, int64_t end) {
    mzk_args moved = *args;
    bool stochastic = args->in_type[0] == MEZZO_F32 && args->in_type[1] == MEZZO_BF16 &&
                      !args->in[4] && args->in_type[2] == MEZZO_F32;
    if (stochastic && begin % 8 == 0) {
        moved.in[0] = (const float *)args->in[0] + begin;
        moved.in[1] = (const uint16_t *)args->in[1] + begin;
        moved.in[2] = (const float *)args->in[2] + begin;
        moved.out[0] = (uint16_t *)args->out[0] + begin;
        moved.out[1] = (float *)args->out[1] + begin;
        right(MZK_sgd, &moved, 0, end - begin);
    } else {
        right(MZK_sgd, args, begin, end);
    }
}

static void reads_beyond(const mzk_args *args, int64_t begin, int64_t end) {
    right(MZK_scale, args, begin, end);
    volatile double sink = mzi_load(args->in[0], (mezzo_dtype)args->in_type[0], end);
    (void)sink;
}

static const struct {
    const char *mode;
    mzk_kernel kernel;
} wrong_kernels[] = {
    {"exact", {MZK_add, MEZZO_ISA_AVX2, MZK_BOUNDED, "off_by_one_ulp", off_by_one_ulp}},
    {"bounded", {MZK_mul, MEZZO_ISA_AVX2, MZK_BOUNDED, "two_ulps", two_ulps_beyond_rounding}},
    {"bounded", {MZK_relu, MEZZO_ISA_AVX2, MZK_EXACT, "short_tail", short_tail}},
    {"bounded", {MZK_fill, MEZZO_ISA_AVX2, MZK_EXACT, "long_tail", long_tail}},
    {"special", {MZK_relu, MEZZO_ISA_AVX2, MZK_EXACT, "swallows_nan", swallows_nan}},
    {"nan", {MZK_relu, MEZZO_ISA_AVX2, MZK_EXACT, "swallows_nan", swallows_nan}},
    {"patterns", {MZK_cast, MEZZO_ISA_AVX2, MZK_EXACT, "truncates", truncates}},
    {"repeat", {MZK_scale, MEZZO_ISA_AVX2, MZK_BOUNDED, "depends_on_begin", depends_on_begin}},
    {"eight bits", {MZK_cast, MEZZO_ISA_AVX2, MZK_EXACT, "mistakes_format", mistakes_format}},
    {"masters", {MZK_sgd, MEZZO_ISA_AVX2, MZK_BOUNDED, "no_borrow", no_borrow}},
    {"masters", {MZK_sgd, MEZZO_ISA_AVX2, MZK_BOUNDED, "same_noise", same_noise}},
    {"masters", {MZK_embed, MEZZO_ISA_AVX2, MZK_BOUNDED, "upper_half_only", upper_half_only}},
    {"masters", {MZK_lion, MEZZO_ISA_AVX2, MZK_BOUNDED, "other_low", other_low}},
    {"in place", {MZK_relu, MEZZO_ISA_AVX2, MZK_EXACT, "reads_late", reads_after_writing}},
};

static void run_mode(ck_run *run) {
    for (int m = 0; m < ck_mode_count; m++)
        if (!strcmp(ck_modes[m].name, run->mode))
            ck_modes[m].run(run);
}

/* A read beyond an operand ends the program: that is left to a child. */
static bool read_is_caught(uint64_t seed) {
    mzk_kernel kernel = {MZK_scale, MEZZO_ISA_AVX2, MZK_BOUNDED, "reads_beyond", reads_beyond};
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        ck_run run = {.kernel = &kernel,
                      .about = ck_family_of(MZK_scale),
                      .mode = "pages",
                      .seed = seed,
                      .quiet = true};
        run_mode(&run);
        _exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 1;
}

int ck_self_test(uint64_t seed) {
    int missed = 0;
    for (size_t i = 0; i < sizeof wrong_kernels / sizeof wrong_kernels[0]; i++) {
        const mzk_kernel *kernel = &wrong_kernels[i].kernel;
        ck_run run = {.kernel = kernel,
                      .about = ck_family_of(kernel->family),
                      .mode = wrong_kernels[i].mode,
                      .seed = seed,
                      .quiet = true};
        run_mode(&run);
        bool caught = run.failures > 0;
        printf("%s %s kernel by mode %s: %lld of %lld calls failed\n", caught ? "caught" : "MISSED",
               kernel->name, run.mode, (long long)run.failures, (long long)run.calls);
        missed += !caught;
    }
    bool caught = read_is_caught(seed);
    printf("%s reads_beyond kernel by mode pages\n", caught ? "caught" : "MISSED");
    missed += !caught;
    printf("%d passed, %d failed\n",
           (int)(sizeof wrong_kernels / sizeof wrong_kernels[0]) + 1 - missed, missed);
    return missed;
}
