/* From a configuration to batches: what a run trains and evaluates on. */
#ifndef MZI_RUN_DATASET_H
#define MZI_RUN_DATASET_H

#include "base/ctx.h"
#include "mezzo/data.h"
#include "mezzo/run.h"
#include "mezzo/tokenizer.h"
#include "mezzo/tokens.h"

typedef struct mzi_dataset {
    mezzo_ctx *ctx;
    mezzo_data_kind kind;
    mezzo_data_shape shape; /* of a micro-batch                                      */
    int64_t step_batch;     /* samples of a step: all its micro-batches              */
    int64_t train_count;    /* samples of an epoch                                   */
    mezzo_loader *train, *test;
    mezzo_images *train_images, *test_images;
    mezzo_tokenizer *tokenizer;               /* of text; null for token files          */
    mezzo_tokens *train_tokens, *test_tokens; /* test: null if it is a part of `train`  */
    int64_t test_begin, test_end;             /* validation tokens                      */
    double bytes_per_token;                   /* of what is validated; 0: unknown       */
} mzi_dataset;

/* Inputs of the graph for a batch. */
typedef struct mzi_feed {
    mezzo_binding inputs[2];
    int64_t valid; /* samples that are no padding; 0 at the end of a pass */
} mzi_feed;

/* `kind` is what the model takes.  Close it after a failure too. */
mezzo_status mzi_dataset_open(mzi_dataset *d, mezzo_ctx *ctx, const mezzo_config *config,
                              mezzo_data_kind kind);
void mzi_dataset_close(mzi_dataset *d);
/* What sampling needs instead: the shape of one sequence, and the tokenizer, from data.tokenizer
 * for token files too.  It stays null if ids stand for no text that is known: data.kind random, an
 * empty data.tokenizer, or bytes with a vocabulary that is not theirs.  No file of data is opened,
 * so for a token file data.vocab, model.vocab or the tokenizer says how many tokens there are. */
mezzo_status mzi_dataset_open_tokenizer(mzi_dataset *d, mezzo_ctx *ctx, const mezzo_config *config);
/* The next step's samples, or the next batch of the test split. */
mezzo_status mzi_dataset_next_step(mzi_dataset *d, mzi_feed *out);
mezzo_status mzi_dataset_next_test(mzi_dataset *d, mzi_feed *out);
/* Tokens of a sample; 1 for images: what `loss` is a mean over. */
int64_t mzi_dataset_rows(const mzi_dataset *d);
/* The figure that an evaluation is judged by: "accuracy", or "bits_per_byte" ("bits_per_token" if
 * the text is unknown) = loss / ln 2 / bytes_per_token. */
const char *mzi_dataset_metric(const mzi_dataset *d, double loss, double accuracy, double *value);

#endif
