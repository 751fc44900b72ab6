/* What the fuzz targets share: their input as a file in memory, and what must hold. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mezzo/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* These live as long as the process. */
static mezzo_ctx *ctx;
static int fd = -1;
static char path[32];

/* A property of what was accepted that does not hold. */
static inline void require(bool holds) {
    if (!holds)
        abort();
}

/* `data` becomes the file at `path`. */
static inline void fuzz_file(const uint8_t *data, size_t size) {
    if (!ctx) {
        const mezzo_ctx_config config = {.threads = 1};
        require(mezzo_ctx_create(&ctx, &config, NULL) == MEZZO_OK);
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        require(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    require(ftruncate(fd, 0) == 0);
    require(pwrite(fd, data, size, 0) == (ssize_t)size);
}

#endif
