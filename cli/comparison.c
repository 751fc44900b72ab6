/* FP32 beside another precision: the table, the verdict, and both as JSON. */
#include <math.h>
#include <string.h>

#include "result.h"
#include "session.h"

typedef double figure_fn(const mezzo_summary *s);
typedef const char *format_fn(char out[NUMBER_BYTES], double value);

static double train_time(const mezzo_summary *s) {
    return s->train_s;
}
static double step_time(const mezzo_summary *s) {
    return s->step_ms_median;
}
static double speed(const mezzo_summary *s) {
    return s->samples_per_s;
}
static double tokens_speed(const mezzo_summary *s) {
    return s->tokens_per_s;
}
static double planned(const mezzo_summary *s) {
    return (double)s->planned_bytes;
}
static double peak(const mezzo_summary *s) {
    return (double)s->peak_rss_bytes;
}
static double quality(const mezzo_summary *s) {
    return s->eval_value;
}
static double eval_loss(const mezzo_summary *s) {
    return s->eval_loss;
}

static const char *format_milliseconds(char out[NUMBER_BYTES], double value) {
    snprintf(out, NUMBER_BYTES, "%.1f ms", value);
    return out;
}
static const char *format_fraction(char out[NUMBER_BYTES], double value) {
    snprintf(out, NUMBER_BYTES, "%.4f", value);
    return out;
}

/* With a sign, but without a minus on what rounds to zero. */
static const char *format_difference(char out[NUMBER_BYTES], double value) {
    snprintf(out, NUMBER_BYTES, "%+.4f", fabs(value) < 0.00005 ? 0.0 : value);
    return out;
}

/* How the candidate stands to FP32. */
typedef enum relation {
    TIMES_FASTER, /* FP32 / candidate */
    TIMES,        /* candidate / FP32 */
    DIFFERENCE    /* candidate - FP32 */
} relation;

static const struct row {
    const char *name;
    figure_fn *figure;
    format_fn *format;
    relation relation;
    bool has_range; /* differs between seeds */
} rows[] = {
    {"training time", train_time, format_time, TIMES_FASTER, true},
    {"step, median", step_time, format_milliseconds, TIMES_FASTER, true},
    {"samples/s", speed, format_count, TIMES, true},
    {"tokens/s", tokens_speed, format_count, TIMES, true},
    {"memory, planned", planned, format_bytes, TIMES, false},
    {"memory, peak", peak, format_bytes, TIMES, false},
    {NULL, quality, format_fraction, DIFFERENCE, true}, /* the metric's name */
    {"test loss", eval_loss, format_fraction, DIFFERENCE, true},
};

typedef struct statistics {
    double mean, low, high;
} statistics;

static statistics statistics_of(const mezzo_summary *runs, int count, figure_fn *figure) {
    statistics s = {0.0, figure(&runs[0]), figure(&runs[0])};
    for (int i = 0; i < count; i++) {
        double value = figure(&runs[i]);
        s.mean += value / count;
        s.low = fmin(s.low, value);
        s.high = fmax(s.high, value);
    }
    return s;
}

static void print_row(const struct row *row, int seeds, const mezzo_summary *fp32,
                      const mezzo_summary *candidate) {
    char left[NUMBER_BYTES], right[NUMBER_BYTES], last[NUMBER_BYTES];
    char metric[MEZZO_METRIC_BYTES], name[MEZZO_METRIC_BYTES + 8];
    statistics a = statistics_of(fp32, seeds, row->figure);
    statistics b = statistics_of(candidate, seeds, row->figure);
    if (row->relation == DIFFERENCE)
        format_difference(last, b.mean - a.mean);
    else
        snprintf(last, sizeof last, "%.2fx",
                 row->relation == TIMES ? b.mean / a.mean : a.mean / b.mean);
    if (row->figure == tokens_speed && a.mean == 0.0)
        return;
    snprintf(name, sizeof name, "%s%s", row->name ? "" : "test ",
             row->name ? row->name : metric_label(metric, fp32));
    printf("%-18s %14s %14s %10s\n", name, row->format(left, a.mean), row->format(right, b.mean),
           last);
    if (seeds < 2 || !row->has_range)
        return;
    term t = term_of(stdout);
    printf("%s%-18s %14s %14s%s\n", term_style(&t, STYLE_DIM), "  lowest", row->format(left, a.low),
           row->format(right, b.low), term_style(&t, STYLE_PLAIN));
    printf("%s%-18s %14s %14s%s\n", term_style(&t, STYLE_DIM), "  highest",
           row->format(left, a.high), row->format(right, b.high), term_style(&t, STYLE_PLAIN));
}

typedef struct verdict {
    double speedup, difference, spread; /* quality: of the means; FP32's highest - lowest */
    double relative;                    /* difference / FP32's mean                       */
    bool inside;
} verdict;

static verdict judge(int seeds, const mezzo_summary *fp32, const mezzo_summary *candidate) {
    statistics a = statistics_of(fp32, seeds, quality);
    statistics b = statistics_of(candidate, seeds, quality);
    verdict v = {.difference = b.mean - a.mean, .spread = a.high - a.low};
    v.relative = v.difference / a.mean;
    v.speedup = statistics_of(fp32, seeds, train_time).mean /
                statistics_of(candidate, seeds, train_time).mean;
    v.inside = fabs(v.difference) <= v.spread;
    return v;
}

static void print_verdict(const verdict *v, int seeds, const char *label, const char *metric) {
    term t = term_of(stdout);
    char difference[NUMBER_BYTES];
    format_difference(difference, v->difference);
    if (seeds < 2) {
        printf("%s trains %.2f times as fast; %s differs by %s, %.2f %% (--seeds 5 tells a "
               "difference from noise)\n",
               label, v->speedup, metric, difference, 100.0 * fabs(v->relative));
        return;
    }
    printf("%s trains %.2f times as fast; the mean %s differs by %s, %s%s%s FP32's own "
           "spread over %d seeds, %.4f\n",
           label, v->speedup, metric, difference,
           term_style(&t, v->inside ? STYLE_GOOD : STYLE_WARNING), v->inside ? "inside" : "outside",
           term_style(&t, STYLE_PLAIN), seeds, v->spread);
}

static void print_number(const char *name, double value) {
    if (isfinite(value))
        printf(",\"%s\":%.9g", name, value);
    else
        printf(",\"%s\":null", name);
}

static mezzo_status print_list(mezzo_ctx *ctx, const char *name, const mezzo_summary *runs,
                               int count) {
    printf(",\"%s\":[", name);
    for (int i = 0; i < count; i++) {
        char *text = NULL;
        mezzo_status status = mezzo_summary_json(ctx, &runs[i], &text);
        if (status != MEZZO_OK)
            return status;
        printf("%s%s", i > 0 ? "," : "", text);
        mezzo_text_free(ctx, text);
    }
    putchar(']');
    return MEZZO_OK;
}

static int print_json(mezzo_ctx *ctx, const verdict *v, int seeds, const mezzo_summary *fp32,
                      const mezzo_summary *candidate) {
    printf("{\"seeds\":%d", seeds);
    mezzo_status status = print_list(ctx, "fp32", fp32, seeds);
    if (status == MEZZO_OK)
        status = print_list(ctx, "candidate", candidate, seeds);
    print_number("speedup", v->speedup);
    print_number("planned_memory_ratio",
                 (double)candidate->planned_bytes / (double)fp32->planned_bytes);
    print_number("peak_memory_ratio", statistics_of(candidate, seeds, peak).mean /
                                          statistics_of(fp32, seeds, peak).mean);
    print_number("eval_difference", v->difference);
    print_number("eval_relative", v->relative);
    print_number("fp32_spread", v->spread);
    if (seeds > 1)
        printf(",\"inside_spread\":%s", v->inside ? "true" : "false");
    printf("}\n");
    return report_status(ctx, status);
}

int print_comparison(mezzo_ctx *ctx, int seeds, const mezzo_summary *fp32,
                     const mezzo_summary *candidate, bool json) {
    verdict v = judge(seeds, fp32, candidate);
    if (json)
        return print_json(ctx, &v, seeds, fp32, candidate);
    term t = term_of(stdout);
    const char *label = precision_label(candidate->precision);
    char metric[MEZZO_METRIC_BYTES];
    printf("%s%-18s %14s %14s %10s%s\n", term_style(&t, STYLE_BOLD), seeds > 1 ? "means" : "",
           precision_label(fp32->precision), label, "ratio", term_style(&t, STYLE_PLAIN));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        print_row(&rows[i], seeds, fp32, candidate);
    putchar('\n');
    print_verdict(&v, seeds, label, metric_label(metric, fp32));
    return EXIT_OK;
}
