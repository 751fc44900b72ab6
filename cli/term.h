/* The terminal: colours, widths, and numbers as people read them. */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct term {
    FILE *file;
    bool is_terminal, has_colour, has_utf8;
} term;
/* Colours only on a terminal, and without NO_COLOR. */
term term_of(FILE *file);
int term_columns(const term *t);

typedef enum style {
    STYLE_PLAIN,
    STYLE_BOLD,
    STYLE_DIM,
    STYLE_GOOD,
    STYLE_BAR,
    STYLE_WARNING,
    STYLE_ERROR
} style;
/* The escape sequence that starts a style (STYLE_PLAIN ends any); "" without colours. */
const char *term_style(const term *t, style s);

/* Each writes to `out` and returns it. */
enum {
    NUMBER_BYTES = 32
};
const char *format_count(char out[NUMBER_BYTES], double value);   /* 12,345     */
const char *format_power(char out[NUMBER_BYTES], double value);   /* 2^16       */
const char *format_bytes(char out[NUMBER_BYTES], double bytes);   /* 182 MiB    */
const char *format_clock(char out[NUMBER_BYTES], double seconds); /* 1:05:07    */
const char *format_time(char out[NUMBER_BYTES], double seconds);  /* 52.3 s     */

/* "mezzo: error: ..." on stderr. */
void print_error(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

#endif
