/* What the processor has, and how much of the machine this process may use. */
#ifndef MZI_BASE_CPU_H
#define MZI_BASE_CPU_H

#include "mezzo/base.h"

mezzo_isa mzi_cpu_isa(void); /* the best level that this CPU and OS support */
bool mzi_cpu_has_avx512_fp16(void);
bool mzi_cpu_has_amx_bf16(void);
void mzi_cpu_name(char *out, size_t capacity); /* "AMD EPYC", or "unknown" */
/* CPUs allowed by affinity and by the cgroup's quota (v1 and v2), at least 1. */
int mzi_cpu_count(void);
/* Bytes this process may still take: the least of the machine's available memory and what the
 * cgroup (v1 and v2) leaves. */
uint64_t mzi_memory_available(void);
uint64_t mzi_memory_resident_max(void); /* peak resident set of this process */
void mzi_memory_resident_reset(void); /* so that the peak counts from here, if the system lets us */
int64_t mzi_clock_ns(void);           /* monotonic */

#endif
