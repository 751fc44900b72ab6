/* The result of one run, for people or as JSON. */
#include "result.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "session.h"

const char *precision_label(mezzo_dtype dtype) {
    static const char *const labels[MEZZO_DTYPE_COUNT] = {
        [MEZZO_F32] = "FP32", [MEZZO_F16] = "FP16", [MEZZO_BF16] = "BF16", [MEZZO_F64] = "FP64"};
    const char *label =
        dtype > MEZZO_DTYPE_NONE && dtype < MEZZO_DTYPE_COUNT ? labels[dtype] : NULL;
    return label ? label : mezzo_dtype_name(dtype);
}

const char *metric_label(char out[MEZZO_METRIC_BYTES], const mezzo_summary *summary) {
    size_t i = 0;
    for (; summary->eval_metric[i] != '\0'; i++)
        out[i] = summary->eval_metric[i] == '_' ? ' ' : summary->eval_metric[i];
    out[i] = '\0';
    return out;
}

int print_text(mezzo_ctx *ctx, mezzo_status status, char *text) {
    if (status != MEZZO_OK)
        return report_status(ctx, status);
    size_t bytes = strlen(text);
    fputs(text, stdout);
    if (bytes == 0 || text[bytes - 1] != '\n')
        putchar('\n');
    mezzo_text_free(ctx, text);
    return EXIT_OK;
}

static void print_line(const char *name, const char *format, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static void print_line(const char *name, const char *format, ...) {
    term t = term_of(stdout);
    printf("  %s%-9s%s", term_style(&t, STYLE_DIM), name, term_style(&t, STYLE_PLAIN));
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void print_training(const mezzo_summary *s) {
    char first[NUMBER_BYTES], second[NUMBER_BYTES], third[NUMBER_BYTES];
    const double scale = (double)s->loss_scale_last;
    bool tokens = s->tokens_per_s > 0.0;
    print_line("speed", "%.1f ms a step (median), %s %s/s", s->step_ms_median,
               format_count(first, tokens ? s->tokens_per_s : s->samples_per_s),
               tokens ? "tokens" : "samples");
    print_line("loss", "%.4f in the first step, %.4f in the last", s->loss_first, s->loss_last);
    if (s->skipped_steps > 0 || scale != 1.0)
        print_line("skipped", "%s of %s attempts; the loss scale ended at %s",
                   format_count(first, (double)s->skipped_steps),
                   format_count(second, (double)(s->skipped_steps + s->steps)),
                   format_power(third, scale));
}

int print_summary(mezzo_ctx *ctx, const mezzo_summary *s, bool json) {
    if (json) {
        char *text = NULL;
        mezzo_status status = mezzo_summary_json(ctx, s, &text);
        return print_text(ctx, status, text);
    }
    term t = term_of(stdout);
    char first[NUMBER_BYTES], second[NUMBER_BYTES], metric[MEZZO_METRIC_BYTES];
    printf("%s%s: ", term_style(&t, STYLE_BOLD), precision_label(s->precision));
    if (s->eval_metric[0] != '\0')
        printf("%s %.4f, loss %.4f", metric_label(metric, s), s->eval_value, s->eval_loss);
    else
        printf("not evaluated");
    printf("%s", term_style(&t, STYLE_PLAIN));
    if (s->steps > 0)
        printf(", %s after %s steps in %s", s->status, format_count(first, (double)s->steps),
               format_time(second, s->train_s));
    putchar('\n');
    if (s->has_average)
        print_line("average", "%s %.4f, loss %.4f", metric_label(metric, s), s->ema_eval_value,
                   s->ema_eval_loss);
    if (s->train_s > 0.0) /* a run that was at its end already has no step of its own */
        print_training(s);
    if (strncmp(s->eval_metric, "bits", 4) == 0)
        print_line("text", "perplexity %.3f a token", exp(s->eval_loss));
    print_line("memory", "%s planned, %s at the peak",
               format_bytes(first, (double)s->planned_bytes),
               format_bytes(second, (double)s->peak_rss_bytes));
    if (s->fallback_kernels > 0)
        print_line("fallback", "%d kernels do not compute in %s; mezzo plan shows them",
                   s->fallback_kernels, precision_label(s->precision));
    if (s->run_dir[0] != '\0')
        print_line("run", "%s", s->run_dir);
    return EXIT_OK;
}
