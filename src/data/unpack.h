/* A file read from front to back, unpacked on the way if it is gzip.
 *
 * Stricter than zlib's own gzread: a truncated stream, a wrong checksum and bytes behind the stream
 * are errors, and each says where. */
#ifndef MZI_DATA_UNPACK_H
#define MZI_DATA_UNPACK_H

#include <zlib.h>

#include "base/ctx.h"

typedef struct mzi_unpack {
    mezzo_ctx *ctx;
    const char *path;
    int fd;
    bool is_gzip;
    bool at_end;       /* the gzip stream is complete, or the plain file is read    */
    bool is_truncated; /* the file ended inside the gzip stream                     */
    int64_t offset;    /* unpacked bytes handed out                                 */
    int64_t size_max;  /* unpacked bytes that a file of this size can hold at most  */
    z_stream stream;
    uint8_t input[65536];
} mzi_unpack;

/* DATA if `path` cannot be opened or is no regular file.  `path` must outlive the reader. */
mezzo_status mzi_unpack_open(mzi_unpack **out, mezzo_ctx *ctx, const char *path);
/* Up to `bytes` bytes; `*got` is less only at the end of the data, and `is_truncated` is set then
 * if that end came too early.  DATA if the gzip stream is damaged, IO if reading fails. */
mezzo_status mzi_unpack_read(mzi_unpack *unpack, void *data, size_t bytes, size_t *got);
void mzi_unpack_close(mzi_unpack *unpack);

#endif
