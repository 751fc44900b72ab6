/* Mistakes that can be told before the run: constants and sums that the chosen type cannot hold,
 * and settings that do not go together.  docs/lint.md lists the rules. */
#ifndef MEZZO_LINT_H
#define MEZZO_LINT_H

#include "mezzo/number.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mezzo_lint_severity {
    MEZZO_LINT_WARNING, /* it runs, but hardly as it was meant                        */
    MEZZO_LINT_ERROR    /* values become infinite, 0 or NaN as soon as the model runs */
} mezzo_lint_severity;

typedef struct mezzo_lint_rule {
    const char *id; /* "L002": of a graph; "C001": of a configuration */
    mezzo_lint_severity severity;
    const char *title; /* what it finds     */
    const char *why;   /* what happens then */
    const char *fix;
} mezzo_lint_rule;
/* Every rule, by id; null past the end. */
MEZZO_API const mezzo_lint_rule *mezzo_lint_rule_at(int index);

typedef struct mezzo_finding {
    const mezzo_lint_rule *rule;
    const char *where; /* an operation, or "FILE:LINE: key"                            */
    double value;      /* the constant, or the size of the elements                    */
    mezzo_dtype dtype; /* the type that cannot hold it; NONE if it is not about a type */
    const char *text;  /* with the values involved                                     */
    const char *fix;
} mezzo_finding;

/* What findings of a graph do to the model that is built from it. */
typedef enum mezzo_lint_mode {
    MEZZO_LINT_STOP, /* an error is one of the call that builds it (CONFIG); warnings are logged */
    MEZZO_LINT_REPORT, /* both are logged */
    MEZZO_LINT_OFF /* nothing                                                                  */
} mezzo_lint_mode;

#ifdef __cplusplus
}
#endif
#endif
