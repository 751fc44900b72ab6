/* The rules behind a plan's types, each with the place where it is written. */
#ifndef MZI_RUN_PLAN_RULES_H
#define MZI_RUN_PLAN_RULES_H

#include "base/text.h"
#include "run/report.h"
#include "run/runner.h"

/* "class low of the operation; precision.compute, FILE:LINE" in `out`, which it returns. */
enum {
    MZI_SOURCE_TEXT = 1200
};
const char *mzi_plan_source(const mzi_experiment *e, const mezzo_plan_op *op,
                            char out[MZI_SOURCE_TEXT]);

/* Every rule that decided an operation of the training plan, and how many: lines, or a new array.
 */
mezzo_status mzi_plan_rules_text(mzi_experiment *e, const mezzo_plan_info *info, mzi_text *text);
mezzo_status mzi_plan_rules_json(mzi_experiment *e, const mezzo_plan_info *info, json_t **out);

#endif
