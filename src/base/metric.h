/* Metric slots: values that anybody may set; nobody down here knows who reads them.
 *
 * metrics.def has one line a metric.  A slot is one atomic double: setting it costs a store, so it
 * may be set from any thread at any rate. */
#ifndef MZI_BASE_METRIC_H
#define MZI_BASE_METRIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum mzi_metric {
#define METRIC(name, unit, kind, help) MZI_METRIC_##name,
#include "base/metrics.def"
#undef METRIC
    MZI_METRIC_COUNT
} mzi_metric;

typedef enum mzi_metric_kind {
    MZI_GAUGE,
    MZI_COUNTER
} mzi_metric_kind;

typedef struct mzi_metric_info {
    const char *name;
    const char *unit;
    mzi_metric_kind kind;
    const char *help;
} mzi_metric_info;
extern const mzi_metric_info mzi_metric_infos[MZI_METRIC_COUNT];

typedef struct mzi_metrics {
    _Atomic double value[MZI_METRIC_COUNT];
    _Atomic bool is_set[MZI_METRIC_COUNT];
} mzi_metrics;

void mzi_metric_set(mzi_metrics *metrics, mzi_metric metric, double value);
void mzi_metric_add(mzi_metrics *metrics, mzi_metric metric, double amount);
double mzi_metric_get(const mzi_metrics *metrics, mzi_metric metric);
/* Whether the slot was ever set or added to: a metric that nobody measures is not reported as 0. */
bool mzi_metric_is_set(const mzi_metrics *metrics, mzi_metric metric);

#endif
