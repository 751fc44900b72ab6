#include "train/stall.h"

#include <math.h>

#include "graph/lower.h"
#include "train/optim.h"

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The least distance that gives few enough samples and has no divisor in common with the number of
 * elements: it visits all rows and columns alike. */
static mzk_params places(int64_t elements) {
    mzk_params p = {.sample = {.n = elements, .stride = 1}};
    if (elements <= MZI_STALL_SAMPLES)
        return p;
    p.sample.stride = mzi_chunks(elements, MZI_STALL_SAMPLES);
    while (common_divisor(elements, p.sample.stride) > 1)
        p.sample.stride++;
    p.sample.n = mzi_chunks(elements, p.sample.stride);
    return p;
}

static mezzo_status infer_sample(const mezzo_op_use *use) {
    int64_t n = places(mezzo_shape_count(use->in[0].shape)).sample.n;
    use->out[0] = (mezzo_tensor){use->in[0].dtype, mezzo_shape1(use->attrs->i[0] ? 2 * n : n)};
    return MEZZO_OK;
}

static void emit_sample(mzi_lowering *lowering, mzk_params p, mzi_operand out, mzi_operand in) {
    mzi_call *call = mzi_emit(lowering, MZK_sample, p.sample.n, p.sample.n);
    call->out[0] = out;
    call->in[0] = in;
    call->p = p;
}

/* Of a split master, upper and lower halves. */
static mezzo_status lower_sample(const mezzo_op_use *use, mzi_lowering *lowering) {
    int64_t elements = mezzo_shape_count(use->in[0].shape);
    mzk_params p = places(elements);
    mzi_operand out = mzi_out(lowering, 0), in = mzi_in(lowering, 0);
    emit_sample(lowering, p, out, in);
    if (use->attrs->i[0])
        emit_sample(lowering, p, mzi_from(out, p.sample.n), mzi_from(in, elements));
    return MEZZO_OK;
}

static mezzo_status infer_stalled(const mezzo_op_use *use) {
    use->out[0] = (mezzo_tensor){MEZZO_F32, mezzo_shape1(2)};
    return MEZZO_OK;
}

static mezzo_status lower_stalled(const mezzo_op_use *use, mzi_lowering *lowering) {
    mzi_call *call = mzi_emit(lowering, MZK_stalled, 1, 1);
    call->out[0] = mzi_out(lowering, 0);
    for (int k = 0; k < use->in_count; k++)
        call->in[k] = mzi_in(lowering, k);
    int64_t elements = mezzo_shape_count(use->in[1].shape);
    if (use->attrs->i[0])
        call->in[3] = mzi_from(call->in[1], elements);
    call->p = places(elements);
    return MEZZO_OK;
}

static double no_flops(const mezzo_op_use *use) {
    (void)use;
    return 0.0;
}

static const mezzo_op_def sample = {.name = "sample",
                                    .help = "elements at a fixed distance",
                                    .ints = "split",
                                    .in_min = 1,
                                    .in_max = 1,
                                    .out_count = 1,
                                    .cast = MEZZO_CAST_FULL,
                                    .not_differentiable = true,
                                    .infer = infer_sample,
                                    .lower = lower_sample,
                                    .flops = no_flops};
static const mezzo_op_def stalled = {.name = "stalled",
                                     .help = "samples that an update left as they were",
                                     .ints = "split",
                                     .in_min = 3,
                                     .in_max = 3,
                                     .out_count = 1,
                                     .cast = MEZZO_CAST_FULL,
                                     .not_differentiable = true,
                                     .infer = infer_stalled,
                                     .lower = lower_stalled,
                                     .flops = no_flops};

static mezzo_status add(mezzo_graph *graph, const mezzo_op_def *op, const mezzo_value *in,
                        int count, bool is_split, mezzo_value *out) {
    const mezzo_attrs attrs = {.i = {is_split}};
    *out = mezzo_apply(graph, op, op->name, in, count, &attrs, NULL);
    MZI_TRY(graph->status);
    mzi_node *node = &graph->nodes[graph->node_count - 1];
    node->is_meter = true;
    node->rule = MZI_RULE_FULL;
    node->reason = "compared as it is stored";
    return MEZZO_OK;
}

static mezzo_status make_lists(mezzo_graph *graph, mzi_stall_meter *meter) {
    size_t n = (size_t)graph->grad_count;
    meter->of = mzi_arena_push(&graph->arena, n * sizeof *meter->of);
    meter->counts = mzi_arena_push(&graph->arena, n * sizeof *meter->counts);
    if (!meter->of || !meter->counts)
        return mzi_out_of_memory(graph->ctx, n * sizeof *meter->of, "the stall meter");
    return MEZZO_OK;
}

mezzo_status mzi_stall_watch(mezzo_graph *graph, const mzi_grad *grad, mzi_stall_meter *meter) {
    const mzi_node update = graph->nodes[graph->node_count - 1];
    /* Rounded stochastically, a small update arrives in the mean. */
    bool is_noisy =
        update.attrs.i[MZI_OPTIM_MASTER] == MEZZO_MASTER_BF16 && !update.attrs.i[MZI_OPTIM_NEAREST];
    if (update.attrs.f[MZI_OPTIM_LR_SCALE] == 0.0 || is_noisy)
        return MEZZO_OK;
    if (!meter->of)
        MZI_TRY(make_lists(graph, meter));
    mezzo_value before, counts, param = {grad->param};
    graph->origin = graph->values[param.id].name;
    graph->node_count--;
    bool is_split = update.attrs.i[MZI_OPTIM_MASTER] == MEZZO_MASTER_SPLIT;
    MZI_TRY(add(graph, &sample, &param, 1, is_split, &before));
    MZI_TRY(mzi_grow(graph->ctx, (void **)&graph->nodes, &graph->node_capacity,
                     graph->node_count + 1, sizeof *graph->nodes));
    graph->nodes[graph->node_count++] = update;
    const mezzo_value in[] = {{grad->grad}, param, before};
    MZI_TRY(add(graph, &stalled, in, 3, is_split, &counts));
    graph->values[counts.id].is_output = true;
    meter->counts[meter->count] = counts.id;
    int64_t elements = mezzo_shape_count(graph->values[param.id].tensor.shape);
    meter->of[meter->count++] = (mezzo_stall){.param = graph->values[param.id].name,
                                              .elements = elements,
                                              .sampled = places(elements).sample.n};
    return MEZZO_OK;
}

mezzo_status mzi_stall_read(mezzo_model *model, mzi_stall_meter *meter, double *share) {
    double counted = 0.0, stalls = 0.0;
    for (int32_t k = 0; k < meter->count; k++) {
        mezzo_stall *of = &meter->of[k];
        float found[2];
        MZI_TRY(
            mzi_model_download(model, MEZZO_ENTRY_TRAIN, meter->counts[k], found, sizeof found));
        of->counted = (int64_t)found[0];
        of->stalled = (int64_t)found[1];
        double weight = (double)of->elements / (double)of->sampled;
        counted += weight * (double)found[0];
        stalls += weight * (double)found[1];
    }
    *share = counted > 0.0 ? stalls / counted : (double)NAN;
    return MEZZO_OK;
}
