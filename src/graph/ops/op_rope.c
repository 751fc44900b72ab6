/* Rotary positions.
 *
 *   table [T,D]   cos(p w_i) for i < D/2, then sin(p w_i);  w_i = theta^(-2i/D), p the position
 *   x [B,T,n]     in each token `heads` heads of D elements, which are turned, and others
 *
 *   y_i = x_i c_i - x_(D/2+i) s_i,  y_(D/2+i) = x_(D/2+i) c_i + x_i s_i
 *   dx: dy turned back, by -s
 *
 * The table is made in FP64 and kept in FP32 whatever x is stored in: at position p an angle in a
 * narrower type would be wrong by p times its unit roundoff. */
#include "graph/lower.h"
#include "graph/ops/range.h"
#include "mezzo/ops.h"

enum {
    TOKENS,
    WIDTH
}; /* attrs.i of rope_table */
enum {
    THETA
}; /* attrs.f of rope_table */
enum {
    HEADS
}; /* attrs.i of rope and rope_bwd */

/* Numbers of other kernels that take as long as one of the table: a sine in FP64. */
enum {
    SINE_COST = 32
};

static mezzo_status infer_table(const mezzo_op_use *use) {
    int64_t T = use->attrs->i[TOKENS], D = use->attrs->i[WIDTH];
    if (D < 2 || D % 2)
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "heads of D = %lld elements; pairs are turned, so D must be even",
                             (long long)D);
    if (!(use->attrs->f[THETA] >= 1.0))
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT, "theta is %g; it must be 1 or more",
                             use->attrs->f[THETA]);
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape2(T, D)};
    return MEZZO_OK;
}

static mezzo_status infer(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape, table = use->in[1].shape;
    int64_t heads = use->attrs->i[HEADS];
    if (x.rank != 3 || table.rank != 2 || table.dim[0] != x.dim[1])
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "x of rank %d and a table of %lld rows; rope takes [B,T,n] and [T,D]",
                             x.rank, (long long)table.dim[0]);
    if (heads < 1 || heads > x.dim[2] / table.dim[1])
        return mezzo_op_fail(use, MEZZO_INVALID_ARGUMENT,
                             "%lld heads of D = %lld elements in %lld of a token", (long long)heads,
                             (long long)table.dim[1], (long long)x.dim[2]);
    use->out[0] = (mezzo_tensor){MEZZO_F32, x};
    return MEZZO_OK;
}

/* in: position or none; out: table. */
static mezzo_status lower_table(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t D = use->attrs->i[WIDTH];
    mzi_call *call =
        mzi_emit(lowering, MZK_rope_table, use->attrs->i[TOKENS], mzi_grain_rows(SINE_COST * D));
    call->out[0] = mzi_out(lowering, 0);
    call->in[0] = mzi_in(lowering, 0);
    call->p.rope.D = D;
    call->p.rope.theta = use->attrs->f[THETA];
    return MEZZO_OK;
}

static void emit(const mezzo_op_use *use, mzi_lowering *lowering, bool inverse) {
    mezzo_shape x = use->in[0].shape;
    mzi_call *call = mzi_emit(lowering, MZK_rope, x.dim[0] * x.dim[1], mzi_grain_rows(x.dim[2]));
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < 2; k++)
        call->in[k] = mzi_in(lowering, k);
    call->p.rope.T = x.dim[1];
    call->p.rope.n = x.dim[2];
    call->p.rope.D = use->in[1].shape.dim[1];
    call->p.rope.heads = use->attrs->i[HEADS];
    call->p.rope.inverse = inverse;
}

static mezzo_status lower(const mezzo_op_use *use, mzi_lowering *lowering) {
    emit(use, lowering, false);
    return MEZZO_OK;
}

static mezzo_status lower_bwd(const mezzo_op_use *use, mzi_lowering *lowering) {
    emit(use, lowering, true);
    return MEZZO_OK;
}

/* Two multiplications and an addition for each element that is turned. */
static double flops(const mezzo_op_use *use) {
    mezzo_shape x = use->in[0].shape;
    return 3.0 * (double)(x.dim[0] * x.dim[1] * use->attrs->i[HEADS] * use->in[1].shape.dim[1]);
}

static mezzo_status gradient(const mezzo_op_gradient *use) {
    const mezzo_value in[] = {use->dout[0], use->in[1]};
    use->din[0] = mezzo_apply(use->graph, &mzi_op_rope_bwd, "dx", in, 2, use->attrs, NULL);
    return MEZZO_OK;
}

static const mezzo_op_case cases[] = {{.in = {{3, {1, 1, 2}}, {2, {1, 2}}}, .attrs = {.i = {1}}},
                                      {.in = {{3, {2, 3, 4}}, {2, {3, 4}}}, .attrs = {.i = {1}}},
                                      {.in = {{3, {2, 4, 17}}, {2, {4, 6}}}, .attrs = {.i = {2}}}};

const mezzo_op_def mzi_op_rope_table = {
    .name = "rope_table",
    .help = "cosines and sines of position theta^(-2i/D), made in FP64",
    .ints = "tokens width",
    .reals = "theta",
    .in_min = 0,
    .in_max = 1,
    .out_count = 1,
    .cast = MEZZO_CAST_FULL,
    .out_f32 = MEZZO_BIT(0),
    .in_int = MEZZO_BIT(0),
    .constant_in = MEZZO_BIT(0),
    .not_differentiable = true,
    .infer = infer_table,
    .lower = lower_table};

const mezzo_op_def mzi_op_rope = {.name = "rope",
                                  .help = "y = x with pairs of each head turned by the table",
                                  .ints = "heads",
                                  .in_min = 2,
                                  .in_max = 2,
                                  .out_count = 1,
                                  .cast = MEZZO_CAST_FOLLOW,
                                  .in_f32 = MEZZO_BIT(1),
                                  .constant_in = MEZZO_BIT(1),
                                  .inplace = MEZZO_BIT(0),
                                  .range = mzi_range_same,
                                  .infer = infer,
                                  .gradient = gradient,
                                  .lower = lower,
                                  .flops = flops,
                                  .cases = cases,
                                  .case_count = 3};

const mezzo_op_def mzi_op_rope_bwd = {.name = "rope_bwd",
                                      .help = "dx = dy turned back",
                                      .ints = "heads",
                                      .in_min = 2,
                                      .in_max = 2,
                                      .out_count = 1,
                                      .cast = MEZZO_CAST_FOLLOW,
                                      .in_f32 = MEZZO_BIT(1),
                                      .constant_in = MEZZO_BIT(1),
                                      .inplace = MEZZO_BIT(0),
                                      .not_differentiable = true,
                                      .infer = infer,
                                      .lower = lower_bwd,
                                      .flops = flops};

mezzo_value mezzo_rope_table(mezzo_graph *graph, const char *name, int64_t tokens, int64_t D,
                             double theta) {
    bool decode = mezzo_graph_entry(graph) == MEZZO_ENTRY_DECODE;
    const mezzo_attrs attrs = {.i = {[TOKENS] = decode ? 1 : tokens, [WIDTH] = D},
                               .f = {[THETA] = theta}};
    mezzo_value position = {0};
    if (decode)
        position = mzi_graph_position(graph, tokens);
    return mezzo_apply(graph, &mzi_op_rope_table, name, &position, decode ? 1 : 0, &attrs, NULL);
}

mezzo_value mezzo_rope(mezzo_graph *graph, const char *name, mezzo_value x, mezzo_value table,
                       int64_t heads) {
    const mezzo_value in[] = {x, table};
    const mezzo_attrs attrs = {.i = {[HEADS] = heads}};
    return mezzo_apply(graph, &mzi_op_rope, name, in, 2, &attrs, NULL);
}
