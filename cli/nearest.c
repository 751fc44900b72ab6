/* What a mistyped word was meant to be. */
#include <string.h>

#include "command.h"

enum {
    WORD_BYTES_MAX = 32
};

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Levenshtein's distance, a row at a time. */
static int distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    int row[WORD_BYTES_MAX + 1];
    if (n > WORD_BYTES_MAX || m > WORD_BYTES_MAX)
        return WORD_BYTES_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int replaced = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

const char *nearest_word(const char *word, const char *(*next)(int index)) {
    const char *candidate, *nearest = NULL;
    int best = (int)strlen(word) / 3 + 2; /* one slip for every three letters, and one more */
    for (int i = 0; (candidate = next(i)) != NULL; i++) {
        int d = distance(word, candidate);
        if (d < best) {
            best = d;
            nearest = candidate;
        }
    }
    return nearest;
}
