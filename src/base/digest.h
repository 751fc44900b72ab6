/* BLAKE2b-256 (libsodium), as lower-case hex. */
#ifndef MZI_BASE_DIGEST_H
#define MZI_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define MZI_DIGEST_HEX 65 /* 64 digits and a NUL */

typedef struct mzi_digest {
    _Alignas(64) unsigned char state[384]; /* crypto_generichash_state */
} mzi_digest;

void mzi_digest_init(mzi_digest *digest);
void mzi_digest_add(mzi_digest *digest, const void *data, size_t bytes);
void mzi_digest_add_text(mzi_digest *digest,
                         const char *text); /* with its NUL, so that texts do not run together */
void mzi_digest_add_i64(mzi_digest *digest, int64_t value);
void mzi_digest_add_f64(mzi_digest *digest, double value);
void mzi_digest_end(mzi_digest *digest, char hex[MZI_DIGEST_HEX]);

#endif
