/* Windows over a sequence of tokens as samples, packed end to end:
 *
 *   tokens    begin          begin + T        begin + 2T         end
 *               |---- sample 0 ---|---- sample 1 ---|- (tail) -|t|
 *   inputs       t[0] ... t[T-1]   t[T] ... t[2T-1]
 *   labels       t[1] ... t[T]     t[T+1] ... t[2T]
 *
 * Every token but the first is the label of one position; the last one, t, is no input. */
#include <inttypes.h>

#include "data/source.h"
#include "data/tokens.h"

/* 4 GiB of ids: a batch of one is within what a loader takes. */
#define CONTEXT_MAX ((int64_t)1 << 30)

typedef struct token_source {
    const mezzo_tokens *tokens;
    int64_t begin, end, context;
} token_source;

static void fill(const void *state, int64_t index, void *x, int32_t *labels) {
    const token_source *source = state;
    int64_t at = source->begin + index * source->context;
    int64_t left = source->end - 1 - at;
    int64_t used = left < source->context ? left : source->context;
    int32_t *inputs = x;
    mzi_tokens_copy(source->tokens, at, used, inputs);
    mzi_tokens_copy(source->tokens, at + 1, used, labels);
    for (int64_t i = used; i < source->context; i++) {
        inputs[i] = 0;
        labels[i] = -1;
    }
}

mezzo_status mzi_source_of_tokens(mzi_source *out, mezzo_ctx *ctx, const mezzo_tokens *tokens,
                                  int64_t begin, int64_t end, int64_t context,
                                  const mezzo_loader_config *config) {
    if (!tokens || !config)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%s is null", tokens ? "config" : "tokens");
    if (begin < 0 || begin > end || end > tokens->info.count)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "tokens %" PRId64 " to %" PRId64 " of %" PRId64
                 "; give a part that begins before it ends, and ends there at most",
                 begin, end, tokens->info.count);
    const int64_t context_max = INT64_MAX / (int64_t)sizeof(int32_t);
    if (context < 1 || context > context_max)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "a context of %" PRId64 " tokens; give 1 to %" PRId64,
                 context, context_max);
    int64_t labels = end > begin ? end - begin - 1 : 0;
    int64_t count = labels / context;
    if (!config->shuffle && labels % context > 0)
        count++;
    if (count == 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "tokens %" PRId64 " to %" PRId64 " are %" PRId64
                 ", and a sample with a context of %" PRId64 " takes at least %" PRId64
                 "; use more text or a shorter context",
                 begin, end, end - begin, context, config->shuffle ? context + 1 : 2);
    token_source *source = mzi_alloc(ctx, sizeof *source);
    if (!source)
        return mzi_out_of_memory(ctx, sizeof *source, "a loader");
    *source = (token_source){tokens, begin, end, context};
    *out = (mzi_source){.count = count,
                        .x_bytes = context * (int64_t)sizeof(int32_t),
                        .label_count = context,
                        .gives_tokens = true,
                        .state = source,
                        .state_bytes = sizeof *source,
                        .fill = fill};
    return MEZZO_OK;
}
