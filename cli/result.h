/* Results on stdout. */
#ifndef CLI_RESULT_H
#define CLI_RESULT_H

#include <mezzo/run.h>

/* Each gives an exit code. */
int print_summary(mezzo_ctx *ctx, const mezzo_summary *summary, bool json);
/* Prints and frees a text of the library's; `status` is that of the call that made it. */
int print_text(mezzo_ctx *ctx, mezzo_status status, char *text);
int print_comparison(mezzo_ctx *ctx, int seeds, const mezzo_summary *fp32,
                     const mezzo_summary *candidate, bool json);

/* "FP32", "BF16" */
const char *precision_label(mezzo_dtype dtype);
/* "bits per byte" from "bits_per_byte" */
const char *metric_label(char out[MEZZO_METRIC_BYTES], const mezzo_summary *summary);

#endif
