/* Types, sizes and names of safetensors files. */
#include "checkpoint/safetensors_format.h"

#include <string.h>

#include "base/json.h"

/* The bytes of a tensor are the bytes of the values. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

static const mzi_safetensors_type types[] = {
    {"U8", MEZZO_U8, 0},   {"F8_E5M2", MEZZO_F8_E5M2, 1}, {"F8_E4M3", MEZZO_F8_E4M3, 2},
    {"F16", MEZZO_F16, 3}, {"BF16", MEZZO_BF16, 4},       {"I32", MEZZO_I32, 5},
    {"F32", MEZZO_F32, 6}, {"F64", MEZZO_F64, 7},
};
#define TYPE_COUNT (sizeof types / sizeof types[0])

const mzi_safetensors_type *mzi_safetensors_type_of(mezzo_dtype dtype) {
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (types[i].dtype == dtype)
            return &types[i];
    return NULL;
}

const mzi_safetensors_type *mzi_safetensors_type_named(const char *name) {
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

bool mzi_safetensors_bytes(const mezzo_shape *shape, mezzo_dtype dtype, int64_t *bytes) {
    int64_t product = 1;
    for (int32_t i = 0; i < shape->rank; i++)
        if (shape->dim[i] < 0 || __builtin_mul_overflow(product, shape->dim[i], &product))
            return false;
    if (__builtin_mul_overflow(product, (int64_t)mezzo_dtype_bytes(dtype), &product))
        return false;
    *bytes = product;
    return true;
}

const char *mzi_shown_name(char out[MZI_SHOWN_NAME], const char *name) {
    mzi_json text = {out, MZI_SHOWN_NAME - 1, 0, 0};
    mzi_json_string(&text, name);
    if (mzi_json_fits(&text))
        out[text.size] = '\0';
    else
        memcpy(out + MZI_SHOWN_NAME - 5, "...\"", 5);
    return out;
}
