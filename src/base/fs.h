/* The file-system table: every durable byte goes through it, so that tests can record, fail and
 * replay what reaches the disk.  Calls return 0 (or a count) or a negative errno. */
#ifndef MZI_BASE_FS_H
#define MZI_BASE_FS_H

#include <sys/types.h>

#include "mezzo/base.h"

typedef struct mzi_fs {
    void *user;
    int (*open)(void *user, const char *path, int flags, mode_t mode); /* a descriptor */
    ssize_t (*write)(void *user, int fd, const void *data, size_t bytes);
    ssize_t (*read)(void *user, int fd, void *data, size_t bytes);
    int (*fsync)(void *user, int fd);
    int (*close)(void *user, int fd);
    int (*rename)(void *user, const char *from, const char *to);
    int (*unlink)(void *user, const char *path);
    int (*mkdir)(void *user, const char *path, mode_t mode);
} mzi_fs;

extern const mzi_fs mzi_fs_real;

/* Below, a failure is recorded in the context as IO with the path and the system's reason. */

/* Write all bytes; short writes and EINTR are handled. */
mezzo_status mzi_fs_write_all(mezzo_ctx *ctx, const mzi_fs *fs, int fd, const char *path,
                              const void *data, size_t bytes);
/* A file replaced as a whole or not at all: open makes PATH.tmp (mode 0600), commit fsyncs it,
 * renames it to PATH and fsyncs the directory; abort removes PATH.tmp.  After a failed write or
 * commit PATH.tmp is gone and the old file stands.  If it is the directory's fsync, after the
 * rename, that fails, then PATH is the whole new file, but a power loss may bring the old one back:
 * the call fails with a message that says so. */
typedef struct mzi_atomic_file {
    const mzi_fs *fs;
    int fd; /* -1 when it is not open */
    char path[4096];
    char tmp[4100];
} mzi_atomic_file;
mezzo_status mzi_atomic_open(mezzo_ctx *ctx, mzi_atomic_file *file, const mzi_fs *fs,
                             const char *path);
mezzo_status mzi_atomic_write(mezzo_ctx *ctx, mzi_atomic_file *file, const void *data,
                              size_t bytes);
mezzo_status mzi_atomic_commit(mezzo_ctx *ctx, mzi_atomic_file *file);
void mzi_atomic_abort(mzi_atomic_file *file);
/* All of the above in one call. */
mezzo_status mzi_fs_replace(mezzo_ctx *ctx, const mzi_fs *fs, const char *path, const void *data,
                            size_t bytes);
/* mkdir -p, mode 0700 for what it makes, each made durable by an fsync of its parent. */
mezzo_status mzi_fs_mkdirs(mezzo_ctx *ctx, const mzi_fs *fs, const char *path);
/* The whole of a regular file, with a NUL behind it; freed with mzi_free(ctx, *out, *bytes + 1).
 * DATA if it is larger than `limit`; IO if it cannot be read or is not a regular file. */
mezzo_status mzi_fs_read_file(mezzo_ctx *ctx, const char *path, size_t limit, void **out,
                              size_t *bytes);
/* A regular file as read-only memory; null, and 0 bytes, if it is empty.  DATA if there is none. */
mezzo_status mzi_fs_map(mezzo_ctx *ctx, const char *path, void **out, size_t *bytes);
void mzi_fs_unmap(void *map, size_t bytes); /* takes null */

/* DATA for a bad file, with its path in front.  `reader` is what reads it: it has `ctx` and `path`.
 */
mezzo_status mzi_refuse_at(mezzo_ctx *ctx, const char *path, const char *file, int line,
                           const char *format, ...) MEZZO_PRINTF(5, 6);
#define MZI_REFUSE(reader, ...)                                                                    \
    return mzi_refuse_at((reader)->ctx, (reader)->path, __FILE__, __LINE__, __VA_ARGS__)

#endif
