#include "base/metric.h"

const mzi_metric_info mzi_metric_infos[MZI_METRIC_COUNT] = {
#define METRIC(name, unit, kind, help) {#name, unit, kind, help},
#include "base/metrics.def"
#undef METRIC
};

/* Slots are independent values, so no order between them is needed. */
void mzi_metric_set(mzi_metrics *metrics, mzi_metric metric, double value) {
    atomic_store_explicit(&metrics->value[metric], value, memory_order_relaxed);
    atomic_store_explicit(&metrics->is_set[metric], true, memory_order_relaxed);
}

void mzi_metric_add(mzi_metrics *metrics, mzi_metric metric, double amount) {
    _Atomic double *slot = &metrics->value[metric];
    double old = atomic_load_explicit(slot, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(slot, &old, old + amount, memory_order_relaxed,
                                                  memory_order_relaxed))
        continue;
    atomic_store_explicit(&metrics->is_set[metric], true, memory_order_relaxed);
}

double mzi_metric_get(const mzi_metrics *metrics, mzi_metric metric) {
    return atomic_load_explicit(&metrics->value[metric], memory_order_relaxed);
}

bool mzi_metric_is_set(const mzi_metrics *metrics, mzi_metric metric) {
    return atomic_load_explicit(&metrics->is_set[metric], memory_order_relaxed);
}
