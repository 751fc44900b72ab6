/* `mezzo plan --diff`: operations whose type, rule or kernel differ between two plans. */
#include <string.h>

#include "base/text.h"
#include "run/report.h"
#include "run/runner.h"

/* Operations of `a` whose type, rule or kernel differ in `b`, and those that only one has. */
static const json_t *find(const json_t *operations, const char *name) {
    size_t k;
    const json_t *operation;
    json_array_foreach(operations, k,
                       operation) if (strcmp(json_string_value(json_object_get(operation, "name")),
                                             name) == 0) return operation;
    return NULL;
}

static const char *field(const json_t *operation, const char *key) {
    const char *value = operation ? json_string_value(json_object_get(operation, key)) : NULL;
    return value ? value : "-";
}

static void diff_one(json_t *differences, const json_t *a, const json_t *b) {
    static const char *const keys[] = {"type", "rule", "kernel"};
    bool differs = false;
    for (size_t k = 0; k < 3; k++)
        differs |= strcmp(field(a, keys[k]), field(b, keys[k])) != 0;
    if (!differs)
        return;
    const json_t *any = a ? a : b;
    json_array_append_new(
        differences, json_pack("{s:s,s:[s,s],s:[s,s],s:[s,s]}", "name", field(any, "name"), "type",
                               field(a, "type"), field(b, "type"), "rule", field(a, "rule"),
                               field(b, "rule"), "kernel", field(a, "kernel"), field(b, "kernel")));
}

static json_t *diff_plans(const json_t *a, const json_t *b) {
    const json_t *in_a = json_object_get(a, "operations"), *in_b = json_object_get(b, "operations");
    json_t *differences = json_array();
    size_t k;
    const json_t *operation;
    json_array_foreach(in_a, k, operation)
        diff_one(differences, operation, find(in_b, field(operation, "name")));
    json_array_foreach(in_b, k, operation) if (!find(in_a, field(operation, "name")))
        diff_one(differences, NULL, operation);
    return differences;
}

static void put_difference(mzi_text *text, const json_t *d) {
    const char *cells[6];
    static const char *const keys[] = {"type", "kernel", "rule"};
    for (int k = 0; k < 6; k++)
        cells[k] =
            json_string_value(json_array_get(json_object_get(d, keys[k / 2]), (size_t)(k % 2)));
    mzi_text_put(text, "  %-34s %4s | %-4s  %-26s | %-26s  %s | %s\n", field(d, "name"), cells[0],
                 cells[1], cells[2], cells[3], cells[4], cells[5]);
}

static mezzo_status diff_text(mezzo_ctx *ctx, const json_t *a, const json_t *b,
                              const json_t *differences, char **out) {
    mzi_text text = {.ctx = ctx};
    size_t k;
    const json_t *d;
    mzi_text_put(&text, "%zu operations differ\n", json_array_size(differences));
    json_array_foreach(differences, k, d) put_difference(&text, d);
    mzi_text_put(&text, "\nnumerics    %s | %s\nexecution   %s | %s\n", field(a, "numerics_hash"),
                 field(b, "numerics_hash"), field(a, "execution_hash"), field(b, "execution_hash"));
    return mzi_text_take(&text, out);
}

static mezzo_status load_plan(mezzo_runner *runner, const mezzo_config *config, json_t **out) {
    char *text = NULL;
    MZI_TRY(mezzo_run_plan(runner, config, true, &text));
    *out = json_loads(text, 0, NULL);
    mezzo_text_free(runner->ctx, text);
    return *out ? MEZZO_OK : mzi_out_of_memory(runner->ctx, 0, "a plan");
}

mezzo_status mezzo_run_plan_diff(mezzo_runner *runner, const mezzo_config *a, const mezzo_config *b,
                                 bool json, char **out) {
    json_t *plan_a = NULL, *plan_b = NULL;
    mezzo_status status = load_plan(runner, a, &plan_a);
    if (status == MEZZO_OK)
        status = load_plan(runner, b, &plan_b);
    if (status == MEZZO_OK) {
        json_t *differences = diff_plans(plan_a, plan_b);
        if (json) {
            status = mzi_report_json(runner->ctx, json_incref(differences), out);
        } else {
            status = diff_text(runner->ctx, plan_a, plan_b, differences, out);
        }
        json_decref(differences);
    }
    json_decref(plan_a);
    json_decref(plan_b);
    return status;
}
