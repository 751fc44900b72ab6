/* How much of the machine this process may use, and the clock. */
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/cpu.h"

static uint64_t affinity_count(void) {
    cpu_set_t sets[8]; /* 8 x 1024 CPUs, the most that Linux can be built for on x86 */
    if (sched_getaffinity(0, sizeof sets, sets) == 0)
        return (uint64_t)CPU_COUNT_S(sizeof sets, sets);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint64_t)online : 1;
}

int mzi_cpu_count(void) {
    uint64_t count = affinity_count();
    uint64_t milli = mzi_cgroup_read("").milli_cpus;
    /* Rounded up: a thread that gets half a CPU still helps, since chunks are claimed. */
    uint64_t quota = milli / 1000 + (milli % 1000 > 0);
    if (quota < count)
        count = quota;
    return count > 0 ? (int)count : 1;
}

uint64_t mzi_memory_available(void) {
    uint64_t kibibytes;
    uint64_t machine = UINT64_MAX;
    if (mzi_file_number("/proc/meminfo", "MemAvailable:", &kibibytes))
        machine = kibibytes * 1024;
    uint64_t group = mzi_cgroup_read("").memory_bytes;
    return machine < group ? machine : group;
}

uint64_t mzi_memory_resident_max(void) {
    /* The peak of this program; getrusage also counts what ran in the process before exec. */
    uint64_t kibibytes;
    if (mzi_file_number("/proc/self/status", "VmHWM:", &kibibytes))
        return kibibytes * 1024;
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

/* "5" resets the peak (proc(5), clear_refs); where that is not allowed the peak stays the
 * process's. */
void mzi_memory_resident_reset(void) {
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t written = write(fd, "5", 1);
    (void)written;
    close(fd);
}

int64_t mzi_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
