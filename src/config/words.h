/* Edit distance: what a mistyped word was meant to be. */
#ifndef MZI_CONFIG_WORDS_H
#define MZI_CONFIG_WORDS_H

#include "config/schema.h"

/* Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`; both of at
 * most 64 bytes (more are as far as can be). */
int mzi_words_distance(mzi_slice a, mzi_slice b);
/* True if `word` may be a slip for `meant`: one edit for every three characters, at least one. */
bool mzi_words_near(const char *word, mzi_slice meant, int *distance);
/* The word of "adamw|sgd" that `word` may be a slip for; empty if none is near. */
mzi_slice mzi_words_nearest(const char *word, mzi_slice choices);

#endif
