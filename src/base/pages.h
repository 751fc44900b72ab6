/* Large blocks of memory, straight from the system. */
#ifndef MZI_BASE_PAGES_H
#define MZI_BASE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/* Whether a block of this size is worth pages of its own. */
bool mzi_pages_suit(size_t bytes);
/* Zeroed, at the start of a page; null if there is no memory.  Pages are taken at their first use,
 * by whoever uses them first: workers do that at once, a memset in front of them one by one. */
void *mzi_pages_take(size_t bytes);
void mzi_pages_return(void *memory, size_t bytes);

#endif
