/* What the reader and the writer of safetensors files share. */
#ifndef MZI_CHECKPOINT_SAFETENSORS_FORMAT_H
#define MZI_CHECKPOINT_SAFETENSORS_FORMAT_H

#include "base/fs.h"
#include "mezzo/safetensors.h"

/* The reference's limit on the header, and ours on the number of tensors: both keep a hostile file
 * from taking memory. */
#define MZI_SAFETENSORS_HEADER_MAX 100000000u
#define MZI_SAFETENSORS_COUNT_MAX 65536

/* Name in the file, and the place in it: files hold the types in falling order.  The reference
 * orders all its types by this list; ours is the part that mezzo has. */
typedef struct mzi_safetensors_type {
    const char *name;
    mezzo_dtype dtype;
    int order;
} mzi_safetensors_type;
/* Null if the format has no such type. */
const mzi_safetensors_type *mzi_safetensors_type_of(mezzo_dtype dtype);
/* Null if mezzo has no such type. */
const mzi_safetensors_type *mzi_safetensors_type_named(const char *name);

/* Bytes of a tensor, with the overflow checks that the reference makes, in its order.  False if a
 * dimension is negative or the product leaves 63 bits. */
bool mzi_safetensors_bytes(const mezzo_shape *shape, mezzo_dtype dtype, int64_t *bytes);

/* A name from a file, fit to be shown: quoted, escaped, cut to the buffer. */
#define MZI_SHOWN_NAME 96
const char *mzi_shown_name(char out[MZI_SHOWN_NAME], const char *name);

/* Where FP32 values come from, a part at a time: elements [first, first + count) of item `index`.
 * They are rounded to nearest even to the item's type (F32, F16 or BF16) on the way to the file, so
 * that no copy of a tensor is needed. */
typedef struct mzi_safetensors_source {
    mezzo_status (*read)(void *user, int index, int64_t first, int64_t count, float *out);
    void *user;
} mzi_safetensors_source;
/* FP32 values in memory, whatever the items' own types. */
mzi_safetensors_source mzi_safetensors_from_memory(const mezzo_safetensors_item *items);

/* mezzo_safetensors_write over any file system.  `source` null: each item's data, in its type. */
mezzo_status mzi_safetensors_write(mezzo_ctx *ctx, const mzi_fs *fs, const char *path,
                                   const mezzo_safetensors_item *items,
                                   const mzi_safetensors_source *source, int item_count,
                                   const mezzo_safetensors_note *notes, int note_count);

#endif
