/* What a tensor holds in figures: how large, how small, how many that are not finite. */
#ifndef MZI_GRAPH_STATS_H
#define MZI_GRAPH_STATS_H

#include "graph/graph.h"

/* Of one tensor.  Magnitudes and the sum are over its finite elements. */
typedef struct mzi_stats {
    double squares, max;
    double inf, nan; /* elements */
    double tiny;     /* elements that are subnormal in the tensor's type */
    double zero;
    double count;
} mzi_stats;

/* in: x; out: F64 [parts,MZK_STATS], each part a chunk of MZI_GRAIN elements.  Those that
 * linear_dw_stats gives are of the tiles of its product. */
extern const mezzo_op_def mzi_op_stats;

/* Is output `k` of the node such parts, of a tensor or of output 0? */
bool mzi_is_stats(const mzi_node *node, int k);

/* Add `bytes` of parts, in their order, and the `count` elements they are of: the same sums on
 * every run. */
void mzi_stats_add(mzi_stats *total, const double *parts, uint64_t bytes, int64_t count);

#endif
