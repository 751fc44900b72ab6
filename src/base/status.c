/* Names and sentences of the status codes, and the version. */
#include "mezzo/base.h"

typedef struct status_info {
    const char *name;
    const char *text;
} status_info;

static const status_info infos[] = {
#define X(name, text) {#name, text},
    MEZZO_STATUS_MAP(X)
#undef X
};

static const status_info *find(mezzo_status status) {
    static const status_info unknown = {"UNKNOWN", "not a status of this library"};
    size_t index = (size_t)status;
    return index < sizeof infos / sizeof *infos ? &infos[index] : &unknown;
}

const char *mezzo_status_name(mezzo_status status) {
    return find(status)->name;
}

const char *mezzo_status_text(mezzo_status status) {
    return find(status)->text;
}

const char *mezzo_version(void) {
    return "0.1.0";
}
