#include "config/words.h"

#include <limits.h>
#include <string.h>

enum {
    WORD_BYTES_MAX = 64
};

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Optimal string alignment, by rows: D[i][j] is the distance of the first i bytes of a from the
 * first j of b; `row` is D[i], with D[i-1] and D[i-2] before it. */
int mzi_words_distance(mzi_slice a, mzi_slice b) {
    int rows[3][WORD_BYTES_MAX + 1];
    if (a.bytes > WORD_BYTES_MAX || b.bytes > WORD_BYTES_MAX)
        return INT_MAX;
    int n = (int)a.bytes, m = (int)b.bytes;
    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *row = rows[i % 3];
        const int *before = rows[(i + 2) % 3], *earlier = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int replaced = before[j - 1] + (a.text[i - 1] != b.text[j - 1]);
            row[j] = least(replaced, least(before[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a.text[i - 1] == b.text[j - 2] && a.text[i - 2] == b.text[j - 1])
                row[j] = least(row[j], earlier[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

bool mzi_words_near(const char *word, mzi_slice meant, int *distance) {
    mzi_slice slice = {word, strlen(word)};
    int allowed = (int)(meant.bytes / 3);
    *distance = mzi_words_distance(slice, meant);
    return *distance <= (allowed > 1 ? allowed : 1) && (size_t)*distance < meant.bytes;
}

mzi_slice mzi_words_nearest(const char *word, mzi_slice choices) {
    mzi_slice nearest = {choices.text, 0};
    int best = INT_MAX;
    mzi_slice meant;
    while (mzi_slice_next(&choices, '|', &meant)) {
        int distance;
        if (mzi_words_near(word, meant, &distance) && distance < best) {
            best = distance;
            nearest = meant;
        }
    }
    return nearest;
}
