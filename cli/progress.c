#include "progress.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "result.h"
#include "signals.h"

/* Often enough to look alive, and seldom enough to cost nothing. */
#define BAR_INTERVAL_S 0.1
#define LINE_INTERVAL_S 5.0
enum {
    BAR_CELLS_MAX = 30,
    BAR_CELLS_MIN = 8,
    PART_BYTES = 160
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_init(progress *p, bool quiet, bool verbose) {
    *p = (progress){.term = term_of(stderr), .quiet = quiet, .verbose = verbose};
    p->drawn_at = p->term.is_terminal ? 0.0 : now_s();
}

static const char *label_of(const mezzo_progress *run) {
    return run->label ? run->label : "train";
}

static void clear(progress *p) {
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

void progress_end(progress *p) {
    if (p->drawn)
        fputc('\n', stderr);
    p->drawn = false;
}

/* "  scale 2^10  2 skipped", as far as there is something to say. */
static void format_notes(char out[PART_BYTES], const mezzo_progress *run) {
    char number[NUMBER_BYTES];
    size_t used = 0;
    out[0] = '\0';
    if (run->loss_scale != 1.0f)
        used = (size_t)snprintf(out, PART_BYTES, "  scale %s",
                                format_power(number, (double)run->loss_scale));
    if (run->skipped > 0)
        snprintf(out + used, PART_BYTES - used, "  %s skipped",
                 format_count(number, (double)run->skipped));
}

static void put_bar(const progress *p, double done, int cells) {
    const char *full = p->term.has_utf8 ? "━" : "#", *empty = p->term.has_utf8 ? "─" : "-";
    int filled = (int)(done * cells);
    fputs(term_style(&p->term, STYLE_BAR), stderr);
    for (int i = 0; i < filled; i++)
        fputs(full, stderr);
    fputs(term_style(&p->term, STYLE_PLAIN), stderr);
    fputs(term_style(&p->term, STYLE_DIM), stderr);
    for (int i = filled; i < cells; i++)
        fputs(empty, stderr);
    fputs(term_style(&p->term, STYLE_PLAIN), stderr);
}

/* bf16  ━━━━━━━━━━━────  580/938  epoch 1.24  loss 0.3512  2,310 samples/s  0:42 left */
static void draw_bar(progress *p, const mezzo_progress *run) {
    char speed[NUMBER_BYTES], left[NUMBER_BYTES], notes[PART_BYTES], rest[2 * PART_BYTES];
    format_notes(notes, run);
    int width =
        snprintf(rest, sizeof rest, "  %lld/%lld  epoch %.2f  loss %.4f%s  %s samples/s  %s left",
                 (long long)run->step, (long long)run->steps, run->epoch, run->loss, notes,
                 format_count(speed, run->samples_per_s), format_clock(left, run->seconds_left));
    const char *label = label_of(run);
    /* The last column stays free: some terminals wrap there. */
    int room = term_columns(&p->term) - 1 - (int)strlen(label) - 2;
    int cells = room - width < BAR_CELLS_MAX ? room - width : BAR_CELLS_MAX;
    fprintf(stderr, "\r\033[K%s%s%s  ", term_style(&p->term, STYLE_BOLD), label,
            term_style(&p->term, STYLE_PLAIN));
    if (cells >= BAR_CELLS_MIN)
        put_bar(p, run->steps > 0 ? (double)run->step / (double)run->steps : 0.0, cells);
    fprintf(stderr, "%.*s", room > 0 ? room : 0, cells >= BAR_CELLS_MIN ? rest : rest + 2);
    fflush(stderr);
    p->drawn = true;
}

static void print_line(const mezzo_progress *run) {
    char speed[NUMBER_BYTES], left[NUMBER_BYTES], notes[PART_BYTES];
    format_notes(notes, run);
    fprintf(stderr, "%s  step %lld/%lld  epoch %.2f  loss %.4f%s  %s samples/s  %s left\n",
            label_of(run), (long long)run->step, (long long)run->steps, run->epoch, run->loss,
            notes, format_count(speed, run->samples_per_s), format_clock(left, run->seconds_left));
}

static void on_progress(void *user, const mezzo_progress *run) {
    progress *p = user;
    double now = now_s();
    bool last = run->step >= run->steps;
    double interval = p->term.is_terminal ? BAR_INTERVAL_S : LINE_INTERVAL_S;
    if (p->quiet || (now - p->drawn_at < interval && !(last && p->term.is_terminal)))
        return;
    p->drawn_at = now;
    if (p->term.is_terminal)
        draw_bar(p, run);
    else
        print_line(run);
}

static void on_evaluated(void *user, const mezzo_progress *run, const mezzo_summary *s) {
    progress *p = user;
    if (p->quiet)
        return;
    clear(p);
    const term *t = &p->term;
    char metric[MEZZO_METRIC_BYTES];
    fprintf(stderr, "%s%s%s  step %lld/%lld  epoch %.2f  %stest %s %.4f%s  test loss %.4f\n",
            term_style(t, STYLE_BOLD), label_of(run), term_style(t, STYLE_PLAIN),
            (long long)run->step, (long long)run->steps, run->epoch, term_style(t, STYLE_GOOD),
            metric_label(metric, s), s->eval_value, term_style(t, STYLE_PLAIN), s->eval_loss);
    if (s->has_average)
        fprintf(stderr, "%*s  of the average: test %s %.4f  test loss %.4f\n",
                (int)strlen(label_of(run)), "", metric_label(metric, s), s->ema_eval_value,
                s->ema_eval_loss);
}

static bool on_stop(void *user) {
    progress *p = user;
    if (!signals_stop())
        return false;
    if (!p->told) {
        clear(p);
        fprintf(stderr, "stopping: this step is done, and the state is being saved\n");
    }
    p->told = true;
    return true;
}

mezzo_run_hooks progress_hooks(progress *p) {
    return (mezzo_run_hooks){
        .user = p, .progress = on_progress, .evaluated = on_evaluated, .stop = on_stop};
}

void progress_log(void *user, mezzo_log_level level, const char *text) {
    progress *p = user;
    mezzo_log_level least = p->quiet     ? MEZZO_LOG_WARNING
                            : p->verbose ? MEZZO_LOG_DEBUG
                                         : MEZZO_LOG_INFO;
    if (level < least)
        return;
    clear(p);
    const char *word = level == MEZZO_LOG_ERROR     ? "error: "
                       : level == MEZZO_LOG_WARNING ? "warning: "
                                                    : "";
    style s = level == MEZZO_LOG_ERROR ? STYLE_ERROR : STYLE_WARNING;
    fprintf(stderr, "%s%s%s%s\n", word[0] == '\0' ? "" : term_style(&p->term, s), word,
            word[0] == '\0' ? "" : term_style(&p->term, STYLE_PLAIN), text);
}
