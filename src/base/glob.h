/* Name patterns: `*` stands for any text, `?` for one character. */
#ifndef MZI_BASE_GLOB_H
#define MZI_BASE_GLOB_H

#include <stdbool.h>

bool mzi_glob_match(const char *pattern, const char *text);

#endif
