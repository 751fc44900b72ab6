/* Networks and runs for the tests of gradient segments. */
#ifndef TESTS_TRAIN_SEGMENT_NETS_H
#define TESTS_TRAIN_SEGMENT_NETS_H

#include <math.h>
#include <stdlib.h>

#include "graph/segments.h"
#include "train/model.h"
#include "train/small_gpt.h"
#include "train/small_net.h"

enum {
    SEG_MAX = 64
};

/* Segments at edges drawn by `number`, with exponents of -12..12; their texts are the graph's
 * operations, in `names`. */
typedef struct drawn {
    mezzo_segment at[SEG_MAX];
    char names[SEG_MAX][96];
    int count;
} drawn;

static inline void draw_segments(mezzo_model *model, uint64_t number, drawn *d) {
    mezzo_graph *graph;
    NET_OK(model->ctx, mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph));
    bool *is_gradient = calloc((size_t)graph->value_count, sizeof *is_gradient);
    assert_non_null(is_gradient);
    NET_OK(model->ctx, mzi_find_gradients(graph, is_gradient));
    d->count = 0;
    for (int32_t n = 0; n < graph->node_count && d->count < SEG_MAX; n++) {
        uint32_t words[4];
        mzi_rng4(words, 23, number, (uint64_t)n, 0);
        if (!mzi_reads_gradient(&graph->nodes[n], is_gradient) || words[0] % 2 != 0)
            continue;
        snprintf(d->names[d->count], sizeof *d->names, "%s", graph->nodes[n].name);
        d->at[d->count] =
            (mezzo_segment){.from = d->names[d->count], .exponent = (int32_t)(words[1] % 25) - 12};
        d->count++;
    }
    free(is_gradient);
    mzi_graph_destroy(graph);
}

/* One loss of two parts whose weights lie 2^38 apart, as with supervision in the middle of a
 * network; the trunk feeds both, and each part has two stretches that are scaled there and back.
 *
 *   x - trunk - relu -+- near - L1      near, far:  - x 2^-12 - fc1 - x 2^12  - relu
 *                     +- far -- L2                  - x 2^11  - fc2 - x 2^-11 - relu - head - loss
 *
 *   loss = 4 L1 + 2^-36 L2
 *
 * Gradients inside of the stretches are 2^12 larger and 2^11 smaller than those around, so that
 * even one part alone spans 2^23.  Adam takes no notice of a gradient's scale: far.* learn as well
 * as near.* do, where their gradients are not lost. */
enum {
    WIDE_BATCH = 16,
    WIDE_IN = 12,
    WIDE_HIDDEN = 24,
    WIDE_CLASSES = 4
};

static inline mezzo_value wide_stretch(mezzo_graph *graph, const char *name, mezzo_value x,
                                       float factor) {
    x = mezzo_linear(graph, name, mezzo_scale(graph, x, factor), WIDE_HIDDEN, false);
    return mezzo_relu(graph, mezzo_scale(graph, x, 1.0f / factor));
}

static inline mezzo_value wide_tower(mezzo_graph *graph, const char *name, mezzo_value x,
                                     mezzo_value labels) {
    mezzo_scope_push(graph, name);
    x = wide_stretch(graph, "fc1", x, 0x1p-12f);
    x = wide_stretch(graph, "fc2", x, 0x1p11f);
    x = mezzo_linear(graph, "head", x, WIDE_CLASSES, true);
    mezzo_value loss = mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL);
    mezzo_scope_pop(graph);
    mezzo_output(graph, name, loss);
    return loss;
}

static inline mezzo_status wide_build(mezzo_graph *graph, void *user) {
    (void)user;
    mezzo_value x = mezzo_input(graph, "x", MEZZO_F32, mezzo_shape2(WIDE_BATCH, WIDE_IN));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(WIDE_BATCH));
    x = mezzo_relu(graph, mezzo_linear(graph, "trunk", x, WIDE_HIDDEN, true));
    mezzo_value near = wide_tower(graph, "near", x, labels);
    mezzo_value far = wide_tower(graph, "far", x, labels);
    mezzo_loss(graph,
               mezzo_add(graph, mezzo_scale(graph, near, 4.0f), mezzo_scale(graph, far, 0x1p-36f)));
    return MEZZO_OK;
}

typedef struct wide_batch {
    float x[WIDE_BATCH * WIDE_IN];
    int32_t labels[WIDE_BATCH];
} wide_batch;

/* The class is which three of the inputs are raised. */
static inline void wide_fill(wide_batch *batch, int64_t number) {
    for (int s = 0; s < WIDE_BATCH; s++) {
        batch->labels[s] = s % WIDE_CLASSES;
        for (int i = 0; i < WIDE_IN; i++)
            batch->x[s * WIDE_IN + i] =
                0.5f * net_random((uint64_t)number, (uint64_t)s * WIDE_IN + (uint64_t)i) +
                (i / 3 == batch->labels[s] ? 1.0f : 0.0f);
    }
}

#define WIDE_INPUTS(batch)                                                                         \
    {                                                                                              \
        {"x", (batch)->x, sizeof(batch)->x}, {                                                     \
            "labels", (batch)->labels, sizeof(batch)->labels                                       \
        }                                                                                          \
    }

#endif
