/* Reference: causal attention, and one query over a cache.
 *
 * Nothing that grows with T is kept: scores are computed again for every block of COLUMNS elements
 * of a row. */
#include <float.h>

#include "kernel/ref/ref.h"

enum {
    COLUMNS = 64
};

/* Of one batch element and one query head: elements between two tokens of qkv and of y, and where
 * token 0 has its vectors. */
typedef struct head {
    int64_t E, O, D, T;
    int64_t q, k, v, y, lse;
    double scale;
} head;

static head head_of(const mzk_args *args, int64_t b, int64_t h) {
    int64_t T = args->p.attention.T, H = args->p.attention.H, G = args->p.attention.G;
    int64_t D = args->p.attention.D, g = h / (H / G), E = (H + 2 * G) * D;
    return (head){.E = E,
                  .O = H * D,
                  .D = D,
                  .T = T,
                  .q = b * T * E + h * D,
                  .k = b * T * E + (H + g) * D,
                  .v = b * T * E + (H + G + g) * D,
                  .y = b * T * H * D + h * D,
                  .lse = (b * H + h) * T,
                  .scale = (double)args->p.attention.scale};
}

static double dot(const mzk_args *args, int x, int64_t i, int y, int64_t j, int64_t D) {
    double sum = 0;
    for (int64_t d = 0; d < D; d++)
        sum += get(args, x, i + d) * get(args, y, j + d);
    return sum;
}

/* One query, at `q` of in[0], against `rows` keys of operand k at `key` and values of operand v at
 * `value`, `stride` elements apart; y to `y` of out[0].  The maximum starts at the lowest number,
 * so that a score of -infinity has the weight exp(-infinity) = 0.  Gives lse. */
typedef struct keys {
    int k, v;
    int64_t key, value, stride, rows;
} keys;

static double attend(const mzk_args *args, int64_t q, const keys *a, int64_t D, int64_t y) {
    double scale = (double)args->p.attention.scale, max = -DBL_MAX, sum = 0;
    for (int64_t j = 0; j < a->rows; j++) {
        double s = scale * dot(args, 0, q, a->k, a->key + j * a->stride, D);
        double top = isnan(s) || s > max ? s : max;
        sum = sum * exp(max - top) + exp(s - top);
        max = top;
    }
    for (int64_t first = 0; first < D; first += COLUMNS) {
        int64_t n = chunk_end(first, COLUMNS, D) - first;
        double row[COLUMNS] = {0};
        for (int64_t j = 0; j < a->rows; j++) {
            double s = scale * dot(args, 0, q, a->k, a->key + j * a->stride, D);
            for (int64_t d = 0; d < n; d++)
                row[d] += exp(s - max) * get(args, a->v, a->value + j * a->stride + first + d);
        }
        for (int64_t d = 0; d < n; d++)
            put(args, 0, y + first + d, row[d] / sum);
    }
    return max + log(sum);
}

void mzk_attention_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t H = args->p.attention.H;
    for (int64_t row = begin; row < end; row++) {
        head a = head_of(args, row / H, row % H);
        for (int64_t i = 0; i < a.T; i++) {
            const keys seen = {0, 0, a.k, a.v, a.E, i + 1};
            put(args, 1, a.lse + i, attend(args, a.q + i * a.E, &seen, a.D, a.y + i * a.O));
        }
    }
}

/* p_ij and ds_ij. */
static double slope(const mzk_args *args, const head *a, int64_t i, int64_t j, double *p) {
    int64_t q = a->q + i * a->E, k = a->k + j * a->E, v = a->v + j * a->E, y = a->y + i * a->O;
    *p = exp(a->scale * dot(args, 1, q, 1, k, a->D) - get(args, 3, a->lse + i));
    return *p * (dot(args, 0, y, 1, v, a->D) - dot(args, 0, y, 2, y, a->D));
}

/* Elements [first, first + n) of dq of token i. */
static void query_gradient(const mzk_args *args, const head *a, int64_t i, int64_t first,
                           int64_t n) {
    double dq[COLUMNS] = {0}, p;
    for (int64_t j = 0; j <= i; j++) {
        double ds = slope(args, a, i, j, &p);
        for (int64_t d = 0; d < n; d++)
            dq[d] += ds * get(args, 1, a->k + j * a->E + first + d);
    }
    for (int64_t d = 0; d < n; d++)
        put(args, 0, a->q + i * a->E + first + d, a->scale * dq[d]);
}

/* Elements [first, first + n) of dk and dv of token j, over `heads` query heads from h on. */
static void key_gradient(const mzk_args *args, int64_t b, int64_t h, int64_t heads, int64_t j,
                         int64_t first, int64_t n) {
    double dk[COLUMNS] = {0}, dv[COLUMNS] = {0}, p;
    head a = head_of(args, b, h);
    for (int64_t r = 0; r < heads; r++) {
        a = head_of(args, b, h + r);
        for (int64_t i = j; i < a.T; i++) {
            double ds = slope(args, &a, i, j, &p);
            for (int64_t d = 0; d < n; d++) {
                dk[d] += ds * get(args, 1, a.q + i * a.E + first + d);
                dv[d] += p * get(args, 0, a.y + i * a.O + first + d);
            }
        }
    }
    for (int64_t d = 0; d < n; d++) {
        put(args, 0, a.k + j * a.E + first + d, a.scale * dk[d]);
        put(args, 0, a.v + j * a.E + first + d, dv[d]);
    }
}

void mzk_attention_bwd_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t G = args->p.attention.G, heads = args->p.attention.H / G, D = args->p.attention.D;
    for (int64_t row = begin; row < end; row++) {
        int64_t b = row / G, h = row % G * heads;
        for (int64_t first = 0; first < D; first += COLUMNS) {
            int64_t n = chunk_end(first, COLUMNS, D) - first;
            for (int64_t t = 0; t < args->p.attention.T; t++) {
                for (int64_t r = 0; r < heads; r++) {
                    const head a = head_of(args, b, h + r);
                    query_gradient(args, &a, t, first, n);
                }
                key_gradient(args, b, h, heads, t, first, n);
            }
        }
    }
}

void mzk_kv_append_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t H = args->p.attention.H, C = args->p.attention.G * args->p.attention.D;
    int64_t row = ((const int32_t *)args->in[1])[0];
    for (int64_t b = begin; b < end; b++) {
        int64_t from = b * (H * args->p.attention.D + 2 * C) + H * args->p.attention.D;
        int64_t to = (b * args->p.attention.P + row) * C;
        for (int64_t c = 0; c < C; c++) {
            put(args, 0, to + c, get(args, 0, from + c));
            put(args, 1, to + c, get(args, 0, from + C + c));
        }
    }
}

void mzk_attention_decode_ref(const mzk_args *args, int64_t begin, int64_t end) {
    int64_t H = args->p.attention.H, G = args->p.attention.G, D = args->p.attention.D;
    int64_t rows = ((const int32_t *)args->in[3])[0] + (int64_t)1;
    for (int64_t row = begin; row < end; row++) {
        int64_t b = row / H, h = row % H;
        int64_t at = b * args->p.attention.P * G * D + h / (H / G) * D;
        const keys seen = {1, 2, at, at, G * D, rows};
        attend(args, b * (H + 2 * G) * D + h * D, &seen, D, row * D);
    }
}
