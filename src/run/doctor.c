/* The machine and the build, and what they mean for the choice of a precision. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu/dnnl.h"
#include "base/cgroup.h"
#include "base/text.h"
#include "mezzo/run.h"
#include "run/load.h"
#include "run/report.h"

#define DATA_PATH "/usr/share/datasets/fashion-mnist"
#define DATA_PACKAGE "dataset-fashion-mnist"
#define WARNINGS_MAX 8

typedef struct findings {
    char cpu[128];
    mezzo_isa isa_best, isa_used;
    bool has_fp16, has_amx;
    int threads, cpus;
    long cpus_online;
    uint64_t quota_milli; /* thousandths of a CPU; UINT64_MAX: no limit */
    double load_average;  /* of a minute; 0: not known */
    uint64_t memory_available, memory_machine;
    const char *dnnl;
    bool has_dnnl, has_data, bf16_is_native;
    const char *recommended; /* as --precision takes it */
    char warnings[WARNINGS_MAX][240];
    int warning_count;
} findings;

static void warn(findings *f, const char *format, ...) MEZZO_PRINTF(2, 3);
static void warn(findings *f, const char *format, ...) {
    if (f->warning_count == WARNINGS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(f->warnings[f->warning_count++], sizeof f->warnings[0], format, args);
    va_end(args);
}

static bool has_data(void) {
    static const char *const files[] = {
        DATA_PATH "/train-images-idx3-ubyte.gz", DATA_PATH "/train-labels-idx1-ubyte.gz",
        DATA_PATH "/t10k-images-idx3-ubyte.gz", DATA_PATH "/t10k-labels-idx1-ubyte.gz"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (access(files[i], R_OK) != 0)
            return false;
    return true;
}

static uint64_t machine_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

static void collect_warnings(findings *f) {
    const mzi_load load = {.threads = f->threads,
                           .cpus = f->cpus,
                           .cpus_online = f->cpus_online,
                           .quota_milli = f->quota_milli,
                           .average = f->load_average};
    char text[MZI_LOAD_TEXT];
    for (int k = 0; k < MZI_LOAD_WARNINGS; k++)
        if (mzi_load_warning(&load, (mzi_load_kind)k, text))
            warn(f, "%s", text);
    if (f->isa_used < f->isa_best)
        warn(f, "held to %s, and the CPU has %s: leave the instruction set at auto",
             mezzo_isa_name(f->isa_used), mezzo_isa_name(f->isa_best));
    if (!f->bf16_is_native)
        warn(f, "bf16 has no products of its own here (the CPU needs AVX512_BF16): runs that ask "
                "for it compute in f32 (precision.speed_gate); off keeps bf16, smaller and slower "
                "than fp32");
    if (!f->has_dnnl)
        warn(f,
             "built without oneDNN: convolutions%s run in plain C, far slower; sudo apt install "
             "libdnnl-dev, and build again",
             f->isa_used < MEZZO_ISA_AVX512 ? " and matrix products" : "");
    if (!f->has_data)
        warn(f, "no Fashion-MNIST for the examples: sudo apt install " DATA_PACKAGE);
}

static void examine(findings *f, mezzo_ctx *ctx) {
    mzi_cpu_name(f->cpu, sizeof f->cpu);
    f->isa_best = mzi_cpu_isa();
    f->isa_used = mezzo_ctx_isa(ctx);
    f->has_fp16 = mzi_cpu_has_avx512_fp16();
    f->has_amx = mzi_cpu_has_amx_bf16();
    f->threads = mezzo_ctx_threads(ctx);
    f->cpus = mzi_cpu_count();
    f->cpus_online = sysconf(_SC_NPROCESSORS_ONLN);
    f->quota_milli = mzi_cgroup_read("").milli_cpus;
    if (getloadavg(&f->load_average, 1) != 1)
        f->load_average = 0.0;
    f->memory_available = mzi_memory_available();
    f->memory_machine = machine_memory();
    f->dnnl = mzi_dnnl_version();
    f->has_dnnl = strcmp(f->dnnl, "none") != 0;
    f->has_data = has_data();
    f->bf16_is_native = f->isa_used >= MEZZO_ISA_AVX512_BF16;
    f->recommended = f->bf16_is_native ? "bf16" : "fp32";
    collect_warnings(f);
}

static double gibibytes(uint64_t bytes) {
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

static void put_machine(mzi_text *p, const findings *f) {
    mzi_text_put(p, "Processor\n");
    mzi_text_put(p, "  %-17s %s\n", "CPU", f->cpu);
    mzi_text_put(p, "  %-17s %s%s%s\n", "instruction set", mezzo_isa_name(f->isa_used),
                 f->isa_used < f->isa_best ? ", of " : "",
                 f->isa_used < f->isa_best ? mezzo_isa_name(f->isa_best) : "");
    mzi_text_put(p, "  %-17s AVX512_FP16 %s, AMX %s\n", "and", f->has_fp16 ? "yes" : "no",
                 f->has_amx ? "yes" : "no");
    mzi_text_put(p, "  %-17s %d of %ld", "CPUs to use", f->cpus, f->cpus_online);
    if (f->quota_milli != UINT64_MAX)
        mzi_text_put(p, " (the control group allows %.2f)", (double)f->quota_milli / 1000.0);
    mzi_text_put(p, "\n  %-17s %d\n", "threads", f->threads);
    mzi_text_put(p, "  %-17s %.2f threads that want a CPU, over the last minute\n", "load",
                 f->load_average);
    mzi_text_put(p, "\nMemory\n");
    mzi_text_put(p, "  %-17s %.1f GiB of %.1f GiB\n", "available", gibibytes(f->memory_available),
                 gibibytes(f->memory_machine));
}

static void put_precisions(mzi_text *p, const findings *f) {
    mzi_text_put(p, "\nPrecision\n");
    mzi_text_put(p, "  %-17s %-9s %s\n", "fp32", "native",
                 "the reference: IEEE arithmetic throughout");
    mzi_text_put(p, "  %-17s %-9s %s\n", "bf16", f->bf16_is_native ? "native" : "converted",
                 f->bf16_is_native ? "products in BF16, sums in FP32; half the memory traffic"
                                   : "runs compute in FP32 instead; with precision.speed_gate off, "
                                     "half the memory, converted");
    mzi_text_put(p, "  %-17s %-9s %s\n", "fp16", "converted",
                 f->has_fp16 ? "computed in FP32 (the CPU's FP16 is not used); bf16 is faster"
                             : "stored and rounded as FP16, computed in FP32: no faster");
    mzi_text_put(p, "  %-17s %s\n", "recommended", f->recommended);
}

static void put_rest(mzi_text *p, const findings *f) {
    mzi_text_put(p, "\nBuild\n");
    mzi_text_put(p, "  %-17s %s\n", "mezzo", mezzo_version());
    mzi_text_put(p, "  %-17s %s\n", "oneDNN", f->dnnl);
    mzi_text_put(p, "  %-17s %s\n", "jansson", jansson_version_str());
    mzi_text_put(p, "\nData\n");
    mzi_text_put(p, "  %-17s %s\n", "fashion-mnist", f->has_data ? DATA_PATH : "not installed");
    mzi_text_put(p, "\n%s\n",
                 f->warning_count > 0 ? "To mend" : "Nothing to mend: this machine is ready.");
    for (int i = 0; i < f->warning_count; i++)
        mzi_text_put(p, "  %d. %s\n", i + 1, f->warnings[i]);
}

static mezzo_status as_text(mezzo_ctx *ctx, const findings *f, char **out) {
    mzi_text text = {.ctx = ctx};
    put_machine(&text, f);
    put_precisions(&text, f);
    put_rest(&text, f);
    return mzi_text_take(&text, out);
}

/* Memory sizes beyond 63 bits do not occur; a quota that is none is null. */
static json_t *build_json(const findings *f) {
    json_t *warnings = json_array();
    for (int i = 0; i < f->warning_count; i++)
        json_array_append_new(warnings, json_string(f->warnings[i]));
    json_t *quota =
        f->quota_milli == UINT64_MAX ? json_null() : json_real((double)f->quota_milli / 1000.0);
    return json_pack(
        "{s:{s:s,s:s,s:s,s:b,s:b,s:i,s:I,s:o,s:i,s:f},s:{s:I,s:I},s:{s:b,s:b,s:s},s:{s:s,s:o,s:s},"
        "s:{s:s?},s:o}",
        "cpu", "name", f->cpu, "isa", mezzo_isa_name(f->isa_used), "isa_best",
        mezzo_isa_name(f->isa_best), "avx512_fp16", f->has_fp16, "amx_bf16", f->has_amx, "cpus",
        f->cpus, "cpus_online", (json_int_t)f->cpus_online, "cgroup_cpus", quota, "threads",
        f->threads, "load_average", f->load_average, "memory", "available_bytes",
        (json_int_t)f->memory_available, "machine_bytes", (json_int_t)f->memory_machine,
        "precision", "bf16_native", f->bf16_is_native, "fp16_native", false, "recommended",
        f->recommended, "build", "mezzo", mezzo_version(), "onednn",
        f->has_dnnl ? json_string(f->dnnl) : json_null(), "jansson", jansson_version_str(), "data",
        "fashion-mnist", f->has_data ? DATA_PATH : NULL, "warnings", warnings);
}

mezzo_status mezzo_doctor(mezzo_ctx *ctx, bool json, char **out) {
    mzi_error_clear(ctx);
    findings f = {0};
    examine(&f, ctx);
    return json ? mzi_report_json(ctx, build_json(&f), out) : as_text(ctx, &f, out);
}
