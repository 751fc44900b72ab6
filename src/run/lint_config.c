/* The rules of lint.def that a configuration can break. */
#include <string.h>

#include "base/glob.h"
#include "num/number.h"
#include "run/lint.h"
#include "train/model.h"

typedef struct lint {
    mzi_experiment *e;
    mzi_findings *findings;
    const mezzo_lint_rule *rule; /* the one that is looked at */
} lint;

void mzi_findings_init(mzi_findings *findings, mezzo_ctx *ctx) {
    *findings = (mzi_findings){0};
    mzi_arena_init(&findings->arena, ctx);
}

void mzi_findings_deinit(mzi_findings *findings) {
    mzi_free(findings->arena.ctx, findings->items,
             (size_t)findings->capacity * sizeof *findings->items);
    mzi_arena_deinit(&findings->arena);
}

mezzo_status mzi_findings_add(mzi_findings *findings, const mezzo_finding *finding) {
    mezzo_ctx *ctx = findings->arena.ctx;
    if (findings->arena.exhausted)
        return mzi_out_of_memory(ctx, 0, "findings");
    MZI_TRY(mzi_grow(ctx, (void **)&findings->items, &findings->capacity, findings->count + 1,
                     sizeof *findings->items));
    findings->items[findings->count++] = *finding;
    return MEZZO_OK;
}

/* `entry` is an index in a list, or -1. */
static const char *place(lint *pass, const char *key, int entry) {
    const char *origin = mezzo_config_origin(pass->e->config, key);
    if (entry < 0)
        return mzi_arena_text(&pass->findings->arena, "%s: %s", origin, key);
    return mzi_arena_text(&pass->findings->arena, "%s: %s[%d]", origin, key, entry);
}

static mezzo_status add(lint *pass, const char *where, double value, mezzo_dtype dtype,
                        const char *text) {
    const mezzo_finding finding = {pass->rule, where, value, dtype, text, pass->rule->fix};
    return mzi_findings_add(pass->findings, &finding);
}

/* True if an operation of the training plan (of a kind, if `op` is not null) computes in `dtype`.
 */
static mezzo_status computes(const lint *pass, mezzo_dtype dtype, const char *op, bool *out) {
    mezzo_model *model = pass->e->model;
    mezzo_plan_info info;
    *out = false;
    MZI_TRY(mezzo_model_plan_info(model, MEZZO_ENTRY_TRAIN, &info));
    for (int k = 0; k < info.op_count && !*out; k++) {
        mezzo_plan_op node;
        MZI_TRY(mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, k, &node));
        *out = node.compute == dtype && (!op || strcmp(node.op, op) == 0);
    }
    return MEZZO_OK;
}

static bool mode_is(const lint *pass, const char *mode) {
    return strcmp(mezzo_config_text(pass->e->config, "precision.loss_scale.mode"), mode) == 0;
}

static double first_scale(const lint *pass) {
    double init = mezzo_config_real(pass->e->config, "precision.loss_scale.init");
    return init < 0.0 ? 65536.0 : init;
}

static mezzo_status unscaled(lint *pass) {
    bool f16, fixed_at_1 = mode_is(pass, "static") && first_scale(pass) <= 1.0;
    MZI_TRY(computes(pass, MEZZO_F16, NULL, &f16));
    if (!f16 || !(mode_is(pass, "none") || fixed_at_1))
        return MEZZO_OK;
    return add(pass, place(pass, "precision.loss_scale.mode", -1), 0x1p-25, MEZZO_F16,
               "gradients of 2^-25 or less are 0 in f16, and nothing scales them");
}

/* True if `pattern` matches an operation of the training plan, or a parameter. */
static mezzo_status matches(mzi_experiment *e, const char *pattern, bool operations, bool *found) {
    mezzo_plan_info info;
    *found = false;
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_TRAIN, &info));
    for (int k = 0; operations && k < info.op_count && !*found; k++) {
        mezzo_plan_op op;
        MZI_TRY(mezzo_model_plan_op(e->model, MEZZO_ENTRY_TRAIN, k, &op));
        *found = mzi_glob_match(pattern, op.name);
    }
    for (int k = 0; !operations && k < mezzo_model_state_count(e->model) && !*found; k++)
        *found = mzi_glob_match(pattern, mezzo_model_state_at(e->model, k).name);
    return MEZZO_OK;
}

static mezzo_status unmatched_of(lint *pass, const char *key, bool operations) {
    const mezzo_config *config = pass->e->config;
    for (int k = 0; k < mezzo_config_count(config, key); k++) {
        const char *pattern = mezzo_config_field_text(config, key, k, "match");
        bool found;
        MZI_TRY(matches(pass->e, pattern + (pattern[0] == '!'), operations, &found));
        if (!found)
            MZI_TRY(add(pass, place(pass, key, k), 0.0, MEZZO_DTYPE_NONE,
                        mzi_arena_text(&pass->findings->arena, "\"%s\" matches no %s", pattern,
                                       operations ? "operation" : "parameter")));
    }
    return MEZZO_OK;
}

static mezzo_status unmatched(lint *pass) {
    MZI_TRY(unmatched_of(pass, "precision.overrides", true));
    MZI_TRY(unmatched_of(pass, "train.recompute", true));
    return unmatched_of(pass, "optimizer.groups", false);
}

static mezzo_status warmup(lint *pass) {
    int64_t steps = pass->e->steps;
    int64_t rising = mezzo_config_int(pass->e->config, "schedule.warmup");
    if (rising == 0 || rising < steps)
        return MEZZO_OK;
    return add(pass, place(pass, "schedule.warmup", -1), (double)rising, MEZZO_DTYPE_NONE,
               mzi_arena_text(&pass->findings->arena, "%lld steps, of %lld in the run",
                              (long long)rising, (long long)steps));
}

static mezzo_status instructions(lint *pass) {
    mezzo_isa isa = mezzo_ctx_isa(pass->e->ctx);
    bool bf16;
    MZI_TRY(computes(pass, MEZZO_BF16, NULL, &bf16));
    if (!bf16 || isa >= MEZZO_ISA_AVX512_BF16)
        return MEZZO_OK;
    return add(pass, place(pass, "precision.compute", -1), 0.0, MEZZO_BF16,
               mzi_arena_text(&pass->findings->arena, "bf16 with the instructions of %s only",
                              mezzo_isa_name(isa)));
}

/* A row's gradient at its label is (p - 1) S / rows: beyond half of S / rows until p is 1/2. */
static mezzo_status scale(lint *pass) {
    int64_t rows = pass->e->data.shape.batch * mzi_dataset_rows(&pass->e->data);
    double gradient = first_scale(pass) / (2.0 * (double)rows), largest = mzi_largest(MEZZO_F16);
    bool apart, head, train;
    MZI_TRY(computes(pass, MEZZO_F16, "softmax_cross_entropy", &apart));
    MZI_TRY(computes(pass, MEZZO_F16, "linear_cross_entropy", &head));
    MZI_TRY(computes(pass, MEZZO_F16, "linear_cross_entropy_train", &train));
    if (!mode_is(pass, "static") || !(apart || head || train) || gradient <= largest)
        return MEZZO_OK;
    return add(pass, place(pass, "precision.loss_scale.init", -1), first_scale(pass), MEZZO_F16,
               mzi_arena_text(&pass->findings->arena,
                              "a scale of %g over %lld rows makes gradients of %.2g and more until "
                              "the network is right, and f16 ends at %g",
                              first_scale(pass), (long long)rows, gradient, largest));
}

static mezzo_status pointless_scale(lint *pass) {
    bool f16;
    MZI_TRY(computes(pass, MEZZO_F16, NULL, &f16));
    if (f16 || mode_is(pass, "auto") || mode_is(pass, "none"))
        return MEZZO_OK;
    return add(pass, place(pass, "precision.loss_scale.mode", -1), 0.0, MEZZO_DTYPE_NONE,
               "nothing computes in f16");
}

static mezzo_status masters(lint *pass) {
    const mezzo_model *model = pass->e->model;
    const char *form = mezzo_config_text(pass->e->config, "precision.master");
    bool any = strcmp(form, "f32") == 0 || strcmp(form, "auto") == 0;
    for (int s = 0; s < mezzo_model_state_count(model) && !any; s++)
        any = mezzo_model_state_at(model, s).master != MEZZO_MASTER_F32;
    if (any)
        return MEZZO_OK;
    return add(pass, place(pass, "precision.master", -1), 0.0, MEZZO_DTYPE_NONE,
               "every master is plain f32");
}

static mezzo_status gradients(lint *pass) {
    mezzo_model *model = pass->e->model;
    bool any = strcmp(mezzo_config_text(pass->e->config, "precision.gradients"), "bf16") != 0;
    MZI_TRY(mzi_model_ensure(model, MEZZO_ENTRY_TRAIN));
    const mezzo_graph *graph = model->entries[MEZZO_ENTRY_TRAIN].plan->graph;
    for (int32_t g = 0; g < graph->grad_count && !any; g++)
        any = graph->values[graph->grads[g].grad].tensor.dtype == MEZZO_BF16;
    if (any)
        return MEZZO_OK;
    return add(pass, place(pass, "precision.gradients", -1), 0.0, MEZZO_BF16,
               "every gradient of a parameter is f32");
}

static const struct {
    mzi_lint_id id;
    mezzo_status (*check)(lint *pass);
} checks[] = {
#define LINT_GRAPH(id, check, severity, title, why, fix)
#define LINT_CONFIG(id, check, severity, title, why, fix) {MZI_LINT_##id, check},
#include "base/lint.def"
#undef LINT_GRAPH
#undef LINT_CONFIG
};

mezzo_status mzi_lint_config(mzi_experiment *e, mzi_findings *out) {
    lint pass = {.e = e, .findings = out};
    for (size_t k = 0; k < sizeof checks / sizeof *checks; k++) {
        pass.rule = mezzo_lint_rule_at((int)checks[k].id);
        MZI_TRY(checks[k].check(&pass));
    }
    return MEZZO_OK;
}

mezzo_status mzi_lint_warn_unmatched(mzi_experiment *e) {
    mzi_findings findings;
    lint pass = {.e = e, .findings = &findings, .rule = mezzo_lint_rule_at(MZI_LINT_C002)};
    mzi_findings_init(&findings, e->ctx);
    mezzo_status status = unmatched(&pass);
    for (int32_t k = 0; status == MEZZO_OK && k < findings.count; k++)
        mzi_log(e->ctx, MEZZO_LOG_WARNING, "%s: %s; %s", findings.items[k].where,
                findings.items[k].text, findings.items[k].fix);
    mzi_findings_deinit(&findings);
    return status;
}
