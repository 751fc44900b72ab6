/* Where a loader's samples come from: what they are, and how one is put into a batch.  The loader
 * knows their order and their number only. */
#ifndef MZI_DATA_SOURCE_H
#define MZI_DATA_SOURCE_H

#include "base/ctx.h"
#include "mezzo/data.h"

typedef struct mzi_source {
    int64_t count;       /* samples                                               */
    int64_t x_bytes;     /* of a sample's inputs                                  */
    int64_t label_count; /* of a sample                                           */
    bool gives_tokens;   /* the inputs are int32 ids; else they are FP32          */
    void *state;         /* one block from mzi_alloc, freed by mzi_source_release */
    size_t state_bytes;
    /* Sample `index` into `x` and `labels`, whatever they hold; may be called from any thread. */
    void (*fill)(const void *state, int64_t index, void *x, int32_t *labels);
} mzi_source;

/* `images` must outlive the source; of `config`, mean and scale count. */
mezzo_status mzi_source_of_images(mzi_source *out, mezzo_ctx *ctx, const mezzo_images *images,
                                  const mezzo_loader_config *config);
/* `tokens` must outlive the source; of `config`, shuffle counts: without it a last window that is
 * not full is a sample too. */
mezzo_status mzi_source_of_tokens(mzi_source *out, mezzo_ctx *ctx, const mezzo_tokens *tokens,
                                  int64_t begin, int64_t end, int64_t context,
                                  const mezzo_loader_config *config);
static inline void mzi_source_release(mezzo_ctx *ctx, mzi_source *source) {
    mzi_free(ctx, source->state, source->state_bytes);
}

#endif
