/* What products say of their own results: figures of tiles, beside c.
 *
 * They are of c as it is stored, so each is held to the same figure of the c that the kernel gave,
 * whatever that is within its bound: counts and the largest magnitude exactly, the sum of squares
 * within gamma_24 of FP32 (at most 24 squares of a lane are summed in it) and the FP64 sums behind.
 * And c has the bits that it has when nobody asks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"

/* What rows of a, and by them rows of c, hold. */
typedef enum content {
    PLAIN,
    ZEROS,      /* a row of zeros                                   */
    SMALL,      /* c is subnormal, or 0, in its type                */
    BELOW_ROOT, /* squares are subnormal in FP32                    */
    LARGE,      /* c is Inf here and there, squares leave FP32      */
    INFINITE,
    NOT_NUMBERS,
    CONTENTS
} content;

static double factor_of(content what, mezzo_dtype type) {
    if (what == SMALL)
        return mzi_smallest_normal(type);
    if (what == BELOW_ROOT)
        return 0x1p-70;
    return what == LARGE ? mzi_largest(type) / 4 : 1;
}

static void spoil(ck_case *c, content what) {
    const mzk_matmul_params *p = &c->p.matmul;
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t k = 0; k < p->K; k++) {
            int64_t i = p->transpose_a ? k * p->M + m : m * p->K + k;
            double x = ck_in(c, 0, i) * factor_of(what, c->out[0].type);
            if (what == ZEROS && m % 3 == 1)
                x = m % 2 ? 0.0 : -0.0;
            if (what == INFINITE && m % 11 == 5 && k == m % p->K)
                x = m % 2 ? HUGE_VAL : -HUGE_VAL;
            if (what == NOT_NUMBERS && m % 7 == 3 && k == 0)
                x = (double)NAN;
            mzi_store(c->in[0].data, c->in[0].type, i, x);
        }
}

static void add(double want[MZK_STATS], double element, double tiny) {
    double x = fabs(element);
    want[MZK_STAT_ZERO] += x == 0;
    want[MZK_STAT_TINY] += x > 0 && x < tiny;
    want[MZK_STAT_INF] += isinf(x);
    want[MZK_STAT_NAN] += isnan(x);
    want[MZK_STAT_SQUARES] += isfinite(x) ? x * x : 0;
    want[MZK_STAT_MAX] = isfinite(x) ? fmax(want[MZK_STAT_MAX], x) : want[MZK_STAT_MAX];
}

/* Figures of tile `t` of what was stored. */
static void solve(const ck_case *c, int64_t t, double want[MZK_STATS]) {
    const mzk_matmul_params *p = &c->p.matmul;
    mezzo_dtype type = c->out[0].type;
    int64_t down = (p->M + p->tile_m - 1) / p->tile_m;
    int64_t row = t % down * p->tile_m, column = t / down * p->tile_n;
    memset(want, 0, MZK_STATS * sizeof *want);
    for (int64_t m = row; m < row + p->tile_m && m < p->M; m++)
        for (int64_t n = column; n < column + p->tile_n && n < p->N; n++)
            add(want, mzi_load(c->out[0].data, type, m * p->N + n), mzi_smallest_normal(type));
}

static void compare(ck_run *run, const ck_case *c, int64_t t, const double *part, const char *of) {
    double want[MZK_STATS];
    char text[160];
    solve(c, t, want);
    double allowed =
        want[MZK_STAT_SQUARES] * (mzi_gamma(24, 0x1p-24) + mzi_gamma(2 * c->out[0].count, 0x1p-53));
    for (int k = 0; k < MZK_STATS; k++) {
        double error = fabs(part[k] - want[k]);
        if (error <= (k == MZK_STAT_SQUARES ? allowed : 0))
            continue;
        snprintf(text, sizeof text, "%s, tile %lld, figure %d: got %.17g, want %.17g, bound %.3g",
                 of, (long long)t, k, part[k], want[k], k == MZK_STAT_SQUARES ? allowed : 0.0);
        ck_fail(run, c, text);
        return;
    }
}

static void check(ck_run *run, ck_case *c, const char *of) {
    size_t bytes = (size_t)c->out[0].count * mezzo_dtype_bytes(c->out[0].type);
    double *part = malloc((size_t)c->end * MZK_STATS * sizeof *part);
    void *alone = malloc(bytes);
    mzk_args args = ck_case_args(c);
    if (!part || !alone)
        abort();
    ck_case_poison(c);
    run->kernel->fn(&args, 0, c->end);
    memcpy(alone, c->out[0].data, bytes);
    ck_case_poison(c);
    args.out[1] = part;
    args.out_type[1] = MEZZO_F64;
    for (int64_t t = c->end; t-- > 0;) /* tiles in another order */
        run->kernel->fn(&args, t, t + 1);
    run->calls += 2;
    /* Without figures a few rows by a transposed b are summed in shorter splits. */
    if (!c->p.matmul.transpose_b && memcmp(alone, c->out[0].data, bytes) != 0)
        ck_fail(run, c, "other bits of c beside its figures");
    for (int64_t t = 0; t < c->end; t++)
        compare(run, c, t, part + t * MZK_STATS, of);
    free(alone);
    free(part);
}

void ck_epilogue(ck_run *run) {
    static const mezzo_dtype storage[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    static const char *const of[CONTENTS] = {"plain", "zeros",    "small",      "below the root",
                                             "large", "infinite", "not numbers"};
    for (int k = 0; run->about->family == MZK_matmul && k < run->about->shapes * 9; k++)
        for (int what = 0; what < CONTENTS; what++) {
            mezzo_dtype in = storage[k / 3 % 3];
            const mezzo_dtype types[] = {storage[k % 3], in, in};
            ck_case c = {0};
            ck_case_make(&c, run->about, k / 9, CK_NORMAL, types, run->seed + (uint64_t)k);
            spoil(&c, (content)what);
            if (c.p.matmul.tile_m)
                check(run, &c, of[what]);
            ck_case_free(&c);
        }
}
