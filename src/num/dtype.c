/* What the types are called and how large they are. */
#include <string.h>

#include "mezzo/number.h"

typedef struct dtype_info {
    const char *name;
    size_t bytes;
    bool is_float;
} dtype_info;

static const dtype_info infos[MEZZO_DTYPE_COUNT] = {{"none", 0, false},
#define X(name, text, bytes, is_float) {text, bytes, is_float},
                                                    MEZZO_DTYPE_MAP(X)
#undef X
};

static const dtype_info *find(mezzo_dtype dtype) {
    size_t index = (size_t)dtype;
    return &infos[index < MEZZO_DTYPE_COUNT ? index : MEZZO_DTYPE_NONE];
}

const char *mezzo_dtype_name(mezzo_dtype dtype) {
    return find(dtype)->name;
}

size_t mezzo_dtype_bytes(mezzo_dtype dtype) {
    return find(dtype)->bytes;
}

bool mezzo_dtype_is_float(mezzo_dtype dtype) {
    return find(dtype)->is_float;
}

mezzo_dtype mezzo_dtype_from_name(const char *name) {
    static const struct {
        const char *name;
        mezzo_dtype dtype;
    } aliases[] = {{"fp32", MEZZO_F32},
                   {"fp16", MEZZO_F16},
                   {"fp64", MEZZO_F64},
                   {"fp8_e4m3", MEZZO_F8_E4M3},
                   {"fp8_e5m2", MEZZO_F8_E5M2}};
    if (!name)
        return MEZZO_DTYPE_NONE;
    for (int i = MEZZO_DTYPE_NONE + 1; i < MEZZO_DTYPE_COUNT; i++)
        if (strcmp(name, infos[i].name) == 0)
            return (mezzo_dtype)i;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(name, aliases[i].name) == 0)
            return aliases[i].dtype;
    return MEZZO_DTYPE_NONE;
}
