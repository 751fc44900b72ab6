/* Findings about a configuration, and the report of `mezzo lint`. */
#ifndef MZI_RUN_LINT_H
#define MZI_RUN_LINT_H

#include "base/arena.h"
#include "base/lint.h"
#include "run/runner.h"

typedef struct mzi_findings {
    mezzo_finding *items;
    int32_t count, capacity;
    mzi_arena arena; /* of the texts */
} mzi_findings;
void mzi_findings_init(mzi_findings *findings, mezzo_ctx *ctx);
void mzi_findings_deinit(mzi_findings *findings);
mezzo_status mzi_findings_add(mzi_findings *findings, const mezzo_finding *finding);

/* Every LINT_CONFIG rule of lint.def, over an experiment that has been made. */
mezzo_status mzi_lint_config(mzi_experiment *e, mzi_findings *out);
/* Patterns that match nothing (C002), as warnings of the log. */
mezzo_status mzi_lint_warn_unmatched(mzi_experiment *e);

#endif
