/* Softmax and cross-entropy in one: the probabilities are never stored.
 *
 *   logits [...,V], labels [...]   lse_i = log sum_j exp(logit_ij)
 *   target_ij = (1 - s) [j = label] + s / V                  s: smoothing of the labels
 *   loss = sum over rows with a label of (lse_i - sum_j target_ij logit_ij) / valid
 *   dlogits_ij = (exp(logit_ij - lse_i) - target_ij) dloss / valid
 *
 * A negative label marks padding: no loss, no gradient. */
#include "graph/ops/labels.h"
#include "mezzo/ops.h"
#include "num/number.h"

mezzo_status mzi_check_labels(const mezzo_op_use *use, mezzo_shape rows, mezzo_shape labels) {
    mezzo_shape expected = rows;
    expected.rank--; /* shapes are equal up to their rank */
    if (rows.rank < 2 || !mezzo_shape_equal(expected, labels)) {
        char a[MZI_SHAPE_TEXT], b[MZI_SHAPE_TEXT];
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "rows of shape %s and labels of shape %s; a label is needed for each "
                             "row",
                             mzi_shape_text(a, rows), mzi_shape_text(b, labels));
    }
    return MEZZO_OK;
}

/* A label beyond the logits would be read past their end: it is refused when the input is given. */
void mzi_take_labels(mezzo_graph *graph, const char *op, mezzo_value labels, int64_t V) {
    if (labels.id && !mzi_graph_limit_input(graph, labels, INT32_MIN, V))
        mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                       "%s takes its labels from an input, not from `%s`", op,
                       graph->values[labels.id].name);
}

void mzi_give_counts(mezzo_graph *graph, const mezzo_value more[3], mezzo_value *correct,
                     mezzo_value *valid) {
    if (correct)
        *correct = more[1];
    if (valid)
        *valid = more[2];
    graph->loss_rows = more[2].id;
}

mezzo_attrs mzi_loss_attrs(const mezzo_graph *graph) {
    mezzo_attrs attrs = {0};
    if (graph->entry == MEZZO_ENTRY_TRAIN)
        attrs.f[0] = (double)graph->label_smoothing;
    return attrs;
}

mzk_params mzi_loss_params(const mezzo_op_use *use, int64_t rows, int64_t V, int64_t grain) {
    mzk_params p = {0};
    p.loss.M = rows;
    p.loss.V = V;
    p.loss.grain = grain;
    p.loss.smoothing = (float)use->attrs->f[0];
    return p;
}

void mezzo_label_smoothing(mezzo_graph *graph, float amount) {
    if (amount >= 0.0f && amount <= 1.0f)
        graph->label_smoothing = amount;
    else
        mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT, "label smoothing %g is not in [0, 1]",
                       (double)amount);
}

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape logits = use->in[0].shape, labels = use->in[1].shape;
    MZI_TRY(mzi_check_labels(use, logits, labels));
    use->out[0] = use->out[2] = use->out[3] = (mezzo_tensor){MEZZO_F32, mezzo_shape0()};
    use->out[1] = (mezzo_tensor){MEZZO_F32, labels};
    return MEZZO_OK;
}

static mezzo_status infer_bwd(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, use->in[0].shape};
    return MEZZO_OK;
}

/* in: logits, labels; out: loss, lse, correct, valid. */
static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t M = mezzo_shape_count(use->in[1].shape), V = mzi_classes(use->in[0].shape);
    int64_t grain = mzi_grain_rows(V), parts = mzi_chunks(M, grain);
    mzi_operand part = mzi_scratch(lowering, MEZZO_F32, parts * 3);
    mzi_call *call = mzi_emit(lowering, MZK_xent_part, M, grain);
    call->out[0] = mzi_out(lowering, 1);
    call->out[1] = part;
    call->in[0] = mzi_in(lowering, 0);
    call->in[1] = mzi_in(lowering, 1);
    call->p = mzi_loss_params(use, M, V, grain);
    call = mzi_emit(lowering, MZK_xent_total, 1, 1);
    call->out[0] = mzi_out(lowering, 0);
    call->out[1] = mzi_out(lowering, 2);
    call->out[2] = mzi_out(lowering, 3);
    call->in[0] = part;
    call->p.e.parts = parts;
    return MEZZO_OK;
}

/* in: logits, labels, lse, dloss, valid. */
static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t M = mezzo_shape_count(use->in[1].shape), V = mzi_classes(use->in[0].shape);
    mzi_call *call = mzi_emit(lowering, MZK_xent_bwd, M, mzi_grain_rows(V));
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 5; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p = mzi_loss_params(use, M, V, call->grain);
    return MEZZO_OK;
}

/* An exponential counted as one operation, with a subtraction and an addition. */
static double flops(const mezzo_op_use *use) {
    return 3.0 * (double)mezzo_shape_count(use->in[0].shape);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->in[0], use->in[1], use->out[1], use->dout[0], use->out[3]};
    use->din[0] =
        mezzo_apply(use->graph, &mzi_op_softmax_cross_entropy_bwd, "dx", in, 5, use->attrs, NULL);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {{.in = {{2, {4, 7}}, {1, {4}}}},
                                      {.in = {{2, {1, 2}}, {1, {1}}}},
                                      {.in = {{3, {2, 3, 5}}, {2, {2, 3}}}},
                                      {.in = {{2, {4, 7}}, {1, {4}}}, .attrs.f = {0.25}}};

const mezzo_op_def mzi_op_softmax_cross_entropy = {
    .name = "softmax_cross_entropy",
    .help = "loss = mean over labelled rows of log sum exp(logits) - logits[label]",
    .reals = "smoothing",
    .in_min = 2,
    .in_max = 2,
    .out_count = 4,
    .cast = MEZZO_CAST_REDUCE,
    .in_int = MEZZO_BIT(1),
    .out_f32 = MEZZO_BIT(0) | MEZZO_BIT(1) | MEZZO_BIT(2) | MEZZO_BIT(3),
    .constant_in = MEZZO_BIT(1),
    .infer = infer,
    .gradient = gradient,
    .lower = lower,
    .flops = flops,
    .cases = cases,
    .case_count = 4};

const mezzo_op_def mzi_op_softmax_cross_entropy_bwd = {
    .name = "softmax_cross_entropy_bwd",
    .help = "dlogits = (softmax - target) dloss / valid",
    .reals = "smoothing",
    .in_min = 5,
    .in_max = 5,
    .out_count = 1,
    .cast = MEZZO_CAST_REDUCE,
    .in_int = MEZZO_BIT(1),
    .in_f32 = MEZZO_BIT(2) | MEZZO_BIT(3) | MEZZO_BIT(4),
    .not_differentiable = true,
    .infer = infer_bwd,
    .lower = lower_bwd,
    .flops = flops};

mezzo_value mezzo_softmax_cross_entropy(mezzo_graph *graph, mezzo_value logits, mezzo_value labels,
                                        mezzo_value *correct, mezzo_value *valid) {
    const mezzo_value in[] = {logits, labels};
    mezzo_value more[3];
    const mezzo_attrs attrs = mzi_loss_attrs(graph);
    mezzo_shape shape = mezzo_value_shape(graph, logits);
    if (shape.rank > 0)
        mzi_take_labels(graph, "softmax_cross_entropy", labels, mzi_classes(shape));
    mezzo_value loss = mezzo_apply(graph, &mzi_op_softmax_cross_entropy, NULL, in, 2, &attrs, more);
    mzi_give_counts(graph, more, correct, valid);
    return loss;
}
