/* Segments of backward: gradients held at several powers of two (mezzo_segment). */
#ifndef MZI_GRAPH_SEGMENTS_H
#define MZI_GRAPH_SEGMENTS_H

#include "graph/graph.h"

/* Which values are linear in the loss scale, by value: the gradients.  UNSUPPORTED if a node that
 * reads one is not known to be linear in it. */
mezzo_status mzi_find_gradients(const mezzo_graph *graph, bool *is_gradient);
/* Does the node read one? */
bool mzi_reads_gradient(const mzi_node *node, const bool *is_gradient);

/* On a differentiated, typed graph: put exact factors where gradients go from one segment to
 * another, and say how much too large those of the parameters are. */
mezzo_status mzi_pass_segments(mezzo_graph *graph, const mezzo_segment *segments, int count);

/* The largest magnitude of a true gradient, by the name of the value. */
typedef struct mzi_maximum {
    const char *name;
    double maximum;
} mzi_maximum;

/* Exponents that a node may have. */
typedef struct mzi_exponents {
    int32_t low, high;
} mzi_exponents;

/* Those at which 2^exponent `scale` `maximum` is where FP16 holds a tensor well; all of them for
 * a maximum of 0. */
mzi_exponents mzi_segment_window(double maximum, double scale);
/* Cut a list of nodes into runs of one exponent that all of a run allow; the fewest, since each is
 * made as long as it can be.  Returns their number. */
int32_t mzi_segments_cut(const mzi_exponents *allowed, int32_t count, int32_t *exponent);
/* The segments for a typed graph without any.  `out` has room for one a node; its names live as
 * long as the graph.  None if one exponent does for all. */
mezzo_status mzi_segments_choose(mezzo_graph *graph, const mzi_maximum *table, int32_t table_count,
                                 double scale, mezzo_segment *out, int *out_count);

#endif
