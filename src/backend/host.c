#include "backend/host.h"

#include <string.h>

#include "base/cpu.h"
#include "kernel/families.h"

/* A call with its operands' addresses. */
typedef struct step {
    mzk_fn *fn;
    mzi_host_fn *prepared_fn;
    void *prepared;
    mzk_args args;
    mezzo_op_operands user; /* family user */
    int64_t rows, grain;
    bool is_meter;
    int64_t spent_ns;       /* in all runs */
    unsigned char *scratch; /* of worker 0; the others' follow */
    uint64_t scratch_stride;
    bool uses_scratch; /* fn does */
} step;

struct mzi_program {
    step *steps;
    int32_t count;
    unsigned char *scratch;
    uint64_t scratch_bytes;
};

static void run_chunk(void *arg, int worker, int64_t begin, int64_t end) {
    const step *s = arg;
    unsigned char *scratch = s->scratch + (uint64_t)worker * s->scratch_stride;
    if (s->prepared_fn) {
        s->prepared_fn(s->prepared, worker, &s->args, scratch, begin, end);
    } else if (s->uses_scratch) {
        mzk_args args = s->args;
        args.scratch = scratch;
        s->fn(&args, begin, end);
    } else if (s->fn) {
        s->fn(&s->args, begin, end);
    } else {
        s->args.p.user.run(&s->user, begin, end);
    }
}

static void run_alone(const step *s) {
    for (int64_t begin = 0; begin < s->rows; begin += s->grain) {
        int64_t end = begin + s->grain < s->rows ? begin + s->grain : s->rows;
        run_chunk((void *)(uintptr_t)s, 0, begin, end);
    }
}

static mezzo_status program_run(mzi_backend *backend, mzi_program *program, int32_t first,
                                int32_t last, bool meters) {
    mzi_host *host = (mzi_host *)backend;
    int64_t before = mzi_clock_ns();
    for (int32_t c = first; c < last; c++) {
        step *s = &program->steps[c];
        if (s->is_meter && !meters)
            continue;
        if (host->use_team)
            mzi_team_run(backend->ctx->team, run_chunk, s, s->rows, s->grain);
        else
            run_alone(s);
        if (!host->is_timed)
            continue;
        int64_t now = mzi_clock_ns();
        s->spent_ns += now - before;
        before = now;
    }
    return host->check ? host->check(host) : MEZZO_OK;
}

typedef struct binding {
    const mzi_host *host;
    const mzi_plan *plan;
    const mzi_buffer *arena, *own;
} binding;

static void *address_of(const binding *b, const mzi_operand *operand) {
    if (!operand->value)
        return NULL;
    const mzi_place *place = &b->plan->places[operand->value];
    const mzi_buffer *buffer = place->in_arena ? b->arena : &b->own[operand->value];
    return (unsigned char *)b->host->address(buffer->handle) + place->offset +
           (size_t)operand->offset * mezzo_dtype_bytes(operand->dtype);
}

static void bind(const binding *b, const mzi_call *call, step *s, unsigned char *scratch) {
    s->args.p = call->p;
    for (int k = 0; k < MZK_OUT_MAX; k++) {
        s->args.out[k] = address_of(b, &call->out[k]);
        s->args.out_type[k] = (uint8_t)call->out[k].dtype;
    }
    for (int k = 0; k < MZK_IN_MAX; k++) {
        s->args.in[k] = address_of(b, &call->in[k]);
        s->args.in_type[k] = (uint8_t)call->in[k].dtype;
    }
    s->rows = call->choice.rows ? call->choice.rows : call->rows;
    s->grain = call->choice.rows ? call->choice.grain : call->grain;
    if (call->family == MZK_matmul && call->choice.rows)
        s->args.p.matmul = call->choice.matmul;
    s->uses_scratch = !call->choice.prepared && call->choice.worker_bytes > 0;
    s->is_meter = call->is_meter;
    s->scratch = scratch;
    s->scratch_stride = b->plan->worker_bytes;
    if (call->family == MZK_user) {
        s->user = *call->p.user.operands;
        s->user.in = s->args.in;
        s->user.out = s->args.out;
    } else if (call->choice.prepared) {
        s->prepared = call->choice.prepared;
        s->prepared_fn = b->host->run_prepared;
    } else {
        s->fn = mzk_pick(call->family, b->host->isa)->fn;
    }
}

static void program_destroy(mzi_backend *backend, mzi_program *program) {
    if (!program)
        return;
    mzi_free(backend->ctx, program->steps, (size_t)program->count * sizeof *program->steps);
    mzi_free(backend->ctx, program->scratch, program->scratch_bytes);
    mzi_free(backend->ctx, program, sizeof *program);
}

static mezzo_status program_create(mzi_backend *backend, const mzi_plan *plan,
                                   const mzi_buffer *arena, const mzi_buffer *own,
                                   mzi_program **out) {
    mezzo_ctx *ctx = backend->ctx;
    const mzi_host *host = (const mzi_host *)backend;
    mzi_program *program = mzi_alloc(ctx, sizeof *program);
    if (!program)
        return mzi_out_of_memory(ctx, sizeof *program, "a program");
    int workers = host->use_team ? mzi_team_size(ctx->team) : 1;
    size_t step_bytes = (size_t)plan->lowering.call_count * sizeof(step);
    program->count = plan->lowering.call_count;
    program->scratch_bytes = plan->worker_bytes * (uint64_t)workers;
    program->steps = mzi_alloc(ctx, step_bytes);
    program->scratch = program->scratch_bytes ? mzi_alloc(ctx, program->scratch_bytes) : NULL;
    if (!program->steps || (program->scratch_bytes && !program->scratch)) {
        uint64_t bytes = step_bytes + program->scratch_bytes;
        program_destroy(backend, program);
        return mzi_out_of_memory(ctx, bytes, "kernel workspaces");
    }
    const binding b = {host, plan, arena, own};
    for (int32_t c = 0; c < program->count; c++)
        bind(&b, &plan->lowering.calls[c], &program->steps[c], program->scratch);
    *out = program;
    return MEZZO_OK;
}

static mezzo_status upload(mzi_backend *backend, mzi_buffer *buffer, uint64_t offset,
                           const void *data, uint64_t bytes) {
    memcpy((unsigned char *)((mzi_host *)backend)->address(buffer->handle) + offset, data, bytes);
    return MEZZO_OK;
}

static mezzo_status download(mzi_backend *backend, const mzi_buffer *buffer, uint64_t offset,
                             void *data, uint64_t bytes) {
    memcpy(data, (unsigned char *)((mzi_host *)backend)->address(buffer->handle) + offset, bytes);
    return MEZZO_OK;
}

static int64_t program_ns(mzi_backend *backend, const mzi_program *program, int32_t call) {
    (void)backend;
    return program->steps[call].spent_ns;
}

static mezzo_status finish(mzi_backend *backend) {
    (void)backend; /* nothing is queued */
    return MEZZO_OK;
}

/* GEMM and convolution are what a low type is chosen for: elsewhere it is storage. */
static bool computes_low(mzk_family family) {
    return family == MZK_matmul || family == MZK_conv || family == MZK_conv_dx ||
           family == MZK_conv_dw_part;
}

void mzi_host_choose(const mzi_host *host, const mzi_call *call, mzi_choice *out) {
    *out = (mzi_choice){0};
    if (call->family == MZK_user) {
        out->kernel = "user";
        return;
    }
    const mzk_kernel *kernel = mzk_pick(call->family, host->isa);
    out->kernel = kernel->name;
    mezzo_dtype dtype = call->in[0].dtype;
    mzk_params p = call->p;
    if (call->family == MZK_matmul && kernel->needs > MEZZO_ISA_REF) {
        out->rows = mzk_matmul_cut(&p.matmul);
        out->grain = 1;
        out->matmul = p.matmul;
    }
    if (kernel->needs > MEZZO_ISA_REF)
        out->worker_bytes = mzk_scratch_bytes(call->family, &p);
    bool native = kernel->needs == MEZZO_ISA_AVX512_BF16 && dtype == MEZZO_BF16;
    if (computes_low(call->family) && !native && (dtype == MEZZO_BF16 || dtype == MEZZO_F16))
        out->fallback = dtype == MEZZO_BF16
                            ? "no BF16 instructions used: BF16 operands, wider arithmetic"
                            : "no FP16 instructions used: FP16 operands, wider arithmetic";
}

void mzi_host_init(mzi_host *host) {
    host->is_timed = true;
    host->base.upload = upload;
    host->base.download = download;
    host->base.finish = finish;
    host->base.program_create = program_create;
    host->base.program_destroy = program_destroy;
    host->base.program_run = program_run;
    host->base.program_ns = program_ns;
}
