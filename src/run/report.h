/* Handing a JSON tree out as text. */
#ifndef MZI_RUN_REPORT_H
#define MZI_RUN_REPORT_H

#include <jansson.h>

#include "base/ctx.h"

/* `root` as one line, freed with mezzo_text_free; takes `root` over, which may be null when memory
 * ran out while it was made. */
mezzo_status mzi_report_json(mezzo_ctx *ctx, json_t *root, char **out);

#endif
