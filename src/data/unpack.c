/* Plain and gzip files read alike. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/unpack.h"

/* Deflate's best: a match of 258 bytes takes at least one bit for its length and one for its
 * distance, so a byte of input gives at most 8 / 2 * 258 bytes. */
#define DEFLATE_RATIO_MAX 1032

/* zlib frees without a size; mezzo's allocator needs one, so it is kept in front of the block. */
static void *stream_alloc(void *user, unsigned items, unsigned size) {
    size_t bytes = MZI_ALIGN + (size_t)items * size;
    uint8_t *block = mzi_alloc(user, bytes);
    if (!block)
        return NULL;
    memcpy(block, &bytes, sizeof bytes);
    return block + MZI_ALIGN;
}

static void stream_free(void *user, void *memory) {
    uint8_t *block = (uint8_t *)memory - MZI_ALIGN;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    mzi_free(user, block, bytes);
}

static mezzo_status read_input(mzi_unpack *unpack) {
    ssize_t got;
    do
        got = read(unpack->fd, unpack->input, sizeof unpack->input);
    while (got < 0 && errno == EINTR);
    char reason[128];
    if (got < 0)
        MZI_FAIL(unpack->ctx, MEZZO_IO, "cannot read '%s': %s; check the disk", unpack->path,
                 strerror_r(errno, reason, sizeof reason));
    unpack->stream.next_in = unpack->input;
    unpack->stream.avail_in = (unsigned)got;
    return MEZZO_OK;
}

static mezzo_status start(mzi_unpack *unpack) {
    mezzo_ctx *ctx = unpack->ctx;
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    unpack->fd = open(unpack->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char reason[128];
    if (unpack->fd < 0)
        MZI_FAIL(ctx, MEZZO_DATA, "cannot open '%s': %s; check the path of the data", unpack->path,
                 strerror_r(errno, reason, sizeof reason));
    struct stat info;
    if (fstat(unpack->fd, &info) != 0 || !S_ISREG(info.st_mode))
        MZI_FAIL(ctx, MEZZO_DATA, "'%s' is no regular file", unpack->path);
    MZI_TRY(read_input(unpack));
    unpack->is_gzip = unpack->stream.avail_in >= 2 && unpack->input[0] == 0x1f &&
                      unpack->input[1] == 0x8b; /* RFC 1952, 2.3.1 */
    unpack->size_max = info.st_size;
    if (!unpack->is_gzip)
        return MEZZO_OK;
    if (info.st_size <= INT64_MAX / DEFLATE_RATIO_MAX)
        unpack->size_max = info.st_size * DEFLATE_RATIO_MAX;
    unpack->stream.zalloc = stream_alloc;
    unpack->stream.zfree = stream_free;
    unpack->stream.opaque = ctx;
    if (inflateInit2(&unpack->stream, 16 + MAX_WBITS) != Z_OK) { /* 16: gzip, and only that */
        unpack->is_gzip = false;
        return mzi_out_of_memory(ctx, (size_t)1 << MAX_WBITS, "unpacking a data file");
    }
    return MEZZO_OK;
}

mezzo_status mzi_unpack_open(mzi_unpack **out, mezzo_ctx *ctx, const char *path) {
    mzi_unpack *unpack = mzi_alloc(ctx, sizeof *unpack);
    if (!unpack)
        return mzi_out_of_memory(ctx, sizeof *unpack, "reading a data file");
    unpack->ctx = ctx;
    unpack->path = path;
    mezzo_status status = start(unpack);
    if (status != MEZZO_OK) {
        mzi_unpack_close(unpack);
        return status;
    }
    *out = unpack;
    return MEZZO_OK;
}

static mezzo_status read_plain(mzi_unpack *unpack, uint8_t *data, size_t bytes, size_t *got) {
    z_stream *stream = &unpack->stream;
    while (*got < bytes && !unpack->at_end) {
        if (stream->avail_in == 0)
            MZI_TRY(read_input(unpack));
        size_t left = bytes - *got;
        size_t part = stream->avail_in < left ? stream->avail_in : left;
        memcpy(data + *got, stream->next_in, part);
        stream->next_in += part;
        stream->avail_in -= (unsigned)part;
        *got += part;
        unpack->at_end = part == 0;
    }
    return MEZZO_OK;
}

/* Bytes behind a complete stream: other tools read them as a further stream or ignore them. */
static mezzo_status check_tail(mzi_unpack *unpack, int64_t offset) {
    if (unpack->stream.avail_in == 0)
        MZI_TRY(read_input(unpack));
    if (unpack->stream.avail_in > 0)
        MZI_FAIL(unpack->ctx, MEZZO_DATA,
                 "'%s': data behind the end of the gzip stream, at byte %lu of the file (%" PRId64
                 " unpacked bytes before it); expected one stream and nothing else",
                 unpack->path, unpack->stream.total_in, offset);
    return MEZZO_OK;
}

static mezzo_status read_gzip(mzi_unpack *unpack, uint8_t *data, size_t bytes, size_t *got) {
    z_stream *stream = &unpack->stream;
    const size_t step_max = (size_t)1 << 30; /* avail_out is an unsigned int */
    while (*got < bytes && !unpack->at_end) {
        if (stream->avail_in == 0)
            MZI_TRY(read_input(unpack));
        if (stream->avail_in == 0) {
            unpack->at_end = unpack->is_truncated = true;
            break;
        }
        size_t left = bytes - *got;
        size_t room = left < step_max ? left : step_max;
        stream->next_out = data + *got;
        stream->avail_out = (unsigned)room;
        int result = inflate(stream, Z_NO_FLUSH);
        *got += room - stream->avail_out;
        int64_t offset = unpack->offset + (int64_t)*got;
        if (result == Z_STREAM_END) {
            unpack->at_end = true;
            MZI_TRY(check_tail(unpack, offset));
        } else if (result == Z_MEM_ERROR) {
            return mzi_out_of_memory(unpack->ctx, (size_t)1 << MAX_WBITS, "unpacking a data file");
        } else if (result != Z_OK) {
            MZI_FAIL(unpack->ctx, MEZZO_DATA,
                     "'%s': the gzip stream is damaged at byte %lu of the file, %" PRId64
                     " unpacked bytes in: %s; fetch the file again",
                     unpack->path, stream->total_in, offset,
                     stream->msg ? stream->msg : "unexpected data");
        }
    }
    return MEZZO_OK;
}

mezzo_status mzi_unpack_read(mzi_unpack *unpack, void *data, size_t bytes, size_t *got) {
    size_t count = 0;
    MZI_TRY(unpack->is_gzip ? read_gzip(unpack, data, bytes, &count)
                            : read_plain(unpack, data, bytes, &count));
    unpack->offset += (int64_t)count;
    *got = count;
    return MEZZO_OK;
}

void mzi_unpack_close(mzi_unpack *unpack) {
    if (!unpack)
        return;
    if (unpack->is_gzip)
        (void)inflateEnd(&unpack->stream);
    if (unpack->fd >= 0)
        (void)close(unpack->fd);
    mzi_free(unpack->ctx, unpack, sizeof *unpack);
}
