/* Recording errors, logging, and bounded formatting. */
#include <stdio.h>

#include "base/ctx.h"

static size_t format_va(char *out, size_t capacity, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));
static size_t format_va(char *out, size_t capacity, const char *format, va_list args) {
    if (capacity == 0)
        return 0;
    int needed = vsnprintf(out, capacity, format, args);
    if (needed < 0) {
        out[0] = '\0';
        return 0;
    }
    return (size_t)needed < capacity ? (size_t)needed : capacity - 1;
}

size_t mzi_format(char *out, size_t capacity, const char *format, ...) {
    va_list args;
    va_start(args, format);
    size_t kept = format_va(out, capacity, format, args);
    va_end(args);
    return kept;
}

/* The empty statement keeps the call, and with it the place to stop at, in optimised builds. */
__attribute__((noinline)) void mzi_error_breakpoint(const mezzo_error *error) {
    __asm__ volatile("" : : "g"(error) : "memory");
}

void mzi_error_clear(mezzo_ctx *ctx) {
    ctx->error.status = MEZZO_OK;
    ctx->error.line = 0;
    ctx->error.file = "";
    ctx->error.text[0] = '\0';
}

mezzo_status mzi_fail_va(mezzo_ctx *ctx, const char *file, int line, mezzo_status status,
                         const char *format, va_list args) {
    mezzo_error *error = &ctx->error;
    if (error->status != MEZZO_OK)
        return status;
    error->status = status;
    error->file = file;
    error->line = line;
    format_va(error->text, sizeof error->text, format, args);
    mzi_error_breakpoint(error);
    return status;
}

mezzo_status mzi_fail_at(mezzo_ctx *ctx, const char *file, int line, mezzo_status status,
                         const char *format, ...) {
    va_list args;
    va_start(args, format);
    mzi_fail_va(ctx, file, line, status, format, args);
    va_end(args);
    return status;
}

void mzi_log(const mezzo_ctx *ctx, mezzo_log_level level, const char *format, ...) {
    if (!ctx->log)
        return;
    char text[sizeof ctx->error.text];
    va_list args;
    va_start(args, format);
    format_va(text, sizeof text, format, args);
    va_end(args);
    ctx->log(ctx->log_user, level, text);
}
