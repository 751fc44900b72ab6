/* Images as samples: pixels brought to mean 0 by the loader's mean and scale, and a label. */
#include <math.h>

#include "data/images.h"
#include "data/source.h"

typedef struct image_source {
    const mezzo_images *images;
    int64_t sample_floats; /* H * W * C */
    float mean, scale;
    float table[256]; /* byte -> value */
} image_source;

/* Rounded to FP32 once. */
static float normalise(double value, const image_source *source) {
    return (float)((value - (double)source->mean) * (double)source->scale);
}

static void fill(const void *state, int64_t index, void *out, int32_t *labels) {
    const image_source *source = state;
    const mezzo_images *images = source->images;
    int64_t n = source->sample_floats;
    float *x = out;
    if (images->bytes) {
        const uint8_t *bytes = images->bytes + index * n;
        for (int64_t i = 0; i < n; i++)
            x[i] = source->table[bytes[i]];
    } else {
        const float *floats = images->floats + index * n;
        for (int64_t i = 0; i < n; i++)
            x[i] = normalise((double)floats[i], source);
    }
    *labels = images->labels[index];
}

mezzo_status mzi_source_of_images(mzi_source *out, mezzo_ctx *ctx, const mezzo_images *images,
                                  const mezzo_loader_config *config) {
    if (!images || !config)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT, "%s is null", images ? "config" : "images");
    if (!isfinite(config->mean) || !isfinite(config->scale) || config->scale == 0.0f)
        MZI_FAIL(ctx, MEZZO_INVALID_ARGUMENT,
                 "mean is %g and scale is %g; both must be finite, and scale not 0 (1 leaves the "
                 "values as they are)",
                 (double)config->mean, (double)config->scale);
    image_source *source = mzi_alloc(ctx, sizeof *source);
    if (!source)
        return mzi_out_of_memory(ctx, sizeof *source, "a loader");
    const mezzo_images_info *info = &images->info;
    *source = (image_source){.images = images,
                             .sample_floats = info->H * info->W * info->C,
                             .mean = config->mean,
                             .scale = config->scale};
    for (int p = 0; p < 256; p++)
        source->table[p] = normalise((double)p / 255.0, source);
    *out = (mzi_source){.count = info->count,
                        .x_bytes = source->sample_floats * (int64_t)sizeof(float),
                        .label_count = 1,
                        .state = source,
                        .state_bytes = sizeof *source,
                        .fill = fill};
    return MEZZO_OK;
}
