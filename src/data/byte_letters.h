/* Bytes as printable characters, as GPT-2's tokenizer files write them: a byte that Latin-1 prints
 * is that character, and the others are U+0100 and up, in their order. */
#ifndef MZI_DATA_BYTE_LETTERS_H
#define MZI_DATA_BYTE_LETTERS_H

#include <stddef.h>
#include <stdint.h>

/* The bytes in the order of their ids: printable ones first. */
void mzi_byte_order(uint8_t order[256]);
/* UTF-8, at most two bytes each and a NUL; the length. */
size_t mzi_letters_of_bytes(char *out, const uint8_t *bytes, size_t count);
/* The inverse, at most `size` bytes: their number, or -1 if a character stands for no byte. */
int32_t mzi_bytes_of_letters(uint8_t *out, const char *letters, size_t size);

#endif
