#include "checkkern_pages.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* |no|  slot  |no|  slot  |no| ...; a page is 4 KiB or a divisor of SLOT. */
enum {
    SLOTS = MZK_OUT_MAX + MZK_IN_MAX,
    SLOT = 1 << 18
};

static char *slot(int k) {
    static char *area;
    if (!area) {
        size_t bytes = (size_t)(2 * SLOTS + 1) * SLOT;
        area = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED)
            abort();
        for (int i = 0; i < SLOTS; i++)
            if (mprotect(area + (size_t)(2 * i + 1) * SLOT, SLOT, PROT_READ | PROT_WRITE))
                abort();
    }
    return area + (size_t)(2 * k + 1) * SLOT;
}

static void *place(int k, const ck_operand *o, bool at_end, bool copy) {
    size_t bytes = (size_t)o->count * mezzo_dtype_bytes(o->type);
    if (bytes > SLOT)
        abort();
    char *p = slot(k) + (at_end ? SLOT - bytes : 0);
    if (copy && bytes)
        memcpy(p, o->data, bytes);
    else
        memset(p, 0xaa, bytes);
    return p;
}

void ck_pages_place(const ck_case *c, mzk_args *args, bool at_end) {
    for (int k = 0; k < c->outs; k++)
        if (args->out[k])
            args->out[k] = place(k, &c->out[k], at_end, false);
    for (int k = 0; k < c->ins; k++)
        if (args->in[k])
            args->in[k] = place(MZK_OUT_MAX + k, &c->in[k], at_end, true);
}

static const char *watched;

static void say(const char *part) {
    if (write(STDOUT_FILENO, part, strlen(part)) < 0)
        _exit(1);
}

static void fault(int number) {
    (void)number;
    say("FAIL ");
    say(watched ? watched : "checkkern itself");
    say(" pages: touched memory outside of its operands; nothing after it was checked\n"
        "0 passed, 1 failed\n");
    _exit(1);
}

void ck_pages_watch(const char *kernel) {
    watched = kernel;
    struct sigaction action = {.sa_handler = kernel ? fault : SIG_DFL};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}
