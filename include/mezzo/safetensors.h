/* Reading and writing safetensors files.
 *
 *   | u64 LE: N | N bytes of JSON, padded with spaces to a multiple of 8 | tensors, little-endian |
 *
 * Written in the reference's order (F64, F32, I32, BF16, F16, F8_E4M3, F8_E5M2, U8, and by name
 * among those of one type), with "format": "pt" unless the caller gives another, so that Python's
 * safetensors and transformers read it.  Metadata is sorted by key.  Files are replaced as a whole
 * or not at all: temporary name, fsync, rename, fsync of the directory. */
#ifndef MEZZO_SAFETENSORS_H
#define MEZZO_SAFETENSORS_H

#include "mezzo/number.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mezzo_safetensors_item {
    const char *name;
    mezzo_dtype dtype; /* any */
    mezzo_shape shape;
    const void *data;
} mezzo_safetensors_item;
typedef struct mezzo_safetensors_note {
    const char *key, *value; /* goes to __metadata__ */
} mezzo_safetensors_note;

/* IO if it cannot be written; whatever stood at `path` stays then.  INVALID_ARGUMENT if a name or
 * key comes twice or is not UTF-8, or if there are more than 65,536 tensors. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_safetensors_write(mezzo_ctx *ctx, const char *path,
                                                                const mezzo_safetensors_item *items,
                                                                int item_count,
                                                                const mezzo_safetensors_note *notes,
                                                                int note_count);

typedef struct mezzo_safetensors mezzo_safetensors;
/* Maps the file and checks all of it but the values: DATA, naming the tensor and the value, if the
 * file is missing, its header is not JSON, has a key twice, a hole, an overlap, a type that
 * mezzo has not, a rank beyond MEZZO_RANK_MAX, a shape that does not fit its bytes, or the file has
 * another size than the header says.  Nobody may shorten the file while it is open; replacing it by
 * rename is safe. */
MEZZO_API MEZZO_MUST_CHECK mezzo_status mezzo_safetensors_open(mezzo_safetensors **out,
                                                               mezzo_ctx *ctx, const char *path);
MEZZO_API int mezzo_safetensors_count(const mezzo_safetensors *file);
/* In the order of their bytes; valid as long as `file`.  `data` is aligned to the type in files
 * that mezzo_safetensors_write made; in others it may not be. */
MEZZO_API mezzo_safetensors_item mezzo_safetensors_at(const mezzo_safetensors *file, int index);
MEZZO_API int mezzo_safetensors_find(const mezzo_safetensors *file,
                                     const char *name); /* -1: none */
/* A metadata value; null if there is none of that key. */
MEZZO_API const char *mezzo_safetensors_note_value(const mezzo_safetensors *file, const char *key);
MEZZO_API void mezzo_safetensors_close(mezzo_safetensors *file);

#ifdef __cplusplus
}
#endif
#endif
