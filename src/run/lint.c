/* `mezzo lint`: what the rules find in a configuration and in the graphs of its model. */
#include <string.h>

#include "base/text.h"
#include "run/lint.h"
#include "run/report.h"

static bool is_known(const mzi_findings *findings, const mezzo_finding *finding) {
    for (int32_t k = 0; k < findings->count; k++)
        if (findings->items[k].rule == finding->rule &&
            strcmp(findings->items[k].where, finding->where) == 0)
            return true;
    return false;
}

/* Of training, then what only evaluation has. */
static mezzo_status collect(mzi_experiment *e, mzi_findings *out) {
    static const mezzo_entry entries[] = {MEZZO_ENTRY_TRAIN, MEZZO_ENTRY_EVAL};
    for (size_t n = 0; n < sizeof entries / sizeof *entries; n++) {
        mezzo_plan_info info;
        mezzo_finding finding;
        MZI_TRY(mezzo_model_plan_info(e->model, entries[n], &info));
        for (int k = 0; k < info.finding_count; k++) {
            MZI_TRY(mezzo_model_finding(e->model, entries[n], k, &finding));
            if (n == 0 || !is_known(out, &finding))
                MZI_TRY(mzi_findings_add(out, &finding));
        }
    }
    return mzi_lint_config(e, out);
}

static int count(const mzi_findings *findings, mezzo_lint_severity severity) {
    int found = 0;
    for (int32_t k = 0; k < findings->count; k++)
        found += findings->items[k].rule->severity == severity;
    return found;
}

static mezzo_status as_text(mezzo_ctx *ctx, const mzi_findings *findings, char **out) {
    mzi_text text = {.ctx = ctx};
    for (int32_t k = 0; k < findings->count; k++) {
        const mezzo_finding *f = &findings->items[k];
        mzi_text_put(&text, "%s %-7s  %s\n      %s\n      fix: %s\n", f->rule->id,
                     mzi_lint_severity_name(f->rule->severity), f->where, f->text, f->fix);
    }
    int errors = count(findings, MEZZO_LINT_ERROR), warnings = count(findings, MEZZO_LINT_WARNING);
    mzi_text_put(&text, "%d error%s, %d warning%s\n", errors, errors == 1 ? "" : "s", warnings,
                 warnings == 1 ? "" : "s");
    return mzi_text_take(&text, out);
}

static json_t *finding_json(const mezzo_finding *f) {
    json_t *object = json_pack("{s:s,s:s,s:s,s:s,s:s}", "rule", f->rule->id, "severity",
                               mzi_lint_severity_name(f->rule->severity), "where", f->where, "text",
                               f->text, "fix", f->fix);
    if (object && f->dtype != MEZZO_DTYPE_NONE)
        json_object_set_new(object, "type", json_string(mezzo_dtype_name(f->dtype)));
    json_t *value = json_real(f->value); /* null where JSON has no word for it */
    if (object && value)
        json_object_set_new(object, "value", value);
    return object;
}

static mezzo_status as_json(mezzo_ctx *ctx, const mzi_findings *findings, char **out) {
    json_t *list = json_array();
    for (int32_t k = 0; k < findings->count; k++)
        json_array_append_new(list, finding_json(&findings->items[k]));
    return mzi_report_json(ctx,
                           json_pack("{s:i,s:i,s:i,s:o}", "schema_version", 1, "errors",
                                     count(findings, MEZZO_LINT_ERROR), "warnings",
                                     count(findings, MEZZO_LINT_WARNING), "findings", list),
                           out);
}

static mezzo_status report(mezzo_runner *runner, const mezzo_config *config, bool json, char **out,
                           int *errors) {
    mzi_experiment e;
    mzi_findings findings;
    mzi_findings_init(&findings, runner->ctx);
    mezzo_status status = mzi_experiment_create(&e, runner, config, NULL);
    if (status == MEZZO_OK)
        status = collect(&e, &findings);
    if (status == MEZZO_OK)
        status = json ? as_json(runner->ctx, &findings, out) : as_text(runner->ctx, &findings, out);
    if (status == MEZZO_OK)
        *errors = count(&findings, MEZZO_LINT_ERROR);
    mzi_findings_deinit(&findings);
    mzi_experiment_destroy(&e);
    return status;
}

mezzo_status mezzo_run_lint(mezzo_runner *runner, const mezzo_config *config, bool json, char **out,
                            int *errors) {
    mezzo_config *copy = NULL;
    mzi_error_clear(runner->ctx);
    /* Its errors are what is asked for, and must not stop it. */
    MZI_TRY(mezzo_config_copy(&copy, config));
    mezzo_status status = mezzo_config_set(copy, "precision.lint=off", "lint");
    if (status == MEZZO_OK)
        status = report(runner, copy, json, out, errors);
    mezzo_config_destroy(copy);
    return status;
}

mezzo_status mezzo_lint_rules(mezzo_ctx *ctx, bool json, char **out) {
    const mezzo_lint_rule *rule;
    mzi_error_clear(ctx);
    if (json) {
        json_t *list = json_array();
        for (int k = 0; (rule = mezzo_lint_rule_at(k)) != NULL; k++)
            json_array_append_new(list,
                                  json_pack("{s:s,s:s,s:s,s:s,s:s}", "rule", rule->id, "severity",
                                            mzi_lint_severity_name(rule->severity), "title",
                                            rule->title, "why", rule->why, "fix", rule->fix));
        return mzi_report_json(ctx, list, out);
    }
    mzi_text text = {.ctx = ctx};
    for (int k = 0; (rule = mezzo_lint_rule_at(k)) != NULL; k++)
        mzi_text_put(&text, "%s %-7s  %s\n      %s\n      fix: %s\n", rule->id,
                     mzi_lint_severity_name(rule->severity), rule->title, rule->why, rule->fix);
    return mzi_text_take(&text, out);
}
