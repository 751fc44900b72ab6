/* The run directory: who may use it, what is written, and what stays when writing fails. */
#include <jansson.h>
#include <math.h>

#include "base/json.h"
#include "checkpoint/weights.h"
#include "mezzo/run.h"
#include "observe/run_dir.h"
#include "unit/failing_fs.h"
#include "unit/fixture.h"

static char path[300];

static int begin(void **state) {
    int code = fixture_begin(state);
    snprintf(path, sizeof path, "%s/some/run", folder);
    return code;
}

static mezzo_status open_run(mzi_run_dir **out, bool overwrite) {
    const mzi_run_dir_config config = {.name = "test", .path = path, .overwrite = overwrite};
    mzi_error_clear(ctx);
    return mzi_run_dir_open(out, ctx, &mzi_fs_real, &config);
}

static const char *read_text(const char *name) {
    static char text[65536];
    char file[512];
    snprintf(file, sizeof file, "%s/%s", path, name);
    FILE *stream = fopen(file, "r");
    if (!stream)
        return NULL;
    size_t bytes = fread(text, 1, sizeof text - 1, stream);
    fclose(stream);
    text[bytes] = '\0';
    return text;
}

/* Line `index` of a file as JSON, or null. */
static json_t *read_line(const char *name, int index) {
    const char *line = read_text(name);
    for (; line && index > 0; index--) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    if (!line || !strchr(line, '\n'))
        return NULL;
    return json_loadb(line, (size_t)(strchr(line, '\n') - line), JSON_REJECT_DUPLICATES, NULL);
}

static void check_real(const char *want, double value) {
    char text[64] = {0};
    mzi_json json = {text, sizeof text - 1, 0, 0};
    mzi_json_real(&json, value);
    assert_string_equal(text, want);
}

static void test_json_text(void **state) {
    (void)state;
    check_real("0", 0.0);
    check_real("-0", -0.0);
    check_real("12", 12.0);
    check_real("0.1", 0.1);
    check_real("0.30000000000000004", 0.1 + 0.2);
    check_real("1e+300", 1e300);
    check_real("4.94065645841247e-324", 4.9406564584124654e-324);
    check_real("\"NaN\"", (double)NAN);
    check_real("\"Infinity\"", (double)INFINITY);
    check_real("\"-Infinity\"", -(double)INFINITY);
    char text[64] = {0};
    mzi_json json = {text, sizeof text - 1, 0, 0};
    mzi_json_string(&json, "\"\\\b\f\n\r\t\x01\x1f\x7f/\u00e9\xff\xed\xa0\x80z");
    assert_string_equal(text, "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7f/\u00e9"
                              "\ufffd\ufffd\ufffd\ufffdz\"");
    assert_true(mzi_json_fits(&json));
    /* Without room the size is counted all the same, and nothing is written beyond it. */
    size_t whole = json.size;
    char small[8] = {0};
    json = (mzi_json){small, 4, 0, 0};
    mzi_json_string(&json, "\"\\\b\f\n\r\t\x01\x1f\x7f/\u00e9\xff\xed\xa0\x80z");
    assert_int_equal(json.size, whole);
    assert_false(mzi_json_fits(&json));
    assert_string_equal(small, "\"\\\"\\");
}

static void test_utf8(void **state) {
    (void)state;
    static const char *const good[] = {"",           "a",          "\u00e9",      "\u20ac",
                                       "\U0001f600", "\U0010ffff", "\ud7ff\ue000"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc3",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xe2\x82",
                                      "\xe2\x28\xa1",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xf0\x9f\x98",
                                      "\xff",
                                      "a\xfe"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(mzi_utf8_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(mzi_utf8_valid(bad[i]));
}

static void test_makes_the_files_of_a_run(void **state) {
    (void)state;
    mzi_run_dir *run;
    assert_int_equal(open_run(&run, false), MEZZO_OK);
    assert_string_equal(mzi_run_dir_path(run), path);
    assert_int_equal(strncmp(mzi_run_dir_id(run), "test-20", 7), 0);
    assert_int_equal(strlen(mzi_run_dir_id(run)), strlen("test-YYYYMMDD-HHMMSS"));
    assert_int_equal(mzi_run_dir_write(run, MZI_RUN_CONFIG, "model: {kind: cnn}"), MEZZO_OK);
    assert_int_equal(mzi_run_dir_write(run, MZI_RUN_PLAN, "{}\n"), MEZZO_OK);
    assert_int_equal(mzi_run_dir_write(run, MZI_RUN_SUMMARY, "{\"a\":1}"), MEZZO_OK);
    mzi_run_dir_close(run);
    assert_string_equal(read_text(MZI_RUN_CONFIG), "model: {kind: cnn}\n");
    assert_string_equal(read_text(MZI_RUN_PLAN), "{}\n");
    assert_string_equal(read_text(MZI_RUN_SUMMARY), "{\"a\":1}\n");
    assert_string_equal(read_text(MZI_RUN_METRICS), "");
    assert_string_equal(read_text(MZI_RUN_EVENTS), "");
    struct stat info;
    char name[512];
    snprintf(name, sizeof name, "%s/%s", path, MZI_RUN_CHECKPOINTS);
    assert_int_equal(stat(name, &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0700);
    snprintf(name, sizeof name, "%s/%s", path, MZI_RUN_METRICS);
    assert_int_equal(stat(name, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void test_a_used_directory_is_refused(void **state) {
    (void)state;
    mzi_run_dir *run, *second = (mzi_run_dir *)&ctx;
    assert_int_equal(open_run(&run, false), MEZZO_OK);
    for (int overwrite = 0; overwrite < 2; overwrite++) { /* not even with --overwrite */
        assert_int_equal(open_run(&second, overwrite == 1), MEZZO_BUSY);
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "in use"));
        assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "--run-dir"));
    }
    mzi_run_dir_close(run);
    assert_int_equal(open_run(&second, false), MEZZO_BUSY);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "already holds a run"));
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "--overwrite"));
    assert_ptr_equal(second, &ctx);
    assert_int_equal(open_run(&second, true), MEZZO_OK);
    mzi_run_dir_close(second);
}

static void test_overwrite_removes_what_a_run_makes_only(void **state) {
    (void)state;
    static const char *const made[] = {MZI_RUN_CONFIG,
                                       MZI_RUN_PLAN,
                                       MZI_RUN_SUMMARY,
                                       MZI_RUN_SUMMARY ".tmp",
                                       MZI_RUN_METRICS,
                                       MZI_RUN_EVENTS,
                                       MZI_RUN_FINAL "/" MZI_MODEL_FILE,
                                       MZI_RUN_FINAL "/" MZI_MASTERS_FILE,
                                       MZI_RUN_FINAL "/" MZI_MASTERS_FILE ".tmp"};
    static const char *const kept[] = {"notes.txt", "metrics.jsonl.bak", "checkpoints/mine",
                                       MZI_RUN_FINAL "/other.safetensors"};
    char name[512];
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        snprintf(name, sizeof name, "/some/run/%s", made[i]);
        tempdir_write(folder, name, "old");
    }
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        snprintf(name, sizeof name, "/some/run/%s", kept[i]);
        tempdir_write(folder, name, "mine");
    }
    mzi_run_dir *run;
    assert_int_equal(open_run(&run, false), MEZZO_BUSY);
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        assert_string_equal(read_text(made[i]), "old");
    assert_int_equal(open_run(&run, true), MEZZO_OK);
    mzi_run_dir_close(run);
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        const char *text = read_text(made[i]);
        assert_true(!text || text[0] == '\0'); /* the two line files are there again, empty */
    }
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        assert_string_equal(read_text(kept[i]), "mine");
}

static void test_a_directory_with_other_files_may_be_used(void **state) {
    (void)state;
    tempdir_write(folder, "/some/run/notes.txt", "mine");
    mzi_run_dir *run;
    assert_int_equal(open_run(&run, false), MEZZO_OK);
    mzi_run_dir_close(run);
    assert_string_equal(read_text("notes.txt"), "mine");
}

static void test_default_names(void **state) {
    (void)state;
    char before[1024];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    const mzi_run_dir_config config = {.name = "a/b c"};
    mzi_run_dir *runs[3];
    for (int i = 0; i < 3; i++) {
        mzi_error_clear(ctx);
        assert_int_equal(mzi_run_dir_open(&runs[i], ctx, &mzi_fs_real, &config), MEZZO_OK);
        assert_int_equal(strncmp(mzi_run_dir_path(runs[i]), "runs/a-b-c-20", 13), 0);
        assert_string_equal(mzi_run_dir_path(runs[i]) + 5, mzi_run_dir_id(runs[i]));
        for (int k = 0; k < i; k++)
            assert_string_not_equal(mzi_run_dir_id(runs[i]), mzi_run_dir_id(runs[k]));
        assert_int_equal(access(mzi_run_dir_path(runs[i]), F_OK), 0);
    }
    for (int i = 0; i < 3; i++)
        mzi_run_dir_close(runs[i]);
    mzi_run_dir_close(NULL);
    assert_int_equal(chdir(before), 0);
}

static void test_unusable_paths(void **state) {
    (void)state;
    mzi_run_dir *run;
    tempdir_write(folder, "/some", "a file where a directory should be");
    assert_int_equal(open_run(&run, false), MEZZO_IO);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "/some"));
    char longer[2000] = {0};
    memset(longer, 'x', sizeof longer - 1);
    mzi_run_dir_config config = {.path = longer};
    mzi_error_clear(ctx);
    assert_int_equal(mzi_run_dir_open(&run, ctx, &mzi_fs_real, &config), MEZZO_INVALID_ARGUMENT);
    config.path = "";
    mzi_error_clear(ctx);
    assert_int_equal(mzi_run_dir_open(&run, ctx, &mzi_fs_real, &config), MEZZO_INVALID_ARGUMENT);
}

static void check_number(const json_t *line, const char *key, double want) {
    const json_t *value = json_object_get(line, key);
    assert_true(json_is_number(value));
    assert_true(json_number_value(value) == want);
}
static void check_text(const json_t *line, const char *key, const char *want) {
    const char *value = json_string_value(json_object_get(line, key));
    assert_non_null(value);
    assert_string_equal(value, want);
}

static void test_metric_lines(void **state) {
    (void)state;
    mzi_run_dir *run;
    assert_int_equal(open_run(&run, false), MEZZO_OK);
    mzi_metrics *metrics = &ctx->metrics;
    mzi_metric_set(metrics, MZI_METRIC_step, 3);
    mzi_metric_set(metrics, MZI_METRIC_loss, 0.1);
    mzi_metric_add(metrics, MZI_METRIC_skipped_steps, 0);
    uint64_t calls = mezzo_ctx_memory(ctx).alloc_count;
    assert_int_equal(mzi_run_dir_metrics(run, metrics), MEZZO_OK);
    mzi_metric_set(metrics, MZI_METRIC_loss, (double)NAN);
    mzi_metric_set(metrics, MZI_METRIC_grad_norm, (double)INFINITY);
    assert_int_equal(mzi_run_dir_metrics(run, metrics), MEZZO_OK);
    assert_int_equal(mezzo_ctx_memory(ctx).alloc_count, calls);
    json_t *line = read_line(MZI_RUN_METRICS, 0);
    assert_int_equal(json_object_size(line), 4); /* nothing that was not set */
    check_number(line, "step", 3);
    check_number(line, "loss", 0.1);
    check_number(line, "skipped_steps", 0);
    assert_true(json_number_value(json_object_get(line, "time")) > 1.7e9);
    json_decref(line);
    line = read_line(MZI_RUN_METRICS, 1);
    check_text(line, "loss", "NaN");
    check_text(line, "grad_norm", "Infinity");
    json_decref(line);
    assert_null(read_line(MZI_RUN_METRICS, 2));
    mzi_run_dir_close(run);
}

static void test_event_lines(void **state) {
    (void)state;
    mzi_run_dir *run;
    assert_int_equal(open_run(&run, false), MEZZO_OK);
    const mzi_field fields[] = {{"where", "conv1.weight\n\xff", 0}, {"loss_scale", NULL, 0.5}};
    assert_int_equal(mzi_run_dir_event(run, 7, 9, "skip", fields, 2), MEZZO_OK);
    assert_int_equal(mzi_run_dir_event(run, 8, 10, "save", NULL, 0), MEZZO_OK);
    json_t *line = read_line(MZI_RUN_EVENTS, 0);
    assert_int_equal(json_object_size(line), 6);
    check_number(line, "step", 7);
    check_number(line, "attempt", 9);
    check_text(line, "kind", "skip");
    check_text(line, "where", "conv1.weight\n\ufffd");
    check_number(line, "loss_scale", 0.5);
    json_decref(line);
    line = read_line(MZI_RUN_EVENTS, 1);
    check_text(line, "kind", "save");
    json_decref(line);
    /* A line that does not fit is refused as a whole. */
    static char longer[20000];
    memset(longer, 'x', sizeof longer - 1);
    const mzi_field much = {"text", longer, 0};
    assert_int_equal(mzi_run_dir_event(run, 8, 10, "save", &much, 1), MEZZO_INVALID_ARGUMENT);
    assert_null(read_line(MZI_RUN_EVENTS, 2));
    mzi_run_dir_close(run);
}

/* A disk that is full after 10 bytes of a line, then has room again. */
static void test_a_torn_line_costs_that_line_only(void **state) {
    (void)state;
    failing_fs f = {.calls_left = INT32_MAX};
    mzi_fs fs = failing_fs_table(&f);
    const mzi_run_dir_config config = {.name = "test", .path = path};
    mzi_run_dir *run;
    assert_int_equal(mzi_run_dir_open(&run, ctx, &fs, &config), MEZZO_OK);
    assert_int_equal(mzi_run_dir_event(run, 1, 1, "first", NULL, 0), MEZZO_OK);
    int before = f.calls;
    assert_int_equal(mzi_run_dir_event(run, 2, 2, "second", NULL, 0), MEZZO_OK);
    assert_int_equal(f.calls - before, 1); /* one line, one write */
    f.write_max = 10;
    f.calls_left = 1;
    f.code = ENOSPC;
    mzi_error_clear(ctx);
    assert_int_equal(mzi_run_dir_event(run, 3, 3, "torn", NULL, 0), MEZZO_IO);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "No space left"));
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "events.jsonl"));
    f.write_max = 0;
    f.calls_left = 0;
    mzi_error_clear(ctx);
    assert_int_equal(mzi_run_dir_event(run, 4, 4, "not written", NULL, 0), MEZZO_IO);
    assert_int_equal(mzi_run_dir_event(run, 5, 5, "third", NULL, 0), MEZZO_OK);
    assert_int_equal(mzi_run_dir_event(run, 6, 6, "fourth", NULL, 0), MEZZO_OK);
    static const char *const kinds[] = {"first", "second", NULL, "third", "fourth"};
    for (int i = 0; i < 5; i++) {
        json_t *line = read_line(MZI_RUN_EVENTS, i);
        if (kinds[i])
            check_text(line, "kind", kinds[i]);
        else
            assert_null(line);
        json_decref(line);
    }
    mzi_run_dir_close(run);
}

/* Every call of a whole run fails once: an error each time, and the directory can be used again. */
static mezzo_status whole_run(const mzi_fs *fs) {
    const mzi_run_dir_config config = {.name = "test", .path = path, .overwrite = true};
    mzi_run_dir *run;
    mezzo_status status = mzi_run_dir_open(&run, ctx, fs, &config);
    if (status != MEZZO_OK)
        return status;
    status = mzi_run_dir_write(run, MZI_RUN_CONFIG, "a: 1");
    if (status == MEZZO_OK)
        status = mzi_run_dir_metrics(run, &ctx->metrics);
    if (status == MEZZO_OK)
        status = mzi_run_dir_event(run, 1, 1, "save", NULL, 0);
    if (status == MEZZO_OK)
        status = mzi_run_dir_write(run, MZI_RUN_SUMMARY, "{}");
    mzi_run_dir_close(run);
    return status;
}
static void test_every_call_may_fail(void **state) {
    (void)state;
    bool done = false;
    int failures = 0;
    for (int nth = 0; !done; nth++) {
        failing_fs f = {.calls_left = nth, .code = EACCES};
        mzi_fs fs = failing_fs_table(&f);
        mzi_error_clear(ctx);
        mezzo_status status = whole_run(&fs);
        done = f.calls_left >= 0;
        if (status != MEZZO_OK) {
            failures++;
            assert_int_equal(status, MEZZO_IO);
            assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "Permission denied"));
        }
        mzi_error_clear(ctx);
        fs = patient_fs_table(&f);
        assert_int_equal(whole_run(&fs), MEZZO_OK);
    }
    assert_true(failures >= 30);
}

static void test_summary(void **state) {
    (void)state;
    mezzo_summary s = {.run_id = "fashion-20240101-000000",
                       .run_dir = "runs/\"x\"",
                       .status = "completed",
                       .precision = MEZZO_BF16,
                       .steps = 938,
                       .loss_first = 2.3,
                       .loss_last = (double)NAN,
                       .eval_metric = "accuracy",
                       .eval_value = 0.9187,
                       .peak_rss_bytes = UINT64_MAX,
                       .loss_scale_last = 1.0f,
                       .seed = UINT64_MAX - 1};
    char *text;
    assert_int_equal(mezzo_summary_json(ctx, &s, &text), MEZZO_OK);
    assert_null(strchr(text, '\n'));
    assert_non_null(strstr(text, "\"peak_rss_bytes\":18446744073709551615,"));
    assert_non_null(strstr(text, "\"seed\":18446744073709551614}"));
    mzi_free_text(ctx, text);
    s.peak_rss_bytes = s.seed = 1;
    assert_int_equal(mezzo_summary_json(ctx, &s, &text), MEZZO_OK);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    static const char *const keys[] = {"run_id",
                                       "run_dir",
                                       "precision",
                                       "status",
                                       "steps",
                                       "skipped_steps",
                                       "loss_first",
                                       "loss_last",
                                       "eval_metric",
                                       "eval_value",
                                       "eval_loss",
                                       "start_ms",
                                       "step_ms_median",
                                       "samples_per_s",
                                       "peak_rss_bytes",
                                       "planned_bytes",
                                       "loss_scale_last",
                                       "overflow_events",
                                       "fallback_kernels",
                                       "wall_s",
                                       "train_s",
                                       "plan_hash",
                                       "seed"};
    assert_int_equal(json_object_size(json), sizeof keys / sizeof keys[0]);
    const char *key;
    json_t *value;
    int i = 0;
    json_object_foreach(json, key, value) {
        assert_string_equal(key, keys[i++]);
    }
    check_text(json, "precision", "bf16");
    check_text(json, "run_dir", "runs/\"x\"");
    check_text(json, "loss_last", "NaN");
    check_number(json, "eval_value", 0.9187);
    json_decref(json);
    mzi_free_text(ctx, text);
    s.eval_metric[0] = '\0';
    assert_int_equal(mezzo_summary_json(ctx, &s, &text), MEZZO_OK);
    assert_non_null(strstr(text, "\"eval_value\":null"));
    mzi_free_text(ctx, text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, fixture_end)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_json_text),
        TEST(test_utf8),
        TEST(test_makes_the_files_of_a_run),
        TEST(test_a_used_directory_is_refused),
        TEST(test_overwrite_removes_what_a_run_makes_only),
        TEST(test_a_directory_with_other_files_may_be_used),
        TEST(test_default_names),
        TEST(test_unusable_paths),
        TEST(test_metric_lines),
        TEST(test_event_lines),
        TEST(test_a_torn_line_costs_that_line_only),
        TEST(test_every_call_may_fail),
        TEST(test_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
