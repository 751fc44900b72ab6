/* Durable files: what is written, what is refused, and every call failing in turn. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/ctx.h"
#include "base/fs.h"
#include "unit/tempdir.h"

typedef struct world {
    mezzo_ctx *ctx;
    char dir[256];
    char path[300];
    char tmp[310];
} world;

static world setup(void) {
    world w;
    memset(&w, 0, sizeof w);
    assert_int_equal(mezzo_ctx_create(&w.ctx, &(mezzo_ctx_config){.threads = 1}, NULL), MEZZO_OK);
    tempdir_make(w.dir);
    snprintf(w.path, sizeof w.path, "%s/state", w.dir);
    snprintf(w.tmp, sizeof w.tmp, "%s.tmp", w.path);
    return w;
}

static void teardown(world *w) {
    mezzo_ctx_destroy(w->ctx);
    tempdir_remove(w->dir);
}

static bool holds(const world *w, const void *data, size_t bytes) {
    void *found = NULL;
    size_t size = 0;
    assert_int_equal(mzi_fs_read_file(w->ctx, w->path, 1 << 20, &found, &size), MEZZO_OK);
    bool same = size == bytes && memcmp(found, data, bytes) == 0;
    mzi_free(w->ctx, found, size + 1);
    return same;
}

static bool exists(const char *path) {
    struct stat info;
    return lstat(path, &info) == 0;
}

static int open_files(void) {
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    int count = 0;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* The real table, with one kind of fault from or at the call numbered `at`, counting from 1. */
typedef enum fault_kind {
    FAULT_EIO,
    FAULT_ENOSPC,
    FAULT_EINTR,
    FAULT_SHORT,
    FAULT_ZERO,
    FAULT_KINDS
} fault_kind;

typedef struct fault {
    fault_kind kind;
    int at;
    bool lasting;
    int calls;
    bool hit;
    const char *last_hit;
    bool renamed;
} fault;

static bool is_hit(fault *f, const char *call) {
    f->calls++;
    bool hit = f->lasting ? f->calls >= f->at : f->calls == f->at;
    if (hit) {
        f->hit = true;
        f->last_hit = call;
    }
    return hit;
}

static int code_of(const fault *f) {
    return f->kind == FAULT_ENOSPC ? -ENOSPC : f->kind == FAULT_EINTR ? -EINTR : -EIO;
}

/* Short and empty writes are faults of write alone. */
static bool is_write_fault(const fault *f) {
    return f->kind == FAULT_SHORT || f->kind == FAULT_ZERO;
}

static bool fails(fault *f, const char *call) {
    return !is_write_fault(f) && is_hit(f, call);
}

static int fault_open(void *user, const char *path, int flags, mode_t mode) {
    return fails(user, "open") ? code_of(user) : mzi_fs_real.open(NULL, path, flags, mode);
}

static ssize_t fault_write(void *user, int fd, const void *data, size_t bytes) {
    fault *f = user;
    if (!is_hit(f, "write"))
        return mzi_fs_real.write(NULL, fd, data, bytes);
    if (f->kind == FAULT_ZERO)
        return 0;
    if (f->kind == FAULT_SHORT)
        return mzi_fs_real.write(NULL, fd, data, (bytes + 1) / 2);
    return code_of(f);
}

static ssize_t fault_read(void *user, int fd, void *data, size_t bytes) {
    return fails(user, "read") ? code_of(user) : mzi_fs_real.read(NULL, fd, data, bytes);
}

static int fault_fsync(void *user, int fd) {
    return fails(user, "fsync") ? code_of(user) : mzi_fs_real.fsync(NULL, fd);
}

/* A close that fails has released the descriptor all the same. */
static int fault_close(void *user, int fd) {
    int result = mzi_fs_real.close(NULL, fd);
    return fails(user, "close") ? code_of(user) : result;
}

static int fault_rename(void *user, const char *from, const char *to) {
    fault *f = user;
    if (fails(f, "rename"))
        return code_of(f);
    f->renamed = true;
    return mzi_fs_real.rename(NULL, from, to);
}

static int fault_unlink(void *user, const char *path) {
    return fails(user, "unlink") ? code_of(user) : mzi_fs_real.unlink(NULL, path);
}

static int fault_mkdir(void *user, const char *path, mode_t mode) {
    return fails(user, "mkdir") ? code_of(user) : mzi_fs_real.mkdir(NULL, path, mode);
}

static mzi_fs table_of(fault *f) {
    return (mzi_fs){f,           fault_open,   fault_write,  fault_read, fault_fsync,
                    fault_close, fault_rename, fault_unlink, fault_mkdir};
}

static const char old_data[] = "the old state";
static const char new_data[] = "the new state, which is longer than the old one";

static void write_old(const world *w) {
    assert_int_equal(mzi_fs_replace(w->ctx, &mzi_fs_real, w->path, old_data, sizeof old_data),
                     MEZZO_OK);
}

/* What a fault may be survived by: an interrupted call is made again (not fsync, rename and unlink,
 * which fail; close has done its work), a short write goes on. */
static bool may_succeed(const fault *f) {
    if (f->kind == FAULT_SHORT)
        return true;
    return f->kind == FAULT_EINTR &&
           (strcmp(f->last_hit, "open") == 0 || strcmp(f->last_hit, "write") == 0 ||
            strcmp(f->last_hit, "close") == 0);
}

static void check_outcome(const world *w, const fault *f, mezzo_status status) {
    if (status == MEZZO_OK) {
        assert_true(!f->hit || may_succeed(f));
        assert_true(holds(w, new_data, sizeof new_data));
    } else {
        assert_int_equal(status, MEZZO_IO);
        assert_int_equal(mezzo_ctx_error(w->ctx)->status, MEZZO_IO);
        assert_non_null(strstr(mezzo_ctx_error(w->ctx)->text, w->dir));
        assert_true(f->hit && !may_succeed(f));
        bool is_new = holds(w, new_data, sizeof new_data);
        assert_true(f->renamed ? is_new : holds(w, old_data, sizeof old_data));
    }
    if (!f->lasting && f->hit && strcmp(f->last_hit, "unlink") != 0)
        assert_false(exists(w->tmp));
}

static void test_every_call_fails(void **state) {
    (void)state;
    world w = setup();
    int files = open_files();
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        bool lasting_too = kind == FAULT_EIO || kind == FAULT_ENOSPC;
        for (int lasting = 0; lasting <= lasting_too; lasting++) {
            for (int at = 1;; at++) {
                assert_true(at < 50);
                write_old(&w);
                fault f = {.kind = (fault_kind)kind, .at = at, .lasting = lasting != 0};
                mzi_fs fs = table_of(&f);
                mzi_error_clear(w.ctx);
                mezzo_status status = mzi_fs_replace(w.ctx, &fs, w.path, new_data, sizeof new_data);
                check_outcome(&w, &f, status);
                assert_int_equal(open_files(), files);
                if (!f.hit)
                    break;
            }
        }
    }
    teardown(&w);
}

static void test_failed_fsync_is_not_tried_again(void **state) {
    (void)state;
    world w = setup();
    write_old(&w);
    fault f = {.kind = FAULT_EIO, .at = 4}; /* unlink, open, write, fsync */
    mzi_fs fs = table_of(&f);
    assert_int_equal(mzi_fs_replace(w.ctx, &fs, w.path, new_data, sizeof new_data), MEZZO_IO);
    assert_string_equal(f.last_hit, "fsync");
    assert_int_equal(f.calls, 6); /* close and unlink follow, and nothing else */
    assert_non_null(strstr(mezzo_ctx_error(w.ctx)->text, "fsync"));
    teardown(&w);
}

/* The order is what makes it durable. */
static void test_calls_in_order(void **state) {
    (void)state;
    static const char *const order[] = {"unlink", "open",   "write", "fsync", "close",
                                        "open",   "rename", "fsync", "close"};
    world w = setup();
    for (int at = 1; at <= 9; at++) {
        fault f = {.kind = FAULT_EIO, .at = at};
        mzi_fs fs = table_of(&f);
        mzi_error_clear(w.ctx);
        assert_int_equal(mzi_fs_replace(w.ctx, &fs, w.path, new_data, sizeof new_data), MEZZO_IO);
        assert_string_equal(f.last_hit, order[at - 1]);
    }
    teardown(&w);
}

static void test_mode_and_stale_file(void **state) {
    (void)state;
    world w = setup();
    struct stat info;
    write_old(&w);
    assert_int_equal(stat(w.path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    assert_int_equal(symlink("elsewhere", w.tmp), 0); /* left behind, and a trap */
    assert_int_equal(mzi_fs_replace(w.ctx, &mzi_fs_real, w.path, new_data, sizeof new_data), 0);
    assert_true(holds(&w, new_data, sizeof new_data));
    assert_false(exists(w.tmp));
    char trap[300];
    snprintf(trap, sizeof trap, "%s/elsewhere", w.dir);
    assert_false(exists(trap));
    teardown(&w);
}

static void test_parts_and_abort(void **state) {
    (void)state;
    world w = setup();
    write_old(&w);
    mzi_atomic_file file;
    assert_int_equal(mzi_atomic_open(w.ctx, &file, &mzi_fs_real, w.path), MEZZO_OK);
    assert_int_equal(mzi_atomic_write(w.ctx, &file, new_data, 10), MEZZO_OK);
    assert_true(exists(w.tmp));
    mzi_atomic_abort(&file);
    mzi_atomic_abort(&file);
    assert_false(exists(w.tmp));
    assert_true(holds(&w, old_data, sizeof old_data));
    assert_int_equal(mzi_atomic_write(w.ctx, &file, new_data, 10), MEZZO_IO);
    assert_int_equal(mzi_atomic_commit(w.ctx, &file), MEZZO_IO);
    assert_int_equal(mzi_atomic_open(w.ctx, &file, &mzi_fs_real, w.path), MEZZO_OK);
    assert_int_equal(mzi_atomic_write(w.ctx, &file, new_data, 10), MEZZO_OK);
    assert_int_equal(mzi_atomic_write(w.ctx, &file, new_data + 10, sizeof new_data - 10), MEZZO_OK);
    assert_true(holds(&w, old_data, sizeof old_data));
    assert_int_equal(mzi_atomic_commit(w.ctx, &file), MEZZO_OK);
    assert_true(holds(&w, new_data, sizeof new_data));
    mzi_atomic_abort(&file); /* after a commit there is nothing to abort */
    assert_true(exists(w.path));
    teardown(&w);
}

static void expect_error(const world *w, mezzo_status got, mezzo_status wanted, const char *words) {
    assert_int_equal(got, wanted);
    assert_non_null(strstr(mezzo_ctx_error(w->ctx)->text, words));
    mzi_error_clear(w->ctx);
}

static void test_bad_paths(void **state) {
    (void)state;
    world w = setup();
    char path[5000];
    snprintf(path, sizeof path, "%s/none/state", w.dir);
    mezzo_status status = mzi_fs_replace(w.ctx, &mzi_fs_real, path, "x", 1);
    expect_error(&w, status, MEZZO_IO, "No such file");
    expect_error(&w, mzi_fs_replace(w.ctx, &mzi_fs_real, "", "x", 1), MEZZO_IO, "No such file");
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    expect_error(&w, mzi_fs_replace(w.ctx, &mzi_fs_real, path, "x", 1), MEZZO_IO, "too long");
    expect_error(&w, mzi_fs_mkdirs(w.ctx, &mzi_fs_real, path), MEZZO_IO, "too long");
    /* Onto a directory: refused by rename, and nothing is left behind. */
    assert_int_equal(mkdir(w.path, 0700), 0);
    status = mzi_fs_replace(w.ctx, &mzi_fs_real, w.path, "x", 1);
    expect_error(&w, status, MEZZO_IO, "directory");
    assert_false(exists(w.tmp));
    teardown(&w);
}

static void test_relative_path(void **state) {
    (void)state;
    world w = setup();
    char before[4096];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(w.dir), 0);
    mezzo_status made = mzi_fs_mkdirs(w.ctx, &mzi_fs_real, "a/b");
    mezzo_status written = mzi_fs_replace(w.ctx, &mzi_fs_real, "state", old_data, sizeof old_data);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(made, MEZZO_OK);
    assert_int_equal(written, MEZZO_OK);
    assert_true(holds(&w, old_data, sizeof old_data));
    teardown(&w);
}

static void test_mkdirs(void **state) {
    (void)state;
    world w = setup();
    char path[320];
    struct stat info;
    snprintf(path, sizeof path, "%s/a//b/c/", w.dir);
    assert_int_equal(mzi_fs_mkdirs(w.ctx, &mzi_fs_real, path), MEZZO_OK);
    assert_int_equal(mzi_fs_mkdirs(w.ctx, &mzi_fs_real, path), MEZZO_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0700);
    assert_int_equal(mzi_fs_mkdirs(w.ctx, &mzi_fs_real, "/"), MEZZO_OK);
    assert_int_equal(mzi_fs_mkdirs(w.ctx, &mzi_fs_real, "."), MEZZO_OK);
    write_old(&w);
    expect_error(&w, mzi_fs_mkdirs(w.ctx, &mzi_fs_real, w.path), MEZZO_IO, "Not a directory");
    snprintf(path, sizeof path, "%s/x/y", w.path);
    expect_error(&w, mzi_fs_mkdirs(w.ctx, &mzi_fs_real, path), MEZZO_IO, "Not a directory");
    teardown(&w);
}

static void test_mkdirs_faults(void **state) {
    (void)state;
    for (int kind = FAULT_EIO; kind <= FAULT_EINTR; kind++) {
        for (int at = 1;; at++) {
            assert_true(at < 50);
            world w = setup();
            char path[320];
            snprintf(path, sizeof path, "%s/a/b", w.dir);
            int files = open_files();
            fault f = {.kind = (fault_kind)kind, .at = at};
            mzi_fs fs = table_of(&f);
            mezzo_status status = mzi_fs_mkdirs(w.ctx, &fs, path);
            assert_int_equal(open_files(), files);
            if (status == MEZZO_OK)
                assert_true(exists(path));
            /* The close of a directory that was only looked at tells nothing. */
            bool harmless = f.hit && (kind == FAULT_EINTR ? strcmp(f.last_hit, "fsync") != 0
                                                          : strcmp(f.last_hit, "close") == 0);
            if (f.hit && !harmless)
                assert_int_equal(status, MEZZO_IO);
            teardown(&w);
            if (!f.hit)
                break;
        }
    }
}

static void test_read_file(void **state) {
    (void)state;
    world w = setup();
    void *data = NULL;
    size_t bytes = 77;
    write_old(&w);
    uint64_t used = mezzo_ctx_memory(w.ctx).bytes_used;
    assert_int_equal(mzi_fs_read_file(w.ctx, w.path, sizeof old_data, &data, &bytes), MEZZO_OK);
    assert_int_equal(bytes, sizeof old_data);
    assert_memory_equal(data, old_data, bytes);
    assert_int_equal(((char *)data)[bytes], 0);
    mzi_free(w.ctx, data, bytes + 1);
    assert_int_equal(mzi_fs_replace(w.ctx, &mzi_fs_real, w.path, "", 0), MEZZO_OK);
    assert_int_equal(mzi_fs_read_file(w.ctx, w.path, 0, &data, &bytes), MEZZO_OK);
    assert_int_equal(bytes, 0);
    mzi_free(w.ctx, data, 1);
    assert_int_equal(mezzo_ctx_memory(w.ctx).bytes_used, used);
    teardown(&w);
}

static void test_read_file_refuses(void **state) {
    (void)state;
    world w = setup();
    int files = open_files();
    void *data = &w;
    size_t bytes = 77;
    mezzo_status status = mzi_fs_read_file(w.ctx, w.path, 100, &data, &bytes);
    expect_error(&w, status, MEZZO_IO, "No such file");
    status = mzi_fs_read_file(w.ctx, w.dir, 100, &data, &bytes);
    expect_error(&w, status, MEZZO_IO, "is a directory");
    assert_int_equal(mkfifo(w.path, 0600), 0);
    status = mzi_fs_read_file(w.ctx, w.path, 100, &data, &bytes);
    expect_error(&w, status, MEZZO_IO, "is a FIFO");
    status = mzi_fs_read_file(w.ctx, "/dev/zero", 100, &data, &bytes);
    expect_error(&w, status, MEZZO_IO, "is a device");
    assert_int_equal(unlink(w.path), 0);
    write_old(&w);
    status = mzi_fs_read_file(w.ctx, w.path, sizeof old_data - 1, &data, &bytes);
    expect_error(&w, status, MEZZO_DATA, "14 bytes");
    /* Files of /proc claim 0 bytes: said to change, not taken for empty. */
    status = mzi_fs_read_file(w.ctx, "/proc/self/status", 100, &data, &bytes);
    expect_error(&w, status, MEZZO_IO, "changed");
    assert_ptr_equal(data, &w);
    assert_int_equal(bytes, 77);
    assert_int_equal(open_files(), files);
    teardown(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_failed_fsync_is_not_tried_again),
        cmocka_unit_test(test_calls_in_order),
        cmocka_unit_test(test_mode_and_stale_file),
        cmocka_unit_test(test_parts_and_abort),
        cmocka_unit_test(test_bad_paths),
        cmocka_unit_test(test_relative_path),
        cmocka_unit_test(test_mkdirs),
        cmocka_unit_test(test_mkdirs_faults),
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_read_file_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
