/* What elementwise operations share: y has the shape of x, and one loop makes it. */
#ifndef MZI_GRAPH_OPS_ELEMENTWISE_H
#define MZI_GRAPH_OPS_ELEMENTWISE_H

#include "graph/lower.h"
#include "mezzo/ops.h"

/* Every input has the shape of the first, and so has the output. */
mezzo_status mzi_infer_same(const mezzo_op_use *use);

/* The function `lower_FAMILY`: one call of that family over all operands. */
#define MZI_LOWER_ELEMENTWISE(family)                                                              \
    static mezzo_status lower_##family(const mezzo_op_use *use, mzi_lowering *lowering) {          \
        (void)use;                                                                                 \
        mzi_emit_elementwise(lowering, MZK_##family);                                              \
        return MEZZO_OK;                                                                           \
    }

/* Shapes to try an operation of one or two inputs on. */
enum {
    MZI_SAME_CASES = 3
};
extern const mezzo_op_case mzi_same_cases[MZI_SAME_CASES];

#endif
