/* Text files, read whole and checked to be UTF-8. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "data/unpack.h"
#include "mezzo/tokens.h"

static mezzo_status check_complete(const mzi_unpack *file) {
    if (file->is_truncated)
        MZI_FAIL(file->ctx, MEZZO_DATA,
                 "'%s' is truncated: the file ends inside its gzip stream, after %" PRId64
                 " unpacked bytes; fetch the file again",
                 file->path, file->offset);
    return MEZZO_OK;
}

/* A gzip stream is unpacked twice, first to know its size, so that memory is taken once. */
static mezzo_status measure(mzi_unpack *file, int64_t *bytes) {
    uint8_t part[16384];
    size_t got = file->is_gzip ? sizeof part : 0;
    while (got == sizeof part)
        MZI_TRY(mzi_unpack_read(file, part, sizeof part, &got));
    MZI_TRY(check_complete(file));
    int64_t size = file->is_gzip ? file->offset : file->size_max;
    if (size == 0)
        MZI_FAIL(file->ctx, MEZZO_DATA, "'%s' is empty; give a file with text", file->path);
    *bytes = size;
    return MEZZO_OK;
}

/* Also asks for one byte more, which takes a gzip stream past its checksum. */
static mezzo_status read_text(mzi_unpack *file, char *text, int64_t bytes) {
    size_t got = 0, more = 0;
    char extra;
    MZI_TRY(mzi_unpack_read(file, text, (size_t)bytes, &got));
    MZI_TRY(mzi_unpack_read(file, &extra, 1, &more));
    MZI_TRY(check_complete(file));
    if ((int64_t)got != bytes || more > 0)
        MZI_FAIL(file->ctx, MEZZO_DATA,
                 "'%s' changed while it was read (%" PRId64
                 " bytes at first); try again when its writer is done",
                 file->path, bytes);
    return MEZZO_OK;
}

/* `text` has a NUL behind it, which ends a sequence that is cut off. */
static mezzo_status check_utf8(mezzo_ctx *ctx, const char *path, const char *text, int64_t bytes) {
    for (int64_t i = 0; i < bytes;) {
        size_t length = text[i] == '\0' ? 1 : mzi_utf8_character(text + i);
        if (length == 0)
            MZI_FAIL(ctx, MEZZO_DATA,
                     "'%s' at offset %" PRId64
                     ": byte 0x%02x starts no UTF-8 character; convert the text (iconv -t UTF-8), "
                     "or give a file of tokens as such",
                     path, i, (uint8_t)text[i]);
        i += (int64_t)length;
    }
    return MEZZO_OK;
}

static mezzo_status fill(mezzo_ctx *ctx, const char *path, char *text, int64_t bytes) {
    mzi_unpack *file = NULL;
    MZI_TRY(mzi_unpack_open(&file, ctx, path));
    mezzo_status status = read_text(file, text, bytes);
    mzi_unpack_close(file);
    return status == MEZZO_OK ? check_utf8(ctx, path, text, bytes) : status;
}

mezzo_status mezzo_text_read(mezzo_ctx *ctx, const char *path, char **text, size_t *bytes) {
    mzi_error_clear(ctx);
    if (!path || !text || !bytes)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "the path of the text, or where it goes, is null");
    mzi_unpack *file = NULL;
    MZI_TRY(mzi_unpack_open(&file, ctx, path));
    int64_t size = 0;
    mezzo_status status = measure(file, &size);
    mzi_unpack_close(file);
    if (status != MEZZO_OK)
        return status;
    char *content = mzi_alloc(ctx, (size_t)size + 1);
    if (!content)
        return mzi_out_of_memory(ctx, (size_t)size + 1, path);
    status = fill(ctx, path, content, size);
    if (status != MEZZO_OK) {
        mezzo_text_release(ctx, content, (size_t)size);
        return status;
    }
    *text = content;
    *bytes = (size_t)size;
    return MEZZO_OK;
}

void mezzo_text_release(mezzo_ctx *ctx, char *text, size_t bytes) {
    mzi_free(ctx, text, bytes + 1);
}
