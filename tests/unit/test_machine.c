/* What the machine and its control groups leave this process, on made-up trees of /proc and /sys.
 */
#include <sched.h>

#include "base/cgroup.h"
#include "base/cpu.h"
#include "unit/tempdir.h"

static void expect(const char *root, uint64_t milli_cpus, uint64_t memory_bytes) {
    mzi_cgroup_limits limits = mzi_cgroup_read(root);
    assert_int_equal(limits.milli_cpus, milli_cpus);
    assert_int_equal(limits.memory_bytes, memory_bytes);
}

static void test_no_cgroups(void **state) {
    (void)state;
    char root[256];
    tempdir_make(root);
    expect(root, UINT64_MAX, UINT64_MAX);
    tempdir_remove(root);
}

/* The least of all levels binds, wherever it is. */
static void test_version_2(void **state) {
    (void)state;
    char root[256];
    tempdir_make(root);
    tempdir_write(root, "/proc/self/cgroup", "0::/jobs/train\n");
    tempdir_write(root, "/proc/self/mountinfo",
                  "22 27 0:21 / /proc rw - proc proc rw\n"
                  "29 27 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n");
    tempdir_write(root, "/sys/fs/cgroup/jobs/train/cpu.max", "max 100000\n");
    tempdir_write(root, "/sys/fs/cgroup/jobs/train/memory.max", "5000\n");
    tempdir_write(root, "/sys/fs/cgroup/jobs/train/memory.current", "1000\n");
    expect(root, UINT64_MAX, 4000);
    tempdir_write(root, "/sys/fs/cgroup/jobs/train/memory.stat", "anon 1\ninactive_file 300\n");
    expect(root, UINT64_MAX, 4300);
    tempdir_write(root, "/sys/fs/cgroup/jobs/cpu.max", "150000 100000\n");
    tempdir_write(root, "/sys/fs/cgroup/jobs/memory.max", "6000\n");
    tempdir_write(root, "/sys/fs/cgroup/jobs/memory.current", "5500\n");
    expect(root, 1500, 500);
    tempdir_write(root, "/sys/fs/cgroup/cpu.max", "50000 100000\n");
    tempdir_write(root, "/sys/fs/cgroup/memory.max", "100\n");
    tempdir_write(root, "/sys/fs/cgroup/memory.current", "200\n");
    expect(root, 500, 0);
    tempdir_remove(root);
}

static void test_version_1(void **state) {
    (void)state;
    char root[256];
    tempdir_make(root);
    tempdir_write(root, "/proc/self/cgroup",
                  "5:cpuset:/no\n4:memory:/m/job\n3:cpu,cpuacct:/c\n1:name=systemd:/s\n0::/\n");
    tempdir_write(root, "/proc/self/mountinfo",
                  "30 27 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                  "31 27 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                  "32 27 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    tempdir_write(root, "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "-1\n");
    tempdir_write(root, "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n");
    tempdir_write(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    tempdir_write(root, "/sys/fs/cgroup/memory/m/job/memory.limit_in_bytes", "9000\n");
    tempdir_write(root, "/sys/fs/cgroup/memory/m/job/memory.usage_in_bytes", "8000\n");
    tempdir_write(root, "/sys/fs/cgroup/memory/m/job/memory.stat",
                  "inactive_file 1\ntotal_inactive_file 500\n");
    expect(root, UINT64_MAX, 1500);
    tempdir_write(root, "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "200000\n");
    tempdir_write(root, "/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "700\n");
    expect(root, 2000, 700);
    tempdir_remove(root);
}

/* In a container the mount shows only the container's part, and the path may be the host's or lead
 * out of it. */
static void test_container(void **state) {
    (void)state;
    char root[256];
    tempdir_make(root);
    tempdir_write(root, "/proc/self/mountinfo",
                  "32 27 0:29 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    tempdir_write(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
    tempdir_write(root, "/sys/fs/cgroup/memory/sub/memory.limit_in_bytes", "100\n");
    tempdir_write(root, "/proc/self/cgroup", "4:memory:/docker/abc\n");
    expect(root, UINT64_MAX, 4096);
    tempdir_write(root, "/proc/self/cgroup", "4:memory:/docker/abc/sub\n");
    expect(root, UINT64_MAX, 100);
    tempdir_write(root, "/proc/self/cgroup", "4:memory:/docker/abcd/sub\n");
    expect(root, UINT64_MAX, 4096);
    tempdir_write(root, "/proc/self/mountinfo",
                  "32 27 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    tempdir_write(root, "/proc/self/cgroup", "4:memory:/../memory/sub\n");
    expect(root, UINT64_MAX, 4096);
    tempdir_remove(root);
}

static void test_this_machine(void **state) {
    (void)state;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_true(mzi_cpu_count() >= 1 && mzi_cpu_count() <= CPU_COUNT(&set));
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set)) {
            CPU_SET(cpu, &one);
            break;
        }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(mzi_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof set, &set), 0);
    uint64_t total = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    assert_true(mzi_memory_available() > 0 && mzi_memory_available() <= total);
    int64_t before = mzi_clock_ns();
    usleep(2000);
    assert_true(mzi_clock_ns() - before >= 2000000);
}

static void test_resident_max(void **state) {
    (void)state;
    enum {
        BYTES = 64 << 20
    };
    uint64_t before = mzi_memory_resident_max();
    char *memory = malloc(BYTES);
    assert_non_null(memory);
    memset(memory, 1, BYTES);
    __asm__ volatile("" : : "g"(memory) : "memory"); /* so that the writes are not dropped */
    free(memory);
    uint64_t after = mzi_memory_resident_max();
    assert_true(before > 0 && after >= before);
    assert_true(after >= BYTES);
}

#if defined(__x86_64__)
/* The compiler's own detection as the second opinion. */
static void test_isa(void **state) {
    (void)state;
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
    assert_int_equal(mzi_cpu_isa() >= MEZZO_ISA_AVX2, avx2);
    assert_int_equal(mzi_cpu_isa() >= MEZZO_ISA_AVX512, avx2 && avx512);
    bool bf16 = __builtin_cpu_supports("avx512bf16");
    assert_int_equal(mzi_cpu_isa() >= MEZZO_ISA_AVX512_BF16, avx2 && avx512 && bf16);
}
#else
static void test_isa(void **state) {
    (void)state;
    assert_int_equal(mzi_cpu_isa(), MEZZO_ISA_REF);
}
#endif

static void test_name(void **state) {
    (void)state;
    char name[64] = "", cut[4] = "";
    mzi_cpu_name(name, sizeof name);
    assert_true(strlen(name) > 0);
    assert_true(name[0] != ' ' && name[strlen(name) - 1] != ' ');
    mzi_cpu_name(cut, sizeof cut);
    assert_true(strlen(cut) <= 3 && strncmp(cut, name, strlen(cut)) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_cgroups),   cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),    cmocka_unit_test(test_container),
        cmocka_unit_test(test_this_machine), cmocka_unit_test(test_resident_max),
        cmocka_unit_test(test_isa),          cmocka_unit_test(test_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
