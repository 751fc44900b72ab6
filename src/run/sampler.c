#include "run/sampler.h"

#include <float.h>
#include <math.h>

#include "base/rng.h"

/* The largest logit, the first of equal ones. */
static mezzo_status find_largest(mezzo_ctx *ctx, const float *logits, int32_t vocab,
                                 uint64_t position, int32_t *out) {
    int32_t best = 0;
    for (int32_t i = 0; i < vocab; i++) {
        if (!(logits[i] < INFINITY)) /* true of NaN too */
            MZI_FAIL(
                ctx, MEZZO_NUMERICS,
                "position %llu: the logit of token %d is %f: the weights are beyond repair, or "
                "precision.compute is too narrow for them (f32 is the widest)",
                (unsigned long long)position, (int)i, (double)logits[i]);
        if (logits[i] > logits[best])
            best = i;
    }
    if (!(logits[best] > -INFINITY))
        MZI_FAIL(ctx, MEZZO_NUMERICS,
                 "position %llu: the logits of all %d tokens are minus infinity: the weights are "
                 "beyond repair",
                 (unsigned long long)position, (int)vocab);
    *out = best;
    return MEZZO_OK;
}

/* Token `a` is kept before `b`. */
static bool is_before(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* heap[0..count), a tree in which every token is before its children 2i + 1 and 2i + 2, but for the
 * one at `at`, which sinks to its place. */
static void sink(int32_t *heap, int32_t count, int32_t at, const float *logits) {
    int32_t token = heap[at];
    while (at < count / 2) {
        int32_t child = 2 * at + 1;
        if (child + 1 < count && is_before(logits, heap[child + 1], heap[child]))
            child++;
        if (!is_before(logits, heap[child], token))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = token;
}

/* Takes the next token in their order out of the heap. */
static int32_t pop(int32_t *heap, int32_t *count, const float *logits) {
    int32_t token = heap[0];
    heap[0] = heap[--*count];
    sink(heap, *count, 0, logits);
    return token;
}

/* The first tokens in their order, until there are `most` of them or their weights reach `enough`;
 * the others get the weight 0. */
static void keep(const float *logits, int32_t vocab, int32_t most, double enough,
                 const mzi_sampler_work *work) {
    int32_t *heap = work->heap, count = vocab;
    double reached = 0.0;
    for (int32_t i = 0; i < vocab; i++)
        heap[i] = i;
    for (int32_t i = vocab / 2 - 1; i >= 0; i--)
        sink(heap, vocab, i, logits);
    while (count > vocab - most && reached < enough)
        reached += work->weights[pop(heap, &count, logits)];
    for (int32_t i = 0; i < count; i++)
        work->weights[heap[i]] = 0.0;
}

static double sum_of(const double *weights, int32_t vocab) {
    double sum = 0.0;
    for (int32_t i = 0; i < vocab; i++)
        sum += weights[i];
    return sum;
}

/* [0, 1), 53 bits: a function of seed and position. */
static double uniform(uint64_t seed, uint64_t position) {
    uint32_t words[4];
    mzi_rng4(words, seed, mzi_name_hash("sample"), position, 0);
    return ((double)(words[0] >> 5) * 0x1p26 + (double)(words[1] >> 6)) * 0x1p-53;
}

/* The first token at which the running sum passes u times the whole.  There is one: both are summed
 * in the same order, and u <= 1 - 2^-53 rounds u sum to less than sum.  A weight of 0 passes
 * nothing. */
static int32_t draw(const double *weights, int32_t vocab, double u) {
    double target = u * sum_of(weights, vocab), reached = 0.0;
    for (int32_t i = 0; i + 1 < vocab; i++) {
        reached += weights[i];
        if (reached > target)
            return i;
    }
    return vocab - 1;
}

mezzo_status mzi_sample(mezzo_ctx *ctx, const float *logits, int32_t vocab,
                        const mezzo_sample_config *config, uint64_t position,
                        const mzi_sampler_work *work, int32_t *out) {
    int32_t best = 0;
    MZI_TRY(find_largest(ctx, logits, vocab, position, &best));
    if (config->temperature <= 0.0) {
        *out = best;
        return MEZZO_OK;
    }
    for (int32_t i = 0; i < vocab; i++) {
        double below = (double)logits[i] - (double)logits[best];
        work->weights[i] = exp(below / config->temperature);
    }
    if (config->top_k > 0 && config->top_k < vocab)
        keep(logits, vocab, config->top_k, DBL_MAX, work);
    if (config->top_p < 1.0)
        keep(logits, vocab, vocab, config->top_p * sum_of(work->weights, vocab), work);
    *out = draw(work->weights, vocab, uniform(config->seed, position));
    return MEZZO_OK;
}
