/* Conversion of whole buffers, and the public random bits. */
#include "base/ctx.h"
#include "base/rng.h"
#include "num/number.h"

/* Elements a chunk: 64 KiB of f32, a multiple of the four that share a block of random words. */
#define GRAIN 16384

typedef struct job {
    void *dst;
    const void *src;
    mezzo_dtype dst_type, src_type;
    mezzo_rounding rounding;
    uint64_t seed;
} job;

static bool is_convertible(mezzo_dtype type) {
    return type == MEZZO_F32 || type == MEZZO_F16 || type == MEZZO_BF16 || type == MEZZO_F8_E4M3 ||
           type == MEZZO_F8_E5M2;
}

static float load(const job *j, int64_t i) {
    if (j->src_type == MEZZO_F32)
        return ((const float *)j->src)[i];
    if (j->src_type == MEZZO_F16)
        return mzi_f16_load(((const mezzo_f16 *)j->src)[i]);
    if (j->src_type == MEZZO_BF16)
        return mzi_bf16_load(((const mezzo_bf16 *)j->src)[i]);
    if (j->src_type == MEZZO_F8_E4M3)
        return mzi_f8_e4m3_load(((const mezzo_f8_e4m3 *)j->src)[i]);
    return mzi_f8_e5m2_load(((const mezzo_f8_e5m2 *)j->src)[i]);
}

static mezzo_f16 to_f16(mezzo_rounding rounding, float x, uint32_t random) {
    switch (rounding) {
    case MEZZO_ROUND_SATURATE:
        return mezzo_f16_from_f32_saturating(x);
    case MEZZO_ROUND_STOCHASTIC:
        return mezzo_f16_from_f32_stochastic(x, random);
    case MEZZO_ROUND_NEAREST:
        break;
    }
    return mzi_f16_round(x);
}

static mezzo_bf16 to_bf16(mezzo_rounding rounding, float x, uint32_t random) {
    switch (rounding) {
    case MEZZO_ROUND_SATURATE:
        return mezzo_bf16_from_f32_saturating(x);
    case MEZZO_ROUND_STOCHASTIC:
        return mezzo_bf16_from_f32_stochastic(x, random);
    case MEZZO_ROUND_NEAREST:
        break;
    }
    return mzi_bf16_round(x);
}

static mezzo_f8_e4m3 to_e4m3(mezzo_rounding rounding, float x, uint32_t random) {
    switch (rounding) {
    case MEZZO_ROUND_SATURATE:
        return mezzo_f8_e4m3_from_f32_saturating(x);
    case MEZZO_ROUND_STOCHASTIC:
        return mezzo_f8_e4m3_from_f32_stochastic(x, random);
    case MEZZO_ROUND_NEAREST:
        break;
    }
    return mzi_f8_e4m3_round(x);
}

static mezzo_f8_e5m2 to_e5m2(mezzo_rounding rounding, float x, uint32_t random) {
    switch (rounding) {
    case MEZZO_ROUND_SATURATE:
        return mezzo_f8_e5m2_from_f32_saturating(x);
    case MEZZO_ROUND_STOCHASTIC:
        return mezzo_f8_e5m2_from_f32_stochastic(x, random);
    case MEZZO_ROUND_NEAREST:
        break;
    }
    return mzi_f8_e5m2_round(x);
}

static void store(const job *j, int64_t i, float x, uint32_t random) {
    if (j->dst_type == MEZZO_F32)
        ((float *)j->dst)[i] = x;
    else if (j->dst_type == MEZZO_F16)
        ((mezzo_f16 *)j->dst)[i] = to_f16(j->rounding, x, random);
    else if (j->dst_type == MEZZO_BF16)
        ((mezzo_bf16 *)j->dst)[i] = to_bf16(j->rounding, x, random);
    else if (j->dst_type == MEZZO_F8_E4M3)
        ((mezzo_f8_e4m3 *)j->dst)[i] = to_e4m3(j->rounding, x, random);
    else
        ((mezzo_f8_e5m2 *)j->dst)[i] = to_e5m2(j->rounding, x, random);
}

static void convert_chunk(void *arg, int worker, int64_t begin, int64_t end) {
    (void)worker;
    const job *j = arg;
    uint32_t random[4] = {0, 0, 0, 0};
    for (int64_t i = begin; i < end; i++) {
        if (j->rounding == MEZZO_ROUND_STOCHASTIC && i % 4 == 0)
            mzi_rng4(random, j->seed, 0, (uint64_t)i / 4, 0);
        store(j, i, load(j, i), random[i % 4]);
    }
}

static void copy_chunk(void *arg, int worker, int64_t begin, int64_t end) {
    (void)worker;
    const job *j = arg;
    size_t bytes = mezzo_dtype_bytes(j->src_type);
    size_t offset = (size_t)begin * bytes;
    memcpy((unsigned char *)j->dst + offset, (const unsigned char *)j->src + offset,
           (size_t)(end - begin) * bytes);
}

static bool overlap(const job *j, size_t count) {
    uintptr_t dst = (uintptr_t)j->dst, src = (uintptr_t)j->src;
    return dst < src + count * mezzo_dtype_bytes(j->src_type) &&
           src < dst + count * mezzo_dtype_bytes(j->dst_type);
}

static mezzo_status check(mezzo_ctx *ctx, const job *j, size_t count) {
    if (!is_convertible(j->dst_type) || !is_convertible(j->src_type))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "cannot convert %s to %s: only f32, f16, bf16, f8_e4m3 and f8_e5m2 are converted",
                 mezzo_dtype_name(j->src_type), mezzo_dtype_name(j->dst_type));
    int rounding = (int)j->rounding;
    if (rounding < MEZZO_ROUND_NEAREST || rounding > MEZZO_ROUND_STOCHASTIC)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "rounding is %d; it is none of mezzo_rounding",
                 rounding);
    if (count > PTRDIFF_MAX / sizeof(float))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "count is %zu, more than memory can hold", count);
    if (count > 0 && (!j->dst || !j->src))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%s is null, and count is %zu",
                 j->dst ? "src" : "dst", count);
    bool same = j->dst == j->src && j->dst_type == j->src_type;
    if (!same && overlap(j, count))
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "dst and src overlap in %zu values of %s to %s; use two buffers", count,
                 mezzo_dtype_name(j->src_type), mezzo_dtype_name(j->dst_type));
    return MEZZO_OK;
}

mezzo_status mezzo_convert(mezzo_ctx *ctx, void *dst, mezzo_dtype dst_type, const void *src,
                           mezzo_dtype src_type, size_t count, mezzo_rounding rounding,
                           uint64_t seed) {
    mzi_error_clear(ctx);
    job j = {dst, src, dst_type, src_type, rounding, seed};
    MZI_TRY(check(ctx, &j, count));
    if (dst_type != src_type)
        mzi_team_run(ctx->team, convert_chunk, &j, (int64_t)count, GRAIN);
    else if (dst != src)
        mzi_team_run(ctx->team, copy_chunk, &j, (int64_t)count, GRAIN);
    return MEZZO_OK;
}

void mezzo_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    mzi_philox(out, counter, key);
}
