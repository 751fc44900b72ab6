/* Images in memory: creation from arrays, and destruction. */
#include <inttypes.h>
#include <string.h>

#include "data/images.h"

/* The product of the dimensions, or -1 if it has none below MZI_IMAGES_BYTES_MAX. */
static int64_t checked_product(const int64_t *dims, int rank, int64_t element_bytes) {
    int64_t product = element_bytes;
    for (int i = 0; i < rank; i++) {
        if (dims[i] <= 0 || dims[i] > MZI_IMAGES_BYTES_MAX / product)
            return -1;
        product *= dims[i];
    }
    return product;
}

mezzo_status mzi_images_create(mezzo_images **out, mezzo_ctx *ctx, int64_t count, int64_t H,
                               int64_t W, int64_t C, size_t element_bytes) {
    int64_t dims[4] = {count, H, W, C};
    int64_t bytes = checked_product(dims, 4, (int64_t)element_bytes);
    if (bytes < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "%" PRId64 " images of %" PRId64 " x %" PRId64 " x %" PRId64
                 ": every dimension must be at least 1, and the whole at most %" PRId64 " bytes",
                 count, H, W, C, MZI_IMAGES_BYTES_MAX);
    mezzo_images *images = mzi_alloc(ctx, sizeof *images);
    if (!images)
        return mzi_out_of_memory(ctx, sizeof *images, "a set of images");
    images->ctx = ctx;
    images->info = (mezzo_images_info){.count = count, .H = H, .W = W, .C = C};
    images->pixel_bytes = (size_t)bytes;
    images->labels = mzi_alloc(ctx, (size_t)count);
    void *pixels = images->labels ? mzi_alloc(ctx, images->pixel_bytes) : NULL;
    if (element_bytes == sizeof(float))
        images->floats = pixels;
    else
        images->bytes = pixels;
    if (!pixels) {
        mezzo_images_destroy(images);
        return mzi_out_of_memory(ctx, (size_t)(bytes + count), "images and labels");
    }
    *out = images;
    return MEZZO_OK;
}

void mzi_images_count_classes(mezzo_images *images) {
    int32_t largest = 0;
    for (int64_t i = 0; i < images->info.count; i++)
        if (images->labels[i] > largest)
            largest = images->labels[i];
    images->info.classes = largest + 1;
}

static mezzo_status from_array(mezzo_images **out, mezzo_ctx *ctx, const void *pixels,
                               const uint8_t *labels, const int64_t dims[4], size_t element_bytes) {
    mzi_error_clear(ctx);
    if (!pixels || !labels)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%s is null", pixels ? "labels" : "pixels");
    mezzo_images *images = NULL;
    mezzo_status status =
        mzi_images_create(&images, ctx, dims[0], dims[1], dims[2], dims[3], element_bytes);
    if (!images)
        return status;
    memcpy(images->floats ? (void *)images->floats : images->bytes, pixels, images->pixel_bytes);
    memcpy(images->labels, labels, (size_t)dims[0]);
    mzi_images_count_classes(images);
    *out = images;
    return MEZZO_OK;
}

mezzo_status mezzo_images_from_memory(mezzo_images **out, mezzo_ctx *ctx, const uint8_t *pixels,
                                      const uint8_t *labels, int64_t count, int64_t H, int64_t W,
                                      int64_t C) {
    const int64_t dims[4] = {count, H, W, C};
    return from_array(out, ctx, pixels, labels, dims, 1);
}

mezzo_status mezzo_images_from_floats(mezzo_images **out, mezzo_ctx *ctx, const float *pixels,
                                      const uint8_t *labels, int64_t count, int64_t H, int64_t W,
                                      int64_t C) {
    const int64_t dims[4] = {count, H, W, C};
    return from_array(out, ctx, pixels, labels, dims, sizeof(float));
}

mezzo_images_info mezzo_images_get_info(const mezzo_images *images) {
    return images->info;
}

void mezzo_images_destroy(mezzo_images *images) {
    if (!images)
        return;
    mezzo_ctx *ctx = images->ctx;
    mzi_free(ctx, images->bytes, images->pixel_bytes);
    mzi_free(ctx, images->floats, images->pixel_bytes);
    mzi_free(ctx, images->labels, (size_t)images->info.count);
    mzi_free(ctx, images, sizeof *images);
}
