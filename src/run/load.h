/* Whether more threads want CPUs than there are. */
#ifndef MZI_RUN_LOAD_H
#define MZI_RUN_LOAD_H

#include <stdbool.h>
#include <stdint.h>

typedef struct mzi_load {
    int threads; /* of the worker team                        */
    int cpus;    /* that this process may use, rounded up     */
    long cpus_online;
    uint64_t quota_milli; /* thousandths of a CPU; UINT64_MAX: no limit */
    double average;       /* threads of the machine that ran or could have, over a minute */
} mzi_load;

typedef enum mzi_load_kind {
    MZI_LOAD_THREADS, /* more workers than CPUs                */
    MZI_LOAD_QUOTA,   /* they use the group's quota up and wait */
    MZI_LOAD_OTHERS,  /* other programs are busy               */
    MZI_LOAD_WARNINGS
} mzi_load_kind;

enum {
    MZI_LOAD_TEXT = 240
};

/* True if there is something to warn of; `out` says what, and the way out. */
bool mzi_load_warning(const mzi_load *load, mzi_load_kind kind, char out[MZI_LOAD_TEXT]);

#endif
