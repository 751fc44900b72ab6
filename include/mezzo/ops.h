/* The operations and layers that a graph is built from.
 *
 * Shapes are given beside each; a layer makes its parameters as NAME.weight, NAME.bias.  `name` is
 * what `mezzo plan`, overrides and events call the operation; where there is none, one is made from
 * the operation and a number.  Storage types are decided by the autocast pass (docs/numerics.md);
 * sums always accumulate in FP32 or wider. */
#ifndef MEZZO_OPS_H
#define MEZZO_OPS_H

#include "mezzo/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y[...,N] = x[...,K] weight[N,K]^T + bias[N]; the leading axes are rows, at least one of them.
 * Weight and bias start uniform in +-1/sqrt(K), as in PyTorch's Linear. */
MEZZO_API mezzo_value mezzo_linear(mezzo_graph *graph, const char *name, mezzo_value x,
                                   int64_t features, bool bias);
/* The same with parameters that exist: shared ones, or with initial values of their own.  `bias`
 * may be the null value. */
MEZZO_API mezzo_value mezzo_linear_with(mezzo_graph *graph, const char *name, mezzo_value x,
                                        mezzo_value weight, mezzo_value bias);

/* y[B,OH,OW,Co] = x[B,H,W,Ci] * weight[Co,Ci,KH,KW] + bias[Co]; OH = (H + 2 pad - KH)/stride + 1.
 * Starts uniform in +-1/sqrt(Ci KH KW), as in PyTorch's Conv2d. */
typedef struct mezzo_conv2d_config {
    int64_t channels; /* Co */
    int64_t kernel;   /* KH = KW */
    int64_t stride;   /* 0 means 1 */
    int64_t pad;
    bool bias;
} mezzo_conv2d_config;
MEZZO_API mezzo_value mezzo_conv2d(mezzo_graph *graph, const char *name, mezzo_value x,
                                   mezzo_conv2d_config config);

/* Over all axes but the last (C): y = (x - mean) / sqrt(var + eps) weight + bias.  Training uses
 * the batch's statistics (var biased) and moves NAME.running_mean and NAME.running_var by
 * `momentum` (unbiased); evaluation uses those two.  0 means the default: eps 1e-5, momentum 0.1.
 */
MEZZO_API mezzo_value mezzo_batch_norm(mezzo_graph *graph, const char *name, mezzo_value x,
                                       float eps, float momentum);

/* Over the last axis (C), for each row: y = (x - mean) / sqrt(var + eps) weight + bias, var biased;
 * in training and evaluation alike.  NAME.weight starts at 1, NAME.bias (if asked for) at 0.  eps 0
 * means 1e-5. */
MEZZO_API mezzo_value mezzo_layer_norm(mezzo_graph *graph, const char *name, mezzo_value x,
                                       float eps, bool bias);

/* Over the last axis (C), for each row: y = x / sqrt(mean x^2 + eps) weight.  NAME.weight starts at
 * 1.  eps 0 means 1e-5. */
MEZZO_API mezzo_value mezzo_rms_norm(mezzo_graph *graph, const char *name, mezzo_value x,
                                     float eps);

/* Rotary positions (Su and others, 2021): the table [tokens,D] of the positions 0 to tokens - 1,
 * D/2 cosines and then D/2 sines of the angles position theta^(-2i/D) in each row, made in FP64 and
 * kept in FP32.  In the entry DECODE it is that of mezzo_position alone, [1,D].  One serves every
 * layer. */
MEZZO_API mezzo_value mezzo_rope_table(mezzo_graph *graph, const char *name, int64_t tokens,
                                       int64_t D, double theta);
/* x[B,T,n] with its first `heads` heads of D elements turned by the rows of table[T,D]; what is
 * behind them is left alone.  In a head element i goes with element D/2 + i, i < D/2 (the order of
 * Hugging Face's weights):
 *   y[i] = x[i] cos_i - x[D/2 + i] sin_i     y[D/2 + i] = x[D/2 + i] cos_i + x[i] sin_i */
MEZZO_API mezzo_value mezzo_rope(mezzo_graph *graph, const char *name, mezzo_value x,
                                 mezzo_value table, int64_t heads);

/* y[B,T,C] = weight[V,C][ids[B,T]] + positions[P,C][start + t], or y[T,C] from ids[T].  `ids` (I32)
 * must be an input: giving it a number outside of 0..V-1 is a DATA error.  `positions` and `start`
 * (I32 [1], 0 if null; start + T <= P) may be the null value, a start only with positions.  The
 * tables are parameters of the caller's, read in FP32. */
MEZZO_API mezzo_value mezzo_embedding(mezzo_graph *graph, const char *name, mezzo_value ids,
                                      mezzo_value weight, mezzo_value positions, mezzo_value start);

/* x[B,H,W,C] -> [B,OH,OW,C].  stride 0 means `kernel`. */
MEZZO_API mezzo_value mezzo_max_pool(mezzo_graph *graph, mezzo_value x, int64_t kernel,
                                     int64_t stride, int64_t pad);
/* Divides by kernel^2, padding counted. */
MEZZO_API mezzo_value mezzo_avg_pool(mezzo_graph *graph, mezzo_value x, int64_t kernel,
                                     int64_t stride, int64_t pad);

/* Elementwise; the shapes of two operands are equal. */
MEZZO_API mezzo_value mezzo_relu(mezzo_graph *graph, mezzo_value x);
MEZZO_API mezzo_value mezzo_gelu(mezzo_graph *graph, mezzo_value x); /* the tanh form */
MEZZO_API mezzo_value mezzo_add(mezzo_graph *graph, mezzo_value a, mezzo_value b);
MEZZO_API mezzo_value mezzo_mul(mezzo_graph *graph, mezzo_value a, mezzo_value b);
MEZZO_API mezzo_value mezzo_scale(mezzo_graph *graph, mezzo_value x, float factor);
/* Zero with probability `rate` in [0, 1), else x / (1 - rate); nothing in evaluation.  The mask is
 * a function of (seed, name, attempt, row of the step's batch, element): workers do not change it.
 * The first axis counts rows. */
MEZZO_API mezzo_value mezzo_dropout(mezzo_graph *graph, const char *name, mezzo_value x,
                                    float rate);

/* y[...,n] = silu(a) b of x[...,2n], whose rows are n elements a, then n elements b; silu(a) = a /
 * (1 + exp(-a)).  A product with two weights below each other, [2n,K], makes such rows. */
MEZZO_API mezzo_value mezzo_swiglu(mezzo_graph *graph, mezzo_value x);

/* [B, ...] -> [B, product].  A view of an image is in H, W, C order. */
MEZZO_API mezzo_value mezzo_flatten(mezzo_graph *graph, mezzo_value x);
MEZZO_API mezzo_value mezzo_reshape(mezzo_graph *graph, mezzo_value x, mezzo_shape shape);

/* Over all elements, to a scalar. */
MEZZO_API mezzo_value mezzo_sum(mezzo_graph *graph, mezzo_value x);
MEZZO_API mezzo_value mezzo_mean(mezzo_graph *graph, mezzo_value x);

/* Mean over the rows with label >= 0 of -log softmax(logits[...,V])[label], a scalar; labels[...]
 * I32, a negative one marks padding; `labels` must be an input, so that its values can be checked.
 * `*correct` (if not null) gets the number of rows whose label is the first maximum, a scalar, and
 * `*valid` the number of rows counted: by it the micro-batches of a window are weighed. */
MEZZO_API mezzo_value mezzo_softmax_cross_entropy(mezzo_graph *graph, mezzo_value logits,
                                                  mezzo_value labels, mezzo_value *correct,
                                                  mezzo_value *valid);
/* The same of logits = x[...,K] weight[V,K]^T, a few rows at a time: they never take more than
 * 8 MiB (FP32: 16), and backward makes them again. */
MEZZO_API mezzo_value mezzo_linear_cross_entropy(mezzo_graph *graph, const char *name,
                                                 mezzo_value x, mezzo_value weight,
                                                 mezzo_value labels, mezzo_value *correct,
                                                 mezzo_value *valid);

/* Smooth the labels of the cross-entropies that follow in the entry TRAIN (others give the plain
 * loss): their target is 1 - amount on the label and amount / V more on each of the V columns, so
 * that loss = (1 - amount) (-log p[label]) + amount (mean over all columns of -log p), as in
 * PyTorch.  `amount` is of [0, 1]; 0 at first. */
MEZZO_API void mezzo_label_smoothing(mezzo_graph *graph, float amount);

/* Causal attention, y[B,T,H D] of qkv[B,T,(H + 2 G) D]: in each token H = `heads` queries, then
 * G = `kv_heads` keys and as many values, of D elements each; query head h reads key head
 * h / (H/G).  y_i = sum over j <= i of softmax_j(q_i k_j / sqrt(D)) v_j.
 * In the entry DECODE T must be 1: keys and values of the tokens before are in NAME.k_cache and
 * NAME.v_cache [B,context,G D], FP32, where this one's are added at mezzo_position. */
typedef struct mezzo_attention_config {
    int64_t heads;
    int64_t kv_heads; /* divides `heads`; 0 means `heads` */
    int64_t context;  /* tokens that a cache holds; other entries do not look at it */
} mezzo_attention_config;
MEZZO_API mezzo_value mezzo_attention(mezzo_graph *graph, const char *name, mezzo_value qkv,
                                      mezzo_attention_config config);

#ifdef __cplusplus
}
#endif
#endif
