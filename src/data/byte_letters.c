#include "data/byte_letters.h"

#include <stdbool.h>

#define FIRST_LETTER 0x100

static bool is_printable(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

void mzi_byte_order(uint8_t order[256]) {
    int id = 0;
    for (unsigned byte = 0; byte < 256; byte++)
        if (is_printable(byte))
            order[id++] = (uint8_t)byte;
    for (unsigned byte = 0; byte < 256; byte++)
        if (!is_printable(byte))
            order[id++] = (uint8_t)byte;
}

/* Bytes below `byte` that are not printable. */
static unsigned hidden_below(unsigned byte) {
    if (byte <= 0x20)
        return byte;
    return byte <= 0xa0 ? 0x21 + byte - 0x7f : 0x21 + 0xa1 - 0x7f;
}

/* The byte that a character stands for, or -1. */
static int byte_of(unsigned letter) {
    if (letter < FIRST_LETTER)
        return is_printable(letter) ? (int)letter : -1;
    unsigned place = letter - FIRST_LETTER;
    if (place <= 0x20)
        return (int)place;
    if (place < hidden_below(0xad))
        return (int)(place - 0x21 + 0x7f);
    return place == hidden_below(0xad) ? 0xad : -1;
}

size_t mzi_letters_of_bytes(char *out, const uint8_t *bytes, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned letter = bytes[i];
        if (!is_printable(letter))
            letter = FIRST_LETTER + hidden_below(letter);
        if (letter < 0x80) {
            out[size++] = (char)letter;
        } else {
            out[size++] = (char)(0xc0 | letter >> 6);
            out[size++] = (char)(0x80 | (letter & 0x3f));
        }
    }
    out[size] = '\0';
    return size;
}

int32_t mzi_bytes_of_letters(uint8_t *out, const char *letters, size_t size) {
    int32_t count = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned letter = (uint8_t)letters[i];
        if (letter >= 0x80) { /* every letter is below U+0800: two bytes of UTF-8 */
            unsigned second = i + 1 < size ? (uint8_t)letters[i + 1] : 0;
            if (letter < 0xc2 || letter > 0xdf || (second & 0xc0) != 0x80)
                return -1;
            letter = (letter & 0x1f) << 6 | (second & 0x3f);
            i++;
        }
        int byte = byte_of(letter);
        if (byte < 0)
            return -1;
        out[count++] = (uint8_t)byte;
    }
    return count;
}
