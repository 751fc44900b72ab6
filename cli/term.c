#include "term.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    COLUMNS_DEFAULT = 80
};

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value && value[0] != '\0';
}

/* The first of these that is set decides about characters. */
static bool locale_is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (value && value[0] != '\0')
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

term term_of(FILE *file) {
    const char *kind = getenv("TERM");
    term t = {.file = file};
    t.is_terminal = isatty(fileno(file)) == 1 && kind && strcmp(kind, "dumb") != 0;
    t.has_colour = t.is_terminal && !is_set("NO_COLOR");
    t.has_utf8 = locale_is_utf8();
    return t;
}

int term_columns(const term *t) {
    struct winsize size;
    if (ioctl(fileno(t->file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return COLUMNS_DEFAULT;
}

const char *term_style(const term *t, style s) {
    static const char *const codes[] = {
        [STYLE_PLAIN] = "\033[0m", [STYLE_BOLD] = "\033[1m", [STYLE_DIM] = "\033[2m",
        [STYLE_GOOD] = "\033[32m", [STYLE_BAR] = "\033[36m", [STYLE_WARNING] = "\033[33m",
        [STYLE_ERROR] = "\033[31m"};
    return t->has_colour ? codes[s] : "";
}

const char *format_count(char out[NUMBER_BYTES], double value) {
    char digits[NUMBER_BYTES];
    if (!(fabs(value) < 1e15)) {
        snprintf(out, NUMBER_BYTES, "%g", value);
        return out;
    }
    int length = snprintf(digits, sizeof digits, "%.0f", value);
    int kept = 0;
    for (int i = 0; i < length; i++) {
        out[kept++] = digits[i];
        int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-')
            out[kept++] = ',';
    }
    out[kept] = '\0';
    return out;
}

const char *format_power(char out[NUMBER_BYTES], double value) {
    int exponent;
    if (isfinite(value) && frexp(value, &exponent) == 0.5)
        snprintf(out, NUMBER_BYTES, "2^%d", exponent - 1);
    else
        snprintf(out, NUMBER_BYTES, "%g", value);
    return out;
}

const char *format_bytes(char out[NUMBER_BYTES], double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, NUMBER_BYTES, "%.*f %s", unit > 0 && bytes < 10 ? 1 : 0, bytes, units[unit]);
    return out;
}

const char *format_clock(char out[NUMBER_BYTES], double seconds) {
    if (!(seconds >= 0 && seconds < 1e9)) {
        snprintf(out, NUMBER_BYTES, "?");
        return out;
    }
    long whole = lround(seconds);
    if (whole < 3600)
        snprintf(out, NUMBER_BYTES, "%ld:%02ld", whole / 60, whole % 60);
    else
        snprintf(out, NUMBER_BYTES, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    return out;
}

const char *format_time(char out[NUMBER_BYTES], double seconds) {
    if (seconds < 100)
        snprintf(out, NUMBER_BYTES, "%.1f s", seconds);
    else
        snprintf(out, NUMBER_BYTES, "%.0f s", seconds);
    return out;
}

void print_error(const char *format, ...) {
    term t = term_of(stderr);
    fprintf(stderr, "mezzo: %serror:%s ", term_style(&t, STYLE_ERROR), term_style(&t, STYLE_PLAIN));
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}
