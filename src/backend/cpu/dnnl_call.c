/* Prepared calls: primitives for whole chunks and for the last, shorter one, with the memory
 * objects and the workspace of each worker.
 *
 * workspace of a worker:  | scratchpad | port 0 as FP32 or in blocks | port 1 | ... | packed result
 * |
 *
 * Parts for ports that are read and written as they are take no bytes.  Nothing is allocated in a
 * run. */
#include <stdatomic.h>
#include <string.h>

#include "backend/cpu/dnnl_shim.h"

/* What a worker hands to a primitive. */
typedef struct worker_state {
    dnnl_stream_t stream;
    dnnl_memory_t memory[2][MZI_PORT_MAX]; /* of the primitive for whole chunks, and for the last */
    dnnl_memory_t scratchpad[2];
    dnnl_memory_t operand[2][MZI_PORT_MAX]; /* of blocked ports, as it is outside */
    dnnl_memory_t plain;                    /* row-major end of the reorder */
    dnnl_memory_t blocked;
} worker_state;

struct mzi_dnnl_call {
    mzi_dnnl *dnnl;
    mzk_family family;
    int64_t grain;
    mzi_port ports[MZI_PORT_MAX];
    int port_count;
    mzi_primitive primitives[2]; /* [0] for whole chunks, [1] for the last one if it is shorter */
    dnnl_primitive_t reorder;    /* pack: row-major to packed; conv_dw_part: the other way */
    dnnl_memory_desc_t plain_md, blocked_md;
    int64_t plain_elements;
    mezzo_dtype plain_type; /* pack: of the operand */
    uint64_t port_offset[MZI_PORT_MAX], result_offset;
    worker_state *workers;
};

static uint64_t round_up(uint64_t bytes) {
    return (bytes + MZI_ALIGN - 1) / MZI_ALIGN * MZI_ALIGN;
}

static mzi_dnnl_call *alloc_call(mzi_dnnl *dnnl, const mzi_call *call) {
    mzi_dnnl_call *made = mzi_alloc(dnnl->ctx, sizeof *made);
    if (!made)
        return NULL;
    made->dnnl = dnnl;
    made->family = call->family;
    made->grain = call->grain;
    made->workers = mzi_alloc(dnnl->ctx, (size_t)dnnl->workers * sizeof *made->workers);
    if (!made->workers) {
        mzi_free(dnnl->ctx, made, sizeof *made);
        return NULL;
    }
    return made;
}

static mezzo_status make_memory(mzi_dnnl *dnnl, const dnnl_memory_desc_t *md, dnnl_memory_t *out) {
    MZI_DNNL_TRY(dnnl, dnnl_memory_create(out, md, dnnl->engine, DNNL_MEMORY_NONE));
    return MEZZO_OK;
}

static mezzo_status make_worker(mzi_dnnl_call *c, worker_state *w) {
    mzi_dnnl *dnnl = c->dnnl;
    MZI_DNNL_TRY(dnnl, dnnl_stream_create(&w->stream, dnnl->engine, dnnl_stream_default_flags));
    for (int p = 0; p < 2; p++) {
        if (!c->primitives[p].handle)
            continue;
        for (int k = 0; k < c->port_count; k++) {
            MZI_TRY(make_memory(dnnl, &c->primitives[p].md[k], &w->memory[p][k]));
            if (c->ports[k].blocked)
                MZI_TRY(make_memory(dnnl, &c->primitives[p].plain[k], &w->operand[p][k]));
        }
        MZI_TRY(make_memory(dnnl, &c->primitives[p].scratchpad, &w->scratchpad[p]));
    }
    if (c->reorder) {
        MZI_TRY(make_memory(dnnl, &c->plain_md, &w->plain));
        MZI_TRY(make_memory(dnnl, &c->blocked_md, &w->blocked));
    }
    return MEZZO_OK;
}

static int64_t chunk_elements(const mzi_port *port, int64_t rows) {
    return port->row_elements ? port->blocks * port->run_row * rows : port->whole_elements;
}

/* Lay the workspace out; returns its size. */
static uint64_t plan_workspace(mzi_dnnl_call *c) {
    uint64_t bytes = 0;
    for (int p = 0; p < 2; p++) {
        uint64_t pad =
            c->primitives[p].handle ? dnnl_memory_desc_get_size(&c->primitives[p].scratchpad) : 0;
        if (round_up(pad) > bytes)
            bytes = round_up(pad);
    }
    for (int k = 0; k < c->port_count; k++) {
        c->port_offset[k] = bytes;
        if (c->ports[k].blocked)
            bytes += round_up(dnnl_memory_desc_get_size(&c->primitives[0].md[k]));
        else if (c->ports[k].convert && !c->ports[k].packed)
            bytes += round_up((uint64_t)chunk_elements(&c->ports[k], c->grain) * sizeof(float));
    }
    c->result_offset = bytes;
    if (c->family == MZK_conv_dw_part)
        bytes += round_up(dnnl_memory_desc_get_size(&c->blocked_md));
    return bytes;
}

/* The primitive for a whole chunk of the consumer says in which layout it wants the weights: calls
 * of one grain read one form, however many rows they have. */
static mezzo_status packed_layout(mzi_dnnl *dnnl, const mzi_call *consumer,
                                  dnnl_memory_desc_t *md) {
    mzi_port ports[MZI_PORT_MAX];
    mzi_primitive primitive;
    int count = mzi_dnnl_ports(dnnl, consumer, ports);
    ports[1].packed = true;
    MZI_TRY(mzi_dnnl_make(dnnl, consumer, ports, count, consumer->grain, NULL, &primitive));
    *md = primitive.md[1];
    mzi_dnnl_unmake(&primitive);
    return MEZZO_OK;
}

static mezzo_status prepare_compute(mzi_dnnl_call *c, const mzi_call *call) {
    mzi_dnnl *dnnl = c->dnnl;
    c->port_count = mzi_dnnl_ports(dnnl, call, c->ports);
    int64_t whole = call->rows < call->grain ? call->rows : call->grain;
    int64_t last = call->rows % whole;
    int packed = call->family == MZK_conv_dw_part ? 2 : 1;
    dnnl_memory_desc_t weights;
    if (call->in[1].layout)
        MZI_TRY(packed_layout(dnnl, call, &weights));
    MZI_TRY(mzi_dnnl_make(dnnl, call, c->ports, c->port_count, whole,
                          call->in[1].layout ? &weights : NULL, &c->primitives[0]));
    if (last)
        MZI_TRY(mzi_dnnl_make(dnnl, call, c->ports, c->port_count, last,
                              c->ports[packed].packed ? &c->primitives[0].md[packed] : NULL,
                              &c->primitives[1]));
    if (call->family == MZK_conv_dw_part) {
        MZI_TRY(mzi_dnnl_plain_weights(dnnl, call, dnnl_f32, &c->plain_md));
        c->blocked_md = c->primitives[0].md[2];
        c->plain_elements = c->ports[2].whole_elements;
        MZI_TRY(mzi_dnnl_make_reorder(dnnl, &c->blocked_md, &c->plain_md, &c->reorder));
    }
    return MEZZO_OK;
}

static mezzo_status prepare_pack(mzi_dnnl_call *c, const mzi_call *call) {
    const mzi_call *consumer = call->packed_for;
    mzi_port ports[MZI_PORT_MAX];
    mzi_dnnl_ports(c->dnnl, consumer, ports);
    bool bf16 = ports[1].dtype == MEZZO_BF16 && !ports[1].convert;
    MZI_TRY(mzi_dnnl_plain_weights(c->dnnl, consumer, bf16 ? dnnl_bf16 : dnnl_f32, &c->plain_md));
    MZI_TRY(packed_layout(c->dnnl, consumer, &c->blocked_md));
    c->plain_type = ports[1].dtype;
    c->plain_elements = ports[1].whole_elements;
    c->ports[0] = ports[1]; /* converted, if at all, before the reorder */
    c->ports[0].packed = false;
    c->grain = 1;
    c->port_count = 1;
    return mzi_dnnl_make_reorder(c->dnnl, &c->plain_md, &c->blocked_md, &c->reorder);
}

mezzo_status mzi_dnnl_layout(mzi_dnnl *dnnl, const mzi_call *call, int operand, mzi_layout *out) {
    *out = (mzi_layout){0};
    if (operand != 1 || call->family == MZK_conv_dw_part || call->family == MZK_pack)
        return MEZZO_OK;
    dnnl_memory_desc_t md;
    MZI_TRY(packed_layout(dnnl, call, &md));
    uint64_t id = 0xcbf29ce484222325u; /* FNV-1a over the descriptor's bytes */
    const unsigned char *bytes = (const unsigned char *)&md;
    for (size_t k = 0; k < sizeof md; k++)
        id = (id ^ bytes[k]) * 0x100000001b3u;
    /* A square matrix and its transpose have one descriptor, and are packed from it differently. */
    uint64_t transposed = call->family == MZK_matmul && call->p.matmul.transpose_b;
    id = (id ^ transposed) * 0x100000001b3u;
    *out = (mzi_layout){id | 1u, dnnl_memory_desc_get_size(&md)};
    return MEZZO_OK;
}

static const char *kernel_name(const mzi_dnnl_call *c) {
    switch ((int)c->family) {
    case MZK_matmul:
        return "matmul.dnnl";
    case MZK_conv:
        return "conv.dnnl";
    case MZK_conv_dx:
        return "conv_dx.dnnl";
    case MZK_conv_dw_part:
        return "conv_dw_part.dnnl";
    default:
        return "pack.dnnl";
    }
}

static const char *fallback_reason(const mzi_dnnl_call *c) {
    if (c->family == MZK_pack || !c->ports[0].convert)
        return NULL;
    return c->ports[0].dtype == MEZZO_F16
               ? "no FP16 instructions used: FP16 operands, FP32 arithmetic"
               : "no BF16 instructions used: BF16 operands, FP32 arithmetic";
}

mezzo_status mzi_dnnl_prepare(mzi_dnnl *dnnl, const mzi_call *call, mzi_choice *choice) {
    mzi_dnnl_call *c = alloc_call(dnnl, call);
    if (!c)
        return mzi_out_of_memory(dnnl->ctx, sizeof *c, "a oneDNN primitive");
    mezzo_status status =
        call->family == MZK_pack ? prepare_pack(c, call) : prepare_compute(c, call);
    for (int w = 0; w < dnnl->workers && status == MEZZO_OK; w++)
        status = make_worker(c, &c->workers[w]);
    if (status != MEZZO_OK) {
        mzi_dnnl_release(c);
        return status;
    }
    *choice = (mzi_choice){.kernel = kernel_name(c),
                           .fallback = fallback_reason(c),
                           .worker_bytes = plan_workspace(c),
                           .prepared = c};
    return MEZZO_OK;
}

static void destroy_memory(dnnl_memory_t memory) {
    if (memory)
        dnnl_memory_destroy(memory);
}

void mzi_dnnl_release(mzi_dnnl_call *c) {
    if (!c)
        return;
    for (int w = 0; w < c->dnnl->workers; w++) {
        worker_state *s = &c->workers[w];
        for (int p = 0; p < 2; p++) {
            for (int k = 0; k < MZI_PORT_MAX; k++) {
                destroy_memory(s->memory[p][k]);
                destroy_memory(s->operand[p][k]);
            }
            destroy_memory(s->scratchpad[p]);
        }
        destroy_memory(s->plain);
        destroy_memory(s->blocked);
        if (s->stream)
            dnnl_stream_destroy(s->stream);
    }
    for (int p = 0; p < 2; p++)
        mzi_dnnl_unmake(&c->primitives[p]);
    if (c->reorder)
        dnnl_primitive_destroy(c->reorder);
    mezzo_ctx *ctx = c->dnnl->ctx;
    mzi_free(ctx, c->workers, (size_t)c->dnnl->workers * sizeof *c->workers);
    mzi_free(ctx, c, sizeof *c);
}

static void cast(const mzi_dnnl_call *c, void *dst, mezzo_dtype dst_type, const void *src,
                 mezzo_dtype src_type, int64_t n) {
    mzk_args args = {.out = {dst},
                     .in = {src},
                     .out_type = {(uint8_t)dst_type},
                     .in_type = {(uint8_t)src_type},
                     .p.e.n = n};
    c->dnnl->cast(&args, 0, n);
}

/* Between a chunk of the operand, possibly a band of columns, and its compact FP32 form. */
static void convert_chunk(const mzi_dnnl_call *c, const mzi_port *port, unsigned char *operand,
                          float *compact, int64_t rows) {
    size_t bytes = mezzo_dtype_bytes(port->dtype);
    int64_t run = port->row_elements ? port->run_row * rows : port->whole_elements;
    for (int64_t b = 0; b < port->blocks; b++) {
        unsigned char *at = operand + (size_t)(b * port->pitch) * bytes;
        if (port->is_out)
            cast(c, at, port->dtype, compact + b * run, MEZZO_F32, run);
        else
            cast(c, compact + b * run, MEZZO_F32, at, port->dtype, run);
    }
}

static unsigned char *operand_of(const mzk_args *args, const mzi_port *port, int64_t begin) {
    /* Inputs lose their const here only to share the arithmetic; they are not written. */
    unsigned char *base = port->is_out ? args->out[port->operand]
                                       : (unsigned char *)(uintptr_t)args->in[port->operand];
    if (!base)
        return NULL;
    return base + (size_t)(begin * port->row_elements) * mezzo_dtype_bytes(port->dtype);
}

/* A chunk has no way to return an error: the first one waits for mzi_dnnl_check. */
static void execute(const mzi_dnnl_call *c, worker_state *w, dnnl_primitive_t primitive, int count,
                    const dnnl_exec_arg_t *exec) {
    dnnl_status_t status = dnnl_primitive_execute(primitive, w->stream, count, exec);
    if (status == dnnl_success)
        status = dnnl_stream_wait(w->stream);
    int none = dnnl_success;
    if (status != dnnl_success)
        atomic_compare_exchange_strong(&c->dnnl->failure, &none, (int)status);
}

static void run_reorder(const mzi_dnnl_call *c, worker_state *w, void *from, void *to) {
    bool pack = c->family == MZK_pack;
    dnnl_memory_set_data_handle(w->plain, pack ? from : to);
    dnnl_memory_set_data_handle(w->blocked, pack ? to : from);
    const dnnl_exec_arg_t exec[] = {{DNNL_ARG_FROM, pack ? w->plain : w->blocked},
                                    {DNNL_ARG_TO, pack ? w->blocked : w->plain}};
    execute(c, w, c->reorder, 2, exec);
}

static void run_pack(const mzi_dnnl_call *c, worker_state *w, const mzk_args *args,
                     unsigned char *scratch) {
    void *from = (void *)(uintptr_t)args->in[0];
    if (c->ports[0].convert) {
        cast(c, scratch, MEZZO_F32, from, c->plain_type, c->plain_elements);
        from = scratch;
    }
    run_reorder(c, w, from, args->out[0]);
}

/* A chunk of a blocked port from the operand's layout to the primitive's, or back. */
static void move_chunk(const mzi_dnnl_call *c, worker_state *w, int which, int k, void *operand) {
    dnnl_memory_t outside = w->operand[which][k], inside = w->memory[which][k];
    bool back = c->ports[k].is_out;
    dnnl_memory_set_data_handle(outside, operand);
    const dnnl_exec_arg_t exec[] = {{DNNL_ARG_FROM, back ? inside : outside},
                                    {DNNL_ARG_TO, back ? outside : inside}};
    execute(c, w, c->primitives[which].reorder[k], 2, exec);
}

static void run_compute(const mzi_dnnl_call *c, worker_state *w, const mzk_args *args,
                        unsigned char *scratch, int64_t begin, int64_t rows) {
    int which = rows == c->primitives[0].rows ? 0 : 1;
    dnnl_exec_arg_t exec[MZI_PORT_MAX + 1];
    bool dw = c->family == MZK_conv_dw_part;
    for (int k = 0; k < c->port_count; k++) {
        const mzi_port *port = &c->ports[k];
        unsigned char *at = operand_of(args, port, begin);
        if (dw && port->is_out) {
            at = scratch + c->result_offset;
        } else if (port->blocked) {
            dnnl_memory_set_data_handle(w->memory[which][k], scratch + c->port_offset[k]);
            if (!port->is_out)
                move_chunk(c, w, which, k, at);
            at = scratch + c->port_offset[k];
        } else if (port->convert && !port->packed) {
            float *compact = (float *)(void *)(scratch + c->port_offset[k]);
            if (!port->is_out)
                convert_chunk(c, port, at, compact, rows);
            at = (unsigned char *)compact;
        }
        dnnl_memory_set_data_handle(w->memory[which][k], at);
        exec[k] = (dnnl_exec_arg_t){port->arg, w->memory[which][k]};
    }
    dnnl_memory_set_data_handle(w->scratchpad[which], scratch);
    exec[c->port_count] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, w->scratchpad[which]};
    execute(c, w, c->primitives[which].handle, c->port_count + 1, exec);
    if (dw) {
        float *slot = (float *)args->out[0] + begin / c->grain * c->plain_elements;
        run_reorder(c, w, scratch + c->result_offset, slot);
        return;
    }
    for (int k = 0; k < c->port_count; k++)
        if (c->ports[k].is_out && c->ports[k].blocked)
            move_chunk(c, w, which, k, operand_of(args, &c->ports[k], begin));
        else if (c->ports[k].is_out && c->ports[k].convert)
            convert_chunk(c, &c->ports[k], operand_of(args, &c->ports[k], begin),
                          (float *)(void *)(scratch + c->port_offset[k]), rows);
}

void mzi_dnnl_run(void *prepared, int worker, const mzk_args *args, void *scratch, int64_t begin,
                  int64_t end) {
    mzi_dnnl_call *c = prepared;
    worker_state *w = &c->workers[worker];
    int threads = mzi_dnnl_enter();
    if (c->family == MZK_pack)
        run_pack(c, w, args, scratch);
    else
        run_compute(c, w, args, scratch, begin, end - begin);
    mzi_dnnl_leave(threads);
}
