/* The directory of a run. */
#include "observe/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/ctx.h"
#include "base/json.h"

#define PATH_CAPACITY 1024
#define LINE_CAPACITY 16384
#define SAME_SECOND_MAX 100

/* What a run makes and `overwrite` removes, each perhaps as NAME.tmp too. */
static const char *const run_files[] = {
    MZI_RUN_CONFIG,
    MZI_RUN_PLAN,
    MZI_RUN_SUMMARY,
    MZI_RUN_METRICS,
    MZI_RUN_EVENTS,
    MZI_RUN_TENSORS,
    MZI_RUN_FINAL "/model.safetensors",
    MZI_RUN_FINAL "/masters.safetensors",
    MZI_RUN_FINAL "/ema.safetensors",
};
#define RUN_FILE_COUNT (sizeof run_files / sizeof run_files[0])

typedef struct line_file {
    const char *name;
    int fd;
    bool is_torn; /* the last line was written in part only */
} line_file;

struct mzi_run_dir {
    mezzo_ctx *ctx;
    const mzi_fs *fs;
    char path[PATH_CAPACITY];
    char id[64];
    int lock_fd;
    line_file metrics, events, tensors;
    char line[LINE_CAPACITY];
};

static mezzo_status fail_io(mzi_run_dir *run, int line, const char *verb, const char *path,
                            int code) {
    char reason[128];
    return mzi_fail_at(run->ctx, __FILE__, line, MEZZO_IO, "cannot %s '%s': %s", verb, path,
                       strerror_r(code, reason, sizeof reason));
}

/* Room for the longest name of a run file behind the longest path. */
typedef struct file_path {
    char text[PATH_CAPACITY + 64];
} file_path;
static file_path path_of(const mzi_run_dir *run, const char *file, const char *suffix) {
    file_path path;
    mzi_format(path.text, sizeof path.text, "%s/%s%s", run->path, file, suffix);
    return path;
}

/* A name fit for a file: letters, digits, dot, dash and underscore stay. */
static void make_id(mzi_run_dir *run, const char *name) {
    char clean[40];
    mzi_format(clean, sizeof clean, "%s", name && *name ? name : "run");
    for (char *c = clean; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *c))
            *c = '-';
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    mzi_format(run->id, sizeof run->id, "%s-%04d%02d%02d-%02d%02d%02d", clean, utc.tm_year + 1900,
               utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

static mezzo_status lock(mzi_run_dir *run) {
    file_path path = path_of(run, ".lock", "");
    int fd = run->fs->open(run->fs->user, path.text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_io(run, __LINE__, "open", path.text, -fd);
    run->lock_fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return MEZZO_OK;
    if (errno == EWOULDBLOCK)
        MZI_FAIL(run->ctx, MEZZO_BUSY,
                 "run directory '%s' is in use by a run that is going on; wait for it, or choose "
                 "another directory with --run-dir",
                 run->path);
    if (errno != ENOSYS && errno != EOPNOTSUPP && errno != ENOLCK)
        return fail_io(run, __LINE__, "lock", path.text, errno);
    mzi_log(run->ctx, MEZZO_LOG_WARNING,
            "the file system of '%s' cannot lock files: nothing keeps a second run from using it",
            run->path);
    return MEZZO_OK;
}

static mezzo_status clear(mzi_run_dir *run, bool overwrite) {
    for (size_t i = 0; i < RUN_FILE_COUNT; i++) {
        file_path path = path_of(run, run_files[i], "");
        struct stat info;
        if (!overwrite && lstat(path.text, &info) == 0)
            MZI_FAIL(run->ctx, MEZZO_BUSY,
                     "run directory '%s' already holds a run (%s is there); replace it with "
                     "--overwrite, or choose another directory with --run-dir",
                     run->path, run_files[i]);
        static const char *const suffixes[] = {"", ".tmp"};
        for (size_t k = 0; overwrite && k < 2; k++) {
            path = path_of(run, run_files[i], suffixes[k]);
            int code = run->fs->unlink(run->fs->user, path.text);
            if (code < 0 && code != -ENOENT)
                return fail_io(run, __LINE__, "remove", path.text, -code);
        }
    }
    return MEZZO_OK;
}

static mezzo_status open_lines(mzi_run_dir *run, line_file *file, const char *name) {
    file_path path = path_of(run, name, "");
    file->name = name;
    int fd = run->fs->open(run->fs->user, path.text,
                           O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_io(run, __LINE__, "create", path.text, -fd);
    file->fd = fd;
    return MEZZO_OK;
}

static mezzo_status claim(mzi_run_dir *run, bool overwrite) {
    MZI_TRY(mzi_fs_mkdirs(run->ctx, run->fs, run->path));
    MZI_TRY(lock(run));
    MZI_TRY(clear(run, overwrite));
    file_path checkpoints = path_of(run, MZI_RUN_CHECKPOINTS, "");
    MZI_TRY(mzi_fs_mkdirs(run->ctx, run->fs, checkpoints.text));
    MZI_TRY(open_lines(run, &run->metrics, MZI_RUN_METRICS));
    MZI_TRY(open_lines(run, &run->events, MZI_RUN_EVENTS));
    return open_lines(run, &run->tensors, MZI_RUN_TENSORS);
}

static void close_files(mzi_run_dir *run) {
    int *const fds[] = {&run->metrics.fd, &run->events.fd, &run->tensors.fd,
                        &run->lock_fd}; /* the lock last */
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0)
            (void)run->fs->close(run->fs->user, *fds[i]);
        *fds[i] = -1;
    }
}

/* runs/ID; a run of the same name in the same second gets ID-2. */
static mezzo_status claim_default(mzi_run_dir *run) {
    char id[sizeof run->id - 4];
    mzi_format(id, sizeof id, "%s", run->id);
    for (int n = 1;; n++) {
        if (n > 1)
            mzi_format(run->id, sizeof run->id, "%s-%d", id, n);
        mzi_format(run->path, sizeof run->path, "runs/%s", run->id);
        mezzo_status status = claim(run, false);
        if (status != MEZZO_BUSY || n == SAME_SECOND_MAX)
            return status;
        close_files(run);
        mzi_error_clear(run->ctx);
    }
}

static mezzo_status claim_given(mzi_run_dir *run, const mzi_run_dir_config *config) {
    size_t length = strlen(config->path);
    if (length == 0 || length >= sizeof run->path)
        MZI_FAIL(run->ctx, MEZZO_INVALID_ARGUMENT,
                 "the run directory's path has %zu bytes; give 1 to %zu", length,
                 sizeof run->path - 1);
    memcpy(run->path, config->path, length + 1);
    return claim(run, config->overwrite);
}

mezzo_status mzi_run_dir_open(mzi_run_dir **out, mezzo_ctx *ctx, const mzi_fs *fs,
                              const mzi_run_dir_config *config) {
    mzi_run_dir *run = mzi_alloc(ctx, sizeof *run);
    if (!run)
        return mzi_out_of_memory(ctx, sizeof *run, "a run directory");
    run->ctx = ctx;
    run->fs = fs;
    run->lock_fd = run->metrics.fd = run->events.fd = run->tensors.fd = -1;
    make_id(run, config->name);
    mezzo_status status = config->path ? claim_given(run, config) : claim_default(run);
    if (status != MEZZO_OK) {
        mzi_run_dir_close(run);
        return status;
    }
    *out = run;
    return MEZZO_OK;
}

void mzi_run_dir_close(mzi_run_dir *run) {
    if (!run)
        return;
    close_files(run);
    mzi_free(run->ctx, run, sizeof *run);
}

const char *mzi_run_dir_path(const mzi_run_dir *run) {
    return run->path;
}

const char *mzi_run_dir_id(const mzi_run_dir *run) {
    return run->id;
}

mezzo_status mzi_run_dir_write(mzi_run_dir *run, const char *file, const char *text) {
    size_t bytes = strlen(text);
    file_path path = path_of(run, file, "");
    mzi_atomic_file atomic;
    MZI_TRY(mzi_atomic_open(run->ctx, &atomic, run->fs, path.text));
    MZI_TRY(mzi_atomic_write(run->ctx, &atomic, text, bytes));
    if (bytes == 0 || text[bytes - 1] != '\n')
        MZI_TRY(mzi_atomic_write(run->ctx, &atomic, "\n", 1));
    return mzi_atomic_commit(run->ctx, &atomic);
}

/* `{"time":1732371234.567`: the rest of the line follows. */
static mzi_json begin_line(mzi_run_dir *run) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char time_text[40];
    mzi_format(time_text, sizeof time_text, "%lld.%03ld", (long long)now.tv_sec,
               now.tv_nsec / 1000000);
    /* The first byte is kept for the newline that ends a torn line. */
    mzi_json json = {run->line + 1, sizeof run->line - 1, 0, 0};
    mzi_json_raw(&json, "{");
    mzi_json_key(&json, "time");
    mzi_json_raw(&json, time_text);
    return json;
}

/* A full disk can take a part of the line.  The next one then starts with a newline, so that one
 * line is lost and no more. */
static mezzo_status end_line(mzi_run_dir *run, line_file *file, mzi_json *json) {
    mzi_json_raw(json, "}\n");
    if (!mzi_json_fits(json))
        MZI_FAIL(run->ctx, MEZZO_INVALID_ARGUMENT, "a line of %zu bytes for %s; the longest is %zu",
                 json->size, file->name, json->capacity);
    char *next = run->line + 1;
    size_t bytes = json->size;
    if (file->is_torn) {
        *--next = '\n';
        bytes++;
    }
    file_path path = path_of(run, file->name, "");
    const mzi_fs *fs = run->fs;
    ssize_t written;
    do
        written = fs->write(fs->user, file->fd, next, bytes);
    while (written == -EINTR);
    if (written < 0)
        return fail_io(run, __LINE__, "write", path.text, (int)-written);
    file->is_torn = (size_t)written < bytes;
    if (file->is_torn)
        MZI_TRY(mzi_fs_write_all(run->ctx, fs, file->fd, path.text, next + written,
                                 bytes - (size_t)written));
    file->is_torn = false;
    return MEZZO_OK;
}

mezzo_status mzi_run_dir_metrics(mzi_run_dir *run, const mzi_metrics *metrics) {
    mzi_json json = begin_line(run);
    for (int i = 0; i < MZI_METRIC_COUNT; i++) {
        mzi_metric metric = (mzi_metric)i;
        if (!mzi_metric_is_set(metrics, metric))
            continue;
        mzi_json_key(&json, mzi_metric_infos[i].name);
        mzi_json_real(&json, mzi_metric_get(metrics, metric));
    }
    return end_line(run, &run->metrics, &json);
}

/* `kind` may be null. */
static mezzo_status write_line(mzi_run_dir *run, line_file *file, int64_t step, int64_t attempt,
                               const char *kind, const mzi_field *fields, int count) {
    mzi_json json = begin_line(run);
    mzi_json_key(&json, "step");
    mzi_json_integer(&json, step);
    mzi_json_key(&json, "attempt");
    mzi_json_integer(&json, attempt);
    if (kind) {
        mzi_json_key(&json, "kind");
        mzi_json_string(&json, kind);
    }
    for (int i = 0; i < count; i++) {
        mzi_json_key(&json, fields[i].name);
        if (fields[i].text)
            mzi_json_string(&json, fields[i].text);
        else
            mzi_json_real(&json, fields[i].number);
    }
    return end_line(run, file, &json);
}

mezzo_status mzi_run_dir_event(mzi_run_dir *run, int64_t step, int64_t attempt, const char *kind,
                               const mzi_field *fields, int count) {
    return write_line(run, &run->events, step, attempt, kind, fields, count);
}

mezzo_status mzi_run_dir_tensor(mzi_run_dir *run, int64_t step, int64_t attempt,
                                const mzi_field *fields, int count) {
    return write_line(run, &run->tensors, step, attempt, NULL, fields, count);
}
