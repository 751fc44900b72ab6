/* Attention: shapes, the bounds of attention_bound.h on a case's operands, and the diagonal. */
#include <stdlib.h>
#include <string.h>

#include "attention_bound.h"
#include "checkkern.h"

/* T H G D, batch: widths around one and several vectors and tiles, groups, a head too large. */
static const int64_t shapes[CK_ATTENTION_SHAPES][5] = {
    {1, 1, 1, 1, 1},   {2, 2, 1, 3, 2},   {5, 1, 1, 8, 2},   {7, 4, 2, 5, 1},
    {16, 2, 2, 16, 1}, {17, 3, 1, 7, 2},  {33, 2, 1, 17, 1}, {33, 1, 1, 129, 1},
    {64, 2, 2, 5, 1},  {65, 1, 1, 9, 1},  {70, 2, 1, 3, 1},  {131, 1, 1, 4, 1},
    {17, 1, 1, 64, 1}, {5, 1, 1, 257, 1}, {67, 1, 1, 33, 1}, {66, 1, 1, 34, 1},
};

static void set(ck_case *c, const int64_t s[5], int64_t P) {
    c->p.attention.T = s[0];
    c->p.attention.H = s[1];
    c->p.attention.G = s[2];
    c->p.attention.D = s[3];
    c->p.attention.B = s[4];
    c->p.attention.P = P;
    c->p.attention.scale = (float)(1 / sqrt((double)s[3]));
}

void ck_shape_attention(ck_case *c, int k) {
    static const int64_t bench[5] = {256, 12, 12, 64, 1};
    const int64_t *s = k == CK_BENCH_SHAPE ? bench : shapes[k];
    int64_t T = s[0], H = s[1], G = s[2], D = s[3], B = s[4];
    bool forward = c->about->family == MZK_attention;
    set(c, s, 0);
    c->end = B * (forward ? H : G);
    c->begin = c->end > 3 ? 1 : 0;
    c->cut = 1;
    c->out[0].count = B * T * (forward ? H : H + 2 * G) * D;
    c->out[1].count = B * H * T;
    c->in[0].count = B * T * (forward ? H + 2 * G : H) * D;
    c->in[1].count = B * T * (H + 2 * G) * D;
    c->in[2].count = B * T * H * D;
    c->in[3].count = B * H * T;
}

void ck_shape_decode(ck_case *c, int k) {
    static const int64_t rows[CK_DECODE_SHAPES] = {1, 3, 8, 16, 17, 33, 128, 300, 129, 40};
    static const int64_t bench[5] = {1, 12, 12, 64, 4};
    int64_t s[5], P = k == CK_BENCH_SHAPE ? 1024 : rows[k];
    memcpy(s, k == CK_BENCH_SHAPE ? bench : shapes[(k + 4) % CK_ATTENTION_SHAPES], sizeof s);
    s[0] = 1;
    int64_t H = s[1], G = s[2], D = s[3], B = s[4];
    bool append = c->about->family == MZK_kv_append;
    set(c, s, P);
    c->end = append ? B : B * H;
    c->begin = c->end > 3 ? 1 : 0;
    c->cut = 1;
    c->in[0].count = B * (H + 2 * G) * D;
    c->in[append ? 1 : 3].count = 1;
    for (int i = 0; i < 2; i++) {
        c->in[append ? 2 + i : 1 + i].count = B * P * G * D;
        c->out[i].count = append ? B * P * G * D : B * H * D;
    }
}

/* The operands in FP64. */
static void widen(const ck_case *c, double *in[MZK_IN_MAX]) {
    for (int k = 0; k < MZK_IN_MAX; k++) { /* those that there are not are empty */
        in[k] = malloc((size_t)(c->in[k].count + 1) * sizeof *in[k]);
        if (!in[k])
            abort();
        for (int64_t i = 0; i < c->in[k].count; i++)
            in[k][i] = ck_in(c, k, i);
    }
}

static void release(double *in[MZK_IN_MAX]) {
    for (int k = 0; k < MZK_IN_MAX; k++)
        free(in[k]);
}

static attention_shape shape_of(const ck_case *c) {
    return (attention_shape){c->p.attention.T,
                             c->p.attention.H,
                             c->p.attention.G,
                             c->p.attention.D,
                             (double)c->p.attention.scale,
                             c->out[0].type == MEZZO_BF16};
}

void ck_bound_attention(const ck_case *c, double *error[MZK_OUT_MAX]) {
    double *in[MZK_IN_MAX];
    attention_shape s = shape_of(c);
    widen(c, in);
    for (int64_t row = c->begin; row < c->end; row++)
        attention_bound(&s, in[0], row / s.H, row % s.H, error[0], error[1]);
    release(in);
}

void ck_bound_attention_bwd(const ck_case *c, double *error[MZK_OUT_MAX]) {
    double *in[MZK_IN_MAX];
    attention_shape s = shape_of(c);
    int64_t heads = s.H / s.G;
    widen(c, in);
    for (int64_t row = c->begin * heads; row < c->end * heads; row++)
        attention_bound_bwd(&s, in, row / s.H, row % s.H, error[0]);
    release(in);
}

void ck_bound_attention_decode(const ck_case *c, double *error[MZK_OUT_MAX]) {
    double *in[MZK_IN_MAX];
    attention_shape s = shape_of(c);
    widen(c, in);
    for (int64_t row = c->begin; row < c->end; row++) {
        attention_place at = attention_places(&s, row / s.H, row % s.H);
        int64_t h = row % s.H, stride = s.G * s.D;
        int64_t key = row / s.H * c->p.attention.P * stride + h / (s.H / s.G) * s.D;
        attention_bound_query(in[0] + at.q, in[1] + key, in[2] + key, stride, (int64_t)in[3][0] + 1,
                              s.D, s.scale, false, error[0] + row * s.D);
    }
    release(in);
}

/* NaN in `count` elements of an operand, from `at` on. */
static void spoil(ck_case *c, int operand, int64_t at, int64_t count) {
    for (int64_t i = at; i < at + count; i++)
        mzi_store(c->in[operand].data, c->in[operand].type, i, (double)NAN);
}

/* NaN in everything of the tokens [first, last), or in all but their keys and values. */
static void spoil_tokens(ck_case *c, int64_t first, int64_t last, bool keys) {
    attention_shape s = shape_of(c);
    bool backward = c->about->family == MZK_attention_bwd;
    for (int64_t b = 0; b < c->p.attention.B; b++)
        for (int64_t t = first; t < last; t++) {
            int64_t row = b * s.T + t, O = s.H * s.D, E = (s.H + 2 * s.G) * s.D;
            spoil(c, backward, row * E, keys ? E : O);
            for (int k = 0; backward && k <= 2; k += 2) /* dy, y */
                spoil(c, k, row * O, O);
            for (int64_t h = 0; backward && h < s.H; h++)
                spoil(c, 3, (b * s.H + h) * s.T + t, 1);
        }
}

static void check_spoilt(ck_run *run, int shape, mezzo_dtype type, bool late) {
    ck_case c = {0};
    mezzo_dtype types[] = {type, type, type};
    ck_case_make(&c, run->about, shape, CK_NORMAL, types, run->seed + (uint64_t)shape);
    int64_t T = c.p.attention.T, half = T / 2;
    spoil_tokens(&c, late ? half : 0, late ? T : half, late);
    ck_case_poison(&c);
    ck_case_run(&c, run->kernel->fn);
    run->calls++;
    const char *wrong = ck_case_compare(&c, CK_BOUND);
    if (wrong)
        ck_fail(run, &c, wrong);
    int64_t numbers = 0;
    for (int64_t i = 0; i < c.out[0].count; i++)
        numbers += isfinite(mzi_load(c.out[0].data, c.out[0].type, i));
    if (half > 0 && numbers == 0)
        ck_fail(run, &c, "a NaN on the other side of the diagonal reached everything");
    ck_case_free(&c);
}

/* Later tokens are NaN: earlier ones are as ever.  Queries of earlier tokens are NaN: so are the
 * gradients of keys that they see, and no later ones. */
void ck_causal(ck_run *run) {
    static const mezzo_dtype storage[] = {MEZZO_F32, MEZZO_BF16, MEZZO_F16};
    bool backward = run->about->family == MZK_attention_bwd;
    if ((run->about->family != MZK_attention && !backward) || run->kernel->needs == MEZZO_ISA_REF)
        return;
    for (int shape = 0; shape < CK_ATTENTION_SHAPES; shape++)
        for (int t = 0; t < 3; t++) {
            check_spoilt(run, shape, storage[t], true);
            if (backward)
                check_spoilt(run, shape, storage[t], false);
        }
}
