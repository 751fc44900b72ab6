/* A prompt continued, token by token. */
#include <float.h>
#include <inttypes.h>
#include <string.h>

#include "run/prompt.h"
#include "run/report.h"
#include "run/runner.h"
#include "run/sampler.h"
#include "run/utf8_stream.h"
#include "train/model.h"

typedef struct sampling {
    mezzo_ctx *ctx;
    mzi_experiment e;
    const mezzo_sample_config *config;
    mzi_prompt prompt;
    mzi_utf8_stream text;
    int64_t logit_count; /* rows of the embedding: tokens, and padding */
    int32_t drawable;    /* tokens below it are drawn                  */
    float *logits;
    mzi_sampler_work work;
    mezzo_sample_result result;
} sampling;

static mezzo_status check_config(mezzo_ctx *ctx, const mezzo_sample_config *c) {
    if (c->tokens < 1)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "tokens is %" PRId64 "; at least 1", c->tokens);
    if (!(c->temperature >= 0.0 && c->temperature <= DBL_MAX))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "temperature is %g; 0 or more, and finite",
                 c->temperature);
    if (c->top_k < 0)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "top_k is %" PRId32 "; 0 (all) or more", c->top_k);
    if (!(c->top_p > 0.0 && c->top_p <= 1.0))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "top_p is %g; above 0, and at most 1 (all)",
                 c->top_p);
    if (c->prompt_bytes > 0 && !c->prompt)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "the prompt has %zu bytes and is null",
                 c->prompt_bytes);
    return MEZZO_OK;
}

static mezzo_status check_prompt(const sampling *s) {
    int64_t context = s->e.data.shape.context;
    if ((int64_t)s->prompt.count > context)
        MZI_FAIL(s->ctx, MEZZO_CONFIG,
                 "the prompt has %zu tokens, and model.context is %lld: give a shorter prompt, or "
                 "a model that was trained with a longer context",
                 s->prompt.count, (long long)context);
    return MEZZO_OK;
}

static mezzo_status find_logits(sampling *s) {
    MZI_TRY(mzi_model_ensure(s->e.model, MEZZO_ENTRY_DECODE));
    const mezzo_graph *graph = s->e.model->entries[MEZZO_ENTRY_DECODE].plan->graph;
    for (int32_t k = 0; k < graph->output_count; k++)
        if (strcmp(graph->outputs[k].name, "logits") == 0)
            s->logit_count = mezzo_shape_count(graph->values[graph->outputs[k].value].tensor.shape);
    if (s->logit_count < s->drawable)
        MZI_FAIL(s->ctx, MEZZO_CONFIG,
                 "model.kind %s does not decode: its entry for that has %lld logits, for %d tokens",
                 s->e.kind->name, (long long)s->logit_count, (int)s->drawable);
    return MEZZO_OK;
}

static mezzo_status allocate(sampling *s) {
    size_t V = (size_t)s->logit_count;
    s->logits = mzi_alloc(s->ctx, V * sizeof *s->logits);
    s->work.weights = mzi_alloc(s->ctx, V * sizeof *s->work.weights);
    s->work.heap = mzi_alloc(s->ctx, V * sizeof *s->work.heap);
    if (!s->logits || !s->work.weights || !s->work.heap)
        return mzi_out_of_memory(s->ctx, V * sizeof *s->work.weights, "the logits");
    return MEZZO_OK;
}

static mezzo_status prepare(sampling *s, mezzo_runner *runner, const mezzo_config *config,
                            const char *weights) {
    MZI_TRY(mzi_experiment_create_decoder(&s->e, runner, config, weights));
    mezzo_tokenizer *tokenizer = s->e.data.tokenizer;
    s->drawable = s->e.data.shape.classes;
    if (tokenizer && mezzo_tokenizer_vocab(tokenizer) < s->drawable)
        s->drawable = mezzo_tokenizer_vocab(tokenizer);
    MZI_TRY(mzi_prompt_read(&s->prompt, s->ctx, tokenizer, s->drawable, s->config->prompt,
                            s->config->prompt_bytes));
    MZI_TRY(check_prompt(s));
    MZI_TRY(mzi_experiment_load(&s->e, weights));
    MZI_TRY(find_logits(s));
    return allocate(s);
}

static mezzo_status read_token(sampling *s, int32_t token, int32_t position) {
    const mezzo_binding inputs[] = {{"tokens", &token, sizeof token},
                                    {"position", &position, sizeof position}};
    return mezzo_model_decode(s->e.model, inputs, 2);
}

static mezzo_status draw_token(sampling *s, int64_t position, int32_t *token) {
    MZI_TRY(
        mezzo_model_output(s->e.model, MEZZO_ENTRY_DECODE, "logits", s->logits, s->logit_count));
    return mzi_sample(s->ctx, s->logits, s->drawable, s->config, (uint64_t)position, &s->work,
                      token);
}

static mezzo_status emit(sampling *s, int32_t token) {
    mezzo_tokenizer *tokenizer = s->e.data.tokenizer;
    if (!tokenizer) {
        char id[16];
        size_t bytes =
            mzi_format(id, sizeof id, "%s%" PRId32, s->result.tokens > 0 ? " " : "", token);
        mzi_utf8_stream_put(&s->text, id, bytes);
        return MEZZO_OK;
    }
    char *text;
    size_t bytes;
    MZI_TRY(mezzo_tokenizer_decode(tokenizer, &token, 1, &text, &bytes));
    mzi_utf8_stream_put(&s->text, text, bytes);
    mezzo_tokenizer_free_text(tokenizer, text, bytes);
    return MEZZO_OK;
}

/* Tokens behind the prompt, one for each that was read. */
static mezzo_status generate(sampling *s) {
    mezzo_sample_result *r = &s->result;
    const mezzo_tokenizer *tokenizer = s->e.data.tokenizer;
    int32_t end_of_text = tokenizer ? mezzo_tokenizer_end_of_text(tokenizer) : -1, token;
    int64_t position = r->prompt_tokens;
    for (;; position++) {
        MZI_TRY(draw_token(s, position, &token));
        if (token != end_of_text)
            MZI_TRY(emit(s, token));
        r->tokens++;
        r->ended_by = token == end_of_text                  ? "end_of_text"
                      : r->tokens == s->config->tokens      ? "tokens"
                      : position == s->e.data.shape.context ? "context"
                                                            : NULL;
        if (r->ended_by)
            return MEZZO_OK;
        MZI_TRY(read_token(s, token, (int32_t)position));
    }
}

static mezzo_status run(sampling *s) {
    mezzo_sample_result *r = &s->result;
    int64_t begin = mzi_clock_ns();
    for (; r->prompt_tokens < (int64_t)s->prompt.count; r->prompt_tokens++)
        MZI_TRY(read_token(s, s->prompt.ids[r->prompt_tokens], (int32_t)r->prompt_tokens));
    MZI_TRY(generate(s));
    mzi_utf8_stream_end(&s->text);
    r->seconds = (double)(mzi_clock_ns() - begin) * 1e-9;
    /* The last token drawn is not read. */
    r->tokens_per_s = (double)(r->prompt_tokens + r->tokens - 1) / r->seconds;
    if (strcmp(r->ended_by, "context") == 0)
        mzi_log(s->ctx, MEZZO_LOG_WARNING,
                "the sample ends after %" PRId64 " of %" PRId64 " tokens: with a prompt of %" PRId64
                " it has reached the end of model.context, %" PRId64,
                r->tokens, s->config->tokens, r->prompt_tokens, s->e.data.shape.context);
    return MEZZO_OK;
}

static void release(sampling *s) {
    size_t V = (size_t)s->logit_count;
    mzi_free(s->ctx, s->logits, V * sizeof *s->logits);
    mzi_free(s->ctx, s->work.weights, V * sizeof *s->work.weights);
    mzi_free(s->ctx, s->work.heap, V * sizeof *s->work.heap);
    mzi_prompt_free(&s->prompt);
    mzi_experiment_destroy(&s->e);
}

mezzo_status mezzo_run_sample(mezzo_runner *runner, const mezzo_config *config, const char *weights,
                              const mezzo_sample_config *sample,
                              void (*emit_text)(void *user, const char *text, size_t bytes),
                              void *user, mezzo_sample_result *out) {
    sampling s = {.ctx = runner->ctx, .config = sample, .text = {.emit = emit_text, .user = user}};
    mzi_error_clear(runner->ctx);
    if (!weights || !sample || !emit_text || !out)
        MZI_FAIL(runner->ctx, MEZZO_INVALID_ARGUMENT,
                 "the weights' path, the settings, the sink of the text or the result are null");
    MZI_TRY(check_config(runner->ctx, sample));
    mezzo_status status = prepare(&s, runner, config, weights);
    if (status == MEZZO_OK)
        status = run(&s);
    release(&s);
    if (status == MEZZO_OK)
        *out = s.result;
    return status;
}

mezzo_status mezzo_sample_json(mezzo_ctx *ctx, const mezzo_sample_result *result, const char *text,
                               size_t bytes, char **out) {
    mzi_error_clear(ctx);
    json_t *root = json_pack("{s:o, s:I, s:I, s:f, s:f, s:s}", "text", json_stringn(text, bytes),
                             "prompt_tokens", (json_int_t)result->prompt_tokens, "tokens",
                             (json_int_t)result->tokens, "seconds", result->seconds, "tokens_per_s",
                             result->tokens_per_s, "ended_by", result->ended_by);
    return mzi_report_json(ctx, root, out);
}
