/* `mezzo plan`: every operation with its type, kernel and reason; rules; casts; memory; hashes. */
#include <math.h>
#include <string.h>

#include "num/number.h"
#include "run/plan_masters.h"
#include "run/plan_rules.h"
#include "run/saved.h"
#include "train/average.h"

static double mebibytes(uint64_t bytes) {
    return (double)bytes / 0x1p20;
}

/* Of the columns whose longest text only the plan knows. */
typedef struct widths {
    int name, kernel, shape, cast;
} widths;

static void widen(int *width, const char *text) {
    int length = (int)strlen(text);
    *width = length > *width ? length : *width;
}

static mezzo_status measure(mezzo_model *model, int op_count, widths *w) {
    *w = (widths){.name = (int)strlen("operation"),
                  .kernel = (int)strlen("kernel"),
                  .shape = (int)strlen("shape")};
    for (int k = 0; k < op_count; k++) {
        char shape[MZI_SHAPE_TEXT] = "";
        mezzo_plan_op op;
        MZI_TRY(mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, k, &op));
        if (op.shape.rank >= 0)
            mzi_shape_text(shape, op.shape);
        widen(&w->name, op.name);
        widen(&w->kernel, op.kernel);
        widen(&w->shape, shape);
        if (op.is_cast)
            widen(&w->cast, op.name);
    }
    return MEZZO_OK;
}

static mezzo_status put_operations(mzi_text *text, mezzo_model *model, int op_count,
                                   const widths *w) {
    mzi_text_put(text, "  %-9s %-*s %-4s %-*s %-*s %-8s %s\n", "phase", w->name, "operation",
                 "type", w->kernel, "kernel", w->shape, "shape", "rule", "reason");
    for (int k = 0; k < op_count; k++) {
        char shape[MZI_SHAPE_TEXT] = "";
        mezzo_plan_op op;
        MZI_TRY(mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, k, &op));
        if (op.shape.rank >= 0)
            mzi_shape_text(shape, op.shape);
        mzi_text_put(text, "  %-9s %-*s %-4s %-*s %-*s %-8s %s%s%s\n", op.phase, w->name, op.name,
                     mezzo_dtype_name(op.compute), w->kernel, op.kernel, w->shape, shape, op.rule,
                     op.reason, op.fallback ? "  ! " : "", op.fallback ? op.fallback : "");
    }
    return MEZZO_OK;
}

static void put_memory(mzi_text *text, const mezzo_plan_info *i, uint64_t eval_bytes) {
    uint64_t total = i->state_bytes + i->weight_bytes + i->activation_bytes + i->scratch_bytes;
    mzi_text_put(text, "\nmemory      %9.2f MiB\n", mebibytes(total + eval_bytes));
    mzi_text_put(text, "  state     %9.2f MiB  masters, moments, statistics, averages\n",
                 mebibytes(i->state_bytes));
    mzi_text_put(text, "  weights   %9.2f MiB  low-precision and packed copies\n",
                 mebibytes(i->weight_bytes));
    mzi_text_put(text, "  training  %9.2f MiB  activations and gradients\n",
                 mebibytes(i->activation_bytes));
    mzi_text_put(text, "  workspace %9.2f MiB  of kernels, all workers\n",
                 mebibytes(i->scratch_bytes));
    mzi_text_put(text,
                 "  eval      %9.2f MiB  activations, workspace, weights behind their average\n",
                 mebibytes(eval_bytes));
}

static mezzo_status put_casts(mzi_text *text, mezzo_model *model, const mezzo_plan_info *info,
                              int width) {
    mzi_text_put(text, "\ncasts       %d\n", info->cast_count);
    for (int k = 0; k < info->op_count; k++) {
        mezzo_plan_op op;
        MZI_TRY(mezzo_model_plan_op(model, MEZZO_ENTRY_TRAIN, k, &op));
        if (op.is_cast)
            mzi_text_put(text, "  %-*s  %4s -> %-4s %9.3f MiB  %-11s  %s\n", width, op.name,
                         mezzo_dtype_name(op.cast_from), mezzo_dtype_name(op.cast_to),
                         mebibytes(op.out_bytes),
                         strcmp(op.phase, "prepare") == 0 ? "once a step" : op.phase, op.reason);
    }
    return MEZZO_OK;
}

static void put_meters(mzi_text *text, int tensors, int64_t every) {
    if (every > 0)
        mzi_text_put(text, "meters      %d tensors, every %lld steps\n", tensors, (long long)every);
    else
        mzi_text_put(text, "meters      off\n");
}

static void put_scale(mzi_text *text, const mzi_experiment *e) {
    const mezzo_scaler scaler = mezzo_trainer_get_state(e->trainer).scaler;
    mzi_text_put(text, "\nloss scale  %s", mzi_scale_mode_name(scaler.config.mode));
    if (scaler.config.mode != MEZZO_SCALE_NONE)
        mzi_text_put(text, ", 2^%d at first", ilogb(scaler.scale));
    if (scaler.config.mode == MEZZO_SCALE_HEADROOM)
        mzi_text_put(text, ", measured every %d attempts", scaler.config.growth_interval);
    mzi_text_put(text, "\n");
}

static void put_segments(mzi_text *text, const mezzo_model *model) {
    int count = mezzo_model_segment_count(model);
    mzi_text_put(text, "segments    %d%s\n", count, count ? "" : ", one scale for all gradients");
    for (int k = 0; k < count; k++) {
        mezzo_segment s = mezzo_model_segment_at(model, k);
        mzi_text_put(text, "  from %-30s x 2^%-4d", s.from, s.exponent);
        if (s.high > 0.0)
            mzi_text_put(text, " maxima 2^%.1f to 2^%.1f", log2(s.low), log2(s.high));
        mzi_text_put(text, "\n");
    }
}

static void put_slow(mzi_text *text, const mezzo_model *model) {
    int count = mezzo_model_slow_count(model);
    mzi_text_put(text, "speed gate  %d layers in f32\n", count);
    for (int k = 0; k < count; k++) {
        mezzo_slow_layer s = mezzo_model_slow_at(model, k);
        mzi_text_put(text, "  %s", s.name);
        if (s.bf16_us > 0.0)
            mzi_text_put(text, ": %.0f us in bf16, %.0f in f32", s.bf16_us, s.f32_us);
        mzi_text_put(text, "\n");
    }
}

static json_t *slow_json(const mezzo_model *model) {
    json_t *layers = json_array();
    for (int k = 0; k < mezzo_model_slow_count(model); k++) {
        mezzo_slow_layer s = mezzo_model_slow_at(model, k);
        json_array_append_new(layers, json_pack("{s:s,s:f,s:f}", "layer", s.name, "bf16_us",
                                                s.bf16_us, "f32_us", s.f32_us));
    }
    return layers;
}

static mezzo_status as_text(mzi_experiment *e, const mezzo_plan_info *info, uint64_t eval_bytes,
                            mzi_text *text) {
    widths w;
    MZI_TRY(measure(e->model, info->op_count, &w));
    mzi_text_put(text, "%s, batch %lld, %s, %s, %d workers\n\n", e->kind->name,
                 (long long)e->data.shape.batch, mezzo_dtype_name(e->precision),
                 mezzo_isa_name(mezzo_ctx_isa(e->ctx)), mezzo_ctx_threads(e->ctx));
    MZI_TRY(put_operations(text, e->model, info->op_count, &w));
    MZI_TRY(mzi_plan_rules_text(e, info, text));
    MZI_TRY(put_casts(text, e->model, info, w.cast));
    mzi_plan_masters_text(text, e->model, info);
    put_scale(text, e);
    put_segments(text, e->model);
    if (e->has_speed_pins)
        put_slow(text, e->model);
    put_memory(text, info, eval_bytes);
    mzi_text_put(text, "\nwork        %.2f GFLOP a step in %d kernel calls, %d of them fallbacks\n",
                 info->flops * 1e-9, info->call_count, info->fallback_count);
    put_meters(text, info->meter_count, mezzo_config_int(e->config, "train.meter_every"));
    mzi_text_put(text, "numerics    %s\nexecution   %s\n", info->numerics_hash,
                 info->execution_hash);
    return MEZZO_OK;
}

static json_t *shape_json(const mezzo_shape *shape) {
    json_t *dims = json_array();
    for (int d = 0; d < shape->rank; d++)
        json_array_append_new(dims, json_integer(shape->dim[d]));
    return dims;
}

static json_t *operation_json(const mzi_experiment *e, const mezzo_plan_op *op) {
    char source[MZI_SOURCE_TEXT];
    json_t *in = json_array();
    for (int k = 0; k < op->in_count; k++)
        json_array_append_new(in, op->in[k].rank < 0 ? json_null() : shape_json(&op->in[k]));
    json_t *object =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s?,s:o,s:o,s:I,s:f}", "name", op->name, "op",
                  op->op, "phase", op->phase, "type", mezzo_dtype_name(op->compute), "rule",
                  op->rule, "reason", op->reason, "source", mzi_plan_source(e, op, source),
                  "kernel", op->kernel, "fallback", op->fallback, "shape", shape_json(&op->shape),
                  "in", in, "out_bytes", (json_int_t)op->out_bytes, "flops", op->flops);
    if (object && op->is_cast)
        json_object_set_new(object, "cast",
                            json_pack("{s:s,s:s}", "from", mezzo_dtype_name(op->cast_from), "to",
                                      mezzo_dtype_name(op->cast_to)));
    return object;
}

static json_t *segments_json(const mezzo_model *model) {
    json_t *segments = json_array();
    for (int k = 0; k < mezzo_model_segment_count(model); k++) {
        mezzo_segment s = mezzo_model_segment_at(model, k);
        json_array_append_new(segments, json_pack("{s:s,s:i,s:f,s:f}", "from", s.from, "exponent",
                                                  s.exponent, "low", s.low, "high", s.high));
    }
    return segments;
}

static mezzo_status as_json(mzi_experiment *e, const mezzo_plan_info *info, uint64_t eval_bytes,
                            json_t **out) {
    const mezzo_scaler scaler = mezzo_trainer_get_state(e->trainer).scaler;
    json_t *operations = json_array();
    for (int k = 0; k < info->op_count; k++) {
        mezzo_plan_op op;
        mezzo_status status = mezzo_model_plan_op(e->model, MEZZO_ENTRY_TRAIN, k, &op);
        if (status != MEZZO_OK) {
            json_decref(operations);
            return status;
        }
        json_array_append_new(operations, operation_json(e, &op));
    }
    json_t *rules = NULL;
    mezzo_status counted = mzi_plan_rules_json(e, info, &rules);
    if (counted != MEZZO_OK) {
        json_decref(operations);
        return counted;
    }
    *out = json_pack(
        "{s:i,s:s,s:I,s:s,s:s,s:i,s:s,s:s,s:i,s:i,s:i,s:f,s:{s:I,s:I,s:I,s:I,s:I},"
        "s:{s:i,s:I},s:{s:s,s:f},s:o,s:o,s:o,s:o,s:o,s:o}",
        "schema_version", 1, "model", e->kind->name, "batch", (json_int_t)e->data.shape.batch,
        "precision", mezzo_dtype_name(e->precision), "isa", mezzo_isa_name(mezzo_ctx_isa(e->ctx)),
        "threads", mezzo_ctx_threads(e->ctx), "numerics_hash", info->numerics_hash,
        "execution_hash", info->execution_hash, "casts", info->cast_count, "kernel_calls",
        info->call_count, "fallbacks", info->fallback_count, "flops", info->flops, "memory",
        "state_bytes", (json_int_t)info->state_bytes, "weight_bytes",
        (json_int_t)info->weight_bytes, "activation_bytes", (json_int_t)info->activation_bytes,
        "workspace_bytes", (json_int_t)info->scratch_bytes, "eval_bytes", (json_int_t)eval_bytes,
        "meters", "tensors", info->meter_count, "every",
        (json_int_t)mezzo_config_int(e->config, "train.meter_every"), "loss_scale", "mode",
        mzi_scale_mode_name(scaler.config.mode), "init", scaler.scale, "rules", rules, "masters",
        mzi_plan_masters_json(e->model), "bytes", mzi_plan_cost_json(e->model, info), "segments",
        segments_json(e->model), "speed_pins", slow_json(e->model), "operations", operations);
    return MEZZO_OK;
}

mezzo_status mzi_plan_report(mzi_experiment *e, bool json, char **out) {
    mezzo_plan_info info, eval;
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_EVAL, &eval));
    MZI_TRY(mezzo_model_plan_info(e->model, MEZZO_ENTRY_TRAIN, &info));
    uint64_t eval_bytes = eval.activation_bytes + eval.scratch_bytes +
                          (uint64_t)mzi_average_count(e->model) * sizeof(float);
    if (json) {
        json_t *root = NULL;
        MZI_TRY(as_json(e, &info, eval_bytes, &root));
        return mzi_report_json(e->ctx, root, out);
    }
    mzi_text text = {.ctx = e->ctx};
    mezzo_status status = as_text(e, &info, eval_bytes, &text);
    char *made = NULL;
    mezzo_status taken = mzi_text_take(&text, &made);
    if (status == MEZZO_OK)
        status = taken;
    if (status == MEZZO_OK)
        *out = made;
    else
        mzi_free_text(e->ctx, made);
    return status;
}

mezzo_status mezzo_run_plan(mezzo_runner *runner, const mezzo_config *config, bool json,
                            char **out) {
    mzi_experiment e;
    mzi_error_clear(runner->ctx);
    mezzo_status status = mzi_experiment_create(&e, runner, config, NULL);
    if (status == MEZZO_OK)
        status = mzi_plan_report(&e, json, out);
    mzi_experiment_destroy(&e);
    return status;
}
