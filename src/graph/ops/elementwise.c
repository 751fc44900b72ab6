#include "graph/ops/elementwise.h"

mezzo_status mzi_infer_same(const mezzo_op_use *use) {
    for (int k = 1; k < use->in_count; k++)
        if (!mezzo_shape_equal(use->in[0].shape, use->in[k].shape))
            return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                                 "the shapes differ: %lld elements in input 0 and %lld in input %d",
                                 (long long)mezzo_shape_count(use->in[0].shape),
                                 (long long)mezzo_shape_count(use->in[k].shape), k);
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[0].shape};
    return MEZZO_OK;
}

const mezzo_op_case mzi_same_cases[MZI_SAME_CASES] = {
    {.in = {{1, {1}}, {1, {1}}}},
    {.in = {{2, {3, 5}}, {2, {3, 5}}}},
    {.in = {{4, {2, 3, 3, 2}}, {4, {2, 3, 3, 2}}}}};
