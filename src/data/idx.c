/* The IDX format of the MNIST family.
 *
 *   | u32 BE magic: 0, 0, type 0x08 (bytes), rank | u32 BE size of each dimension | bytes |
 *
 * Images have magic 0x00000803 (count, H, W), labels 0x00000801 (count). */
#include <inttypes.h>
#include <string.h>

#include "data/images.h"
#include "data/unpack.h"

#define IMAGES_MAGIC 0x00000803u
#define LABELS_MAGIC 0x00000801u
#define RANK_MAX 3

static mezzo_status fail_short(mzi_unpack *file, const char *what, int64_t begin, int64_t bytes) {
    MZI_FAIL(file->ctx, MEZZO_DATA,
             "'%s' is truncated%s: %s take %" PRId64 " bytes from offset %" PRId64
             ", and the data ends at %" PRId64 "; fetch the file again",
             file->path, file->is_truncated ? " inside its gzip stream" : "", what, bytes, begin,
             file->offset);
}

static mezzo_status read_exactly(mzi_unpack *file, void *data, int64_t bytes, const char *what) {
    int64_t begin = file->offset;
    size_t got = 0;
    MZI_TRY(mzi_unpack_read(file, data, (size_t)bytes, &got));
    if ((int64_t)got < bytes)
        return fail_short(file, what, begin, bytes);
    return MEZZO_OK;
}

/* Also takes the reader past the end of a gzip stream, where its checksum is compared. */
static mezzo_status expect_end(mzi_unpack *file, int64_t count) {
    uint8_t extra;
    size_t got = 0;
    MZI_TRY(mzi_unpack_read(file, &extra, 1, &got));
    if (got > 0)
        MZI_FAIL(file->ctx, MEZZO_DATA,
                 "'%s' is too long: its header announces %" PRId64
                 " samples, which end at offset %" PRId64 ", and more data follows",
                 file->path, count, file->offset - 1);
    if (file->is_truncated)
        MZI_FAIL(file->ctx, MEZZO_DATA,
                 "'%s' is truncated: the file ends before the checksum of its gzip stream, after "
                 "%" PRId64 " unpacked bytes; fetch the file again",
                 file->path, file->offset);
    return MEZZO_OK;
}

static int64_t big_endian(const uint8_t bytes[4]) {
    return (int64_t)bytes[0] << 24 | (int64_t)bytes[1] << 16 | (int64_t)bytes[2] << 8 | bytes[3];
}

/* Dimensions behind the magic number; the bytes that follow are their product, and no more than the
 * file can hold, so that a damaged header does not decide how much memory is taken. */
static mezzo_status read_header(mzi_unpack *file, uint32_t magic, int64_t dims[RANK_MAX]) {
    uint8_t word[4];
    MZI_TRY(read_exactly(file, word, 4, "the magic number"));
    if (big_endian(word) != magic)
        MZI_FAIL(file->ctx, MEZZO_DATA,
                 "'%s' at offset 0: found 0x%08" PRIx64 ", expected 0x%08" PRIx32 " (IDX %s)",
                 file->path, big_endian(word), magic, magic == IMAGES_MAGIC ? "images" : "labels");
    int rank = (int)(magic & 0xff);
    int64_t product = 1;
    for (int i = 0; i < rank; i++) {
        int64_t offset = file->offset;
        MZI_TRY(read_exactly(file, word, 4, "the dimensions"));
        dims[i] = big_endian(word);
        if (dims[i] == 0 || dims[i] > MZI_IMAGES_BYTES_MAX / product)
            MZI_FAIL(file->ctx, MEZZO_DATA,
                     "'%s' at offset %" PRId64 ": dimension %d is %" PRId64
                     ", expected at least 1 and at most %" PRId64 " bytes in all",
                     file->path, offset, i, dims[i], MZI_IMAGES_BYTES_MAX);
        product *= dims[i];
    }
    if (product > file->size_max - file->offset)
        MZI_FAIL(file->ctx, MEZZO_DATA,
                 "'%s' is truncated: its header announces %" PRId64
                 " bytes of data, and a file of its size holds at most %" PRId64,
                 file->path, product, file->size_max - file->offset);
    return MEZZO_OK;
}

static mezzo_status check_labels(const mezzo_images *images, const mzi_unpack *file,
                                 int32_t classes) {
    for (int64_t i = 0; classes > 0 && i < images->info.count; i++)
        if (images->labels[i] >= classes)
            MZI_FAIL(images->ctx, MEZZO_DATA,
                     "'%s' at offset %" PRId64 ": label %d of sample %" PRId64
                     ", expected 0 to %d for %d classes",
                     file->path, 8 + i, images->labels[i], i, classes - 1, classes);
    return MEZZO_OK;
}

static mezzo_status read_pair(mezzo_images **out, mzi_unpack *pixels, mzi_unpack *labels,
                              int32_t classes) {
    int64_t dims[RANK_MAX] = {0}, label_dims[RANK_MAX] = {0};
    MZI_TRY(read_header(pixels, IMAGES_MAGIC, dims));
    MZI_TRY(read_header(labels, LABELS_MAGIC, label_dims));
    if (dims[0] != label_dims[0])
        MZI_FAIL(pixels->ctx, MEZZO_DATA,
                 "'%s' has %" PRId64 " images (offset 4), and '%s' has %" PRId64
                 " labels (offset 4); they must be a pair",
                 pixels->path, dims[0], labels->path, label_dims[0]);
    mezzo_images *images;
    MZI_TRY(mzi_images_create(&images, pixels->ctx, dims[0], dims[1], dims[2], 1, 1));
    mezzo_status status =
        read_exactly(pixels, images->bytes, (int64_t)images->pixel_bytes, "the images");
    if (status == MEZZO_OK)
        status = expect_end(pixels, dims[0]);
    if (status == MEZZO_OK)
        status = read_exactly(labels, images->labels, dims[0], "the labels");
    if (status == MEZZO_OK)
        status = expect_end(labels, dims[0]);
    if (status == MEZZO_OK)
        status = check_labels(images, labels, classes);
    if (status != MEZZO_OK) {
        mezzo_images_destroy(images);
        return status;
    }
    mzi_images_count_classes(images);
    *out = images;
    return MEZZO_OK;
}

mezzo_status mezzo_images_open_idx(mezzo_images **out, mezzo_ctx *ctx, const char *images_path,
                                   const char *labels_path, int32_t classes) {
    mzi_error_clear(ctx);
    if (!images_path || !labels_path)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "the path of the %s is null",
                 images_path ? "labels" : "images");
    if (classes < 0 || classes > 256)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "%d classes; IDX labels are bytes: give 1 to 256, or 0 for any", classes);
    mzi_unpack *pixels = NULL, *labels = NULL;
    mezzo_status status = mzi_unpack_open(&pixels, ctx, images_path);
    if (status == MEZZO_OK)
        status = mzi_unpack_open(&labels, ctx, labels_path);
    if (status == MEZZO_OK)
        status = read_pair(out, pixels, labels, classes);
    mzi_unpack_close(pixels);
    mzi_unpack_close(labels);
    return status;
}
