#include "train/initial.h"

#include <stdatomic.h>

#include "base/rng.h"
#include "kernel/table.h"
#include "num/number.h"
#include "train/masters.h"

/* Elements on a worker's stack at once; blocks of random words do not straddle chunks. */
enum {
    CHUNK = 4096
};

typedef struct filling {
    mezzo_model *model;
    mzi_state *state;
    const mezzo_init *init;
    uint64_t stream;
    mzk_fn *normal;
    _Atomic int failure; /* the mezzo_status of a chunk that failed */
} filling;

static void fill_uniform(const filling *f, void *out, int64_t begin, int64_t end) {
    uint32_t words[4];
    for (int64_t i = begin; i < end; i++) {
        if (i % 4 == 0)
            mzi_rng4(words, f->model->seed, f->stream, (uint64_t)i / 4, 0);
        double value = (2.0 * (double)mzi_uniform(words[i % 4]) - 1.0) * (double)f->init->a;
        mzi_store(out, f->state->dtype, i - begin, value);
    }
}

static void fill_normal(const filling *f, void *out, int64_t begin, int64_t end) {
    uint64_t seed = f->model->seed;
    const int32_t key[4] = {(int32_t)(uint32_t)seed, (int32_t)(uint32_t)(seed >> 32), 0,
                            (int32_t)(begin / CHUNK)};
    const mzk_args args = {.out = {out},
                           .in = {key},
                           .out_type = {(uint8_t)f->state->dtype},
                           .p.e = {.n = CHUNK, .alpha = f->init->a, .stream = f->stream}};
    f->normal(&args, 0, end - begin);
}

static mezzo_status upload(const filling *f, const void *values, int64_t begin, int64_t end) {
    mzi_backend *backend = f->model->backend;
    uint64_t element = mezzo_dtype_bytes(f->state->dtype);
    if (f->state->dtype == MEZZO_F32)
        return mzi_state_write(f->model, f->state, begin, end - begin, values);
    return backend->upload(backend, &f->state->buffer, (uint64_t)begin * element, values,
                           (uint64_t)(end - begin) * element);
}

static void fill_chunk(void *arg, int worker, int64_t begin, int64_t end) {
    filling *f = arg;
    double values[CHUNK]; /* or floats */
    (void)worker;
    switch (f->init->kind) {
    case MEZZO_INIT_CONSTANT:
        for (int64_t i = begin; i < end; i++)
            mzi_store(values, f->state->dtype, i - begin, (double)f->init->a);
        break;
    case MEZZO_INIT_UNIFORM:
        fill_uniform(f, values, begin, end);
        break;
    case MEZZO_INIT_NORMAL:
        fill_normal(f, values, begin, end);
        break;
    }
    mezzo_status status = upload(f, values, begin, end);
    if (status != MEZZO_OK)
        atomic_store(&f->failure, (int)status);
}

mezzo_status mzi_state_initialise(mezzo_model *model, mzi_state *state) {
    filling f = {.model = model,
                 .state = state,
                 .init = &state->init,
                 .stream = mzi_name_hash(state->name),
                 .normal = mzk_pick(MZK_normal, model->ctx->isa)->fn};
    mzi_team_run(model->ctx->team, fill_chunk, &f, mezzo_shape_count(state->shape), CHUNK);
    return (mezzo_status)atomic_load(&f.failure);
}
