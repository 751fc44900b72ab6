/* The IDX reader refuses every kind of damaged file; the loader's stream is a function of the seed
 * and the position alone. */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <zlib.h>

#include "mezzo/data.h"
#include "unit/fixture.h"

static const char *path_of(const char *name) {
    static char paths[2][300];
    static int next;
    char *path = paths[next++ % 2];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *data, size_t bytes) {
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static size_t pack(const void *data, size_t bytes, uint8_t *out, size_t capacity) {
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data,
                       .avail_in = (unsigned)bytes,
                       .next_out = out,
                       .avail_out = (unsigned)capacity};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, 0), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return capacity - stream.avail_out;
}

/* Three images of 2 x 4 with pixels 0, 1, 2 ... and labels 2, 0, 1. */
#define IMAGE_BYTES 40
#define LABEL_BYTES 11
static const uint8_t good_images[IMAGE_BYTES] = {
    0, 0, 8, 3, 0, 0, 0,  3,  0,  0,  0,  2,  0,  0,  0,  4,  0,  1,  2,  3,
    4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23};
static const uint8_t good_labels[LABEL_BYTES] = {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1};

static mezzo_status open_pair(mezzo_images **out, int32_t classes) {
    const char *labels = path_of("labels");
    return mezzo_images_open_idx(out, ctx, path_of("images"), labels, classes);
}

/* Opens what was written last; the error must be DATA and hold both texts. */
static void expect_refused(int32_t classes, const char *text, const char *more) {
    mezzo_images *images = (mezzo_images *)&ctx;
    assert_int_equal(open_pair(&images, classes), MEZZO_DATA);
    assert_ptr_equal(images, &ctx);
    const char *message = mezzo_ctx_error(ctx)->text;
    if (!strstr(message, text) || !strstr(message, more))
        fail_msg("'%s' lacks '%s' or '%s'", message, text, more);
    assert_int_equal(mezzo_ctx_error(ctx)->status, MEZZO_DATA);
}

static void check_good(void) {
    mezzo_images *images;
    assert_int_equal(open_pair(&images, 3), MEZZO_OK);
    mezzo_images_info info = mezzo_images_get_info(images);
    assert_int_equal(info.count, 3);
    assert_int_equal(info.H, 2);
    assert_int_equal(info.W, 4);
    assert_int_equal(info.C, 1);
    assert_int_equal(info.classes, 3);
    mezzo_loader_config config = {.batch = 3, .scale = 255.0f};
    mezzo_loader *loader;
    assert_int_equal(mezzo_loader_create(&loader, ctx, images, &config, 0), MEZZO_OK);
    mezzo_batch batch;
    assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
    assert_int_equal(batch.valid, 3);
    for (int i = 0; i < 24; i++)
        assert_true(fabsf(batch.x[i] - (float)i) <= 0x1p-19f); /* p/255 * 255: one rounding */
    for (int i = 0; i < 3; i++)
        assert_int_equal(batch.labels[i], good_labels[8 + i]);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
}

static void test_reads_plain_and_gzip(void **state) {
    (void)state;
    uint8_t packed[256];
    write_file("images", good_images, IMAGE_BYTES);
    write_file("labels", good_labels, LABEL_BYTES);
    check_good();
    write_file("images", packed, pack(good_images, IMAGE_BYTES, packed, sizeof packed));
    check_good();
    write_file("labels", packed, pack(good_labels, LABEL_BYTES, packed, sizeof packed));
    check_good();
}

static void test_refuses_missing_and_odd_files(void **state) {
    (void)state;
    unlink(path_of("images"));
    write_file("labels", good_labels, LABEL_BYTES);
    expect_refused(0, "/images'", "No such file");
    write_file("images", good_images, IMAGE_BYTES);
    unlink(path_of("labels"));
    expect_refused(0, "/labels'", "No such file");
    assert_int_equal(mkfifo(path_of("fifo"), 0600), 0);
    mezzo_images *images;
    const char *fifo = path_of("fifo");
    assert_int_equal(mezzo_images_open_idx(&images, ctx, fifo, fifo, 0), MEZZO_DATA);
    assert_non_null(strstr(mezzo_ctx_error(ctx)->text, "no regular file"));
    assert_int_equal(mezzo_images_open_idx(&images, ctx, folder, fifo, 0), MEZZO_DATA);
    assert_int_equal(mezzo_images_open_idx(&images, ctx, NULL, fifo, 0), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_images_open_idx(&images, ctx, fifo, fifo, 257), MEZZO_INVALID_ARGUMENT);
}

/* Every prefix of either file, and every file with one byte more. */
static void test_refuses_every_truncation(void **state) {
    (void)state;
    uint8_t bytes[IMAGE_BYTES + 1] = {0};
    write_file("labels", good_labels, LABEL_BYTES);
    for (size_t n = 0; n < IMAGE_BYTES; n++) {
        write_file("images", good_images, n);
        expect_refused(0, "/images'", "truncated");
    }
    memcpy(bytes, good_images, IMAGE_BYTES);
    write_file("images", bytes, IMAGE_BYTES + 1);
    expect_refused(0, "too long", "offset 40");
    write_file("images", good_images, IMAGE_BYTES);
    for (size_t n = 0; n < LABEL_BYTES; n++) {
        write_file("labels", good_labels, n);
        expect_refused(0, "/labels'", "truncated");
    }
    memcpy(bytes, good_labels, LABEL_BYTES);
    write_file("labels", bytes, LABEL_BYTES + 1);
    expect_refused(0, "too long", "offset 11");
}

static void test_refuses_damaged_gzip(void **state) {
    (void)state;
    uint8_t packed[256] = {0}, bytes[IMAGE_BYTES + 1] = {0};
    write_file("labels", good_labels, LABEL_BYTES);
    size_t size = pack(good_images, IMAGE_BYTES, packed, sizeof packed);
    for (size_t n = 2; n < size; n++) {
        write_file("images", packed, n);
        expect_refused(0, "/images'", "truncated");
    }
    write_file("images", packed, size + 1);
    expect_refused(0, "behind the end of the gzip stream", "40 unpacked bytes");
    packed[size - 5] ^= 1; /* the last byte of the checksum */
    write_file("images", packed, size);
    expect_refused(0, "damaged", "data check");
    packed[size - 5] ^= 1;
    packed[size - 1] ^= 1; /* the length */
    write_file("images", packed, size);
    expect_refused(0, "damaged", "length check");
    packed[size - 1] ^= 1;
    packed[2] = 7; /* the method */
    write_file("images", packed, size);
    expect_refused(0, "damaged", "method");
    memcpy(bytes, good_images, IMAGE_BYTES);
    write_file("images", packed, pack(bytes, IMAGE_BYTES + 1, packed, sizeof packed));
    expect_refused(0, "too long", "offset 40");
    write_file("images", packed, pack(bytes, IMAGE_BYTES - 1, packed, sizeof packed));
    expect_refused(0, "truncated", "offset 16");
}

static void test_refuses_wrong_headers(void **state) {
    (void)state;
    uint8_t bytes[IMAGE_BYTES];
    write_file("labels", good_labels, LABEL_BYTES);
    memcpy(bytes, good_images, IMAGE_BYTES);
    bytes[3] = 1;
    write_file("images", bytes, IMAGE_BYTES);
    expect_refused(0, "found 0x00000801", "expected 0x00000803");
    bytes[3] = 3;
    bytes[2] = 13; /* floats */
    write_file("images", bytes, IMAGE_BYTES);
    expect_refused(0, "found 0x00000d03", "offset 0");
    bytes[2] = 8;
    for (size_t dim = 0; dim < 3; dim++) {
        bytes[7 + 4 * dim]--;
        write_file("images", bytes, IMAGE_BYTES);
        expect_refused(0, dim == 0 ? "2 images" : "too long", dim == 0 ? "3 labels" : "/images'");
        bytes[7 + 4 * dim] = 0;
        write_file("images", bytes, IMAGE_BYTES);
        expect_refused(0, "at least 1", "dimension");
        memcpy(bytes, good_images, IMAGE_BYTES);
    }
    memset(bytes + 4, 0xff, 12); /* 2^96 bytes */
    write_file("images", bytes, IMAGE_BYTES);
    expect_refused(0, "offset 8", "dimension 1");
    /* 1 GiB announced by 40 bytes: refused before memory is taken. */
    memcpy(bytes, good_images, IMAGE_BYTES);
    bytes[8] = 0x40;
    write_file("images", bytes, IMAGE_BYTES);
    uint64_t before = mezzo_ctx_memory(ctx).bytes_used_max;
    expect_refused(0, "truncated", "holds at most 24");
    assert_true(mezzo_ctx_memory(ctx).bytes_used_max - before < (uint64_t)1 << 20);
}

static void test_refuses_labels_out_of_range(void **state) {
    (void)state;
    write_file("images", good_images, IMAGE_BYTES);
    write_file("labels", good_labels, LABEL_BYTES);
    expect_refused(2, "label 2 of sample 0", "offset 8");
    uint8_t labels[LABEL_BYTES];
    memcpy(labels, good_labels, LABEL_BYTES);
    labels[10] = 10;
    write_file("labels", labels, LABEL_BYTES);
    expect_refused(10, "label 10 of sample 2", "expected 0 to 9");
    mezzo_images *images;
    assert_int_equal(open_pair(&images, 0), MEZZO_OK);
    assert_int_equal(mezzo_images_get_info(images).classes, 11);
    mezzo_images_destroy(images);
}

/* One pixel a sample, which is the sample's number; labels i % 7. */
static mezzo_images *numbered(int count) {
    uint8_t pixels[256], labels[256];
    for (int i = 0; i < count; i++) {
        pixels[i] = (uint8_t)i;
        labels[i] = (uint8_t)(i % 7);
    }
    mezzo_images *images;
    assert_int_equal(mezzo_images_from_memory(&images, ctx, pixels, labels, count, 1, 1, 1),
                     MEZZO_OK);
    return images;
}

static mezzo_loader *loader_of(const mezzo_images *images, mezzo_loader_config config,
                               int64_t position) {
    mezzo_loader *loader;
    config.scale = 255.0f;
    assert_int_equal(mezzo_loader_create(&loader, ctx, images, &config, position), MEZZO_OK);
    return loader;
}

static int sample_in(const mezzo_batch *batch, int64_t row) {
    int sample = (int)lrintf(batch->x[row]);
    assert_int_equal(batch->labels[row], sample % 7);
    return sample;
}

/* 23 samples in batches of 5: four of five epoch ends fall inside a batch. */
static void test_every_sample_once_an_epoch(void **state) {
    (void)state;
    enum {
        COUNT = 23,
        EPOCHS = 10
    };
    mezzo_images *images = numbered(COUNT);
    mezzo_loader *loader =
        loader_of(images, (mezzo_loader_config){.batch = 5, .seed = 9, .shuffle = true}, 0);
    int orders[EPOCHS][COUNT], seen[EPOCHS][COUNT] = {{0}};
    mezzo_batch batch;
    for (int64_t drawn = 0; drawn < COUNT * EPOCHS; drawn++) {
        if (drawn % 5 == 0) {
            assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
            assert_int_equal(batch.valid, 5);
            assert_int_equal(batch.position, drawn);
        }
        int sample = sample_in(&batch, drawn % 5);
        assert_int_equal(sample, mezzo_loader_sample(loader, drawn));
        orders[drawn / COUNT][drawn % COUNT] = sample;
        seen[drawn / COUNT][sample]++;
    }
    for (int e = 0; e < EPOCHS; e++)
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(seen[e][i], 1);
    for (int e = 1; e < EPOCHS; e++) /* two equal orders: once in 23! */
        assert_memory_not_equal(orders[e], orders[e - 1], sizeof orders[e]);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
}

static void test_seed_and_limit(void **state) {
    (void)state;
    mezzo_images *images = numbered(100);
    mezzo_loader_config config = {.batch = 8, .seed = 1, .shuffle = true, .limit = 10};
    mezzo_loader *a = loader_of(images, config, 0);
    config.seed = 2;
    mezzo_loader *b = loader_of(images, config, 0);
    int differ = 0;
    for (int64_t i = 0; i < 100; i++) {
        assert_in_range(mezzo_loader_sample(a, i), 0, 9);
        differ += mezzo_loader_sample(a, i) != mezzo_loader_sample(b, i);
    }
    assert_true(differ > 0);
    mezzo_loader_destroy(a);
    mezzo_loader_destroy(b);
    mezzo_images_destroy(images);
}

/* The stream from `position` with any prefetch is the stream made on demand, and so is that of a
 * loader that was elsewhere before. */
static void check_same_stream(const mezzo_images *images, mezzo_loader_config config,
                              int64_t position) {
    enum {
        BATCHES = 40
    };
    config.prefetch = 0;
    mezzo_loader *plain = loader_of(images, config, position);
    static const int depths[] = {1, 4, 0, 2};
    mezzo_loader *ahead[4];
    for (int i = 0; i < 4; i++) {
        bool was_elsewhere = i > 1;
        mezzo_batch unused;
        config.prefetch = depths[i];
        ahead[i] = loader_of(images, config, was_elsewhere ? 21 : position);
        for (int k = 0; was_elsewhere && k < 1 + position % 3; k++)
            assert_int_equal(mezzo_loader_next(ahead[i], &unused), MEZZO_OK);
        if (was_elsewhere)
            assert_int_equal(mezzo_loader_seek(ahead[i], position), MEZZO_OK);
    }
    for (int k = 0; k < BATCHES; k++) {
        mezzo_batch want, got;
        assert_int_equal(mezzo_loader_next(plain, &want), MEZZO_OK);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(mezzo_loader_next(ahead[i], &got), MEZZO_OK);
            assert_int_equal(got.valid, want.valid);
            assert_int_equal(got.position, want.position);
            size_t batch = (size_t)config.batch;
            assert_memory_equal(got.x, want.x, batch * sizeof(float));
            assert_memory_equal(got.labels, want.labels, batch * sizeof(int32_t));
        }
    }
    for (int i = 0; i < 4; i++)
        mezzo_loader_destroy(ahead[i]);
    mezzo_loader_destroy(plain);
}

static void test_prefetch_changes_nothing(void **state) {
    (void)state;
    mezzo_images *images = numbered(23);
    for (int64_t position = 0; position < 50; position += 7) {
        mezzo_loader_config config = {.batch = 6, .seed = 4, .shuffle = true};
        check_same_stream(images, config, position);
        config.shuffle = false;
        check_same_stream(images, config, position);
    }
    mezzo_images_destroy(images);
}

/* A stream started at p is the tail of the stream started at 0. */
static void test_start_position(void **state) {
    (void)state;
    mezzo_images *images = numbered(23);
    mezzo_loader_config config = {.batch = 4, .seed = 77, .shuffle = true, .prefetch = 2};
    mezzo_loader *whole = loader_of(images, config, 0);
    mezzo_loader *tail = loader_of(images, config, 1000003);
    mezzo_batch batch;
    for (int64_t k = 0; k < 20; k++) {
        assert_int_equal(mezzo_loader_next(tail, &batch), MEZZO_OK);
        assert_int_equal(batch.position, 1000003 + 4 * k);
        for (int64_t row = 0; row < 4; row++)
            assert_int_equal(sample_in(&batch, row),
                             mezzo_loader_sample(whole, batch.position + row));
    }
    mezzo_loader_destroy(tail);
    mezzo_loader_destroy(whole);
    mezzo_images_destroy(images);
}

static void check_pass(mezzo_loader *loader, int count, int batch_size, int64_t start) {
    mezzo_batch batch;
    for (int at = 0; at < count; at += batch_size) {
        int left = count - at < batch_size ? count - at : batch_size;
        assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
        assert_int_equal(batch.valid, left);
        assert_int_equal(batch.position, start + at);
        for (int row = 0; row < left; row++)
            assert_int_equal(sample_in(&batch, row), at + row);
        for (int row = left; row < batch_size; row++) {
            assert_int_equal(batch.labels[row], -1);
            assert_true(batch.x[row] == 0.0f);
        }
    }
    assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
    assert_int_equal(batch.valid, 0);
    for (int row = 0; row < batch_size; row++)
        assert_int_equal(batch.labels[row], -1);
}

static void test_unshuffled_pads_ends_and_starts_over(void **state) {
    (void)state;
    static const int sizes[][2] = {{23, 5}, {20, 5}, {3, 8}, {1, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        mezzo_images *images = numbered(sizes[i][0]);
        mezzo_loader_config config = {.batch = sizes[i][1], .prefetch = (int)i};
        mezzo_loader *loader = loader_of(images, config, 0);
        for (int pass = 0; pass < 3; pass++)
            check_pass(loader, sizes[i][0], sizes[i][1], pass * sizes[i][0]);
        mezzo_loader_destroy(loader);
        mezzo_images_destroy(images);
    }
}

static void test_normalises(void **state) {
    (void)state;
    const uint8_t bytes[] = {0, 51, 255}, labels[] = {0, 1, 2};
    mezzo_images *images;
    assert_int_equal(mezzo_images_from_memory(&images, ctx, bytes, labels, 1, 1, 1, 3), MEZZO_OK);
    mezzo_loader_config config = {.batch = 1, .mean = 0.25f, .scale = 4.0f};
    mezzo_loader *loader;
    assert_int_equal(mezzo_loader_create(&loader, ctx, images, &config, 0), MEZZO_OK);
    mezzo_batch batch;
    assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
    assert_true(batch.x[0] == -1.0f);
    assert_true(batch.x[1] == (float)((51.0 / 255.0 - 0.25) * 4.0));
    assert_true(batch.x[2] == 3.0f);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
}

static void test_floats_pass_nan_through(void **state) {
    (void)state;
    const float pixels[] = {1.5f, NAN, -INFINITY, 2.0f};
    const uint8_t labels[] = {0, 1};
    mezzo_images *images;
    assert_int_equal(mezzo_images_from_floats(&images, ctx, pixels, labels, 2, 1, 2, 1), MEZZO_OK);
    mezzo_loader_config config = {.batch = 2, .mean = 1.0f, .scale = 2.0f, .prefetch = 1};
    mezzo_loader *loader;
    assert_int_equal(mezzo_loader_create(&loader, ctx, images, &config, 0), MEZZO_OK);
    mezzo_batch batch;
    assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
    assert_true(batch.x[0] == 1.0f && batch.x[3] == 2.0f);
    assert_true(isnan(batch.x[1]) && batch.x[2] == -INFINITY);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
}

static void test_refuses_bad_configs(void **state) {
    (void)state;
    mezzo_images *images = numbered(4);
    const mezzo_loader_config bad[] = {
        {.batch = 0, .scale = 1.0f},
        {.batch = -1, .scale = 1.0f},
        {.batch = INT64_MAX, .scale = 1.0f},
        {.batch = 1},
        {.batch = 1, .scale = NAN},
        {.batch = 1, .scale = 1.0f, .mean = INFINITY},
        {.batch = 1, .scale = 1.0f, .prefetch = -1},
        {.batch = 1, .scale = 1.0f, .prefetch = 65},
        {.batch = 1, .scale = 1.0f, .limit = -1},
    };
    mezzo_loader *loader = (mezzo_loader *)&ctx;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(mezzo_loader_create(&loader, ctx, images, &bad[i], 0),
                         MEZZO_INVALID_ARGUMENT);
        assert_ptr_equal(loader, &ctx);
    }
    const mezzo_loader_config good = {.batch = 1, .scale = 1.0f};
    assert_int_equal(mezzo_loader_create(&loader, ctx, images, &good, -1), MEZZO_INVALID_ARGUMENT);
    mezzo_loader *sound = loader_of(images, good, 2);
    mezzo_batch batch;
    assert_int_equal(mezzo_loader_seek(sound, -1), MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_loader_next(sound, &batch), MEZZO_OK);
    assert_int_equal(batch.position, 2);
    mezzo_loader_destroy(sound);
    uint8_t byte = 0;
    mezzo_images *none = (mezzo_images *)&ctx;
    assert_int_equal(mezzo_images_from_memory(&none, ctx, &byte, &byte, 0, 1, 1, 1),
                     MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_images_from_memory(&none, ctx, &byte, &byte, 1, INT64_MAX, 2, 2),
                     MEZZO_INVALID_ARGUMENT);
    assert_int_equal(mezzo_images_from_memory(&none, ctx, NULL, &byte, 1, 1, 1, 1),
                     MEZZO_INVALID_ARGUMENT);
    assert_ptr_equal(none, &ctx);
    mezzo_images_destroy(images);
}

static void test_allocates_at_creation_only(void **state) {
    (void)state;
    mezzo_images *images = numbered(50);
    mezzo_loader *loader =
        loader_of(images, (mezzo_loader_config){.batch = 8, .shuffle = true, .prefetch = 3}, 0);
    uint64_t calls = mezzo_ctx_memory(ctx).alloc_count;
    mezzo_batch batch;
    for (int k = 0; k < 100; k++)
        assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
    assert_int_equal(mezzo_ctx_memory(ctx).alloc_count, calls);
    assert_true(mzi_metric_get(&ctx->metrics, MZI_METRIC_data_wait_ns) > 0);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
}

/* A signal sent to the process must find the program's own thread: with it blocked there, it stays
 * pending although the prefetch thread runs. */
static volatile sig_atomic_t signals_seen;
static void count_signal(int number) {
    (void)number;
    signals_seen++;
}
static void test_thread_blocks_signals(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = count_signal}, old;
    sigaction(SIGUSR1, &action, &old);
    mezzo_images *images = numbered(50);
    mezzo_loader *loader =
        loader_of(images, (mezzo_loader_config){.batch = 8, .shuffle = true, .prefetch = 2}, 0);
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    kill(getpid(), SIGUSR1);
    mezzo_batch batch;
    for (int k = 0; k < 20; k++)
        assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
    usleep(10000);
    assert_int_equal(signals_seen, 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(signals_seen, 1);
    sigaction(SIGUSR1, &old, NULL);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
}

static void test_destroy_at_any_moment(void **state) {
    (void)state;
    mezzo_images *images = numbered(50);
    for (int k = 0; k < 50; k++) {
        mezzo_loader *loader = loader_of(
            images, (mezzo_loader_config){.batch = 8, .shuffle = true, .prefetch = 1 + k % 5}, k);
        mezzo_batch batch;
        for (int taken = 0; taken < k % 4; taken++)
            assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
        mezzo_loader_destroy(loader);
    }
    mezzo_loader_destroy(NULL);
    mezzo_images_destroy(images);
    mezzo_images_destroy(NULL);
}

/* Every allocation fails once; nothing may be lost, and the call must say what happened. */
typedef struct failing {
    int calls_left;
} failing;
static void *failing_alloc(void *user, size_t bytes, size_t align) {
    failing *f = user;
    return f->calls_left-- == 0 ? NULL : aligned_alloc(align, (bytes + align - 1) / align * align);
}
static void failing_free(void *user, void *memory, size_t bytes) {
    (void)user;
    (void)bytes;
    free(memory);
}
static void test_survives_failed_allocations(void **state) {
    (void)state;
    uint8_t packed[256];
    write_file("images", packed, pack(good_images, IMAGE_BYTES, packed, sizeof packed));
    write_file("labels", good_labels, LABEL_BYTES);
    failing f = {.calls_left = INT32_MAX};
    mezzo_ctx_config config = {.threads = 1, .allocator = {failing_alloc, failing_free, &f}};
    mezzo_ctx *own;
    assert_int_equal(mezzo_ctx_create(&own, &config, NULL), MEZZO_OK);
    uint64_t own_held = mezzo_ctx_memory(own).bytes_used;
    bool done = false;
    int failures = 0;
    for (int nth = 0; !done; nth++) {
        f.calls_left = nth;
        mezzo_images *images = NULL;
        mezzo_loader *loader = NULL;
        const char *labels = path_of("labels");
        mezzo_status status = mezzo_images_open_idx(&images, own, path_of("images"), labels, 0);
        mezzo_loader_config loading = {.batch = 2, .scale = 1.0f, .prefetch = 1};
        if (status == MEZZO_OK)
            status = mezzo_loader_create(&loader, own, images, &loading, 0);
        done = f.calls_left >= 0;
        assert_int_equal(status, done ? MEZZO_OK : MEZZO_OUT_OF_MEMORY);
        failures += !done;
        mezzo_loader_destroy(loader);
        mezzo_images_destroy(images);
        assert_int_equal(mezzo_ctx_memory(own).bytes_used, own_held);
    }
    assert_true(failures >= 10);
    mezzo_ctx_destroy(own);
}

static void test_reads_fashion_mnist(void **state) {
    (void)state;
    const char *root = "/usr/share/datasets/fashion-mnist";
    char images_path[128], labels_path[128];
    snprintf(images_path, sizeof images_path, "%s/t10k-images-idx3-ubyte.gz", root);
    snprintf(labels_path, sizeof labels_path, "%s/t10k-labels-idx1-ubyte.gz", root);
    if (access(images_path, R_OK) != 0)
        skip(); /* Debian package dataset-fashion-mnist */
    mezzo_images *images;
    assert_int_equal(mezzo_images_open_idx(&images, ctx, images_path, labels_path, 10), MEZZO_OK);
    mezzo_images_info info = mezzo_images_get_info(images);
    assert_int_equal(info.count, 10000);
    assert_int_equal(info.H * 1000 + info.W, 28028);
    assert_int_equal(info.classes, 10);
    mezzo_loader_config config = {.batch = 128, .scale = 1.0f, .prefetch = 2};
    mezzo_loader *loader;
    assert_int_equal(mezzo_loader_create(&loader, ctx, images, &config, 0), MEZZO_OK);
    int64_t per_class[10] = {0}, batches = 0;
    for (mezzo_batch batch;;) {
        assert_int_equal(mezzo_loader_next(loader, &batch), MEZZO_OK);
        if (batch.valid == 0)
            break;
        batches++;
        for (int64_t row = 0; row < batch.valid; row++)
            per_class[batch.labels[row]]++;
    }
    assert_int_equal(batches, 79);
    for (int c = 0; c < 10; c++)
        assert_int_equal(per_class[c], 1000);
    mezzo_loader_destroy(loader);
    mezzo_images_destroy(images);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_begin, fixture_end)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_reads_plain_and_gzip),
        TEST(test_refuses_missing_and_odd_files),
        TEST(test_refuses_every_truncation),
        TEST(test_refuses_damaged_gzip),
        TEST(test_refuses_wrong_headers),
        TEST(test_refuses_labels_out_of_range),
        TEST(test_every_sample_once_an_epoch),
        TEST(test_seed_and_limit),
        TEST(test_prefetch_changes_nothing),
        TEST(test_start_position),
        TEST(test_unshuffled_pads_ends_and_starts_over),
        TEST(test_normalises),
        TEST(test_floats_pass_nan_through),
        TEST(test_refuses_bad_configs),
        TEST(test_allocates_at_creation_only),
        TEST(test_thread_blocks_signals),
        TEST(test_destroy_at_any_moment),
        TEST(test_survives_failed_allocations),
        TEST(test_reads_fashion_mnist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
