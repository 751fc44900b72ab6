#include "run/report.h"

mezzo_status mzi_report_json(mezzo_ctx *ctx, json_t *root, char **out) {
    size_t bytes = root ? json_dumpb(root, NULL, 0, JSON_COMPACT) : 0; /* 0: no memory */
    char *text = bytes > 0 ? mzi_alloc(ctx, bytes + 1) : NULL; /* zeroed, so it ends with a NUL */
    if (text)
        (void)json_dumpb(root, text, bytes, JSON_COMPACT);
    json_decref(root);
    if (!text)
        return mzi_out_of_memory(ctx, bytes + 1, "the report");
    *out = text;
    return MEZZO_OK;
}
