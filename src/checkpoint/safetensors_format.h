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

/* mezzo_safetensors_write over any file system.  `source_types`, if not null, gives the type of
 * each item's data in memory: the item's own, or F32, which is rounded to nearest even to F16 or
 * BF16 on the way, so that no second copy of the weights is needed. */
mezzo_status mzi_safetensors_write(mezzo_ctx *ctx, const mzi_fs *fs, const char *path,
                                   const mezzo_safetensors_item *items,
                                   const mezzo_dtype *source_types, int item_count,
                                   const mezzo_safetensors_note *notes, int note_count);

#endif
