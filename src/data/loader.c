/* Batches from a set of images, in an order that is a function of (seed, position).
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
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "base/rng.h"
#include "data/images.h"

#define PREFETCH_MAX 64
#define BATCH_BYTES_MAX ((int64_t)1 << 36)

typedef struct slot {
    float *x;
    int32_t *labels;
    int64_t valid, position;
} slot;

struct mezzo_loader {
    mezzo_ctx *ctx;
    const mezzo_images *images;
    mezzo_loader_config config;
    int64_t count;         /* samples in use     */
    int64_t sample_floats; /* H * W * C          */
    uint64_t stream;       /* of the permutation */
    float table[256];      /* byte -> value      */

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

/* Rounded to FP32 once. */
static float normalise(double value, const mezzo_loader_config *config) {
    return (float)((value - (double)config->mean) * (double)config->scale);
}

static void fill_sample(const mezzo_loader *loader, int64_t sample, float *x) {
    const mezzo_images *images = loader->images;
    int64_t n = loader->sample_floats;
    if (images->bytes) {
        const uint8_t *bytes = images->bytes + sample * n;
        for (int64_t i = 0; i < n; i++)
            x[i] = loader->table[bytes[i]];
    } else {
        const float *floats = images->floats + sample * n;
        for (int64_t i = 0; i < n; i++)
            x[i] = normalise((double)floats[i], &loader->config);
    }
}

static void fill(mezzo_loader *loader, slot *to) {
    int64_t batch = loader->config.batch;
    int64_t valid = batch;
    if (!loader->config.shuffle) {
        int64_t left = loader->count - loader->position % loader->count;
        valid = loader->pass_ended ? 0 : left < batch ? left : batch;
        loader->pass_ended = valid == left;
    }
    for (int64_t row = 0; row < valid; row++) {
        int64_t sample = mezzo_loader_sample(loader, loader->position + row);
        fill_sample(loader, sample, to->x + row * loader->sample_floats);
        to->labels[row] = loader->images->labels[sample];
    }
    memset(to->x + valid * loader->sample_floats, 0,
           (size_t)((batch - valid) * loader->sample_floats) * sizeof(float));
    for (int64_t row = valid; row < batch; row++)
        to->labels[row] = -1;
    to->valid = valid;
    to->position = loader->position;
    loader->position += valid;
}

static void *prefetch_main(void *arg) {
    mezzo_loader *loader = arg;
    /* Waiting for a batch costs more than a worker's share of a busy core; still, the step comes
     * first.  Failure only means an equal share. */
    (void)setpriority(PRIO_PROCESS, 0, 5);
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
    *batch = (mezzo_batch){from->x, from->labels, from->valid, from->position};
    mzi_metric_set(&loader->ctx->metrics, MZI_METRIC_data_wait_ns,
                   (double)(mzi_clock_ns() - begin));
    return MEZZO_OK;
}

static mezzo_status check_config(mezzo_ctx *ctx, const mezzo_images *images,
                                 const mezzo_loader_config *config, int64_t position) {
    if (!images || !config)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%s is null", images ? "config" : "images");
    const mezzo_images_info *info = &images->info;
    int64_t sample_bytes = info->H * info->W * info->C * (int64_t)sizeof(float);
    if (config->batch < 1 || config->batch > BATCH_BYTES_MAX / sample_bytes)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "batch is %" PRId64 "; give 1 to %" PRId64 " for samples of %" PRId64 " bytes",
                 config->batch, BATCH_BYTES_MAX / sample_bytes, sample_bytes);
    if (!isfinite(config->mean) || !isfinite(config->scale) || config->scale == 0.0f)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "mean is %g and scale is %g; both must be finite, and scale not 0 (1 leaves the "
                 "values as they are)",
                 (double)config->mean, (double)config->scale);
    if (config->prefetch < 0 || config->prefetch > PREFETCH_MAX)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "prefetch is %d; give 0 to %d batches",
                 config->prefetch, PREFETCH_MAX);
    if (config->limit < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "limit is %" PRId64 "; give a number of samples, or 0 for all", config->limit);
    if (position < 0 || position > INT64_MAX / 2)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "position is %" PRId64 "; give the samples drawn so far, 0 at the start",
                 position);
    return MEZZO_OK;
}

static mezzo_status make_slots(mezzo_loader *loader) {
    mezzo_ctx *ctx = loader->ctx;
    size_t batch = (size_t)loader->config.batch;
    size_t x_bytes = batch * (size_t)loader->sample_floats * sizeof(float);
    loader->slots = mzi_alloc(ctx, (size_t)loader->slot_count * sizeof(slot));
    if (!loader->slots)
        return mzi_out_of_memory(ctx, (size_t)loader->slot_count * sizeof(slot), "batches");
    for (int i = 0; i < loader->slot_count; i++) {
        slot *s = &loader->slots[i];
        s->x = mzi_alloc(ctx, x_bytes);
        s->labels = mzi_alloc(ctx, batch * sizeof(int32_t));
        if (!s->x || !s->labels)
            return mzi_out_of_memory(ctx, x_bytes + batch * sizeof(int32_t), "a batch");
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

mezzo_status mezzo_loader_create(mezzo_loader **out, mezzo_ctx *ctx, const mezzo_images *images,
                                 const mezzo_loader_config *config, int64_t position) {
    mzi_error_clear(ctx);
    MZI_TRY(check_config(ctx, images, config, position));
    mezzo_loader *loader = mzi_alloc(ctx, sizeof *loader);
    if (!loader)
        return mzi_out_of_memory(ctx, sizeof *loader, "a loader");
    const mezzo_images_info *info = &images->info;
    loader->ctx = ctx;
    loader->images = images;
    loader->config = *config;
    loader->count = config->limit > 0 && config->limit < info->count ? config->limit : info->count;
    loader->sample_floats = info->H * info->W * info->C;
    loader->stream = mzi_name_hash("data.shuffle");
    loader->position = position;
    loader->slot_count = config->prefetch + 1;
    for (int p = 0; p < 256; p++)
        loader->table[p] = normalise((double)p / 255.0, config);
    pthread_mutex_init(&loader->mutex, NULL);
    pthread_cond_init(&loader->filled, NULL);
    pthread_cond_init(&loader->freed, NULL);
    mezzo_status status = make_slots(loader);
    if (status == MEZZO_OK && config->prefetch > 0)
        status = start_thread(loader);
    if (status != MEZZO_OK) {
        mezzo_loader_destroy(loader);
        return status;
    }
    *out = loader;
    return MEZZO_OK;
}

void mezzo_loader_destroy(mezzo_loader *loader) {
    if (!loader)
        return;
    if (loader->has_thread) {
        pthread_mutex_lock(&loader->mutex);
        loader->stop = true;
        pthread_cond_signal(&loader->freed);
        pthread_mutex_unlock(&loader->mutex);
        pthread_join(loader->thread, NULL);
    }
    pthread_cond_destroy(&loader->freed);
    pthread_cond_destroy(&loader->filled);
    pthread_mutex_destroy(&loader->mutex);
    size_t batch = (size_t)loader->config.batch;
    mezzo_ctx *ctx = loader->ctx;
    for (int i = 0; loader->slots && i < loader->slot_count; i++) {
        mzi_free(ctx, loader->slots[i].x, batch * (size_t)loader->sample_floats * sizeof(float));
        mzi_free(ctx, loader->slots[i].labels, batch * sizeof(int32_t));
    }
    mzi_free(ctx, loader->slots, (size_t)loader->slot_count * sizeof(slot));
    mzi_free(ctx, loader, sizeof *loader);
}
