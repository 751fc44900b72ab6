#include "base/text.h"

#include <stdio.h>

static bool make_room(mzi_text *text, int bytes) {
    if (text->status != MEZZO_OK || bytes < 0)
        return false;
    if (bytes > INT32_MAX - 1 - text->size)
        text->status = mzi_out_of_memory(text->ctx, (size_t)bytes, "a text");
    else
        text->status =
            mzi_grow(text->ctx, (void **)&text->data, &text->capacity, text->size + bytes + 1, 1);
    return text->status == MEZZO_OK;
}

void mzi_text_put(mzi_text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int bytes = vsnprintf(NULL, 0, format, args);
    if (make_room(text, bytes)) {
        vsnprintf(text->data + text->size, (size_t)bytes + 1, format, again);
        text->size += bytes;
    }
    va_end(again);
    va_end(args);
}

mezzo_status mzi_text_take(mzi_text *text, char **out) {
    mezzo_status status = text->status;
    char *copy = status == MEZZO_OK ? mzi_copy_text(text->ctx, text->data ? text->data : "") : NULL;
    if (status == MEZZO_OK && !copy)
        status = mzi_out_of_memory(text->ctx, (size_t)text->size, "a text");
    mzi_free(text->ctx, text->data, (size_t)text->capacity);
    *text = (mzi_text){.ctx = text->ctx};
    if (status == MEZZO_OK)
        *out = copy;
    return status;
}
