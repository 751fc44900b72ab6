/* Reading a whole file. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ctx.h"
#include "base/fs.h"

static const char *kind_of(mode_t mode) {
    if (S_ISDIR(mode))
        return "a directory";
    if (S_ISFIFO(mode))
        return "a FIFO";
    if (S_ISSOCK(mode))
        return "a socket";
    return "a device";
}

static mezzo_status cannot_read(mezzo_ctx *ctx, int line, const char *path, int code) {
    char text[128];
    return mzi_fail_at(ctx, __FILE__, line, MEZZO_IO, "cannot read '%s': %s; check the path", path,
                       strerror_r(code, text, sizeof text));
}

/* Up to `bytes` bytes: fewer at the end of the file only, a negative errno on failure. */
static ssize_t read_up_to(int fd, unsigned char *out, size_t bytes) {
    size_t filled = 0;
    while (filled < bytes) {
        ssize_t count = read(fd, out + filled, bytes - filled);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        if (count == 0)
            break;
        filled += (size_t)count;
    }
    return (ssize_t)filled;
}

static mezzo_status check(mezzo_ctx *ctx, int fd, const char *path, size_t limit, size_t *bytes) {
    struct stat info;
    if (fstat(fd, &info) < 0)
        return cannot_read(ctx, __LINE__, path, errno);
    if (!S_ISREG(info.st_mode))
        MZI_FAIL(ctx, MEZZO_IO, "'%s' is %s, and a regular file is needed; check the path", path,
                 kind_of(info.st_mode));
    if ((uint64_t)info.st_size > limit)
        MZI_FAIL(ctx, MEZZO_DATA,
                 "'%s' has %lld bytes, more than the %zu allowed; is it the right "
                 "file?",
                 path, (long long)info.st_size, limit);
    *bytes = (size_t)info.st_size;
    return MEZZO_OK;
}

static mezzo_status read_open(mezzo_ctx *ctx, int fd, const char *path, size_t limit, void **out,
                              size_t *bytes) {
    size_t size = 0;
    MZI_TRY(check(ctx, fd, path, limit, &size));
    if (size == SIZE_MAX)
        return mzi_out_of_memory(ctx, size, path);
    unsigned char *data = mzi_alloc(ctx, size + 1);
    if (!data)
        return mzi_out_of_memory(ctx, size + 1, path);
    /* The byte beyond the end is asked for too, to notice a file that grows. */
    ssize_t count = read_up_to(fd, data, size + 1);
    if (count >= 0 && (size_t)count == size) {
        data[size] = '\0';
        *out = data;
        *bytes = size;
        return MEZZO_OK;
    }
    mzi_free(ctx, data, size + 1);
    if (count < 0)
        return cannot_read(ctx, __LINE__, path, (int)-count);
    MZI_FAIL(
        ctx, MEZZO_IO,
        "'%s' changed while it was read (%zu bytes at first); try again when its writer is done",
        path, size);
}

mezzo_status mzi_fs_read_file(mezzo_ctx *ctx, const char *path, size_t limit, void **out,
                              size_t *bytes) {
    /* Without O_NONBLOCK, opening a FIFO waits for somebody to write to it. */
    int fd;
    do
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return cannot_read(ctx, __LINE__, path, errno);
    mezzo_status status = read_open(ctx, fd, path, limit, out, bytes);
    close(fd);
    return status;
}
