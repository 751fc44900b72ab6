/* What the readers of tokenizer files share. */
#ifndef MZI_DATA_TOKENIZER_FILES_H
#define MZI_DATA_TOKENIZER_FILES_H

#include "base/fs.h"
#include "data/bytes_map.h"
#include "data/tokenizer.h"

typedef struct mzi_tokenizer_reader {
    mezzo_ctx *ctx;
    const char *path;
    const char *text; /* the file, with a NUL behind it */
    size_t bytes;
    mezzo_tokenizer *t; /* once the number of ids is known */
    mzi_bytes_map ids;  /* tokens that merges may name, by their bytes */
    int32_t byte_ids[256];
    uint8_t *parts; /* the bytes of a merge: left, then right */
    int32_t parts_capacity;
} mzi_tokenizer_reader;

/* A merge as a file has it, looked up; -1: no such token.  `left_bytes` and `bytes` are the sizes
 * of the left part and of both, in `parts`. */
typedef struct mzi_merge_read {
    mzi_merge merge;
    int32_t left_bytes, bytes;
} mzi_merge_read;
/* DATA if a part is empty or has a character that stands for no byte; `where` says which merge. */
mezzo_status mzi_tokenizer_read_merge(mzi_tokenizer_reader *r, const char *where, const char *left,
                                      size_t left_size, const char *right, size_t right_size,
                                      mzi_merge_read *out);

/* A token that merges may name, from now on. */
mezzo_status mzi_tokenizer_name(mzi_tokenizer_reader *r, int32_t id);

/* Fills r->t from a tokenizer.json. */
mezzo_status mzi_tokenizer_read_json(mzi_tokenizer_reader *r);

#endif
