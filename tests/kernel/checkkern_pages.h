/* Operands against the end of readable memory. */
#ifndef CHECKKERN_PAGES_H
#define CHECKKERN_PAGES_H

#include "checkkern.h"

/* Copies the operands of `args` to pages with unreadable ones around, to their end or their start.
 * Valid until the next call. */
void ck_pages_place(const ck_case *c, mzk_args *args, bool at_end);
/* From here a fault is `kernel`'s: it is reported and ends the program.  Null: no longer. */
void ck_pages_watch(const char *kernel);

#endif
