/* Rows of a table by number, with a table of positions added if there is one.
 *
 *   ids [B,T] or [T]   weight [V,C]   positions [P,C]   start [1]   y [ids..., C]
 *   y[b,t] = weight[ids[b,t]] + positions[start + t]
 *   dweight[v] = sum over the places where ids is v of dy      dpositions[start + t] = sum_b
 * dy[b,t]
 *
 * Each row of a gradient is one chunk's alone and is added up in a fixed order. */
#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

enum {
    IDS,
    WEIGHT,
    POSITIONS,
    START
}; /* in */
enum {
    ROWS,  /* of the table */
    LENGTH /* T, for embedding_dp */
};         /* attrs.i of the gradients */

static bool has(const mezzo_op_use *use, int k) {
    return use->in_count > k && use->in[k].shape.rank >= 0;
}

static int64_t length_of(mezzo_shape ids) {
    return ids.dim[ids.rank - 1];
}

static mezzo_status check_positions(const mezzo_op_use *use) {
    mezzo_shape ids = use->in[IDS].shape, positions = use->in[POSITIONS].shape;
    int64_t C = use->in[WEIGHT].shape.dim[1];
    if (positions.rank != 2 || positions.dim[1] != C)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "positions of rank %d, %lld wide; the weight's rows have C = %lld",
                             positions.rank, (long long)(positions.rank > 1 ? positions.dim[1] : 0),
                             (long long)C);
    if (positions.dim[0] < length_of(ids))
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "T = %lld is longer than the table of P = %lld positions",
                             (long long)length_of(ids), (long long)positions.dim[0]);
    return MEZZO_OK;
}

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape ids = use->in[IDS].shape, weight = use->in[WEIGHT].shape;
    if (ids.rank < 1 || ids.rank > 2 || weight.rank != 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "ids of rank %d and a weight of rank %d; it takes [B,T] or [T], and "
                             "[V,C]",
                             ids.rank, weight.rank);
    for (int k = IDS; k <= START; k += START)
        if (has(use, k) && use->in[k].dtype != MEZZO_I32)
            return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "input %d is %s; it takes i32", k,
                                 mezzo_dtype_name(use->in[k].dtype));
    if (has(use, START) && !has(use, POSITIONS))
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "a start without positions");
    if (has(use, START) && mezzo_shape_count(use->in[START].shape) != 1)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "the start has %lld elements, not one",
                             (long long)mezzo_shape_count(use->in[START].shape));
    if (has(use, POSITIONS))
        MZI_TRY(check_positions(use));
    mezzo_shape y = ids;
    y.dim[y.rank++] = weight.dim[1];
    use->out[0] = (mezzo_tensor){MEZZO_F32, y};
    return MEZZO_OK;
}

/* dw and dp: attrs give the rows. */
static mezzo_status infer_table(const mezzo_op_use *use) {
    mezzo_shape dy = use->in[0].shape;
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape2(use->attrs->i[ROWS], dy.dim[dy.rank - 1])};
    return MEZZO_OK;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t C = use->in[WEIGHT].shape.dim[1], rows = mezzo_shape_count(use->in[IDS].shape);
    mzi_call *call = mzi_emit(lowering, MZK_embed, rows, mzi_grain_rows(C));
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 4; k++)
        call->in[k] = mzi_in(lowering, k);
    call->in[4] = mzi_in_low(lowering, WEIGHT);
    call->in[5] = mzi_in_low(lowering, POSITIONS);
    call->p.embed.rows = rows;
    call->p.embed.n = C;
    call->p.embed.T = length_of(use->in[IDS].shape);
    call->p.embed.V = use->in[WEIGHT].shape.dim[0];
    return MEZZO_OK;
}

/* Rows [0, attrs.i[ROWS]) of a table's gradient, in chunks of `grain`. */
static mzi_call *emit_table(const mezzo_op_use *use, mzi_lowering *lowering, mzk_family family,
                            int64_t grain) {
    mezzo_shape dy = use->in[0].shape;
    mzi_call *call = mzi_emit(lowering, family, use->attrs->i[ROWS], grain);
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 2; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.embed.n = dy.dim[dy.rank - 1];
    call->p.embed.rows = mezzo_shape_count(dy) / call->p.embed.n;
    call->p.embed.T = use->attrs->i[LENGTH];
    call->p.embed.V = call->rows;
    return call;
}

/* The work is that of dy, wherever the numbers point: a small table is cut into 16 all the same. */
static mezzo_status lower_dw(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t grain = mzi_grain_rows(use->out[0].shape.dim[1]),
            share = (use->attrs->i[ROWS] + 15) / 16;
    emit_table(use, lowering, MZK_embed_dw, grain < share ? grain : share);
    return MEZZO_OK;
}

/* In 2 is what the rows are added to: where it has the result's memory, the rest is not touched. */
static mezzo_status lower_dw_add(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_call *call = emit_table(use, lowering, MZK_embed_dw_add, (use->attrs->i[ROWS] + 63) / 64);
    call->in[2] = mzi_in(lowering, 2);
    return MEZZO_OK;
}

/* A row of the result takes one of each sequence. */
static mezzo_status lower_dp(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t columns = mezzo_shape_count(use->in[0].shape) / use->attrs->i[LENGTH];
    emit_table(use, lowering, MZK_embed_dp, mzi_grain_rows(columns));
    return MEZZO_OK;
}

static double flops_table(const mezzo_op_use *use) {
    return (double)mezzo_shape_count(use->in[0].shape);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value for_dw[] = {use->dout[0], use->in[IDS]};
    mezzo_value for_dp[2] = {use->dout[0]};
    mezzo_attrs attrs = {.i = {[LENGTH] = length_of(mezzo_value_shape(use->graph, use->in[IDS]))}};
    if (use->wanted[WEIGHT]) {
        attrs.i[ROWS] = mezzo_value_shape(use->graph, use->in[WEIGHT]).dim[0];
        use->din[WEIGHT] =
            mezzo_apply(use->graph, &mzi_op_embedding_dw, "dw", for_dw, 2, &attrs, NULL);
    }
    if (use->in_count > POSITIONS && use->wanted[POSITIONS]) {
        bool start = use->in_count > START && use->in[START].id;
        if (start)
            for_dp[1] = use->in[START];
        attrs.i[ROWS] = mezzo_value_shape(use->graph, use->in[POSITIONS]).dim[0];
        use->din[POSITIONS] = mezzo_apply(use->graph, &mzi_op_embedding_dp, "dp", for_dp,
                                          start ? 2 : 1, &attrs, NULL);
    }
    return MEZZO_OK;
}

static mezzo_range range(const mezzo_op_use *use, const mezzo_range *in) {
    (void)use;
    return mzi_range_add(in[WEIGHT], in[POSITIONS]);
}

static const mezzo_op_case cases[] = {{.in = {{2, {3, 4}}, {2, {5, 3}}, {2, {6, 3}}, {1, {1}}}},
                                      {.in = {{2, {2, 5}}, {2, {2, 4}}, {2, {5, 4}}, {-1, {0}}}},
                                      {.in = {{1, {7}}, {2, {3, 2}}, {-1, {0}}, {-1, {0}}}}};

const mezzo_op_def mzi_op_embedding = {.name = "embedding",
                                       .help = "y = weight[ids] + positions[start + t]",
                                       .in_min = 2,
                                       .in_max = 4,
                                       .out_count = 1,
                                       .cast = MEZZO_CAST_LOW,
                                       .in_f32 = MEZZO_BIT(WEIGHT) | MEZZO_BIT(POSITIONS),
                                       .in_master = MEZZO_BIT(WEIGHT) | MEZZO_BIT(POSITIONS),
                                       .in_int = MEZZO_BIT(IDS) | MEZZO_BIT(START),
                                       .constant_in = MEZZO_BIT(IDS) | MEZZO_BIT(START),
                                       .range = range,
                                       .infer = infer,
                                       .gradient = gradient,
                                       .lower = lower,
                                       .cases = cases,
                                       .case_count = 3};

const mezzo_op_def mzi_op_embedding_dw = {.name = "embedding_dw",
                                          .help = "dweight[v] = sum of dy where ids is v",
                                          .ints = "rows length",
                                          .in_min = 2,
                                          .in_max = 2,
                                          .out_count = 1,
                                          .cast = MEZZO_CAST_REDUCE,
                                          .in_int = MEZZO_BIT(1),
                                          .out_f32 = MEZZO_BIT(0),
                                          .not_differentiable = true,
                                          .infer = infer_table,
                                          .lower = lower_dw,
                                          .flops = flops_table};

/* Made by passes/fuse.c. */
const mezzo_op_def mzi_op_embedding_dw_add = {
    .name = "embedding_dw_add",
    .help = "dweight[v] = other[v] + sum of dy where ids is v",
    .ints = "rows length",
    .in_min = 3,
    .in_max = 3,
    .out_count = 1,
    .cast = MEZZO_CAST_REDUCE,
    .in_int = MEZZO_BIT(1),
    .in_f32 = MEZZO_BIT(2),
    .out_f32 = MEZZO_BIT(0),
    .inplace = MEZZO_BIT(2),
    .not_differentiable = true,
    .infer = infer_table,
    .lower = lower_dw_add,
    .flops = flops_table};

const mezzo_op_def mzi_op_embedding_dp = {.name = "embedding_dp",
                                          .help = "dpositions[start + t] = sum over b of dy[b,t]",
                                          .ints = "rows length",
                                          .in_min = 1,
                                          .in_max = 2,
                                          .out_count = 1,
                                          .cast = MEZZO_CAST_REDUCE,
                                          .in_int = MEZZO_BIT(1),
                                          .out_f32 = MEZZO_BIT(0),
                                          .not_differentiable = true,
                                          .infer = infer_table,
                                          .lower = lower_dp,
                                          .flops = flops_table};

mezzo_value mezzo_embedding(mezzo_graph *graph, const char *name, mezzo_value ids,
                            mezzo_value weight, mezzo_value positions, mezzo_value start) {
    const mezzo_value in[] = {ids, weight, positions, start};
    mezzo_value y = mezzo_apply(graph, &mzi_op_embedding, name, in,
                                start.id       ? 4
                                : positions.id ? 3
                                               : 2,
                                NULL, NULL);
    if (!y.id)
        return y;
    /* Any other number would be read from outside of the table: it is refused when the input is
     * given. */
    if (!mzi_graph_limit_input(graph, ids, 0, mezzo_value_shape(graph, weight).dim[0]))
        return mzi_graph_fail(graph, MEZZO_INVALID_ARGUMENT,
                              "embedding takes its ids from an input, not from `%s`",
                              graph->values[ids.id].name);
    if (start.id)
        mzi_graph_limit_input(graph, start, 0,
                              mezzo_value_shape(graph, positions).dim[0] -
                                  length_of(mezzo_value_shape(graph, ids)) + 1);
    return y;
}
