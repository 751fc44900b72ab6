/* The rows of lint.def, by name. */
#ifndef MZI_BASE_LINT_H
#define MZI_BASE_LINT_H

#include "mezzo/lint.h"

typedef enum mzi_lint_id {
#define LINT_GRAPH(id, check, severity, title, why, fix) MZI_LINT_##id,
#define LINT_CONFIG(id, check, severity, title, why, fix) MZI_LINT_##id,
#include "base/lint.def"
#undef LINT_GRAPH
#undef LINT_CONFIG
    MZI_LINT_COUNT
} mzi_lint_id;

const char *mzi_lint_severity_name(mezzo_lint_severity severity);

#endif
