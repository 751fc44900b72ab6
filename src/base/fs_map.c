/* Files that are read where they are mapped. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ctx.h"
#include "base/fs.h"

mezzo_status mzi_refuse_at(mezzo_ctx *ctx, const char *path, const char *file, int line,
                           const char *format, ...) {
    char text[700];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return mzi_fail_at(ctx, file, line, MEZZO_DATA, "'%s': %s", path, text);
}

typedef struct mapping {
    mezzo_ctx *ctx;
    const char *path;
} mapping;

static mezzo_status map_open(const mapping *m, int fd, void **out, size_t *bytes) {
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        MZI_REFUSE(m, "is no regular file");
    void *map = NULL;
    char reason[128];
    if (info.st_size > 0)
        map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        MZI_FAIL(m->ctx, MEZZO_IO, "cannot map '%s' (%lld bytes): %s", m->path,
                 (long long)info.st_size, strerror_r(errno, reason, sizeof reason));
    *out = map;
    *bytes = (size_t)info.st_size;
    return MEZZO_OK;
}

mezzo_status mzi_fs_map(mezzo_ctx *ctx, const char *path, void **out, size_t *bytes) {
    const mapping m = {ctx, path};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* does not wait on a FIFO */
    char reason[128];
    if (fd < 0)
        MZI_REFUSE(&m, "cannot be opened: %s; check the path",
                   strerror_r(errno, reason, sizeof reason));
    mezzo_status status = map_open(&m, fd, out, bytes);
    (void)close(fd);
    return status;
}

void mzi_fs_unmap(void *map, size_t bytes) {
    if (map)
        (void)munmap(map, bytes);
}
