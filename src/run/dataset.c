#include "run/dataset.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

/* Random tokens: enough that no window comes twice in a benchmark. */
#define RANDOM_TOKENS ((int64_t)1 << 24)
#define BYTES_VOCAB 256

/* The plain file if it is there, else the compressed one: the name that an error shows. */
static void idx_path(char *out, size_t capacity, const char *folder, const char *split,
                     const char *part) {
    mzi_format(out, capacity, "%s/%s-%s-ubyte", folder, split, part);
    if (access(out, F_OK) != 0)
        mzi_format(out, capacity, "%s/%s-%s-ubyte.gz", folder, split, part);
}

static mezzo_status open_split(mzi_dataset *d, const mezzo_config *config, const char *split,
                               int32_t classes, mezzo_images **out) {
    char images[4096], labels[4096];
    const char *folder = mezzo_config_text(config, "data.path");
    if (folder[0] == '\0')
        folder = "/usr/share/datasets/fashion-mnist";
    idx_path(images, sizeof images, folder, split, "images-idx3");
    idx_path(labels, sizeof labels, folder, split, "labels-idx1");
    return mezzo_images_open_idx(out, d->ctx, images, labels, classes);
}

static mezzo_loader_config loader_config(const mzi_dataset *d, const mezzo_config *c, bool train) {
    return (mezzo_loader_config){.batch = train ? d->step_batch : d->shape.batch,
                                 .seed = (uint64_t)mezzo_config_int(c, "train.seed"),
                                 .shuffle = train,
                                 .mean = (float)mezzo_config_real(c, "data.mean"),
                                 .scale = (float)(1.0 / mezzo_config_real(c, "data.std")),
                                 .prefetch = 2,
                                 .limit =
                                     mezzo_config_int(c, train ? "data.limit" : "data.test_limit")};
}

static int64_t limited(const mezzo_config *c, int64_t count) {
    int64_t limit = mezzo_config_int(c, "data.limit");
    return limit > 0 && limit < count ? limit : count;
}

static mezzo_status open_images(mzi_dataset *d, const mezzo_config *c) {
    MZI_TRY(open_split(d, c, "train", 0, &d->train_images));
    mezzo_images_info info = mezzo_images_get_info(d->train_images);
    d->shape.H = info.H;
    d->shape.W = info.W;
    d->shape.C = info.C;
    d->shape.classes = info.classes;
    d->train_count = limited(c, info.count);
    MZI_TRY(open_split(d, c, "t10k", info.classes, &d->test_images));
    mezzo_images_info test = mezzo_images_get_info(d->test_images);
    if (test.H != info.H || test.W != info.W || test.C != info.C)
        MZI_FAIL(d->ctx, MEZZO_DATA,
                 "training images are %lldx%lldx%lld, test images %lldx%lldx%lld",
                 (long long)info.H, (long long)info.W, (long long)info.C, (long long)test.H,
                 (long long)test.W, (long long)test.C);
    const mezzo_loader_config train_config = loader_config(d, c, true);
    const mezzo_loader_config test_config = loader_config(d, c, false);
    MZI_TRY(mezzo_loader_create(&d->train, d->ctx, d->train_images, &train_config, 0));
    return mezzo_loader_create(&d->test, d->ctx, d->test_images, &test_config, 0);
}

static mezzo_status require_path(const mzi_dataset *d, const mezzo_config *c, const char *what) {
    if (mezzo_config_text(c, "data.path")[0] == '\0')
        MZI_FAIL(d->ctx, MEZZO_CONFIG, "%s: data.path is empty; data.kind %s needs %s",
                 mezzo_config_origin(c, "data.path"), mezzo_config_text(c, "data.kind"), what);
    return MEZZO_OK;
}

static mezzo_status open_tokenizer(mzi_dataset *d, const mezzo_config *c) {
    const char *name = mezzo_config_text(c, "data.tokenizer");
    if (strcmp(name, "bytes") == 0)
        return mezzo_tokenizer_bytes(&d->tokenizer, d->ctx);
    return mezzo_tokenizer_open(&d->tokenizer, d->ctx, name);
}

static mezzo_status encode(mzi_dataset *d, const char *text, size_t bytes, mezzo_tokens **out) {
    int32_t *ids;
    size_t count;
    MZI_TRY(mezzo_tokenizer_encode(d->tokenizer, text, bytes, true, &ids, &count));
    mezzo_status status = mezzo_tokens_from_memory(
        out, d->ctx, ids, (int64_t)count, mezzo_tokenizer_vocab(d->tokenizer),
        mezzo_tokenizer_end_of_text(d->tokenizer), (int64_t)bytes);
    mezzo_tokenizer_free_ids(d->tokenizer, ids, count);
    return status;
}

static mezzo_status open_text(mzi_dataset *d, const char *path, mezzo_tokens **out) {
    char *text;
    size_t bytes;
    MZI_TRY(mezzo_text_read(d->ctx, path, &text, &bytes));
    mezzo_status status = encode(d, text, bytes, out);
    mezzo_text_release(d->ctx, text, bytes);
    return status;
}

static mezzo_status open_one(mzi_dataset *d, const mezzo_config *c, const char *path,
                             mezzo_tokens **out) {
    const char *kind = mezzo_config_text(c, "data.kind");
    int32_t vocab = (int32_t)mezzo_config_int(c, "data.vocab");
    if (strcmp(kind, "text") == 0)
        return open_text(d, path, out);
    return mezzo_tokens_open(out, d->ctx, path, vocab);
}

static mezzo_status open_random(mzi_dataset *d, const mezzo_config *c) {
    int32_t vocab = (int32_t)mezzo_config_int(c, "data.vocab");
    if (vocab == 0)
        MZI_FAIL(d->ctx, MEZZO_CONFIG,
                 "%s: data.vocab is 0; data.kind random needs a number of tokens",
                 mezzo_config_origin(c, "data.vocab"));
    return mezzo_tokens_random(&d->train_tokens, d->ctx, RANDOM_TOKENS, vocab,
                               (uint64_t)mezzo_config_int(c, "train.seed"));
}

static mezzo_status open_sequences(mzi_dataset *d, const mezzo_config *c) {
    const char *kind = mezzo_config_text(c, "data.kind");
    const char *validation = mezzo_config_text(c, "data.validation_path");
    if (strcmp(kind, "random") == 0)
        return open_random(d, c);
    bool text = strcmp(kind, "text") == 0;
    MZI_TRY(
        require_path(d, c, text ? "a text file" : "a file of tokens (mezzo tokenize makes one)"));
    if (text)
        MZI_TRY(open_tokenizer(d, c));
    MZI_TRY(open_one(d, c, mezzo_config_text(c, "data.path"), &d->train_tokens));
    return validation[0] ? open_one(d, c, validation, &d->test_tokens) : MEZZO_OK;
}

/* Bytes of text that a predicted token of the validation split stands for. */
static double bytes_per_token(const mzi_dataset *d, const mezzo_tokens *test) {
    mezzo_tokens_info info = mezzo_tokens_get_info(test);
    if (!d->tokenizer)
        return (double)info.text_bytes / (double)info.count;
    int64_t bytes = 0;
    for (int64_t i = d->test_begin + 1; i < d->test_end; i++)
        bytes += mezzo_tokenizer_token_bytes(d->tokenizer, mezzo_tokens_at(test, i));
    return (double)bytes / (double)(d->test_end - d->test_begin - 1);
}

static mezzo_status open_tokens(mzi_dataset *d, const mezzo_config *c) {
    MZI_TRY(open_sequences(d, c));
    mezzo_tokens_info info = mezzo_tokens_get_info(d->train_tokens);
    const mezzo_tokens *test = d->test_tokens ? d->test_tokens : d->train_tokens;
    int64_t T = mezzo_config_int(c, "model.context"), train_end = info.count;
    d->shape.context = T;
    d->shape.classes = info.vocab;
    d->test_end = mezzo_tokens_get_info(test).count;
    if (d->test_tokens) {
        int32_t vocab = mezzo_tokens_get_info(test).vocab;
        d->shape.classes = vocab > info.vocab ? vocab : info.vocab;
    } else {
        MZI_TRY(mezzo_tokens_split(d->train_tokens, mezzo_config_real(c, "data.validation"), T + 1,
                                   &train_end));
        d->test_begin = train_end;
    }
    d->train_count = limited(c, (train_end - 1) / T);
    d->bytes_per_token = bytes_per_token(d, test);
    const mezzo_loader_config train_config = loader_config(d, c, true);
    const mezzo_loader_config test_config = loader_config(d, c, false);
    MZI_TRY(mezzo_loader_create_tokens(&d->train, d->ctx, d->train_tokens, 0, train_end, T,
                                       &train_config, 0));
    return mezzo_loader_create_tokens(&d->test, d->ctx, test, d->test_begin, d->test_end, T,
                                      &test_config, 0);
}

static mezzo_status check_kind(const mzi_dataset *d, const mezzo_config *config) {
    const char *name = mezzo_config_text(config, "data.kind");
    bool images = strcmp(name, "idx") == 0;
    if (images != (d->kind == MEZZO_DATA_IMAGES))
        MZI_FAIL(d->ctx, MEZZO_CONFIG, "%s: data.kind is %s, and the model %s takes %s",
                 mezzo_config_origin(config, "data.kind"), name,
                 mezzo_config_text(config, "model.kind"),
                 images ? "tokens: text, tokens or random" : "images: idx");
    return MEZZO_OK;
}

mezzo_status mzi_dataset_open(mzi_dataset *d, mezzo_ctx *ctx, const mezzo_config *config,
                              mezzo_data_kind kind) {
    *d = (mzi_dataset){.ctx = ctx, .kind = kind};
    d->shape.batch = mezzo_config_int(config, "data.batch");
    d->step_batch = d->shape.batch * mezzo_config_int(config, "train.accumulate");
    MZI_TRY(check_kind(d, config));
    return kind == MEZZO_DATA_IMAGES ? open_images(d, config) : open_tokens(d, config);
}

/* Does data.tokenizer make the ids that the data has?  `vocab` 0: nobody says how many there are.
 */
static bool has_tokenizer(const mezzo_config *c, int64_t vocab) {
    const char *kind = mezzo_config_text(c, "data.kind");
    const char *name = mezzo_config_text(c, "data.tokenizer");
    if (strcmp(kind, "text") == 0)
        return true;
    if (strcmp(kind, "random") == 0 || name[0] == '\0')
        return false;
    return strcmp(name, "bytes") != 0 || vocab == 0 || vocab == BYTES_VOCAB;
}

mezzo_status mzi_dataset_open_tokenizer(mzi_dataset *d, mezzo_ctx *ctx,
                                        const mezzo_config *config) {
    *d = (mzi_dataset){.ctx = ctx, .kind = MEZZO_DATA_TOKENS};
    d->shape.batch = 1;
    d->shape.context = mezzo_config_int(config, "model.context");
    MZI_TRY(check_kind(d, config));
    bool text = strcmp(mezzo_config_text(config, "data.kind"), "text") == 0;
    int64_t vocab = text ? 0 : mezzo_config_int(config, "data.vocab");
    if (has_tokenizer(config, vocab ? vocab : mezzo_config_int(config, "model.vocab"))) {
        MZI_TRY(open_tokenizer(d, config));
        if (vocab == 0)
            vocab = mezzo_tokenizer_vocab(d->tokenizer);
    } else if (vocab == 0) {
        vocab = mezzo_config_int(config, "model.vocab");
    }
    if (vocab == 0)
        MZI_FAIL(ctx, MEZZO_CONFIG,
                 "%s: data.vocab is 0, and there is no tokenizer that says how many tokens there "
                 "are: set data.vocab or data.tokenizer",
                 mezzo_config_origin(config, "data.vocab"));
    d->shape.classes = (int32_t)vocab;
    return MEZZO_OK;
}

void mzi_dataset_close(mzi_dataset *d) {
    mezzo_loader_destroy(d->train);
    mezzo_loader_destroy(d->test);
    mezzo_images_destroy(d->train_images);
    mezzo_images_destroy(d->test_images);
    mezzo_tokens_destroy(d->train_tokens);
    mezzo_tokens_destroy(d->test_tokens);
    mezzo_tokenizer_destroy(d->tokenizer);
}

static mezzo_status next(const mzi_dataset *d, mezzo_loader *loader, int64_t samples,
                         mzi_feed *out) {
    mezzo_batch batch;
    MZI_TRY(mezzo_loader_next(loader, &batch));
    const mezzo_data_shape *s = &d->shape;
    bool tokens = d->kind == MEZZO_DATA_TOKENS;
    size_t x_bytes = tokens ? (size_t)(samples * s->context) * sizeof(int32_t)
                            : (size_t)(samples * s->H * s->W * s->C) * sizeof(float);
    out->inputs[0] =
        (mezzo_binding){tokens ? "tokens" : "x",
                        tokens ? (const void *)batch.tokens : (const void *)batch.x, x_bytes};
    out->inputs[1] = (mezzo_binding){"labels", batch.labels,
                                     (size_t)(samples * mzi_dataset_rows(d)) * sizeof(int32_t)};
    out->valid = batch.valid;
    return MEZZO_OK;
}

mezzo_status mzi_dataset_next_step(mzi_dataset *d, mzi_feed *out) {
    return next(d, d->train, d->step_batch, out);
}

mezzo_status mzi_dataset_next_test(mzi_dataset *d, mzi_feed *out) {
    return next(d, d->test, d->shape.batch, out);
}

int64_t mzi_dataset_rows(const mzi_dataset *d) {
    return d->kind == MEZZO_DATA_TOKENS ? d->shape.context : 1;
}

const char *mzi_dataset_metric(const mzi_dataset *d, double loss, double accuracy, double *value) {
    if (d->kind == MEZZO_DATA_IMAGES) {
        *value = accuracy;
        return "accuracy";
    }
    bool known = d->bytes_per_token > 0.0;
    *value = loss / log(2.0) / (known ? d->bytes_per_token : 1.0);
    return known ? "bits_per_byte" : "bits_per_token";
}
