/* One call of a kernel: operands between guard bands, filled from a seed. */
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"

enum {
    GUARD = 64,
    POISON = 0xaa
};

double ck_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int64_t random_below(uint64_t *state, int64_t n) {
    return (int64_t)(ck_random(state) * (double)n);
}

static double random_normal(uint64_t *state) {
    double r = sqrt(-2 * log(1 - ck_random(state)));
    return r * cos(2 * M_PI * ck_random(state));
}

static double content_value(const ck_case *c, char content, int64_t i, uint64_t *state) {
    static const double exact_step[] = {0.5, 2, 1, 1};
    static const double step[] = {0.01, 0.7, 1.9, 3.1};
    bool exact = c->fill == CK_EXACT;
    switch (content) {
    case 'c':
        return exact ? ldexp(0.5, (int)random_below(state, 3)) : 0.5 + ck_random(state);
    case 'q':
        return exact ? (double)random_below(state, 5) : pow(random_normal(state), 2);
    case 'l':
        return (double)random_below(state, c->p.loss.V + 1) - 1;
    case 'k':
        return i == 3 ? (double)random_below(state, 6) : random_normal(state) * 1e9;
    case 'n':
        return (double)random_below(state, c->p.pool.KH * c->p.pool.KW);
    case 't':
        return (double)random_below(state, c->p.embed.V);
    case 'p':
        return (double)random_below(state, CK_SPARE_POSITIONS + 1);
    case 'b':
        return (double)random_below(state, 3);
    case 'r':
        return (double)random_below(state, c->p.attention.P);
    case 'e':
        return 2 + 2 * ck_random(state);
    case 's':
        return (exact ? exact_step : step)[i % 4];
    default: /* sometimes larger or smaller, so that sums are not all of one binade */
        return exact ? (double)random_below(state, 7) - 3
                     : ldexp(random_normal(state), (int)random_below(state, 4) * 2 - 4);
    }
}

static void operand_make(ck_operand *o, int64_t extra) {
    size_t bytes = mezzo_dtype_bytes(o->type);
    o->block_bytes = (size_t)(o->count + extra) * bytes + 2 * GUARD;
    o->block = malloc(o->block_bytes);
    if (!o->block)
        abort();
    memset(o->block, POISON, o->block_bytes);
    o->data = o->block + GUARD + (size_t)extra * bytes; /* off the natural alignment of vectors */
}

static mezzo_dtype operand_type(char letter, const mezzo_dtype **types, mezzo_dtype first) {
    switch (letter) {
    case 'f':
        return MEZZO_F32;
    case 'h':
        return MEZZO_BF16;
    case 'd':
        return MEZZO_F64;
    case 'i':
        return MEZZO_I32;
    case 'u':
        return MEZZO_U8;
    case '=':
        return first;
    default:
        return *(*types)++;
    }
}

int ck_free_types(const ck_family *about) {
    int n = 0;
    for (const char *p = about->outs; *p; p++)
        n += *p == 'x';
    for (const char *p = about->ins; *p; p++)
        n += *p == 'x';
    return n;
}

bool ck_case_make(ck_case *c, const ck_family *about, int shape, ck_fill fill,
                  const mezzo_dtype *types, uint64_t seed) {
    int64_t elements = c->elements;
    memset(c, 0, sizeof *c);
    c->about = about;
    c->fill = fill;
    c->seed = seed;
    c->elements = elements;
    c->outs = (int)strlen(about->outs);
    c->ins = (int)strlen(about->ins);
    for (int k = 0; k < c->outs; k++)
        c->out[k].type = operand_type(about->outs[k], &types, MEZZO_F32);
    for (int k = 0; k < c->ins; k++)
        c->in[k].type = operand_type(about->ins[k], &types, c->out[0].type);
    about->shape(c, shape);
    /* The kernel may write every byte of it: memory tools watch its end. */
    size_t scratch = (size_t)mzk_scratch_bytes(about->family, &c->p);
    c->scratch = scratch ? aligned_alloc(64, (scratch + 63) / 64 * 64) : NULL;
    for (int k = 0; k < c->outs; k++)
        operand_make(&c->out[k], shape == CK_BENCH_SHAPE ? 0 : k + 1);
    uint64_t state = seed;
    for (int k = 0; k < c->ins; k++) {
        operand_make(&c->in[k], shape == CK_BENCH_SHAPE ? 0 : k + 2);
        for (int64_t i = 0; i < c->in[k].count; i++)
            mzi_store(c->in[k].data, c->in[k].type, i,
                      content_value(c, about->content[k], i, &state));
    }
    return c->begin < c->end;
}

void ck_case_free(ck_case *c) {
    for (int k = 0; k < c->outs; k++)
        free(c->out[k].block);
    for (int k = 0; k < c->ins; k++)
        free(c->in[k].block);
    free(c->scratch);
}

mzk_args ck_case_args(const ck_case *c) {
    mzk_args args = {.p = c->p, .scratch = c->scratch};
    for (int k = 0; k < c->outs; k++) {
        args.out[k] = c->out[k].absent ? NULL : c->out[k].data;
        args.out_type[k] = (uint8_t)c->out[k].type;
    }
    for (int k = 0; k < c->ins; k++) {
        bool bias = c->in[k].count || k < 2; /* or an absent one */
        args.in[k] = bias && !c->in[k].absent ? c->in[k].data : NULL;
        args.in_type[k] = (uint8_t)c->in[k].type;
    }
    return args;
}

void ck_case_poison(ck_case *c) {
    for (int k = 0; k < c->outs; k++)
        memset(c->out[k].block, POISON, c->out[k].block_bytes);
}

void ck_case_run(ck_case *c, mzk_fn *fn) {
    mzk_args args = ck_case_args(c);
    fn(&args, c->begin, c->end);
}

double ck_in(const ck_case *c, int k, int64_t i) {
    return mzi_load(c->in[k].data, c->in[k].type, i);
}

bool ck_same(mezzo_dtype type, const void *a, const void *b, int64_t i) {
    size_t bytes = mezzo_dtype_bytes(type);
    if (!memcmp((const char *)a + (size_t)i * bytes, (const char *)b + (size_t)i * bytes, bytes))
        return true;
    return mezzo_dtype_is_float(type) && isnan(mzi_load(a, type, i)) && isnan(mzi_load(b, type, i));
}
