/* A step of several micro-batches: what the host gives to each of its runs. */
#ifndef MZI_GRAPH_WINDOW_H
#define MZI_GRAPH_WINDOW_H

#include "graph/graph.h"

typedef struct mzi_window {
    int32_t first;   /* input, I32 [1]: 1 in the first run of a window, else 0; 0: no window */
    int32_t rows;    /* F32 scalar: what the micro-batch counts in the mean */
    int32_t one;     /* the input that `rows` is when the loss says nothing; the host gives 1 */
    int32_t *sums;   /* by gradient; in the graph's arena, like the next */
    int32_t *copies; /* by statistic */
} mzi_window;

/* On a differentiated, typed graph: the gradients become sums over the runs of a window. */
mezzo_status mzi_pass_accumulate(mezzo_graph *graph, mzi_window *window);

#endif
