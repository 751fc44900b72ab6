/* The part of `mezzo plan` about masters, moments and averages. */
#ifndef MZI_RUN_PLAN_MASTERS_H
#define MZI_RUN_PLAN_MASTERS_H

#include <jansson.h>

#include "base/text.h"
#include "mezzo/model.h"

/* With what a parameter costs in bytes, by the plan of training. */
void mzi_plan_masters_text(mzi_text *text, const mezzo_model *model, const mezzo_plan_info *info);
/* An array of objects {kind, form, count, bytes, why}. */
json_t *mzi_plan_masters_json(const mezzo_model *model);
/* {parameters, masters, copies, moments, averages, gradients: bytes of all; each: their sum for a
 * parameter}. */
json_t *mzi_plan_cost_json(const mezzo_model *model, const mezzo_plan_info *info);

#endif
