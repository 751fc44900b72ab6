/* What is asked of every kernel.  The reference itself is asked whatever does not compare it with
 * itself: memory, repeatability, NaN. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"
#include "checkkern_pages.h"

enum {
    FREE_TYPES_MAX = 3,
    FAILURES_SHOWN = 5
};

static const mezzo_dtype storage[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
static const mezzo_dtype storage8[] = {MEZZO_F8_E4M3, MEZZO_F8_E5M2};

void ck_fail(ck_run *run, const ck_case *c, const char *what) {
    run->failures++;
    if (run->quiet || run->failures > FAILURES_SHOWN)
        return;
    printf("FAIL %s %s:", run->kernel->name, run->mode);
    for (int k = 0; k < c->outs; k++)
        printf(" %s", mezzo_dtype_name(c->out[k].type));
    printf(" <-");
    for (int k = 0; k < c->ins; k++)
        printf(" %s[%lld]", mezzo_dtype_name(c->in[k].type), (long long)c->in[k].count);
    printf("%s, rows [%lld, %lld), seed %llu: %s\n", run->note, (long long)c->begin,
           (long long)c->end, (unsigned long long)run->seed, what);
}

static bool is_ref(const ck_run *run) {
    return run->kernel->needs == MEZZO_ISA_REF;
}

static ck_rule rule_of(const ck_run *run, ck_fill fill) {
    return run->kernel->equality == MZK_EXACT || fill == CK_EXACT ? CK_BITS : CK_BOUND;
}

static void run_once(ck_run *run, ck_case *c) {
    ck_case_poison(c);
    ck_case_run(c, run->kernel->fn);
    run->calls++;
}

static void check(ck_run *run, ck_case *c, ck_rule rule) {
    run_once(run, c);
    const char *wrong = ck_case_compare(c, rule);
    if (wrong)
        ck_fail(run, c, wrong);
    if (c->out[0].type == MEZZO_F32) /* in 16 bits the last rounding uses up all */
        run->worst = fmax(run->worst, c->worst);
}

static int power3(int n) {
    return n ? 3 * power3(n - 1) : 1;
}

/* Combination number `index` of the storage types; those of equal types come by `uniform`. */
static void pick_types(mezzo_dtype *types, int count, int index) {
    for (int k = 0; k < count; k++, index /= 3)
        types[k] = storage[index % 3];
}

/* A case for every shape and every combination of storage types, or the uniform ones. */
typedef void visit(ck_run *run, ck_case *c);

static void each_case(ck_run *run, ck_fill fill, bool uniform, visit *f) {
    int count = ck_free_types(run->about), choices = uniform && count ? 3 : power3(count);
    for (int shape = 0; shape < run->about->shapes; shape++)
        for (int i = 0; i < choices; i++) {
            mezzo_dtype types[FREE_TYPES_MAX];
            ck_case c = {0};
            pick_types(types, count, uniform ? i * (power3(count) - 1) / 2 : i);
            ck_case_make(&c, run->about, shape, fill, types, run->seed + (uint64_t)shape);
            f(run, &c);
            ck_case_free(&c);
        }
}

static void compare_exact(ck_run *run, ck_case *c) {
    check(run, c, rule_of(run, CK_EXACT));
}
static void mode_exact(ck_run *run) {
    if (run->about->exact && !is_ref(run))
        each_case(run, CK_EXACT, false, compare_exact);
}

static void compare_normal(ck_run *run, ck_case *c) {
    check(run, c, rule_of(run, CK_NORMAL));
}
static void mode_bounded(ck_run *run) {
    if (!is_ref(run))
        each_case(run, CK_NORMAL, false, compare_normal);
}

/* Values with a corner of their own, in terms of the operand's format. */
enum {
    SPECIALS = 18
};
static double special(mezzo_dtype type, int which) {
    double tiny = mzi_tiny(type), ulp = 2 * mzi_unit_roundoff(type), largest = mzi_largest(type);
    double normal = tiny / ulp;
    const double values[SPECIALS] = {0,          -0.0,          tiny,          -tiny,   normal,
                                     -normal,    normal - tiny, tiny - normal, 1 + ulp, 1 + 0x1p-8,
                                     1 + 0x3p-8, -1 - 0x1p-11,  0x1p15,        largest, -largest,
                                     HUGE_VAL,   -HUGE_VAL,     (double)NAN};
    return values[which];
}

static ck_rule special_rule(const ck_run *run, double value, mezzo_dtype type) {
    ck_rule rule = rule_of(run, CK_NORMAL);
    if (rule == CK_BITS)
        return rule;
    return isinf(value) ? CK_INFINITE : fabs(value) == mzi_largest(type) ? CK_OVERFLOW : rule;
}

static void compare_specials(ck_run *run, ck_case *c) {
    for (int k = 0; k < c->ins; k++) {
        mezzo_dtype type = c->in[k].type;
        size_t bytes = (size_t)c->in[k].count * mezzo_dtype_bytes(type);
        if (!mezzo_dtype_is_float(type) || !c->in[k].count)
            continue;
        void *saved = malloc(bytes);
        if (!saved)
            abort();
        memcpy(saved, c->in[k].data, bytes);
        for (int s = 0; s < SPECIALS; s++) {
            double value = special(type, s);
            if (c->about->content[k] == 'q')
                value = fabs(value);
            if (c->about->content[k] == 's' && value != 0 && value < 1)
                continue; /* a step's scalars are 0 or of some size, and not negative */
            for (int64_t i = s % 3; i < c->in[k].count || i == s % 3; i += 3)
                mzi_store(c->in[k].data, type, i % c->in[k].count, value);
            snprintf(run->note, sizeof run->note, ", %g in in[%d]", value, k);
            check(run, c, special_rule(run, value, type));
            memcpy(c->in[k].data, saved, bytes);
        }
        free(saved);
    }
    run->note[0] = 0;
}
static void mode_special(ck_run *run) {
    if (!is_ref(run))
        each_case(run, CK_NORMAL, true, compare_specials);
}

/* All of one operand is NaN: so is every element written. */
static void expect_nan(ck_run *run, ck_case *c) {
    for (int k = 0; k < c->ins; k++) {
        size_t bytes = (size_t)c->in[k].count * mezzo_dtype_bytes(c->in[k].type);
        if (c->about->nan[k] != '1' || !bytes)
            continue;
        void *saved = malloc(bytes);
        if (!saved)
            abort();
        memcpy(saved, c->in[k].data, bytes);
        for (int64_t i = 0; i < c->in[k].count; i++)
            mzi_store(c->in[k].data, c->in[k].type, i, (double)NAN);
        run_once(run, c);
        const ck_operand *y = &c->out[0];
        size_t size = mezzo_dtype_bytes(y->type);
        for (int64_t i = 0; i < y->count; i++)
            if (memcmp((char *)y->data + (size_t)i * size, "\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa",
                       size) &&
                !isnan(mzi_load(y->data, y->type, i))) {
                ck_fail(run, c, "a NaN was lost");
                break;
            }
        memcpy(c->in[k].data, saved, bytes);
        free(saved);
    }
}
static void mode_nan(ck_run *run) {
    each_case(run, CK_NORMAL, true, expect_nan);
}

/* The same bits twice, and whatever the domain is cut into. */
static void repeat(ck_run *run, ck_case *c) {
    char *first[MZK_OUT_MAX] = {0};
    run_once(run, c);
    for (int k = 0; k < c->outs; k++) {
        first[k] = c->out[k].block;
        c->out[k].block = malloc(c->out[k].block_bytes);
        if (!c->out[k].block)
            abort();
        c->out[k].data = c->out[k].block + ((char *)c->out[k].data - first[k]);
    }
    int64_t begin = c->begin, end = c->end, cut = c->cut ? c->cut : end - begin;
    for (int64_t pieces = 1; pieces <= 7 && begin < end; pieces += 3) {
        int64_t step = (end - begin) / pieces / cut * cut;
        step = step > 0 ? step : cut;
        ck_case_poison(c);
        for (c->begin = begin; c->begin < end; c->begin = c->end) {
            c->end = end - c->begin < step ? end : c->begin + step;
            ck_case_run(c, run->kernel->fn);
            run->calls++;
        }
        c->begin = begin;
        c->end = end;
        for (int k = 0; k < c->outs; k++)
            if (first[k] && memcmp(c->out[k].block, first[k], c->out[k].block_bytes)) {
                ck_fail(run, c,
                        pieces == 1 ? "other bits the second time"
                                    : "other bits when the domain is cut");
                break;
            }
    }
    for (int k = 0; k < c->outs; k++)
        free(first[k]);
}
static void mode_repeat(ck_run *run) {
    each_case(run, CK_NORMAL, true, repeat);
}

/* In place gives the bits that it gives elsewhere.  Those outputs start as copies of the inputs, so
 * that rows outside of the call are equal too; the others get other memory. */
static void in_place(ck_run *run, ck_case *c) {
    mzk_args args = ck_case_args(c);
    void *other[MZK_OUT_MAX] = {0};
    ck_case_poison(c);
    for (int k = 0; k < c->outs; k++) {
        ck_operand *to = &c->out[k];
        size_t bytes = (size_t)to->count * mezzo_dtype_bytes(to->type);
        if (c->about->place[k] != '-') {
            args.out[k] = c->in[c->about->place[k] - '0'].data;
            memcpy(to->data, args.out[k], bytes);
        } else if (!to->absent) {
            args.out[k] = other[k] = malloc(bytes + 1);
            if (!other[k])
                abort();
            memcpy(other[k], to->data, bytes);
        }
    }
    ck_case_run(c, run->kernel->fn);
    run->kernel->fn(&args, c->begin, c->end);
    run->calls += 2;
    for (int k = 0; k < c->outs; k++) {
        if (args.out[k] && memcmp(args.out[k], c->out[k].data,
                                  (size_t)c->out[k].count * mezzo_dtype_bytes(c->out[k].type)))
            ck_fail(run, c, "other bits in place");
        free(other[k]);
    }
}
static void mode_in_place(ck_run *run) {
    if (run->about->place[0] != '-')
        each_case(run, CK_NORMAL, true, in_place);
}

/* Operands that end, and then start, where memory does. */
static void at_page_ends(ck_run *run, ck_case *c) {
    run_once(run, c);
    for (int at_end = 0; at_end < 2; at_end++) {
        mzk_args args = ck_case_args(c);
        ck_pages_place(c, &args, at_end);
        ck_pages_watch(run->kernel->name);
        run->kernel->fn(&args, c->begin, c->end);
        ck_pages_watch(NULL);
        run->calls++;
        for (int k = 0; k < c->outs; k++)
            if (args.out[k] && memcmp(args.out[k], c->out[k].data,
                                      (size_t)c->out[k].count * mezzo_dtype_bytes(c->out[k].type)))
                ck_fail(run, c, "other bits at another address");
    }
}
static void mode_pages(ck_run *run) {
    each_case(run, CK_NORMAL, true, at_page_ends);
}

/* An 8-bit format in one operand of free type, the others being `other`. */
static void eight_bits(ck_run *run, int shape, mezzo_dtype eight, mezzo_dtype other) {
    int count = ck_free_types(run->about);
    for (int k = 0; k < count; k++) {
        mezzo_dtype types[FREE_TYPES_MAX] = {other, other, other};
        ck_case c = {0};
        types[k] = eight;
        ck_case_make(&c, run->about, shape, CK_NORMAL, types, run->seed + (uint64_t)shape);
        check(run, &c, CK_BITS);
        ck_case_free(&c);
    }
}

/* No kernel computes in the 8-bit formats: the bits are the reference's. */
static void mode_eight_bits(ck_run *run) {
    if (is_ref(run))
        return;
    for (int shape = 0; shape < run->about->shapes; shape++)
        for (int t = 0; t < 2; t++) {
            eight_bits(run, shape, storage8[t], storage8[t]);
            eight_bits(run, shape, storage8[t], storage[shape % 3]);
        }
}

const ck_mode ck_modes[] = {
    {"exact", mode_exact},     {"bounded", mode_bounded},
    {"special", mode_special}, {"nan", mode_nan},
    {"repeat", mode_repeat},   {"in place", mode_in_place},
    {"pages", mode_pages},     {"patterns", ck_patterns},
    {"causal", ck_causal},     {"eight bits", mode_eight_bits},
    {"masters", ck_masters},   {"epilogue", ck_epilogue},
};
const int ck_mode_count = (int)(sizeof ck_modes / sizeof ck_modes[0]);
