#include "base/lint.h"

static const mezzo_lint_rule rules[] = {
#define ROW(id, check, severity, title, why, fix) {#id, MEZZO_LINT_##severity, title, why, fix},
#define LINT_GRAPH ROW
#define LINT_CONFIG ROW
#include "base/lint.def"
#undef LINT_GRAPH
#undef LINT_CONFIG
#undef ROW
};

const mezzo_lint_rule *mezzo_lint_rule_at(int index) {
    return index >= 0 && index < MZI_LINT_COUNT ? &rules[index] : NULL;
}

const char *mzi_lint_severity_name(mezzo_lint_severity severity) {
    return severity == MEZZO_LINT_ERROR ? "error" : "warning";
}
