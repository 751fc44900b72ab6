/* What the control groups of this process leave it, in version 1 and 2 alike. */
#ifndef MZI_BASE_CGROUP_H
#define MZI_BASE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The least over all levels of the hierarchy; UINT64_MAX where there is no limit.  CPU time is in
 * thousandths of a CPU.  Memory is the limit less what is in use, file pages that the kernel would
 * give up first not counted. */
typedef struct mzi_cgroup_limits {
    uint64_t milli_cpus;
    uint64_t memory_bytes;
} mzi_cgroup_limits;

/* `root` stands before every absolute path: "" for this machine, a directory in tests. */
mzi_cgroup_limits mzi_cgroup_read(const char *root);

/* The number after `key` at the start of a line of a file such as /proc/meminfo. */
bool mzi_file_number(const char *path, const char *key, uint64_t *value);

#endif
