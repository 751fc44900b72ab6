/* Kernel families: pure functions on host pointers.
 *
 * A kernel computes rows [begin, end) of its family's domain and nothing else: no allocation, no
 * threads, no globals, no errors.  Storage types are arguments (`out_type`, `in_type`: f32, f16 or
 * bf16 in any combination unless the family says otherwise; f64 in `ref` only); arithmetic is FP32,
 * in `ref` FP64 rounded once when stored.  Every kernel hands a NaN on.  `out` does not overlap
 * `in` except where a family says "in place".
 *
 * With BF16 operands attention and attention_bwd may multiply by dot instructions: p and ds are
 * then rounded to BF16 before their products with v, dy, k and q, and a subnormal number counts as
 * 0. Sums, softmax and lse stay FP32.
 *
 * The 8-bit formats are storage: `cast`, `fill` and `copy` are what they need.  Other families take
 * them too, but no fast kernel has a loop for them: it leaves such a call to `ref`, `cast` as well.
 *
 * Letters: B batch, H W height and width, C channels, M N K as in matmul, R rows of a chunk; in
 * attention T tokens, H query heads, G key and value heads, D head size, P rows of a cache.
 * Activations are channels-last, [B,H,W,C]; convolution weights [Co,Ci,KH,KW]; matmul weights
 * [N,K].
 *
 * Reductions come in two halves so that the result does not depend on the number of workers: a
 * `_part` family writes the sums of each chunk to slot begin / grain of a scratch buffer, and
 * `sum_parts` adds the slots in their order. */
#ifndef MZK_FAMILIES_H
#define MZK_FAMILIES_H

#include <stdint.h>

#include "mezzo/number.h"

enum {
    MZK_OUT_MAX = 4,
    MZK_IN_MAX = 8
};

struct mezzo_op_operands;

typedef struct mzk_conv_params {
    int64_t B, H, W, Ci, Co, KH, KW, stride, pad, OH, OW;
    int64_t grain; /* images of a chunk, for conv_dw_part */
} mzk_conv_params;
typedef struct mzk_pool_params {
    int64_t B, H, W, C, KH, KW, stride, pad, OH, OW;
} mzk_pool_params;
typedef struct mzk_matmul_params {
    int64_t M, N, K;
    int32_t transpose_a, transpose_b; /* a is [K,M], b is [N,K] */
    int32_t accumulate;               /* c += ...; c is f32 */
    /* The domain is tiles of c, down each column of them first; 0: rows.  Bands of a tile's
     * columns are what a kernel may pack at once.  Multiples of 16, 48 and 48. */
    int64_t tile_m, tile_n, band_n;
} mzk_matmul_params;

typedef union mzk_params {
    struct {           /* elementwise families and sums */
        int64_t n;     /* elements, or columns of a row */
        int64_t grain; /* rows of a chunk, for `_part` families */
        int64_t parts; /* for sum_parts */
        float alpha, beta;
        uint64_t stream; /* for dropout and normal: name hash */
    } e;
    mzk_conv_params conv;
    mzk_pool_params pool;
    mzk_matmul_params matmul;
    struct {
        int64_t rows, C, grain, parts;
        float eps, momentum;
    } norm; /* rows = B*H*W */
    struct {
        int64_t n, stride; /* samples, elements from one to the next */
    } sample;
    struct {
        int64_t rows, n, T, V; /* rows of y, columns, length of a sequence, rows of the table */
    } embed;
    struct {
        int64_t T, n, D,
            heads;       /* length of a sequence, columns of a row, head size, heads to turn */
        int32_t inverse; /* by the negative angles */
        double theta;    /* of rope_table */
    } rope;
    struct {
        int64_t M, V, grain;
        float smoothing;
    } loss;
    struct {
        int64_t B, T, H, G, D; /* G divides H; T is 1 in decoding */
        int64_t P;             /* in decoding: rows of the cache */
        float scale;           /* of the scores: 1 / sqrt(D) */
    } attention;
    struct {
        int64_t n;
        float weight_decay, beta1, beta2, eps, momentum, lr_scale;
        float scale; /* of muon_step */
        int32_t nesterov;
        int32_t nearest;     /* a BF16 master without lo is not rounded stochastically */
        uint64_t streams[3]; /* random ones of the master and the moments: name hashes */
    } optim;
    struct { /* operations registered at run time; see mezzo/op.h */
        void (*run)(const struct mezzo_op_operands *operands, int64_t begin, int64_t end);
        const struct mezzo_op_operands *operands;
    } user;
} mzk_params;

/* What stats_part says of a chunk. */
typedef enum mzk_stat {
    MZK_STAT_SQUARES,
    MZK_STAT_MAX,
    MZK_STAT_INF,
    MZK_STAT_NAN,
    MZK_STAT_TINY,
    MZK_STAT_ZERO,
    MZK_STATS
} mzk_stat;

/* What a kernel gets: operands in the order that its family documents. */
typedef struct mzk_args {
    void *out[MZK_OUT_MAX];
    const void *in[MZK_IN_MAX];
    uint8_t out_type[MZK_OUT_MAX], in_type[MZK_IN_MAX]; /* mezzo_dtype */
    mzk_params p;
    void *scratch; /* of mzk_scratch_bytes, aligned to 64: one that no other chunk uses meanwhile */
} mzk_args;

typedef void mzk_fn(const mzk_args *args, int64_t begin, int64_t end);

/* clang-format off */
/* Family reference: its domain in brackets, whether out may be in, operands, formula.  A domain of
 * n counts elements.
 *
 * cast         [n, in place if the types are equal] out y; in x.  y = x rounded to nearest even.
 * cast_away    [n] out y bf16; in x f32.  y = x rounded to nearest, ties away from zero.
 * fill         [n] out y.  y = alpha.
 * relu         [n, in place] out y; in x.  y = x > 0 ? x : 0; NaN stays.
 * relu_bwd     [n, in place (dx = dy)] out dx; in dy, y.  dx = y > 0 ? dy : 0; a NaN y gives NaN.
 * gelu         [n, in place] out y; in x.  y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
 * gelu_bwd     [n, in place (dx = dy)] out dx; in dy, x.  dx = dy gelu'(x).
 * add          [n, in place (y = a)] out y; in a, b.  y = a + b.
 * mul          [n, in place (y = a)] out y; in a, b.  y = a b.
 * scale        [n, in place] out y; in x.  y = alpha x.
 * scale_by     [n, in place] out y; in x, s (f32 scalar).  y = alpha s[0] x.
 * broadcast    [n] out y; in s (f32 scalar).  y = alpha s[0].
 * add_row      [rows, in place] out y [rows,n]; in x [rows,n], b [n].  y = x + b.
 * copy         [n] out y; in x.  Bytes of equal types.
 * sample       [n] out y [n]; in x.  y[i] = x[i stride]; bytes of equal types.
 * stalled      [1] out count f32 [2]; in g, w, old [n], lo.  Of samples whose g[i stride] is not 0
 *              { how many there are; how many have w[i stride] = old[i] }.  With lower halves lo,
 *              which may be null, old is [2n], and those at n + i must be equal too.
 * dropout      [rows, in place] out y; in x, key (i32 [4]: seed low, seed high, step, sample
 *              offset).  Keeps an element with probability 1 - alpha and multiplies it by beta =
 *              1/(1 - alpha).  Element j of row r has the number i = (r + sample offset) n + j;
 *              its random word is word i mod 4 of mzi_rng4(seed, stream, block i / 4, step), and
 *              it is kept when mzi_uniform(word) >= alpha.  A dropped NaN stays NaN.
 * normal       [n] out y; in key (i32 [4]: seed low, seed high, step, calls before).  Normal values
 *              of deviation alpha, by the method of Box and Muller.  Element i of y has the number
 *              m = i + n key[3]; with u = mzi_uniform of the words of mzi_rng4(seed, stream, block
 *              m / 4, step), elements 2j and 2j + 1 of a block are
 *              alpha sqrt(-2 ln(1 - u[2j])) { cos, sin }(2 pi u[2j + 1]).
 * sum_part     [n] out part [chunks] f32; in x.  part[begin / grain] = sum of x.
 * colsum_part  [rows] out part [chunks,n] f32; in x [rows,n].  Sums down each column of the chunk.
 * sum_parts    [n] out y [n]; in part [parts,n] f32.  y = alpha (sum over parts, in order).
 * stats_part   [n] out part [chunks,MZK_STATS] f64 (in every instruction set); in x.  By
 *              mzk_stat: of the finite elements the sum of squares, in f64, and the largest
 *              magnitude; the number of Inf, of NaN, of magnitudes in (0, alpha), of zeros.
 * max_pool     [B OH] out y [B,OH,OW,C], index u8 [B,OH,OW,C]; in x [B,H,W,C].  index is the
 *              position in the window (kh KW + kw) of the first maximum; a NaN in the window wins,
 *              padding never.
 * max_pool_bwd [B] out dx [B,H,W,C]; in dy, index.  Writes every element of dx.
 * avg_pool     [B OH] out y; in x.  Divides by the whole window, padding counted as zeros.
 * avg_pool_bwd [B] out dx; in dy.
 * bn_part      [rows] out part [chunks,2C] f64 (in every instruction set); in x [rows,C].  Sums of
 *              x and of x^2 of the chunk's rows: in f32 over at most 64 rows at a time, then in
 *              f64, because x^2 - mean^2 cancels.
 * bn_stats     [1] out mean, rstd, next_mean, next_var, all [C] f32; in part [parts,2C] f64,
 *              running_mean, running_var [C] f32.  rstd = 1/sqrt(var + eps), var biased; next = (1
 *              - momentum) running + momentum batch, the variance unbiased.
 * bn_rstd      [1] out rstd [C] f32; in running_var [C].  1/sqrt(var + eps).
 * bn_apply     [rows, in place] out y [rows,C]; in x, mean, rstd, gamma, beta (all [C] f32).  y =
 *              (x - mean) rstd gamma + beta.
 * bn_bwd_part  [rows] out dgamma, dbeta [chunks,C] f32; in dy [rows,C], x, mean, rstd.  Sums of dy
 *              xhat and of dy over the chunk's rows; xhat = (x - mean) rstd.
 * bn_bwd_apply [rows, in place (dx = dy)] out dx [rows,C]; in dy, x, mean, rstd, gamma, dbeta [C],
 *              dgamma [C] f32.  dx = gamma rstd (dy - dbeta / rows - xhat dgamma / rows).
 * ln           [rows, in place] out y [rows,C], mean, rstd [rows] f32; in x, gamma [C], beta [C]
 *              f32 or null.  Of each row: mean = sum x / C, var = sum (x - mean)^2 / C, rstd =
 *              1/sqrt(var + eps), y = (x - mean) rstd gamma + beta.
 * ln_bwd       [rows, in place (dx = dy)] out dx [rows,C], dgamma [chunks,C], dbeta [chunks,C] f32
 *              (dbeta may be null); in dy, x, mean, rstd [rows], gamma [C] f32.  xhat = (x - mean)
 *              rstd, g = dy gamma, dx = rstd (g - mean_C(g) - xhat mean_C(g xhat)), mean_C over the
 *              row.  dgamma, dbeta: sums of dy xhat and of dy over the chunk's rows.
 * rms          [rows, in place] out y [rows,C], rstd [rows] f32; in x, gamma [C] f32.  Of each row:
 *              rstd = 1/sqrt(sum x^2 / C + eps), y = x rstd gamma.
 * rms_bwd      [rows, in place (dx = dy)] out dx [rows,C], dgamma [chunks,C] f32; in dy, x, rstd
 *              [rows], gamma [C] f32.  xhat = x rstd, g = dy gamma, dx = rstd (g - xhat mean_C(g
 *              xhat)), mean_C over the row.  dgamma: sums of dy xhat over the chunk's rows.
 * swiglu       [rows] out y [rows,n]; in x [rows,2n], in each row n numbers a, then n numbers b.  y
 *              = a / (1 + exp(-a)) b.
 * swiglu_bwd   [rows] out dx [rows,2n]; in dy [rows,n], x [rows,2n].  With s = 1 / (1 + exp(-a)):
 *              da = dy b s (1 + a (1 - s)), db = dy a s.
 * rope_table   [T] out table [T,D]; in start i32 [1] or null (0).  With w_i = theta^(-2i/D), i <
 *              D/2: table[t][i] = cos((start + t) w_i), table[t][D/2 + i] = sin((start + t) w_i),
 *              in f64 (in every instruction set), then rounded.
 * rope         [rows, in place] out y [rows,n]; in x [rows,n], table [T,D] f32.  Of row r and each
 *              of its first `heads` heads of D numbers, with c and s of row r mod T of the table:
 *              y[i] = x[i] c_i - x[D/2 + i] s_i, y[D/2 + i] = x[D/2 + i] c_i + x[i] s_i; with
 *              p.inverse -s in place of s.  What is behind those heads is copied.
 * embed        [rows] out y [rows,n]; in ids i32 [rows], weight [V,n], positions [P,n] or null,
 *              start i32 [1] or null (0), lo of weight, lo of positions.  y[r] = weight[ids[r]] +
 *              positions[start + (r mod T)].  Each table is in a form of a master, as an update's w
 *              (see the end).  Nothing is checked: ids are of [0, V), start + T is at most P.
 * embed_dw     [V: rows of dw] out dw [V,n] f32; in dy [rows,n], ids.  dw[v] = sum of dy[r] over
 *              the r with ids[r] = v, in their order; 0 if there is none.
 * embed_dw_add [V: rows of dw, in place (dw = other)] out dw [V,n] f32; in dy [rows,n], ids, other
 *              [V,n] f32.  dw[v] = other[v] + (what embed_dw gives for v).  A row without any keeps
 *              the bits of other.
 * embed_dp     [P: rows of dp] out dp [P,n] f32; in dy [rows,n], start i32 [1] or null (0).
 *              dp[start + t] = sum over b, in order, of dy[b T + t] for t < T; other rows are 0.
 * accumulate   [n, in place (acc)] out acc f32; in g, acc f32, weight f32 [1], first i32 [1].  acc
 *              = first[0] ? weight g : acc + weight g; with first[0] the old acc is not read.
 * choose       [n, in place (y = b)] out y f32; in a, b f32, first i32 [1].  y = first[0] ? a : b.
 * xent_part    [M] out lse [M] f32, part [chunks,3] f32; in logits [M,V], labels i32 [M].  part is
 *              { sum of losses of valid rows, valid rows, correct rows }; with s = p.smoothing,
 *              loss = lse - (1 - s) logit[label] - s / V (sum of the row's logits).  A label < 0 is
 *              padding: not counted, its lse still written.  Correct: the label is the first
 *              maximum.  Labels are below V (checked when the batch is made).
 * xent_valid   [1] out valid [1] f32; in labels i32 [M].  How many labels are not negative.
 * xent_total   [1] out loss [1], correct [1], valid [1] f32; in part [parts,3] f32.  loss = sum /
 *              max(valid, 1).
 * xent_bwd     [M, in place] out dlogits [M,V]; in logits, labels, lse, dloss [1], valid [1] f32.
 *              (exp(logit - lse) - (1 - s) [label] - s / V) dloss / max(valid, 1); padding rows
 *              get 0.
 * attention    [B H] out y [B,T,H D], lse [B,H,T] f32; in qkv [B,T,(H+2G) D], of y's type: in each
 *              token H queries, then G keys, then G values, of D numbers each.  Query head h reads
 *              key head g = h / (H/G).  s_ij = scale q_i k_j for j <= i; lse_i = log sum_j
 *              exp(s_ij); y_i = sum_j exp(s_ij - lse_i) v_j.  Nothing at j > i reaches token i, a
 *              NaN neither.
 * attention_bwd [B G] out dqkv [B,T,(H+2G) D]; in dy [B,T,H D], qkv, y (all of dqkv's type), lse.
 *              With p_ij = exp(s_ij - lse_i) and ds_ij = p_ij (dy_i v_j - dy_i y_i): dq_i = scale
 *              sum_j ds_ij k_j; dk_j = scale sum_i ds_ij q_i and dv_j = sum_i p_ij dy_i, over the
 *              query heads of g too.  Writes the whole of group g: its query heads, dk, dv.
 * kv_append    [B, in place of in 2 and 3] out k, v [B,P,G D] f32; in qkv [B,1,(H+2G) D], position
 *              i32 [1], k, v.  Writes the token's keys and values to row position[0], no other.
 * attention_decode [B H] out y [B,1,H D]; in qkv [B,1,(H+2G) D], of y's type, k, v [B,P,G D] f32,
 *              position i32 [1].  As attention, for one query over rows 0..position[0].
 * adamw        [n] out w, m, v (in place of in 1-3), lo; in g, w, m, v, s (f32 [8]: 0 lr, 1
 *              gradient factor (unscale and clip), 2 1/(1 - beta1^t), 3 1/(1 - beta2^t)), lo, key.
 *              With lr' = lr lr_scale and g' = g s[1]: w -= lr' weight_decay w; m = beta1 m + (1 -
 *              beta1) g'; v = beta2 v + (1 - beta2) g'^2; w -= lr' (m s[2]) / (sqrt(v s[3]) +
 *              eps).  Types of w, m, v, lo and key: see the end.
 * lion         [n] out w, m, lo; in g, w, m, s, lo, key as above.  u = sign(beta1 m + (1 - beta1)
 *              g'), sign(0) = 0; w -= lr' (u + weight_decay w); m = beta2 m + (1 - beta2) g'.
 * muon_mean    [n] out m (in place of in 1), u f32; in g, m, s, null, key as above.  m = momentum m
 *              + (1 - momentum) g'; u = momentum m + (1 - momentum) g'.
 * muon_unit    [n] out y; in x, part f64 of stats_part.  y = x / (sqrt(sum of squares, by parts in
 *              order) + alpha).
 * muon_step    [n] out w (in place of in 1), lo; in o f32, w, s, lo, key as above.  w -= lr' (scale
 *              o + weight_decay w).
 * sgd          [n] out w, m, lo; in g, w, m, s, lo, key as above.  g' = g s[1] + weight_decay w; m
 *              = momentum m + g' (m starts at 0); w -= lr' (nesterov ? g' + momentum m : m).  With
 *              momentum 0, m is not touched.
 * ema          [n] out e f32 (in place of in 1); in w, e f32, s, lo as above.  With d = alpha s[4],
 *              of [0, 1): e = d e + (1 - d) w.
 * matmul       [M: rows of c, or tiles of it] out c [M,N], part [tiles,MZK_STATS] f64 or null
 *              (always, if the domain is rows); in a [M,K] (or [K,M]), b [K,N] (or [N,K]), bias
 *              [N] f32 or null.  With p.accumulate (c f32) the product is added to c.  part: what
 *              stats_part says of the tile's elements as they are stored, alpha being their type's
 *              smallest normal number; squares may be summed in f32 over at most 24 of a lane.
 * conv         [B] out y [B,OH,OW,Co]; in x, w [Co,Ci,KH,KW], bias [Co] f32 or null.
 * conv_dx      [B] out dx [B,H,W,Ci]; in dy, w.
 * conv_dw_part [B] out part [chunks,Co,Ci,KH,KW] f32; in dy, x.  Sums over the chunk's images, to
 *              slot begin / conv.grain.
 *
 * Forms of an update's operands.  A master w is f32 (lo null); or split: w bf16 is the upper half
 * and lo (16 bits each, in place, marked bf16) the lower one, by num/split.h; or bf16 alone (lo
 * null), rounded to nearest even with p.nearest, else stochastically.  Moments are all f32, or all
 * bf16 and rounded stochastically.  Whatever the form, the update itself is that of f32, and its
 * result is rounded to f32 first.  Stochastic: number i mod 2 (the lower half first) of word (i mod
 * 8) / 2 of mzi_rng4(seed, streams[k], block i / 8, step) is added to the bits of element i, whose
 * lower 16 are then cut; NaN stays.  k: 0 w, 1 m, 2 v.  key: i32 [4], seed low, seed high, step;
 * null if nothing is stochastic.  The fast kernels take g of f32 and bf16, and of f16 with master
 * and moments of f32.
 */
/* clang-format on */
typedef enum mzk_family {
#define FAMILY_ref(family) MZK_##family,
#define FAMILY_avx2(family)
#define FAMILY_avx512(family)
#define FAMILY_avx512_bf16(family)
#define KERNEL(family, impl, equality) FAMILY_##impl(family)
#include "kernel/kernels.def"
#undef KERNEL
    MZK_FAMILY_COUNT,
    MZK_user = MZK_FAMILY_COUNT, /* an operation's own function; not in the table */
    MZK_pack,                    /* weights into a layout that only the backend knows */
    MZK_NONE
} mzk_family;

/* How a kernel may differ from `ref`: not at all (up to the sign of NaN), or by its derived bound.
 */
typedef enum mzk_equality {
    MZK_EXACT,
    MZK_BOUNDED
} mzk_equality;

typedef struct mzk_kernel {
    mzk_family family;
    mezzo_isa needs;
    mzk_equality equality;
    const char *name; /* "relu.avx512" */
    mzk_fn *fn;
} mzk_kernel;

/* Every kernel in the build, in the order of kernels.def; a family's last supported line wins. */
extern const mzk_kernel mzk_kernels[];
extern const int mzk_kernel_count;
const char *mzk_family_name(mzk_family family);
/* The kernel used for `family` when instruction sets up to `isa` may be used; never null. */
const mzk_kernel *mzk_pick(mzk_family family, mezzo_isa isa);
/* Workspace of a call, a multiple of 64; 0 for most families. */
enum {
    MZK_ATTENTION_SCRATCH = 2 << 20,
    MZK_ATTENTION_BWD_SCRATCH = 2 << 20
};
uint64_t mzk_scratch_bytes(mzk_family family, const mzk_params *p);
uint64_t mzk_matmul_scratch_bytes(const mzk_matmul_params *p);
/* Cut a product into tiles, by its shape alone; gives their number. */
int64_t mzk_matmul_cut(mzk_matmul_params *p);

#endif
