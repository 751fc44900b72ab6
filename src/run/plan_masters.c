#include "run/plan_masters.h"

#include <string.h>

/* Tensors of one kind, form and reason. */
typedef struct group {
    mezzo_state_kind kind;
    mezzo_master form;
    const char *why;
    int count;
    uint64_t bytes;
} group;

enum {
    GROUP_MAX = 32 /* two forms, and a reason for each operation that reads FP32 */
};

static void add(group *groups, int *count, const mezzo_state_info *info) {
    int g = 0;
    while (g < *count && (groups[g].kind != info->kind || groups[g].form != info->master ||
                          strcmp(groups[g].why, info->why) != 0))
        g++;
    if (g == GROUP_MAX)
        g--;
    else if (g == *count)
        groups[(*count)++] = (group){info->kind, info->master, info->why, 0, 0};
    groups[g].count++;
    groups[g].bytes += info->bytes;
}

static int collect(const mezzo_model *model, group groups[GROUP_MAX]) {
    int count = 0;
    for (int kind = MEZZO_STATE_PARAM; kind <= MEZZO_STATE_AVERAGE; kind++)
        for (int s = 0; s < mezzo_model_state_count(model); s++) {
            mezzo_state_info info = mezzo_model_state_at(model, s);
            if ((int)info.kind == kind && kind != MEZZO_STATE_STATISTIC &&
                kind != MEZZO_STATE_CACHE)
                add(groups, &count, &info);
        }
    return count;
}

static const char *kind_name(const group *g) {
    return g->kind == MEZZO_STATE_PARAM    ? "masters"
           : g->kind == MEZZO_STATE_MOMENT ? "moments"
                                           : "averages";
}

static const char *form_name(const group *g) {
    switch (g->form) {
    case MEZZO_MASTER_F32:
        return "f32";
    case MEZZO_MASTER_SPLIT:
        return "split";
    case MEZZO_MASTER_BF16:
        return "bf16";
    }
    return "";
}

static const char *reason(const group *g) {
    switch (g->form) {
    case MEZZO_MASTER_F32:
        return g->why;
    case MEZZO_MASTER_SPLIT:
        return "its upper half is the weight";
    case MEZZO_MASTER_BF16:
        return g->kind == MEZZO_STATE_PARAM ? "it is the weight" : "rounded stochastically";
    }
    return "";
}

/* Bytes that parameters take from one step to the next, and their gradients. */
typedef struct cost {
    int64_t parameters;
    uint64_t masters, copies, moments, averages, gradients;
    double each; /* all of it, of a parameter */
} cost;

static cost cost_of(const mezzo_model *model, const mezzo_plan_info *info) {
    cost c = {.copies = info->copy_bytes, .gradients = info->gradient_bytes};
    for (int s = 0; s < mezzo_model_state_count(model); s++) {
        mezzo_state_info state = mezzo_model_state_at(model, s);
        if (state.kind == MEZZO_STATE_PARAM)
            c.parameters += mezzo_shape_count(state.shape);
        c.masters += state.kind == MEZZO_STATE_PARAM ? state.bytes : 0;
        c.moments += state.kind == MEZZO_STATE_MOMENT ? state.bytes : 0;
        c.averages += state.kind == MEZZO_STATE_AVERAGE ? state.bytes : 0;
    }
    if (c.parameters > 0)
        c.each = (double)(c.masters + c.copies + c.moments + c.averages + c.gradients) /
                 (double)c.parameters;
    return c;
}

void mzi_plan_masters_text(mzi_text *text, const mezzo_model *model, const mezzo_plan_info *info) {
    group groups[GROUP_MAX];
    int count = collect(model, groups);
    for (int g = 0; g < count; g++) {
        bool first = g == 0 || groups[g].kind != groups[g - 1].kind;
        const char *why = reason(&groups[g]);
        mzi_text_put(text, "%s%-11s %-5s %5d tensors %9.3f MiB%s%s\n", g == 0 ? "\n" : "",
                     first ? kind_name(&groups[g]) : "", form_name(&groups[g]), groups[g].count,
                     (double)groups[g].bytes / 0x1p20, why[0] ? "  " : "", why);
    }
    const cost c = cost_of(model, info);
    double n = c.parameters > 0 ? (double)c.parameters : 1.0;
    mzi_text_put(text, "a parameter %.2f bytes: masters %.2f, copies %.2f, moments %.2f, ", c.each,
                 (double)c.masters / n, (double)c.copies / n, (double)c.moments / n);
    mzi_text_put(text, "averages %.2f, gradients %.2f\n", (double)c.averages / n,
                 (double)c.gradients / n);
}

json_t *mzi_plan_cost_json(const mezzo_model *model, const mezzo_plan_info *info) {
    const cost c = cost_of(model, info);
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:f}", "parameters", (json_int_t)c.parameters,
                     "masters", (json_int_t)c.masters, "copies", (json_int_t)c.copies, "moments",
                     (json_int_t)c.moments, "averages", (json_int_t)c.averages, "gradients",
                     (json_int_t)c.gradients, "each", c.each);
}

json_t *mzi_plan_masters_json(const mezzo_model *model) {
    group groups[GROUP_MAX];
    int count = collect(model, groups);
    json_t *list = json_array();
    for (int g = 0; g < count; g++)
        json_array_append_new(
            list, json_pack("{s:s,s:s,s:i,s:I,s:s}", "kind", kind_name(&groups[g]), "form",
                            form_name(&groups[g]), "count", groups[g].count, "bytes",
                            (json_int_t)groups[g].bytes, "why", reason(&groups[g])));
    return list;
}
