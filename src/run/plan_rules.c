#include "run/plan_rules.h"

#include <string.h>

#include "graph/graph.h"

enum {
    OVERRIDE_MAX = 256 /* entries of precision.overrides */
};

#define BY_CLASS "class of the operation (docs/numerics.md, Autocast)"

/* By mzi_rule. */
static const struct {
    const char *meaning, *source;
    bool by_compute; /* precision.compute has a say in it */
} rules[] = {
    [MZI_RULE_FULL] = {"computed in f32: updates, or no lower type is asked for", BY_CLASS, true},
    [MZI_RULE_LOW] = {"the type of precision.compute, summed in f32", BY_CLASS, true},
    [MZI_RULE_FOLLOW] = {"the narrowest type among its data inputs", BY_CLASS, false},
    [MZI_RULE_REDUCE] = {"stored as its data inputs are, summed in f32 or wider", BY_CLASS, false},
    [MZI_RULE_OVERRIDE] = {"the type that an override of its name says", "precision.overrides",
                           false},
    [MZI_RULE_CONTRACT] = {"the widest type that it takes: that of its class is none of them",
                           "types of the operation (docs/numerics.md, Autocast)", false},
    [MZI_RULE_CAST] = {"a conversion: the operation that reads it has another type",
                       "operation that reads it (docs/numerics.md, Autocast)", false},
    [MZI_RULE_LAYOUT] = {"a copy in the order that a kernel reads", "kernel that reads it", false},
    [MZI_RULE_SEGMENT] = {"an exact factor between two segments of backward",
                          "precision.loss_scale.segments (docs/numerics.md, Segments)", false},
    [MZI_RULE_SPEED] = {"f32, since a lower type is slower here",
                        "precision.speed_gate (docs/numerics.md, Speed gate)", false},
    [MZI_RULE_FUSE] = {"several operations in one: less memory is written and read",
                       "train.fuse (docs/numerics.md, Fusion)", false},
};
enum {
    RULES = sizeof rules / sizeof *rules
};

static const char *origin(const mzi_experiment *e, const char *key) {
    return mezzo_config_origin(e->config, key);
}

static mzi_rule rule_of(const mezzo_plan_op *op) {
    int rule = 0;
    while (strcmp(op->rule, mzi_rule_name((mzi_rule)rule)) != 0) /* a plan has no other */
        rule++;
    return (mzi_rule)rule;
}

const char *mzi_plan_source(const mzi_experiment *e, const mezzo_plan_op *op,
                            char out[MZI_SOURCE_TEXT]) {
    mzi_rule rule = rule_of(op);
    bool low = rules[rule].by_compute && strstr(op->source, " low ");
    if (rule == MZI_RULE_OVERRIDE)
        mzi_format(out, MZI_SOURCE_TEXT, "precision.overrides[%d], %s", op->override,
                   origin(e, "precision.overrides"));
    else if (low)
        mzi_format(out, MZI_SOURCE_TEXT, "%s; precision.compute, %s", op->source,
                   origin(e, "precision.compute"));
    else
        mzi_format(out, MZI_SOURCE_TEXT, "%s", op->source);
    return out;
}

/* How many operations each rule decided, and each override. */
typedef struct tally {
    int by_rule[RULES], by_override[OVERRIDE_MAX];
} tally;

static mezzo_status count(mzi_experiment *e, const mezzo_plan_info *info, tally *out) {
    *out = (tally){{0}, {0}};
    for (int k = 0; k < info->op_count; k++) {
        mezzo_plan_op op;
        MZI_TRY(mezzo_model_plan_op(e->model, MEZZO_ENTRY_TRAIN, k, &op));
        out->by_rule[rule_of(&op)]++;
        if (op.override >= 0 && op.override < OVERRIDE_MAX)
            out->by_override[op.override]++;
    }
    return MEZZO_OK;
}

/* One row: `entry` of precision.overrides, or -1. */
typedef void row_fn(void *out, const char *id, int operations, const char *meaning,
                    const char *source);

static void each_override(mzi_experiment *e, const tally *t, row_fn *row, void *out) {
    for (int k = 0; k < OVERRIDE_MAX; k++) {
        char meaning[600], source[MZI_SOURCE_TEXT];
        if (!t->by_override[k])
            continue;
        mzi_format(meaning, sizeof meaning, "\"%s\" computes in %s",
                   mezzo_config_field_text(e->config, "precision.overrides", k, "match"),
                   mezzo_config_field_text(e->config, "precision.overrides", k, "compute"));
        mzi_format(source, sizeof source, "precision.overrides[%d], %s", k,
                   origin(e, "precision.overrides"));
        row(out, "override", t->by_override[k], meaning, source);
    }
}

static mezzo_status each(mzi_experiment *e, const mezzo_plan_info *info, row_fn *row, void *out) {
    tally t;
    MZI_TRY(count(e, info, &t));
    for (int r = 0; r < RULES; r++) {
        char source[MZI_SOURCE_TEXT];
        if (r == MZI_RULE_OVERRIDE) {
            each_override(e, &t, row, out);
            continue;
        }
        mzi_format(source, sizeof source, "%s%s%s", rules[r].source,
                   rules[r].by_compute ? "; precision.compute, " : "",
                   rules[r].by_compute ? origin(e, "precision.compute") : "");
        if (t.by_rule[r])
            row(out, mzi_rule_name((mzi_rule)r), t.by_rule[r], rules[r].meaning, source);
    }
    return MEZZO_OK;
}

static void put_row(void *out, const char *id, int operations, const char *meaning,
                    const char *source) {
    mzi_text_put(out, "  %-9s %5d  %-62s %s\n", id, operations, meaning, source);
}

mezzo_status mzi_plan_rules_text(mzi_experiment *e, const mezzo_plan_info *info, mzi_text *text) {
    mzi_text_put(text, "\nrules\n");
    return each(e, info, put_row, text);
}

static void add_row(void *out, const char *id, int operations, const char *meaning,
                    const char *source) {
    json_array_append_new(out, json_pack("{s:s,s:i,s:s,s:s}", "rule", id, "operations", operations,
                                         "meaning", meaning, "source", source));
}

mezzo_status mzi_plan_rules_json(mzi_experiment *e, const mezzo_plan_info *info, json_t **out) {
    json_t *list = json_array();
    if (!list)
        return mzi_out_of_memory(e->ctx, 0, "the report");
    mezzo_status status = each(e, info, add_row, list);
    if (status == MEZZO_OK)
        *out = list;
    else
        json_decref(list);
    return status;
}
