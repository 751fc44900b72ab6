/* The part of `mezzo plan` about masters, moments and averages. */
#ifndef MZI_RUN_PLAN_MASTERS_H
#define MZI_RUN_PLAN_MASTERS_H

#include <jansson.h>

#include "base/text.h"
#include "mezzo/model.h"

void mzi_plan_masters_text(mzi_text *text, const mezzo_model *model);
/* An array of objects {kind, form, count, bytes, why}. */
json_t *mzi_plan_masters_json(const mezzo_model *model);

#endif
