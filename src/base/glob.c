#include "base/glob.h"

#include <stddef.h>

/* One star at a time: on a mismatch the last star swallows one character more, which is enough
 * because an earlier star never needs to grow once a later one has matched. */
bool mzi_glob_match(const char *pattern, const char *text) {
    const char *star = NULL, *from = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            from = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}
