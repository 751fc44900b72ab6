/* Which layers are slower in BF16 than in FP32, by the clock.
 *
 * A layer is timed in a model of its own: forward, backward, and what prepares its weights, in both
 * forms by turns.  What lies around it is not: the casts of activations, which depend on the
 * neighbours.  So a layer goes back to FP32 only if its products alone take longer in BF16. */
#include "train/speed_gate.h"

#include <stdlib.h>
#include <string.h>

#include "mezzo/ops.h"

/* Below, all of a layer takes some microseconds, and a step has others to save; above, products run
 * at the speed of the arithmetic, and BF16's is twice FP32's. */
#define FLOPS_LEAST 1e6
#define FLOPS_MOST 256e6
/* No new shape is begun behind that: a start may take some hundreds of milliseconds. */
#define BUDGET_NS 100000000

bool mzi_is_slower(const int64_t bf16[MZI_SPEED_PAIRS], const int64_t f32[MZI_SPEED_PAIRS],
                   int count, mezzo_slow_layer *medians) {
    int64_t sorted[2][MZI_SPEED_PAIRS];
    int slower = 0;
    for (int k = 0; k < MZI_SPEED_PAIRS; k++) {
        slower += bf16[k] > f32[k];
        for (int form = 0; form < 2; form++) {
            int64_t value = form ? f32[k] : bf16[k];
            int at = k;
            for (; at > 0 && sorted[form][at - 1] > value; at--)
                sorted[form][at] = sorted[form][at - 1];
            sorted[form][at] = value;
        }
    }
    double low = (double)sorted[0][MZI_SPEED_PAIRS / 2] * 1e-3;
    double full = (double)sorted[1][MZI_SPEED_PAIRS / 2] * 1e-3;
    medians->bf16_us = low;
    medians->f32_us = full;
    return slower >= MZI_SPEED_PAIRS - 1 && low > 1.03 * full && (low - full) * count > 50.0;
}

typedef struct layer {
    const mzi_node *node; /* of forward */
    mezzo_shape shapes[3];
    bool has_dx; /* backward goes on beyond it */
} layer;

/* What a layer reads is no parameter, which would be packed for dw. */
static mezzo_status build(mezzo_graph *graph, void *user) {
    static const char *const names[] = {"x", "weight", "bias"};
    const mezzo_init init = {MEZZO_INIT_UNIFORM, 1.0f};
    const layer *l = user;
    mezzo_value in[3];
    for (int k = 0; k < l->node->in_count; k++)
        in[k] = mezzo_param(graph, names[k], l->shapes[k], init);
    in[0] = mezzo_relu(graph, in[0]);
    mezzo_value y =
        mezzo_apply(graph, l->node->op, "layer", in, l->node->in_count, &l->node->attrs, NULL);
    mezzo_loss(graph, mezzo_sum(graph, y));
    return MEZZO_OK;
}

/* Of the layer in all runs so far. */
static int64_t spent_ns(const mezzo_model *model, bool has_dx) {
    const mzi_entry *e = &model->entries[MEZZO_ENTRY_TRAIN];
    int64_t ns = 0;
    for (int32_t c = 0; c < e->plan->lowering.call_count; c++) {
        const mzi_node *node = &e->plan->graph->nodes[e->plan->lowering.calls[c].node];
        bool is_dx = strcmp(node->name, "layer/dx") == 0;
        if (node->phase == MZI_PHASE_PREPARE ||
            (strncmp(node->name, "layer", 5) == 0 && (has_dx || !is_dx)))
            ns += model->backend->program_ns(model->backend, e->program, c);
    }
    return ns;
}

static mezzo_status run_once(mezzo_model *model, bool has_dx, int64_t *ns) {
    const float one = 1.0f;
    MZI_TRY(mzi_model_ensure(model, MEZZO_ENTRY_TRAIN));
    int32_t scale = model->entries[MEZZO_ENTRY_TRAIN].plan->graph->loss_scale;
    int64_t before = spent_ns(model, has_dx);
    MZI_TRY(mzi_model_upload(model, MEZZO_ENTRY_TRAIN, scale, &one, sizeof one));
    model->version++; /* weights are prepared once a step */
    MZI_TRY(mzi_model_run(model, MEZZO_ENTRY_TRAIN, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD, false));
    *ns = spent_ns(model, has_dx) - before;
    return MEZZO_OK;
}

static mezzo_status time_pairs(mezzo_model *forms[2], bool has_dx,
                               int64_t times[2][MZI_SPEED_PAIRS]) {
    int64_t cold;
    for (int form = 0; form < 2; form++)
        MZI_TRY(run_once(forms[form], has_dx, &cold));
    for (int k = 0; k < MZI_SPEED_PAIRS; k++)
        for (int form = 0; form < 2; form++)
            MZI_TRY(run_once(forms[form], has_dx, &times[form][k]));
    return MEZZO_OK;
}

static mezzo_status measure(const mezzo_model *model, layer *l, int64_t times[2][MZI_SPEED_PAIRS]) {
    static const mezzo_dtype types[] = {MEZZO_BF16, MEZZO_F32};
    mezzo_model *forms[2] = {NULL, NULL};
    mezzo_status status = MEZZO_OK;
    for (int form = 0; form < 2 && status == MEZZO_OK; form++) {
        const mezzo_model_config config = {.build = build,
                                           .user = l,
                                           .device = model->backend->target.name,
                                           .precision.compute = types[form],
                                           .precision.lint = MEZZO_LINT_OFF};
        status = mezzo_model_create(&forms[form], model->ctx, &config, MEZZO_ENTRY_TRAIN);
    }
    if (status == MEZZO_OK)
        status = time_pairs(forms, l->has_dx, times);
    for (int form = 0; form < 2; form++)
        mezzo_model_destroy(forms[form]);
    return status;
}

/* Behind casts: what a value was made from. */
static const mzi_value *origin(const mezzo_graph *graph, int32_t v) {
    int32_t producer = graph->values[v].producer;
    while (producer >= 0 && graph->nodes[producer].op == &mzi_op_cast) {
        v = graph->nodes[producer].in[0];
        producer = graph->values[v].producer;
    }
    return &graph->values[v];
}

static bool is_candidate(const mezzo_graph *graph, const mzi_node *node) {
    double flops = mzi_node_flops(graph, node);
    return node->phase == MZI_PHASE_FORWARD &&
           (node->op == &mzi_op_linear || node->op == &mzi_op_conv2d) &&
           node->rule == MZI_RULE_LOW && node->compute == MEZZO_BF16 && flops >= FLOPS_LEAST &&
           flops <= FLOPS_MOST;
}

static layer layer_of(const mezzo_graph *graph, const mzi_node *node) {
    layer l = {.node = node};
    for (int k = 0; k < node->in_count; k++)
        l.shapes[k] = graph->values[node->in[k]].tensor.shape;
    l.has_dx = origin(graph, node->in[0])->kind != MZI_VALUE_INPUT;
    return l;
}

static bool alike(const layer *a, const layer *b) {
    bool same = a->node->op == b->node->op && a->node->in_count == b->node->in_count &&
                a->has_dx == b->has_dx &&
                memcmp(&a->node->attrs, &b->node->attrs, sizeof a->node->attrs) == 0;
    for (int k = 0; k < a->node->in_count && same; k++)
        same = mezzo_shape_equal(a->shapes[k], b->shapes[k]);
    return same;
}

/* The layers from `first` on that are like it; those in front have been looked at. */
static int count_alike(const layer *layers, int count, int first) {
    int found = 0;
    for (int k = 0; k < first; k++)
        if (alike(&layers[k], &layers[first]))
            return 0;
    for (int k = first; k < count; k++)
        found += alike(&layers[k], &layers[first]);
    return found;
}

static mezzo_status choose(const mezzo_model *model, layer *layers, int count,
                           mezzo_slow_layer *slow, int *slow_count) {
    int64_t begin = mzi_clock_ns();
    *slow_count = 0;
    for (int k = 0; k < count && mzi_clock_ns() - begin < BUDGET_NS; k++) {
        int64_t times[2][MZI_SPEED_PAIRS];
        mezzo_slow_layer found = {0};
        int like = count_alike(layers, count, k);
        if (like == 0)
            continue;
        MZI_TRY(measure(model, &layers[k], times));
        if (!mzi_is_slower(times[0], times[1], like, &found))
            continue;
        for (int m = k; m < count; m++)
            if (alike(&layers[m], &layers[k])) {
                found.name = layers[m].node->name;
                slow[(*slow_count)++] = found;
            }
    }
    return MEZZO_OK;
}

static mezzo_status measure_graph(mezzo_model *model, const mezzo_graph *graph) {
    size_t bytes = (size_t)graph->node_count * (sizeof(layer) + sizeof(mezzo_slow_layer));
    mezzo_slow_layer *slow = mzi_alloc(model->ctx, bytes);
    if (!slow)
        return mzi_out_of_memory(model->ctx, bytes, "the layers of a graph");
    layer *layers = (layer *)(void *)(slow + graph->node_count);
    int count = 0, slow_count = 0;
    for (int32_t n = 0; n < graph->node_count; n++)
        if (is_candidate(graph, &graph->nodes[n]))
            layers[count++] = layer_of(graph, &graph->nodes[n]);
    mezzo_status status = choose(model, layers, count, slow, &slow_count);
    if (status == MEZZO_OK)
        status = mzi_model_set_slow(model, slow, slow_count);
    mzi_free(model->ctx, slow, bytes);
    return status;
}

mezzo_status mezzo_model_measure_speed(mezzo_model *model) {
    mezzo_graph *graph;
    mzi_error_clear(model->ctx);
    if (model->entries[MEZZO_ENTRY_TRAIN].plan)
        MZI_FAIL(model->ctx, MEZZO_INVALID_ARGUMENT,
                 "speed gate: the training graph is planned already; measure before a trainer is "
                 "made");
    if (model->precision.speed_gate != MEZZO_SPEED_GATE_AUTO || model->backend->target.no_bf16 ||
        model->precision.compute != MEZZO_BF16 || model->precision.strict)
        return MEZZO_OK;
    mzi_model_free_slow(model);
    MZI_TRY(mzi_model_graph(model, MEZZO_ENTRY_TRAIN, &graph));
    mezzo_status status = measure_graph(model, graph);
    mzi_graph_destroy(graph);
    return status;
}

int mezzo_model_slow_count(const mezzo_model *model) {
    return model->precision.slow_count;
}

mezzo_slow_layer mezzo_model_slow_at(const mezzo_model *model, int index) {
    return index >= 0 && index < model->precision.slow_count ? model->slow[index]
                                                             : (mezzo_slow_layer){.name = ""};
}

static void free_slow(mezzo_ctx *ctx, mezzo_slow_layer *slow, int count, int capacity) {
    for (int k = 0; k < count; k++)
        mzi_free_text(ctx, (char *)(uintptr_t)slow[k].name);
    mzi_free(ctx, slow, (size_t)capacity * sizeof *slow);
}

void mzi_model_free_slow(mezzo_model *model) {
    free_slow(model->ctx, model->slow, model->precision.slow_count, model->slow_capacity);
    model->slow = NULL;
    model->slow_capacity = 0;
    model->precision.slow = NULL;
    model->precision.slow_count = 0;
}

mezzo_status mzi_model_set_slow(mezzo_model *model, const mezzo_slow_layer *slow, int count) {
    size_t bytes = (size_t)count * sizeof *slow;
    mezzo_slow_layer *made = count ? mzi_alloc(model->ctx, bytes) : NULL;
    if (count && !made)
        return mzi_out_of_memory(model->ctx, bytes, "the layers of the speed gate");
    for (int k = 0; k < count; k++) {
        made[k] = slow[k];
        made[k].name = mzi_copy_text(model->ctx, slow[k].name ? slow[k].name : "");
        if (!made[k].name) {
            free_slow(model->ctx, made, k, count);
            return mzi_out_of_memory(model->ctx, bytes, "the layers of the speed gate");
        }
    }
    mzi_model_free_slow(model);
    model->slow = made;
    model->slow_capacity = count;
    model->precision.slow = made;
    model->precision.slow_count = count;
    return MEZZO_OK;
}
