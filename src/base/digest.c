#include "base/digest.h"

#include <sodium.h>
#include <string.h>

#define DIGEST_BYTES 32

_Static_assert(sizeof(crypto_generichash_state) <= sizeof(mzi_digest), "the state fits");
_Static_assert(2 * DIGEST_BYTES + 1 == MZI_DIGEST_HEX, "two digits a byte and a NUL");

static crypto_generichash_state *state_of(mzi_digest *digest) {
    return (void *)digest->state;
}

void mzi_digest_init(mzi_digest *digest) {
    /* This picks the fastest code for the CPU, once a process; if it fails (no source of random
     * numbers), the portable code computes the same digest. */
    int ready = sodium_init();
    (void)ready;
    crypto_generichash_init(state_of(digest), NULL, 0, DIGEST_BYTES);
}

void mzi_digest_add(mzi_digest *digest, const void *data, size_t bytes) {
    crypto_generichash_update(state_of(digest), data, bytes);
}

void mzi_digest_add_text(mzi_digest *digest, const char *text) {
    mzi_digest_add(digest, text, strlen(text) + 1);
}

static void add_u64(mzi_digest *digest, uint64_t value) {
    unsigned char bytes[8]; /* little-endian on every machine */
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
    mzi_digest_add(digest, bytes, sizeof bytes);
}

void mzi_digest_add_i64(mzi_digest *digest, int64_t value) {
    add_u64(digest, (uint64_t)value);
}

void mzi_digest_add_f64(mzi_digest *digest, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_u64(digest, bits);
}

void mzi_digest_end(mzi_digest *digest, char hex[MZI_DIGEST_HEX]) {
    unsigned char bytes[DIGEST_BYTES];
    crypto_generichash_final(state_of(digest), bytes, sizeof bytes);
    sodium_bin2hex(hex, MZI_DIGEST_HEX, bytes, sizeof bytes);
}
