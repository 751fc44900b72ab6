/* Updates of masters and moments in other forms than FP32, by gradients of FP32 and BF16, and
 * embeddings that read such masters.
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

/* Among a master's values those at the ends of its halves. */
static void put_specials(ck_operand *o) {
    static const uint32_t bits[] = {0x3f808000u, 0x3f807fffu, 0xbf818000u, 0x7f7fffffu, 0x80008000u,
                                    0x00000001u, 0xff800000u, 0x7fc00000u, 0x7fff8000u};
    enum {
        SPECIALS = sizeof bits / sizeof *bits
    };
    float *x = o->data;
    for (int64_t i = 2; i < o->count; i += 5)
        memcpy(&x[i], &bits[i / 5 % SPECIALS], sizeof *x);
}

static void round_all(ck_operand *o) {
    float *x = o->data;
    for (int64_t i = 0; i < o->count; i++)
        x[i] = mzi_bf16_load(mzi_bf16_round(x[i]));
}

/* Values that the form holds. */
static void prepare(const pair *p) {
    ck_case *c = p->plain;
    for (int k = 0; k < c->ins; k++) {
        bool master = k == p->at->w_in, moment = is_moment(p->at, k, p->at->m_in);
        if (master)
            put_specials(&c->in[k]);
        if ((master && p->master > SPLIT) || (moment && p->low_moments))
            round_all(&c->in[k]);
    }
}

/* Halves of the values of `from`; both operands are there already. */
static void halve(ck_operand *high, ck_operand *low, const ck_operand *from) {
    for (int64_t i = 0; i < from->count; i++) {
        float x = ((const float *)from->data)[i];
        ((mezzo_bf16 *)high->data)[i] = mzi_bf16_round_away(x);
        ((uint16_t *)low->data)[i] = mzi_split_low(x);
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
    if (p->master == SPLIT)
        halve(&low->in[at->w_in], &low->in[at->s_in + 1], &c->in[at->w_in]);
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

static const char *const form_names[] = {"f32", "split", "stochastic", "nearest"};

static void free_operands(ck_case *c) {
    for (int k = 0; k < c->outs; k++)
        free(c->out[k].block);
    for (int k = 0; k < c->ins; k++)
        free(c->in[k].block);
}

static void one_form(ck_run *run, const layout *at, int shape, form master, bool low_moments,
                     mezzo_dtype gradient) {
    ck_case c = {0};
    ck_case_make(&c, run->about, shape, CK_NORMAL, &gradient, run->seed + (uint64_t)shape);
    pair p = {.at = at, .plain = &c, .master = master, .low_moments = low_moments};
    prepare(&p);
    make_low(&p);
    snprintf(run->note, sizeof run->note, ", master %s, moments %s", form_names[master],
             low_moments ? "bf16" : "f32");
    check(run, &p);
    run->note[0] = 0;
    free_operands(&p.low);
    ck_case_free(&c);
}

static void every_form(ck_run *run, const layout *at, int shape, mezzo_dtype gradient) {
    for (int master = PLAIN; master < (at->w_in < 0 ? SPLIT : FORMS); master++)
        for (int moment = 0; moment <= (at->m_in >= 0); moment++)
            one_form(run, at, shape, (form)master, moment != 0, gradient);
}

enum {
    TABLE = 1, /* inputs of embed: two tables from here on, and their lower halves */
    TABLE_LOW = 4
};

/* Tables in a form give the bits of FP32 tables with their values. */
static void one_embedding(ck_run *run, int shape, const form forms[2], mezzo_dtype out) {
    ck_case c = {0}, low;
    ck_case_make(&c, run->about, shape, CK_NORMAL, &out, run->seed + (uint64_t)shape);
    low = c;
    low.ins = TABLE_LOW + 2;
    for (int k = 0; k < c.ins; k++) {
        form f = k == TABLE || k == TABLE + 1 ? forms[k - TABLE] : PLAIN;
        if (f != PLAIN)
            put_specials(&c.in[k]);
        if (f > SPLIT)
            round_all(&c.in[k]);
        copy(&low.in[k], &c.in[k], f != PLAIN ? MEZZO_BF16 : c.in[k].type);
        if (k != TABLE && k != TABLE + 1)
            continue;
        ck_operand *lo = &low.in[TABLE_LOW + k - TABLE];
        operand(lo, MEZZO_BF16, f == SPLIT ? c.in[k].count : 0);
        if (f == SPLIT)
            halve(&low.in[k], lo, &c.in[k]);
    }
    operand(&low.out[0], out, c.out[0].count);
    snprintf(run->note, sizeof run->note, ", weight %s, positions %s", form_names[forms[0]],
             form_names[forms[1]]);
    ck_case_run(&c, run->kernel->fn);
    mzk_args args = ck_case_args(&low);
    ck_pages_place(&low, &args, 1);
    ck_pages_watch(run->kernel->name);
    run->kernel->fn(&args, low.begin, low.end);
    ck_pages_watch(NULL);
    run->calls++;
    int64_t n = c.p.embed.n, i = low.begin * n;
    while (i < low.end * n && ck_same(out, args.out[0], c.out[0].data, i))
        i++;
    if (i < low.end * n)
        ck_fail(run, &low, "not its result from FP32 tables");
    run->note[0] = 0;
    free_operands(&low);
    ck_case_free(&c);
}

static void embeddings(ck_run *run, int shape) {
    static const mezzo_dtype outs[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    static const form forms[] = {PLAIN, SPLIT, NEAREST};
    for (int k = 0; k < 27; k++) {
        const form of_tables[] = {forms[k / 3 % 3], forms[k / 9]};
        one_embedding(run, shape, of_tables, outs[k % 3]);
    }
}

void ck_masters(ck_run *run) {
    for (int shape = 0; run->about->family == MZK_embed && shape < run->about->shapes; shape++)
        embeddings(run, shape);
    for (size_t f = 0; f < sizeof layouts / sizeof *layouts; f++) {
        const layout *at = &layouts[f];
        if (at->family != run->about->family)
            continue;
        for (int shape = 0; shape < run->about->shapes; shape++) {
            every_form(run, at, shape, MEZZO_F32);
            if (ck_free_types(run->about)) /* of the gradient */
                every_form(run, at, shape, MEZZO_BF16);
        }
    }
}
