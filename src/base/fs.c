/* Durable files over the file-system table.
 *
 *   unlink PATH.tmp   left behind by a crash, perhaps with another mode
 *   open   PATH.tmp   O_EXCL: never follows a link, never shares with another writer
 *   write, fsync, close
 *   open   DIRECTORY  before the rename, so that it cannot fail after it
 *   rename PATH.tmp -> PATH
 *   fsync  DIRECTORY  the rename itself is durable only then
 *
 * An fsync that failed is never tried again: the kernel may have dropped the pages and the error
 * with them, and a second fsync would report success for data that is gone. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/ctx.h"

/* Linux writes at most 2^31 - 4096 bytes a call. */
#define WRITE_MAX ((size_t)1 << 30)

static const char *way_out(int code) {
    switch (code) {
    case ENOSPC:
    case EDQUOT:
        return "free some space, or choose another directory";
    case EACCES:
    case EPERM:
    case EROFS:
        return "choose a place that this user may use";
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return "check the path";
    case EMFILE:
    case ENFILE:
        return "raise the limit on open files (ulimit -n)";
    case EIO:
        return "the disk or the connection to it fails: see the kernel's log";
    default:
        return "check the path and the disk";
    }
}

/* `code` is a positive errno.  Of a path that would fill the message, the end is shown. */
static mezzo_status failed(mezzo_ctx *ctx, int line, const char *verb, const char *path, int code) {
    const size_t shown = 600;
    char text[128];
    const char *reason = strerror_r(code, text, sizeof text);
    size_t length = strlen(path);
    bool cut = length > shown;
    return mzi_fail_at(ctx, __FILE__, line, MEZZO_IO, "cannot %s '%s%s': %s; %s", verb,
                       cut ? "..." : "", cut ? path + length - shown : path, reason, way_out(code));
}

static int open_again(const mzi_fs *fs, const char *path, int flags, mode_t mode) {
    int fd;
    do
        fd = fs->open(fs->user, path, flags | O_CLOEXEC, mode);
    while (fd == -EINTR);
    return fd;
}

/* Linux has released the descriptor when close is interrupted; trying again could close another. */
static int close_once(const mzi_fs *fs, int fd) {
    int result = fs->close(fs->user, fd);
    return result == -EINTR ? 0 : result;
}

mezzo_status mzi_fs_write_all(mezzo_ctx *ctx, const mzi_fs *fs, int fd, const char *path,
                              const void *data, size_t bytes) {
    const unsigned char *next = data;
    while (bytes > 0) {
        ssize_t count = fs->write(fs->user, fd, next, bytes < WRITE_MAX ? bytes : WRITE_MAX);
        if (count == -EINTR)
            continue;
        if (count <= 0) /* nothing written and no reason given: going on would never end */
            return failed(ctx, __LINE__, "write", path, count < 0 ? (int)-count : EIO);
        next += count;
        bytes -= (size_t)count;
    }
    return MEZZO_OK;
}

/* The directory that holds `path`, which has no slash at its end. */
static void parent_of(const char *path, char out[4096]) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        mzi_format(out, 4096, ".");
    else if (slash == path)
        mzi_format(out, 4096, "/");
    else
        mzi_format(out, 4096, "%.*s", (int)(slash - path), path);
}

/* Some file systems cannot sync a directory and say EINVAL: then a rename is as durable as it gets
 * there. */
static int sync_directory(const mzi_fs *fs, int fd) {
    int result = fs->fsync(fs->user, fd);
    int closed = close_once(fs, fd);
    if (result == 0 || result == -EINVAL)
        result = closed;
    return result;
}

mezzo_status mzi_atomic_open(mezzo_ctx *ctx, mzi_atomic_file *file, const mzi_fs *fs,
                             const char *path) {
    file->fs = fs;
    file->fd = -1;
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof file->path)
        return failed(ctx, __LINE__, "create", path, length == 0 ? ENOENT : ENAMETOOLONG);
    memcpy(file->path, path, length + 1);
    mzi_format(file->tmp, sizeof file->tmp, "%s.tmp", path);
    int result = fs->unlink(fs->user, file->tmp);
    if (result < 0 && result != -ENOENT)
        return failed(ctx, __LINE__, "remove", file->tmp, -result);
    int fd = open_again(fs, file->tmp, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return failed(ctx, __LINE__, "create", file->tmp, -fd);
    file->fd = fd;
    return MEZZO_OK;
}

mezzo_status mzi_atomic_write(mezzo_ctx *ctx, mzi_atomic_file *file, const void *data,
                              size_t bytes) {
    if (file->fd < 0)
        return failed(ctx, __LINE__, "write", file->tmp, EBADF);
    mezzo_status status = mzi_fs_write_all(ctx, file->fs, file->fd, file->tmp, data, bytes);
    if (status != MEZZO_OK)
        mzi_atomic_abort(file);
    return status;
}

void mzi_atomic_abort(mzi_atomic_file *file) {
    if (file->fd < 0)
        return;
    file->fs->close(file->fs->user, file->fd);
    file->fs->unlink(file->fs->user, file->tmp);
    file->fd = -1;
}

/* From here on the temporary file is closed, so the abort of an open one does not do. */
static mezzo_status give_up(mezzo_ctx *ctx, const mzi_atomic_file *file, int line, const char *verb,
                            const char *path, int code) {
    file->fs->unlink(file->fs->user, file->tmp);
    return failed(ctx, line, verb, path, code);
}

mezzo_status mzi_atomic_commit(mezzo_ctx *ctx, mzi_atomic_file *file) {
    const mzi_fs *fs = file->fs;
    if (file->fd < 0)
        return failed(ctx, __LINE__, "commit", file->path, EBADF);
    int synced = fs->fsync(fs->user, file->fd);
    int closed = close_once(fs, file->fd);
    file->fd = -1;
    if (synced < 0)
        return give_up(ctx, file, __LINE__, "fsync", file->tmp, -synced);
    if (closed < 0)
        return give_up(ctx, file, __LINE__, "close", file->tmp, -closed);
    char parent[4096];
    parent_of(file->path, parent);
    int directory = open_again(fs, parent, O_RDONLY | O_DIRECTORY, 0);
    if (directory < 0)
        return give_up(ctx, file, __LINE__, "open directory", parent, -directory);
    int renamed = fs->rename(fs->user, file->tmp, file->path);
    if (renamed < 0) {
        close_once(fs, directory);
        return give_up(ctx, file, __LINE__, "rename the new file to", file->path, -renamed);
    }
    int durable = sync_directory(fs, directory);
    if (durable < 0)
        return failed(ctx, __LINE__, "make durable (it is written, but a power loss may undo it)",
                      file->path, -durable);
    return MEZZO_OK;
}

mezzo_status mzi_fs_replace(mezzo_ctx *ctx, const mzi_fs *fs, const char *path, const void *data,
                            size_t bytes) {
    mzi_atomic_file file;
    MZI_TRY(mzi_atomic_open(ctx, &file, fs, path));
    MZI_TRY(mzi_atomic_write(ctx, &file, data, bytes));
    return mzi_atomic_commit(ctx, &file);
}

/* One level of mkdir -p. */
static mezzo_status make_directory(mezzo_ctx *ctx, const mzi_fs *fs, const char *path) {
    int result;
    do
        result = fs->mkdir(fs->user, path, 0700);
    while (result == -EINTR);
    if (result == -EEXIST) {
        int fd = open_again(fs, path, O_PATH | O_DIRECTORY, 0);
        if (fd < 0)
            return failed(ctx, __LINE__, "use as a directory", path, -fd);
        close_once(fs, fd);
        return MEZZO_OK;
    }
    if (result < 0)
        return failed(ctx, __LINE__, "make directory", path, -result);
    char parent[4096];
    parent_of(path, parent);
    int fd = open_again(fs, parent, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return failed(ctx, __LINE__, "open directory", parent, -fd);
    int durable = sync_directory(fs, fd);
    if (durable < 0)
        return failed(ctx, __LINE__, "make durable the new directory", path, -durable);
    return MEZZO_OK;
}

mezzo_status mzi_fs_mkdirs(mezzo_ctx *ctx, const mzi_fs *fs, const char *path) {
    char part[4096];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return failed(ctx, __LINE__, "make directory", path, length == 0 ? ENOENT : ENAMETOOLONG);
    memcpy(part, path, length + 1);
    while (length > 1 && part[length - 1] == '/')
        part[--length] = '\0';
    for (size_t i = 1; i < length; i++) {
        if (part[i] != '/' || part[i - 1] == '/')
            continue;
        part[i] = '\0';
        MZI_TRY(make_directory(ctx, fs, part));
        part[i] = '/';
    }
    return make_directory(ctx, fs, part);
}
