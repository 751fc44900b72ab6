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

/* y[M,N] = x[M,K] weight[N,K]^T + bias[N].  Weight and bias start uniform in +-1/sqrt(K), as in
 * PyTorch's Linear.  A rank other than 2 is an error: flatten first. */
MEZZO_API mezzo_value mezzo_linear(mezzo_graph *graph, const char *name, mezzo_value x,
                                   int64_t features, bool bias);

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

/* [B, ...] -> [B, product].  A view of an image is in H, W, C order. */
MEZZO_API mezzo_value mezzo_flatten(mezzo_graph *graph, mezzo_value x);
MEZZO_API mezzo_value mezzo_reshape(mezzo_graph *graph, mezzo_value x, mezzo_shape shape);

/* Over all elements, to a scalar. */
MEZZO_API mezzo_value mezzo_sum(mezzo_graph *graph, mezzo_value x);
MEZZO_API mezzo_value mezzo_mean(mezzo_graph *graph, mezzo_value x);

/* Mean over the rows with label >= 0 of -log softmax(logits[M,V])[label], a scalar; labels[M] I32,
 * a negative one marks padding; `labels` must be an input, so that its values can be checked.
 * `*correct` (if not null) gets the number of rows whose label is the first maximum, a scalar, and
 * `*valid` the number of rows counted. */
MEZZO_API mezzo_value mezzo_softmax_cross_entropy(mezzo_graph *graph, mezzo_value logits,
                                                  mezzo_value labels, mezzo_value *correct,
                                                  mezzo_value *valid);

#ifdef __cplusplus
}
#endif
#endif
