/* gen_docs ops | keys | metrics | lint: the Markdown tables of docs/ that are made from the
 * inventories. tools/check_docs.sh holds the documents to them, and writes them. */
#include <stdio.h>
#include <string.h>

#include <mezzo/config.h>
#include <mezzo/op.h>

typedef struct metric {
    const char *name, *unit, *kind, *help;
} metric;

#define MZI_COUNTER "counter"
#define MZI_GAUGE "gauge"
static const metric metrics[] = {
#define METRIC(name, unit, kind, help) {#name, unit, kind, help},
#include "base/metrics.def"
#undef METRIC
};

/* A bar inside a cell would end it. */
static void put_cell(const char *text) {
    printf(" ");
    for (; *text; text++)
        printf(*text == '|' ? "\\|" : "%c", *text);
    printf(" |");
}

static void put_row(const char *const *cells, int count) {
    printf("|");
    for (int k = 0; k < count; k++)
        put_cell(cells[k]);
    printf("\n");
}

/* " in 1 2" for bits 1 and 2. */
static size_t put_bits(char *out, size_t room, const char *label, uint32_t bits) {
    int used = bits ? snprintf(out, room, "%s", label) : 0;
    for (int k = 0; k < 32; k++)
        if (bits & MEZZO_BIT(k))
            used += snprintf(out + used, room - (size_t)used, " %d", k);
    return (size_t)used;
}

static void print_class(mezzo_cast_class cast, const char *name) {
    const mezzo_op_def *op;
    for (int k = 0; (op = mezzo_op_at(k)) != NULL; k++) {
        char f32[96] = "";
        if (op->cast != cast)
            continue;
        size_t used = put_bits(f32, sizeof f32, "in", op->in_f32);
        put_bits(f32 + used, sizeof f32 - used, used ? ", out" : "out", op->out_f32);
        const char *const row[] = {name, op->name, op->help, f32,
                                   op->not_differentiable ? "" : "yes"};
        put_row(row, 5);
    }
}

static void print_ops(void) {
    printf("| class | operation | computes | FP32 operands | gradient |\n|---|---|---|---|---|\n");
    print_class(MEZZO_CAST_LOW, "low");
    print_class(MEZZO_CAST_FOLLOW, "follow");
    print_class(MEZZO_CAST_REDUCE, "reduce");
    print_class(MEZZO_CAST_FULL, "full");
}

static const char *values_of(const mezzo_config_key *key, char *out, size_t room) {
    switch (key->type) {
    case MEZZO_CONFIG_INT:
    case MEZZO_CONFIG_REAL:
        snprintf(out, room, "%.7g to %.7g%s%s", key->min, key->max, key->choices ? ", or " : "",
                 key->choices ? key->choices : "");
        return out;
    case MEZZO_CONFIG_BOOL:
        return "true|false";
    case MEZZO_CONFIG_TEXT:
        return "text";
    case MEZZO_CONFIG_CHOICE:
        return key->choices;
    case MEZZO_CONFIG_INT_LIST:
        snprintf(out, room, "list of %.7g to %.7g", key->min, key->max);
        return out;
    case MEZZO_CONFIG_RECORD_LIST:
        snprintf(out, room, "list of {%s}", key->choices);
        return out;
    }
    return "";
}

static void print_keys(void) {
    const mezzo_config_key *key;
    char values[160];
    printf("| key | default | values | meaning |\n|---|---|---|---|\n");
    for (int k = 0; (key = mezzo_config_key_at(k)) != NULL; k++) {
        const char *const row[] = {key->path, key->initial, values_of(key, values, sizeof values),
                                   key->help};
        put_row(row, 4);
    }
}

static void print_metrics(void) {
    printf("| metric | unit | kind | meaning |\n|---|---|---|---|\n");
    for (size_t k = 0; k < sizeof metrics / sizeof metrics[0]; k++) {
        const char *const row[] = {metrics[k].name, metrics[k].unit, metrics[k].kind,
                                   metrics[k].help};
        put_row(row, 4);
    }
}

static void print_lint(void) {
    const mezzo_lint_rule *rule;
    printf("| rule | severity | finds | why | way out |\n|---|---|---|---|---|\n");
    for (int k = 0; (rule = mezzo_lint_rule_at(k)) != NULL; k++) {
        const char *severity = rule->severity == MEZZO_LINT_ERROR ? "error" : "warning";
        const char *const row[] = {rule->id, severity, rule->title, rule->why, rule->fix};
        put_row(row, 5);
    }
}

int main(int count, char **arguments) {
    const char *table = count == 2 ? arguments[1] : "";
    if (strcmp(table, "ops") == 0)
        print_ops();
    else if (strcmp(table, "keys") == 0)
        print_keys();
    else if (strcmp(table, "metrics") == 0)
        print_metrics();
    else if (strcmp(table, "lint") == 0)
        print_lint();
    else {
        fprintf(stderr, "usage: gen_docs ops|keys|metrics|lint\n");
        return 2;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
