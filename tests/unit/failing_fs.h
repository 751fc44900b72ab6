/* A file system that fails at its nth call, or writes a few bytes at a time. */
#ifndef TESTS_UNIT_FAILING_FS_H
#define TESTS_UNIT_FAILING_FS_H

#include <errno.h>

#include "base/fs.h"

typedef struct failing_fs {
    int calls_left; /* the call that finds 0 here fails, and all behind it go through */
    int code;       /* with this errno */
    size_t write_max;
    int calls; /* made so far */
    bool renamed;
} failing_fs;

static int failing_code(failing_fs *f) {
    f->calls++;
    return f->calls_left-- == 0 ? -f->code : 0;
}
static int failing_open(void *user, const char *path, int flags, mode_t mode) {
    int code = failing_code(user);
    return code ? code : mzi_fs_real.open(mzi_fs_real.user, path, flags, mode);
}
static ssize_t failing_write(void *user, int fd, const void *data, size_t bytes) {
    failing_fs *f = user;
    int code = failing_code(f);
    if (code)
        return code;
    size_t part = f->write_max && bytes > f->write_max ? f->write_max : bytes;
    return mzi_fs_real.write(mzi_fs_real.user, fd, data, part);
}
static ssize_t failing_read(void *user, int fd, void *data, size_t bytes) {
    int code = failing_code(user);
    return code ? code : mzi_fs_real.read(mzi_fs_real.user, fd, data, bytes);
}
/* Counted and not done: power loss is not what is tested, and a busy disk takes its time. */
static int failing_fsync(void *user, int fd) {
    (void)fd;
    return failing_code(user);
}
/* A close that fails has closed all the same, as on Linux. */
static int failing_close(void *user, int fd) {
    int code = failing_code(user);
    int result = mzi_fs_real.close(mzi_fs_real.user, fd);
    return code ? code : result;
}
static int failing_rename(void *user, const char *from, const char *to) {
    failing_fs *f = user;
    int code = failing_code(f);
    if (code)
        return code;
    f->renamed = true;
    return mzi_fs_real.rename(mzi_fs_real.user, from, to);
}
static int failing_unlink(void *user, const char *path) {
    int code = failing_code(user);
    return code ? code : mzi_fs_real.unlink(mzi_fs_real.user, path);
}
static int failing_mkdir(void *user, const char *path, mode_t mode) {
    int code = failing_code(user);
    return code ? code : mzi_fs_real.mkdir(mzi_fs_real.user, path, mode);
}

static inline mzi_fs failing_fs_table(failing_fs *f) {
    return (mzi_fs){f,
                    failing_open,
                    failing_write,
                    failing_read,
                    failing_fsync,
                    failing_close,
                    failing_rename,
                    failing_unlink,
                    failing_mkdir};
}

/* One that never fails. */
static inline mzi_fs patient_fs_table(failing_fs *f) {
    *f = (failing_fs){.calls_left = INT32_MAX};
    return failing_fs_table(f);
}

#endif
