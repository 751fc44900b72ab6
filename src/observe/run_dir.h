/* The directory of a run: the same files everywhere.
 *
 *   .lock             held (flock) while the run is going on
 *   config.yaml       resolved configuration
 *   plan.json
 *   metrics.jsonl     a line a report: time and every metric that was set
 *   events.jsonl      a line an event: time, step, attempt, kind, and what belongs to it
 *   tensors.jsonl     a line a tensor and measurement: what it held (train.meter_every)
 *   summary.json      written last, as a whole
 *   checkpoints/final/model.safetensors, masters.safetensors, ema.safetensors
 *
 * A line is one write(2) to a file opened for appending: a reader never waits for a buffer, and a
 * crash costs at most the line being written.  `time` is in seconds since 1970.  JSON has no word
 * for NaN and infinities: they are the strings "NaN", "Infinity" and "-Infinity". */
#ifndef MZI_OBSERVE_RUN_DIR_H
#define MZI_OBSERVE_RUN_DIR_H

#include "base/fs.h"
#include "base/metric.h"
#include "mezzo/base.h"

#define MZI_RUN_CONFIG "config.yaml"
#define MZI_RUN_PLAN "plan.json"
#define MZI_RUN_SUMMARY "summary.json"
#define MZI_RUN_METRICS "metrics.jsonl"
#define MZI_RUN_EVENTS "events.jsonl"
#define MZI_RUN_TENSORS "tensors.jsonl"
#define MZI_RUN_CHECKPOINTS "checkpoints"
#define MZI_RUN_FINAL "checkpoints/final"

typedef struct mzi_run_dir mzi_run_dir;

typedef struct mzi_run_dir_config {
    const char *name; /* of the configuration: "fashion-cnn"        */
    const char *path; /* null: runs/NAME-YYYYMMDD-HHMMSS (UTC)      */
    bool overwrite;   /* remove what an earlier run made there      */
} mzi_run_dir_config;

/* Makes, locks and, with `overwrite`, clears the directory; a file that no run makes is never
 * touched.  BUSY, with the way out, if another process has it or if it holds a run; IO if it cannot
 * be made or written. */
mezzo_status mzi_run_dir_open(mzi_run_dir **out, mezzo_ctx *ctx, const mzi_fs *fs,
                              const mzi_run_dir_config *config);
void mzi_run_dir_close(mzi_run_dir *run);

const char *mzi_run_dir_path(const mzi_run_dir *run);
const char *mzi_run_dir_id(const mzi_run_dir *run); /* NAME-YYYYMMDD-HHMMSS, under 64 bytes */

/* A file of the run replaced as a whole: `file` is MZI_RUN_CONFIG, _PLAN or _SUMMARY.  A newline is
 * added if the text has none at its end. */
mezzo_status mzi_run_dir_write(mzi_run_dir *run, const char *file, const char *text);

/* Below: nothing is allocated, and IO with path and reason if the line cannot be written. */

/* A line of metrics.jsonl: every metric that was set, in the order of metrics.def. */
mezzo_status mzi_run_dir_metrics(mzi_run_dir *run, const mzi_metrics *metrics);

typedef struct mzi_field {
    const char *name;
    const char *text; /* null: a number */
    double number;
} mzi_field;
/* A line of events.jsonl.  `kind` is one word: "skip", "scale", "save". */
mezzo_status mzi_run_dir_event(mzi_run_dir *run, int64_t step, int64_t attempt, const char *kind,
                               const mzi_field *fields, int count);
/* A line of tensors.jsonl. */
mezzo_status mzi_run_dir_tensor(mzi_run_dir *run, int64_t step, int64_t attempt,
                                const mzi_field *fields, int count);

#endif
