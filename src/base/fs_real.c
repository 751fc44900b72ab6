/* The file-system table of the machine itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

static int real_open(void *user, const char *path, int flags, mode_t mode) {
    (void)user;
    int fd = open(path, flags, mode);
    return fd < 0 ? -errno : fd;
}

static ssize_t real_write(void *user, int fd, const void *data, size_t bytes) {
    (void)user;
    ssize_t count = write(fd, data, bytes);
    return count < 0 ? -errno : count;
}

static ssize_t real_read(void *user, int fd, void *data, size_t bytes) {
    (void)user;
    ssize_t count = read(fd, data, bytes);
    return count < 0 ? -errno : count;
}

static int real_fsync(void *user, int fd) {
    (void)user;
    return fsync(fd) < 0 ? -errno : 0;
}

static int real_close(void *user, int fd) {
    (void)user;
    return close(fd) < 0 ? -errno : 0;
}

static int real_rename(void *user, const char *from, const char *to) {
    (void)user;
    return rename(from, to) < 0 ? -errno : 0;
}

static int real_unlink(void *user, const char *path) {
    (void)user;
    return unlink(path) < 0 ? -errno : 0;
}

static int real_mkdir(void *user, const char *path, mode_t mode) {
    (void)user;
    return mkdir(path, mode) < 0 ? -errno : 0;
}

const mzi_fs mzi_fs_real = {
    .open = real_open,
    .write = real_write,
    .read = real_read,
    .fsync = real_fsync,
    .close = real_close,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
};
