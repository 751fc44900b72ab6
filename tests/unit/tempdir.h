/* A directory of its own for a test that writes files. */
#ifndef TESTS_UNIT_TEMPDIR_H
#define TESTS_UNIT_TEMPDIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/cmocka_all.h"

static inline void tempdir_make(char path[256]) {
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/mezzo-test-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(path));
}

static inline int tempdir_remove_one(const char *path, const struct stat *info, int kind,
                                     struct FTW *where) {
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline void tempdir_remove(const char *path) {
    assert_int_equal(nftw(path, tempdir_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Write `text` to ROOT + NAME, making the directories on the way. */
static inline void tempdir_write(const char *root, const char *name, const char *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

#endif
