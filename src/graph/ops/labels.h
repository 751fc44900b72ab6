/* What the operations over labelled rows share; in op_softmax_cross_entropy.c. */
#ifndef MZI_GRAPH_OPS_LABELS_H
#define MZI_GRAPH_OPS_LABELS_H

#include "graph/lower.h"
#include "mezzo/ops.h"

/* V of logits [..., V]. */
static inline int64_t mzi_classes(mezzo_shape logits) {
    return logits.dim[logits.rank - 1];
}
/* A label for each row of `rows` [..., V or K]. */
mezzo_status mzi_check_labels(const mezzo_op_use *use, mezzo_shape rows, mezzo_shape labels);
/* Bound the input `labels` by V; an error of the graph if it is no input. */
void mzi_take_labels(mezzo_graph *graph, const char *op, mezzo_value labels, int64_t V);
/* Further outputs {lse, correct, valid} to the caller, and the rows that weigh a micro-batch to the
 * graph. */
void mzi_give_counts(mezzo_graph *graph, const mezzo_value more[3], mezzo_value *correct,
                     mezzo_value *valid);
/* The constants of a cross-entropy that is added to `graph` here and now. */
mezzo_attrs mzi_loss_attrs(const mezzo_graph *graph);
/* The parameters of a call of one of these operations over `rows` rows. */
mzk_params mzi_loss_params(const mezzo_op_use *use, int64_t rows, int64_t V, int64_t grain);

#endif
