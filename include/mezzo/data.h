/* Data sets and batches.
 *
 * A source gives samples by index; a loader turns them into batches in an order that is a pure
 * function of (seed, epoch, position), on a thread of its own, ahead of the step that needs them.
 * Position is a number of samples since the start: it is all there is to save and restore.  A
 * sample is an image, or a window over a sequence of tokens. */
#ifndef MEZZO_DATA_H
#define MEZZO_DATA_H

#include "mezzo/number.h"
#include "mezzo/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Images in memory, [count,H,W,C] bytes, with a label each. */
typedef struct mezzo_images mezzo_images;
typedef struct mezzo_images_info {
    int64_t count, H, W, C;
    int32_t classes; /* largest label + 1 */
} mezzo_images_info;

/* Read an IDX pair (magic 0x00000803 and 0x00000801, big-endian; gzip or plain, told apart by their
 * first bytes).  DATA, naming file and offset, if a file is missing, truncated, too long, not IDX,
 * or the counts differ, or a label is >= `classes` (0: any).  For a compressed file the offset is
 * that of the unpacked data. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_images_open_idx(mezzo_images **out, mezzo_ctx *ctx,
                                                              const char *images_path,
                                                              const char *labels_path,
                                                              int32_t classes);
/* Copies `pixels` [count,H,W,C] and `labels` [count]. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_images_from_memory(mezzo_images **out, mezzo_ctx *ctx,
                                                                 const uint8_t *pixels,
                                                                 const uint8_t *labels,
                                                                 int64_t count, int64_t H,
                                                                 int64_t W, int64_t C);
/* The same with FP32 pixels, taken as they are: x = (value - mean) * scale.  NaN and infinity are
 * let through, since finding them is the training step's business. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_images_from_floats(mezzo_images **out, mezzo_ctx *ctx,
                                                                 const float *pixels,
                                                                 const uint8_t *labels,
                                                                 int64_t count, int64_t H,
                                                                 int64_t W, int64_t C);
MEZZO_API mezzo_images_info mezzo_images_get_info(const mezzo_images *images);
MEZZO_API void mezzo_images_destroy(mezzo_images *images);

typedef struct mezzo_loader_config {
    int64_t batch;
    uint64_t seed;
    bool shuffle;      /* false: in order, one epoch, the last batch padded                    */
    float mean, scale; /* images: a byte p becomes (p / 255 - mean) * scale, rounded once; scale
                        * != 0.  Tokens do not look at either. */
    int prefetch;      /* batches prepared ahead by a thread, at most 64; 0: made when asked for */
    int64_t limit;     /* use only the first `limit` samples; 0, or more than there are: all   */
} mezzo_loader_config;

/* A batch, owned by the loader and valid until the next call of mezzo_loader_next. */
typedef struct mezzo_batch {
    const float *x;        /* [batch,H,W,C]; null for tokens */
    const int32_t *tokens; /* [batch,T]; 0 in padding; null for images */
    const int32_t *labels; /* [batch], or [batch,T] for tokens; -1 marks padding */
    int64_t valid; /* samples that are no padding: batch, but for the last one of an evaluation */
    int64_t position; /* samples drawn before this batch, over all epochs or passes */
} mezzo_batch;

typedef struct mezzo_loader mezzo_loader;
/* With shuffle the stream is endless: batches straddle epochs, so every one is full, and each
 * sample comes once an epoch.  `images` must outlive the loader.  `position`: samples to skip at
 * the start; a multiple of the samples in use is the start of an epoch or pass. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_loader_create(mezzo_loader **out, mezzo_ctx *ctx,
                                                            const mezzo_images *images,
                                                            const mezzo_loader_config *config,
                                                            int64_t position);
/* Samples that are packed windows over the tokens [begin, end), with T = `context`: sample i has
 * the inputs begin + iT to begin + iT + T - 1, and the labels are the tokens one further on.
 * Documents run into each other: a window may hold the end of one and the start of the next.
 *
 *   shuffled    (end - begin - 1) / T samples, rounded down: fewer than T tokens at the end are
 *               not used
 *   unshuffled  the same, rounded up: the last window may end in padding (token 0, label -1), and
 *               is a sample as any in `valid`; every token but the first is predicted once
 *
 * All else is as for images; `tokens` must outlive the loader.  INVALID_ARGUMENT, with the figures,
 * if [begin, end) is no part of the tokens or holds no sample. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_loader_create_tokens(
    mezzo_loader **out, mezzo_ctx *ctx, const mezzo_tokens *tokens, int64_t begin, int64_t end,
    int64_t context, const mezzo_loader_config *config, int64_t position);
/* The next batch; `batch->valid` is 0 at the end of an unshuffled pass, and the one after starts
 * over. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_loader_next(mezzo_loader *loader, mezzo_batch *batch);
/* Go to another position of the stream, as at creation; the batch at hand is no longer valid. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_loader_seek(mezzo_loader *loader, int64_t position);
/* The index of the sample at `position` of the stream. */
MEZZO_API int64_t mezzo_loader_sample(const mezzo_loader *loader, int64_t position);
MEZZO_API void mezzo_loader_destroy(mezzo_loader *loader);

#ifdef __cplusplus
}
#endif
#endif
