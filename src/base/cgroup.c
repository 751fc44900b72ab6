/* Control group limits.
 *
 *   /proc/self/cgroup      ID:CONTROLLERS:PATH      one line a hierarchy; "0::PATH" is version 2
 *   /proc/self/mountinfo   ID PARENT DEVICE ROOT POINT OPTIONS ... - TYPE SOURCE CONTROLLERS
 *
 * A group's directory is POINT + (PATH less ROOT).  Inside a container PATH may name a place
 * outside of what is mounted; POINT itself is the container's group then.  A limit at any level up
 * to POINT binds. */
#include "base/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_CAPACITY 4096

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

bool mzi_file_number(const char *path, const char *key, uint64_t *value) {
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    char line[512];
    bool found = false;
    size_t length = strlen(key);
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) != 0)
            continue;
        char *end;
        unsigned long long number = strtoull(line + length, &end, 10);
        /* "max" and "-1" are no limits, hence no numbers. */
        if (end != line + length && !strchr(line, '-')) {
            *value = number;
            found = true;
        }
    }
    fclose(file);
    return found;
}

static bool file_number(const char *directory, const char *name, const char *key, uint64_t *value) {
    char path[PATH_CAPACITY + 64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return mzi_file_number(path, key, value);
}

static uint64_t milli_cpus(uint64_t quota, uint64_t period) {
    if (period == 0 || quota > UINT64_MAX / 1000)
        return UINT64_MAX;
    return quota * 1000 / period;
}

static void read_cpu_v1(const char *directory, mzi_cgroup_limits *limits) {
    uint64_t quota, period;
    if (file_number(directory, "cpu.cfs_quota_us", "", &quota) &&
        file_number(directory, "cpu.cfs_period_us", "", &period))
        limits->milli_cpus = least(limits->milli_cpus, milli_cpus(quota, period));
}

/* cpu.max: "QUOTA PERIOD", or "max PERIOD" without a limit. */
static void read_cpu_v2(const char *directory, mzi_cgroup_limits *limits) {
    char path[PATH_CAPACITY + 64], line[64];
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fgets(line, sizeof line, file)) {
        char *after_quota, *after_period;
        uint64_t quota = strtoull(line, &after_quota, 10);
        uint64_t period = strtoull(after_quota, &after_period, 10);
        if (after_quota != line && after_period != after_quota)
            limits->milli_cpus = least(limits->milli_cpus, milli_cpus(quota, period));
    }
    fclose(file);
}

static void read_memory(const char *directory, const char *limit_name, const char *usage_name,
                        const char *idle_key, mzi_cgroup_limits *limits) {
    uint64_t limit, usage, idle;
    if (!file_number(directory, limit_name, "", &limit))
        return;
    if (!file_number(directory, usage_name, "", &usage))
        usage = 0;
    if (file_number(directory, "memory.stat", idle_key, &idle))
        usage -= least(usage, idle);
    limits->memory_bytes = least(limits->memory_bytes, limit - least(limit, usage));
}

static void read_memory_v1(const char *directory, mzi_cgroup_limits *limits) {
    read_memory(directory, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
                limits);
}

static void read_v2(const char *directory, mzi_cgroup_limits *limits) {
    read_cpu_v2(directory, limits);
    read_memory(directory, "memory.max", "memory.current", "inactive_file ", limits);
}

/* Is `word` one of the words of a list with commas? */
static bool has_word(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += length) {
        bool begins = at == list || at[-1] == ',';
        bool ends = at[length] == '\0' || at[length] == ',';
        if (begins && ends)
            return true;
    }
    return false;
}

/* The path of this process in the hierarchy of `controller`; "" asks for version 2. */
static bool find_path(const char *root, const char *controller, char out[PATH_CAPACITY]) {
    char name[PATH_CAPACITY];
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *file = fopen(name, "re");
    if (!file)
        return false;
    char line[PATH_CAPACITY];
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        list++;
        *path++ = '\0';
        found = *controller ? has_word(list, controller) : !*list;
        if (found)
            memcpy(out, path, strlen(path) + 1);
    }
    fclose(file);
    return found;
}

typedef struct mount {
    char root[PATH_CAPACITY];
    char point[PATH_CAPACITY];
} mount;

static bool read_mount(char *line, const char *controller, mount *out) {
    char *tail = strstr(line, " - ");
    if (!tail)
        return false;
    char type[64], options[512];
    if (sscanf(tail, " - %63s %*s %511s", type, options) != 2 ||
        sscanf(line, "%*s %*s %*s %4095s %4095s", out->root, out->point) != 2)
        return false;
    if (!*controller)
        return strcmp(type, "cgroup2") == 0;
    return strcmp(type, "cgroup") == 0 && has_word(options, controller);
}

static bool find_mount(const char *root, const char *controller, mount *out) {
    char name[PATH_CAPACITY];
    snprintf(name, sizeof name, "%s/proc/self/mountinfo", root);
    FILE *file = fopen(name, "re");
    if (!file)
        return false;
    char line[2 * PATH_CAPACITY];
    bool found = false;
    while (!found && fgets(line, sizeof line, file))
        found = read_mount(line, controller, out);
    fclose(file);
    return found;
}

/* Where PATH is below the mount point: "" if it is outside of what is mounted. */
static const char *path_below(const char *path, const char *mount_root) {
    if (strstr(path, "/.."))
        return "";
    size_t length = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
    if (strncmp(path, mount_root, length) != 0 || (path[length] != '/' && path[length] != '\0'))
        return "";
    return path + length;
}

static void walk(const char *root, const char *controller, mzi_cgroup_limits *limits,
                 void (*read_level)(const char *directory, mzi_cgroup_limits *limits)) {
    char path[PATH_CAPACITY];
    mount where;
    if (!find_path(root, controller, path) || !find_mount(root, controller, &where))
        return;
    char directory[PATH_CAPACITY];
    int top = snprintf(directory, sizeof directory, "%s%s", root, where.point);
    int length = snprintf(directory, sizeof directory, "%s%s%s", root, where.point,
                          path_below(path, where.root));
    if (length < 0 || length >= PATH_CAPACITY)
        return;
    for (;;) {
        read_level(directory, limits);
        char *slash = strrchr(directory, '/');
        if (!slash || slash < directory + top)
            return;
        *slash = '\0';
    }
}

mzi_cgroup_limits mzi_cgroup_read(const char *root) {
    mzi_cgroup_limits limits = {UINT64_MAX, UINT64_MAX};
    walk(root, "cpu", &limits, read_cpu_v1);
    walk(root, "memory", &limits, read_memory_v1);
    walk(root, "", &limits, read_v2);
    return limits;
}
