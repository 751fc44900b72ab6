/* Text that grows: reports and files made in memory.  Running out of memory sticks, so that a
 * report is written without a check on each line. */
#ifndef MZI_BASE_TEXT_H
#define MZI_BASE_TEXT_H

#include "base/ctx.h"

typedef struct mzi_text {
    mezzo_ctx *ctx;
    char *data;
    int32_t size, capacity; /* bytes; reports are far below 2 GiB */
    mezzo_status status;
} mzi_text;

void mzi_text_put(mzi_text *text, const char *format, ...) MEZZO_PRINTF(2, 3);
/* What was put, as mzi_copy_text makes it (freed by mzi_free_text), and the buffer is gone. */
mezzo_status mzi_text_take(mzi_text *text, char **out);

#endif
