/* The families: operands, shapes, bounds. */
#include "checkkern.h"

/* Longer than two vectors of any instruction set. */
enum {
    FLAT_SMALL = 2 * 16 + 2
};

static void counts(ck_case *c, int64_t out, int64_t in0) {
    c->out[0].count = out;
    c->in[0].count = in0;
}

/* n = 0..33 and some larger; odd shapes start inside. */
static int64_t flat_length(const ck_case *c, int k) {
    static const int64_t more[] = {63, 64, 65, 127, 1000, 4099};
    if (k == CK_BENCH_SHAPE)
        return c->elements;
    return k < FLAT_SMALL ? k : more[k - FLAT_SMALL];
}
enum {
    FLAT_SHAPES = FLAT_SMALL + 6
};

static void shape_flat(ck_case *c, int k) {
    int64_t n = flat_length(c, k);
    c->p.e.n = n;
    c->p.e.alpha = c->fill == CK_EXACT ? 0.5f : 0.7f;
    c->end = n;
    c->begin = k % 2 == 1 && n > 3 ? 3 : 0;
    c->cut = 1;
    for (int i = 0; i < c->outs; i++)
        c->out[i].count = n;
    for (int i = 0; i < c->ins; i++)
        c->in[i].count = n;
}

static void shape_scale_by(ck_case *c, int k) {
    shape_flat(c, k);
    c->in[1].count = 1;
}

static void shape_broadcast(ck_case *c, int k) {
    shape_flat(c, k);
    c->in[0].count = 1;
}

static void shape_sum(ck_case *c, int k) {
    shape_flat(c, k);
    c->begin = 0;
    c->cut = c->p.e.grain = k == CK_BENCH_SHAPE ? 1 << 16 : 300;
    c->out[0].count = (c->end + c->p.e.grain - 1) / c->p.e.grain;
}

static void shape_stats(ck_case *c, int k) {
    shape_sum(c, k);
    c->p.e.alpha = k % 4 == 0 ? 0 : c->p.e.alpha;
    c->out[0].count *= MZK_STATS;
}

static void shape_sum_parts(ck_case *c, int k) {
    shape_flat(c, k);
    c->p.e.parts = k == CK_BENCH_SHAPE ? 16 : k % 7 + 1;
    c->p.e.n = c->end = c->end / (k == CK_BENCH_SHAPE ? 16 : 1);
    counts(c, c->end, c->end * c->p.e.parts);
}

/* Rows of every width around one, two and four vectors. */
static const int64_t widths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100, 130};
static const int64_t heights[] = {1, 0, 3, 131};
enum {
    WIDTHS = sizeof widths / sizeof widths[0],
    ROWS_SHAPES = WIDTHS * 4
};

static void rows_of(const ck_case *c, int k, int64_t *rows, int64_t *n) {
    *n = k == CK_BENCH_SHAPE ? 64 : widths[k % WIDTHS];
    *rows = k == CK_BENCH_SHAPE ? c->elements / 64 : heights[k / WIDTHS];
}

static void shape_add_row(ck_case *c, int k) {
    int64_t rows, n;
    rows_of(c, k, &rows, &n);
    c->p.e.n = n;
    c->begin = rows > 2 ? 1 : 0;
    c->end = rows;
    c->cut = 1;
    counts(c, rows * n, rows * n);
    c->in[1].count = n;
}

static void shape_sample(ck_case *c, int k) {
    shape_flat(c, k);
    int64_t n = c->end, stride = k % 5 + 1;
    c->p.sample.n = n;
    c->p.sample.stride = stride;
    int64_t span = n > 0 ? (n - 1) * stride + 1 : 0;
    c->in[0].count = span;
    if (c->about->family == MZK_sample)
        return;
    c->in[1].count = span;
    c->begin = 0;
    c->end = 1;
    c->cut = 0;
    c->out[0].count = 2;
}

static void shape_dropout(ck_case *c, int k) {
    shape_add_row(c, k);
    c->in[1].count = 4;
    c->p.e.alpha = c->fill == CK_EXACT ? 0.5f : 0.3f;
    c->p.e.beta = c->fill == CK_EXACT ? 2 : 1 / 0.7f;
    c->p.e.stream = 0x0123456789abcdefu;
}

static void shape_normal(ck_case *c, int k) {
    shape_flat(c, k);
    c->in[0].count = 4;
    c->p.e.alpha = 0.02f;
    c->p.e.stream = 0x0123456789abcdefu;
}

static void shape_colsum(ck_case *c, int k) {
    shape_add_row(c, k);
    c->begin = 0;
    c->cut = c->p.e.grain = k == CK_BENCH_SHAPE ? 4096 : 40;
    c->out[0].count = (c->end + c->p.e.grain - 1) / c->p.e.grain * c->p.e.n;
}

/* B H W C KH KW stride pad: the usual 2x2, overlapping, padded, uneven, windows of one row. */
static const int64_t pools[][8] = {
    {2, 4, 4, 16, 2, 2, 2, 0}, {1, 5, 7, 3, 2, 2, 2, 0},  {3, 6, 4, 33, 2, 2, 2, 0},
    {2, 7, 7, 32, 3, 3, 2, 1}, {1, 5, 5, 17, 3, 3, 1, 1}, {2, 6, 5, 8, 3, 2, 1, 0},
    {1, 8, 8, 64, 4, 4, 4, 0}, {2, 3, 9, 5, 1, 3, 3, 0},  {1, 1, 1, 40, 1, 1, 1, 0},
    {1, 2, 2, 15, 2, 2, 2, 0}, {2, 9, 4, 1, 3, 3, 2, 1},  {1, 4, 4, 130, 2, 2, 1, 1},
};
enum {
    POOL_SHAPES = sizeof pools / sizeof pools[0]
};

static void shape_pool(ck_case *c, int k) {
    const int64_t bench[8] = {c->elements / (28 * 28 * 32), 28, 28, 32, 2, 2, 2, 0};
    const int64_t *s = k == CK_BENCH_SHAPE ? bench : pools[k];
    int64_t OH = (s[1] + 2 * s[7] - s[4]) / s[6] + 1, OW = (s[2] + 2 * s[7] - s[5]) / s[6] + 1;
    c->p.pool = (mzk_pool_params){s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], OH, OW};
    int64_t x = s[0] * s[1] * s[2] * s[3], y = s[0] * OH * OW * s[3];
    bool forward = c->about->family == MZK_max_pool || c->about->family == MZK_avg_pool;
    c->end = forward ? s[0] * OH : s[0];
    c->begin = c->end > 1 ? 1 : 0;
    c->cut = 1;
    counts(c, forward ? y : x, forward ? x : y);
    c->out[1].count = c->in[1].count = y;
}

static void shape_norm(ck_case *c, int k) {
    int64_t rows, C;
    rows_of(c, k, &rows, &C);
    c->p.norm.rows = 256; /* of the whole batch: only a divisor here */
    c->p.norm.C = C;
    c->p.norm.eps = 1e-5f;
    c->p.norm.momentum = 0.125f;
    c->begin = rows > 2 ? 1 : 0;
    c->end = rows;
    c->cut = 1;
    for (int i = 0; i < c->ins; i++)
        c->in[i].count = C;
    counts(c, rows * C, rows * C);
    if (c->about->family == MZK_bn_bwd_apply || c->about->family == MZK_bn_bwd_part)
        c->in[1].count = rows * C;
}

static void shape_norm_part(ck_case *c, int k) {
    shape_norm(c, k);
    c->begin = 0;
    c->cut = c->p.norm.grain = k == CK_BENCH_SHAPE ? 4096 : 90;
    int64_t slots = (c->end + c->p.norm.grain - 1) / c->p.norm.grain * c->p.norm.C;
    c->out[0].count = c->outs == 1 ? 2 * slots : slots;
    c->out[1].count = slots;
}

/* Domain 1: all channels at once. */
static void shape_norm_one(ck_case *c, int k) {
    shape_norm(c, k);
    c->p.norm.parts = k / WIDTHS + 1;
    c->begin = 0;
    c->end = 1;
    c->cut = 0;
    for (int i = 0; i < c->outs; i++)
        c->out[i].count = c->p.norm.C;
    c->in[0].count = c->p.norm.C;
    if (c->about->family == MZK_bn_stats)
        c->in[0].count = c->p.norm.parts * 2 * c->p.norm.C;
}

static void shape_ln(ck_case *c, int k) {
    int64_t rows, C;
    rows_of(c, k, &rows, &C);
    if (k == CK_BENCH_SHAPE) {
        C = 768;
        rows = c->elements / C;
    }
    bool backward = c->about->family == MZK_ln_bwd, bias = k % 2 == 0;
    c->p.norm.C = C;
    c->p.norm.rows = rows;
    c->p.norm.eps = 1e-5f;
    c->p.norm.grain = 40;
    c->end = rows;
    c->begin = rows > 2 && !backward ? 1 : 0;
    c->cut = backward ? c->p.norm.grain : 1;
    counts(c, rows * C, rows * C);
    if (backward) {
        int64_t slots = (rows + c->p.norm.grain - 1) / c->p.norm.grain * C;
        c->out[1].count = slots;
        c->out[2].count = bias ? slots : 0;
        c->out[2].absent = !bias;
        c->in[1].count = rows * C;
        c->in[2].count = c->in[3].count = rows;
        c->in[4].count = C;
    } else {
        c->out[1].count = c->out[2].count = rows;
        c->in[1].count = C;
        c->in[2].count = bias ? C : 0;
    }
}

static void shape_rms(ck_case *c, int k) {
    int64_t rows, C;
    rows_of(c, k, &rows, &C);
    if (k == CK_BENCH_SHAPE) {
        C = 768;
        rows = c->elements / C;
    }
    bool backward = c->about->family == MZK_rms_bwd;
    c->p.norm.C = C;
    c->p.norm.rows = rows;
    c->p.norm.eps = 1e-5f;
    c->p.norm.grain = 40;
    c->end = rows;
    c->begin = rows > 2 && !backward ? 1 : 0;
    c->cut = backward ? c->p.norm.grain : 1;
    counts(c, rows * C, rows * C);
    c->in[backward ? 3 : 1].count = C;
    if (backward) {
        c->out[1].count = (rows + c->p.norm.grain - 1) / c->p.norm.grain * C;
        c->in[1].count = rows * C;
        c->in[2].count = rows;
    } else {
        c->out[1].count = rows;
    }
}

static void shape_swiglu(ck_case *c, int k) {
    int64_t rows, n;
    rows_of(c, k, &rows, &n);
    bool backward = c->about->family == MZK_swiglu_bwd;
    c->p.e.n = n;
    c->begin = rows > 2 ? 1 : 0;
    c->end = rows;
    c->cut = 1;
    counts(c, (backward ? 2 : 1) * rows * n, (backward ? 1 : 2) * rows * n);
    c->in[1].count = 2 * rows * n;
}

/* Sequences of 7 or fewer; none to three heads' worth of columns behind those that are turned. */
static void shape_rope(ck_case *c, int k) {
    int64_t rows, half;
    rows_of(c, k, &rows, &half);
    bool bench = k == CK_BENCH_SHAPE;
    int64_t heads = bench ? 16 : k % 3 + 1, T = bench ? 256 : rows % 7 + 1;
    half = bench ? 32 : half;
    int64_t n = 2 * half * heads + (bench ? 256 : k % 4 * half);
    rows = bench ? c->elements / n : rows > 23 ? 23 : rows;
    c->p.rope.T = T;
    c->p.rope.n = n;
    c->p.rope.D = 2 * half;
    c->p.rope.heads = heads;
    c->p.rope.inverse = k % 2;
    c->p.rope.theta = 10000;
    if (c->about->family == MZK_rope_table) {
        c->end = T;
        c->out[0].count = T * 2 * half;
        c->in[0].count = k % 3 > 0;
        c->in[0].absent = k % 3 == 0;
    } else {
        c->begin = rows > 2 ? 1 : 0;
        c->end = rows;
        counts(c, rows * n, rows * n);
        c->in[1].count = T * 2 * half;
    }
    c->cut = 1;
}

/* Sequences of 7 or fewer; without positions, with them, and with a start. */
static void shape_embed(ck_case *c, int k) {
    int64_t rows, n;
    rows_of(c, k, &rows, &n);
    bool bench = k == CK_BENCH_SHAPE;
    n = bench ? 768 : n;
    rows = bench ? c->elements / n : rows;
    int64_t T = bench ? 256 : rows % 7 + 1, V = bench ? rows : 5 + k % 30;
    int64_t P = T + CK_SPARE_POSITIONS;
    mzk_family family = c->about->family;
    c->p.embed.rows = rows;
    c->p.embed.n = n;
    c->p.embed.T = T;
    c->p.embed.V = V;
    bool of_table = family == MZK_embed_dw || family == MZK_embed_dw_add;
    int64_t domain = family == MZK_embed ? rows : of_table ? V : P;
    bool cut = domain > 2 && !bench; /* rows of the table before and behind are others' */
    c->begin = cut ? 1 : 0;
    c->end = cut ? domain - 1 : domain;
    c->cut = 1;
    counts(c, domain * n, family == MZK_embed ? rows : rows * n);
    if (family == MZK_embed) {
        c->in[1].count = V * n;
        c->in[2].count = k % 3 ? P * n : 0;
        c->in[3].count = k % 3 == 2;
    } else {
        c->in[1].count = of_table ? rows : k % 2;
        c->in[1].absent = !c->in[1].count && family == MZK_embed_dp;
        c->in[2].count = V * n;
    }
}

static void shape_accumulate(ck_case *c, int k) {
    shape_flat(c, k);
    for (int i = 2; i < c->ins; i++)
        c->in[i].count = 1;
}

static void shape_xent(ck_case *c, int k) {
    int64_t M, V;
    rows_of(c, k, &M, &V);
    c->p.loss.M = M;
    c->p.loss.V = V;
    c->p.loss.smoothing = k % 3 == 2 ? 0.1f : 0;
    c->cut = c->p.loss.grain = k == CK_BENCH_SHAPE ? 4096 : 50;
    c->end = M;
    c->in[0].count = M * V;
    c->in[1].count = M;
    if (c->about->family == MZK_xent_part) {
        c->out[0].count = M;
        c->out[1].count = (M + c->p.loss.grain - 1) / c->p.loss.grain * 3;
        return;
    }
    c->cut = 1;
    c->begin = M > 2 ? 1 : 0;
    c->out[0].count = M * V;
    c->in[2].count = M;
    c->in[3].count = c->in[4].count = 1;
}

static void shape_xent_valid(ck_case *c, int k) {
    rows_of(c, k, &c->p.loss.M, &c->p.loss.V);
    c->end = 1;
    c->in[0].count = c->p.loss.M;
    c->out[0].count = 1;
}

static void shape_xent_total(ck_case *c, int k) {
    c->p.e.parts = k + 1;
    c->end = 1;
    c->in[0].count = 3 * (k + 1);
    for (int i = 0; i < 3; i++)
        c->out[i].count = 1;
}

static void shape_optim(ck_case *c, int k) {
    shape_flat(c, k);
    bool exact = c->fill == CK_EXACT;
    c->p.optim.n = c->end;
    c->p.optim.weight_decay = exact ? 0.5f : 0.1f;
    c->p.optim.beta1 = exact ? 0.5f : 0.9f;
    c->p.optim.beta2 = exact ? 0.75f : 0.95f;
    c->p.optim.eps = 1e-8f;
    c->p.optim.momentum = k % 3 == 2 ? 0 : exact ? 0.5f : 0.9f;
    c->p.optim.lr_scale = exact ? 0.5f : 0.8f;
    c->p.optim.nesterov = k % 3 == 1;
    c->p.optim.scale = exact ? 2 : 1.7f;
    c->in[c->ins - 1].count = 8;
}

static void shape_ema(ck_case *c, int k) {
    shape_flat(c, k);
    c->in[2].count = 8;
}

static void shape_muon_unit(ck_case *c, int k) {
    shape_flat(c, k);
    c->p.e.parts = k == CK_BENCH_SHAPE ? 16 : k % 7 + 1;
    c->in[1].count = MZK_STATS * c->p.e.parts;
}

/* M N K, transpose a, transpose b, and of tiles rows and columns (0: the domain is rows); bands
 * of 48 */
static const int64_t matmuls[][7] = {
    {1, 1, 1, 0, 0},
    {3, 5, 7, 0, 0},
    {5, 3, 9, 0, 1},
    {4, 17, 6, 1, 0},
    {16, 16, 16, 1, 1},
    {33, 10, 40, 0, 1},
    {7, 130, 65, 0, 1},
    {31, 64, 100, 0, 0},
    {6, 16, 64, 0, 1},
    {2, 47, 33, 1, 0},
    {13, 100, 17, 0, 0},
    {64, 64, 64, 0, 1},
    {70, 100, 40, 0, 1, 16, 48},
    {70, 100, 41, 1, 0, 32, 96},
    {40, 97, 33, 0, 0, 16, 48},
    {9, 20, 1100, 0, 1, 16, 48},
    {20, 49, 1031, 1, 0, 16, 48},
    {17, 33, 600, 0, 0, 16, 48},
    {60, 18, 40, 0, 1, 64, 96},
    {100, 19, 22, 0, 1, 112, 48},
    {5, 19, 18, 0, 1, 16, 48},
};
enum {
    MATMUL_SHAPES = sizeof matmuls / sizeof matmuls[0]
};

static void shape_matmul(ck_case *c, int k) {
    static const int64_t bench[7] = {1024, 768, 768, 0, 1, 1024, 96};
    const int64_t *s = k == CK_BENCH_SHAPE ? bench : matmuls[k];
    c->p.matmul = (mzk_matmul_params){.M = s[0],
                                      .N = s[1],
                                      .K = s[2],
                                      .transpose_a = (int32_t)s[3],
                                      .transpose_b = (int32_t)s[4],
                                      .tile_m = s[5],
                                      .tile_n = s[6],
                                      .band_n = 48};
    c->end = s[0];
    if (s[5])
        c->end = (s[0] + s[5] - 1) / s[5] * ((s[1] + s[6] - 1) / s[6]);
    c->begin = c->end > 2 && k != CK_BENCH_SHAPE ? 1 : 0;
    c->cut = 1;
    counts(c, s[0] * s[1], s[0] * s[2]);
    c->in[1].count = s[1] * s[2];
    c->in[2].count = k % 2 ? s[1] : 0; /* no bias */
}

/* B H W Ci Co KH KW stride pad */
static const int64_t convs[][9] = {
    {2, 5, 5, 1, 3, 3, 3, 1, 1}, {1, 4, 6, 3, 2, 3, 3, 1, 1}, {3, 7, 7, 2, 4, 3, 3, 2, 1},
    {2, 6, 5, 4, 5, 1, 1, 1, 0}, {1, 8, 8, 3, 4, 5, 5, 2, 2}, {2, 5, 6, 2, 3, 2, 3, 1, 0},
};
enum {
    CONV_SHAPES = sizeof convs / sizeof convs[0]
};

static void shape_conv(ck_case *c, int k) {
    static const int64_t bench[9] = {8, 14, 14, 32, 64, 3, 3, 1, 1};
    const int64_t *s = k == CK_BENCH_SHAPE ? bench : convs[k];
    int64_t OH = (s[1] + 2 * s[8] - s[5]) / s[7] + 1, OW = (s[2] + 2 * s[8] - s[6]) / s[7] + 1;
    c->p.conv = (mzk_conv_params){s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], OH, OW, 2};
    int64_t x = s[0] * s[1] * s[2] * s[3], y = s[0] * OH * OW * s[4], w = s[3] * s[4] * s[5] * s[6];
    c->end = s[0];
    c->cut = 1;
    counts(c, y, x);
    c->in[1].count = w;
    if (c->about->family == MZK_conv)
        c->in[2].count = k % 2 ? s[4] : 0; /* no bias */
    if (c->about->family == MZK_conv_dx)
        counts(c, x, y);
    if (c->about->family == MZK_conv_dw_part) {
        counts(c, (s[0] + 1) / 2 * w, y);
        c->in[1].count = x;
        c->cut = c->p.conv.grain;
    }
}

static int one(const ck_case *c) {
    (void)c;
    return 1;
}
static int two(const ck_case *c) {
    (void)c;
    return 2;
}
static int few(const ck_case *c) { /* expressions of at most ten operations */
    (void)c;
    return 10;
}
static int of_grain(const ck_case *c) {
    return (int)c->p.e.grain;
}
static int of_parts(const ck_case *c) {
    return (int)c->p.e.parts + 1;
}
static int of_window(const ck_case *c) {
    return (int)(c->p.pool.KH * c->p.pool.KW) + 1;
}
static int of_norm_block(const ck_case *c) { /* 64 rows in FP32, then FP64 */
    (void)c;
    return 64 + 4;
}
static int of_rows(const ck_case *c) {
    return (int)c->p.embed.rows + 1;
}
static int of_conv(const ck_case *c) {
    const mzk_conv_params *p = &c->p.conv;
    int64_t inner = c->about->family == MZK_conv      ? p->Ci * p->KH * p->KW
                    : c->about->family == MZK_conv_dx ? p->Co * p->KH * p->KW
                                                      : p->grain * p->OH * p->OW;
    return (int)inner + 1;
}
static int none(const ck_case *c) {
    (void)c;
    return 0;
}

static const ck_family families[] = {
    {MZK_cast, "x", "x", "v", "+", "1", "0", true, FLAT_SHAPES, shape_flat, none, NULL},
    {MZK_cast_away, "h", "f", "v", "+", "1", "-", true, FLAT_SHAPES, shape_flat, none, NULL},
    {MZK_fill, "x", "", "", "", "", "-", true, FLAT_SHAPES, shape_flat, none, NULL},
    {MZK_copy, "x", "=", "v", "+", "1", "-", true, FLAT_SHAPES, shape_flat, none, NULL},
    {MZK_sample, "x", "=", "v", "+", "1", "-", true, FLAT_SHAPES, shape_sample, none, NULL},
    {MZK_stalled, "f", "xxx", "vvv", "+++", "000", "-", true, FLAT_SHAPES, shape_sample, none,
     NULL},
    {MZK_relu, "x", "x", "v", "+", "1", "0", true, FLAT_SHAPES, shape_flat, none, NULL},
    {MZK_relu_bwd, "x", "xx", "vv", "++", "01", "0", true, FLAT_SHAPES, shape_flat, none, NULL},
    {MZK_gelu, "x", "x", "v", "+", "1", "0", false, FLAT_SHAPES, shape_flat, NULL, ck_bound_gelu},
    {MZK_gelu_bwd, "x", "xx", "vv", "++", "11", "0", false, FLAT_SHAPES, shape_flat, NULL,
     ck_bound_gelu_bwd},
    {MZK_add, "x", "xx", "vv", "++", "11", "0", true, FLAT_SHAPES, shape_flat, one, NULL},
    {MZK_mul, "x", "xx", "vv", "++", "11", "0", true, FLAT_SHAPES, shape_flat, one, NULL},
    {MZK_scale, "x", "x", "v", "+", "1", "0", true, FLAT_SHAPES, shape_flat, one, NULL},
    {MZK_scale_by, "x", "xf", "vc", "++", "11", "0", true, FLAT_SHAPES, shape_scale_by, two, NULL},
    {MZK_broadcast, "x", "f", "c", "+", "1", "-", true, FLAT_SHAPES, shape_broadcast, none, NULL},
    {MZK_add_row, "x", "xx", "vv", "++", "11", "0", true, ROWS_SHAPES, shape_add_row, one, NULL},
    {MZK_dropout, "x", "xi", "vk", "++", "10", "0", true, ROWS_SHAPES, shape_dropout, one, NULL},
    {MZK_normal, "f", "i", "k", "+", "0", "-", true, FLAT_SHAPES, shape_normal, none, NULL},
    {MZK_sum_part, "f", "x", "v", "+", "1", "-", true, FLAT_SHAPES, shape_sum, of_grain, NULL},
    {MZK_colsum_part, "f", "x", "v", "+", "1", "-", true, ROWS_SHAPES, shape_colsum, of_grain,
     NULL},
    {MZK_sum_parts, "x", "f", "v", "+", "1", "-", true, FLAT_SHAPES, shape_sum_parts, of_parts,
     NULL},
    {MZK_stats_part, "d", "x", "v", "+", "0", "-", true, FLAT_SHAPES, shape_stats, none, NULL},
    {MZK_max_pool, "xu", "x", "v", "+", "1", "--", true, POOL_SHAPES, shape_pool, none, NULL},
    {MZK_max_pool_bwd, "x", "xu", "vn", "++", "00", "-", true, POOL_SHAPES, shape_pool, of_window,
     NULL},
    {MZK_avg_pool, "x", "x", "v", "+", "1", "-", true, POOL_SHAPES, shape_pool, of_window, NULL},
    {MZK_avg_pool_bwd, "x", "x", "v", "+", "0", "-", true, POOL_SHAPES, shape_pool, of_window,
     NULL},
    {MZK_bn_part, "d", "x", "v", "+", "1", "-", true, ROWS_SHAPES, shape_norm_part, of_norm_block,
     NULL},
    {MZK_bn_stats, "ffff", "dff", "qvq", "+++", "100", "----", false, ROWS_SHAPES, shape_norm_one,
     few, NULL},
    {MZK_bn_rstd, "f", "f", "q", "+", "1", "-", false, ROWS_SHAPES, shape_norm_one, few, NULL},
    {MZK_bn_apply, "x", "xffff", "vvcvv", "+-+++", "11111", "0", true, ROWS_SHAPES, shape_norm, few,
     NULL},
    {MZK_bn_bwd_part, "ff", "xxff", "vvvc", "++-+", "1111", "--", true, ROWS_SHAPES,
     shape_norm_part, of_norm_block, NULL},
    {MZK_bn_bwd_apply, "x", "xxfffff", "vvvcvvv", "++-++--", "1111111", "0", true, ROWS_SHAPES,
     shape_norm, few, NULL},
    {MZK_ln, "xff", "xff", "vvv", "+++", "111", "0--", false, ROWS_SHAPES, shape_ln, NULL,
     ck_bound_ln},
    {MZK_ln_bwd, "xff", "xxfff", "vvvcv", "+++++", "11111", "0--", false, ROWS_SHAPES, shape_ln,
     NULL, ck_bound_ln_bwd},
    {MZK_rms, "xf", "xf", "vv", "++", "11", "0-", false, ROWS_SHAPES, shape_rms, NULL,
     ck_bound_rms},
    {MZK_rms_bwd, "xf", "xxff", "vvcv", "++++", "1111", "0-", false, ROWS_SHAPES, shape_rms, NULL,
     ck_bound_rms_bwd},
    {MZK_swiglu, "x", "x", "v", "+", "1", "-", false, ROWS_SHAPES, shape_swiglu, NULL,
     ck_bound_swiglu},
    {MZK_swiglu_bwd, "x", "xx", "vv", "++", "11", "-", false, ROWS_SHAPES, shape_swiglu, NULL,
     ck_bound_swiglu_bwd},
    {MZK_rope_table, "f", "i", "p", "+", "0", "-", false, ROWS_SHAPES, shape_rope, none, NULL},
    {MZK_rope, "x", "xf", "vv", "++", "10", "0", true, ROWS_SHAPES, shape_rope, NULL,
     ck_bound_rope},
    {MZK_embed, "x", "iffi", "tvvp", "++++", "0110", "-", true, ROWS_SHAPES, shape_embed, one,
     NULL},
    {MZK_embed_dw, "f", "xi", "vt", "++", "00", "-", true, ROWS_SHAPES, shape_embed, of_rows, NULL},
    {MZK_embed_dw_add, "f", "xif", "vtv", "+++", "001", "2", true, ROWS_SHAPES, shape_embed,
     of_rows, NULL},
    {MZK_embed_dp, "f", "xi", "vp", "++", "00", "-", true, ROWS_SHAPES, shape_embed, of_rows, NULL},
    {MZK_accumulate, "f", "fffi", "vvcb", "++++", "1010", "1", true, FLAT_SHAPES, shape_accumulate,
     two, NULL},
    {MZK_choose, "f", "ffi", "vvb", "+++", "000", "1", true, FLAT_SHAPES, shape_accumulate, none,
     NULL},
    {MZK_xent_part, "ff", "xi", "vl", "++", "10", "--", false, ROWS_SHAPES, shape_xent, NULL,
     ck_bound_xent_part},
    {MZK_xent_valid, "f", "i", "l", "+", "0", "-", true, ROWS_SHAPES, shape_xent_valid, none, NULL},
    {MZK_xent_total, "fff", "f", "q", "+", "1", "---", false, 9, shape_xent_total, few, NULL},
    {MZK_xent_bwd, "x", "xifff", "vlecc", "+++++", "00000", "-", false, ROWS_SHAPES, shape_xent,
     NULL, ck_bound_xent_bwd},
    {MZK_attention, "xf", "=", "v", "+", "1", "--", false, CK_ATTENTION_SHAPES, ck_shape_attention,
     NULL, ck_bound_attention},
    {MZK_attention_bwd, "x", "===f", "vvve", "++++", "1101", "-", false, CK_ATTENTION_SHAPES,
     ck_shape_attention, NULL, ck_bound_attention_bwd},
    {MZK_kv_append, "ff", "xiff", "vrvv", "++++", "1000", "23", true, CK_DECODE_SHAPES,
     ck_shape_decode, none, NULL},
    {MZK_attention_decode, "x", "=ffi", "vvvr", "++++", "1110", "-", false, CK_DECODE_SHAPES,
     ck_shape_decode, NULL, ck_bound_attention_decode},
    {MZK_adamw, "fff", "xffff", "vvvqs", "+++++", "11111", "123", false, FLAT_SHAPES, shape_optim,
     NULL, ck_bound_adamw},
    {MZK_lion, "ff", "xfff", "vvvs", "++++", "1111", "12", true, FLAT_SHAPES, shape_optim, NULL,
     ck_bound_lion},
    {MZK_muon_mean, "ff", "xff", "vvs", "+++", "111", "1-", true, FLAT_SHAPES, shape_optim, few,
     NULL},
    {MZK_muon_unit, "x", "xd", "vq", "++", "11", "-", false, FLAT_SHAPES, shape_muon_unit, two,
     NULL},
    {MZK_muon_step, "f", "fff", "vvs", "+++", "111", "1", true, FLAT_SHAPES, shape_optim, few,
     NULL},
    {MZK_ema, "f", "xff", "vvs", "+++", "111", "1", true, FLAT_SHAPES, shape_ema, NULL,
     ck_bound_ema},
    {MZK_sgd, "ff", "xfff", "vvvs", "++++", "1101", "12", true, FLAT_SHAPES, shape_optim, few,
     NULL},
    {MZK_matmul, "x", "xxf", "vvv", "+++", "111", "-", true, MATMUL_SHAPES, shape_matmul, NULL,
     ck_bound_matmul},
    {MZK_conv, "x", "xxf", "vvv", "+++", "111", "-", true, CONV_SHAPES, shape_conv, of_conv, NULL},
    {MZK_conv_dx, "x", "xx", "vv", "++", "00", "-", true, CONV_SHAPES, shape_conv, of_conv, NULL},
    {MZK_conv_dw_part, "f", "xx", "vv", "++", "11", "-", true, CONV_SHAPES, shape_conv, of_conv,
     NULL},
};

const ck_family *ck_family_of(mzk_family family) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (families[i].family == family)
            return &families[i];
    return NULL;
}
