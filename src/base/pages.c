#include "base/pages.h"

#include <sys/mman.h>

/* Far above what a heap gives back to the next caller without a system call. */
#define LARGE ((size_t)4 << 20)

bool mzi_pages_suit(size_t bytes) {
    return bytes >= LARGE;
}

/* Small pages: 2 GiB of them take two workers 0.4 s, whatever the state of the machine.  Huge ones
 * take 0.06 s at best, but where memory is in pieces, or a virtual machine's host has yet to
 * provide it, seconds (measured 0.06 to 4.5 s). */
void *mzi_pages_take(size_t bytes) {
    void *taken = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return taken == MAP_FAILED ? NULL : taken;
}

void mzi_pages_return(void *memory, size_t bytes) {
    munmap(memory, bytes);
}
