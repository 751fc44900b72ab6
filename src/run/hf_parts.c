#include "run/hf_parts.h"

#include <string.h>

#include "base/ctx.h"

/* Where `word` stands in `name` between dots or ends; null if it does not. */
static const char *find_word(const char *name, const char *word) {
    size_t bytes = strlen(word);
    for (const char *at = name; (at = strstr(at, word)) != NULL; at++)
        if ((at == name || at[-1] == '.') && (at[bytes] == '.' || at[bytes] == '\0'))
            return at;
    return NULL;
}

static mezzo_status append(mezzo_ctx *ctx, mzi_hf_parts *parts, const mzi_weight *weight) {
    MZI_TRY(mzi_grow(ctx, (void **)&parts->weights, &parts->capacity, parts->count + 1,
                     sizeof *parts->weights));
    parts->weights[parts->count++] = *weight;
    return MEZZO_OK;
}

static int64_t share_of(const mezzo_config *config, const mezzo_hf_part *part) {
    return part->share ? mezzo_config_int(config, part->share) : 1;
}

static mezzo_status split(mezzo_graph *graph, mzi_hf_parts *parts, const mezzo_hf_fused *fused,
                          const mezzo_config *config, const mzi_weight *whole) {
    const char *word = find_word(whole->name, fused->whole), *rest = word + strlen(fused->whole);
    int64_t rows = whole->shape.dim[0], count = mezzo_shape_count(whole->shape), shares = 0;
    float *data = whole->data;
    for (int k = 0; k < MEZZO_HF_PARTS_MAX && fused->parts[k].name; k++)
        shares += share_of(config, &fused->parts[k]);
    if (shares < 1 || rows % shares)
        MZI_FAIL(graph->ctx, MEZZO_DATA, "%s has %lld rows, which %lld equal shares do not divide",
                 whole->name, (long long)rows, (long long)shares);
    for (int k = 0; k < MEZZO_HF_PARTS_MAX && fused->parts[k].name; k++) {
        mzi_weight part = *whole;
        part.name = mzi_arena_text(&graph->arena, "%.*s%s%s", (int)(word - whole->name),
                                   whole->name, fused->parts[k].name, rest);
        if (!part.name)
            return mzi_out_of_memory(graph->ctx, 0, "the names of a model's tensors");
        part.shape.dim[0] = rows / shares * share_of(config, &fused->parts[k]);
        part.data = data;
        data += count / rows * part.shape.dim[0];
        MZI_TRY(append(graph->ctx, parts, &part));
    }
    return MEZZO_OK;
}

mezzo_status mzi_hf_parts_add(mezzo_graph *graph, mzi_hf_parts *parts, const mezzo_hf_map *map,
                              const mezzo_config *config, const mzi_weight *whole) {
    for (const mezzo_hf_fused *fused = map->fused; fused && fused->whole; fused++)
        if (find_word(whole->name, fused->whole))
            return split(graph, parts, fused, config, whole);
    return append(graph->ctx, parts, whole);
}

void mzi_hf_parts_deinit(mezzo_ctx *ctx, mzi_hf_parts *parts) {
    mzi_free(ctx, parts->weights, (size_t)parts->capacity * sizeof *parts->weights);
}
