/* Images in memory, as the loader and the readers see them. */
#ifndef MZI_DATA_IMAGES_H
#define MZI_DATA_IMAGES_H

#include "base/ctx.h"
#include "mezzo/data.h"

/* Pixels are bytes or floats; the other pointer is null. */
struct mezzo_images {
    mezzo_ctx *ctx;
    mezzo_images_info info;
    size_t pixel_bytes; /* of the whole set */
    uint8_t *bytes;
    float *floats;
    uint8_t *labels; /* [count] */
};

/* No set is larger than this: a wrong header is told apart from a large file before memory is
 * taken for it. */
#define MZI_IMAGES_BYTES_MAX ((int64_t)1 << 36)

/* An empty set of this shape, with memory for its labels and for its pixels, of `element_bytes`
 * each (1: bytes, 4: floats).  INVALID_ARGUMENT if a dimension is not positive or the product
 * exceeds MZI_IMAGES_BYTES_MAX. */
mezzo_status mzi_images_create(mezzo_images **out, mezzo_ctx *ctx, int64_t count, int64_t H,
                               int64_t W, int64_t C, size_t element_bytes);
/* Sets info.classes from the labels. */
void mzi_images_count_classes(mezzo_images *images);

#endif
