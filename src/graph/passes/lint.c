/* The rules of lint.def that a graph can break: constants by the roles that operations declare
 * (mezzo/op.h), results by their expected size (range.c).  Forward and update are looked at:
 * backward's constants are forward's, and its values are the loss scale's business. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/lint.h"
#include "graph/plan.h"
#include "num/number.h"

/* Elements of a tensor of 10^4 and more reach four times their root mean square. */
#define PEAK 4.0
/* g^2 is 0 in FP32, whose least value is 2^-149, for |g| below 2^-75. */
#define ROOT_LEAST 0x1p-75

typedef struct lint {
    mezzo_graph *graph;
    mezzo_range *ranges;
    const mezzo_lint_rule *rule; /* the one that is looked at */
} lint;

/* One of a node's `reals`. */
typedef struct literal {
    char name[32], role[32];
    double value;
    bool is_f32;       /* it is used in FP32 */
    mezzo_dtype dtype; /* the type it is used in */
} literal;

/* Word `index` of `words`; false past the end. */
static bool word_at(const char *words, int index, char *out, size_t capacity) {
    const char *at = words ? words : "";
    for (; index > 0; index--) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    size_t bytes = strcspn(at, " ");
    mzi_format(out, capacity, "%.*s", (int)bytes, at);
    return bytes > 0;
}

static bool literal_at(const mzi_node *node, int index, literal *out) {
    if (index >= MEZZO_OP_REAL_MAX ||
        !word_at(node->op->real_roles, index, out->role, sizeof out->role))
        return false;
    if (!word_at(node->op->reals, index, out->name, sizeof out->name))
        mzi_format(out->name, sizeof out->name, "constant %d", index);
    char *colon = strchr(out->role, ':');
    out->is_f32 = colon && strcmp(colon, ":f32") == 0;
    if (out->is_f32)
        *colon = '\0';
    out->value = node->attrs.f[index];
    out->dtype = out->is_f32 ? MEZZO_F32 : node->compute;
    return true;
}

static double round_to(mezzo_dtype dtype, double x) {
    double stored = 0.0; /* wide enough for every type */
    mzi_store(&stored, dtype, 0, x);
    return mzi_load(&stored, dtype, 0);
}

/* 2^emin from the subnormal step 2^(emin - p + 1) and u = 2^-p. */
static double least_normal(mezzo_dtype dtype) {
    return mzi_tiny(dtype) / (2.0 * mzi_unit_roundoff(dtype));
}

static mezzo_status add(lint *pass, const mzi_node *node, double value, mezzo_dtype dtype,
                        const char *format, ...) MEZZO_PRINTF(5, 6);
static mezzo_status add(lint *pass, const mzi_node *node, double value, mezzo_dtype dtype,
                        const char *format, ...) {
    mezzo_graph *graph = pass->graph;
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    MZI_TRY(mzi_grow(graph->ctx, (void **)&graph->findings, &graph->finding_capacity,
                     graph->finding_count + 1, sizeof *graph->findings));
    const char *fix = pass->rule->fix;
    bool narrow = mezzo_dtype_bytes(node->compute) < 4 && dtype == node->compute;
    if (narrow && node->op != &mzi_op_cast)
        fix = mzi_arena_text(&graph->arena,
                             "precision.overrides: [{match: \"%s\", compute: f32}], or: %s",
                             node->name, pass->rule->fix);
    const char *copy = mzi_arena_text(&graph->arena, "%s", text);
    if (!copy || !fix)
        return mzi_out_of_memory(graph->ctx, 0, "findings");
    graph->findings[graph->finding_count++] =
        (mezzo_finding){pass->rule, node->name, value, dtype, copy, fix};
    return MEZZO_OK;
}

/* An update has one node for each parameter, with the same constant. */
static bool is_said(const lint *pass, const mzi_node *node, int index) {
    for (const mzi_node *n = pass->graph->nodes; n < node; n++)
        if (n->op == node->op && n->phase == MZI_PHASE_UPDATE &&
            n->attrs.f[index] <= node->attrs.f[index] && n->attrs.f[index] >= node->attrs.f[index])
            return true;
    return false;
}

static mezzo_status epsilon(lint *pass, const mzi_node *node) {
    literal c;
    for (int k = 0; literal_at(node, k, &c); k++) {
        double least = least_normal(c.dtype);
        if (strcmp(c.role, "epsilon") == 0 && !(c.value >= least))
            MZI_TRY(add(pass, node, c.value, c.dtype,
                        "%s = %g is %s in %s, whose least normal value is %g", c.name, c.value,
                        round_to(c.dtype, c.value) > 0.0 ? "subnormal" : "0 or less",
                        mezzo_dtype_name(c.dtype), least));
    }
    return MEZZO_OK;
}

static mezzo_status root_epsilon(lint *pass, const mzi_node *node) {
    literal c;
    for (int k = 0; literal_at(node, k, &c); k++)
        if (strcmp(c.role, "root_epsilon") == 0 && !(c.value >= ROOT_LEAST) &&
            !is_said(pass, node, k))
            MZI_TRY(add(pass, node, c.value, MEZZO_F32,
                        "%s = %g, and squares of gradients below 2^-75 = %g are 0 in f32: they "
                        "step up to %.1e times as far as any other",
                        c.name, c.value, ROOT_LEAST, ROOT_LEAST / fmax(c.value, 0.0)));
    return MEZZO_OK;
}

/* The expected size of in[0], or 1 if nothing is known of it; `*peak` gets that of its largest. */
static double size_of_input(const lint *pass, const mzi_node *node, double *peak) {
    double rms = node->in_count ? pass->ranges[node->in[0]].rms : (double)NAN;
    bool known = rms > 0.0 && rms <= mzi_largest(MEZZO_F32);
    *peak = known ? PEAK * rms : 1.0;
    return known ? rms : 1.0;
}

static const char *fate(double rounded) {
    return rounded != 0.0 ? "infinite" : "0";
}

static mezzo_status factor(lint *pass, const mzi_node *node, const literal *c) {
    bool rate = strcmp(c->role, "rate") == 0;
    double value = rate ? 1.0 / (1.0 - (double)(float)c->value) : c->value, peak;
    double size = size_of_input(pass, node, &peak), own = round_to(c->dtype, value);
    const char *form = rate ? "1/(1 - rate)" : c->name, *type = mezzo_dtype_name(node->compute);
    if (!isfinite(own) || (own == 0.0 && value != 0.0))
        return add(pass, node, value, c->dtype, "%s = %g is %s in %s", form, value, fate(own),
                   mezzo_dtype_name(c->dtype));
    double large = round_to(node->compute, peak * value);
    if (!isfinite(large))
        return add(pass, node, value, node->compute,
                   "%s = %g times elements near %.2g is beyond %g, the largest %s", form, value,
                   peak, mzi_largest(node->compute), type);
    if (value != 0.0 && round_to(node->compute, size * value) == 0.0)
        return add(pass, node, value, node->compute,
                   "%s = %g times elements near %.2g rounds to 0 in %s", form, value, size, type);
    return MEZZO_OK;
}

/* A cast of a parameter whose initial value the type cannot hold. */
static mezzo_status initial_value(lint *pass, const mzi_node *node) {
    const mzi_value *from = &pass->graph->values[node->in[0]];
    double a = (double)from->init.a, rounded = round_to(node->compute, a);
    if (from->kind != MZI_VALUE_PARAM || (isfinite(rounded) && (rounded != 0.0 || a == 0.0)))
        return MEZZO_OK;
    return add(pass, node, a, node->compute, "`%s` starts at %g%s, which is %s in %s", from->name,
               a, from->init.kind == MEZZO_INIT_CONSTANT ? "" : " and less", fate(rounded),
               mezzo_dtype_name(node->compute));
}

static mezzo_status constant(lint *pass, const mzi_node *node) {
    literal c;
    if (node->op == &mzi_op_cast)
        return initial_value(pass, node);
    for (int k = 0; literal_at(node, k, &c); k++)
        if (strcmp(c.role, "factor") == 0 || strcmp(c.role, "rate") == 0)
            MZI_TRY(factor(pass, node, &c));
    return MEZZO_OK;
}

/* An infinity is meant as one. */
static mezzo_status mask(lint *pass, const mzi_node *node) {
    literal c;
    for (int k = 0; literal_at(node, k, &c); k++)
        if (strcmp(c.role, "mask") == 0 && isfinite(c.value) &&
            !isfinite(round_to(c.dtype, c.value)))
            MZI_TRY(add(pass, node, c.value, c.dtype, "%s = %g is %sinfinity in %s", c.name,
                        c.value, c.value < 0.0 ? "-" : "", mezzo_dtype_name(c.dtype)));
    return MEZZO_OK;
}

static mezzo_status divisor(lint *pass, const mzi_node *node) {
    literal c;
    for (int k = 0; literal_at(node, k, &c); k++) {
        double own = round_to(c.dtype, c.value), peak;
        double size = size_of_input(pass, node, &peak);
        if (strcmp(c.role, "divisor") != 0)
            continue;
        if (!isfinite(own) || own == 0.0)
            MZI_TRY(add(pass, node, c.value, c.dtype, "%s = %g is %s in %s", c.name, c.value,
                        fate(own), mezzo_dtype_name(c.dtype)));
        else if (round_to(node->compute, size / c.value) == 0.0 ||
                 !isfinite(round_to(node->compute, peak / c.value)))
            MZI_TRY(add(pass, node, c.value, node->compute,
                        "elements near %.2g divided by %s = %g are %s in %s", size, c.name, c.value,
                        fate(round_to(node->compute, size / c.value)),
                        mezzo_dtype_name(node->compute)));
    }
    return MEZZO_OK;
}

static mezzo_status range(lint *pass, const mzi_node *node) {
    if (!node->out_count)
        return MEZZO_OK;
    int32_t out = node->out[0];
    mezzo_dtype dtype = pass->graph->values[out].tensor.dtype;
    if (!(pass->ranges[out].rms > mzi_largest(dtype)))
        return MEZZO_OK;
    return add(pass, node, pass->ranges[out].rms, dtype,
               "its elements are expected near %.2g, beyond %g, the largest %s",
               pass->ranges[out].rms, mzi_largest(dtype), mezzo_dtype_name(dtype));
}

static mezzo_status subnormal(lint *pass, const mzi_node *node) {
    literal c;
    for (int k = 0; literal_at(node, k, &c); k++) {
        double peak, size = size_of_input(pass, node, &peak);
        double least = least_normal(node->compute), result;
        if (strcmp(c.role, "factor") == 0)
            result = fabs(size * c.value);
        else if (strcmp(c.role, "divisor") == 0)
            result = fabs(size / c.value);
        else
            continue;
        if (round_to(node->compute, result) > 0.0 && result < least)
            MZI_TRY(add(pass, node, c.value, node->compute,
                        "%s = %g makes elements near %.2g, below %g, the least normal %s", c.name,
                        c.value, result, least, mezzo_dtype_name(node->compute)));
    }
    return MEZZO_OK;
}

static const struct {
    mzi_lint_id id;
    mezzo_status (*check)(lint *pass, const mzi_node *node);
} checks[] = {
#define LINT_GRAPH(id, check, severity, title, why, fix) {MZI_LINT_##id, check},
#define LINT_CONFIG(id, check, severity, title, why, fix)
#include "base/lint.def"
#undef LINT_GRAPH
#undef LINT_CONFIG
};

static mezzo_status check_roles(const mezzo_graph *graph, const mzi_node *node) {
    static const char *const roles[] = {"epsilon", "root_epsilon", "factor", "rate",
                                        "mask",    "divisor",      "-"};
    literal c;
    for (int k = 0; literal_at(node, k, &c); k++) {
        bool known = false;
        for (size_t r = 0; r < sizeof roles / sizeof *roles; r++)
            known |= strcmp(c.role, roles[r]) == 0;
        if (!known)
            MZI_FAIL(graph->ctx, MEZZO_INVALID_ARGUMENT,
                     "`%s`: %s has the role \"%s\" for %s; there are epsilon, root_epsilon, "
                     "factor, rate, mask, divisor and -, with :f32 or without",
                     node->name, node->op->name, c.role, c.name);
    }
    return MEZZO_OK;
}

static mezzo_status look(lint *pass) {
    mezzo_graph *graph = pass->graph;
    mzi_pass_range(graph, pass->ranges);
    for (int32_t n = 0; n < graph->node_count; n++) {
        const mzi_node *node = &graph->nodes[n];
        bool looked_at = node->phase <= MZI_PHASE_FORWARD || node->phase == MZI_PHASE_UPDATE;
        if (!looked_at || node->compute == MEZZO_F64)
            continue;
        MZI_TRY(check_roles(graph, node));
        for (size_t k = 0; k < sizeof checks / sizeof *checks; k++) {
            pass->rule = mezzo_lint_rule_at((int)checks[k].id);
            MZI_TRY(checks[k].check(pass, node));
        }
    }
    return MEZZO_OK;
}

static mezzo_status react(const mezzo_graph *graph, mezzo_lint_mode mode, bool log) {
    int errors = 0;
    const mezzo_finding *first = NULL;
    for (int32_t k = 0; k < graph->finding_count; k++) {
        const mezzo_finding *f = &graph->findings[k];
        bool stops = mode == MEZZO_LINT_STOP && f->rule->severity == MEZZO_LINT_ERROR;
        errors += stops;
        if (stops && !first)
            first = f;
        if (!stops && log && mode != MEZZO_LINT_OFF)
            mzi_log(graph->ctx, MEZZO_LOG_WARNING, "%s: `%s`: %s", f->rule->id, f->where, f->text);
    }
    if (!first)
        return MEZZO_OK;
    char more[64] = "";
    if (errors > 1)
        mzi_format(more, sizeof more, " (%d more; mezzo lint shows all)", errors - 1);
    MZI_FAIL(graph->ctx, MEZZO_CONFIG, "%s: `%s`: %s; %s%s; precision.lint: warn goes on",
             first->rule->id, first->where, first->text, first->fix, more);
}

mezzo_status mzi_pass_lint(mezzo_graph *graph, mezzo_lint_mode mode, bool log) {
    MZI_TRY(graph->status);
    lint pass = {.graph = graph};
    size_t bytes = (size_t)graph->value_count * sizeof *pass.ranges;
    pass.ranges = mzi_alloc(graph->ctx, bytes);
    if (!pass.ranges)
        return mzi_out_of_memory(graph->ctx, bytes, "expected sizes");
    graph->finding_count = 0;
    mezzo_status status = look(&pass);
    mzi_free(graph->ctx, pass.ranges, bytes);
    MZI_TRY(status);
    return react(graph, mode, log);
}
