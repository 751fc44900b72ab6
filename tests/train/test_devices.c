/* The device cpu against the device ref, operation by operation.
 *
 * Two plans of one network keep every value (nothing is read after it is overwritten).  The one on
 * cpu runs forward and backward; then each operation of the one on ref gets the inputs that it had
 * on cpu, and both results are held to the FP64 value and the bound of node_bound.h.  Since every
 * input was itself checked as somebody's output, the whole chain from data to gradients is.  A
 * third plan, as a trainer makes it, shares memory between values: its loss and gradients must be
 * the same bits.
 *
 * The instruction set that oneDNN may use is set once a process, so the program runs itself again
 * for each that the CPU has. */
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "mezzo/ops.h"
#include "train/model.h"
#include "unit/cmocka_all.h"

#include "train/node_bound.h"

/* A network in words, one letter a layer, numbers behind it; what follows the last is a head of ten
 * classes and the loss.
 *   cN,K,S,P   convolution to N channels, kernel K, stride S, pad P      CN,K,S,P with bias
 *   lN         flatten, linear to N features                              LN with bias
 *   n norm   r relu   g gelu   d dropout   mK,S,P max pool   aK,S,P average pool
 *   tH,G attention over the pixels, H heads, G key and value heads
 *   eV,C,K     ids [B,H] in place of the image, embedded in C columns from V; K 1: without
 *   positions, 2: with a start
 *   R RMS norm   w gated unit, of half as many channels   oH,D the first H heads of D channels
 *   turned by their pixel's number
 *   N layer norm   N1 without bias   s smooth the labels   hV end with head and loss in one; h the
 *   same by the table of `e`, whose sequences are one token long then
 *   ( keep x   ) add what was kept   * square   $ end with mean(x) instead of head and loss
 *   ! at the front: nothing is fused */
typedef struct network {
    int64_t B, H, W, C;
    const char *layers;
} network;

static const network networks[] = {
    /* Images: chunks of ceil(B / 8), at most 16; a shorter last one for 13, 17, 33, 9. */
    {8, 6, 6, 1, "c4,3,1,1 n r m2,2,0 l8 r"},
    {13, 6, 6, 1, "C4,3,1,1 r m2,2,0 L8 g"},
    {17, 5, 5, 1, "c8,3,1,1 n g a2,2,0 l5"},
    {33, 5, 5, 1, "C8,3,2,1 r L16 r d"},
    {9, 7, 5, 1, "c3,5,1,2 r a3,2,1 l4"},
    {2, 9, 9, 1, "c16,3,1,0 n r C16,3,1,0 r"},
    {1, 8, 8, 3, "C6,3,1,1 r a2,2,0 L9 g"},
    {13, 7, 7, 3, "c5,3,2,1 n r C7,3,2,0 g"},
    {17, 7, 7, 3, "C16,3,2,1 r c16,3,1,1 n r"},
    {33, 4, 4, 3, "c8,1,1,0 r C8,1,1,0 g"},
    {12, 6, 7, 2, "C3,2,1,0 r C4,2,2,1 r"},
    {5, 9, 6, 4, "c8,3,3,0 n g m2,1,0"},
    {13, 5, 5, 16, "c16,3,1,1 n r C16,3,1,1 r"},
    {17, 5, 5, 16, "C32,3,2,1 r l8"},
    {33, 3, 3, 16, "c16,3,1,1 r L12"},
    {6, 5, 5, 32, "c16,3,1,1 n r"},
    {4, 5, 5, 17, "C19,3,1,1 g c5,3,1,1 r"},
    {3, 6, 6, 15, "c33,3,1,1 r C3,1,1,0"},
    {8, 5, 5, 8, "C64,3,1,1 r"},
    {13, 6, 6, 2, "C8,3,1,1 ( r C8,3,1,1 ) r m2,2,0"},
    {7, 5, 7, 6, "( c6,3,1,1 n ) g a2,1,0 ( * ) l3"},
    /* Strides and pads that leave pixels over. */
    {3, 8, 8, 2, "C4,3,2,0 r C4,2,2,0 r"},
    {3, 8, 7, 2, "C4,3,3,1 r"},
    {3, 7, 9, 2, "C4,5,2,2 r C3,4,2,1"},
    {2, 11, 11, 1, "C4,7,2,3 r m3,2,1"},
    {3, 5, 6, 3, "C4,1,2,0 r"},
    {3, 5, 5, 3, "C4,5,1,0 r"},
    {3, 4, 4, 3, "C4,3,1,2 r"},
    {13, 1, 1, 5, "C4,1,1,0 r C4,1,1,0 n"},
    {9, 3, 3, 1, "C1,3,1,1 r C1,3,1,0"},
    /* Pools. */
    {3, 7, 7, 5, "C5,3,1,1 m3,1,1 a3,1,1 r"},
    {3, 8, 6, 9, "C9,1,1,0 m3,2,0 a2,1,1 g"},
    {2, 9, 9, 3, "C3,3,1,1 a4,3,2 r m2,2,1"},
    /* As in examples/fashion-cnn.yaml. */
    {2, 28, 28, 1, "c32,3,1,1 n r m2,2,0"},
    {1, 14, 14, 32, "c64,3,1,1 r m2,2,0"},
    {1, 7, 7, 64, "c64,3,1,1 r"},
    /* Perceptrons: matrix rows in chunks of 16 to 64. */
    {13, 1, 1, 20, "L16 r L8 r"},
    {17, 1, 1, 33, "l31 g l7"},
    {33, 1, 1, 16, "L48 r d L16 r"},
    {64, 1, 1, 5, "L3 r"},
    {65, 1, 1, 17, "l15 r L65 g"},
    {70, 1, 1, 8, "L16 n r"},
    {1, 1, 1, 64, "L64 r l1 r"},
    {257, 1, 1, 9, "L12 r"},
    {300, 1, 1, 7, "l6 n g"},
    {128, 1, 1, 16, "L32 r L16 r"},
    {31, 3, 3, 2, "l70 n r d L33 g"},
    {4, 1, 1, 512, "L16 r"},
    /* Square weights: their packed forms for forward and backward differ by a transpose alone. */
    {17, 1, 1, 16, "L16 r l16 g L16 r"},
    {33, 1, 1, 64, "L64 r L64 r"},
    {9, 1, 1, 4, "l4 l4 r"},
    {16, 1, 1, 4, "L300 r L2 r"},
    /* Attention: channels are (H + 2 G) D; tokens below, at and above tiles and vectors. */
    {3, 1, 5, 2, "C12,1,1,0 t2,1 r"},
    {2, 4, 4, 3, "C24,1,1,0 t1,1 C18,1,1,0 t4,1"},
    {1, 9, 8, 2, "C40,3,1,1 t4,2 L6 r"},
    {1, 5, 13, 1, "C51,1,1,0 t1,1"},
    {13, 1, 1, 9, "t1,1"},
    /* Sequences: layer norm over rows in chunks of up to 256, tables in chunks of a sixteenth. */
    {13, 9, 1, 1, "e11,16,0 N r N1 L8 N"},
    {3, 17, 1, 1, "e40,24,1 N1 g L5"},
    {33, 8, 1, 1, "e2,7,2 ( N g ) N l4"},
    {300, 1, 1, 6, "L5 N r N1"},
    {4, 4, 4, 3, "C130,3,1,1 N g"},
    /* Parts of a Llama: rows of every width around a vector, heads that leave channels over. */
    {3, 1, 17, 9, "R C24,1,1,0 o3,6 t2,1 C14,1,1,0 w"},
    {2, 4, 4, 16, "R C80,1,1,0 o3,16 t2,1 ( R C80,1,1,0 w ) R"},
    {1, 5, 13, 33, "R o1,32 C66,1,1,0 w R"},
    {300, 1, 1, 6, "L34 w R L2 w"},
    /* The head and the loss in one; with 70,000 classes its logits take 16 to 48 rows a chunk. */
    {13, 1, 1, 9, "L8 r h11"},
    {33, 1, 1, 3, "h70000"},
    {16, 2, 3, 4, "N h300"},
    {9, 1, 1, 9, "L8 r s h11"},
    {33, 1, 1, 3, "s l20 g"},
    {5, 8, 1, 1, "e40,24,1 N h40"},
    {35, 1, 1, 1, "e9,48,1 h"},
    {130, 1, 1, 1, "e300,17,1 s N h"},
    /* One by one. */
    {33, 1, 1, 3, "!h70000"},
    {35, 1, 1, 1, "!e9,48,1 s h"},
    /* Other losses. */
    {13, 4, 4, 2, "C3,3,1,1 g * $"},
    {17, 1, 1, 6, "L5 r $"},
};
enum {
    NETWORKS = sizeof networks / sizeof *networks,
    NETWORKS_LEAST = 40,
    NUMBERS = 4,
    SEEN_MAX = 64
};

/* The next number behind a letter; 0 if there is none. */
static int64_t number(const char **at) {
    char *end;
    if (**at == ',')
        ++*at;
    if (**at < '0' || **at > '9')
        return 0;
    long value = strtol(*at, &end, 10);
    *at = end;
    return value;
}

static mezzo_value flat(mezzo_graph *graph, mezzo_value x) {
    return mezzo_value_shape(graph, x).rank == 2 ? x : mezzo_flatten(graph, x);
}

/* Pixels are the tokens; y is an image of one row again. */
static mezzo_value attention(mezzo_graph *graph, const char *name, mezzo_value x, int64_t heads,
                             int64_t kv_heads) {
    mezzo_shape s = mezzo_value_shape(graph, x);
    int64_t B = s.dim[0], T = s.dim[1] * s.dim[2];
    x = mezzo_reshape(graph, x, mezzo_shape3(B, T, s.dim[3]));
    x = mezzo_attention(graph, name, x,
                        (mezzo_attention_config){.heads = heads, .kv_heads = kv_heads});
    int64_t C = mezzo_value_shape(graph, x).dim[2];
    return mezzo_reshape(graph, x, mezzo_shape4(B, 1, T, C));
}

static mezzo_value rope(mezzo_graph *graph, const char *name, mezzo_value x, int64_t heads,
                        int64_t D) {
    mezzo_shape s = mezzo_value_shape(graph, x);
    mezzo_value table = mezzo_rope_table(graph, NULL, s.dim[1] * s.dim[2], D, 100.0);
    x = mezzo_reshape(graph, x, mezzo_shape3(s.dim[0], s.dim[1] * s.dim[2], s.dim[3]));
    return mezzo_reshape(graph, mezzo_rope(graph, name, x, table, heads), s);
}

static mezzo_value embedding(mezzo_graph *graph, const int64_t v[NUMBERS], const network *net) {
    const mezzo_init init = {MEZZO_INIT_UNIFORM, 1.0f};
    mezzo_value ids = mezzo_input(graph, "ids", MEZZO_I32, mezzo_shape2(net->B, net->H));
    mezzo_value weight = mezzo_param(graph, "tokens", mezzo_shape2(v[0], v[1]), init);
    mezzo_value positions = {0}, start = {0};
    if (v[2] != 1)
        positions = mezzo_param(graph, "places", mezzo_shape2(net->H + 3, v[1]), init);
    if (v[2] == 2)
        start = mezzo_input(graph, "start", MEZZO_I32, mezzo_shape1(1));
    return mezzo_embedding(graph, "embedding", ids, weight, positions, start);
}

static mezzo_value layer(mezzo_graph *graph, char kind, const int64_t v[NUMBERS], mezzo_value x,
                         int index) {
    char name[16];
    snprintf(name, sizeof name, "at%d", index);
    switch (kind) {
    case 'c':
    case 'C':
        return mezzo_conv2d(graph, name, x,
                            (mezzo_conv2d_config){v[0], v[1], v[2], v[3], kind == 'C'});
    case 'l':
    case 'L':
        return mezzo_linear(graph, name, flat(graph, x), v[0], kind == 'L');
    case 'n':
        return mezzo_batch_norm(graph, name, x, 0.0f, 0.0f);
    case 'N':
        return mezzo_layer_norm(graph, name, x, 0.0f, v[0] == 0);
    case 'R':
        return mezzo_rms_norm(graph, name, x, 0.0f);
    case 'w':
        return mezzo_swiglu(graph, x);
    case 'o':
        return rope(graph, name, x, v[0], v[1]);
    case 'r':
        return mezzo_relu(graph, x);
    case 'g':
        return mezzo_gelu(graph, x);
    case 's':
        mezzo_label_smoothing(graph, 0.1f);
        return x;
    case 'd':
        return mezzo_dropout(graph, name, x, 0.3f);
    case 'm':
        return mezzo_max_pool(graph, x, v[0], v[1], v[2]);
    case 'a':
        return mezzo_avg_pool(graph, x, v[0], v[1], v[2]);
    case 't':
        return attention(graph, name, x, v[0], v[1]);
    case '*':
        return mezzo_mul(graph, x, x);
    default:
        fail_msg("no layer `%c`", kind);
        return x;
    }
}

static void head_with_loss(mezzo_graph *graph, mezzo_value x, mezzo_value labels, int64_t V,
                           const int64_t table[NUMBERS]) {
    const char *name = V ? "head.weight" : "tokens";
    const float range = V ? 0.5f : 1.0f;
    x = flat(graph, x);
    mezzo_value w =
        mezzo_param(graph, name, mezzo_shape2(V ? V : table[0], mezzo_value_shape(graph, x).dim[1]),
                    (mezzo_init){MEZZO_INIT_UNIFORM, range});
    mezzo_loss(graph, mezzo_linear_cross_entropy(graph, "head", x, w, labels, NULL, NULL));
}

static mezzo_status build(mezzo_graph *graph, void *user) {
    const network *net = user;
    mezzo_value x =
        mezzo_input(graph, "x", MEZZO_F32, mezzo_shape4(net->B, net->H, net->W, net->C));
    mezzo_value labels = mezzo_input(graph, "labels", MEZZO_I32, mezzo_shape1(net->B)), kept = x;
    const char *at = net->layers + (net->layers[0] == '!');
    int64_t table[NUMBERS] = {0};
    for (int index = 1; *at && *at != '$' && *at != 'h'; index++) {
        char kind = *at++;
        int64_t v[NUMBERS];
        for (int k = 0; k < NUMBERS; k++)
            v[k] = number(&at);
        if (kind == '(')
            kept = x;
        else if (kind == ')')
            x = mezzo_add(graph, x, kept);
        else if (kind == 'e')
            x = embedding(graph, memcpy(table, v, sizeof table), net);
        else
            x = layer(graph, kind, v, x, index);
        at += *at == ' ';
    }
    if (*at == '$') {
        mezzo_loss(graph, mezzo_mean(graph, x));
        return MEZZO_OK;
    }
    if (*at == 'h') {
        at++;
        head_with_loss(graph, x, labels, number(&at), table);
        return MEZZO_OK;
    }
    x = mezzo_linear(graph, "head", flat(graph, x), 10, true);
    mezzo_loss(graph, mezzo_softmax_cross_entropy(graph, x, labels, NULL, NULL));
    return MEZZO_OK;
}

/* One device's model. */
typedef struct side {
    mezzo_model *model;
    const mzi_plan *plan;
} side;

static mezzo_model *make_model(mezzo_ctx *ctx, const network *net, const char *device,
                               mezzo_dtype compute) {
    mezzo_model *model = NULL;
    const mezzo_model_config config = {.build = build,
                                       .user = (void *)(uintptr_t)net,
                                       .device = device,
                                       .precision.compute = compute,
                                       .seed = 9,
                                       .no_fuse = net->layers[0] == '!'};
    if (mezzo_model_create(&model, ctx, &config, MEZZO_ENTRY_TRAIN) != MEZZO_OK)
        fail_msg("%s: %s", net->layers, mezzo_ctx_error(ctx)->text);
    return model;
}

static double uniform(uint64_t stream, int64_t i) {
    uint32_t words[4];
    mzi_rng4(words, 1, stream, (uint64_t)i / 4, 0);
    return 2.0 * (double)mzi_uniform(words[i % 4]) - 1.0;
}

/* Norms start at gamma 1, beta 0, mean 0, variance 1, which would hide mistakes: other values. */
static void spread_state(mezzo_model *model) {
    static float values[1 << 16];
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info info = mezzo_model_state_at(model, s);
        int64_t n = mezzo_shape_count(info.shape);
        bool variance = strstr(info.name, "running_var") != NULL;
        if (info.shape.rank != 1)
            continue;
        for (int64_t i = 0; i < n; i++) {
            double r = uniform(mzi_name_hash(info.name), i);
            values[i] = (float)(variance ? 1.0 + 0.5 * r : 0.3 + 0.7 * r);
        }
        assert_int_equal(mezzo_model_write(model, s, values, n), MEZZO_OK);
    }
}

/* Plan with every value kept. */
static side keep_all(mezzo_model *model, mezzo_entry entry) {
    mezzo_graph *graph = NULL;
    assert_int_equal(mzi_model_graph(model, entry, &graph), MEZZO_OK);
    for (int32_t v = 1; v < graph->value_count; v++)
        graph->values[v].is_output = true;
    for (int32_t n = 0; n < graph->node_count; n++) { /* what is read from outside is not fused */
        int32_t v = graph->nodes[n].out[0];
        bool is_gradient = false;
        for (int32_t g = 0; g < graph->grad_count; g++)
            is_gradient |= graph->grads[g].grad == v;
        if (graph->nodes[n].op == &mzi_op_embedding_dw)
            graph->values[v].is_output = is_gradient;
    }
    if (mzi_model_install(model, entry, graph, "") != MEZZO_OK)
        fail_msg("%s", mezzo_ctx_error(model->ctx)->text);
    return (side){model, model->entries[entry].plan};
}

static size_t bytes_of(const mezzo_graph *graph, int32_t v) {
    return (size_t)node_count(graph, v) * mezzo_dtype_bytes(graph->values[v].tensor.dtype);
}

/* Data in [-1, 1), labels with padding among them, ids, a start, a dropout key and the loss scale,
 * which lifts FP16's gradients into its range. */
static void upload_inputs(const side *s, mezzo_entry entry, mezzo_dtype compute) {
    const mezzo_graph *graph = s->plan->graph;
    for (int32_t v = 1; v < graph->value_count; v++) {
        const mzi_value *value = &graph->values[v];
        int64_t n = node_count(graph, v);
        if (value->kind != MZI_VALUE_INPUT)
            continue;
        bool real = value->tensor.dtype == MEZZO_F32;
        float *x = calloc((size_t)n, sizeof *x);
        int32_t *integers = calloc((size_t)n, sizeof *integers);
        int64_t below = value->int_below ? value->int_below : 10;
        bool padding = !value->int_below || value->int_from < 0;
        for (int64_t i = 0; i < n; i++) {
            x[i] = (float)uniform(77, i);
            integers[i] = i == 2 && padding ? -1 : (int32_t)((i + n % 2) * 7 % below);
        }
        if (v == graph->loss_scale)
            x[0] = compute == MEZZO_F16 ? 1024.0f : 1.0f;
        if (v == graph->rng)
            integers[3] = 0;
        assert_int_equal(mzi_model_upload(s->model, entry, v, real ? (void *)x : (void *)integers,
                                          bytes_of(graph, v)),
                         MEZZO_OK);
        free(x);
        free(integers);
    }
}

static void *read_value(const side *s, mezzo_entry entry, int32_t v) {
    size_t bytes = bytes_of(s->plan->graph, v);
    void *data = calloc(bytes + 8, 1);
    assert_int_equal(s->plan->graph->values[v].layout, 0);
    assert_int_equal(mzi_model_download(s->model, entry, v, data, bytes), MEZZO_OK);
    return data;
}

static void write_value(const side *s, mezzo_entry entry, int32_t v, const void *data) {
    mzi_entry *e = &s->model->entries[entry];
    const mzi_place *place = &e->plan->places[v];
    mzi_buffer *buffer = place->in_arena ? &e->arena : &e->own[v];
    assert_int_equal(s->model->backend->upload(s->model->backend, buffer, place->offset, data,
                                               bytes_of(s->plan->graph, v)),
                     MEZZO_OK);
}

/* What has been compared so far. */
typedef struct tally {
    const char *seen[SEEN_MAX];
    int seen_count;
    int64_t nodes, dnnl_calls;
} tally;

static void note(tally *t, const char *op) {
    for (int k = 0; k < t->seen_count; k++)
        if (t->seen[k] == op)
            return;
    assert_true(t->seen_count < SEEN_MAX);
    t->seen[t->seen_count++] = op;
}

static int compare_output(const node_values *n, int k, const void *on_cpu, const void *on_ref) {
    const mezzo_tensor *tensor = &n->graph->values[n->node->out[k]].tensor;
    int wrong = 0;
    if (!mezzo_dtype_is_float(tensor->dtype) || n->is_exact)
        return memcmp(on_cpu, on_ref, bytes_of(n->graph, n->node->out[k])) != 0;
    for (int64_t i = 0; i < node_count(n->graph, n->node->out[k]); i++) {
        double exact = n->exact[k][i], cpu = mzi_load(on_cpu, tensor->dtype, i);
        double allowed = node_allowed(exact, n->error[k][i], tensor->dtype);
        double ref = mzi_load(on_ref, tensor->dtype, i);
        bool bad = !(fabs(cpu - exact) <= allowed) || !(fabs(ref - exact) <= allowed);
        if (bad && wrong++ < 3)
            print_error("  [%lld]: cpu %.9g, ref %.9g, FP64 %.12g +- %.3g\n", (long long)i, cpu,
                        ref, exact, allowed);
    }
    return wrong;
}

static int check_node(const side *cpu, const side *ref, mezzo_entry entry, int32_t index) {
    const mezzo_graph *graph = ref->plan->graph;
    node_values n = {.graph = graph, .node = &graph->nodes[index]};
    int32_t first = -1, last = 0;
    int wrong = 0;
    for (int32_t c = 0; c < ref->plan->lowering.call_count; c++) {
        if (ref->plan->lowering.calls[c].node != index)
            continue;
        first = first < 0 ? c : first;
        last = c + 1;
    }
    if (first < 0) /* a view */
        return 0;
    for (int k = 0; k < n.node->in_count; k++) {
        n.in[k] = read_value(cpu, entry, n.node->in[k]);
        write_value(ref, entry, n.node->in[k], n.in[k]);
    }
    assert_int_equal(ref->model->backend->program_run(ref->model->backend,
                                                      ref->model->entries[entry].program, first,
                                                      last, false),
                     MEZZO_OK);
    node_solve(&n, ref->plan, index);
    for (int k = 0; k < n.node->out_count; k++) {
        void *on_cpu = read_value(cpu, entry, n.node->out[k]);
        void *on_ref = read_value(ref, entry, n.node->out[k]);
        wrong += compare_output(&n, k, on_cpu, on_ref);
        free(on_cpu);
        free(on_ref);
    }
    node_free(&n);
    return wrong;
}

/* The plan on cpu has the same nodes with `pack` between them, and the same values by number. */
static int32_t find_node(const mezzo_graph *graph, const mzi_node *like) {
    for (int32_t n = 0; n < graph->node_count; n++)
        if (graph->nodes[n].op == like->op && graph->nodes[n].out[0] == like->out[0] &&
            strcmp(graph->nodes[n].name, like->name) == 0)
            return n;
    return -1;
}

static int check_entry(const network *net, mezzo_model *on_cpu, mezzo_model *on_ref,
                       mezzo_entry entry, mezzo_dtype compute, tally *t) {
    int wrong = 0;
    side cpu = keep_all(on_cpu, entry), ref = keep_all(on_ref, entry);
    upload_inputs(&cpu, entry, compute);
    upload_inputs(&ref, entry, compute);
    assert_int_equal(mzi_model_run(on_cpu, entry, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD, false),
                     MEZZO_OK);
    for (int32_t n = 0; n < ref.plan->graph->node_count; n++) {
        const mzi_node *node = &ref.plan->graph->nodes[n];
        if (find_node(cpu.plan->graph, node) < 0)
            fail_msg("%s is not on cpu", node->name);
        int bad = check_node(&cpu, &ref, entry, n);
        if (bad)
            print_error("%s, B %lld, %lldx%lldx%lld, %s: `%s` (%s): %d wrong\n", net->layers,
                        (long long)net->B, (long long)net->H, (long long)net->W, (long long)net->C,
                        mezzo_dtype_name(compute), node->name, node->op->name, bad);
        wrong += bad;
        note(t, node->op->name);
        t->nodes++;
    }
    for (int32_t c = 0; c < cpu.plan->lowering.call_count; c++)
        t->dnnl_calls += strstr(cpu.plan->lowering.calls[c].choice.kernel, ".dnnl") != NULL;
    return wrong;
}

/* Loss and gradients of the plan that shares memory, against the one that keeps everything. */
static int check_shared_memory(mezzo_model *kept, mezzo_model *shared, mezzo_dtype compute) {
    const mezzo_entry entry = MEZZO_ENTRY_TRAIN;
    assert_int_equal(mzi_model_ensure(shared, entry), MEZZO_OK);
    side a = {kept, kept->entries[entry].plan}, b = {shared, shared->entries[entry].plan};
    int wrong = 0;
    assert_true(b.plan->arena_bytes <= a.plan->arena_bytes); /* a fused head alone: equal */
    for (int run = 0; run < 2; run++) {                      /* the second finds the memory used */
        upload_inputs(&b, entry, compute);
        assert_int_equal(mzi_model_run(shared, entry, MZI_PHASE_FORWARD, MZI_PHASE_BACKWARD, false),
                         MEZZO_OK);
    }
    assert_int_equal(a.plan->graph->grad_count, b.plan->graph->grad_count);
    for (int32_t g = -1; g < a.plan->graph->grad_count; g++) {
        int32_t v = g < 0 ? a.plan->graph->loss : a.plan->graph->grads[g].grad;
        assert_int_equal(v, g < 0 ? b.plan->graph->loss : b.plan->graph->grads[g].grad);
        void *x = read_value(&a, entry, v), *y = read_value(&b, entry, v);
        wrong += memcmp(x, y, bytes_of(a.plan->graph, v)) != 0;
        free(x);
        free(y);
    }
    return wrong;
}

static int check_network(mezzo_ctx *ctx, const network *net, mezzo_dtype compute, tally *t) {
    mezzo_model *on_cpu = make_model(ctx, net, "cpu", compute);
    mezzo_model *on_ref = make_model(ctx, net, "ref", compute);
    mezzo_model *shared = make_model(ctx, net, "cpu", compute);
    spread_state(on_cpu);
    spread_state(on_ref);
    spread_state(shared);
    int wrong = check_entry(net, on_cpu, on_ref, MEZZO_ENTRY_TRAIN, compute, t);
    int other = check_shared_memory(on_cpu, shared, compute);
    if (other)
        print_error("%s, B %lld, %s: %d results change when memory is shared\n", net->layers,
                    (long long)net->B, mezzo_dtype_name(compute), other);
    if (strchr(net->layers, 'n'))
        wrong += check_entry(net, on_cpu, on_ref, MEZZO_ENTRY_EVAL, compute, t);
    mezzo_model_destroy(shared);
    mezzo_model_destroy(on_ref);
    mezzo_model_destroy(on_cpu);
    return wrong + other;
}

static mezzo_isa child_isa = MEZZO_ISA_AUTO;
static tally total;

static void check_type(mezzo_dtype compute) {
    mezzo_ctx *ctx = NULL;
    const mezzo_ctx_config config = {.threads = 2, .isa = child_isa};
    int bad = 0;
    assert_int_equal(mezzo_ctx_create(&ctx, &config, NULL), MEZZO_OK);
    for (int k = 0; k < NETWORKS; k++)
        bad += check_network(ctx, &networks[k], compute, &total) != 0;
    assert_int_equal(mezzo_ctx_memory(ctx).bytes_used > 0, 1);
    mezzo_ctx_destroy(ctx);
    assert_int_equal(bad, 0);
}

static void test_f32(void **state) {
    (void)state;
    check_type(MEZZO_F32);
}

static void test_bf16(void **state) {
    (void)state;
    check_type(MEZZO_BF16);
}

static void test_f16(void **state) {
    (void)state;
    check_type(MEZZO_F16);
}

/* Every operation but `pack`, which has a form of its own on each device, decoding, which has an
 * entry and a test of its own, and what only a trainer's graph has (train.fuse), was compared;
 * oneDNN did its part wherever it may. */
static void test_nothing_was_left_out(void **state) {
    (void)state;
    static const char *const without[] = {"pack", "attention_decode", "linear_dw_stats"};
    const mezzo_op_def *op;
    for (int k = 0; (op = mezzo_op_at(k)) != NULL; k++) {
        bool seen = op->view;
        for (size_t w = 0; w < sizeof without / sizeof *without; w++)
            seen |= strcmp(without[w], op->name) == 0;
        for (int s = 0; s < total.seen_count; s++)
            seen |= strcmp(total.seen[s], op->name) == 0;
        if (!seen)
            fail_msg("%s was not compared", op->name);
    }
    assert_true(NETWORKS >= NETWORKS_LEAST);
    assert_true(total.nodes > 3 * 10 * NETWORKS_LEAST);
    bool may = MZI_HAVE_DNNL && child_isa >= MEZZO_ISA_AVX2;
    assert_true(may ? total.dnnl_calls > 3 * 5 * NETWORKS_LEAST : total.dnnl_calls == 0);
}

static const char *program;

/* The same program for one instruction set. */
static int run_child(mezzo_isa isa) {
    extern char **environ;
    char name[32];
    snprintf(name, sizeof name, "%s", mezzo_isa_name(isa));
    char *const arguments[] = {(char *)(uintptr_t)program, name, NULL};
    pid_t child;
    int status = -1;
    assert_int_equal(posix_spawn(&child, program, NULL, NULL, arguments, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_every_instruction_set(void **state) {
    (void)state;
    for (int isa = MEZZO_ISA_REF; isa <= (int)mzi_cpu_isa(); isa++)
        assert_int_equal(run_child((mezzo_isa)isa), 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest children[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_nothing_was_left_out),
    };
    const struct CMUnitTest all[] = {cmocka_unit_test(test_every_instruction_set)};
    program = argv[0];
    for (int isa = MEZZO_ISA_REF; argc > 1 && isa <= MEZZO_ISA_AVX512_BF16; isa++)
        if (strcmp(argv[1], mezzo_isa_name((mezzo_isa)isa)) == 0)
            child_isa = (mezzo_isa)isa;
    if (argc > 1)
        return cmocka_run_group_tests_name(argv[1], children, NULL, NULL);
    return cmocka_run_group_tests(all, NULL, NULL);
}
