/* The best time that oneDNN finds here for given products and convolutions.
 *
 *   gemm_bound [--threads N] [--repeat N] < LIST        a line each:
 *
 *   matmul TYPE ROLE M N K                              c[M,N] = a[M,K] b[K,N]
 *   conv TYPE ROLE B H W Ci OH OW Co KH KW stride pad
 *
 * TYPE is f32 or bf16, of the operands.  ROLE of a product: forward (b is stored transposed, as
 * weights are), dx (b is stored as it is), dw (a is stored transposed, the result is FP32); of a
 * convolution: forward, data, weights.
 *
 * Each is timed in several ways, and for each way the median of the repetitions counts:
 *
 *   library-plain    the library's own threads, operands as they lie
 *   library-packed   the same; weights (of a convolution: all) in the layout that the library
 *                    likes best, packing not counted
 *   chunks-R         primitives of one thread on R rows (images) each, by all workers
 *
 * A line of JSON for each line of the list, the fastest way first named. */
#include <dnnl.h>
#include <limits.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workers.h"

enum {
    PORTS = 3,
    WORKERS_MAX = 256,
    REPEAT_MAX = 1000,
    WAYS_MAX = 8
};
static const double SECONDS_MIN = 0.05; /* of repetitions, at least */

typedef enum role {
    ROLE_FORWARD,
    ROLE_DATA,
    ROLE_WEIGHTS
} role;

typedef struct work {
    bool is_conv;
    dnnl_data_type_t type;
    role role;
    long M, N, K;                                      /* of a product */
    long B, H, W, Ci, OH, OW, Co, KH, KW, stride, pad; /* of a convolution */
} work;

/* One tensor of a primitive.  A chunk begins `step` bytes behind the one before; of a whole tensor
 * that is 0, and where it is a result each worker writes its own. */
typedef struct port {
    int arg;
    dnnl_memory_desc_t md;
    size_t step, bytes;
    bool is_whole_result;
    unsigned char *data;
} port;

typedef struct way {
    char name[32];
    dnnl_primitive_t primitive;
    port ports[PORTS];
    dnnl_memory_desc_t scratchpad;
    long chunks; /* 0: by the library's threads */
} way;

/* What a worker executes with. */
typedef struct hand {
    dnnl_stream_t stream;
    dnnl_exec_arg_t args[PORTS + 1];
    void *scratch;
} hand;

static struct {
    dnnl_engine_t engine;
    int threads, repeat;
    hand hands[WORKERS_MAX];
    const way *way;
    _Atomic long next;
} bench;

static void check(dnnl_status_t status, const char *what) {
    if (status == dnnl_success)
        return;
    fprintf(stderr, "gemm_bound: %s: oneDNN's status %d\n", what, (int)status);
    exit(1);
}

static unsigned char *take(size_t bytes) {
    unsigned char *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!memory) {
        fprintf(stderr, "gemm_bound: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return memory;
}

/* Numbers between 1/2 and 2 in either type: the upper halves of FP32 numbers are BF16 numbers. */
static void fill(unsigned char *data, size_t bytes) {
    uint32_t x = 1;
    for (size_t k = 0; k + sizeof x <= bytes; k += sizeof x) {
        x = x * 1664525u + 1013904223u;
        uint32_t both = (x & 0x80ff80ffu) | 0x3f003f00u;
        memcpy(data + k, &both, sizeof both);
    }
}

/* -------- descriptors */

static void matrix(dnnl_memory_desc_t *md, dnnl_data_type_t type, long rows, long columns,
                   bool transposed, long stored_rows) {
    const dnnl_dims_t dims = {rows, columns};
    const dnnl_dims_t strides = {transposed ? 1 : columns, transposed ? stored_rows : 1};
    check(dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides), "a matrix");
}

/* False if oneDNN has no such primitive. */
static bool finish(way *v, const void *op, dnnl_primitive_desc_t hint, const dnnl_query_t *queries,
                   const int *indices) {
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t desc;
    check(dnnl_primitive_attr_create(&attr), "attributes");
    check(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), "attributes");
    dnnl_status_t status = dnnl_primitive_desc_create(&desc, op, attr, bench.engine, hint);
    dnnl_primitive_attr_destroy(attr);
    if (status == dnnl_unimplemented)
        return false;
    check(status, "a descriptor");
    check(dnnl_primitive_create(&v->primitive, desc), "a primitive");
    for (int k = 0; k < PORTS; k++) {
        v->ports[k].md = *dnnl_primitive_desc_query_md(desc, queries[k], indices[k]);
        v->ports[k].bytes = dnnl_memory_desc_get_size(&v->ports[k].md);
    }
    v->scratchpad = *dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    dnnl_primitive_desc_destroy(desc);
    return true;
}

static size_t size_of(dnnl_data_type_t type) {
    return type == dnnl_bf16 ? 2 : 4;
}

static bool make_matmul(way *v, const work *w, bool packed, long rows) {
    long M = rows ? rows : w->M;
    dnnl_data_type_t result = w->role == ROLE_WEIGHTS ? dnnl_f32 : w->type;
    dnnl_memory_desc_t a, b, c;
    matrix(&a, w->type, M, w->K, w->role == ROLE_WEIGHTS, w->M);
    matrix(&b, w->type, w->K, w->N, w->role == ROLE_FORWARD, w->K);
    matrix(&c, result, M, w->N, false, 0);
    if (packed) {
        const dnnl_dims_t dims = {w->K, w->N};
        check(dnnl_memory_desc_init_by_tag(&b, 2, dims, w->type, dnnl_format_tag_any), "packed");
    }
    dnnl_matmul_desc_t op;
    check(dnnl_matmul_desc_init(&op, &a, &b, NULL, &c), "a product");
    static const dnnl_query_t queries[] = {dnnl_query_src_md, dnnl_query_weights_md,
                                           dnnl_query_dst_md};
    static const int indices[PORTS] = {0};
    if (!finish(v, &op, NULL, queries, indices))
        return false;
    v->chunks = rows ? w->M / rows : 0;
    v->ports[0].arg = DNNL_ARG_SRC;
    v->ports[1].arg = DNNL_ARG_WEIGHTS;
    v->ports[2].arg = DNNL_ARG_DST;
    if (rows) {
        long row = w->role == ROLE_WEIGHTS ? 1 : w->K; /* of a */
        v->ports[0].step = (size_t)(rows * row) * size_of(w->type);
        v->ports[2].step = (size_t)(rows * w->N) * size_of(result);
        v->ports[0].bytes = (size_t)(w->M * w->K) * size_of(w->type);
        v->ports[2].bytes = (size_t)(w->M * w->N) * size_of(result);
    }
    return true;
}

static void tensor(dnnl_memory_desc_t *md, dnnl_data_type_t type, const dnnl_dims_t dims,
                   dnnl_format_tag_t tag) {
    check(dnnl_memory_desc_init_by_tag(md, 4, dims, type, tag), "a tensor");
}

typedef struct conv_descs {
    dnnl_memory_desc_t x, weights, y;
    dnnl_dims_t strides, begin, end;
} conv_descs;

static conv_descs describe_conv(const work *w, bool packed, long images) {
    dnnl_format_tag_t layout = packed ? dnnl_format_tag_any : dnnl_nhwc;
    conv_descs d = {.strides = {w->stride, w->stride},
                    .begin = {w->pad, w->pad},
                    .end = {(w->OH - 1) * w->stride + w->KH - w->H - w->pad,
                            (w->OW - 1) * w->stride + w->KW - w->W - w->pad}};
    const dnnl_dims_t x = {images, w->Ci, w->H, w->W}, y = {images, w->Co, w->OH, w->OW};
    const dnnl_dims_t weights = {w->Co, w->Ci, w->KH, w->KW};
    tensor(&d.x, w->type, x, layout);
    tensor(&d.weights, w->type, weights, dnnl_format_tag_any);
    tensor(&d.y, w->type, y, layout);
    return d;
}

static dnnl_convolution_desc_t forward_op(const conv_descs *d) {
    dnnl_convolution_desc_t op;
    check(dnnl_convolution_forward_desc_init(&op, dnnl_forward_training, dnnl_convolution_direct,
                                             &d->x, &d->weights, NULL, &d->y, d->strides, d->begin,
                                             d->end),
          "a convolution");
    return op;
}

static bool make_backward(way *v, const work *w, const conv_descs *d) {
    dnnl_convolution_desc_t forward = forward_op(d), op;
    dnnl_primitive_desc_t hint;
    if (dnnl_primitive_desc_create(&hint, &forward, NULL, bench.engine, NULL) != dnnl_success)
        return false;
    bool data = w->role == ROLE_DATA;
    dnnl_memory_desc_t weights = d->weights;
    weights.data_type = data ? w->type : dnnl_f32;
    check(data ? dnnl_convolution_backward_data_desc_init(&op, dnnl_convolution_direct, &d->x,
                                                          &weights, &d->y, d->strides, d->begin,
                                                          d->end)
               : dnnl_convolution_backward_weights_desc_init(&op, dnnl_convolution_direct, &d->x,
                                                             &weights, NULL, &d->y, d->strides,
                                                             d->begin, d->end),
          "a convolution's gradient");
    static const dnnl_query_t of_data[] = {dnnl_query_diff_dst_md, dnnl_query_weights_md,
                                           dnnl_query_diff_src_md};
    static const dnnl_query_t of_weights[] = {dnnl_query_diff_dst_md, dnnl_query_src_md,
                                              dnnl_query_diff_weights_md};
    static const int indices[PORTS] = {0};
    bool made = finish(v, &op, hint, data ? of_data : of_weights, indices);
    dnnl_primitive_desc_destroy(hint);
    v->ports[0].arg = DNNL_ARG_DIFF_DST;
    v->ports[1].arg = data ? DNNL_ARG_WEIGHTS : DNNL_ARG_SRC;
    v->ports[2].arg = data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DIFF_WEIGHTS;
    return made;
}

static bool make_conv(way *v, const work *w, bool packed, long images) {
    conv_descs d = describe_conv(w, packed, images ? images : w->B);
    if (w->role == ROLE_FORWARD) {
        static const dnnl_query_t queries[] = {dnnl_query_src_md, dnnl_query_weights_md,
                                               dnnl_query_dst_md};
        static const int indices[PORTS] = {0};
        dnnl_convolution_desc_t op = forward_op(&d);
        if (!finish(v, &op, NULL, queries, indices))
            return false;
        v->ports[0].arg = DNNL_ARG_SRC;
        v->ports[1].arg = DNNL_ARG_WEIGHTS;
        v->ports[2].arg = DNNL_ARG_DST;
    } else if (!make_backward(v, w, &d)) {
        return false;
    }
    v->chunks = images ? w->B / images : 0;
    for (int k = 0; images && k < PORTS; k++) {
        bool whole =
            v->ports[k].arg == DNNL_ARG_WEIGHTS || v->ports[k].arg == DNNL_ARG_DIFF_WEIGHTS;
        v->ports[k].step = whole ? 0 : v->ports[k].bytes;
        v->ports[k].is_whole_result = whole && k == PORTS - 1;
        v->ports[k].bytes *=
            whole ? (k == PORTS - 1 ? (size_t)bench.threads : 1) : (size_t)v->chunks;
    }
    return true;
}

/* -------- runs */

static void open_hands(way *v) {
    int hands = v->chunks ? bench.threads : 1;
    for (int k = 0; k < PORTS; k++) {
        v->ports[k].data = take(v->ports[k].bytes);
        fill(v->ports[k].data, v->ports[k].bytes);
    }
    for (int worker = 0; worker < hands; worker++) {
        hand *h = &bench.hands[worker];
        h->scratch = take(dnnl_memory_desc_get_size(&v->scratchpad) + 1);
        check(dnnl_stream_create(&h->stream, bench.engine, dnnl_stream_default_flags), "a stream");
        for (int k = 0; k <= PORTS; k++) {
            const port *p = &v->ports[k < PORTS ? k : 0];
            h->args[k].arg = k < PORTS ? p->arg : DNNL_ARG_SCRATCHPAD;
            check(dnnl_memory_create(&h->args[k].memory, k < PORTS ? &p->md : &v->scratchpad,
                                     bench.engine, k < PORTS ? p->data : h->scratch),
                  "a tensor");
        }
    }
}

static void close_hands(way *v) {
    int hands = v->chunks ? bench.threads : 1;
    for (int worker = 0; worker < hands; worker++) {
        for (int k = 0; k <= PORTS; k++)
            dnnl_memory_destroy(bench.hands[worker].args[k].memory);
        dnnl_stream_destroy(bench.hands[worker].stream);
        free(bench.hands[worker].scratch);
    }
    for (int k = 0; k < PORTS; k++)
        free(v->ports[k].data);
    dnnl_primitive_destroy(v->primitive);
}

static void run_chunks(void *user, int worker) {
    const way *v = user;
    hand *h = &bench.hands[worker];
    omp_set_num_threads(1); /* of this thread's regions */
    for (long chunk; (chunk = atomic_fetch_add(&bench.next, 1)) < v->chunks;) {
        for (int k = 0; k < PORTS; k++) {
            const port *p = &v->ports[k];
            size_t own = p->is_whole_result ? p->bytes / (size_t)bench.threads : 0;
            dnnl_memory_set_data_handle(h->args[k].memory,
                                        p->data + (size_t)chunk * p->step + (size_t)worker * own);
        }
        check(dnnl_primitive_execute(v->primitive, h->stream, PORTS + 1, h->args), "a chunk");
    }
}

static void run_once(way *v) {
    if (v->chunks) {
        atomic_store(&bench.next, 0);
        workers_run(bench.threads, run_chunks, v);
        return;
    }
    hand *h = &bench.hands[0];
    check(dnnl_primitive_execute(v->primitive, h->stream, PORTS + 1, h->args), "a primitive");
    check(dnnl_stream_wait(h->stream), "a primitive");
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_seconds(way *v) {
    static double times[REPEAT_MAX];
    int count = 0;
    run_once(v);
    run_once(v);
    double begin = now_seconds();
    while (count < REPEAT_MAX && (count < bench.repeat || now_seconds() - begin < SECONDS_MIN)) {
        double from = now_seconds();
        run_once(v);
        times[count++] = now_seconds() - from;
    }
    qsort(times, (size_t)count, sizeof *times, by_value);
    return times[count / 2];
}

/* Median seconds of one way; negative if there is no such primitive. */
static double time_way(const work *w, bool packed, long rows, char name[32]) {
    way v = {.chunks = 0};
    omp_set_num_threads(rows ? 1 : bench.threads);
    if (!(w->is_conv ? make_conv(&v, w, packed, rows) : make_matmul(&v, w, packed, rows)))
        return -1.0;
    if (rows)
        snprintf(name, 32, "chunks-%ld", rows);
    else
        snprintf(name, 32, "library-%s", packed ? "packed" : "plain");
    open_hands(&v);
    double seconds = median_seconds(&v);
    close_hands(&v);
    return seconds;
}

static void measure(const work *w, const char *line) {
    static const long rows_matmul[] = {64, 128, 256}, rows_conv[] = {8, 16, 32};
    char names[WAYS_MAX][32];
    double times[WAYS_MAX];
    int count = 0, best = 0;
    for (int k = 0; k < 2 + 3; k++) {
        long rows = k < 2 ? 0 : w->is_conv ? rows_conv[k - 2] : rows_matmul[k - 2];
        long all = w->is_conv ? w->B : w->M;
        if (rows && (all % rows != 0 || all < 2 * rows))
            continue;
        times[count] = time_way(w, k != 0, rows, names[count]);
        count += times[count] >= 0.0;
    }
    for (int k = 1; k < count; k++)
        best = times[k] < times[best] ? k : best;
    if (!count) {
        fprintf(stderr, "gemm_bound: oneDNN has no primitive for: %s\n", line);
        exit(1);
    }
    printf("{\"work\":\"%s\",\"ms\":%.5f,\"way\":\"%s\",\"ways\":{", line, times[best] * 1e3,
           names[best]);
    for (int k = 0; k < count; k++)
        printf("%s\"%s\":%.5f", k ? "," : "", names[k], times[k] * 1e3);
    printf("}}\n");
    fflush(stdout);
}

enum {
    NUMBERS_MATMUL = 3,
    NUMBERS_CONV = 11
};

/* How many whole numbers the text is; -1 if it is anything else, or more than fit. */
static int read_numbers(const char *text, long n[NUMBERS_CONV]) {
    int count = 0;
    while (*text != '\0') {
        char *end;
        if (count == NUMBERS_CONV)
            return -1;
        n[count] = strtol(text, &end, 10);
        if (end == text || n[count] < 0 || n[count] > INT_MAX)
            return -1;
        count++;
        text = end + strspn(end, " ");
    }
    return count;
}

static bool parse_role(const char *word, const char *const names[3], work *w) {
    for (int k = 0; k < 3; k++) {
        if (strcmp(word, names[k]) == 0) {
            w->role = (role)k;
            return true;
        }
    }
    return false;
}

static bool parse(const char *line, work *w) {
    static const char *const of_matmul[] = {"forward", "dx", "dw"};
    static const char *const of_conv[] = {"forward", "data", "weights"};
    char kind[8], type[8], as[8];
    int used = 0;
    long n[NUMBERS_CONV];
    *w = (work){.is_conv = false};
    if (sscanf(line, "%7s %7s %7s %n", kind, type, as, &used) != 3)
        return false;
    bool bf16 = strcmp(type, "bf16") == 0;
    int count = read_numbers(line + used, n);
    w->type = bf16 ? dnnl_bf16 : dnnl_f32;
    w->is_conv = strcmp(kind, "conv") == 0;
    if (!bf16 && strcmp(type, "f32") != 0)
        return false;
    for (int k = 0; k < count && k < NUMBERS_CONV - 1; k++) /* only the padding may be 0 */
        if (n[k] == 0)
            return false;
    if (!w->is_conv) {
        if (count != NUMBERS_MATMUL)
            return false;
        w->M = n[0], w->N = n[1], w->K = n[2];
        return strcmp(kind, "matmul") == 0 && parse_role(as, of_matmul, w);
    }
    if (count != NUMBERS_CONV)
        return false;
    w->B = n[0], w->H = n[1], w->W = n[2], w->Ci = n[3], w->OH = n[4], w->OW = n[5];
    w->Co = n[6], w->KH = n[7], w->KW = n[8], w->stride = n[9], w->pad = n[10];
    return parse_role(as, of_conv, w);
}

int main(int argc, char **argv) {
    bench.threads = workers_allowed();
    bench.repeat = 10;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            bench.threads = (int)strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--repeat") == 0)
            bench.repeat = (int)strtol(argv[i + 1], NULL, 10);
        else
            argc = 0;
    }
    if (argc % 2 == 0 || bench.threads < 1 || bench.threads > WORKERS_MAX || bench.repeat < 1 ||
        bench.repeat > REPEAT_MAX) {
        fprintf(stderr, "usage: gemm_bound [--threads N] [--repeat N] < LIST\n");
        return 2;
    }
    check(dnnl_engine_create(&bench.engine, dnnl_cpu, 0), "an engine");
    workers_start(bench.threads);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        work w;
        line[strcspn(line, "\n\"\\")] = '\0';
        if (!parse(line, &w)) {
            fprintf(stderr, "gemm_bound: not a line of the list: %s\n", line);
            return 2;
        }
        measure(&w, line);
    }
    workers_stop();
    dnnl_engine_destroy(bench.engine);
    return 0;
}
