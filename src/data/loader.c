/* Batches from a source of samples, in an order that is a function of (seed, position).
 *
 * The ring has prefetch + 1 slots: one is in the caller's hands, the others are being filled or
 * wait their turn.  Batch k lives in slot k % slots, so two counters describe the whole ring:
 *
 *   released <= made <= released + slots        (a batch in the caller's hands is not yet released)
 *
 * The thread fills slot made % slots without the lock: nobody else touches a slot that is neither
 * made nor in the caller's hands. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/rng.h"
#include "data/source.h"

#define PREFETCH_MAX 64
#define BATCH_BYTES_MAX ((int64_t)1 << 36)

typedef struct slot {
    uint8_t *x;
    int32_t *labels;
    int64_t valid, position;
} slot;

struct mezzo_loader {
    mezzo_ctx *ctx;
    mzi_source source;
    mezzo_loader_config config;
    int64_t count;   /* samples in use     */
    uint64_t stream; /* of the permutation */

    /* Where the next batch to be made starts; touched by whoever fills. */
    int64_t position;
    bool pass_ended; /* the next batch is the empty one that ends an unshuffled pass */

    slot *slots;
    int slot_count;

    bool has_thread;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t filled, freed;
    uint64_t made, released; /* under the mutex, like the rest below */
    bool in_hand, stop;
};

int64_t mezzo_loader_sample(const mezzo_loader *loader, int64_t position) {
    int64_t index = position % loader->count;
    if (!loader->config.shuffle)
        return index;
    uint64_t epoch = (uint64_t)(position / loader->count);
    return (int64_t)mzi_permute((uint64_t)index, (uint64_t)loader->count, loader->config.seed,
                                loader->stream + epoch);
}

static void fill(mezzo_loader *loader, slot *to) {
    int64_t batch = loader->config.batch;
    int64_t valid = batch;
    if (!loader->config.shuffle) {
        int64_t left = loader->count - loader->position % loader->count;
        valid = loader->pass_ended ? 0 : left < batch ? left : batch;
        loader->pass_ended = valid == left;
    }
    const mzi_source *source = &loader->source;
    for (int64_t row = 0; row < valid; row++)
        source->fill(source->state, mezzo_loader_sample(loader, loader->position + row),
                     to->x + row * source->x_bytes, to->labels + row * source->label_count);
    memset(to->x + valid * source->x_bytes, 0, (size_t)((batch - valid) * source->x_bytes));
    for (int64_t i = valid * source->label_count; i < batch * source->label_count; i++)
        to->labels[i] = -1;
    to->valid = valid;
    to->position = loader->position;
    loader->position += valid;
}

static void *prefetch_main(void *arg) {
    mezzo_loader *loader = arg;
    /* As urgent as the step: beside a busy program a nicer thread gets so little that the step
     * waits for it, tens of milliseconds for a batch that takes a tenth of one to make. */
    pthread_mutex_lock(&loader->mutex);
    while (!loader->stop) {
        if (loader->made == loader->released + (uint64_t)loader->slot_count) {
            pthread_cond_wait(&loader->freed, &loader->mutex);
            continue;
        }
        slot *to = &loader->slots[loader->made % (uint64_t)loader->slot_count];
        pthread_mutex_unlock(&loader->mutex);
        fill(loader, to);
        pthread_mutex_lock(&loader->mutex);
        loader->made++;
        pthread_cond_signal(&loader->filled);
    }
    pthread_mutex_unlock(&loader->mutex);
    return NULL;
}

static slot *take_from_thread(mezzo_loader *loader) {
    pthread_mutex_lock(&loader->mutex);
    if (loader->in_hand) {
        loader->released++;
        pthread_cond_signal(&loader->freed);
    }
    while (loader->made == loader->released)
        pthread_cond_wait(&loader->filled, &loader->mutex);
    loader->in_hand = true;
    slot *from = &loader->slots[loader->released % (uint64_t)loader->slot_count];
    pthread_mutex_unlock(&loader->mutex);
    return from;
}

mezzo_status mezzo_loader_next(mezzo_loader *loader, mezzo_batch *batch) {
    mzi_error_clear(loader->ctx);
    if (!batch)
        MZI_FAIL(loader->ctx, MEZZO_INVALID_ARGUMENT, "batch is null");
    int64_t begin = mzi_clock_ns();
    slot *from = loader->slots;
    if (loader->has_thread)
        from = take_from_thread(loader);
    else
        fill(loader, from);
    const void *x = from->x;
    bool gives_tokens = loader->source.gives_tokens;
    *batch = (mezzo_batch){.x = gives_tokens ? NULL : x,
                           .tokens = gives_tokens ? x : NULL,
                           .labels = from->labels,
                           .valid = from->valid,
                           .position = from->position};
    mzi_metric_set(&loader->ctx->metrics, MZI_METRIC_data_wait_ns,
                   (double)(mzi_clock_ns() - begin));
    return MEZZO_OK;
}

static mezzo_status check_position(mezzo_ctx *ctx, int64_t position) {
    if (position < 0 || position > INT64_MAX / 2)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "position is %" PRId64 "; give the samples drawn so far, 0 at the start",
                 position);
    return MEZZO_OK;
}

static mezzo_status check_config(mezzo_ctx *ctx, const mzi_source *source,
                                 const mezzo_loader_config *config, int64_t position) {
    int64_t batch_max = BATCH_BYTES_MAX / source->x_bytes;
    if (config->batch < 1 || config->batch > batch_max)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "batch is %" PRId64 "; give 1 to %" PRId64 " for samples of %" PRId64 " bytes",
                 config->batch, batch_max, source->x_bytes);
    if (config->prefetch < 0 || config->prefetch > PREFETCH_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "prefetch is %d; give 0 to %d batches",
                 config->prefetch, PREFETCH_MAX);
    if (config->limit < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "limit is %" PRId64 "; give a number of samples, or 0 for all", config->limit);
    return check_position(ctx, position);
}

static mezzo_status make_slots(mezzo_loader *loader) {
    mezzo_ctx *ctx = loader->ctx;
    size_t batch = (size_t)loader->config.batch;
    size_t x_bytes = batch * (size_t)loader->source.x_bytes;
    size_t label_bytes = batch * (size_t)loader->source.label_count * sizeof(int32_t);
    loader->slots = mzi_alloc(ctx, (size_t)loader->slot_count * sizeof(slot));
    if (!loader->slots)
        return mzi_out_of_memory(ctx, (size_t)loader->slot_count * sizeof(slot), "batches");
    for (int i = 0; i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        s->x = mzi_alloc(ctx, x_bytes);
        s->labels = mzi_alloc(ctx, label_bytes);
        if (!s->x || !s->labels)
            return mzi_out_of_memory(ctx, x_bytes + label_bytes, "a batch");
    }
    return MEZZO_OK;
}

/* Signals are the program's: the thread inherits a mask that blocks all of them. */
static mezzo_status start_thread(mezzo_loader *loader) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&loader->thread, NULL, prefetch_main, loader);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    char reason[128];
    if (error)
        MZI_FAIL(loader->ctx, MEZZO_FAILURE,
                 "cannot start the prefetch thread: %s; prefetch 0 works without one",
                 strerror_r(error, reason, sizeof reason));
    loader->has_thread = true;
    (void)pthread_setname_np(loader->thread, "mezzo-data");
    return MEZZO_OK;
}

static void stop_thread(mezzo_loader *loader) {
    if (!loader->has_thread)
        return;
    pthread_mutex_lock(&loader->mutex);
    loader->stop = true;
    pthread_cond_signal(&loader->freed);
    pthread_mutex_unlock(&loader->mutex);
    pthread_join(loader->thread, NULL);
    loader->has_thread = false;
}

/* Takes `source` over, on failure too. */
static mezzo_status create(mezzo_loader **out, mezzo_ctx *ctx, mzi_source source,
                           const mezzo_loader_config *config, int64_t position) {
    mezzo_status status = check_config(ctx, &source, config, position);
    mezzo_loader *loader = status == MEZZO_OK ? mzi_alloc(ctx, sizeof *loader) : NULL;
    if (!loader) {
        mzi_source_release(ctx, &source);
        return status == MEZZO_OK ? mzi_out_of_memory(ctx, sizeof *loader, "a loader") : status;
    }
    loader->ctx = ctx;
    loader->source = source;
    loader->config = *config;
    loader->count =
        config->limit > 0 && config->limit < source.count ? config->limit : source.count;
    loader->stream = mzi_name_hash("data.shuffle");
    loader->position = position;
    loader->slot_count = config->prefetch + 1;
    pthread_mutex_init(&loader->mutex, NULL);
    pthread_cond_init(&loader->filled, NULL);
    pthread_cond_init(&loader->freed, NULL);
    status = make_slots(loader);
    if (status == MEZZO_OK && config->prefetch > 0)
        status = start_thread(loader);
    if (status != MEZZO_OK) {
        mezzo_loader_destroy(loader);
        return status;
    }
    *out = loader;
    return MEZZO_OK;
}

mezzo_status mezzo_loader_create(mezzo_loader **out, mezzo_ctx *ctx, const mezzo_images *images,
                                 const mezzo_loader_config *config, int64_t position) {
    mzi_error_clear(ctx);
    mzi_source source;
    MZI_TRY(mzi_source_of_images(&source, ctx, images, config));
    return create(out, ctx, source, config, position);
}

mezzo_status mezzo_loader_create_tokens(mezzo_loader **out, mezzo_ctx *ctx,
                                        const mezzo_tokens *tokens, int64_t begin, int64_t end,
                                        int64_t context, const mezzo_loader_config *config,
                                        int64_t position) {
    mzi_error_clear(ctx);
    mzi_source source;
    MZI_TRY(mzi_source_of_tokens(&source, ctx, tokens, begin, end, context, config));
    return create(out, ctx, source, config, position);
}

/* Without its thread the loader is the caller's alone. */
mezzo_status mezzo_loader_seek(mezzo_loader *loader, int64_t position) {
    mzi_error_clear(loader->ctx);
    MZI_TRY(check_position(loader->ctx, position));
    stop_thread(loader);
    loader->position = position;
    loader->made = loader->released = 0;
    loader->in_hand = loader->stop = loader->pass_ended = false;
    return loader->config.prefetch > 0 ? start_thread(loader) : MEZZO_OK;
}

void mezzo_loader_destroy(mezzo_loader *loader) {
    if (!loader)
        return;
    stop_thread(loader);
    pthread_cond_destroy(&loader->freed);
    pthread_cond_destroy(&loader->filled);
    pthread_mutex_destroy(&loader->mutex);
    mezzo_ctx *ctx = loader->ctx;
    size_t batch = (size_t)loader->config.batch;
    size_t label_bytes = batch * (size_t)loader->source.label_count * sizeof(int32_t);
    for (int i = 0; loader->slots && i < loader->slot_count; i++) {
        mzi_free(ctx, loader->slots[i].x, batch * (size_t)loader->source.x_bytes);
        mzi_free(ctx, loader->slots[i].labels, label_bytes);
    }
    mzi_free(ctx, loader->slots, (size_t)loader->slot_count * sizeof(slot));
    mzi_source_release(ctx, &loader->source);
    mzi_free(ctx, loader, sizeof *loader);
}
