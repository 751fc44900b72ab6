/* Updates of masters and moments in other forms than FP32.
 *
 * A form changes how an operand is kept, and not what is computed: from operands that the form
 * holds exactly, a kernel's results are its own FP32 results, brought into the form by the scalar
 * functions of num/.  So the bounds that FP32 results are held to hold for all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "checkkern.h"
#include "checkkern_pages.h"
#include "num/split.h"

/* Where a family has its operands, as in families.h; -1: not at all. */
typedef struct layout {
    mzk_family family;
    int w_in, m_in, s_in; /* moments are m_in, and m_in + 1 if there are two */
    int w_out, m_out, moments, lo_out;
} layout;

static const layout layouts[] = {
    {MZK_adamw, 1, 2, 4, 0, 1, 2, 3},       {MZK_lion, 1, 2, 3, 0, 1, 1, 2},
    {MZK_sgd, 1, 2, 3, 0, 1, 1, 2},         {MZK_muon_mean, -1, 1, 2, -1, 0, 1, -1},
    {MZK_muon_step, 1, -1, 2, 0, -1, 0, 1},
};

typedef enum form {
    PLAIN,
    SPLIT,
    STOCHASTIC,
    NEAREST,
    FORMS
} form;

/* A call in FP32, the same in a form, and where their operands are. */
typedef struct pair {
    const layout *at;
    ck_case *plain;
    ck_case low;
    form master;
    bool low_moments;
} pair;

static void operand(ck_operand *o, mezzo_dtype type, int64_t count) {
    size_t bytes = (size_t)count * mezzo_dtype_bytes(type);
    *o = (ck_operand){.type = type, .count = count, .block_bytes = bytes};
    o->block = calloc(bytes + 1, 1);
    if (!o->block)
        abort();
    o->data = o->block;
}

static void copy(ck_operand *o, const ck_operand *from, mezzo_dtype type) {
    operand(o, type, from->count);
    for (int64_t i = 0; i < o->count; i++)
        mzi_store(o->data, type, i, mzi_load(from->data, from->type, i));
}

static bool is_moment(const layout *at, int k, int first) {
    return first >= 0 && k >= first && k < first + at->moments;
}

/* Values that the form holds: BF16 where it is that, and for masters of FP32's digits those at the
 * ends of its halves. */
static void prepare(const pair *p) {
    static const uint32_t bits[] = {0x3f808000u, 0x3f807fffu, 0xbf818000u, 0x7f7fffffu, 0x80008000u,
                                    0x00000001u, 0xff800000u, 0x7fc00000u, 0x7fff8000u};
    enum {
        SPECIALS = sizeof bits / sizeof *bits
    };
    ck_case *c = p->plain;
    for (int k = 0; k < c->ins; k++) {
        bool master = k == p->at->w_in, moment = is_moment(p->at, k, p->at->m_in);
        float *x = c->in[k].data;
        for (int64_t i = 0; master && i < c->in[k].count; i++)
            if (i % 5 == 2)
                memcpy(&x[i], &bits[i / 5 % SPECIALS], sizeof *x);
        bool low = (master && p->master > SPLIT) || (moment && p->low_moments);
        for (int64_t i = 0; low && i < c->in[k].count; i++)
            x[i] = mzi_bf16_load(mzi_bf16_round(x[i]));
    }
}

static void make_low(pair *p) {
    ck_case *low = &p->low;
    const ck_case *c = p->plain;
    const layout *at = p->at;
    *low = *c;
    low->ins = at->s_in + 3;
    low->outs = p->master == SPLIT ? at->lo_out + 1 : c->outs;
    for (int k = 0; k < c->ins; k++)
        copy(&low->in[k], &c->in[k],
             (k == at->w_in && p->master != PLAIN) || (is_moment(at, k, at->m_in) && p->low_moments)
                 ? MEZZO_BF16
                 : c->in[k].type);
    operand(&low->in[at->s_in + 1], MEZZO_BF16, p->master == SPLIT ? c->p.optim.n : 0);
    operand(&low->in[at->s_in + 2], MEZZO_I32, 4);
    for (int k = 0; k < 4; k++)
        ((uint32_t *)low->in[at->s_in + 2].data)[k] = 0x10203040u * (uint32_t)(k + 7);
    for (int64_t i = 0; p->master == SPLIT && i < c->p.optim.n; i++) {
        float x = ((const float *)c->in[at->w_in].data)[i];
        ((mezzo_bf16 *)low->in[at->w_in].data)[i] = mzi_bf16_round_away(x);
        ((uint16_t *)low->in[at->s_in + 1].data)[i] = mzi_split_low(x);
    }
    for (int k = 0; k < low->outs; k++) {
        mezzo_dtype type = (k == at->w_out && p->master != PLAIN) || k == at->lo_out ||
                                   (is_moment(at, k, at->m_out) && p->low_moments)
                               ? MEZZO_BF16
                               : MEZZO_F32;
        operand(&low->out[k], type, c->p.optim.n);
    }
    low->p.optim.nearest = p->master == NEAREST;
    for (int k = 0; k < 3; k++)
        low->p.optim.streams[k] = 0x9e3779b97f4a7c15u * (uint64_t)(k + 1);
}

static uint32_t random_of(const pair *p, int slot, int64_t i) {
    const uint32_t *key = p->low.in[p->at->s_in + 2].data;
    uint32_t words[4];
    mzi_rng4(words, key[0] | (uint64_t)key[1] << 32, p->low.p.optim.streams[slot], (uint64_t)i / 8,
             key[2]);
    return words[i % 8 / 2] >> (i % 2 * 16);
}

/* The FP32 result as the form keeps it, and is read from it. */
static float formed(const pair *p, int k, int64_t i, float x) {
    bool master = k == p->at->w_out;
    if (is_moment(p->at, k, p->at->m_out) && p->low_moments)
        return mzi_bf16_load(
            mezzo_bf16_from_f32_stochastic(x, random_of(p, k - p->at->m_out + 1, i)));
    if (!master || p->master == PLAIN || p->master == SPLIT)
        return x;
    return mzi_bf16_load(p->master == NEAREST
                             ? mzi_bf16_round(x)
                             : mezzo_bf16_from_f32_stochastic(x, random_of(p, 0, i)));
}

static bool same(float a, float b) {
    return mzi_f32_bits(a) == mzi_f32_bits(b) || (isnan(a) && isnan(b));
}

static bool right(const pair *p, const mzk_args *args) {
    bool unmoved = p->at->family == MZK_sgd && p->low.p.optim.momentum == 0;
    for (int k = 0; k < p->plain->outs; k++)
        for (int64_t i = p->low.begin; i < p->low.end; i++) {
            float want = formed(p, k, i, ((const float *)p->plain->out[k].data)[i]);
            float got = (float)mzi_load(args->out[k], p->low.out[k].type, i);
            if (k == p->at->w_out && p->master == SPLIT)
                got = mzi_join(((const mezzo_bf16 *)args->out[k])[i],
                               ((const uint16_t *)args->out[p->at->lo_out])[i]);
            if (!same(got, want) && !(unmoved && k == p->at->m_out))
                return false;
        }
    return true;
}

static void call(ck_run *run, pair *p, const mzk_args *args, int64_t begin, int64_t end,
                 const char *wrong) {
    int64_t middle = begin + (end - begin) / 3; /* cut anywhere */
    run->kernel->fn(args, begin, middle);
    run->kernel->fn(args, middle, end);
    run->calls += 2;
    if (wrong && !right(p, args))
        ck_fail(run, &p->low, wrong);
}

static void check(ck_run *run, pair *p) {
    ck_case *low = &p->low;
    mzk_args args = ck_case_args(low);
    ck_case_run(p->plain, run->kernel->fn);
    for (int at_end = 0; at_end < 2; at_end++) {
        mzk_args at_pages = args;
        ck_pages_place(low, &at_pages, at_end);
        ck_pages_watch(run->kernel->name);
        call(run, p, &at_pages, low->begin, low->end, "not its FP32 result in this form");
        ck_pages_watch(NULL);
    }
    for (int k = 0; k < low->outs; k++)
        if (k == p->at->lo_out)
            args.out[k] = low->in[p->at->s_in + 1].data;
        else if (k == p->at->w_out)
            args.out[k] = low->in[p->at->w_in].data;
        else if (is_moment(p->at, k, p->at->m_out))
            args.out[k] = low->in[p->at->m_in + k - p->at->m_out].data;
    call(run, p, &args, low->begin, low->end, "other bits in place, in this form");
}

static void one_form(ck_run *run, const layout *at, int shape, form master, bool low_moments) {
    static const char *const names[] = {"f32", "split", "stochastic", "nearest"};
    const mezzo_dtype f32[] = {MEZZO_F32};
    ck_case c = {0};
    ck_case_make(&c, run->about, shape, CK_NORMAL, f32, run->seed + (uint64_t)shape);
    pair p = {.at = at, .plain = &c, .master = master, .low_moments = low_moments};
    prepare(&p);
    make_low(&p);
    snprintf(run->note, sizeof run->note, ", master %s, moments %s", names[master],
             low_moments ? "bf16" : "f32");
    check(run, &p);
    run->note[0] = 0;
    for (int k = 0; k < p.low.outs; k++)
        free(p.low.out[k].block);
    for (int k = 0; k < p.low.ins; k++)
        free(p.low.in[k].block);
    ck_case_free(&c);
}

void ck_masters(ck_run *run) {
    for (size_t f = 0; f < sizeof layouts / sizeof *layouts; f++) {
        const layout *at = &layouts[f];
        if (at->family != run->about->family)
            continue;
        for (int shape = 0; shape < run->about->shapes; shape++)
            for (int master = PLAIN; master < (at->w_in < 0 ? SPLIT : FORMS); master++)
                for (int moment = 0; moment <= (at->m_in >= 0); moment++)
                    one_form(run, at, shape, (form)master, moment != 0);
    }
}
