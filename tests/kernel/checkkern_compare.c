/* The outputs of a call against the reference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attention_bound.h"
#include "checkkern.h"

enum {
    GUARD_BYTE = 0xaa
};

static char text[400];

static void *space(int64_t count) {
    void *p = calloc((size_t)count + 1, sizeof(double));
    if (!p)
        abort();
    return p;
}

/* Nothing around the operand was written. */
static bool guards_hold(const ck_operand *o) {
    const unsigned char *first = (const unsigned char *)o->block, *data = o->data;
    const unsigned char *end = first + o->block_bytes;
    const unsigned char *after = data + (size_t)o->count * mezzo_dtype_bytes(o->type);
    for (const unsigned char *p = first; p < data; p++)
        if (*p != GUARD_BYTE)
            return false;
    for (const unsigned char *p = after; p < end; p++)
        if (*p != GUARD_BYTE)
            return false;
    return true;
}

static bool untouched(const void *data, mezzo_dtype type, int64_t i) {
    size_t bytes = mezzo_dtype_bytes(type);
    const unsigned char *p = (const unsigned char *)data + (size_t)i * bytes;
    for (size_t k = 0; k < bytes; k++)
        if (p[k] != GUARD_BYTE)
            return false;
    return true;
}

/* Exact result `want`, wrong by at most `error` before it was rounded to `type`; `worst` keeps the
 * largest share of what is allowed that was used. */
static bool within(double got, double want, double error, mezzo_dtype type, ck_rule rule,
                   double *worst) {
    if (error == BOUND_ANYTHING) {
        if (rule == CK_OVERFLOW)
            return true;
        error = 0;
    }
    if (isnan(want))
        return isnan(got) || (rule >= CK_INFINITE && isinf(got));
    if (isinf(want))
        return got == want || isnan(got);
    if (!isfinite(error))
        error = 0; /* of an element that a non-finite operand does not reach */
    double largest = mzi_largest(type), reach = fabs(want) + error;
    if (!isfinite(got))
        return rule == CK_OVERFLOW ||
               (isinf(got) && signbit(got) == signbit(want) && reach >= largest);
    double allowed = error + mzi_unit_roundoff(type) * reach + mzi_tiny(type) / 2;
    *worst = fmax(*worst, fabs(got - want) / allowed);
    return fabs(got - want) <= allowed;
}

static const char *mismatch(const ck_case *c, int k, int64_t i, double want, double error) {
    snprintf(text, sizeof text,
             "out[%d] (%s) element %lld of %lld: got %.9g, want %.17g, bound %.3g", k,
             mezzo_dtype_name(c->out[k].type), (long long)i, (long long)c->out[k].count,
             mzi_load(c->out[k].data, c->out[k].type, i), want, error);
    return text;
}

typedef struct reference {
    void *narrow[MZK_OUT_MAX];  /* in the case's storage types */
    double *wide[MZK_OUT_MAX];  /* floating-point outputs in FP64 */
    double *error[MZK_OUT_MAX]; /* bound */
} reference;

static reference reference_make(const ck_case *c, ck_rule rule) {
    reference r;
    mzk_args narrow = ck_case_args(c), wide = narrow;
    mzk_fn *fn = mzk_pick(c->about->family, MEZZO_ISA_REF)->fn;
    for (int k = 0; k < c->outs; k++) {
        size_t bytes = (size_t)c->out[k].count * mezzo_dtype_bytes(c->out[k].type);
        r.narrow[k] = space(c->out[k].count);
        r.wide[k] = space(c->out[k].count);
        r.error[k] = space(c->out[k].count);
        memset(r.narrow[k], GUARD_BYTE, bytes);
        memset(r.wide[k], GUARD_BYTE, (size_t)c->out[k].count * sizeof(double));
        if (mezzo_dtype_is_float(c->out[k].type))
            wide.out_type[k] = MEZZO_F64;
        if (!c->out[k].absent) {
            narrow.out[k] = r.narrow[k];
            wide.out[k] = r.wide[k];
        }
    }
    fn(&narrow, c->begin, c->end);
    if (rule != CK_BITS) {
        fn(&wide, c->begin, c->end);
        ck_bound(c, r.error);
    }
    return r;
}

static const char *compare_bits(const ck_case *c, const reference *r, int k) {
    const ck_operand *o = &c->out[k];
    for (int64_t i = 0; i < o->count; i++)
        if (!ck_same(o->type, o->data, r->narrow[k], i))
            return mismatch(c, k, i, mzi_load(r->narrow[k], o->type, i), 0);
    return NULL;
}

static const char *compare_bound(ck_case *c, const reference *r, int k, ck_rule rule) {
    const ck_operand *o = &c->out[k];
    for (int64_t i = 0; i < o->count; i++) {
        double got = mzi_load(o->data, o->type, i), want = r->wide[k][i], error = r->error[k][i];
        if (untouched(r->wide[k], MEZZO_F64, i)) { /* not of the rows of this call */
            if (!untouched(o->data, o->type, i))
                return mismatch(c, k, i, mzi_load(r->narrow[k], o->type, i), 0);
        } else if (!within(got, want, error, o->type, rule, &c->worst)) {
            return mismatch(c, k, i, want, error);
        }
    }
    return NULL;
}

const char *ck_case_compare(ck_case *c, ck_rule rule) {
    for (int k = 0; k < c->outs; k++)
        if (!guards_hold(&c->out[k])) {
            snprintf(text, sizeof text, "wrote outside of out[%d]", k);
            return text;
        }
    for (int k = 0; k < c->ins; k++)
        if (!guards_hold(&c->in[k])) {
            snprintf(text, sizeof text, "wrote outside of in[%d]", k);
            return text;
        }
    const char *wrong = NULL;
    reference r = reference_make(c, rule);
    for (int k = 0; k < c->outs && !wrong; k++)
        wrong = rule == CK_BITS || !mezzo_dtype_is_float(c->out[k].type)
                    ? compare_bits(c, &r, k)
                    : compare_bound(c, &r, k, rule);
    for (int k = 0; k < c->outs; k++) {
        free(r.narrow[k]);
        free(r.wide[k]);
        free(r.error[k]);
    }
    return wrong;
}
